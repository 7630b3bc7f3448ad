/* Sending a checkpoint: one stream for each member, however often the core asks for it.
 *
 *     OFFER  ->                 what file it is, and its sum
 *            <-  WANT offset    where to begin; later: how far it is on the member's disk
 *     DATA   ->                 no more than WINDOW_BYTES ahead of that
 *            <-  END            complete and checked; the member then tells its own core
 *
 * Nothing is repeated: when no WANT has come for a while the file is offered again, and the member says where to go on.
 * The file is open all the while, so that trimming may take its name. */
#include "base/log.h"
#include "repl/node_stream.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    WINDOW_BYTES = 8 << 20,
    SUM_BYTES = 16 << 20, /* of one task */
    OFFER_AGAIN_MS = 2000,
    GIVE_UP_MS = 60000,
    FRAME_EXTRA_BYTES = 64,
    BURST_MS = 100, /* of the rate that may be sent at once */
};

static struct stream_peer *peer_of(struct kith_task *task)
{
    return (struct stream_peer *)((char *)task - offsetof(struct stream_peer, out.task));
}

static void send_frame(struct stream_peer *peer, const struct kith_frame *frame)
{
    node_send(peer->node, peer->id, peer->address, KITH_LANE_STREAM, frame);
}

/* --- the end --- */

static void close_file(struct kith_task *task)
{
    kith_outgoing_close(&peer_of(task)->out.file);
}

static void file_closed(struct kith_task *task)
{
    struct stream_out *out = &peer_of(task)->out;
    node_stream_task_done(peer_of(task)->node);
    out->busy = out->ending = false;
    out->state = OUT_NONE;
}

static void end(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    kith_buf_fini(&out->piece);
    out->ending = true;
    if (out->busy)
        return; /* its task's done comes back here */
    out->busy = true;
    node_stream_submit(peer->node, &out->task, close_file, file_closed);
}

static void give_up(struct stream_peer *peer, int status, const char *why)
{
    KITH_WARN("the checkpoint of entry %" PRIu64 " for node %" PRIu64 " is not sent on: %s (%s)",
              peer->out.index, peer->id, why, kith_status_text(status));
    if (peer->out.state != OUT_OPENING)
        send_frame(peer, &(struct kith_frame){.kind = KITH_FRAME_STREAM_END,
                                              .stream_end = {.index = peer->out.index, .status = status}});
    end(peer);
}

/* --- the beginning --- */

static void send_offer(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    out->state = OUT_OFFERED;
    out->offered_ms = peer->node->now_ms;
    kith_buf_clear(&out->piece);
    send_frame(peer, &(struct kith_frame){.kind = KITH_FRAME_STREAM_OFFER,
                                          .stream_offer = {.term = out->term,
                                                           .index = out->index,
                                                           .entry_term = out->file.read.info.term,
                                                           .file_bytes = out->file_bytes,
                                                           .file_crc = out->file.file_crc}});
}

static void open_and_sum(struct kith_task *task)
{
    struct stream_peer *peer = peer_of(task);
    struct stream_out *out = &peer->out;
    const struct kith_node_options *options = &peer->node->options;
    out->status = KITH_OK;
    if (!out->file.file)
        out->status = kith_outgoing_open(&out->file, options->fs, options->dir, out->index);
    if (out->status == KITH_OK)
        out->status = kith_outgoing_sum(&out->file, SUM_BYTES);
}

static void summed(struct kith_task *task)
{
    struct stream_peer *peer = peer_of(task);
    struct stream_out *out = &peer->out;
    struct kith_node *node = peer->node;
    node_stream_task_done(node);
    out->busy = false;
    out->progress_ms = node->now_ms;
    if (out->ending || !node_stream_leads(node, out->term)) {
        end(peer);
    } else if (out->status < 0) {
        if (out->status != KITH_ENOENT) /* a newer one has taken its place: the core asks again */
            give_up(peer, out->status, "it cannot be read");
        else
            end(peer);
    } else if (out->status > 0) {
        out->busy = true;
        node_stream_submit(node, task, open_and_sum, summed);
    } else {
        out->file_bytes = out->file.read.info.file_bytes;
        send_offer(peer);
    }
}

