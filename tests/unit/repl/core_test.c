/* Groups of several cores in one thread, under a virtual clock and from one seed: messages are lost, doubled, delayed
 * and reordered, nodes crash with what their disks had not synced, the network parts. It is the small sister of a
 * simulator of whole nodes: what it proves is the adapter and its guards.
 * Past 800 lines, because the group, its disks and its network are one machine that every test here drives.
 *
 * Checked all the time: one leader a term, all nodes apply the same entries in the same order, nothing acknowledged is
 * lost, and once the trouble ends the group goes on. */
#include "repl/core.h"
#include "repl/members.h"

#include "base/random.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <raft.h>

enum {
    NODES_MAX = 5,
    EVENTS_MAX = 4096,
    LOG_MAX = 8192,
    OPS_MAX = 512,
    BATCH_MAX = 64,
    TERMS = 4096,
    KEPT_MAX = 60
};

struct entry {
    uint64_t term, value; /* value 0: a barrier or a configuration */
    enum kith_entry_kind kind;
};

struct snapshot {
    uint64_t index, term, configuration_index, count, hash;
};

struct log {
    uint64_t first; /* index of at[0] */
    size_t count;
    struct entry at[LOG_MAX];
};

enum op_kind { OP_APPEND, OP_TRUNCATE, OP_INSTALL, OP_TAKE };

struct op {
    enum op_kind kind;
    uint64_t index;
    size_t count;
    struct entry entries[BATCH_MAX];
    struct snapshot snapshot;
};

struct node {
    uint64_t id;
    bool alive;
    int life;
    struct kith_core *core;
    /* on the disk */
    uint64_t term, voted_for;
    struct snapshot saved;
    struct log disk;
    /* in memory */
    struct log memory;
    struct op ops[OPS_MAX];
    size_t op_head, op_count;
    uint64_t truncations; /* done by the disk in this life */
    uint64_t applied, committed, count, hash, timer;
    bool installing, taking;
};

enum event_kind {
    EVENT_MESSAGE,
    EVENT_DISK,
    EVENT_TIMER,
    EVENT_CLIENT,
    EVENT_TROUBLE,
    EVENT_RESTART,
    EVENT_HEAL
};

struct event {
    uint64_t at, order;
    enum event_kind kind;
    int node, life;
    uint64_t timer;
    struct kith_core_message message;
    struct entry entries[BATCH_MAX];
    struct snapshot snapshot;
};

struct world {
    struct kith_rng rng;
    uint64_t now, order, end_of_trouble;
    int nodes;
    bool snapshots;
    struct node node[NODES_MAX + 1];
    bool cut[NODES_MAX + 1][NODES_MAX + 1];
    struct event *heap[EVENTS_MAX];
    size_t heap_count;
    uint64_t leader_of[TERMS];
    uint64_t next_value;
    uint64_t *canonical; /* values in the order of application */
    size_t canonical_count;
    uint64_t acknowledged; /* the first so many of canonical were promised */
    struct kith_slice configuration;
    const char *broken;
};

static uint64_t below(struct world *w, uint64_t n)
{
    return kith_rng_below(&w->rng, n);
}

static bool chance(struct world *w, double p)
{
    return kith_rng_unit(&w->rng) < p;
}

static void complain(struct world *w, const char *what)
{
    if (!w->broken)
        w->broken = what;
}

/* --- the clock --- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static struct event *schedule(struct world *w, uint64_t in_ms, enum event_kind kind, int node)
{
    struct event *e = calloc(1, sizeof *e);
    e->at = w->now + in_ms;
    e->order = w->order++;
    e->kind = kind;
    e->node = node;
    e->life = node ? w->node[node].life : 0;
    if (w->heap_count == EVENTS_MAX) {
        free(e);
        static struct event lost;
        return &lost; /* an overloaded network loses messages */
    }
    size_t i = w->heap_count++;
    for (; i > 0 && before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
    return e;
}

