/* The adapter to libraft's raft_step(), with the guards its core needs. libraft keeps only terms of entries
 * (its "trail"), never their payloads; what crosses this file in either direction is borrowed or copied here.
 */
#include "repl/core.h"

#include "base/assert.h"
#include "base/varint.h"

#include <raft.h>
#include <stdlib.h>

static_assert(RAFT_VERSION_NUMBER / 100 == 22, "the guards below were found against 0.22");
static_assert((int)KITH_ENTRY_COMMAND == RAFT_COMMAND && (int)KITH_ENTRY_BARRIER == RAFT_BARRIER &&
                  (int)KITH_ENTRY_CONFIGURATION == RAFT_CHANGE,
              "kinds are handed through");
static_assert((int)KITH_CORE_APPEND == RAFT_APPEND_ENTRIES && (int)KITH_CORE_TIMEOUT_NOW == RAFT_TIMEOUT_NOW,
              "kinds are handed through");
static_assert((int)KITH_CORE_STANDBY == RAFT_STANDBY && (int)KITH_CORE_SPARE == RAFT_SPARE,
              "roles are handed through");

struct payload {
    struct payload *next;
    char bytes[];
};

struct kith_core {
    struct raft raft;
    struct raft_entry *loaded; /* before start */
    struct payload *payloads;  /* of the configurations among them */
    uint64_t loaded_count, loaded_capacity;

    struct raft_entry *raft_entries; /* of the running submit or receive */
    struct kith_core_entry *entries; /* of the last update */
    size_t entries_capacity;
    struct kith_core_message *messages;
    size_t messages_capacity;
    void *batch; /* payload copies of the last receive */

    uint64_t truncations; /* issued in updates of this run */
    uint64_t last_index;  /* of the log as the driver knows it */
    bool snapshot_held;   /* an installation runs; metadata below */
    struct raft_snapshot_metadata held;
    struct kith_core_snapshot install;
    void *install_configuration;

    const struct kith_core_message *receiving; /* with `more`: what is left of it */
    uint32_t received;
    uint64_t now;
    enum kith_core_role role;
};

static int status_of(int rv)
{
    switch (rv) {
    case 0:
        return KITH_OK;
    case RAFT_NOMEM:
        return KITH_ENOMEM;
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
        return KITH_EAGAIN;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
        return KITH_EBUSY;
    case RAFT_MALFORMED:
    case RAFT_CORRUPT:
    case RAFT_SHUTDOWN: /* a committed entry conflicts: never apply anything again */
        return KITH_ECORRUPT;
    case RAFT_NOSPACE:
        return KITH_ENOSPC;
    default:
        return KITH_EINVAL;
    }
}

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

/* --- configurations
 * ---------------------------------------------------------------------------------------------- */

/* libraft's decoder believes every length, and walks past the end. Its encoding: u8 1, u64 count, then for each member
 * u64 id, the address with its NUL, u8 role. */
static bool is_configuration(struct kith_slice encoded)
{
    struct kith_reader r = kith_reader(encoded);
    bool good = kith_reader_u8(&r) == 1;
    uint64_t count = kith_reader_u64(&r);
    for (uint64_t i = 0; i < count && good && !r.failed; i++) {
        good = kith_reader_u64(&r) != 0;
        const char *end = r.length ? memchr(r.data, 0, r.length) : NULL;
        good = good && end;
        if (good)
            kith_reader_bytes(&r, (uint64_t)(end - r.data) + 1);
        good = good && kith_reader_u8(&r) <= KITH_CORE_SPARE;
    }
    return good && !r.failed;
}

static int decode_configuration(struct raft_configuration *out, struct kith_slice encoded)
{
    struct raft_buffer buffer = {(void *)encoded.data, encoded.length};
    int rv = is_configuration(encoded) ? raft_configuration_decode(&buffer, out) : RAFT_MALFORMED;
    if (rv != 0)
        raft_configuration_init(out);
    return status_of(rv);
}

static int encode_configuration(struct kith_slice *out, const struct raft_configuration *configuration)
{
    struct raft_buffer buffer;
    int rv = raft_configuration_encode(configuration, &buffer);
    if (rv == 0)
        *out = kith_slice(buffer.base, buffer.len);
    return status_of(rv);
}

