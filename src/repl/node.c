/* The driver: recovery, and the way of an entry from submit to done. */
#include "repl/node.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/os.h"
#include "repl/node_internal.h"

#include <inttypes.h>
#include <stdlib.h>

static_assert((int)KITH_ENTRY_COMMAND == KITH_RECORD_COMMAND &&
                  (int)KITH_ENTRY_BARRIER == KITH_RECORD_BARRIER &&
                  (int)KITH_ENTRY_CONFIGURATION == KITH_RECORD_CONFIGURATION,
              "kinds are handed through");

#define DEFAULT_SEGMENT_BYTES ((uint64_t)64 << 20)
#define DEFAULT_QUEUE_BYTES   ((uint64_t)256 << 20)

enum { TRIM_TERMS_EACH = 1 << 20 }; /* entries; in memory there is no checkpoint to do it */

static const char *const address = "local"; /* until there are peers that need a real one */

static enum kith_log_sync sync_of(enum kith_durability durability)
{
    static const enum kith_log_sync map[] = {[KITH_DURABILITY_ALWAYS] = KITH_LOG_SYNC_EACH_GROUP,
                                             [KITH_DURABILITY_EVERYSEC] = KITH_LOG_SYNC_EACH_SECOND,
                                             [KITH_DURABILITY_NONE] = KITH_LOG_SYNC_SELDOM};
    return map[durability];
}

static void set_now(struct kith_node *node)
{
    node->now_ms = kith_clock_monotonic_ns(&node->options.clock) / 1000000;
}

/* --- the way of an entry --- */

static void fail(struct kith_node *node, int status, const char *what, uint64_t index)
{
    if (node->failure != KITH_OK)
        return;
    node->failure = status;
    kith_error_set(&node->failure_text, status,
                   "entry %" PRIu64 " %s (%s): writes are refused until the server is started again", index,
                   what, kith_status_text(status));
    KITH_ERROR("%s", node->failure_text.text);
}

static int apply(struct kith_node *node, enum kith_record_kind kind, uint64_t index,
                 struct kith_slice payload, const struct kith_apply_hooks *hooks)
{
    struct kith_core_update update;
    switch (kind) {
    case KITH_RECORD_COMMAND:
        return node->machine.apply(node->machine.context, payload, hooks);
    case KITH_RECORD_CONFIGURATION:
        return kith_core_configuration_applied(node->core, node->now_ms, index, payload, &update);
    default:
        return KITH_OK;
    }
}

static void finish_entry(struct kith_node *node, struct node_entry *entry)
{
    int status = node->failure;
    if (status == KITH_OK) {
        status =
            apply(node, entry->log.kind, entry->log.index, kith_buf_slice(&entry->log.payload), entry->hooks);
        if (status < 0) {
            node->failed_in_apply = true;
            fail(node, status, "could not be applied", entry->log.index);
        }
        node->applied_index = entry->log.index;
        node->applied_term = entry->log.term;
    }
    void (*done)(void *, int) = entry->done;
    void *context = entry->context;
    kith_log_entry_release(&entry->log);
    if (done)
        done(context, status < 0 ? status : KITH_OK);
}

/* Applies what is committed, in order. A done that submits finds its entry applied by the loop it is called
 * from. */
static void advance(struct kith_node *node)
{
    if (node->advancing)
        return;
    node->advancing = true;
    while (node->head &&
           (node->failure != KITH_OK || node->head->log.index <= kith_core_commit_index(node->core))) {
        struct node_entry *entry = node->head;
        node->head = entry->next;
        if (!node->head)
            node->tail = NULL;
        node->waiting_entries--;
        node->waiting_bytes -= entry->log.payload.length;
        finish_entry(node, entry);
    }
    node->advancing = false;
}

/* In memory nothing else makes the core forget old terms. */
static void trim_terms(struct kith_node *node)
{
    struct kith_core_update update;
    struct kith_core_snapshot snapshot = {.index = node->applied_index, .term = node->applied_term};
    if (node->log || node->applied_index < kith_core_snapshot_index(node->core) + TRIM_TERMS_EACH)
        return;
    if (kith_core_encode_configuration(node->core, &snapshot.configuration, &snapshot.configuration_index) !=
        KITH_OK)
        return; /* short of memory: later */
    (void)kith_core_snapshot_taken(node->core, node->now_ms, &snapshot, 0, &update); /* the same */
    free((void *)snapshot.configuration.data);
}

