/* The adapter to libraft's raft_step(), with the guards its core needs. libraft keeps only terms of entries
 * (its "trail"), never their payloads; what crosses this file in either direction is borrowed or copied here.
 */
#include "base/assert.h"
#include "repl/core_internal.h"

#include <stdlib.h>

static_assert(RAFT_VERSION_NUMBER / 100 == 22, "the guards below were found against 0.22");
static_assert((int)KITH_ENTRY_COMMAND == RAFT_COMMAND && (int)KITH_ENTRY_BARRIER == RAFT_BARRIER &&
                  (int)KITH_ENTRY_CONFIGURATION == RAFT_CHANGE,
              "kinds are handed through");
static_assert((int)KITH_CORE_APPEND == RAFT_APPEND_ENTRIES && (int)KITH_CORE_TIMEOUT_NOW == RAFT_TIMEOUT_NOW,
              "kinds are handed through");
static_assert((int)KITH_CORE_STANDBY == RAFT_STANDBY && (int)KITH_CORE_SPARE == RAFT_SPARE,
              "roles are handed through");

static enum kith_core_role role_of(const struct raft *r)
{
    return r->state == RAFT_LEADER      ? KITH_CORE_LEADER
           : r->state == RAFT_CANDIDATE ? KITH_CORE_CANDIDATE
                                        : KITH_CORE_FOLLOWER;
}

static bool is_only_voter(const struct raft_configuration *c, uint64_t id)
{
    bool self = false;
    for (unsigned i = 0; i < c->n; i++) {
        if (c->servers[i].role != RAFT_VOTER)
            continue;
        if (c->servers[i].id != id)
            return false;
        self = true;
    }
    return self;
}

/* --- configurations --- */

int kith_core_encode_single(struct kith_slice *out, uint64_t node_id, const char *address)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int status = core_status(raft_configuration_add(&configuration, node_id, address, RAFT_VOTER));
    if (status == KITH_OK)
        status = core_encode_configuration(out, &configuration);
    raft_configuration_close(&configuration);
    return status;
}

uint64_t kith_core_committed_configuration(const struct kith_core *core)
{
    return core->raft.configuration_committed_index;
}

int kith_core_encode_configuration(const struct kith_core *core, struct kith_slice *out, uint64_t *index)
{
    *index = core->raft.configuration_committed_index;
    return core_encode_configuration(out, &core->raft.configuration_committed);
}

/* --- the object --- */

int kith_core_open(struct kith_core **out, const struct kith_core_options *options)
{
    struct kith_core *core = calloc(1, sizeof *core);
    if (!core)
        return KITH_ENOMEM;
    struct raft *r = &core->raft;
    if (raft_init(r, NULL, NULL, options->node_id, options->address) != 0) {
        free(core);
        return KITH_ENOMEM;
    }
    r->tracer = NULL; /* formats a line at each step even when nobody reads it: 240 ns an entry */
    raft_seed(r, options->seed);
    raft_set_election_timeout(r, options->election_ms ? options->election_ms : 300);
    raft_set_heartbeat_timeout(r, options->heartbeat_ms ? options->heartbeat_ms : 50);
    raft_set_install_snapshot_timeout(r, options->install_ms ? options->install_ms : 10000);
    raft_set_pre_vote(r, true);
    raft_set_max_inflight_entries(r, options->inflight_entries ? options->inflight_entries : 1024);
    *out = core;
    return KITH_OK;
}

static void drop_loaded(struct kith_core *core)
{
    while (core->payloads) {
        struct payload *payload = core->payloads;
        core->payloads = payload->next;
        free(payload);
    }
    free(core->loaded);
    core->loaded = NULL;
    core->loaded_count = core->loaded_capacity = 0;
}

static void drop_held(struct kith_core *core)
{
    if (core->snapshot_held)
        raft_configuration_close(&core->held.configuration);
    core->snapshot_held = false;
    free(core->install_configuration);
    core->install_configuration = NULL;
}