int kith_core_encode_single(struct kith_slice *out, uint64_t node_id, const char *address)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int status = status_of(raft_configuration_add(&configuration, node_id, address, RAFT_VOTER));
    if (status == KITH_OK)
        status = encode_configuration(out, &configuration);
    raft_configuration_close(&configuration);
    return status;
}

int kith_core_encode_configuration(const struct kith_core *core, struct kith_slice *out, uint64_t *index)
{
    *index = core->raft.configuration_committed_index;
    return encode_configuration(out, &core->raft.configuration_committed);
}

/* --- the object
 * ---------------------------------------------------------------------------------------------------- */

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
        if (!is_configuration(payload))
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

/* --- updates
 * ------------------------------------------------------------------------------------------------------- */

static int reserve_entries(struct kith_core *core, size_t count)
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

static void convert_message(struct kith_core *core, struct kith_core_message *out,
                            const struct raft_message *m)
{
    *out = (struct kith_core_message){.kind = (enum kith_core_message_kind)m->type,
                                      .peer = m->server_id,
                                      .peer_address = m->server_address};
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        out->version = m->append_entries.version;
        out->term = m->append_entries.term;
        out->append.previous_index = m->append_entries.prev_log_index;
        out->append.previous_term = m->append_entries.prev_log_term;
        out->append.commit_index = m->append_entries.leader_commit;
        out->append.count = m->append_entries.n_entries;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        out->version = m->append_entries_result.version;
        out->term = m->append_entries_result.term;
        out->append_result.rejected = m->append_entries_result.rejected;
        out->append_result.last_index = m->append_entries_result.last_log_index;
        out->append_result.features = m->append_entries_result.features;
        out->append_result.capacity = m->append_entries_result.capacity;
        break;
    case RAFT_REQUEST_VOTE:
        out->version = m->request_vote.version;
        out->term = m->request_vote.term;
        out->vote.candidate = m->request_vote.candidate_id;
        out->vote.last_index = m->request_vote.last_log_index;
        out->vote.last_term = m->request_vote.last_log_term;
        out->vote.disrupt_leader = m->request_vote.disrupt_leader;
        out->vote.pre_vote = m->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        out->version = m->request_vote_result.version;
        out->term = m->request_vote_result.term;
        out->vote_result.granted = m->request_vote_result.vote_granted;
        out->vote_result.pre_vote = m->request_vote_result.pre_vote;
        out->vote_result.features = m->request_vote_result.features;
        out->vote_result.capacity = m->request_vote_result.capacity;
        /* Guard: the core rejects a pre-vote with the asker's own term, so that after a leadership transfer
         * an old leader asks for ever and never learns the new term. */
        if (out->vote_result.pre_vote && !out->vote_result.granted && core->raft.current_term > out->term)
            out->term = core->raft.current_term;
        break;
    case RAFT_INSTALL_SNAPSHOT:
        out->version = m->install_snapshot.version;
        out->term = m->install_snapshot.term;
        out->install.index = m->install_snapshot.last_index;
        out->install.term = m->install_snapshot.last_term;
        out->install.configuration_index = m->install_snapshot.conf_index;
        break;
    case RAFT_TIMEOUT_NOW:
        out->version = m->timeout_now.version;
        out->term = m->timeout_now.term;
        out->timeout_now.last_index = m->timeout_now.last_log_index;
        out->timeout_now.last_term = m->timeout_now.last_log_term;
        break;
    }
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
    for (unsigned i = 0; i < u->messages.n; i++)
        convert_message(core, &core->messages[i], &u->messages.batch[i]);
    update->messages = core->messages;
    update->message_count = u->messages.n;
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
    int status = encode_configuration(&encoded, &core->held.configuration);
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

static int step(struct kith_core *core, struct raft_event *event, struct kith_core_update *update)
{
    struct raft_update u;
    event->time = core->now;
    event->capacity = 0;
    u.flags = 0;
    int rv = raft_step(&core->raft, event, &u);
    /* Entries can be appended (a barrier) by an event that then fails only with KITH_ENOMEM half-way through
     * becoming leader; the driver ends the node on that. */
    if (rv != 0)
        return status_of(rv);
    enum kith_core_role role = role_of(&core->raft);
    *update = (struct kith_core_update){.term = core->raft.current_term,
                                        .voted_for = core->raft.voted_for,
                                        .commit_index = core->raft.commit_index,
                                        .role = role,
                                        .role_changed = role != core->role};
    core->role = role;
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
        if (reserve_entries(core, u.entries.n) != KITH_OK)
            return KITH_ENOMEM;
        update_entries(core, &u, update);
    }
    return KITH_OK;
}

