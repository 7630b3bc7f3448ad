/* Messages that come in, and the guards in front of libraft's core. */
#include "base/assert.h"
#include "repl/core_internal.h"

#include <stdlib.h>

/* Copies payloads next to each other: what libraft frees, when it drops the entries, is one batch. */
static int copy_batch(struct kith_core *core, const struct kith_core_entry *entries, uint32_t count)
{
    size_t bytes = 0;
    int status = core_reserve_entries(core, count);
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
    /* Guard: entries at or below our snapshot overflow the trail, and their terms are no longer known. They are in the
     * snapshot: count them as there. (Entries while an installation runs the core drops itself.) */
    uint64_t ours = r->trail.snapshot.index;
    if (CORE_GUARDED(CORE_GUARD_COVERED) && a->prev_log_index + skip < ours) {
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
    while (end < count &&
           (!CORE_GUARDED(CORE_GUARD_CHANGE_FIRST) || entries[end].kind != KITH_ENTRY_CONFIGURATION))
        end++;
    a->n_entries = end - skip;
    /* Guard: entries that come again, with news of what is committed beyond them, take the commit index back to them. */
    if (a->prev_log_index + a->n_entries < r->commit_index && a->leader_commit > r->commit_index)
        a->leader_commit = r->commit_index;
    for (uint32_t i = skip; i < end; i++)
        if (entries[i].kind == KITH_ENTRY_CONFIGURATION && !core_is_configuration(entries[i].payload))
            return KITH_ECORRUPT;
    if (a->n_entries) {
        int status = copy_batch(core, entries + skip, a->n_entries);
        if (status != KITH_OK)
            return status;
        a->entries = core->raft_entries;
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = to};
    int status = core_step(core, &event, update);
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
        core_no_update(core, update);
        return KITH_OK;
    }
    struct raft_install_snapshot *i = &to->install_snapshot;
    *i = (struct raft_install_snapshot){.version = m->version,
                                        .term = m->term,
                                        .last_index = m->install.index,
                                        .last_term = m->install.term,
                                        .conf_index = m->install.configuration_index};
    int status = core_decode_configuration(&i->conf, m->install.configuration);
    if (status != KITH_OK)
        return status;
    i->data.base =
        raft_malloc(1); /* the files travel beside the message; libraft only wants something to free */
    if (!i->data.base) {
        raft_configuration_close(&i->conf);
        return KITH_ENOMEM;
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = to};
    return core_step(core, &event, update);
}

/* Guard: the core answers a stale append or installation with an index it never set: a false acknowledgement. The right
 * answer is a rejection with our term. Without any, a node that lost a vote in a later term than its leader's would never
 * be led again: it takes no older append in, and nobody hears of its term. */
static bool is_of_old_term(const struct kith_core *core, const struct kith_core_message *m)
{
    return CORE_GUARDED(CORE_GUARD_OLD_TERM) &&
           (m->kind == KITH_CORE_APPEND || m->kind == KITH_CORE_INSTALL) && m->term < core->raft.current_term;
}

static void reject(struct kith_core *core, const struct kith_core_message *m, struct kith_core_update *update)
{
    core_no_update(core, update);
    if (!CORE_GUARDED(CORE_GUARD_OLD_TERM_ANSWER))
        return;
    core->rejection = (struct kith_core_message){.kind = KITH_CORE_APPEND_RESULT,
                                                 .version = 1,
                                                 .peer = m->peer,
                                                 .peer_address = m->peer_address,
                                                 .term = core->raft.current_term};
    uint64_t rejected = m->kind == KITH_CORE_APPEND ? m->append.previous_index : m->install.index;
    core->rejection.append_result.rejected = rejected ? rejected : 1; /* 0 would acknowledge our whole log */
    core->rejection.append_result.last_index = core->last_index;
    update->messages = &core->rejection;
    update->message_count = 1;
}

/* A guard that drops a whole message. */
static bool is_stale(const struct kith_core *core, const struct kith_core_message *m)
{
    const struct raft *r = &core->raft;
    /* A late rejection of what the follower has confirmed since makes next_index fall below match_index, and
     * the follower starves. One of a later term is not about the log: it ends this leader. */
    raft_index match = 0;
    return CORE_GUARDED(CORE_GUARD_LATE_REJECTION) && m->kind == KITH_CORE_APPEND_RESULT &&
           r->state == RAFT_LEADER && m->append_result.rejected > 0 && m->term <= r->current_term &&
           raft_match_index(r, m->peer, &match) == 0 && m->append_result.rejected <= match;
}

/* Guard: the core does not vote while its own log does not make it a voter. But the entry that does may be with the
 * candidate alone, which then waits for this very vote: a group of one that takes in a second voter and stops at that
 * moment would never have a leader again. Servers vote without looking at their configuration (Raft thesis 4.1). Nor does
 * the core ever let a standby forget its leader, for whose sake it would refuse: the time does. */
static int receive_vote(struct kith_core *core, struct raft_message *to, struct kith_core_update *update)
{
    struct raft_configuration *c = &core->raft.configuration;
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = to};
    unsigned i = 0;
    while (i < c->n && c->servers[i].id != core->raft.id)
        i++;
    if (i == c->n || c->servers[i].role == RAFT_VOTER || !CORE_GUARDED(CORE_GUARD_STANDBY_VOTES))
        return core_step(core, &event, update);
    int role = c->servers[i].role;
    if (core->now - core->raft.election_timer_start >= core->raft.election_timeout)
        to->request_vote.disrupt_leader = true;
    c->servers[i].role = RAFT_VOTER;
    int status = core_step(core, &event, update);
    c->servers[i].role = role; /* a vote changes no configuration */
    return status;
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
    core_convert_incoming(&to, m);
    if (m->kind == KITH_CORE_VOTE)
        return receive_vote(core, &to, update);
    struct raft_event event = {.type = RAFT_RECEIVE, .receive.message = &to};
    return core_step(core, &event, update);
}

int kith_core_receive(struct kith_core *core, uint64_t now_ms, const struct kith_core_message *message,
                      struct kith_core_update *update)
{
    core_begin_event(core, now_ms);
    core->received = 0;
    if (is_of_old_term(core, message)) {
        reject(core, message, update);
        return KITH_OK;
    }
    if (is_stale(core, message)) {
        core_no_update(core, update);
        return KITH_OK;
    }
    return receive_rest(core, message, update);
}

void kith_core_heard_leader(struct kith_core *core, uint64_t now_ms)
{
    if (now_ms + 1000 > core->now)
        core->now = now_ms + 1000;
    if (core->raft.state == RAFT_FOLLOWER)
        core->raft.election_timer_start = core->now;
}

void kith_core_lost_leader(struct kith_core *core, uint64_t now_ms, unsigned wait_ms)
{
    struct raft *r = &core->raft;
    if (now_ms + 1000 > core->now)
        core->now = now_ms + 1000;
    if (r->state != RAFT_FOLLOWER)
        return;
    uint64_t timeout_ms = r->follower_state.randomized_election_timeout, due_ms = core->now + wait_ms;
    if (due_ms >= timeout_ms && due_ms - timeout_ms < r->election_timer_start)
        r->election_timer_start = due_ms - timeout_ms;
}

int kith_core_continue(struct kith_core *core, struct kith_core_update *update)
{
    const struct kith_core_message *m = core->receiving;
    uint32_t received = core->received;
    KITH_ASSERT(m);
    core_begin_event(core, core->now - 1000);
    core->received = received;
    if (is_of_old_term(core, m) || is_stale(core, m)) {
        core_no_update(core, update);
        return KITH_OK;
    }
    return receive_rest(core, m, update);
}