void kith_core_close(struct kith_core *core)
{
    if (!core)
        return;
    drop_loaded(core);
    drop_held(core);
    raft_close(&core->raft, NULL);
    free(core->raft_entries);
    free(core->entries);
    free(core->messages);
    free(core->batch);
    free(core);
}

int kith_core_load_entry(struct kith_core *core, uint64_t term, enum kith_entry_kind kind,
                         struct kith_slice payload)
{
    if (core->loaded_count == core->loaded_capacity) {
        uint64_t capacity = core->loaded_capacity ? core->loaded_capacity * 2 : 256;
        void *larger = realloc(core->loaded, capacity * sizeof *core->loaded);
        if (!larger)
            return KITH_ENOMEM;
        core->loaded = larger;
        core->loaded_capacity = capacity;
    }
    struct raft_entry entry = {.term = term, .type = (enum raft_entry_type)kind};
    if (kind == KITH_ENTRY_CONFIGURATION) {
        if (!core_is_configuration(payload))
            return KITH_ECORRUPT;
        struct payload *copy = malloc(sizeof *copy + payload.length);
        if (!copy)
            return KITH_ENOMEM;
        if (payload.length)
            memcpy(copy->bytes, payload.data, payload.length);
        copy->next = core->payloads;
        core->payloads = copy;
        entry.buf = (struct raft_buffer){copy->bytes, payload.length};
    }
    core->loaded[core->loaded_count++] = entry;
    return KITH_OK;
}

void kith_core_load_truncate(struct kith_core *core, uint64_t count)
{
    if (count < core->loaded_count)
        core->loaded_count = count;
}

uint64_t kith_core_loaded_term(const struct kith_core *core, uint64_t i)
{
    return core->loaded[i].term;
}

uint64_t kith_core_loaded_count(const struct kith_core *core)
{
    return core->loaded_count;
}

/* --- updates --- */

int core_reserve_entries(struct kith_core *core, size_t count)
{
    if (count <= core->entries_capacity)
        return KITH_OK;
    size_t capacity = core->entries_capacity ? core->entries_capacity : 16;
    while (capacity < count)
        capacity *= 2;
    void *raft_entries = realloc(core->raft_entries, capacity * sizeof *core->raft_entries);
    if (raft_entries)
        core->raft_entries = raft_entries;
    void *entries = realloc(core->entries, capacity * sizeof *core->entries);
    if (entries)
        core->entries = entries;
    if (!raft_entries || !entries)
        return KITH_ENOMEM;
    core->entries_capacity = capacity;
    return KITH_OK;
}

/* Guard: the core takes a member for up to date as soon as everything is on its way to it, and offers it leadership then.
 * A member whose disk has not got it all declines in silence, and the group stands still until the transfer is given up.
 * So the offer is taken back, and the core looks again at the next acknowledgement. */
static bool is_early_offer(struct kith_core *core, const struct raft_message *m)
{
    raft_index match;
    if (!CORE_GUARDED(CORE_GUARD_EARLY_OFFER) || m->type != RAFT_TIMEOUT_NOW ||
        raft_match_index(&core->raft, m->server_id, &match) != 0 || match >= m->timeout_now.last_log_index)
        return false;
    core->raft.leader_state.transferring = false;
    return true;
}

static void update_messages(struct kith_core *core, const struct raft_update *u,
                            struct kith_core_update *update)
{
    if (u->messages.n > core->messages_capacity) {
        void *larger = realloc(core->messages, u->messages.n * sizeof *core->messages);
        if (!larger)
            return; /* messages may be lost at any time: the peers ask again */
        core->messages = larger;
        core->messages_capacity = u->messages.n;
    }
    size_t count = 0;
    for (unsigned i = 0; i < u->messages.n; i++)
        if (!is_early_offer(core, &u->messages.batch[i]))
            core_convert_outgoing(&core->messages[count++], &u->messages.batch[i], core->raft.current_term);
    update->messages = core->messages;
    update->message_count = count;
}