static struct event *next_event(struct world *w)
{
    if (!w->heap_count)
        return NULL;
    struct event *first = w->heap[0], *last = w->heap[--w->heap_count];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < w->heap_count; i = child) {
        if (child + 1 < w->heap_count && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return first;
}

/* --- logs --- */

static void log_append(struct world *w, struct log *log, uint64_t index, const struct entry *entries,
                       size_t count)
{
    if (index != log->first + log->count || log->count + count > LOG_MAX) {
        complain(w, "an append leaves a gap");
        return;
    }
    memcpy(log->at + log->count, entries, count * sizeof *entries);
    log->count += count;
}

static void log_truncate(struct log *log, uint64_t index)
{
    if (index < log->first + log->count)
        log->count = index < log->first ? 0 : (size_t)(index - log->first);
}

static void log_drop(struct log *log, uint64_t up_to)
{
    if (up_to < log->first)
        return;
    size_t n = (size_t)(up_to - log->first) + 1;
    if (n > log->count)
        n = log->count;
    memmove(log->at, log->at + n, (log->count - n) * sizeof *log->at);
    log->count -= n;
    log->first += n;
}

static const struct entry *log_get(struct world *w, const struct log *log, uint64_t index)
{
    static const struct entry none;
    if (index < log->first || index >= log->first + log->count) {
        complain(w, "an entry is asked for that is not in memory");
        return &none;
    }
    return &log->at[index - log->first];
}

/* --- the driver --- */

static void carry_out(struct world *w, struct node *n, struct kith_core_update *update);

static void push_op(struct world *w, struct node *n, const struct op *op)
{
    if (n->op_count == OPS_MAX) {
        complain(w, "too many writes are waiting");
        return;
    }
    n->ops[(n->op_head + n->op_count++) % OPS_MAX] = *op;
    if (n->op_count == 1)
        schedule(w, 1 + below(w, chance(w, 0.05) ? 100 : 5), EVENT_DISK, (int)n->id);
}

static void post(struct world *w, struct node *from, const struct kith_core_message *m)
{
    int copies = w->now < w->end_of_trouble && chance(w, 0.03) ? 0 : chance(w, 0.02) ? 2 : 1;
    struct entry entries[BATCH_MAX];
    uint32_t count = m->kind == KITH_CORE_APPEND ? m->append.count : 0;
    if (count > BATCH_MAX)
        count = BATCH_MAX;
    for (uint32_t i = 0; i < count; i++)
        entries[i] = *log_get(w, &from->memory, m->append.previous_index + 1 + i);
    while (copies--) {
        struct event *e = schedule(w, 1 + below(w, chance(w, 0.05) ? 300 : 10), EVENT_MESSAGE, 0);
        e->message = *m;
        e->node = (int)m->peer;
        e->message.peer = from->id;
        if (m->kind == KITH_CORE_APPEND)
            e->message.append.count = count;
        memcpy(e->entries, entries, count * sizeof *entries);
        e->snapshot = from->saved;
    }
}

static void set_timer(struct world *w, struct node *n)
{
    uint64_t at = kith_core_timeout_at(n->core);
    n->timer++;
    schedule(w, at > w->now ? at - w->now : 1, EVENT_TIMER, (int)n->id)->timer = n->timer;
}

static void apply_value(struct world *w, struct node *n, uint64_t value)
{
    if (n->count < w->canonical_count) {
        if (w->canonical[n->count] != value)
            complain(w, "two nodes apply different entries");
    } else {
        w->canonical = realloc(w->canonical, (w->canonical_count + 1) * sizeof *w->canonical);
        w->canonical[w->canonical_count++] = value;
    }
    n->hash = n->hash * 1099511628211u + value;
    n->count++;
}

static void take_snapshot(struct world *w, struct node *n)
{
    if (!w->snapshots || n->taking || n->installing || n->applied < n->saved.index + 40 ||
        n->applied < n->memory.first)
        return;
    struct op op = {.kind = OP_TAKE};
    struct kith_slice encoded;
    op.snapshot = (struct snapshot){.index = n->applied,
                                    .term = log_get(w, &n->memory, n->applied)->term,
                                    .count = n->count,
                                    .hash = n->hash};
    assert_int_equal(kith_core_encode_configuration(n->core, &encoded, &op.snapshot.configuration_index),
                     KITH_OK);
    free((void *)encoded.data);
    n->taking = true;
    push_op(w, n, &op);
}

static void apply_committed(struct world *w, struct node *n)
{
    while (!n->installing && !w->broken && n->applied < kith_core_commit_index(n->core)) {
        struct kith_core_update update;
        if (n->applied + 1 >= n->memory.first + n->memory.count)
            break; /* committed before it came: cannot be with what is persisted first */
        struct entry e = *log_get(w, &n->memory, ++n->applied);
        if (e.kind == KITH_ENTRY_COMMAND)
            apply_value(w, n, e.value);
        else if (e.kind == KITH_ENTRY_CONFIGURATION) {
            assert_int_equal(
                kith_core_configuration_applied(n->core, w->now, n->applied, w->configuration, &update),
                KITH_OK);
            carry_out(w, n, &update);
        }
    }
    /* What the leader applied is what its clients were told. */
    if (kith_core_get_role(n->core) == KITH_CORE_LEADER && n->count > w->acknowledged)
        w->acknowledged = n->count;
    take_snapshot(w, n);
}

static void write_update(struct world *w, struct node *n, const struct kith_core_update *update)
{
    if (update->save_state) {
        n->term = update->term;
        n->voted_for = update->voted_for;
    }
    if (update->install) {
        struct op op = {.kind = OP_INSTALL, .index = update->install->index};
        op.snapshot.index = update->install->index;
        n->installing = true;
        n->memory.first = update->install->index + 1;
        n->memory.count = 0;
        push_op(w, n, &op);
    }
    if (update->truncate_from) {
        log_truncate(&n->memory, update->truncate_from);
        push_op(w, n, &(struct op){.kind = OP_TRUNCATE, .index = update->truncate_from});
    }
    if (update->entry_count) {
        struct op op = {.kind = OP_APPEND, .index = update->first_index, .count = update->entry_count};
        for (size_t i = 0; i < op.count; i++) {
            const struct kith_core_entry *e = &update->entries[i];
            op.entries[i] = (struct entry){.term = e->term, .kind = e->kind};
            if (e->kind == KITH_ENTRY_COMMAND)
                memcpy(&op.entries[i].value, e->payload.data, 8);
        }
        log_append(w, &n->memory, op.index, op.entries, op.count);
        push_op(w, n, &op);
    }
    for (size_t i = 0; i < update->message_count; i++)
        post(w, n, &update->messages[i]);
    if (update->role == KITH_CORE_LEADER && update->term < TERMS) {
        if (w->leader_of[update->term] && w->leader_of[update->term] != n->id)
            complain(w, "a term has two leaders");
        w->leader_of[update->term] = n->id;
    }
}

static void carry_out(struct world *w, struct node *n, struct kith_core_update *update)
{
    if (kith_core_commit_index(n->core) < n->committed)
        complain(w, "a commit index falls");
    n->committed = kith_core_commit_index(n->core);
    write_update(w, n, update);
    while (update->more && !w->broken) {
        assert_int_equal(kith_core_continue(n->core, update), KITH_OK);
        write_update(w, n, update);
    }
    set_timer(w, n);
    apply_committed(w, n);
}

static void receive(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->node];
    struct kith_core_message *m = &e->message;
    struct kith_core_entry entries[BATCH_MAX];
    struct kith_core_update update;
    if (!n->alive || w->cut[m->peer][n->id])
        return;
    if (m->kind == KITH_CORE_APPEND) {
        for (uint32_t i = 0; i < m->append.count; i++) {
            struct entry *x = &e->entries[i];
            entries[i] = (struct kith_core_entry){
                .term = x->term,
                .kind = x->kind,
                .payload = x->kind == KITH_ENTRY_CONFIGURATION ? w->configuration : kith_slice(&x->value, 8)};
        }
        m->append.entries = entries;
    }
    if (m->kind == KITH_CORE_INSTALL)
        m->install = (struct kith_core_snapshot){.index = e->snapshot.index,
                                                 .term = e->snapshot.term,
                                                 .configuration_index = e->snapshot.configuration_index,
                                                 .configuration = w->configuration};
    m->peer_address = "peer";
    assert_int_equal(kith_core_receive(n->core, w->now, m, &update), KITH_OK);
    struct snapshot files = e->snapshot; /* they come beside the message */
    bool install = update.install;
    carry_out(w, n, &update);
    for (size_t i = 0; install && i < n->op_count; i++) {
        struct op *op = &n->ops[(n->op_head + i) % OPS_MAX];
        if (op->kind == OP_INSTALL)
            op->snapshot = files;
    }
}