static void take_failure(struct kith_node *node, int failure, const struct kith_error *why)
{
    node->failure = failure;
    kith_error_set(
        &node->failure_text, failure, "%s%s", why->text,
        node->durability == KITH_DURABILITY_ALWAYS
            ? ""
            : ". What was written last is only in memory: SAVE (with room on the disk) makes it safe");
}

/* Tells the core how far the log is, and applies. Without a sync per group, what was handed over counts as
 * there. */
static void take_progress(struct kith_node *node)
{
    struct kith_core_update update;
    struct kith_error why;
    uint64_t truncations = 0, index = kith_core_last_index(node->core);
    int failure = KITH_OK;
    if (node->log) {
        failure =
            kith_log_failure(node->log, &why); /* before the index: what was synced before it failed counts */
        uint64_t synced = kith_log_synced(node->log, &truncations);
        if (node->durability == KITH_DURABILITY_ALWAYS || failure != KITH_OK)
            index = synced;
    }
    if (node->failure == KITH_OK) {
        int status = kith_core_persisted(node->core, node->now_ms, index, truncations, &update);
        if (status != KITH_OK)
            fail(node, status, "could not be committed", index);
        advance(node);
    }
    if (failure != KITH_OK && node->failure == KITH_OK)
        take_failure(node, failure, &why);
    if (node->failure != KITH_OK)
        advance(node);
}

static void enqueue(struct kith_node *node, struct node_entry *entry)
{
    if (node->tail)
        node->tail->next = entry;
    else
        node->head = entry;
    node->tail = entry;
    node->waiting_entries++;
    node->waiting_bytes += entry->log.payload.length;
    node->entries_since++;
    node->log_bytes_since += kith_record_bytes(entry->log.payload.length);
}

int kith_node_submit(struct kith_node *node, struct kith_buf *payload, const struct kith_apply_hooks *hooks,
                     void (*done)(void *context, int status), void *context)
{
    struct kith_core_update update;
    if (node->log && node->failure == KITH_OK && kith_log_failure(node->log, NULL) != KITH_OK)
        take_progress(node); /* what was synced before it failed gets its due */
    if (node->failure != KITH_OK)
        return node->failure;
    if (payload->length > KITH_RECORD_PAYLOAD_MAX)
        return KITH_ETOOBIG;
    struct node_entry *entry = malloc(sizeof *entry);
    if (!entry)
        return KITH_ENOMEM;
    struct kith_core_entry raft_entry = {.kind = KITH_ENTRY_COMMAND, .payload = kith_buf_slice(payload)};
    int status = kith_core_submit(node->core, node->now_ms, &raft_entry, 1, &update);
    if (status != KITH_OK) {
        free(entry);
        return status;
    }
    *entry = (struct node_entry){.hooks = hooks, .done = done, .context = context};
    entry->log = (struct kith_log_entry){.payload = *payload,
                                         .index = update.first_index,
                                         .term = raft_entry.term,
                                         .kind = KITH_RECORD_COMMAND};
    atomic_init(&entry->log.references, node->log ? 2 : 1);
    kith_buf_init(payload);
    enqueue(node, entry);
    if (node->log)
        kith_log_append(node->log, &entry->log);
    if (!node->log || node->durability != KITH_DURABILITY_ALWAYS) {
        take_progress(node);
        trim_terms(node);
    }
    return KITH_OK;
}

void kith_node_poll(struct kith_node *node)
{
    set_now(node);
    node->poll_now = false;
    take_progress(node);
    trim_terms(node);
    if (node->log) {
        node_checkpoint_advance(node);
        node_checkpoint_start_when_due(node);
    }
}

int64_t kith_node_timeout_ms(const struct kith_node *node)
{
    if (node->poll_now || node_checkpoint_is_ready(node) || node_checkpoint_is_due(node))
        return 0;
    uint64_t at = kith_core_timeout_at(node->core);
    if (at == UINT64_MAX)
        return -1;
    uint64_t now = kith_clock_monotonic_ns(&node->options.clock) / 1000000;
    return at > now ? (int64_t)(at - now) : 0;
}

/* --- opening --- */

/* First reading of the log: everything is checked before anything is loaded; the core gets the terms. */
struct survey {
    struct kith_node *node;
    uint64_t covered; /* by the checkpoint */
    uint64_t term;    /* the highest seen */
    uint64_t bytes;
};

static int survey_record(void *context, const struct kith_record *record)
{
    struct survey *s = context;
    struct kith_core *core = s->node->core;
    if (record->term > s->term)
        s->term = record->term;
    if (record->index <= s->covered)
        return KITH_OK;
    if (record->kind == KITH_RECORD_TRUNCATE) {
        kith_core_load_truncate(core, record->index - s->covered - 1);
        return KITH_OK;
    }
    s->bytes += kith_record_bytes(record->payload.length);
    return kith_core_load_entry(core, record->term, (enum kith_entry_kind)record->kind, record->payload);
}