static void update_entries(struct kith_core *core, const struct raft_update *u,
                           struct kith_core_update *update)
{
    uint64_t first = u->entries.index;
    KITH_ASSERT(first <= core->last_index + 1 && u->entries.n <= core->entries_capacity);
    if (first <= core->last_index) {
        update->truncate_from = first;
        core->truncations++;
    }
    for (unsigned i = 0; i < u->entries.n; i++) {
        const struct raft_entry *e = &u->entries.batch[i];
        core->entries[i] = (struct kith_core_entry){.term = e->term,
                                                    .kind = (enum kith_entry_kind)e->type,
                                                    .payload = kith_slice(e->buf.base, e->buf.len)};
    }
    if (u->entries.batch == &core->raft.barrier)
        core->batch = core->raft.barrier.buf.base; /* a new leader's: ours to free once it is appended */
    core->last_index = first + u->entries.n - 1;
    update->first_index = first;
    update->entries = core->entries;
    update->entry_count = u->entries.n;
}

static int update_install(struct kith_core *core, const struct raft_update *u,
                          struct kith_core_update *update)
{
    struct kith_slice encoded;
    core->snapshot_held = true;
    core->held = u->snapshot.metadata;
    raft_free(u->snapshot.chunk.base);
    int status = core_encode_configuration(&encoded, &core->held.configuration);
    if (status != KITH_OK)
        return status;
    core->install_configuration = (void *)encoded.data;
    core->install = (struct kith_core_snapshot){.index = core->held.index,
                                                .term = core->held.term,
                                                .configuration_index = core->held.configuration_index,
                                                .configuration = encoded};
    core->last_index = core->held.index;
    core->truncations++; /* no earlier write counts any more */
    update->install = &core->install;
    return KITH_OK;
}

int core_step(struct kith_core *core, struct raft_event *event, struct kith_core_update *update)
{
    struct raft_update u;
    event->time = core->now;
    event->capacity = 0;
    u.flags = 0;
    int rv = raft_step(&core->raft, event, &u);
    /* Entries can be appended (a barrier) by an event that then fails only with KITH_ENOMEM half-way through
     * becoming leader; the driver ends the node on that. */
    if (rv != 0)
        return core_status(rv);
    enum kith_core_role role = role_of(&core->raft);
    *update = (struct kith_core_update){.term = core->raft.current_term,
                                        .voted_for = core->raft.voted_for,
                                        .commit_index = core->raft.commit_index,
                                        .role = role,
                                        .role_changed = role != core->role};
    core->role = role;
    if (update->role_changed && role == KITH_CORE_LEADER)
        core->own_first_index = core->last_index + 1; /* before what this step appends */
    if (u.flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR)))
        update->save_state = true;
    if (u.flags & (RAFT_UPDATE_MESSAGES))
        update_messages(core, &u, update);
    if (u.flags & (RAFT_UPDATE_SNAPSHOT)) {
        int status = update_install(core, &u, update);
        if (status != KITH_OK)
            return status;
    }
    if (u.flags & (RAFT_UPDATE_ENTRIES)) {
        if (core_reserve_entries(core, u.entries.n) != KITH_OK)
            return KITH_ENOMEM;
        update_entries(core, &u, update);
    }
    return KITH_OK;
}

void core_begin_event(struct kith_core *core, uint64_t now_ms)
{
    free(core->batch);
    core->batch = NULL;
    core->receiving = NULL;
    if (now_ms + 1000 > core->now) /* libraft's arithmetic wants a clock that began a while ago */
        core->now = now_ms + 1000;
}

/* --- events --- */