/* The durable effect of a write; shared by completion and by what a crash lets through. */
static void write_to_disk(struct world *w, struct node *n, const struct op *op)
{
    switch (op->kind) {
    case OP_APPEND:
        log_append(w, &n->disk, op->index, op->entries, op->count);
        break;
    case OP_TRUNCATE:
        log_truncate(&n->disk, op->index);
        break;
    case OP_INSTALL:
        n->saved = op->snapshot;
        n->disk.first = op->snapshot.index + 1;
        n->disk.count = 0;
        break;
    case OP_TAKE:
        if (op->snapshot.index > n->saved.index) {
            n->saved = op->snapshot;
            log_drop(&n->disk, op->snapshot.index > KEPT_MAX ? op->snapshot.index - KEPT_MAX : 0);
        }
        break;
    }
}

static void finish_install(struct world *w, struct node *n, const struct op *op,
                           struct kith_core_update *update)
{
    n->installing = false;
    n->truncations++;
    n->applied = op->snapshot.index;
    n->count = op->snapshot.count;
    n->hash = op->snapshot.hash;
    uint64_t hash = 0;
    for (size_t i = 0; i < n->count && i < w->canonical_count; i++)
        hash = hash * 1099511628211u + w->canonical[i];
    if (hash != n->hash || n->count > w->canonical_count)
        complain(w, "a snapshot holds something else");
    assert_int_equal(kith_core_installed(n->core, w->now, update), KITH_OK);
}

static void disk_done(struct world *w, struct node *n)
{
    static struct op op;
    struct kith_core_update update;
    unsigned trailing = (unsigned)below(w, 20);
    op = n->ops[n->op_head];
    n->op_head = (n->op_head + 1) % OPS_MAX;
    n->op_count--;
    write_to_disk(w, n, &op);
    if (n->op_count)
        schedule(w, 1 + below(w, 5), EVENT_DISK, (int)n->id);
    switch (op.kind) {
    case OP_APPEND:
        assert_int_equal(
            kith_core_persisted(n->core, w->now, op.index + op.count - 1, n->truncations, &update), KITH_OK);
        break;
    case OP_TRUNCATE:
        n->truncations++;
        return;
    case OP_INSTALL:
        finish_install(w, n, &op, &update);
        break;
    case OP_TAKE: {
        struct kith_core_snapshot s = {.index = op.snapshot.index,
                                       .term = op.snapshot.term,
                                       .configuration_index = op.snapshot.configuration_index,
                                       .configuration = w->configuration};
        n->taking = false;
        uint64_t held = kith_core_snapshot_index(n->core);
        assert_int_equal(kith_core_snapshot_taken(n->core, w->now, &s, trailing, &update), KITH_OK);
        if (kith_core_snapshot_index(n->core) == s.index && held < s.index && s.index > trailing &&
            !n->installing)
            log_drop(&n->memory, s.index - trailing);
        break;
    }
    }
    carry_out(w, n, &update);
}

/* --- life and death --- */

