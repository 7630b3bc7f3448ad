/* Carrying out what the core asks for: the one way by which anything changes.
 *
 * The order is the core's contract: what was promised (term, vote) is on the disk before a message can tell of it, and
 * the log is told of a truncation before it is told of what comes in its place. Acknowledgements need no care here:
 * the core makes them only of what kith_core_persisted has said.
 *
 * Memory for entries is taken before the core hears of them (`prepared`): what it has accepted is then written without
 * an allocation that could fail. Where one must (a new leader's barrier, a truncation's record), failing ends the node. */
#include "base/assert.h"
#include "base/log.h"
#include "repl/node_internal.h"
#include "repl/node_members.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- entries, made ahead --- */

static int reserve_prepared(struct node_prepared *prepared, size_t count)
{
    KITH_ASSERT(!prepared->count);
    if (count <= prepared->capacity)
        return KITH_OK;
    void *larger = realloc(prepared->at, count * sizeof *prepared->at);
    if (!larger)
        return KITH_ENOMEM;
    prepared->at = larger;
    prepared->capacity = count;
    return KITH_OK;
}

static int prepare(struct kith_node *node, uint64_t first_index, const struct kith_core_entry *entries,
                   size_t count)
{
    struct node_prepared *prepared = &node->prepared;
    if (reserve_prepared(prepared, count) != KITH_OK)
        return KITH_ENOMEM;
    prepared->first_index = first_index;
    for (size_t i = 0; i < count; i++) {
        prepared->at[i] = node_entry_new(&entries[i], first_index + i);
        if (!prepared->at[i])
            return KITH_ENOMEM;
        prepared->count++;
    }
    return KITH_OK;
}

static void drop_prepared(struct kith_node *node)
{
    for (size_t i = 0; i < node->prepared.count; i++)
        if (node->prepared.at[i])
            kith_log_entry_release(&node->prepared.at[i]->log);
    node->prepared.count = 0;
}

static struct node_entry *take_prepared(struct kith_node *node, uint64_t index,
                                        const struct kith_core_entry *from)
{
    struct node_prepared *prepared = &node->prepared;
    uint64_t i = index - prepared->first_index; /* below the first: a large number */
    if (i >= prepared->count || !prepared->at[i])
        return node_entry_new(from, index);
    struct node_entry *entry = prepared->at[i];
    prepared->at[i] = NULL;
    return entry;
}

/* --- the parts of an update --- */

static void save_state(struct kith_node *node, uint64_t term, uint64_t voted_for)
{
    struct kith_error error;
    if (!node->store)
        return;
    struct kith_state state = kith_store_get_found(node->store)->state;
    state.term = term;
    state.voted_for = voted_for;
    int status = kith_store_save_state(node->store, &state, &error);
    if (status != KITH_OK)
        node_fail(node, status, "term %" PRIu64 " cannot be saved: %s", term, error.text);
}

/* The log takes the truncation in as a record of its own. */
static void log_truncation(struct kith_node *node, uint64_t from, uint64_t term)
{
    struct kith_log_entry *record = calloc(1, sizeof *record);
    if (!record) {
        node_fail(node, KITH_ENOMEM, "entry %" PRIu64 " and those behind it cannot be taken back", from);
        return;
    }
    record->index = from;
    record->term = term;
    record->kind = KITH_RECORD_TRUNCATE;
    atomic_init(&record->references, 1);
    kith_log_append(node->log, record);
}

/* Entries from `from` on leave the window. Whoever waits for one is told later, from node_advance: a done may submit,
 * and the update that is being carried out would not live through that. */
static void orphan(struct kith_node *node, uint64_t from)
{
    struct node_window *window = &node->window;
    struct node_entry *list = NULL;
    while (window->next > from && window->next > window->first) {
        bool waits = window->next - 1 > node->applied_index;
        struct node_entry *entry = node_window_pop_last(window);
        if (waits)
            node->waiting_bytes -= entry->log.payload.length;
        else
            window->applied_bytes -= node_entry_bytes(entry);
        if (!entry->done) {
            kith_log_entry_release(&entry->log);
            continue;
        }
        entry->next = list;
        list = entry;
    }
    struct node_entry **end = &node->orphans;
    while (*end)
        end = &(*end)->next;
    *end = list;
}