/* The configuration in force once everything loaded counts. */
static int latest_configuration(const struct kith_core *core, const struct kith_core_snapshot *snapshot,
                                struct raft_configuration *out)
{
    for (uint64_t i = core->loaded_count; i > 0; i--) {
        const struct raft_entry *e = &core->loaded[i - 1];
        if (e->type == RAFT_CHANGE)
            return core_decode_configuration(out, kith_slice(e->buf.base, e->buf.len));
    }
    if (snapshot)
        return core_decode_configuration(out, snapshot->configuration);
    raft_configuration_init(out);
    return KITH_OK;
}

int kith_core_start(struct kith_core *core, uint64_t now_ms, const struct kith_core_start *start,
                    struct kith_core_update *update)
{
    struct raft_configuration latest;
    struct raft_snapshot_metadata metadata;
    const struct kith_core_snapshot *snapshot = start->snapshot;
    struct raft_event event = {.type = RAFT_START};
    int status = latest_configuration(core, snapshot, &latest);
    if (status != KITH_OK)
        return status;
    if (!snapshot && core->loaded_count && core->loaded[0].type != RAFT_CHANGE)
        status = KITH_ECORRUPT; /* libraft would read a configuration out of a command */
    bool alone = is_only_voter(&latest, core->raft.id);
    raft_configuration_close(&latest);
    if (status == KITH_OK && snapshot) {
        status = core_decode_configuration(&metadata.configuration, snapshot->configuration);
        metadata.index = snapshot->index;
        metadata.term = snapshot->term;
        metadata.configuration_index = snapshot->configuration_index;
        event.start.metadata = &metadata;
    }
    if (status != KITH_OK)
        return status;
    core_begin_event(core, now_ms);
    event.start.term = start->term + alone;
    event.start.voted_for = alone ? core->raft.id : start->voted_for;
    event.start.start_index = start->first_index;
    event.start.entries = core->loaded;
    event.start.n_entries = (unsigned)core->loaded_count;
    core->last_index = start->first_index - 1 + core->loaded_count;
    status = core_step(core, &event, update);
    if (status != KITH_OK && core->raft.state == RAFT_FOLLOWER)
        core->loaded = NULL; /* libraft frees it when it cannot load it, but not when the election fails */
    drop_loaded(core);
    /* libraft lets a follower know of nothing that is committed before it hears a leader; what this node has heard of in an
     * earlier life is as true. */
    uint64_t committed = start->committed < core->last_index ? start->committed : core->last_index;
    if (status == KITH_OK && committed > core->raft.commit_index)
        update->commit_index = core->raft.commit_index = committed;
    if (status == KITH_OK)
        update->save_state |= alone;
    return status;
}

int kith_core_submit(struct kith_core *core, uint64_t now_ms, struct kith_core_entry *entries, size_t count,
                     struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    unsigned changes = 0;
    core_begin_event(core, now_ms);
    int status = core_reserve_entries(core, count);
    if (status != KITH_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].kind == KITH_ENTRY_CONFIGURATION && !core_is_configuration(entries[i].payload))
            return KITH_ECORRUPT;
        /* Guard: the core finds a second change out only after it has taken in the entries before it, and keeps them. */
        if (CORE_GUARDED(CORE_GUARD_SECOND_CHANGE) && entries[i].kind == KITH_ENTRY_CONFIGURATION &&
            core->raft.state == RAFT_LEADER &&
            (changes++ || core->raft.configuration_uncommitted_index || core->raft.leader_state.promotee_id))
            return KITH_EBUSY;
        entries[i].term = core->raft.current_term;
        core->raft_entries[i] = (struct raft_entry){
            .term = entries[i].term,
            .type = (enum raft_entry_type)entries[i].kind,
            .buf = {(void *)entries[i].payload.data, entries[i].payload.length},
        };
    }
    event.submit.entries = core->raft_entries;
    event.submit.n = (unsigned)count;
    return core_step(core, &event, update);
}

void core_no_update(const struct kith_core *core, struct kith_core_update *update)
{
    *update = (struct kith_core_update){.term = core->raft.current_term,
                                        .voted_for = core->raft.voted_for,
                                        .commit_index = core->raft.commit_index,
                                        .role = core->role};
}

