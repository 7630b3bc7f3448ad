/* From the core's messages to frames. An append's entries come from the window; those that are no longer there are read
 * from the disk elsewhere. One message becomes as many frames as its size asks for, and no more than the transport has
 * room for: raft finds out what a member lacks, and sends it again. */
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <stdlib.h>

enum {
    FRAME_BYTES = 1 << 20, /* of entries, unless one is larger */
    FRAME_HEADER_BYTES = 64,
    SHARED_BYTES = 256 << 10, /* from here on a payload is not copied for a frame */
};

void node_send(struct kith_node *node, uint64_t peer, const char *address, enum kith_lane lane,
               const struct kith_frame *frame)
{
    struct kith_transport *transport = &node->options.transport;
    struct kith_buf bytes = {0};
    if (!transport->send)
        return;
    if (frame->kind == KITH_CORE_APPEND)
        node_notice_told(node, peer, frame->raft.append.commit_index);
    kith_frame_encode(&bytes, frame);
    if (bytes.failed) /* lost on its way */
        kith_buf_fini(&bytes);
    else
        transport->send(transport->context, peer, address, lane, &bytes);
}

static void release_entry(void *entry)
{
    kith_log_entry_release(&((struct node_entry *)entry)->log);
}

void node_send_entry(struct kith_node *node, uint64_t peer, const char *address,
                     const struct kith_frame *frame, struct node_entry *entry)
{
    const struct kith_transport *transport = &node->options.transport;
    struct kith_shared rest = {.owner = entry, .release = release_entry};
    struct kith_buf head = {0};
    if (!transport->send_shared || entry->log.payload.length < SHARED_BYTES) {
        node_send(node, peer, address, KITH_LANE_MESSAGES, frame);
        return;
    }
    if (frame->kind == KITH_CORE_APPEND)
        node_notice_told(node, peer, frame->raft.append.commit_index);
    rest.bytes = kith_frame_encode_head(&head, frame);
    if (head.failed) {
        kith_buf_fini(&head);
        return;
    }
    atomic_fetch_add_explicit(&entry->log.references, 1, memory_order_relaxed);
    transport->send_shared(transport->context, peer, address, KITH_LANE_MESSAGES, &head, &rest);
}

bool node_has_room(const struct kith_node *node, uint64_t peer, size_t bytes)
{
    const struct kith_transport *transport = &node->options.transport;
    struct kith_peer_status status = {0};
    if (!transport->send)
        return false;
    if (!transport->room)
        return true;
    size_t room = transport->room(transport->context, peer, KITH_LANE_MESSAGES);
    if (!room || room >= bytes + FRAME_HEADER_BYTES)
        return room != 0;
    if (transport->status)
        transport->status(transport->context, peer, &status);
    return status.queued_bytes == 0;
}

/* One large entry goes alone: from where it lies, when that is the window. */
static void send_some(struct kith_node *node, const struct kith_core_message *message,
                      const struct kith_frame *frame)
{
    const struct kith_core_message *append = &frame->raft;
    struct node_entry *entry =
        append->append.count == 1 ? node_window_get(&node->window, append->append.previous_index + 1) : NULL;
    if (entry && entry->log.payload.data == append->append.entries->payload.data)
        node_send_entry(node, message->peer, message->peer_address, frame, entry);
    else
        node_send(node, message->peer, message->peer_address, KITH_LANE_MESSAGES, frame);
}

void node_send_entries(struct kith_node *node, const struct kith_core_message *message)
{
    struct kith_frame frame = {.kind = KITH_CORE_APPEND, .raft = *message};
    const struct kith_core_entry *entries = message->append.entries;
    uint32_t count = message->append.count, sent = 0;
    do {
        size_t bytes = 0;
        uint32_t n = 0;
        while (sent + n < count && n < KITH_FRAME_ENTRIES_MAX &&
               (!n || bytes + entries[sent + n].payload.length <= FRAME_BYTES))
            bytes += entries[sent + n++].payload.length;
        if (n && !node_has_room(node, message->peer, bytes))
            return;
        frame.raft.append.entries = entries + sent;
        frame.raft.append.count = n;
        send_some(node, message, &frame);
        if (n) {
            frame.raft.append.previous_index += n;
            frame.raft.append.previous_term = entries[sent + n - 1].term;
        }
        sent += n;
    } while (sent < count);
}

/* False: not all of them are here. */
static bool gather(struct kith_node *node, uint64_t first, uint32_t count)
{
    if (count > node->append_capacity) {
        void *larger = realloc(node->append_entries, count * sizeof *node->append_entries);
        if (!larger)
            return false;
        node->append_entries = larger;
        node->append_capacity = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct node_entry *entry = node_window_get(&node->window, first + i);
        if (!entry)
            return false;
        node->append_entries[i] = (struct kith_core_entry){.term = entry->log.term,
                                                           .kind = (enum kith_entry_kind)entry->log.kind,
                                                           .payload = kith_buf_slice(&entry->log.payload)};
    }
    return true;
}

static void send_append(struct kith_node *node, const struct kith_core_message *message)
{
    if (node_stream_is_behind(node, message->peer)) {
        node_stream_append(node, message);
        return;
    }
    if (message->append.count && !node_has_room(node, message->peer, 0))
        return;
    if (!gather(node, message->append.previous_index + 1, message->append.count)) {
        node_stream_append(node, message);
        return;
    }
    struct kith_core_message full = *message;
    full.append.entries = node->append_entries;
    node_send_entries(node, &full);
}

void node_send_message(struct kith_node *node, const struct kith_core_message *message)
{
    if (!node->options.transport.send)
        return;
    if (message->kind == KITH_CORE_APPEND_RESULT && !message->append_result.rejected) {
        node->agreed = *message;
        node->agreed.peer_address = NULL; /* borrowed */
    }
    if (message->kind == KITH_CORE_APPEND)
        send_append(node, message);
    else if (message->kind == KITH_CORE_INSTALL)
        node_stream_offer(node, message);
    else
        node_send(node, message->peer, message->peer_address, KITH_LANE_MESSAGES,
                  &(struct kith_frame){.kind = (uint8_t)message->kind, .raft = *message});
}