static void begin_event(struct kith_core *core, uint64_t now_ms)
{
    free(core->batch);
    core->batch = NULL;
    core->receiving = NULL;
    if (now_ms + 1000 > core->now) /* libraft's arithmetic wants a clock that began a while ago */
        core->now = now_ms + 1000;
}

/* --- events
 * -------------------------------------------------------------------------------------------------------- */

/* The configuration in force once everything loaded counts. */
static int latest_configuration(const struct kith_core *core, const struct kith_core_snapshot *snapshot,
                                struct raft_configuration *out)
{
    for (uint64_t i = core->loaded_count; i > 0; i--) {
        const struct raft_entry *e = &core->loaded[i - 1];
        if (e->type == RAFT_CHANGE)
            return decode_configuration(out, kith_slice(e->buf.base, e->buf.len));
    }
    if (snapshot)
        return decode_configuration(out, snapshot->configuration);
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
        status = decode_configuration(&metadata.configuration, snapshot->configuration);
        metadata.index = snapshot->index;
        metadata.term = snapshot->term;
        metadata.configuration_index = snapshot->configuration_index;
        event.start.metadata = &metadata;
    }
    if (status != KITH_OK)
        return status;
    begin_event(core, now_ms);
    event.start.term = start->term + alone;
    event.start.voted_for = alone ? core->raft.id : start->voted_for;
    event.start.start_index = start->first_index;
    event.start.entries = core->loaded;
    event.start.n_entries = (unsigned)core->loaded_count;
    core->last_index = start->first_index - 1 + core->loaded_count;
    status = step(core, &event, update);
    if (status != KITH_OK && core->raft.state == RAFT_FOLLOWER)
        core->loaded = NULL; /* libraft frees it when it cannot load it, but not when the election fails */
    drop_loaded(core);
    if (status == KITH_OK)
        update->save_state |= alone;
    return status;
}

int kith_core_submit(struct kith_core *core, uint64_t now_ms, struct kith_core_entry *entries, size_t count,
                     struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_SUBMIT};
    unsigned changes = 0;
    begin_event(core, now_ms);
    int status = reserve_entries(core, count);
    if (status != KITH_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].kind == KITH_ENTRY_CONFIGURATION && !is_configuration(entries[i].payload))
            return KITH_ECORRUPT;
        /* Guard: the core finds a second change out only after it has taken in the entries before it, and keeps them. */
        if (entries[i].kind == KITH_ENTRY_CONFIGURATION && core->raft.state == RAFT_LEADER &&
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
    return step(core, &event, update);
}

static void no_update(const struct kith_core *core, struct kith_core_update *update)
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
    begin_event(core, now_ms);
    /* Guard: the core believes any index. One from before a truncation or an installation names entries that
     * are gone. */
    if (truncations != core->truncations || core->snapshot_held || index <= core->raft.last_stored) {
        no_update(core, update);
        return KITH_OK;
    }
    KITH_ASSERT(index <= core->last_index);
    event.persisted_entries.index = index;
    return step(core, &event, update);
}

/* Copies payloads next to each other: what libraft frees, when it drops the entries, is one batch. */
static int copy_batch(struct kith_core *core, const struct kith_core_entry *entries, uint32_t count)
{
    size_t bytes = 0;
    int status = reserve_entries(core, count);
    for (uint32_t i = 0; i < count; i++)
        bytes += (entries[i].payload.length + 7) & ~(size_t)7;
    char *batch = status == KITH_OK ? malloc(bytes ? bytes : 1) : NULL;
    if (!batch)
        return KITH_ENOMEM;
    core->batch = batch;
    for (uint32_t i = 0; i < count; i++) {
        size_t length = entries[i].payload.length;
        if (length)
            memcpy(batch, entries[i].payload.data, length);
        core->raft_entries[i] = (struct raft_entry){.term = entries[i].term,
                                                    .type = (enum raft_entry_type)entries[i].kind,
                                                    .buf = {batch, length},
                                                    .batch = core->batch};
        batch += (length + 7) & ~(size_t)7;
    }
    return KITH_OK;
}