/* Second reading: what is committed is applied. An entry that a truncation took back has another term than
 * the one that stands in its place. */
struct replay {
    struct kith_node *node;
    uint64_t commit_index;
};

static int replay_record(void *context, const struct kith_record *record)
{
    struct replay *r = context;
    struct kith_node *node = r->node;
    if (record->kind == KITH_RECORD_TRUNCATE || record->index != node->applied_index + 1 ||
        record->index > r->commit_index)
        return KITH_OK;
    int status = apply(node, record->kind, record->index, record->payload, NULL);
    if (status < 0)
        return status;
    node->applied_index = record->index;
    node->applied_term = record->term;
    node->status.recovery.entries++;
    return KITH_OK;
}

static int load_bytes(void *context, struct kith_slice bytes)
{
    struct kith_node *node = context;
    return node->machine.load(node->machine.context, bytes);
}

static int load_checkpoint(struct kith_node *node, struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    if (!found->has_checkpoint)
        return KITH_OK;
    int status = kith_store_read_checkpoint(node->store, load_bytes, node, error);
    if (status != KITH_OK)
        return status;
    status = node->machine.load_finish(node->machine.context);
    if (status < 0)
        return kith_error_set(error, status,
                              "%s: the checkpoint of entry %" PRIu64 " is whole, but cannot be used: %s",
                              node->options.dir, found->checkpoint.index, kith_status_text(status));
    node->applied_index = found->checkpoint.index;
    node->applied_term = found->checkpoint.term;
    node->status.checkpoint_index = found->checkpoint.index;
    node->status.checkpoint_file_bytes = found->checkpoint.file_bytes;
    node->status.last_save_ms = found->checkpoint.created_ms;
    node->status.recovery.checkpoint_bytes = found->checkpoint.raw_bytes;
    return KITH_OK;
}

static int open_core(struct kith_node *node, uint64_t node_id)
{
    struct kith_core_options options = {.node_id = node_id, .address = address};
    options.seed = (unsigned)node->options.seed;
    if (!node->options.seed)
        kith_os_random(&options.seed, sizeof options.seed);
    return kith_core_open(&node->core, &options);
}

/* The first entry of a new log: a group of this node alone. */
static int load_first_entry(struct kith_node *node, uint64_t node_id, struct kith_slice *configuration)
{
    int status = kith_core_encode_single(configuration, node_id, address);
    if (status != KITH_OK)
        return status;
    return kith_core_load_entry(node->core, 1, KITH_ENTRY_CONFIGURATION, *configuration);
}

static int write_first_entry(struct kith_node *node, struct kith_slice configuration)
{
    struct kith_log_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return KITH_ENOMEM;
    entry->index = entry->term = 1;
    entry->kind = KITH_RECORD_CONFIGURATION;
    atomic_init(&entry->references, 1);
    kith_buf_append(&entry->payload, configuration.data, configuration.length);
    if (entry->payload.failed) {
        kith_log_entry_release(entry);
        return KITH_ENOMEM;
    }
    kith_log_append(node->log, entry);
    return kith_log_flush(node->log);
}

static int open_in_memory(struct kith_node *node, struct kith_error *error)
{
    struct kith_core_update update;
    struct kith_slice configuration = {0};
    int status = open_core(node, 1);
    if (status == KITH_OK)
        status = load_first_entry(node, 1, &configuration);
    free((void *)configuration.data);
    struct kith_core_start start = {.term = 1, .first_index = 1};
    if (status == KITH_OK)
        status = kith_core_start(node->core, node->now_ms, &start, &update);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s", kith_status_text(status));
    node->applied_index = node->applied_term = 1;
    return KITH_OK;
}

static int start_core(struct kith_node *node, const struct kith_state *state, struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    struct kith_core_update update;
    struct kith_core_snapshot snapshot;
    struct kith_core_start start = {.term = state->term, .voted_for = state->voted_for, .first_index = 1};
    if (found->has_checkpoint) {
        snapshot = (struct kith_core_snapshot){.index = found->checkpoint.index,
                                               .term = found->checkpoint.term,
                                               .configuration_index = found->checkpoint.configuration_index,
                                               .configuration = found->checkpoint.configuration};
        start.snapshot = &snapshot;
        start.first_index = snapshot.index + 1;
    }
    int status = kith_core_start(node->core, node->now_ms, &start, &update);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s: the log cannot be taken up: %s", node->options.dir,
                              kith_status_text(status));
    if (update.role != KITH_CORE_LEADER)
        return kith_error_set(
            error, KITH_EVERSION,
            "%s belongs to a node of a group of several; this version of Kith serves groups of one",
            node->options.dir);
    return KITH_OK;
}

