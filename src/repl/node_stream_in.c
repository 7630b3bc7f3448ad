/* Receiving a leader's checkpoint. Pieces are taken in order and written on the reading thread; what is on the disk is told
 * back. Once the whole file has been checked there, the core hears of it as of an InstallSnapshot message of that leader;
 * what the core then does with it is its own matter: it may know better by now. A file that is complete serves the next
 * leader as well, if that one has nothing newer to offer. */
#include "base/log.h"
#include "repl/node_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    QUEUE_BYTES = 32 << 20, /* more than a leader sends ahead */
    GIVE_UP_MS = 90000,     /* without a word from it: longer than it tries itself */
};

static struct stream_in *in_of(struct kith_task *task)
{
    return (struct stream_in *)((char *)task - offsetof(struct stream_in, task));
}

static void submit(struct stream_in *in, void (*run)(struct kith_task *), void (*done)(struct kith_task *))
{
    in->busy = true;
    node_stream_submit(in->node, &in->task, run, done);
}

static void send_want(struct stream_in *in, uint64_t offset)
{
    node_send(in->node, in->peer, in->address, KITH_LANE_STREAM,
              &(struct kith_frame){.kind = KITH_FRAME_STREAM_WANT,
                                   .stream_want = {.index = in->offer.index, .offset = offset}});
}

static void send_end(struct kith_node *node, uint64_t peer, const char *address, uint64_t index, int status)
{
    node_send(node, peer, address, KITH_LANE_STREAM,
              &(struct kith_frame){.kind = KITH_FRAME_STREAM_END,
                                   .stream_end = {.index = index, .status = status}});
}

static void note_leader(struct stream_in *in, uint64_t peer, const char *address, uint64_t term)
{
    in->peer = peer;
    in->term = term;
    in->heard_ms = in->node->now_ms;
    snprintf(in->address, sizeof in->address, "%s", address);
}

/* --- letting go --- */

static void tidy(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    const struct kith_node_options *options = &in->node->options;
    kith_incoming_close(in->file); /* removes what is not complete */
    in->file = NULL;
    if (in->drop_index && kith_incoming_drop(options->fs, options->dir, in->drop_index) != KITH_OK)
        KITH_WARN("%s: a checkpoint that is not needed could not be deleted; the next start does it",
                  options->dir);
    in->drop_index = 0;
}

static void tidied(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    node_stream_task_done(in->node);
    in->busy = in->cancelled = false;
    in->state = IN_NONE;
}

/* What was begun or is complete goes. */
static void let_go(struct stream_in *in)
{
    in->cancelled = true;
    if (in->busy)
        return; /* its task's done comes back here */
    if (in->state == IN_READY)
        in->drop_index = in->offer.index;
    kith_checkpoint_read_close(&in->ready);
    kith_buf_fini(&in->queued);
    kith_buf_fini(&in->writing);
    submit(in, tidy, tidied);
}

/* After a task. True: it was given up meanwhile, and there is nothing more to do. */
static bool settle(struct stream_in *in)
{
    node_stream_task_done(in->node);
    in->busy = false;
    if (in->node->closing)
        return true;
    if (in->cancelled)
        let_go(in);
    return in->cancelled;
}

void node_in_forget(struct stream_in *in)
{
    kith_checkpoint_read_close(&in->ready);
    in->state = IN_NONE;
}

static void refuse(struct stream_in *in)
{
    KITH_WARN("the checkpoint of entry %" PRIu64 " from node %" PRIu64 " cannot be taken: %s%s%s",
              in->offer.index, in->peer, in->why.text, *in->why.text ? ": " : "",
              kith_status_text(in->status));
    send_end(in->node, in->peer, in->address, in->offer.index, in->status);
    let_go(in);
}

/* --- complete --- */

/* The core hears of it. It is the core's choice whether the state is taken over (node_stream_install). */
static void hand_over(struct stream_in *in)
{
    struct kith_node *node = in->node;
    const struct kith_checkpoint_info *info = &in->ready.info;
    struct kith_core_message message = {.kind = KITH_CORE_INSTALL,
                                        .peer = in->peer,
                                        .peer_address = in->address,
                                        .term = in->term,
                                        .install = {.index = info->index,
                                                    .term = info->term,
                                                    .configuration_index = info->configuration_index,
                                                    .configuration = info->configuration}};
    send_end(node, in->peer, in->address, in->offer.index, KITH_OK);
    node_take_message(node, &message);
    if (in->state == IN_READY && !node_stream_is_loading(node) &&
        kith_core_commit_index(node->core) >= info->index)
        let_go(in); /* everything in it is here already */
}

static void check(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    in->status = kith_incoming_finish(in->file, &in->ready, &in->why);
    if (in->status != KITH_OK)
        return;
    kith_incoming_close(in->file);
    in->file = NULL;
}

static void checked(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    bool complete = in->status == KITH_OK;
    in->state = complete ? IN_READY : in->state; /* so that it is deleted when nobody wants it any more */
    if (settle(in))
        return;
    if (!complete) {
        refuse(in);
        return;
    }
    in->node->status.streams_received++;
    hand_over(in);
}

/* --- pieces --- */