static int receive_append(struct kith_core *core, const struct kith_core_message *m, struct raft_message *to,
                          struct kith_core_update *update)
{
    struct raft *r = &core->raft;
    struct raft_append_entries *a = &to->append_entries;
    *a = (struct raft_append_entries){.version = m->version,
                                      .term = m->term,
                                      .prev_log_index = m->append.previous_index,
                                      .prev_log_term = m->append.previous_term,
                                      .leader_commit = m->append.commit_index};
    const struct kith_core_entry *entries = m->append.entries;
    uint32_t count = m->append.count, skip = core->received;
    /* Guard: entries while an installation runs overflow the trail; entries at or below our snapshot too, and
     * their terms are no longer known. They are in the snapshot: count them as there. */
    if (r->snapshot.installing && count) {
        no_update(core, update);
        return KITH_OK;
    }
    uint64_t ours = r->trail.snapshot.index;
    if (a->prev_log_index + skip < ours) {
        uint64_t covered = ours - a->prev_log_index;
        skip = covered >= count ? count : (uint32_t)covered;
        a->prev_log_index = ours;
        a->prev_log_term = r->trail.snapshot.term;
    } else if (skip) {
        a->prev_log_index += skip;
        a->prev_log_term = entries[skip - 1].term;
    }
    /* Guard: in a batch the core takes the batch's first index for that of a configuration change anywhere in
     * it. So a change comes first in its batch. */
    uint32_t end = skip < count ? skip + 1 : count;
    while (end < count && entries[end].kind != KITH_ENTRY_CONFIGURATION)
        end++;
    a->n_entries = end - skip;
    for (uint32_t i = skip; i < end; i++)
        if (entries[i].kind == KITH_ENTRY_CONFIGURATION && !is_configuration(entries[i].payload))
            return KITH_ECORRUPT;
    if (a->n_entries) {
        int status = copy_batch(core, entries + skip, a->n_entries);
        if (status != KITH_OK)
            return status;
        a->entries = core->raft_entries;
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = to};
    int status = step(core, &event, update);
    if (status != KITH_OK || !update->entry_count)
        core->batch = NULL; /* libraft has freed it */
    core->received = end;
    update->more = status == KITH_OK && end < count;
    core->receiving = update->more ? m : NULL;
    return status;
}

static int receive_install(struct kith_core *core, const struct kith_core_message *m, struct raft_message *to,
                           struct kith_core_update *update)
{
    if (core->raft.snapshot.installing) { /* the core would forget to free it */
        no_update(core, update);
        return KITH_OK;
    }
    struct raft_install_snapshot *i = &to->install_snapshot;
    *i = (struct raft_install_snapshot){.version = m->version,
                                        .term = m->term,
                                        .last_index = m->install.index,
                                        .last_term = m->install.term,
                                        .conf_index = m->install.configuration_index};
    int status = decode_configuration(&i->conf, m->install.configuration);
    if (status != KITH_OK)
        return status;
    i->data.base =
        raft_malloc(1); /* the files travel beside the message; libraft only wants something to free */
    if (!i->data.base) {
        raft_configuration_close(&i->conf);
        return KITH_ENOMEM;
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = to};
    return step(core, &event, update);
}

static void fill_small(struct raft_message *to, const struct kith_core_message *m)
{
    switch (m->kind) {
    case KITH_CORE_APPEND_RESULT:
        to->append_entries_result =
            (struct raft_append_entries_result){.version = m->version,
                                                .term = m->term,
                                                .rejected = m->append_result.rejected,
                                                .last_log_index = m->append_result.last_index,
                                                .features = m->append_result.features,
                                                .capacity = m->append_result.capacity};
        break;
    case KITH_CORE_VOTE:
        to->request_vote = (struct raft_request_vote){.version = m->version,
                                                      .term = m->term,
                                                      .candidate_id = m->vote.candidate,
                                                      .last_log_index = m->vote.last_index,
                                                      .last_log_term = m->vote.last_term,
                                                      .disrupt_leader = m->vote.disrupt_leader,
                                                      .pre_vote = m->vote.pre_vote};
        break;
    case KITH_CORE_VOTE_RESULT:
        to->request_vote_result = (struct raft_request_vote_result){.version = m->version,
                                                                    .term = m->term,
                                                                    .vote_granted = m->vote_result.granted,
                                                                    .pre_vote = m->vote_result.pre_vote,
                                                                    .features = m->vote_result.features,
                                                                    .capacity = m->vote_result.capacity};
        break;
    default:
        to->timeout_now = (struct raft_timeout_now){.version = m->version,
                                                    .term = m->term,
                                                    .last_log_index = m->timeout_now.last_index,
                                                    .last_log_term = m->timeout_now.last_term};
        break;
    }
}

