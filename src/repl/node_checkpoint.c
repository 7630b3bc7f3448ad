/* Checkpoints of a running node: the keyspace thread asks the machine for bytes, a step a poll, and hands
 * them to the keeper's one thread, which compresses and writes them in order. No more than a few buffers are
 * ever on the way. */
#include "base/log.h"
#include "repl/node_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    STEP_BYTES = 128 << 10,     /* of the machine's stream a poll */
    ON_THE_WAY_BYTES = 4 << 20, /* yielded, not yet written */
    ENTRIES_MAX = 4000000,      /* in the log: recovery holds 40 bytes for each */
};
#define DEFAULT_LOG_BYTES  ((uint64_t)64 << 20)
#define DEFAULT_KEEP_BYTES ((uint64_t)256 << 20)

struct checkpoint_run {
    struct kith_node *node;
    struct kith_checkpoint_info info; /* its configuration is owned */
    struct kith_core_snapshot snapshot;
    void (*done)(void *context, int status);
    void *context;
    struct kith_checkpoint_writer *writer; /* the keeper's, between the tasks */
    _Atomic int status;                    /* of the keeper's work */
    bool yielding;                         /* the machine has more */
    size_t on_the_way;
    uint64_t log_bytes_since, entries_since; /* of the node, at the start */
    uint64_t started_ns;
    uint64_t file_bytes;
    uint64_t keep_from;                      /* the first entry that stays in the log */
    struct kith_task finish_task, trim_task; /* here, so that an end needs no memory */
};

/* Bytes on their way to the keeper. */
struct bytes_task {
    struct kith_task task;
    struct checkpoint_run *run;
    struct kith_buf bytes;
};

static void submit_task(struct kith_node *node, struct kith_task *task, void (*work)(struct kith_task *),
                        void (*done)(struct kith_task *))
{
    struct kith_executor keeper = kith_pool_executor(node->keeper);
    task->run = work;
    task->done = done;
    node->keeper_tasks++;
    kith_executor_submit(&keeper, task);
}

static struct checkpoint_run *run_of_finish(struct kith_task *task)
{
    return (struct checkpoint_run *)((char *)task - offsetof(struct checkpoint_run, finish_task));
}

static struct checkpoint_run *run_of_trim(struct kith_task *task)
{
    return (struct checkpoint_run *)((char *)task - offsetof(struct checkpoint_run, trim_task));
}

/* --- the keeper's side --- */

static void open_writer(struct checkpoint_run *run)
{
    struct kith_node *node = run->node;
    if (run->status == KITH_OK && !run->writer)
        run->status =
            kith_checkpoint_writer_open(&run->writer, node->options.fs, node->options.dir, &run->info);
}

static void add_bytes(struct kith_task *t)
{
    struct bytes_task *task = (struct bytes_task *)t;
    open_writer(task->run);
    if (task->run->status == KITH_OK)
        task->run->status = kith_checkpoint_writer_add(task->run->writer, kith_buf_slice(&task->bytes));
}

/* Completes the file, or removes it. */
static void finish(struct kith_task *task)
{
    struct checkpoint_run *run = run_of_finish(task);
    open_writer(run); /* when there was not a single byte */
    if (run->status == KITH_OK)
        run->status = kith_checkpoint_writer_finish(run->writer, &run->file_bytes);
    kith_checkpoint_writer_close(run->writer);
    run->writer = NULL;
}

static void trim(struct kith_task *task)
{
    struct checkpoint_run *run = run_of_trim(task);
    struct kith_node *node = run->node;
    int status = kith_store_trim_checkpoints(node->options.fs, node->options.dir, run->info.index);
    int log_status = kith_log_trim(node->log, run->keep_from - 1);
    if (status != KITH_OK || log_status != KITH_OK)
        KITH_WARN("%s: files that the checkpoint of entry %" PRIu64 " covers could not be deleted: %s",
                  node->options.dir, run->info.index,
                  kith_status_text(status != KITH_OK ? status : log_status));
}

/* --- the keyspace thread's side --- */

static void free_run(struct checkpoint_run *run)
{
    free((void *)run->info.configuration.data);
    free(run);
}

static void trimmed(struct kith_task *task)
{
    struct checkpoint_run *run = run_of_trim(task);
    run->node->keeper_tasks--;
    free_run(run);
}

/* Of the log behind a checkpoint. */
static uint64_t bytes_to_keep(const struct kith_node *node)
{
    const struct kith_node_options *options = &node->options;
    uint64_t for_members = options->keep_log_bytes ? options->keep_log_bytes : DEFAULT_KEEP_BYTES;
    if (!node->in_group)
        for_members = 0;
    return for_members > options->keep_always_bytes ? for_members : options->keep_always_bytes;
}