static int open_log(struct kith_node *node, struct kith_error *error)
{
    struct kith_log_options options = {
        .segment_bytes = node->options.segment_bytes ? node->options.segment_bytes : DEFAULT_SEGMENT_BYTES,
        .queue_bytes = node->options.queue_bytes ? node->options.queue_bytes : DEFAULT_QUEUE_BYTES,
        .sync = sync_of(node->durability),
        .wake = node->options.wake,
        .wake_context = node->options.wake_context,
        .clock = node->options.clock,
        .seed = node->options.seed,
        .manual = node->options.manual};
    return kith_store_open_log(node->store, &node->log, &options, error);
}

static int save_term(struct kith_node *node, struct kith_error *error)
{
    struct kith_state state = kith_store_get_found(node->store)->state;
    state.term = kith_core_term(node->core);
    state.voted_for = state.node_id;
    state.bootstrapped = true;
    return kith_store_save_state(node->store, &state, error);
}

/* What a crash between a checkpoint and its tidying up left behind. The checkpoint was read completely by
 * now. */
static void remove_covered(struct kith_node *node, uint64_t index)
{
    int status = kith_store_trim_checkpoints(node->options.fs, node->options.dir, index);
    if (status == KITH_OK)
        status = kith_log_trim(node->log, index);
    if (status != KITH_OK)
        KITH_WARN("%s: old files could not be deleted: %s", node->options.dir, kith_status_text(status));
}

static int check_terms(struct kith_node *node, const struct survey *survey, struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    if (survey->term > found->state.term)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: the log knows of term %" PRIu64 ", state-1 and state-2 only of %" PRIu64
            ": they are from an older copy of the folder. Nothing was changed. Put the right ones back",
            node->options.dir, survey->term, found->state.term);
    return KITH_OK;
}

static int open_folder(struct kith_node *node, struct kith_error *error)
{
    struct kith_slice first = {0};
    struct replay replay = {.node = node};
    struct kith_store_options options = {.fs = node->options.fs,
                                         .dir = node->options.dir,
                                         .join_group = node->options.join_group,
                                         .seed = node->options.seed};
    int status = kith_store_open(&node->store, &options, error);
    if (status != KITH_OK)
        return status;
    const struct kith_store_found *found = kith_store_get_found(node->store);
    struct survey survey = {.node = node, .covered = found->has_checkpoint ? found->checkpoint.index : 0};
    status = open_core(node, found->state.node_id);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s", kith_status_text(status));
    status = kith_store_read_log(node->store, survey_record, &survey, error);
    if (status == KITH_OK)
        status = check_terms(node, &survey, error);
    if (status == KITH_OK)
        status = load_checkpoint(node, error);
    if (status == KITH_OK && found->last_index == 0) {
        status = load_first_entry(node, found->state.node_id, &first);
        if (status != KITH_OK)
            kith_error_set(error, status, "%s", kith_status_text(status));
    }
    if (status == KITH_OK)
        status = start_core(node, &found->state, error);
    replay.commit_index = kith_core_commit_index(node->core);
    if (status == KITH_OK)
        status = kith_store_read_log(node->store, replay_record, &replay, error);
    node->log_bytes_since = survey.bytes;
    node->entries_since = node->status.recovery.entries;
    node->status.recovery.log_bytes = found->log_bytes;
    node->status.recovery.cut_bytes = found->cut_bytes;
    if (status == KITH_OK)
        status = open_log(node, error);
    if (status == KITH_OK && first.data) {
        status = write_first_entry(node, first);
        node->applied_index = node->applied_term = 1;
        if (status != KITH_OK)
            kith_error_set(error, status, "the first entry cannot be written to %s: %s", node->options.dir,
                           kith_status_text(status));
    }
    free((void *)first.data);
    if (status == KITH_OK)
        status = save_term(node, error); /* before the first entry of the new term */
    if (status == KITH_OK && found->has_checkpoint)
        remove_covered(node, found->checkpoint.index);
    return status;
}

static void node_free(struct kith_node *node)
{
    while (node->head) {
        struct node_entry *entry = node->head;
        node->head = entry->next;
        kith_log_entry_release(&entry->log);
    }
    (void)kith_log_close(node->log); /* after a failed open, or already closed: nothing was promised */
    kith_pool_close(node->keeper);
    kith_core_close(node->core);
    kith_store_close(node->store);
    free((char *)node->options.dir);
    free(node);
}