/* Guards that drop a whole message. */
static bool is_stale(const struct kith_core *core, const struct kith_core_message *m)
{
    const struct raft *r = &core->raft;
    /* The core answers a stale append or installation with an index it never set: a false acknowledgement. */
    if ((m->kind == KITH_CORE_APPEND || m->kind == KITH_CORE_INSTALL) && m->term < r->current_term)
        return true;
    /* A late rejection of what the follower has confirmed since makes next_index fall below match_index, and
     * the follower starves. */
    raft_index match = 0;
    return m->kind == KITH_CORE_APPEND_RESULT && r->state == RAFT_LEADER && m->append_result.rejected > 0 &&
           raft_match_index(r, m->peer, &match) == 0 && m->append_result.rejected <= match;
}

static int receive_rest(struct kith_core *core, const struct kith_core_message *m,
                        struct kith_core_update *update)
{
    struct raft_message to = {
        .type = (enum raft_message_type)m->kind, .server_id = m->peer, .server_address = m->peer_address};
    if (m->kind == KITH_CORE_APPEND)
        return receive_append(core, m, &to, update);
    if (m->kind == KITH_CORE_INSTALL)
        return receive_install(core, m, &to, update);
    fill_small(&to, m);
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = &to};
    return step(core, &event, update);
}

int kith_core_receive(struct kith_core *core, uint64_t now_ms, const struct kith_core_message *message,
                      struct kith_core_update *update)
{
    begin_event(core, now_ms);
    core->received = 0;
    if (is_stale(core, message)) {
        no_update(core, update);
        return KITH_OK;
    }
    return receive_rest(core, message, update);
}

int kith_core_continue(struct kith_core *core, struct kith_core_update *update)
{
    const struct kith_core_message *m = core->receiving;
    uint32_t received = core->received;
    KITH_ASSERT(m);
    begin_event(core, core->now - 1000);
    core->received = received;
    if (is_stale(core, m)) {
        no_update(core, update);
        return KITH_OK;
    }
    return receive_rest(core, m, update);
}

int kith_core_timeout(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    begin_event(core, now_ms);
    return step(core, &event, update);
}

int kith_core_snapshot_taken(struct kith_core *core, uint64_t now_ms,
                             const struct kith_core_snapshot *snapshot, unsigned trailing,
                             struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    begin_event(core, now_ms);
    /* Guard: the core expects an entry at this index, and none of its snapshots to be newer. */
    if (core->snapshot_held || snapshot->index <= core->raft.trail.snapshot.index ||
        snapshot->index > core->raft.commit_index) {
        no_update(core, update);
        return KITH_OK;
    }
    int status = decode_configuration(&event.snapshot.metadata.configuration, snapshot->configuration);
    if (status != KITH_OK)
        return status;
    event.snapshot.metadata.index = snapshot->index;
    event.snapshot.metadata.term = snapshot->term;
    event.snapshot.metadata.configuration_index = snapshot->configuration_index;
    event.snapshot.trailing = trailing;
    return step(core, &event, update);
}

int kith_core_installed(struct kith_core *core, uint64_t now_ms, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT};
    begin_event(core, now_ms);
    KITH_ASSERT(core->snapshot_held);
    event.persisted_snapshot.metadata = core->held;
    event.persisted_snapshot.last = true;
    core->snapshot_held = false; /* the configuration is libraft's now */
    drop_held(core);
    return step(core, &event, update);
}

int kith_core_configuration_applied(struct kith_core *core, uint64_t now_ms, uint64_t index,
                                    struct kith_slice configuration, struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration.index = index};
    begin_event(core, now_ms);
    int status = decode_configuration(&event.configuration.conf, configuration);
    return status == KITH_OK ? step(core, &event, update) : status;
}

int kith_core_transfer(struct kith_core *core, uint64_t now_ms, uint64_t node_id,
                       struct kith_core_update *update)
{
    struct raft_event event = {.type = RAFT_TRANSFER, .transfer.server_id = node_id};
    begin_event(core, now_ms);
    return step(core, &event, update);
}

/* --- what it knows
 * --------------------------------------------------------------------------------------------------- */

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
