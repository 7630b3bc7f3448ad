/* A leader's checkpoint takes the place of this node's log and state.
 *
 *     the log gets its reset, synced     from here on a start takes the new checkpoint (store/incoming.h)
 *     received-INDEX -> checkpoint-INDEX, and what it covers is deleted
 *     the machine is emptied             and loads the file, a piece at each poll: heartbeats are answered between them
 *     the core hears that it is done     and its acknowledgement goes to the leader */
#include "base/log.h"
#include "repl/node_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEP_BYTES = 256 << 10 /* of the machine's stream a poll */ };

static struct stream_load *load_of(struct kith_task *task)
{
    return (struct stream_load *)((char *)task - offsetof(struct stream_load, task));
}

static void submit(struct stream_load *load, void (*run)(struct kith_task *),
                   void (*done)(struct kith_task *))
{
    load->busy = true;
    node_stream_submit(load->node, &load->task, run, done);
}

static void fail(struct stream_load *load, int status, const char *what)
{
    load->state = LOAD_FAILED; /* the state in memory is not whole: the node serves nothing any more */
    load->node->failed_in_apply = true;
    node_fail(load->node, status, "the leader's checkpoint of entry %" PRIu64 " %s", load->snapshot.index,
              what);
    node_advance(load->node);
}

/* --- loading --- */

static void read_block(struct kith_task *task)
{
    struct stream_load *load = load_of(task);
    load->status = kith_checkpoint_reader_next(load->reader, &load->next, &load->why);
}

static void block_read(struct kith_task *task)
{
    struct stream_load *load = load_of(task);
    node_stream_task_done(load->node);
    load->busy = false;
    if (load->node->closing)
        return;
    if (load->status < 0) {
        KITH_ERROR("checkpoint of entry %" PRIu64 ": %s", load->snapshot.index, load->why.text);
        fail(load, load->status, "cannot be read back");
        return;
    }
    load->ended = load->status == 0;
}

static void finish(struct stream_load *load)
{
    struct kith_node *node = load->node;
    struct kith_node_status *s = &node->status;
    struct kith_core_update update;
    int status = node->machine.load_finish(node->machine.context);
    if (status < 0) {
        fail(load, status, "is whole, but cannot be used");
        return;
    }
    node->applied_index = s->checkpoint_index = load->snapshot.index;
    node->checkpoint_term = load->snapshot.term;
    node->applied_term = load->snapshot.term;
    s->checkpoint_file_bytes = load->file_bytes;
    s->last_save_ms = load->created_ms;
    node->log_bytes_since = node->entries_since = node->checkpoint_not_before = 0;
    node->log_lacks_entries = false;
    KITH_INFO("the checkpoint of entry %" PRIu64 " is loaded", load->snapshot.index);
    node_load_close(load);
    node_in_forget(&node->streams->in);
    status = kith_core_installed(node->core, node->now_ms, &update);
    if (status == KITH_OK)
        node_carry_out(node, &update);
    else
        node_fail(node, status, "the leader's checkpoint cannot be taken up");
}

static void load_step(struct stream_load *load)
{
    struct kith_node_machine *machine = &load->node->machine;
    if (load->loaded == load->block.length) {
        struct kith_buf old = load->block;
        if (load->busy)
            return;
        load->block = load->next;
        load->next = old;
        load->loaded = 0;
        kith_buf_clear(&load->next);
        if (!load->block.length && load->ended) {
            finish(load);
            return;
        }
        if (!load->ended)
            submit(load, read_block, block_read);
    }
    size_t n = load->block.length - load->loaded;
    if (n > STEP_BYTES)
        n = STEP_BYTES;
    if (!n)
        return;
    int status = machine->load(machine->context, kith_slice(load->block.data + load->loaded, n));
    load->loaded += n;
    if (status < 0)
        fail(load, status, "is whole, but cannot be used");
}

/* --- before it --- */