static void start(struct world *w, struct node *n)
{
    struct kith_core_options options = {
        .node_id = n->id, .address = "peer", .seed = (unsigned)below(w, 1u << 31)};
    struct kith_core_snapshot s = {.index = n->saved.index,
                                   .term = n->saved.term,
                                   .configuration_index = n->saved.configuration_index,
                                   .configuration = w->configuration};
    struct kith_core_start begin = {
        .term = n->term, .voted_for = n->voted_for, .snapshot = s.index ? &s : NULL};
    struct kith_core_update update;
    uint64_t kept = below(w, KEPT_MAX); /* entries below the snapshot, for nodes that are behind */
    assert_int_equal(kith_core_open(&n->core, &options), KITH_OK);
    log_drop(&n->disk, s.index > kept ? s.index - kept : 0);
    if (n->disk.first + n->disk.count <= s.index) { /* it ends before the snapshot */
        n->disk.first = s.index + 1;
        n->disk.count = 0;
    }
    begin.first_index = n->disk.first;
    if (n->disk.first > s.index + 1)
        complain(w, "the disk's log does not begin behind its snapshot");
    for (size_t i = 0; i < n->disk.count; i++)
        assert_int_equal(
            kith_core_load_entry(n->core, n->disk.at[i].term, n->disk.at[i].kind, w->configuration), KITH_OK);
    n->alive = true;
    n->life++;
    n->memory = n->disk;
    n->op_head = n->op_count = 0;
    n->truncations = 0;
    n->installing = n->taking = false;
    n->committed = 0;
    n->applied = n->saved.index;
    n->count = n->saved.count;
    n->hash = n->saved.hash;
    assert_int_equal(kith_core_start(n->core, w->now, &begin, &update), KITH_OK);
    carry_out(w, n, &update);
}

static void crash(struct world *w, struct node *n)
{
    if (!n->alive)
        return;
    for (uint64_t reach = below(w, 4); reach > 0 && n->op_count; reach--) {
        struct op *op = &n->ops[n->op_head];
        if (op->kind == OP_APPEND && chance(w, 0.5)) {
            op->count = (size_t)below(w, op->count + 1);
            reach = 1;
        }
        write_to_disk(w, n, op);
        n->op_head = (n->op_head + 1) % OPS_MAX;
        n->op_count--;
    }
    n->alive = false;
    n->life++;
    kith_core_close(n->core);
    n->core = NULL;
}

static void submit(struct world *w)
{
    for (int i = 1; i <= w->nodes && !w->broken; i++) {
        struct node *n = &w->node[i];
        struct kith_core_entry entries[4];
        struct kith_core_update update;
        uint64_t values[4];
        size_t count = 1 + (size_t)below(w, 4);
        if (!n->alive || kith_core_get_role(n->core) != KITH_CORE_LEADER || n->memory.count + 8 > LOG_MAX ||
            kith_core_last_index(n->core) > n->applied + 100)
            continue;
        for (size_t k = 0; k < count; k++) {
            values[k] = ++w->next_value;
            entries[k] =
                (struct kith_core_entry){.kind = KITH_ENTRY_COMMAND, .payload = kith_slice(&values[k], 8)};
        }
        /* Now and then a configuration (the same again) behind commands in one batch: what the split is for. */
        if (chance(w, 0.02))
            entries[count - 1] =
                (struct kith_core_entry){.kind = KITH_ENTRY_CONFIGURATION, .payload = w->configuration};
        if (kith_core_submit(n->core, w->now, entries, count, &update) == KITH_OK)
            carry_out(w, n, &update);
    }
    schedule(w, 1 + below(w, 12), EVENT_CLIENT, 0);
}

static void trouble(struct world *w)
{
    if (w->now >= w->end_of_trouble)
        return;
    struct node *n = &w->node[1 + below(w, (uint64_t)w->nodes)];
    struct kith_core_update update;
    switch (below(w, 5)) {
    case 0:
    case 1:
        crash(w, n);
        schedule(w, 50 + below(w, 1500), EVENT_RESTART, (int)n->id);
        break;
    case 2: {
        uint64_t side = below(w, 1u << w->nodes);
        for (int a = 1; a <= w->nodes; a++)
            for (int b = 1; b <= w->nodes; b++)
                w->cut[a][b] |= (side >> a & 1) != (side >> b & 1);
        schedule(w, 100 + below(w, 2000), EVENT_HEAL, 0);
        break;
    }
    case 3:
        w->cut[n->id][1 + below(w, (uint64_t)w->nodes)] = true;
        schedule(w, 100 + below(w, 2000), EVENT_HEAL, 0);
        break;
    default:
        if (n->alive && kith_core_transfer(n->core, w->now, 0, &update) == KITH_OK)
            carry_out(w, n, &update);
    }
    schedule(w, 100 + below(w, 900), EVENT_TROUBLE, 0);
}

static void step(struct world *w, struct event *e)
{
    struct node *n = &w->node[e->node];
    struct kith_core_update update;
    bool stale = !n->alive || e->life != n->life;
    switch (e->kind) {
    case EVENT_MESSAGE:
        receive(w, e);
        break;
    case EVENT_DISK:
        if (!stale && n->op_count)
            disk_done(w, n);
        break;
    case EVENT_TIMER:
        if (!stale && e->timer == n->timer) {
            assert_int_equal(kith_core_timeout(n->core, w->now, &update), KITH_OK);
            carry_out(w, n, &update);
        }
        break;
    case EVENT_CLIENT:
        submit(w);
        break;
    case EVENT_TROUBLE:
        trouble(w);
        break;
    case EVENT_RESTART:
        if (!n->alive)
            start(w, n);
        break;
    case EVENT_HEAL:
        memset(w->cut, 0, sizeof w->cut);
        break;
    }
}

static struct kith_slice configuration_of(int nodes)
{
    struct raft_configuration c;
    struct raft_buffer b;
    raft_configuration_init(&c);
    for (int i = 1; i <= nodes; i++) {
        char address[16];
        snprintf(address, sizeof address, "node%d", i);
        assert_int_equal(raft_configuration_add(&c, (raft_id)i, address, RAFT_VOTER), 0);
    }
    assert_int_equal(raft_configuration_encode(&c, &b), 0);
    raft_configuration_close(&c);
    return kith_slice(b.base, b.len);
}

