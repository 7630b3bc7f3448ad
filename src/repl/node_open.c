/* Opening: recovery of a folder, or the making of a new one.
 *
 * The log is read twice. The first time everything is checked, before anything is loaded, and the core gets the terms;
 * then the core knows what is committed. In a group of one that is everything on the disk; in a larger one it is what
 * the checkpoint holds and what the last segments say, and the rest waits in memory for a leader's word. */
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

enum kith_log_sync node_sync_of(enum kith_durability durability)
{
    static const enum kith_log_sync map[] = {[KITH_DURABILITY_ALWAYS] = KITH_LOG_SYNC_EACH_GROUP,
                                             [KITH_DURABILITY_EVERYSEC] = KITH_LOG_SYNC_EACH_SECOND,
                                             [KITH_DURABILITY_NONE] = KITH_LOG_SYNC_SELDOM};
    return map[durability];
}

/* Nobody can join a group whose only member is called so. */
static const char *address_of(const struct kith_node *node)
{
    return node->options.address ? node->options.address : "local";
}

/* First reading of the log: everything is checked before anything is loaded; the core gets the terms. */
struct survey {
    struct kith_node *node;
    uint64_t covered; /* by the checkpoint */
    uint64_t
        first; /* of the entries that the core has; at or below `covered` it has them for members behind */
    uint64_t term; /* the highest seen */
    uint64_t bytes;
    /* Where truncations began, in their order; then, of each, the least of it and those behind it. */
    uint64_t *truncations;
    size_t truncation_count, truncation_capacity;
};

static int note_truncation(struct survey *s, uint64_t from, bool everything)
{
    if (everything || from < s->first)
        s->first = from;
    if (s->truncation_count == s->truncation_capacity) {
        size_t capacity = s->truncation_capacity ? s->truncation_capacity * 2 : 16;
        void *larger = realloc(s->truncations, capacity * sizeof *s->truncations);
        if (!larger)
            return KITH_ENOMEM;
        s->truncations = larger;
        s->truncation_capacity = capacity;
    }
    s->truncations[s->truncation_count++] = from;
    kith_core_load_truncate(s->node->core, everything ? 0 : from - s->first);
    return KITH_OK;
}

static int survey_record(void *context, const struct kith_record *record)
{
    struct survey *s = context;
    struct kith_core *core = s->node->core;
    if (record->term > s->term)
        s->term = record->term;
    if (record->kind == KITH_RECORD_TRUNCATE || record->kind == KITH_RECORD_RESET)
        return note_truncation(s, record->index, record->kind == KITH_RECORD_RESET);
    if (kith_core_loaded_count(core) == 0)
        s->first = record->index;
    if (record->index > s->covered)
        s->bytes += kith_record_bytes(record->payload.length);
    return kith_core_load_entry(core, record->term, (enum kith_entry_kind)record->kind, record->payload);
}

/* Second reading: what is committed is applied; the rest goes into the window, because a leader may yet commit it. What a
 * truncation took back is passed over: it is told by the truncations that are still to come. */
struct replay {
    struct kith_node *node;
    const struct survey *survey;
    size_t truncations; /* passed */
    uint64_t commit_index;
};

static void find_least(struct survey *s)
{
    for (size_t i = s->truncation_count; i > 1; i--)
        if (s->truncations[i - 2] > s->truncations[i - 1])
            s->truncations[i - 2] = s->truncations[i - 1];
}

static int keep_record(struct kith_node *node, const struct kith_record *record)
{
    struct kith_core_entry from = {
        .term = record->term, .kind = (enum kith_entry_kind)record->kind, .payload = record->payload};
    struct node_entry *entry = node_entry_new(&from, record->index);
    if (!entry || node_window_reserve(&node->window) != KITH_OK) {
        if (entry)
            kith_log_entry_release(&entry->log);
        return KITH_ENOMEM;
    }
    node_window_push(&node->window, entry);
    node->waiting_bytes += record->payload.length;
    return KITH_OK;
}

