/* Appends to a member that lacks what is no longer in memory.
 *
 * Raft is optimistic: once a member follows, the core names the next entries before it has heard of the last. So what it
 * asks for while a read is under way is added to the stretch, and goes out in its place: from memory where it is there,
 * else from the disk, one read at a time. Its heartbeats meanwhile speak of the entry before the next one to be sent: one
 * about an entry that is yet to be sent would be rejected, and raft would begin anew. A member that raft is still probing
 * is asked the same again and again: once is enough, the rest become heartbeats, too.
 *
 * Clients write meanwhile, and the others' disks and processors may be the same. So half a megabyte goes out at a time; when
 * the member has it on its disk, there is a rest of twice as long as that took. Where it falls behind further all the same, more
 * goes at a time. */
#include "base/log.h"
#include "repl/node_stream.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    FRAME_BYTES = 256 << 10, /* of entries, unless one is larger */
    WINDOW_BYTES = 512 << 10,
    WINDOW_BYTES_MAX = 16 << 20,
    REST_MS_MAX = 10, /* one that is far away is not slow for its disk's sake */
    LOST_MS = 500,    /* no word of what was sent: raft finds out what it has */
};

static bool is_pending(const struct behind *b)
{
    return b->next < b->end;
}

/* What was asked for is forgotten: raft asks again. */
static void drop(struct behind *b)
{
    b->end = b->next;
    b->stale |= b->reading;
    b->out_up_to = b->out_bytes = 0;
}

bool node_stream_is_behind(struct kith_node *node, uint64_t peer)
{
    const struct stream_peer *p = node_stream_peer(node, peer, NULL, false);
    return p && is_pending(&p->behind);
}

static void send_entries(struct stream_peer *peer, uint64_t previous_index, uint64_t previous_term,
                         const struct kith_core_entry *entries, uint32_t count)
{
    struct kith_node *node = peer->node;
    struct kith_core_message message = {.kind = KITH_CORE_APPEND,
                                        .peer = peer->id,
                                        .peer_address = peer->address,
                                        .term = peer->behind.term,
                                        .append = {.previous_index = previous_index,
                                                   .previous_term = previous_term,
                                                   .commit_index = kith_core_commit_index(node->core),
                                                   .count = count,
                                                   .entries = entries}};
    node_send_entries(node, &message);
}

static void send_next(struct stream_peer *peer, uint32_t count)
{
    struct behind *b = &peer->behind;
    const struct kith_core_entry *entries = peer->node->append_entries;
    send_entries(peer, b->next - 1, b->previous_term, entries, count);
    b->next += count;
    b->previous_term = entries[count - 1].term;
    for (uint32_t i = 0; i < count; i++)
        b->out_bytes += entries[i].payload.length;
    if (!b->out_up_to)
        b->sent_ms = peer->node->now_ms;
    b->out_up_to = b->next - 1;
}

/* --- the pace --- */

static void end_round(struct stream_peer *peer, uint64_t match_index)
{
    struct kith_node *node = peer->node;
    struct behind *b = &peer->behind;
    uint64_t took_ms = node->now_ms - b->sent_ms, gap = kith_core_last_index(node->core) - match_index;
    if (b->gap && gap >= b->gap)
        b->window_bytes = b->window_bytes < WINDOW_BYTES_MAX ? 2 * b->window_bytes : b->window_bytes;
    else
        b->window_bytes = WINDOW_BYTES;
    b->gap = gap;
    b->rest_until_ms = node->now_ms + (2 * took_ms < REST_MS_MAX ? 2 * took_ms : REST_MS_MAX);
    b->out_up_to = 0;
    b->out_bytes = 0;
}

static size_t window_bytes(const struct behind *b)
{
    return b->window_bytes ? b->window_bytes : WINDOW_BYTES;
}

static bool may_send(struct stream_peer *peer)
{
    struct kith_node *node = peer->node;
    struct behind *b = &peer->behind;
    struct kith_core_member member = {.match_index = 0};
    kith_core_find_member(node->core, peer->id, &member);
    if (member.match_index >= kith_core_commit_index(node->core))
        return true; /* nothing is committed without it: it is clients who wait */
    if (b->out_up_to && member.match_index >= b->out_up_to)
        end_round(peer, member.match_index);
    else if (b->out_up_to && node->now_ms >= b->sent_ms + LOST_MS)
        b->out_up_to = b->out_bytes = 0;
    return node->now_ms >= b->rest_until_ms && b->out_bytes < window_bytes(b);
}

uint64_t node_behind_due_ms(const struct stream_peer *peer)
{
    const struct behind *b = &peer->behind;
    if (!is_pending(b) || b->reading)
        return UINT64_MAX;
    if (b->out_up_to && b->out_bytes >= window_bytes(b))
        return b->sent_ms + LOST_MS; /* its acknowledgement comes before, and makes the node poll */
    return b->rest_until_ms > peer->node->now_ms ? b->rest_until_ms : UINT64_MAX;
}

static bool reserve(struct kith_node *node, size_t count)
{
    if (count <= node->append_capacity)
        return true;
    void *larger = realloc(node->append_entries, count * sizeof *node->append_entries);
    if (!larger)
        return false;
    node->append_entries = larger;
    node->append_capacity = count;
    return true;
}