/* Returns how many entries all nodes applied in the end. */
static uint64_t run(uint64_t seed, int nodes, bool snapshots)
{
    struct world *w = calloc(1, sizeof *w);
    struct event *e;
    kith_rng_seed(&w->rng, seed);
    w->nodes = nodes;
    w->snapshots = snapshots;
    w->end_of_trouble = 12000;
    w->configuration = configuration_of(nodes);
    for (int i = 1; i <= nodes; i++) {
        struct node *n = &w->node[i];
        *n = (struct node){.id = (uint64_t)i, .term = 1, .disk.first = 1};
        n->disk.at[n->disk.count++] = (struct entry){.term = 1, .kind = KITH_ENTRY_CONFIGURATION};
        start(w, n);
    }
    schedule(w, 1, EVENT_CLIENT, 0);
    schedule(w, 500, EVENT_TROUBLE, 0);
    uint64_t settled = 0;
    while (!w->broken && (e = next_event(w)) && e->at < w->end_of_trouble + 6000) {
        if (w->now < w->end_of_trouble + 4000)
            settled = w->canonical_count;
        w->now = e->at;
        step(w, e);
        free(e);
    }
    if (!w->broken) {
        free(e);
        if (w->canonical_count <= settled)
            complain(w, "no progress after the trouble");
        for (int i = 1; i <= nodes; i++)
            if (!w->node[i].alive || w->node[i].count + 200 < w->acknowledged)
                complain(w, "a node stays behind");
    }
    for (size_t i = 1; i < w->canonical_count; i++)
        for (size_t k = i > 50 ? i - 50 : 0; k < i; k++)
            if (w->canonical[i] == w->canonical[k])
                complain(w, "an entry is applied twice");
    if (w->broken)
        fail_msg("seed %llu, %d nodes: %s at %llu ms", (unsigned long long)seed, nodes, w->broken,
                 (unsigned long long)w->now);
    uint64_t result = w->acknowledged;
    while ((e = next_event(w)))
        free(e);
    for (int i = 1; i <= nodes; i++)
        kith_core_close(w->node[i].core);
    free((void *)w->configuration.data);
    free(w->canonical);
    free(w);
    return result;
}

static void groups_agree_through_all_trouble(void **state)
{
    uint64_t total = 0;
    for (uint64_t seed = 1; seed <= 12; seed++)
        total += run(seed, 3, false) + run(seed, 3, true) + run(seed, 5, true);
    print_message("%llu entries acknowledged in 36 runs\n", (unsigned long long)total);
    assert_true(total > 20000);
}

static void a_group_of_one_elects_itself_and_counts_its_term_up(void **state)
{
    struct kith_core_options options = {.node_id = 9, .address = "self"};
    struct kith_core_start begin = {.term = 4, .voted_for = 9, .first_index = 1};
    struct kith_core_update update;
    struct kith_core *core;
    struct kith_slice configuration;
    assert_int_equal(kith_core_encode_single(&configuration, 9, "self"), KITH_OK);
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, configuration), KITH_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(kith_core_load_entry(core, 4, KITH_ENTRY_COMMAND, KITH_SLICE("")), KITH_OK);
    kith_core_load_truncate(core, 8);
    assert_int_equal(kith_core_start(core, 5, &begin, &update), KITH_OK);
    assert_int_equal(update.role, KITH_CORE_LEADER);
    assert_true(update.save_state);
    assert_int_equal(update.term, 5);
    assert_int_equal(update.voted_for, 9);
    assert_int_equal(update.commit_index, 8);
    assert_true(kith_core_timeout_at(core) == UINT64_MAX);

    struct kith_core_entry entry = {.kind = KITH_ENTRY_COMMAND, .payload = KITH_SLICE("x")};
    assert_int_equal(kith_core_submit(core, 6, &entry, 1, &update), KITH_OK);
    assert_int_equal(update.first_index, 9);
    assert_int_equal(entry.term, 5);
    assert_ptr_equal(update.entries[0].payload.data, entry.payload.data); /* no copy */
    assert_int_equal(update.commit_index, 8);
    assert_int_equal(kith_core_persisted(core, 7, 9, 1, &update),
                     KITH_OK); /* of a truncation that never was */
    assert_int_equal(update.commit_index, 8);
    assert_int_equal(kith_core_persisted(core, 7, 9, 0, &update), KITH_OK);
    assert_int_equal(update.commit_index, 9);
    kith_core_close(core);
    free((void *)configuration.data);
}

static void damaged_configurations_are_refused(void **state)
{
    struct kith_core_options options = {.node_id = 9, .address = "self"};
    struct kith_core_start begin = {.term = 4, .first_index = 1};
    struct kith_core_update update;
    struct kith_slice configuration;
    assert_int_equal(kith_core_encode_single(&configuration, 9, "self"), KITH_OK);
    for (size_t length = 0; length <= configuration.length; length++) {
        struct kith_core *core;
        char *exact = malloc(length + 1); /* so that a step past the end is seen */
        memcpy(exact, configuration.data, length);
        assert_int_equal(kith_core_open(&core, &options), KITH_OK);
        int status = kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, kith_slice(exact, length));
        assert_int_equal(status,
                         length + 8 > configuration.length && status == KITH_OK ? KITH_OK : KITH_ECORRUPT);
        if (length == configuration.length)
            assert_int_equal(status, KITH_OK);
        if (status == KITH_OK)
            assert_int_equal(kith_core_start(core, 5, &begin, &update), KITH_OK);
        free(exact);
        kith_core_close(core);
    }
    struct kith_core *core;
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_COMMAND, KITH_SLICE("")), KITH_OK);
    assert_int_equal(kith_core_start(core, 5, &begin, &update), KITH_ECORRUPT);
    kith_core_close(core);
    free((void *)configuration.data);
}