static void truncate_log(struct kith_node *node, uint64_t from, uint64_t term)
{
    if (from <= node->applied_index) { /* a majority acknowledged it and then lost it: some did not sync */
        node_fail(node, KITH_ECORRUPT,
                  "the group has taken back entry %" PRIu64
                  ", which is applied here; let this node join again with a new folder",
                  from);
        return;
    }
    node->truncations++;
    if (node->log && node->failure == KITH_OK)
        log_truncation(node, from, term);
    orphan(node, from);
}

static void begin_install(struct kith_node *node, const struct kith_core_snapshot *snapshot)
{
    node->truncations++;
    orphan(node, 0);
    node_forward_decide_all(node, KITH_EUNKNOWN, KITH_OK); /* they may be in it: nobody sees them come */
    node_stream_install(node, snapshot);
}

static void append_entries(struct kith_node *node, const struct kith_core_update *update)
{
    for (size_t i = 0; i < update->entry_count && node->failure == KITH_OK; i++) {
        uint64_t index = update->first_index + i;
        struct node_entry *entry = take_prepared(node, index, &update->entries[i]);
        if (!entry || node_window_reserve(&node->window) != KITH_OK) {
            if (entry)
                kith_log_entry_release(&entry->log);
            node_fail(node, KITH_ENOMEM, "entry %" PRIu64 " cannot be taken in", index);
            return;
        }
        entry->log.index = index;
        entry->log.term = update->entries[i].term;
        atomic_init(&entry->log.references, node->log ? 2 : 1);
        node_window_push(&node->window, entry);
        if (entry->done && !node->own_waiting++)
            node->own_first = index;
        node->waiting_bytes += entry->log.payload.length;
        node->entries_since++;
        node->log_bytes_since += kith_record_bytes(entry->log.payload.length);
        if (node->log)
            kith_log_append(node->log, &entry->log);
    }
}

static void write_update(struct kith_node *node, const struct kith_core_update *update)
{
    if (update->save_state)
        save_state(node, update->term, update->voted_for);
    if (update->install && node->failure == KITH_OK)
        begin_install(node, update->install);
    if (update->truncate_from)
        truncate_log(node, update->truncate_from, update->term);
    append_entries(node, update);
    for (size_t i = 0; i < update->message_count && node->failure == KITH_OK; i++)
        node_send_message(node, &update->messages[i]);
}

/* --- roles --- */

static void note_roles(struct kith_node *node, const struct kith_core_update *update)
{
    const char *address;
    node->in_group = kith_core_member_count(node->core) > 1;
    node->status.elections += update->role_changed && update->role == KITH_CORE_CANDIDATE;
    if (node->leader == node->id && node->leader_term == update->term && update->role == KITH_CORE_LEADER)
        return; /* as nearly always where writes come in */
    uint64_t leader = kith_core_leader(node->core, &address);
    if (leader == node->leader && update->term == node->leader_term)
        return;
    if (leader && node->in_group)
        KITH_INFO("term %" PRIu64 ": %s leads%s", update->term, address,
                  leader == node->id ? " (this node)" : "");
    node->status.leader_changes += leader != 0;
    node->poll_now |= node->forwards.head != NULL; /* it may have waited for this */
    node_read_begin_term(node);
    node->leader = leader;
    node->leader_term = update->term;
}

/* libraft gives a new leader no entry of its own when its whole log is committed. But it is by such an entry that
 * everyone sees what has become of the old leader's, and that this one may serve reads. */
static void append_barrier(struct kith_node *node)
{
    static const char zeros[8];
    struct kith_core_entry from = {.kind = KITH_ENTRY_BARRIER, .payload = kith_slice(zeros, sizeof zeros)};
    if (!node->needs_barrier || node->failure != KITH_OK)
        return;
    node->needs_barrier = false;
    if (kith_core_get_role(node->core) != KITH_CORE_LEADER)
        return;
    struct node_entry *entry = node_entry_new(&from, 0);
    if (entry && node_submit_entry(node, entry) == KITH_OK)
        return;
    node->needs_barrier = true; /* with the next event */
    if (entry)
        kith_log_entry_release(&entry->log);
}

void node_carry_out(struct kith_node *node, struct kith_core_update *update)
{
    node->needs_barrier |= update->role_changed && update->role == KITH_CORE_LEADER && !update->entry_count &&
                           kith_core_member_count(node->core) > 1;
    write_update(node, update);
    while (update->more && node->failure == KITH_OK) {
        int status = kith_core_continue(node->core, update);
        if (status != KITH_OK) {
            node_fail(node, status, "entries of the leader cannot be taken in");
            break;
        }
        write_update(node, update);
    }
    drop_prepared(node);
    note_roles(node, update);
    append_barrier(node);
    node_notice_flush(node);
    node_advance(node);
}