int kith_node_open(struct kith_node **out, const struct kith_node_options *options, struct kith_error *error)
{
    struct kith_node *node = calloc(1, sizeof *node);
    if (!node)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    bool in_memory = !options->dir || !*options->dir;
    uint64_t began_ns = kith_clock_monotonic_ns(&options->clock);
    node->options = *options;
    node->options.dir = in_memory ? NULL : strdup(options->dir);
    if (!node->options.fs)
        node->options.fs = kith_fs_posix();
    node->machine = options->machine;
    node->durability = options->durability;
    node->status.in_memory = in_memory;
    node->status.last_save_ms = kith_clock_wall_ms(&options->clock);
    node->status.checkpoint_took_ms = -1;
    set_now(node);
    int status =
        in_memory || node->options.dir ? KITH_OK : kith_error_set(error, KITH_ENOMEM, "out of memory");
    if (status == KITH_OK && !in_memory) {
        status = kith_pool_open(&node->keeper, !options->manual, options->wake, options->wake_context);
        if (status != KITH_OK)
            kith_error_set(error, status, "no thread for checkpoints: %s", kith_status_text(status));
    }
    if (status == KITH_OK)
        status = in_memory ? open_in_memory(node, error) : open_folder(node, error);
    if (status != KITH_OK) {
        node_free(node);
        return status;
    }
    node->status.recovery.took_ms =
        (int64_t)((kith_clock_monotonic_ns(&options->clock) - began_ns) / 1000000);
    *out = node;
    return KITH_OK;
}

bool kith_node_run(struct kith_node *node, enum kith_node_part part)
{
    if (!node->log)
        return false;
    return part == KITH_NODE_LOG ? kith_log_run(node->log) : kith_pool_run(node->keeper);
}

/* --- closing and the small rest --- */

void kith_node_skip_final_checkpoint(struct kith_node *node)
{
    node->options.no_final_checkpoint = true;
}

int kith_node_close(struct kith_node *node)
{
    if (!node)
        return KITH_OK;
    int status = KITH_OK;
    while (node->head) { /* a done may submit more */
        if (node->log)
            (void)kith_log_flush(node->log); /* its failure is found by the poll */
        kith_node_poll(node);
    }
    if (node->log) {
        node_checkpoint_complete(node);
        bool news = node->applied_index > node->status.checkpoint_index && node->entries_since > 0;
        if (news && !node->options.no_final_checkpoint && node_checkpoint_start(node, NULL, NULL) == KITH_OK)
            node_checkpoint_complete(node);
        while (node->keeper_tasks)
            kith_pool_wait(node->keeper);
        status = kith_log_close(node->log);
        node->log = NULL;
    }
    if (node->failure != KITH_OK)
        status = node->failure;
    node_free(node);
    return status;
}

int kith_node_checkpoint(struct kith_node *node, void (*done)(void *context, int status), void *context)
{
    int status = node_checkpoint_start(node, done, context);
    node->poll_now |= status == KITH_OK;
    return status;
}

void kith_node_set_durability(struct kith_node *node, enum kith_durability durability)
{
    if (node->log && durability != node->durability)
        kith_log_set_sync(node->log, sync_of(durability));
    node->durability = durability;
    node->poll_now = true;
}

const char *kith_node_error(const struct kith_node *node)
{
    return node->failure == KITH_OK ? "" : node->failure_text.text;
}

bool kith_node_is_behind(const struct kith_node *node)
{
    return node->log && kith_log_is_behind(node->log);
}

void kith_node_get_status(const struct kith_node *node, struct kith_node_status *out)
{
    *out = node->status;
    out->durability = node->durability;
    out->term = kith_core_term(node->core);
    out->last_index = out->synced_index = kith_core_last_index(node->core);
    out->commit_index = kith_core_commit_index(node->core);
    out->applied_index = node->applied_index;
    out->waiting_entries = node->waiting_entries;
    out->waiting_bytes = node->waiting_bytes;
    out->log_bytes = node->log_bytes_since;
    out->error = kith_node_error(node);
    if (node->log) {
        struct kith_log_progress progress;
        kith_log_progress(node->log, &progress);
        out->synced_index = progress.synced;
        out->waiting_entries = progress.waiting_entries;
        out->waiting_bytes = progress.waiting_bytes;
        out->groups_written = progress.groups;
        out->syncs = progress.syncs;
        out->bytes_written = progress.bytes;
    }
}