/* --- the guards, one by one --- */

static struct kith_slice three;

/* Node 2 of three, in term 5, with nothing but the first configuration in its log. */
static struct kith_core *one_of_three(void)
{
    struct kith_core_options options = {.node_id = 2, .address = "node2"};
    struct kith_core_start begin = {.term = 5, .first_index = 1};
    struct kith_core_update update;
    struct kith_core *core;
    if (!three.data)
        three = configuration_of(3);
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, three), KITH_OK);
    assert_int_equal(kith_core_start(core, 0, &begin, &update), KITH_OK);
    assert_int_equal(update.role, KITH_CORE_FOLLOWER);
    assert_false(update.save_state);
    return core;
}

static struct kith_core_message message_from(uint64_t peer, enum kith_core_message_kind kind, uint64_t term)
{
    return (struct kith_core_message){.kind = kind, .peer = peer, .peer_address = "node", .term = term};
}

static void command(struct kith_core_entry *entry)
{
    *entry =
        (struct kith_core_entry){.term = 5, .kind = KITH_ENTRY_COMMAND, .payload = KITH_SLICE("command!")};
}

static struct kith_core_message append_of(uint64_t previous, uint64_t previous_term, uint64_t commit,
                                          const struct kith_core_entry *entries, uint32_t count)
{
    struct kith_core_message m = message_from(1, KITH_CORE_APPEND, 5);
    m.append.previous_index = previous;
    m.append.previous_term = previous_term;
    m.append.commit_index = commit;
    m.append.entries = entries;
    m.append.count = count;
    return m;
}

static void a_stale_append_is_rejected_with_our_term(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_message m = append_of(1, 1, 0, NULL, 0);
    m.term = 3;
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(update.message_count, 1);
    assert_int_equal(update.messages[0].kind, KITH_CORE_APPEND_RESULT);
    assert_int_equal(update.messages[0].peer, 1);
    assert_int_equal(update.messages[0].term, 5);
    assert_int_equal(update.messages[0].append_result.rejected, 1);
    m.append.previous_index = m.append.previous_term = 0;
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(update.messages[0].append_result.rejected, 1); /* 0 would be an acknowledgement */
    m = message_from(1, KITH_CORE_INSTALL, 3);
    m.install =
        (struct kith_core_snapshot){.index = 9, .term = 3, .configuration_index = 1, .configuration = three};
    assert_int_equal(kith_core_receive(core, 11, &m, &update), KITH_OK);
    assert_null(update.install);
    assert_int_equal(update.messages[0].append_result.rejected, 9);
    kith_core_close(core);
}