static void write_pieces(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    in->status = kith_incoming_add(in->file, kith_incoming_offset(in->file), kith_buf_slice(&in->writing));
}

static void pieces_written(struct kith_task *task);

static void write_on(struct stream_in *in)
{
    if (in->busy || in->state != IN_TAKING)
        return;
    if (in->queued.length) {
        struct kith_buf empty = in->writing;
        in->writing = in->queued;
        in->queued = empty;
        kith_buf_clear(&in->queued);
        submit(in, write_pieces, pieces_written);
    } else if (in->taken == in->offer.file_bytes) {
        in->state = IN_CHECKING;
        submit(in, check, checked);
    }
}

static void pieces_written(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    if (settle(in))
        return;
    if (in->status != KITH_OK) {
        refuse(in);
        return;
    }
    send_want(in, in->taken - in->queued.length);
    write_on(in);
}

static void take_data(struct stream_in *in, const struct kith_frame *frame)
{
    struct kith_slice bytes = frame->stream_data.bytes;
    if (in->state != IN_TAKING || in->cancelled || frame->stream_data.index != in->offer.index ||
        frame->stream_data.offset != in->taken || bytes.length > in->offer.file_bytes - in->taken ||
        in->queued.length + bytes.length > QUEUE_BYTES)
        return; /* it is offered again, and begins where this node says */
    size_t before = in->queued.length;
    kith_buf_append(&in->queued, bytes.data, bytes.length);
    if (in->queued.failed) {
        in->queued.failed = false;
        in->queued.length = before;
        return;
    }
    in->taken += bytes.length;
    in->heard_ms = in->node->now_ms;
    in->node->status.stream_bytes_received += bytes.length;
    write_on(in);
}

/* --- offers --- */

static void open_file(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    const struct kith_node_options *options = &in->node->options;
    in->status = kith_incoming_open(&in->file, options->fs, options->dir, &in->offer);
}

static void file_opened(struct kith_task *task)
{
    struct stream_in *in = in_of(task);
    if (settle(in))
        return;
    if (in->status != KITH_OK) {
        refuse(in);
        return;
    }
    in->state = IN_TAKING;
    send_want(in, 0);
}

static bool is_same(const struct stream_in *in, const struct kith_frame *frame)
{
    return in->offer.index == frame->stream_offer.index && in->offer.term == frame->stream_offer.entry_term &&
           in->offer.file_bytes == frame->stream_offer.file_bytes &&
           in->offer.file_crc == frame->stream_offer.file_crc;
}

static void begin(struct stream_in *in, const struct kith_frame *frame)
{
    in->offer = (struct kith_incoming_offer){.folder_id = kith_node_group_id(in->node),
                                             .index = frame->stream_offer.index,
                                             .term = frame->stream_offer.entry_term,
                                             .file_bytes = frame->stream_offer.file_bytes,
                                             .file_crc = frame->stream_offer.file_crc};
    in->taken = 0;
    in->why.text[0] = 0;
    in->state = IN_OPENING;
    KITH_INFO("the checkpoint of entry %" PRIu64 " comes from node %" PRIu64, in->offer.index, in->peer);
    submit(in, open_file, file_opened);
}

static void take_offer(struct stream_in *in, uint64_t peer, const char *address,
                       const struct kith_frame *frame)
{
    struct kith_node *node = in->node;
    uint64_t index = frame->stream_offer.index;
    if (frame->stream_offer.term < kith_core_term(node->core) || in->cancelled)
        return;
    if (node_stream_is_loading(node)) {
        if (index <= node->streams->load.snapshot.index)
            send_end(node, peer, address, index, KITH_OK);
        return;
    }
    if (in->state == IN_READY && in->ready.info.index < index) {
        let_go(in); /* the leader has something newer; it offers it again */
        return;
    }
    if (in->state == IN_READY) {
        note_leader(in, peer, address, frame->stream_offer.term);
        if (in->offer.index != index)
            send_end(node, peer, address, index, KITH_OK);
        hand_over(in);
        return;
    }
    bool begun = in->state != IN_NONE;
    if (begun && !is_same(in, frame)) {
        let_go(in);
        return;
    }
    note_leader(in, peer, address, frame->stream_offer.term);
    if (!begun)
        begin(in, frame);
    else if (in->state != IN_OPENING)
        send_want(in, in->taken); /* it goes on where the last try ended */
}

void node_in_receive(struct kith_node *node, uint64_t peer, const char *address,
                     const struct kith_frame *frame)
{
    struct node_streams *streams = node_streams_need(node);
    if (!streams)
        return;
    if (frame->kind == KITH_FRAME_STREAM_OFFER)
        take_offer(&streams->in, peer, address, frame);
    else if (streams->in.peer == peer)
        take_data(&streams->in, frame);
}

void node_in_poll(struct kith_node *node)
{
    struct stream_in *in = &node->streams->in;
    if (in->state != IN_NONE && !in->busy && !in->cancelled && !node_stream_is_loading(node) &&
        node->now_ms - in->heard_ms > GIVE_UP_MS)
        let_go(in);
}

void node_in_close(struct stream_in *in)
{
    kith_incoming_close(in->file);
    kith_checkpoint_read_close(&in->ready);
    kith_buf_fini(&in->queued);
    kith_buf_fini(&in->writing);
}