static int replay_record(void *context, const struct kith_record *record)
{
    struct replay *r = context;
    struct kith_node *node = r->node;
    const struct survey *s = r->survey;
    if (record->kind == KITH_RECORD_TRUNCATE || record->kind == KITH_RECORD_RESET) {
        r->truncations++;
        return KITH_OK;
    }
    if (record->index <= node->applied_index ||
        (r->truncations < s->truncation_count && record->index >= s->truncations[r->truncations]))
        return KITH_OK;
    if (record->index > r->commit_index)
        return keep_record(node, record);
    int status = node_apply(node, record->kind, record->index, record->payload, NULL);
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
    node->checkpoint_term = found->checkpoint.term;
    node->status.checkpoint_file_bytes = found->checkpoint.file_bytes;
    node->status.last_save_ms = found->checkpoint.created_ms;
    node->status.recovery.checkpoint_bytes = found->checkpoint.raw_bytes;
    return KITH_OK;
}

static int open_core(struct kith_node *node, uint64_t node_id)
{
    struct kith_core_options options = {.node_id = node_id,
                                        .address = address_of(node),
                                        .seed = (unsigned)node->options.seed,
                                        .election_ms = node->options.election_ms,
                                        .heartbeat_ms = node->options.heartbeat_ms};
    if (!node->options.seed)
        kith_os_random(&options.seed, sizeof options.seed);
    node->id = node_id;
    return kith_core_open(&node->core, &options);
}

/* The first entry of a new log: a group of this node alone. */
static int load_first_entry(struct kith_node *node, uint64_t node_id, struct kith_slice *configuration)
{
    int status = kith_core_encode_single(configuration, node_id, address_of(node));
    if (status != KITH_OK)
        return status;
    return kith_core_load_entry(node->core, 1, KITH_ENTRY_CONFIGURATION, *configuration);
}

/* It stays in the window, as if it had been applied: the first member to join will ask for it. */
static int write_first_entry(struct kith_node *node, struct kith_slice configuration)
{
    struct kith_core_entry from = {.term = 1, .kind = KITH_ENTRY_CONFIGURATION, .payload = configuration};
    struct node_entry *entry = node_entry_new(&from, 1);
    if (!entry || node_window_reserve(&node->window) != KITH_OK) {
        if (entry)
            kith_log_entry_release(&entry->log);
        return KITH_ENOMEM;
    }
    atomic_init(&entry->log.references, 2);
    node_window_push(&node->window, entry);
    node->window.applied_bytes += node_entry_bytes(entry);
    node->applied_index = node->applied_term = 1;
    kith_log_append(node->log, &entry->log);
    return kith_log_flush(node->log);
}

int node_open_in_memory(struct kith_node *node, struct kith_error *error)
{
    struct kith_core_update update;
    struct kith_slice configuration = {0};
    if (node->options.join_group)
        return kith_error_set(
            error, KITH_EINVAL,
            "a node without a folder cannot join a group: it would forget its votes. Give it a folder");
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

static int start_core(struct kith_node *node, const struct survey *survey, struct kith_state *state,
                      struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    struct kith_core_update update;
    struct kith_core_snapshot snapshot;
    struct kith_core_start start = {
        .term = state->term, .voted_for = state->voted_for, .first_index = 1, .committed = found->committed};
    if (found->has_checkpoint) {
        snapshot = (struct kith_core_snapshot){.index = found->checkpoint.index,
                                               .term = found->checkpoint.term,
                                               .configuration_index = found->checkpoint.configuration_index,
                                               .configuration = found->checkpoint.configuration};
        start.snapshot = &snapshot;
        start.first_index = survey->first;
    }
    int status = kith_core_start(node->core, node->now_ms, &start, &update);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s: the log cannot be taken up: %s", node->options.dir,
                              kith_status_text(status));
    /* Whoever is alone elects itself, with nothing to write but its term: that is saved once the log is open. */
    if (update.save_state) {
        state->term = update.term;
        state->voted_for = update.voted_for;
    }
    /* Standbys it has are greeted again with the next heartbeat. */
    KITH_ASSERT(!update.entry_count && !update.install && !update.truncate_from);
    return KITH_OK;
}

static int open_log(struct kith_node *node, struct kith_error *error)
{
    struct kith_log_options options = {
        .segment_bytes = node->options.segment_bytes ? node->options.segment_bytes : DEFAULT_SEGMENT_BYTES,
        .queue_bytes = node->options.queue_bytes ? node->options.queue_bytes : DEFAULT_QUEUE_BYTES,
        .sync = node_sync_of(node->durability),
        .committed = node->applied_index,
        .wake = node->options.wake,
        .wake_context = node->options.wake_context,
        .clock = node->options.clock,
        .seed = node->options.seed,
        .manual = node->options.manual};
    return kith_store_open_log(node->store, &node->log, &options, error);
}