void node_stream_offer(struct kith_node *node, const struct kith_core_message *message)
{
    struct stream_peer *peer = node_stream_peer(node, message->peer, message->peer_address, true);
    if (!peer || peer->out.state != OUT_NONE || !node_stream_is_connected(node, message->peer))
        return;
    uint64_t index = node->status.checkpoint_index;
    if (!index || index < message->install.index) {
        (void)node_checkpoint_start(node, NULL, NULL); /* the core asks again */
        return;
    }
    KITH_INFO("node %" PRIu64 " is far behind: it gets the checkpoint of entry %" PRIu64, peer->id, index);
    peer->out = (struct stream_out){.state = OUT_OPENING,
                                    .term = message->term,
                                    .index = index,
                                    .busy = true,
                                    .progress_ms = node->now_ms};
    node_stream_submit(node, &peer->out.task, open_and_sum, summed);
}

/* --- the middle --- */

/* The rate is shared by all members: bytes may be sent while the budget is not used up. */
static bool is_allowed(struct kith_node *node)
{
    struct node_streams *streams = node->streams;
    uint64_t rate = node->options.stream_bytes_per_s;
    if (!rate)
        return true;
    if (node->now_ms < streams->budget_ms)
        return false;
    uint64_t burst = rate * BURST_MS / 1000 + 1, passed = node->now_ms - streams->budget_ms;
    uint64_t earned = passed > BURST_MS ? burst : rate * passed / 1000;
    if (earned) {
        streams->budget_ms = node->now_ms;
        streams->budget_bytes += earned;
        if (streams->budget_bytes > burst)
            streams->budget_bytes = burst;
    }
    return streams->budget_bytes > 0;
}

static void spend(struct kith_node *node, uint64_t bytes)
{
    struct node_streams *streams = node->streams;
    uint64_t rate = node->options.stream_bytes_per_s;
    if (!rate)
        return;
    if (bytes > streams->budget_bytes) { /* what was borrowed is waited for */
        streams->budget_ms = node->now_ms + (bytes - streams->budget_bytes) * 1000 / rate;
        bytes = streams->budget_bytes;
    }
    streams->budget_bytes -= bytes;
}

static void read_piece(struct kith_task *task)
{
    struct stream_out *out = &peer_of(task)->out;
    out->status = kith_outgoing_read(&out->file, out->sent, KITH_STREAM_DATA_MAX, &out->piece);
}

static void piece_read(struct kith_task *task)
{
    struct stream_peer *peer = peer_of(task);
    struct stream_out *out = &peer->out;
    node_stream_task_done(peer->node);
    out->busy = false;
    if (out->ending)
        end(peer);
    else if (out->status == KITH_ENOMEM)
        kith_buf_fini(&out->piece); /* again at the next poll */
    else if (out->status != KITH_OK)
        give_up(peer, out->status, "it cannot be read");
}

/* False: not now. */
static bool send_piece(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    struct kith_node *node = peer->node;
    size_t bytes = out->piece.length;
    if (!node_stream_room(node, peer->id, bytes + FRAME_EXTRA_BYTES) || !is_allowed(node))
        return false;
    send_frame(peer, &(struct kith_frame){.kind = KITH_FRAME_STREAM_DATA,
                                          .stream_data = {.index = out->index,
                                                          .offset = out->sent,
                                                          .bytes = kith_buf_slice(&out->piece)}});
    spend(node, bytes);
    node->status.stream_bytes_sent += bytes;
    out->sent += bytes;
    kith_buf_clear(&out->piece);
    return true;
}