/* The core and the log let go of the same entries: what the core believes that it can send must be there. */
static void forget_entries(struct checkpoint_run *run)
{
    struct kith_node *node = run->node;
    struct kith_core_update update;
    uint64_t keep_bytes = bytes_to_keep(node);
    uint64_t from = run->info.index + 1;
    if (keep_bytes && !node->log_lacks_entries)
        from = kith_log_keep_from(node->log, run->info.index, keep_bytes);
    uint64_t trailing = run->info.index + 1 - from;
    if (trailing > UINT_MAX) {
        trailing = 0;
        from = run->info.index + 1;
    }
    run->keep_from = 1; /* nothing goes yet; when memory is short the next checkpoint does it */
    if (kith_core_snapshot_taken(node->core, node->now_ms, &run->snapshot, (unsigned)trailing, &update) !=
        KITH_OK) {
        KITH_WARN("the log's table of terms could not be shortened: out of memory");
        return;
    }
    if (kith_core_snapshot_index(node->core) == run->info.index) {
        run->keep_from = from;
        node->log_lacks_entries = false;
    }
    node_carry_out(node, &update);
}

static void record_success(struct checkpoint_run *run)
{
    struct kith_node *node = run->node;
    struct kith_node_status *s = &node->status;
    s->checkpoints_done++;
    if (run->info.index < s->checkpoint_index) { /* a leader's has overtaken it */
        run->keep_from = 1;
        return;
    }
    s->checkpoint_index = run->info.index;
    node->checkpoint_term = run->info.term;
    s->checkpoint_file_bytes = run->file_bytes;
    s->last_save_ms = run->info.created_ms;
    node->log_bytes_since -= run->log_bytes_since;
    node->entries_since -= run->entries_since;
    node->checkpoint_not_before = 0;
    forget_entries(run);
}

static void record_failure(struct checkpoint_run *run, int status)
{
    struct kith_node *node = run->node;
    if (node_stream_is_loading(node)) /* given up */
        return;
    node->checkpoint_not_before = node->log_bytes_since + DEFAULT_LOG_BYTES / 4;
    KITH_ERROR("the checkpoint of entry %" PRIu64 " in %s failed: %s%s; nothing is lost, the log goes on",
               run->info.index, node->options.dir, kith_status_text(status),
               status == KITH_ENOSPC ? " (free some disk space)" : "");
}

static void finished(struct kith_task *task)
{
    struct checkpoint_run *run = run_of_finish(task);
    struct kith_node *node = run->node;
    int status = run->status;
    void (*done)(void *, int) = run->done;
    void *context = run->context;
    node->keeper_tasks--;
    node->run = NULL;
    node->status.checkpoint_running = false;
    node->status.last_checkpoint_status = status;
    node->status.checkpoint_took_ms =
        (int64_t)((kith_clock_monotonic_ns(&node->options.clock) - run->started_ns) / 1000000);
    if (status == KITH_OK) {
        record_success(run);
        submit_task(node, &run->trim_task, trim, trimmed);
    } else {
        record_failure(run, status);
        free_run(run);
    }
    if (done)
        done(context, status);
}

static void end_run(struct checkpoint_run *run)
{
    run->yielding = false;
    submit_task(run->node, &run->finish_task, finish, finished);
}

static void added(struct kith_task *t)
{
    struct bytes_task *task = (struct bytes_task *)t;
    task->run->on_the_way -= task->bytes.length;
    task->run->node->keeper_tasks--;
    kith_buf_fini(&task->bytes);
    free(task);
}

/* Takes the bytes on success. */
static int hand_over(struct checkpoint_run *run, struct kith_buf *bytes)
{
    struct bytes_task *task = malloc(sizeof *task);
    if (!task)
        return KITH_ENOMEM;
    *task = (struct bytes_task){.run = run, .bytes = *bytes};
    kith_buf_init(bytes);
    run->on_the_way += task->bytes.length;
    run->node->status.checkpoint_running_bytes += task->bytes.length;
    submit_task(run->node, &task->task, add_bytes, added);
    return KITH_OK;
}

static void set_status(struct checkpoint_run *run, int status)
{
    int none = KITH_OK;
    atomic_compare_exchange_strong(&run->status, &none, status);
}

bool node_checkpoint_is_ready(const struct kith_node *node)
{
    const struct checkpoint_run *run = node->run; /* NULL once a run is freed */
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc)
    return run && run->yielding && run->on_the_way < ON_THE_WAY_BYTES;
}