int kith_core_persisted(struct kith_core *core, uint64_t now_ms, uint64_t index, uint64_t truncations,
                        struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    core_begin_event(core, now_ms);
    /* Guard: the core believes any index. One from before a truncation or an installation names entries that
     * are gone. */
    if (index <= core->raft.last_stored ||
        (CORE_GUARDED(CORE_GUARD_PERSISTED) && (truncations != core->truncations || core->snapshot_held))) {
        core_no_update(core, update);
        return KITH_OK;
    }
    KITH_ASSERT(!CORE_GUARDED(CORE_GUARD_PERSISTED) || index <= core->last_index);
    event.persisted_entries.index = index;
    return core_step(core, &event, update);
}

int kith_core_timeout(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    core_begin_event(core, now_ms);
    return core_step(core, &event, update);
}

int kith_core_snapshot_taken(struct kith_core *core, uint64_t now_ms,
                             const struct kith_core_snapshot *snapshot, unsigned trailing,
                             struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    core_begin_event(core, now_ms);
    /* Guard: the core expects an entry at this index, and none of its snapshots to be newer. */
    if (core->snapshot_held || snapshot->index <= core->raft.trail.snapshot.index ||
        snapshot->index > core->raft.commit_index) {
        core_no_update(core, update);
        return KITH_OK;
    }
    int status = core_decode_configuration(&event.snapshot.metadata.configuration, snapshot->configuration);
    if (status != KITH_OK)
        return status;
    event.snapshot.metadata.index = snapshot->index;
    event.snapshot.metadata.term = snapshot->term;
    event.snapshot.metadata.configuration_index = snapshot->configuration_index;
    event.snapshot.trailing = trailing;
    return core_step(core, &event, update);
}

int kith_core_installed(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    core_begin_event(core, now_ms);
    KITH_ASSERT(core->snapshot_held);
    event.persisted_snapshot.metadata = core->held;
    event.persisted_snapshot.last = true;
    uint64_t held_index = core->held.index;
    core->snapshot_held = false; /* the configuration is libraft's now */
    drop_held(core);
    int status = core_step(core, &event, update);
    /* Guard: short of memory the core gives the snapshot up in silence, having freed the configurations that it goes on to
     * use. */
    if (status == KITH_OK && core->raft.last_stored != held_index) {
        raft_configuration_init(&core->raft.configuration);
        raft_configuration_init(&core->raft.configuration_committed);
        return KITH_ENOMEM;
    }
    return status;
}

int kith_core_configuration_applied(struct kith_core *core, uint64_t now_ms, uint64_t index,
                                    struct kith_slice configuration, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration.index = index};
    core_begin_event(core, now_ms);
    int status = core_decode_configuration(&event.configuration.conf, configuration);
    return status == KITH_OK ? core_step(core, &event, update) : status;
}

int kith_core_transfer(struct kith_core *core, uint64_t now_ms, uint64_t node_id,
                       struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_TRANSFER, .transfer.server_id = node_id};
    core_begin_event(core, now_ms);
    return core_step(core, &event, update);
}

/* --- what it knows --- */

uint64_t kith_core_term(const struct kith_core *core)
{
    return core->raft.current_term;
}

uint64_t kith_core_last_index(const struct kith_core *core)
{
    return core->last_index;
}

uint64_t kith_core_commit_index(const struct kith_core *core)
{
    return core->raft.commit_index;
}

uint64_t kith_core_snapshot_index(const struct kith_core *core)
{
    return core->raft.trail.snapshot.index;
}

enum kith_core_role kith_core_get_role(const struct kith_core *core)
{
    return core->role;
}

uint64_t kith_core_timeout_at(const struct kith_core *core)
{
    if (core->role == KITH_CORE_LEADER && core->raft.configuration.n == 1)
        return UINT64_MAX;
    uint64_t at = raft_timeout(&core->raft);
    return at > 1000 ? at - 1000 : 0;
}