static int open_checkpoint(struct stream_load *load)
{
    const struct kith_node_options *options = &load->node->options;
    char name[KITH_CHECKPOINT_NAME_BYTES], path[4096];
    kith_checkpoint_name(name, load->snapshot.index);
    snprintf(path, sizeof path, "%s/%s", options->dir, name);
    int status = options->fs->open(options->fs, path, 0, &load->file);
    if (status == KITH_OK)
        status = kith_checkpoint_reader_open(&load->reader, load->file, &load->why);
    return status;
}

static void take_file(struct kith_task *task)
{
    struct stream_load *load = load_of(task);
    struct kith_node *node = load->node;
    const struct kith_node_options *options = &node->options;
    uint64_t index = load->snapshot.index;
    load->status = kith_incoming_take(options->fs, options->dir, index);
    if (load->status != KITH_OK)
        return;
    int trimmed = kith_store_trim_checkpoints(options->fs, options->dir, index);
    if (trimmed == KITH_OK)
        trimmed = kith_log_trim(node->log, index);
    if (trimmed != KITH_OK)
        KITH_WARN("%s: files that the leader's checkpoint covers could not be deleted: %s", options->dir,
                  kith_status_text(trimmed));
    load->status = open_checkpoint(load);
}

static void file_taken(struct kith_task *task)
{
    struct stream_load *load = load_of(task);
    struct kith_node *node = load->node;
    node_stream_task_done(node);
    load->busy = false;
    if (node->closing)
        return;
    int status = load->status;
    if (status == KITH_OK)
        status = node->machine.reset(node->machine.context);
    if (status != KITH_OK) {
        fail(load, status, "cannot take its place");
        return;
    }
    load->file_bytes = kith_checkpoint_reader_info(load->reader)->file_bytes;
    load->created_ms = kith_checkpoint_reader_info(load->reader)->created_ms;
    load->state = LOAD_READING;
    submit(load, read_block, block_read);
}

static struct kith_log_entry *make_reset(const struct kith_core_snapshot *snapshot)
{
    struct kith_log_entry *record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    record->index = snapshot->index + 1;
    record->term = snapshot->term;
    record->kind = KITH_RECORD_RESET;
    atomic_init(&record->references, 1);
    return record;
}

void node_stream_install(struct kith_node *node, const struct kith_core_snapshot *snapshot)
{
    struct stream_load *load = node->streams ? &node->streams->load : NULL;
    if (!load || load->state != LOAD_NONE || node->streams->in.state != IN_READY ||
        node->streams->in.ready.info.index != snapshot->index) {
        node_fail(node, KITH_ECORRUPT, "the leader's checkpoint of entry %" PRIu64 " is not there",
                  snapshot->index);
        return;
    }
    struct kith_log_entry *reset = make_reset(snapshot);
    if (!reset) {
        node_fail(node, KITH_ENOMEM, "the log cannot begin behind entry %" PRIu64, snapshot->index);
        return;
    }
    load->snapshot = (struct kith_core_snapshot){.index = snapshot->index, .term = snapshot->term};
    load->truncations = node->truncations;
    load->state = LOAD_RESETTING;
    kith_log_append(node->log, reset);
    node_checkpoint_give_up(node);
    node->poll_now = true;
}

void node_load_poll(struct kith_node *node)
{
    struct stream_load *load = &node->streams->load;
    uint64_t truncations;
    if (node->failure != KITH_OK || load->state == LOAD_NONE)
        return;
    if (load->state == LOAD_RESETTING) {
        (void)kith_log_synced(node->log, &truncations);
        if (truncations < load->truncations || node->run)
            return; /* a checkpoint that is given up is still tidying up behind itself */
        load->state = LOAD_TAKING;
        submit(load, take_file, file_taken);
    } else if (load->state == LOAD_READING) {
        load_step(load);
    }
}

bool node_load_is_ready(const struct stream_load *load)
{
    return load->state == LOAD_READING && (load->loaded < load->block.length || !load->busy);
}

void node_load_close(struct stream_load *load)
{
    struct kith_node *node = load->node;
    kith_checkpoint_reader_close(load->reader);
    kith_file_close(load->file);
    kith_buf_fini(&load->block);
    kith_buf_fini(&load->next);
    *load = (struct stream_load){.node = node};
}