/* What the window has of the stretch, one frame of it; *out_bytes: of payload. */
static uint32_t gather(struct stream_peer *peer, size_t *out_bytes)
{
    struct kith_node *node = peer->node;
    struct behind *b = &peer->behind;
    uint32_t n = 0;
    size_t bytes = 0;
    while (b->next + n < b->end && n < KITH_FRAME_ENTRIES_MAX) {
        const struct node_entry *entry = node_window_get(&node->window, b->next + n);
        if (!entry || (n && bytes + entry->log.payload.length > FRAME_BYTES) || !reserve(node, n + 1))
            break;
        bytes += entry->log.payload.length;
        node->append_entries[n++] = (struct kith_core_entry){.term = entry->log.term,
                                                             .kind = (enum kith_entry_kind)entry->log.kind,
                                                             .payload = kith_buf_slice(&entry->log.payload)};
    }
    *out_bytes = bytes;
    return n;
}

/* --- reading --- */

static struct stream_peer *peer_of(struct kith_task *task)
{
    return (struct stream_peer *)((char *)task - offsetof(struct stream_peer, behind.task));
}

static void read_entries(struct kith_task *task)
{
    struct stream_peer *peer = peer_of(task);
    struct behind *b = &peer->behind;
    b->read_status =
        kith_log_read(peer->node->log, &b->cursor, b->read_from, b->read_count, FRAME_BYTES, &b->batch);
}

/* The core counts on entries that are not there, or cannot be read: a new checkpoint makes it send that instead. */
static void note_failure(struct stream_peer *peer, int status, uint64_t index)
{
    struct kith_node *node = peer->node;
    drop(&peer->behind);
    if (status == KITH_EAGAIN || status == KITH_ENOMEM ||
        (status == KITH_ENOENT && index >= kith_log_first_index(node->log)))
        return; /* not yet on the disk */
    if (!node->log_lacks_entries)
        KITH_WARN("entry %" PRIu64 " cannot be read for node %" PRIu64
                  " (%s): it gets a checkpoint in its place",
                  index, peer->id, kith_status_text(status));
    node->log_lacks_entries = true;
}

static void entries_read(struct kith_task *task)
{
    struct stream_peer *peer = peer_of(task);
    struct kith_node *node = peer->node;
    struct behind *b = &peer->behind;
    bool stale = b->stale;
    b->reading = b->stale = false;
    node_stream_task_done(node);
    if (stale || !is_pending(b) || !node_stream_leads(node, b->term))
        return;
    if (b->read_status != KITH_OK || !reserve(node, b->batch.count)) {
        note_failure(peer, b->read_status != KITH_OK ? b->read_status : KITH_ENOMEM, b->read_from);
        return;
    }
    if (!node_has_room(node, peer->id, b->batch.bytes.length))
        return; /* read again once there is room */
    for (size_t i = 0; i < b->batch.count; i++) {
        const struct kith_record *r = &b->batch.records[i];
        node->append_entries[i] = (struct kith_core_entry){
            .term = r->term, .kind = (enum kith_entry_kind)r->kind, .payload = r->payload};
    }
    send_next(peer, (uint32_t)b->batch.count);
}

static void start_reading(struct stream_peer *peer)
{
    struct behind *b = &peer->behind;
    uint64_t count = b->end - b->next;
    b->read_from = b->next;
    b->read_count = count < KITH_FRAME_ENTRIES_MAX ? (size_t)count : KITH_FRAME_ENTRIES_MAX;
    b->reading = true;
    node_stream_submit(peer->node, &b->task, read_entries, entries_read);
}

void node_behind_poll(struct stream_peer *peer)
{
    struct kith_node *node = peer->node;
    struct behind *b = &peer->behind;
    if (!is_pending(b))
        return;
    if (!node_stream_leads(node, b->term) || !node_stream_is_connected(node, peer->id)) {
        drop(b);
        return;
    }
    while (is_pending(b) && !b->reading && may_send(peer) && node_has_room(node, peer->id, 0)) {
        size_t bytes;
        uint32_t count = gather(peer, &bytes);
        if (!count)
            start_reading(peer);
        else if (node_has_room(node, peer->id, bytes))
            send_next(peer, count);
        else
            return;
    }
}

/* --- what the core asks for --- */

static void begin(struct behind *b, const struct kith_core_message *message)
{
    b->stale |= b->reading;
    b->out_up_to = b->out_bytes = 0;
    b->term = message->term;
    b->start = b->next = message->append.previous_index + 1;
    b->end = b->start + message->append.count;
    b->start_term = b->previous_term = message->append.previous_term;
}

void node_stream_append(struct kith_node *node, const struct kith_core_message *message)
{
    struct stream_peer *peer = node_stream_peer(node, message->peer, message->peer_address, true);
    if (!peer)
        return; /* as if it had been lost: raft asks again */
    struct behind *b = &peer->behind;
    uint64_t first = message->append.previous_index + 1;
    bool same = is_pending(b) && b->term == message->term;
    if (same && !message->append.count)
        send_entries(peer, b->next - 1, b->previous_term, NULL, 0);
    else if (same && first == b->end)
        b->end += message->append.count;
    else if (same && first == b->start)
        send_entries(peer, b->start - 1, b->start_term, NULL, 0);
    else
        begin(b, message);
    node_behind_poll(peer);
}

void node_behind_close(struct behind *b)
{
    kith_log_cursor_close(&b->cursor);
    kith_log_batch_close(&b->batch);
}
