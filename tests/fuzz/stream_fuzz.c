/* A node that waits for its leader hears what a peer makes of a checkpoint's stream: offers that are wrong, pieces in any
 * order, of any length and not from the file, frames of any bytes, all in any mixture with the node's own work. Whatever it
 * hears, its state is the one it had or the whole one of the checkpoint, and it starts again on its folder. */
#include "base/log.h"
#include "repl/node.h"
#include "store/crc.h"
#include "store/store.h"

#include "../unit/crash_fs.h"
#include "../unit/repl/tiny_machine.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define DIR "/d"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GROUP = 4711, LEADER = 77, INDEX = 50, TERM = 3, ENTRIES = 40 };

struct world {
    struct crash_fs *disk;
    struct kith_node *node;
    struct tiny machine;
    uint64_t now_ms, next; /* next: of the file, to be sent */
    const unsigned char *file;
    size_t file_bytes;
    bool foreign; /* frames of any bytes were among it: entries may have been appended */
};

static uint64_t now_ns(void *context)
{
    return ((struct world *)context)->now_ms * 1000000;
}

static int64_t wall_ms(void *context)
{
    return (int64_t)((struct world *)context)->now_ms;
}

static void drop_frame(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                       struct kith_buf *frame)
{
    kith_buf_fini(frame);
}

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void make_checkpoint(struct world *w)
{
    struct kith_checkpoint_writer *writer;
    struct kith_checkpoint_info info = {
        .folder_id = GROUP, .index = INDEX, .term = TERM, .configuration_index = 1};
    struct kith_buf raw = {0};
    uint64_t file_bytes;
    must(kith_core_encode_single(&info.configuration, LEADER, "leader:1") == KITH_OK);
    for (int i = 0; i < ENTRIES; i++)
        kith_buf_append_slice(&raw, KITH_SLICE("an entry"));
    must(kith_checkpoint_writer_open(&writer, crash_fs_table(w->disk), "/leader", &info) == KITH_OK);
    must(kith_checkpoint_writer_add(writer, kith_buf_slice(&raw)) == KITH_OK);
    must(kith_checkpoint_writer_finish(writer, &file_bytes) == KITH_OK);
    kith_checkpoint_writer_close(writer);
    kith_buf_fini(&raw);
    free((void *)info.configuration.data);
    w->file = crash_fs_bytes(w->disk, crash_fs_find(w->disk, "/leader/checkpoint-", 0), &w->file_bytes);
}

static void start(struct world *w)
{
    struct kith_error error = {""};
    struct kith_node_options options = {.dir = DIR,
                                        .fs = crash_fs_table(w->disk),
                                        .machine = tiny_machine(&w->machine),
                                        .address = "follower:1",
                                        .join_group = GROUP,
                                        .transport = {.send = drop_frame},
                                        .clock = {now_ns, wall_ms, w},
                                        .seed = 9,
                                        .segment_bytes = 64 << 10,
                                        .no_final_checkpoint = true,
                                        .manual = true};
    if (kith_node_open(&w->node, &options, &error) != KITH_OK) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
}

static void check(const struct world *w)
{
    if (!w->foreign && !kith_node_is_loading(w->node))
        must(w->machine.count == 0 || w->machine.count == ENTRIES);
}

static void work(struct world *w, unsigned rounds)
{
    while (rounds--) {
        (void)kith_node_run(w->node, rounds % 2 ? KITH_NODE_LOG : KITH_NODE_KEEPER);
        kith_node_poll(w->node);
        check(w);
    }
}

static void hear(struct world *w, const struct kith_frame *frame)
{
    struct kith_buf bytes = {0};
    kith_frame_encode(&bytes, frame);
    must(kith_node_receive(w->node, LEADER, "leader:1", kith_buf_slice(&bytes)) == KITH_OK);
    kith_buf_fini(&bytes);
}

static void offer(struct world *w, uint8_t wrong)
{
    struct kith_frame f = {.kind = KITH_FRAME_STREAM_OFFER};
    f.stream_offer.term = TERM + (wrong & 1);
    f.stream_offer.index = INDEX + (wrong >> 1 & 1);
    f.stream_offer.entry_term = TERM + (wrong >> 2 & 1);
    f.stream_offer.file_bytes = wrong & 8 ? (uint64_t)wrong << 33 : w->file_bytes;
    f.stream_offer.file_crc = kith_crc32c(0, w->file, w->file_bytes) + (wrong >> 4 & 1);
    hear(w, &f);
    if (!(wrong & 32))
        w->next = 0;
}

static void piece(struct world *w, uint8_t how, uint8_t length)
{
    struct kith_frame f = {.kind = KITH_FRAME_STREAM_DATA};
    unsigned char bytes[1024];
    size_t n = (size_t)length * 4;
    if (n > w->file_bytes - w->next)
        n = w->file_bytes - (size_t)w->next;
    memcpy(bytes, w->file + w->next, n);
    if (how & 1 && n)
        bytes[how % n] ^= how;
    f.stream_data.index = INDEX + (how >> 1 & 1);
    f.stream_data.offset = how & 4 ? (uint64_t)how << (how & 31) : w->next;
    f.stream_data.bytes = kith_slice((const char *)bytes, n);
    hear(w, &f);
    if (!(how & 8))
        w->next += n;
}

static void play(struct world *w, struct kith_reader *r)
{
    while (r->length && !r->failed) {
        uint8_t op = kith_reader_u8(r), value = kith_reader_u8(r);
        switch (op % 8) {
        case 0:
            offer(w, value);
            break;
        default:
            piece(w, op & 8 ? value : 0, value);
            break;
        case 4:
            work(w, 1 + value % 32);
            break;
        case 5:
            w->now_ms += (uint64_t)value * value * 4;
            work(w, 1);
            break;
        case 6: {
            struct kith_frame f = {.kind = value & 1 ? KITH_FRAME_STREAM_END : KITH_FRAME_STREAM_WANT};
            f.stream_want.index = INDEX;
            f.stream_want.offset = value;
            hear(w, &f);
            break;
        }
        case 7: {
            size_t n = value < r->length ? value : r->length;
            w->foreign = true;
            (void)kith_node_receive(w->node, LEADER, "leader:1", kith_reader_bytes(r, n));
            break;
        }
        }
        check(w);
    }
    work(w, 64);
}

static void silent(void *arg, enum kith_log_level level, const char *line)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.disk = crash_fs_open(), .now_ms = 1000};
    struct kith_reader r = kith_reader(kith_slice((const char *)data, size < 4096 ? size : 4096));
    kith_log_setup(KITH_LOG_INFO, silent, NULL);
    make_checkpoint(&w);
    for (int run = 0; run < 2; run++) { /* the second on what the first has left */
        start(&w);
        if (run == 0)
            play(&w, &r);
        check(&w);
        (void)kith_node_close(w.node);
        tiny_fini(&w.machine);
    }
    crash_fs_close(w.disk);
    return 0;
}