/* --- events --- */

int node_submit_entry(struct kith_node *node, struct node_entry *entry)
{
    struct kith_core_update update;
    struct node_prepared *prepared = &node->prepared;
    struct kith_core_entry raft_entry = {.kind = (enum kith_entry_kind)entry->log.kind,
                                         .payload = kith_buf_slice(&entry->log.payload)};
    int status = reserve_prepared(prepared, 1);
    if (status == KITH_OK)
        status = node_window_reserve(&node->window);
    if (status == KITH_OK)
        status = kith_core_submit(node->core, node->now_ms, &raft_entry, 1, &update);
    if (status != KITH_OK)
        return status;
    if (!entry->since_ms)
        entry->since_ms = node->now_ms;
    entry->state = NODE_SENT;
    prepared->first_index = update.first_index;
    prepared->at[prepared->count++] = entry;
    node_carry_out(node, &update);
    return KITH_OK;
}

void node_take_message(struct kith_node *node, const struct kith_core_message *message)
{
    struct kith_core_update update;
    int status = KITH_OK;
    node_read_note(node, message);
    if (message->kind == KITH_CORE_APPEND)
        status =
            prepare(node, message->append.previous_index + 1, message->append.entries, message->append.count);
    if (status != KITH_OK) { /* as if it had been lost on its way: it comes again */
        drop_prepared(node);
        return;
    }
    status = kith_core_receive(node->core, node->now_ms, message, &update);
    if (status == KITH_OK) {
        node_carry_out(node, &update);
        return;
    }
    drop_prepared(node);
    node_fail(node, status, "a message of node %" PRIu64 " cannot be taken in", message->peer);
    node_advance(node);
}

static void fail_by_log(struct kith_node *node, int failure, const struct kith_error *why)
{
    node->failure = failure;
    node->poll_now = true;
    kith_error_set(
        &node->failure_text, failure, "%s%s", why->text,
        node->durability == KITH_DURABILITY_ALWAYS
            ? ""
            : ". What was written last is only in memory: SAVE (with room on the disk) makes it safe");
}

/* For the next recovery. Where members do not sync, what is committed may yet be lost; and while the log has yet to take
 * entries back, what is synced are others than those that are committed in their place. */
static void note_committed(struct kith_node *node, uint64_t synced, uint64_t truncations)
{
    uint64_t index = kith_core_commit_index(node->core);
    if (node->log && truncations == node->truncations && node->in_group &&
        node->durability == KITH_DURABILITY_ALWAYS && node->failure == KITH_OK)
        kith_log_set_committed(node->log, index < synced ? index : synced);
}

/* Without a sync per group, what was handed over counts as there. */
void node_take_progress(struct kith_node *node)
{
    struct kith_core_update update;
    struct kith_error why;
    uint64_t truncations = node->truncations, index = kith_core_last_index(node->core);
    int failure = KITH_OK;
    if (node->log) {
        uint64_t count;
        failure =
            kith_log_failure(node->log, &why); /* before the index: what was synced before it failed counts */
        uint64_t synced = kith_log_synced(node->log, &count);
        if (node->durability == KITH_DURABILITY_ALWAYS || failure != KITH_OK) {
            index = synced;
            truncations = count;
        }
    }
    if (node->failure == KITH_OK) {
        int status = kith_core_persisted(node->core, node->now_ms, index, truncations, &update);
        if (status == KITH_OK)
            node_carry_out(node, &update);
        else
            node_fail(node, status, "entry %" PRIu64 " could not be committed", index);
    }
    note_committed(node, index, truncations);
    if (failure != KITH_OK && node->failure == KITH_OK)
        fail_by_log(node, failure, &why);
    node_advance(node);
}

void node_take_time(struct kith_node *node)
{
    struct kith_core_update update;
    if (node->failure != KITH_OK || node->removed || node->now_ms < kith_core_timeout_at(node->core) ||
        node->now_ms < node->core_not_before_ms)
        return;
    node->core_not_before_ms =
        node->now_ms + 1; /* a node that may not stand for election lets it be due for ever */
    int status = kith_core_timeout(node->core, node->now_ms, &update);
    if (status == KITH_OK)
        node_carry_out(node, &update);
    else
        node_fail(node, status, "the node cannot go on");
    node_advance(node);
}