/* What a crash between a checkpoint and its tidying up left behind. The checkpoint was read completely by
 * now. What the core knows the terms of stays while there is anyone who may ask for it: a member, or a copy of the log. */
static void remove_covered(struct kith_node *node, uint64_t index)
{
    int status = kith_store_trim_checkpoints(node->options.fs, node->options.dir, index);
    if (kith_core_member_count(node->core) > 1 || node->options.keep_always_bytes)
        index = kith_store_get_found(node->store)->first_index - 1;
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

/* A new folder: with this entry it is a group of its own. */
static int found_group(struct kith_node *node, struct kith_slice *first, struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    if (found->last_index > 0 || found->state.bootstrapped || node->options.join_group)
        return KITH_OK;
    int status = load_first_entry(node, found->state.node_id, first);
    if (status != KITH_OK)
        kith_error_set(error, status, "%s", kith_status_text(status));
    return status;
}

/* Reads everything that is there, and starts the core on it. */
static int read_folder(struct kith_node *node, struct survey *survey, struct kith_slice *first,
                       struct kith_state *state, struct kith_error *error)
{
    int status = kith_store_read_log(node->store, survey_record, survey, error);
    if (survey->first + kith_core_loaded_count(node->core) <= survey->covered) {
        kith_core_load_truncate(node->core, 0); /* the log ends before the checkpoint */
        survey->first = survey->covered + 1;
    }
    if (status == KITH_OK)
        status = check_terms(node, survey, error);
    if (status == KITH_OK)
        status = load_checkpoint(node, error);
    if (status == KITH_OK)
        status = found_group(node, first, error);
    if (status == KITH_OK)
        status = start_core(node, survey, state, error);
    if (status != KITH_OK)
        return status;
    struct replay replay = {
        .node = node, .survey = survey, .commit_index = kith_core_commit_index(node->core)};
    find_least(survey);
    status = kith_store_read_log(node->store, replay_record, &replay, error);
    if (status == KITH_ENOMEM)
        kith_error_set(error, status, "out of memory");
    return status;
}

/* From here on the folder is written to. */
static int take_folder(struct kith_node *node, struct kith_slice first, struct kith_state *state,
                       struct kith_error *error)
{
    const struct kith_store_found *found = kith_store_get_found(node->store);
    int status = open_log(node, error);
    if (status == KITH_OK && first.data) {
        status = write_first_entry(node, first);
        if (status != KITH_OK)
            kith_error_set(error, status, "the first entry cannot be written to %s: %s", node->options.dir,
                           kith_status_text(status));
    }
    state->bootstrapped = true;
    if (status == KITH_OK)
        status = kith_store_save_state(node->store, state, error); /* before the first entry of a new term */
    if (status == KITH_OK && found->has_checkpoint)
        remove_covered(node, found->checkpoint.index);
    return status;
}

int node_open_folder(struct kith_node *node, struct kith_error *error)
{
    struct kith_slice first = {0};
    struct kith_store_options options = {.fs = node->options.fs,
                                         .dir = node->options.dir,
                                         .join_group = node->options.join_group,
                                         .node_id = node->options.node_id,
                                         .seed = node->options.seed};
    int status = kith_store_open(&node->store, &options, error);
    if (status != KITH_OK)
        return status;
    const struct kith_store_found *found = kith_store_get_found(node->store);
    struct kith_state state = found->state;
    struct survey survey = {.node = node, .covered = found->has_checkpoint ? found->checkpoint.index : 0};
    survey.first = survey.covered + 1;
    status = open_core(node, state.node_id);
    if (status != KITH_OK)
        return kith_error_set(error, status, "%s", kith_status_text(status));
    status = read_folder(node, &survey, &first, &state, error);
    node->log_bytes_since = survey.bytes;
    node->entries_since = node->status.recovery.entries + (node->window.next - node->window.first);
    node->status.recovery.log_bytes = found->log_bytes;
    node->status.recovery.cut_bytes = found->cut_bytes;
    free(survey.truncations);
    if (status == KITH_OK)
        status = take_folder(node, first, &state, error);
    free((void *)first.data);
    return status;
}