static void yield_bytes(struct checkpoint_run *run)
{
    struct kith_node_machine *machine = &run->node->machine;
    struct kith_buf bytes = {0};
    int more = 1;
    if (run->status == KITH_OK)
        more = machine->checkpoint_step(machine->context, &bytes, STEP_BYTES);
    if (more < 0)
        set_status(run, more);
    else if (bytes.failed || (bytes.length && hand_over(run, &bytes) != KITH_OK))
        set_status(run, KITH_ENOMEM);
    kith_buf_fini(&bytes);
    if (run->status != KITH_OK && more != 0)
        machine->checkpoint_abort(machine->context);
    if (run->status != KITH_OK || more == 0)
        end_run(run);
}

void node_checkpoint_advance(struct kith_node *node)
{
    kith_pool_drain(
        node->keeper); /* always: the log's tasks end there too, and only an empty list wakes us again */
    if (node_checkpoint_is_ready(node))
        yield_bytes(node->run);
}

void node_checkpoint_give_up(struct kith_node *node)
{
    struct checkpoint_run *run = node->run;
    if (!run || !run->yielding) /* what is only written still is good, if late */
        return;
    set_status(run, KITH_EAGAIN);
    node->machine.checkpoint_abort(node->machine.context);
    end_run(run);
}

/* A checkpoint holds the committed configuration: while that is not applied yet it has no place in one, and no member
 * would take it. */
static bool is_before_configuration(const struct kith_node *node)
{
    return node->applied_index < kith_core_committed_configuration(node->core);
}

int node_checkpoint_start(struct kith_node *node, void (*done)(void *context, int status), void *context)
{
    if (!node->log)
        return KITH_EPERM;
    if (node->run || node_stream_is_loading(node))
        return KITH_EBUSY;
    if (node->failed_in_apply)
        return node->failure;
    if (is_before_configuration(node))
        return KITH_EAGAIN;
    struct checkpoint_run *run = calloc(1, sizeof *run);
    if (!run)
        return KITH_ENOMEM;
    run->node = node;
    run->done = done;
    run->context = context;
    run->yielding = true;
    run->started_ns = kith_clock_monotonic_ns(&node->options.clock);
    run->log_bytes_since = node->log_bytes_since;
    run->entries_since = node->entries_since;
    run->info = (struct kith_checkpoint_info){.folder_id = kith_store_get_found(node->store)->state.folder_id,
                                              .index = node->applied_index,
                                              .term = node->applied_term,
                                              .created_ms = kith_clock_wall_ms(&node->options.clock)};
    int status =
        kith_core_encode_configuration(node->core, &run->info.configuration, &run->info.configuration_index);
    if (status == KITH_OK)
        status = node->machine.checkpoint_begin(node->machine.context);
    if (status != KITH_OK) {
        free_run(run);
        return status;
    }
    run->snapshot = (struct kith_core_snapshot){.index = run->info.index,
                                                .term = run->info.term,
                                                .configuration_index = run->info.configuration_index,
                                                .configuration = run->info.configuration};
    node->run = run;
    node->status.checkpoint_running = true;
    node->status.checkpoint_running_bytes = 0;
    node->status.checkpoint_started_ms = run->info.created_ms;
    return KITH_OK;
}

bool node_checkpoint_is_due(const struct kith_node *node)
{
    uint64_t limit =
        node->options.checkpoint_log_bytes ? node->options.checkpoint_log_bytes : DEFAULT_LOG_BYTES;
    if (!node->log || node->run || node->failure || node_stream_is_loading(node) ||
        is_before_configuration(node))
        return false;
    if (node->log_lacks_entries && node->applied_index > node->status.checkpoint_index)
        return true;
    if (limit == UINT64_MAX)
        return false;
    if (limit < node->status.checkpoint_file_bytes / 2)
        limit = node->status.checkpoint_file_bytes / 2;
    return (node->log_bytes_since > limit || node->entries_since > ENTRIES_MAX) &&
           node->log_bytes_since >= node->checkpoint_not_before;
}

void node_checkpoint_start_when_due(struct kith_node *node)
{
    if (!node_checkpoint_is_due(node))
        return;
    int status = node_checkpoint_start(node, NULL, NULL);
    if (status != KITH_OK) {
        node->checkpoint_not_before = node->log_bytes_since + DEFAULT_LOG_BYTES / 4;
        node->status.last_checkpoint_status = status;
        KITH_WARN("a checkpoint is due but cannot start: %s", kith_status_text(status));
    }
}

void node_checkpoint_complete(struct kith_node *node)
{
    while (node->run) {
        if (node_checkpoint_is_ready(node))
            yield_bytes(node->run);
        else
            kith_pool_wait(node->keeper);
    }
}