static void send_on(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    while (!out->busy && out->sent < out->file_bytes && out->sent - out->acknowledged < WINDOW_BYTES) {
        if (out->piece.length) {
            if (!send_piece(peer))
                return;
            continue;
        }
        out->busy = true;
        node_stream_submit(peer->node, &out->task, read_piece, piece_read);
    }
}

static void check_time(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    uint64_t now = peer->node->now_ms;
    if (now - out->progress_ms > GIVE_UP_MS)
        give_up(peer, KITH_EAGAIN, "the member does not answer");
    else if (!out->busy && now - out->progress_ms > OFFER_AGAIN_MS && now - out->offered_ms > OFFER_AGAIN_MS)
        send_offer(peer);
}

void node_out_poll(struct stream_peer *peer)
{
    struct stream_out *out = &peer->out;
    if (out->state == OUT_NONE || out->state == OUT_OPENING || out->ending)
        return;
    if (!node_stream_leads(peer->node, out->term)) {
        end(peer);
        return;
    }
    if (out->state == OUT_SENDING)
        send_on(peer);
    check_time(peer);
}

uint64_t node_out_due_ms(const struct stream_peer *peer)
{
    const struct stream_out *out = &peer->out;
    const struct node_streams *streams = peer->node->streams;
    if (out->state == OUT_NONE || out->state == OUT_OPENING || out->ending)
        return UINT64_MAX;
    uint64_t since = out->progress_ms > out->offered_ms ? out->progress_ms : out->offered_ms;
    uint64_t at = since + OFFER_AGAIN_MS + 1;
    bool waits_for_rate = out->state == OUT_SENDING && out->piece.length && !streams->budget_bytes &&
                          peer->node->options.stream_bytes_per_s;
    uint64_t rate_at = streams->budget_ms > peer->node->now_ms ? streams->budget_ms : peer->node->now_ms;
    return waits_for_rate && rate_at + 1 < at ? rate_at + 1 : at;
}

/* --- what the member says --- */

static void take_want(struct stream_peer *peer, uint64_t offset)
{
    struct stream_out *out = &peer->out;
    if (offset > out->file_bytes || (out->state == OUT_SENDING && offset > out->sent))
        return;
    if (out->state == OUT_OFFERED) {
        if (out->busy)
            return; /* a piece of an earlier try: it is offered again */
        out->state = OUT_SENDING;
        out->sent = out->acknowledged = offset;
        kith_buf_clear(&out->piece);
        out->progress_ms = peer->node->now_ms;
    } else if (offset > out->acknowledged) {
        out->acknowledged = offset;
        out->progress_ms = peer->node->now_ms;
    }
    node_out_poll(peer);
}

static void take_end(struct stream_peer *peer, int64_t status)
{
    struct stream_out *out = &peer->out;
    if (status == KITH_OK) {
        peer->node->status.streams_sent++;
        KITH_INFO("node %" PRIu64 " has the checkpoint of entry %" PRIu64, peer->id, out->index);
    } else {
        KITH_WARN("node %" PRIu64 " does not take the checkpoint of entry %" PRIu64 ": %s", peer->id,
                  out->index,
                  status < 0 && status > -100 ? kith_status_text((int)status) : "no reason was given");
    }
    end(peer);
}

void node_out_receive(struct kith_node *node, uint64_t id, const struct kith_frame *frame)
{
    struct stream_peer *peer = node_stream_peer(node, id, NULL, false);
    bool want = frame->kind == KITH_FRAME_STREAM_WANT;
    uint64_t index = want ? frame->stream_want.index : frame->stream_end.index;
    if (!peer || peer->out.index != index || peer->out.ending ||
        (peer->out.state != OUT_OFFERED && peer->out.state != OUT_SENDING))
        return;
    if (want)
        take_want(peer, frame->stream_want.offset);
    else
        take_end(peer, frame->stream_end.status);
}

void node_out_close(struct stream_out *out)
{
    kith_outgoing_close(&out->file);
    kith_buf_fini(&out->piece);
}