/* Node 2 is a standby as far as it knows, and its leader made it a voter in an entry that never left it. */
static void a_standby_votes_as_soon_as_its_leader_is_silent(void **state)
{
    struct kith_core_options options = {.node_id = 2, .address = "node2"};
    struct kith_core_start begin = {.term = 5, .first_index = 1};
    struct kith_core_update update;
    struct kith_core *core;
    struct raft_configuration c;
    struct raft_buffer b;
    raft_configuration_init(&c);
    assert_int_equal(raft_configuration_add(&c, 1, "node1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&c, 2, "node2", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_encode(&c, &b), 0);
    raft_configuration_close(&c);
    assert_int_equal(kith_core_open(&core, &options), KITH_OK);
    assert_int_equal(kith_core_load_entry(core, 1, KITH_ENTRY_CONFIGURATION, kith_slice(b.base, b.len)),
                     KITH_OK);
    raft_free(b.base);
    assert_int_equal(kith_core_start(core, 0, &begin, &update), KITH_OK);
    struct kith_core_message m = append_of(1, 1, 0, NULL, 0);
    assert_int_equal(kith_core_receive(core, 1000, &m, &update), KITH_OK);
    m = message_from(1, KITH_CORE_VOTE, 6);
    m.version = 2;
    m.vote.candidate = 1;
    m.vote.last_index = 2;
    m.vote.last_term = 5;
    m.vote.pre_vote = true;
    assert_int_equal(kith_core_receive(core, 1100, &m, &update), KITH_OK);
    assert_false(update.messages[0].vote_result.granted); /* it was heard only now */
    assert_int_equal(kith_core_receive(core, 1400, &m, &update), KITH_OK);
    assert_true(update.messages[0].vote_result.granted);
    m.vote.pre_vote = false;
    assert_int_equal(kith_core_receive(core, 1401, &m, &update), KITH_OK);
    assert_true(update.messages[0].vote_result.granted);
    assert_true(update.save_state);
    assert_int_equal(update.voted_for, 1);
    m.vote.last_index = 0;
    m.vote.last_term = 0; /* a log that is older than ours does not win */
    m.term = 7;
    assert_int_equal(kith_core_receive(core, 2000, &m, &update), KITH_OK);
    assert_false(update.messages[0].vote_result.granted);
    kith_core_close(core);
}

static void a_configuration_within_a_batch_gets_its_own_index(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_entry entries[3];
    uint64_t index;
    struct kith_slice encoded;
    command(&entries[0]);
    entries[1] = (struct kith_core_entry){.term = 5, .kind = KITH_ENTRY_CONFIGURATION, .payload = three};
    command(&entries[2]);
    struct kith_core_message m = append_of(1, 1, 0, entries, 3);
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(update.first_index, 2);
    assert_int_equal(update.entry_count, 1);
    assert_true(update.more);
    assert_int_equal(kith_core_continue(core, &update), KITH_OK);
    assert_int_equal(update.first_index, 3);
    assert_int_equal(update.entry_count, 2);
    assert_false(update.more);
    assert_int_equal(kith_core_persisted(core, 11, 4, 0, &update), KITH_OK);
    assert_int_equal(update.message_count, 1);
    assert_int_equal(update.messages[0].append_result.last_index, 4);
    m = append_of(4, 5, 4, NULL, 0);
    assert_int_equal(kith_core_receive(core, 12, &m, &update), KITH_OK);
    assert_int_equal(update.commit_index, 4);
    assert_int_equal(kith_core_configuration_applied(core, 13, 3, three, &update), KITH_OK);
    assert_int_equal(kith_core_encode_configuration(core, &encoded, &index), KITH_OK);
    assert_int_equal(index, 3);
    free((void *)encoded.data);
    kith_core_close(core);
}

static void entries_that_our_snapshot_covers_are_left_out(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_entry entries[4];
    for (int i = 0; i < 4; i++)
        command(&entries[i]);
    struct kith_core_message m = append_of(1, 1, 3, entries, 2);
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(kith_core_persisted(core, 11, 3, 0, &update), KITH_OK);
    struct kith_core_snapshot s = {.index = 3, .term = 5, .configuration_index = 1, .configuration = three};
    assert_int_equal(kith_core_snapshot_taken(core, 12, &s, 0, &update), KITH_OK);
    assert_int_equal(kith_core_snapshot_index(core), 3);
    assert_int_equal(kith_core_snapshot_taken(core, 12, &s, 0, &update), KITH_OK); /* again: no harm */
    m = append_of(1, 1, 3, entries, 3); /* 2 and 3 are covered, 4 is new */
    assert_int_equal(kith_core_receive(core, 13, &m, &update), KITH_OK);
    assert_int_equal(update.first_index, 4);
    assert_int_equal(update.entry_count, 1);
    m = append_of(1, 1, 3, entries, 1); /* all covered: answered like a heartbeat */
    assert_int_equal(kith_core_receive(core, 14, &m, &update), KITH_OK);
    assert_int_equal(update.entry_count, 0);
    assert_int_equal(update.message_count, 1);
    assert_int_equal(update.messages[0].append_result.rejected, 0);
    kith_core_close(core);
}

static void while_a_snapshot_is_installed_entries_wait(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_entry entry;
    command(&entry);
    struct kith_core_message m = message_from(1, KITH_CORE_INSTALL, 5);
    m.install = (struct kith_core_snapshot){
        .index = 100, .term = 4, .configuration_index = 1, .configuration = three};
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_non_null(update.install);
    assert_int_equal(update.install->index, 100);
    assert_int_equal(kith_core_receive(core, 11, &m, &update), KITH_OK); /* asked again */
    assert_null(update.install);
    struct kith_core_message a = append_of(100, 4, 100, &entry, 1);
    assert_int_equal(kith_core_receive(core, 12, &a, &update), KITH_OK);
    assert_int_equal(update.entry_count, 0);
    assert_int_equal(update.message_count, 0);
    assert_int_equal(kith_core_persisted(core, 13, 1, 0, &update), KITH_OK); /* from before: overtaken */
    assert_int_equal(kith_core_installed(core, 14, &update), KITH_OK);
    assert_int_equal(update.commit_index, 100);
    assert_int_equal(kith_core_receive(core, 15, &a, &update), KITH_OK);
    assert_int_equal(update.first_index, 101);
    kith_core_close(core);
}

/* Found by the simulator: seed 18. */
static void entries_that_come_again_do_not_take_the_commit_index_back(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_entry entries[5];
    for (int i = 0; i < 5; i++)
        command(&entries[i]);
    struct kith_core_message m = append_of(1, 1, 6, entries, 5);
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(kith_core_persisted(core, 11, 6, 0, &update), KITH_OK);
    m = append_of(6, 5, 6, NULL, 0);
    assert_int_equal(kith_core_receive(core, 12, &m, &update), KITH_OK);
    assert_int_equal(update.commit_index, 6);
    m = append_of(1, 1, 7, entries, 2); /* sent again when the leader had committed one more */
    assert_int_equal(kith_core_receive(core, 13, &m, &update), KITH_OK);
    assert_int_equal(update.commit_index, 6);
    kith_core_close(core);
}

static void a_refused_pre_vote_tells_our_term(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_message m = message_from(3, KITH_CORE_VOTE, 3);
    m.version = 2;
    m.vote.candidate = 3;
    m.vote.last_index = 9;
    m.vote.last_term = 2;
    m.vote.pre_vote = true;
    assert_int_equal(kith_core_receive(core, 10, &m, &update), KITH_OK);
    assert_int_equal(update.message_count, 1);
    assert_false(update.messages[0].vote_result.granted);
    assert_int_equal(update.messages[0].term, 5);
    kith_core_close(core);
}

/* The same one leads term 6, by the vote of node 1. Returns the time. */
static uint64_t elect(struct kith_core *core)
{
    struct kith_core_update update;
    uint64_t now = kith_core_timeout_at(core);
    assert_int_equal(kith_core_timeout(core, now, &update), KITH_OK);
    assert_int_equal(update.role, KITH_CORE_CANDIDATE);
    for (int pre = 1; pre >= 0; pre--) {
        struct kith_core_message vote = message_from(1, KITH_CORE_VOTE_RESULT, 6 - (uint64_t)pre);
        vote.version = 2;
        vote.vote_result.granted = true;
        vote.vote_result.pre_vote = pre;
        assert_int_equal(kith_core_receive(core, now, &vote, &update), KITH_OK);
        if (pre)
            assert_true(update.save_state && update.voted_for == 2);
    }
    assert_int_equal(update.role, KITH_CORE_LEADER);
    return now;
}

static void a_late_rejection_does_not_send_a_follower_back(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    uint64_t now = elect(core);
    struct kith_core_entry entries[4];
    for (int i = 0; i < 4; i++)
        command(&entries[i]);
    assert_int_equal(kith_core_submit(core, now, entries, 4, &update), KITH_OK);
    uint64_t last = kith_core_last_index(core);
    assert_int_equal(kith_core_persisted(core, now, last, 0, &update), KITH_OK);
    struct kith_core_message result = message_from(1, KITH_CORE_APPEND_RESULT, 6);
    result.append_result.last_index = last;
    assert_int_equal(kith_core_receive(core, now, &result, &update), KITH_OK);
    assert_int_equal(update.commit_index, last);
    result.append_result.rejected = 2;
    result.append_result.last_index = 1;
    assert_int_equal(kith_core_receive(core, now, &result, &update), KITH_OK);
    assert_int_equal(update.message_count, 0);
    entries[0] = (struct kith_core_entry){.kind = KITH_ENTRY_CONFIGURATION, .payload = three};
    entries[1] = entries[0];
    assert_int_equal(kith_core_submit(core, now, entries, 2, &update), KITH_EBUSY);
    assert_int_equal(kith_core_last_index(core), last);
    assert_int_equal(kith_core_submit(core, now, entries, 1, &update), KITH_OK);
    assert_int_equal(kith_core_submit(core, now, entries, 1, &update), KITH_EBUSY); /* one at a time */
    kith_core_close(core);
}

/* Node 1 has everything up to `index`: the messages that this makes the leader send it, of the kind that ends its term. */
static unsigned told_to_take_over(struct kith_core *core, uint64_t now, uint64_t index)
{
    struct kith_core_update update;
    unsigned found = 0;
    struct kith_core_message result = message_from(1, KITH_CORE_APPEND_RESULT, 6);
    result.append_result.last_index = index;
    assert_int_equal(kith_core_receive(core, now, &result, &update), KITH_OK);
    for (size_t i = 0; i < update.message_count; i++)
        if (update.messages[i].kind == KITH_CORE_TIMEOUT_NOW) {
            assert_int_equal(update.messages[i].peer, 1);
            assert_int_equal(update.messages[i].timeout_now.last_index, index);
            found++;
        }
    return found;
}

/* A member that has the last entries on their way, and not on its disk, would not take over; and nobody asked again. */
static void leadership_is_offered_once_all_is_on_the_heirs_disk(void **state)
{
    struct kith_core *core = one_of_three();
    struct kith_core_update update;
    struct kith_core_entry entry;
    uint64_t now = elect(core);
    uint64_t first = kith_core_last_index(core) + 1;
    for (uint64_t i = 0; i < 4; i++) {
        command(&entry);
        assert_int_equal(kith_core_submit(core, now, &entry, 1, &update), KITH_OK);
        assert_int_equal(kith_core_persisted(core, now, first + i, 0, &update), KITH_OK);
        if (i == 0)
            assert_int_equal(told_to_take_over(core, now, first), 0); /* from now on it gets all at once */
    }
    assert_int_equal(kith_core_transfer(core, now, 1, &update), KITH_OK);
    assert_int_equal(update.message_count, 0);
    assert_true(kith_core_is_transferring(core));
    assert_int_equal(told_to_take_over(core, now, first + 1), 0);
    assert_int_equal(told_to_take_over(core, now, first + 2), 0);
    assert_int_equal(told_to_take_over(core, now, first + 3), 1);
    assert_true(kith_core_is_transferring(core));
    kith_core_close(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_of_one_elects_itself_and_counts_its_term_up),
        cmocka_unit_test(damaged_configurations_are_refused),
        cmocka_unit_test(a_stale_append_is_rejected_with_our_term),
        cmocka_unit_test(a_standby_votes_as_soon_as_its_leader_is_silent),
        cmocka_unit_test(a_configuration_within_a_batch_gets_its_own_index),
        cmocka_unit_test(entries_that_our_snapshot_covers_are_left_out),
        cmocka_unit_test(while_a_snapshot_is_installed_entries_wait),
        cmocka_unit_test(entries_that_come_again_do_not_take_the_commit_index_back),
        cmocka_unit_test(a_refused_pre_vote_tells_our_term),
        cmocka_unit_test(a_late_rejection_does_not_send_a_follower_back),
        cmocka_unit_test(leadership_is_offered_once_all_is_on_the_heirs_disk),
        cmocka_unit_test(groups_agree_through_all_trouble),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free((void *)three.data);
    return failed;
}
