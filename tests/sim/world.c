/* The life of nodes. Whatever happens to one is an event: a frame, a poll, a turn of its log or its keeper, a client's
 * request. After each the node says when it wants to be polled next, and the checks that cost nothing are made. */
#include "world.h"

#include "base/log.h"
#include "engine/keyspace.h"
#include "repl/frame.h"

#ifdef KITH_CORE_CONTROLS
#include "repl/core_internal.h"
#endif

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

const char *const sim_fault_names[SIM_FAULTS] = {
    [SIM_CRASHES] = "crashes",       [SIM_STOPS] = "stops",           [SIM_PARTITIONS] = "partitions",
    [SIM_HOLDS] = "holds",           [SIM_MOVES] = "moves",           [SIM_WEATHER] = "weather",
    [SIM_SLOW_LINKS] = "slow-links", [SIM_PAUSES] = "pauses",         [SIM_CLOCKS] = "clocks",
    [SIM_SLOW_DISKS] = "slow-disks", [SIM_FULL_DISKS] = "full-disks", [SIM_FAILED_SYNCS] = "failed-syncs",
    [SIM_MEMBERS] = "members",       [SIM_TRANSFERS] = "transfers",   [SIM_CHECKPOINTS] = "checkpoints",
    [SIM_VECTORS] = "vectors",
};

enum {
    WALL_BEGIN_MS = 1000000000,
    SETTLE_US = 5000000,
    PROGRESS_US = 2000000,
    FINAL_US = 40000000,
    LOOK_US = 10000
};

/* --- dice, traces, findings --- */

uint64_t world_below(struct world *w, uint64_t bound)
{
    return bound ? kith_rng_below(&w->rng, bound) : 0;
}

bool world_chance(struct world *w, double p)
{
    return kith_rng_unit(&w->rng) < p;
}

void world_mix(struct world *w, uint64_t value)
{
    w->result->hash = (kith_rotl64(w->result->hash, 5) ^ value) * UINT64_C(0x9e3779b97f4a7c15);
}

static void print_time(const struct world *w)
{
    printf("%6" PRIu64 ".%03" PRIu64 " ms  ", w->events.now_us / 1000, w->events.now_us % 1000);
}

void world_trace(struct world *w, int level, const char *format, ...)
{
    va_list arguments;
    if (w->options.verbose < level)
        return;
    print_time(w);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void world_fail(struct world *w, const char *format, ...)
{
    va_list arguments;
    if (world_has_failed(w))
        return;
    va_start(arguments, format);
    vsnprintf(w->result->failure, sizeof w->result->failure, format, arguments);
    va_end(arguments);
    w->result->failed_ms = w->events.now_us / 1000;
    world_trace(w, 1, "FOUND: %s", w->result->failure);
}

bool world_has_failed(const struct world *w)
{
    return *w->result->failure;
}

/* --- the world's own events --- */

struct later {
    struct sim_event event;
    struct world *world;
    void (*run)(struct world *w, uint64_t argument);
    uint64_t argument;
};

static void drop_later(struct sim_event *event)
{
    free(event);
}

static void run_later(struct sim_event *event)
{
    struct later later = *(struct later *)event;
    free(event);
    later.run(later.world, later.argument);
}

void world_later(struct world *w, uint64_t in_us, void (*run)(struct world *w, uint64_t argument),
                 uint64_t argument)
{
    struct later *later = calloc(1, sizeof *later);
    if (!later)
        abort();
    *later = (struct later){{.run = run_later, .drop = drop_later}, w, run, argument};
    sim_events_add(&w->events, &later->event, in_us);
}

/* --- what is planned for a node --- */

struct turn {
    struct sim_event event;
    struct sim_node *node;
    uint32_t life;
    enum sim_part part;
};

static void drop_turn(struct sim_event *event)
{
    free(event);
}

static uint64_t log_delay_us(struct sim_node *n)
{
    return 20 + world_below(n->world, n->disk_us);
}

static void plan(struct sim_node *n, enum sim_part part, uint64_t in_us);

/* What the node's own state asks for. */
static void look_after(struct sim_node *n);

static void plan_threads(struct sim_node *n)
{
    plan(n, SIM_LOG, log_delay_us(n));
    plan(n, SIM_KEEPER, 50 + world_below(n->world, n->disk_us < 5000 ? 2000 : n->disk_us / 2));
}

/* The keyspace thread may be busy when another wakes it. */
static uint64_t wake_us(struct sim_node *n)
{
    return 10 + (world_chance(n->world, 0.1) ? world_below(n->world, 10000) : 0);
}

static void take_turn(struct sim_node *n, enum sim_part part)
{
    world_mix(n->world, (uint64_t)part << 8 | (uint64_t)n->machine);
    if (part == SIM_POLL) {
        kith_node_poll(n->node);
        node_settle(n);
    } else if (kith_node_run(n->node, part == SIM_LOG ? KITH_NODE_LOG : KITH_NODE_KEEPER)) {
        plan_threads(n);
        plan(n, SIM_POLL, wake_us(n));
        look_after(n);
    }
}

static void run_turn(struct sim_event *event)
{
    struct turn turn = *(struct turn *)event;
    struct sim_node *n = turn.node;
    struct world *w = n->world;
    free(event);
    if (!n->node || n->life != turn.life || n->due_us[turn.part] != w->events.now_us)
        return;
    n->due_us[turn.part] = UINT64_MAX;
    if (n->paused_until_us > w->events.now_us)
        plan(n, turn.part, n->paused_until_us - w->events.now_us);
    else
        take_turn(n, turn.part);
}

static void plan(struct sim_node *n, enum sim_part part, uint64_t in_us)
{
    struct world *w = n->world;
    uint64_t at_us = w->events.now_us + in_us;
    if (n->due_us[part] <= at_us)
        return;
    n->due_us[part] = at_us;
    struct turn *turn = calloc(1, sizeof *turn);
    if (!turn)
        abort();
    *turn = (struct turn){{.run = run_turn, .drop = drop_turn}, n, n->life, part};
    sim_events_add(&w->events, &turn->event, in_us);
}

static bool has_bad_disk(const struct sim_node *n)
{
    const struct sim_disk_figures *f = sim_disk_get_figures(n->disk);
    return sim_disk_is_dead(n->disk) || f->full > n->full || f->failed_syncs > n->failed_syncs;
}

static void note_role(struct sim_node *n)
{
    struct world *w = n->world;
    struct kith_node_status status;
    kith_node_get_status(n->node, &status);
    if (status.commit_index < n->commit_index)
        world_fail(w, "node %d: its commit index went from %" PRIu64 " back to %" PRIu64, n->machine,
                   n->commit_index, status.commit_index);
    n->commit_index = status.commit_index;
    if (status.term < n->term)
        world_fail(w, "node %d: its term went from %" PRIu64 " back to %" PRIu64, n->machine, n->term,
                   status.term);
    if (status.role != n->role || status.term != n->term) {
        static const char *const names[] = {"follower", "candidate", "leader"};
        world_trace(w, 1, "node %d is %s in term %" PRIu64 " (commit %" PRIu64 ", last %" PRIu64 ")",
                    n->machine, names[status.role], status.term, status.commit_index, status.last_index);
        w->result->elections += status.role == KITH_CORE_LEADER && n->role != KITH_CORE_LEADER;
    }
    n->term = status.term;
    n->role = status.role;
    if (status.role == KITH_CORE_LEADER) {
        uint64_t *leader = &w->leader_of[status.term % SIM_TERMS];
        if (*leader && *leader != n->id)
            world_fail(w, "term %" PRIu64 " has two leaders, one of them node %d", status.term, n->machine);
        *leader = n->id;
    }
    w->result->streams += status.streams_received - n->streams;
    n->streams = status.streams_received;
    if (*status.error && !n->unhealthy) {
        n->unhealthy = true;
        if (!has_bad_disk(n))
            world_fail(w, "node %d has given up, and its disk is well: %s", n->machine, status.error);
        world_trace(w, 1, "node %d takes no writes: %s", n->machine, status.error);
    }
}

static void look_after(struct sim_node *n)
{
    if (!n->node || n->dying)
        return;
    if (sim_disk_is_dead(n->disk)) {
        node_crash(n, world_chance(n->world, 0.3) ? SIM_DISK_FORGETS : SIM_DISK_SCATTERS);
        return;
    }
    note_role(n);
    claims_check_stored(n);
    int64_t timeout_ms = kith_node_timeout_ms(n->node);
    if (timeout_ms >= 0)
        plan(n, SIM_POLL, timeout_ms ? (uint64_t)timeout_ms * 1000 : 20);
}

void node_settle(struct sim_node *n)
{
    look_after(n);
    if (n->node && !n->dying)
        plan_threads(n);
}

bool node_is_up(const struct sim_node *n)
{
    return n->node && !n->dying && n->paused_until_us <= n->world->events.now_us;
}

struct sim_node *world_leader(struct world *w)
{
    struct sim_node *best = NULL;
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        if (n->node && n->role == KITH_CORE_LEADER && (!best || n->term > best->term))
            best = n;
    }
    return best;
}

struct sim_node *world_random_node(struct world *w)
{
    int up[SIM_MACHINES], count = 0;
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (node_is_up(&w->nodes[i]))
            up[count++] = i;
    return count ? &w->nodes[up[world_below(w, (uint64_t)count)]] : NULL;
}

/* --- frames --- */

struct held {
    struct sim_event event;
    struct sim_node *node;
    uint32_t life;
    uint64_t peer, sent_us;
    const char *address;
    struct kith_buf frame;
};

static void drop_held(struct sim_event *event)
{
    kith_buf_fini(&((struct held *)event)->frame);
    free(event);
}

static void receive(struct sim_node *n, uint64_t peer, const char *address, uint64_t sent_us,
                    struct kith_slice frame)
{
    struct world *w = n->world;
    const struct kith_hash_seed seed = {peer, n->id};
    world_mix(w, kith_hash(seed, frame.data, frame.length));
    world_trace(w, 2, "node %d <- %s: frame of kind %d, %zu bytes", n->machine, address,
                frame.length ? frame.data[0] : -1, frame.length);
    claims_note(n, peer, sent_us, frame);
    int status = kith_node_receive(n->node, peer, address, frame);
    if (status == KITH_ECORRUPT || status == KITH_EVERSION)
        world_fail(w, "node %d refuses a frame of kind %d from %s: %s", n->machine,
                   frame.length ? frame.data[0] : -1, address, kith_status_text(status));
    plan(n, SIM_POLL, 10);
    node_settle(n);
}

static void run_held(struct sim_event *event);

static void hold(struct sim_node *n, uint64_t peer, const char *address, uint64_t sent_us,
                 struct kith_slice frame)
{
    struct held *held = calloc(1, sizeof *held);
    if (!held)
        abort();
    *held = (struct held){{.run = run_held, .drop = drop_held}, n, n->life, peer, sent_us, address, {0}};
    kith_buf_append(&held->frame, frame.data, frame.length);
    sim_events_add(&n->world->events, &held->event, n->paused_until_us - n->world->events.now_us);
}

static void deliver(void *context, int machine, uint64_t peer, const char *address, uint64_t sent_us,
                    struct kith_slice frame)
{
    struct world *w = context;
    struct sim_node *n = &w->nodes[machine];
    if (!n->node || n->dying)
        return;
    if (n->paused_until_us > w->events.now_us)
        hold(n, peer, address, sent_us, frame);
    else
        receive(n, peer, address, sent_us, frame);
}

static void run_held(struct sim_event *event)
{
    struct held *held = (struct held *)event;
    struct sim_node *n = held->node;
    if (n->node && n->life == held->life)
        deliver(n->world, n->machine, held->peer, held->address, held->sent_us, kith_buf_slice(&held->frame));
    drop_held(event);
}

static void wake_node(void *context, int machine)
{
    struct world *w = context;
    struct sim_node *n = &w->nodes[machine];
    if (n->node && !n->dying)
        plan(n, SIM_POLL, 10);
}

static void sent(void *context, int machine, struct kith_slice frame)
{
    struct world *w = context;
    struct sim_node *n = &w->nodes[machine];
    if (n->node && !n->dying)
        claims_check_sent(n, frame);
}

static void heard(void *context, int machine, uint64_t peer)
{
    struct world *w = context;
    struct sim_node *n = &w->nodes[machine];
    if (!node_is_up(n))
        return;
    kith_node_heard(n->node, peer);
    node_settle(n);
}

static void lost(void *context, int machine, uint64_t peer)
{
    struct world *w = context;
    struct sim_node *n = &w->nodes[machine];
    if (!node_is_up(n))
        return;
    world_trace(w, 2, "node %d has lost its connection to %016" PRIx64, machine, peer);
    kith_node_lost(n->node, peer);
    node_settle(n);
}

/* --- life and death --- */

static uint64_t monotonic_ns(void *context)
{
    return (((struct sim_node *)context)->world->events.now_us + 1000000) * 1000;
}

static int64_t wall_ms(void *context)
{
    const struct sim_node *n = context;
    return WALL_BEGIN_MS + n->wall_offset_ms + (int64_t)(n->world->events.now_us / 1000);
}

static void wake(void *context)
{
    struct sim_node *n = context;
    if (n->node && !n->dying)
        plan(n, SIM_POLL, wake_us(n));
}

static struct kith_node_options options_of(struct sim_node *n)
{
    struct world *w = n->world;
    bool small = !w->options.without[SIM_CHECKPOINTS];
    bool trims = w->options.contrast && world_chance(w, 0.5), keeps = w->options.contrast && !trims;
    return (struct kith_node_options){
        .dir = "/d",
        .durability = KITH_DURABILITY_ALWAYS,
        .fs = sim_disk_table(n->disk),
        .wake = wake,
        .wake_context = n,
        .segment_bytes = w->segment_bytes,
        .checkpoint_log_bytes = keeps   ? UINT64_MAX
                                : trims ? 16 << 10
                                : small ? (uint64_t)(24 << 10) << world_below(w, 6)
                                        : UINT64_MAX,
        .keep_log_bytes = !small                 ? 0
                          : world_chance(w, 0.2) ? 1
                                                 : (uint64_t)(8 << 10) << world_below(w, 10),
        .no_final_checkpoint = world_chance(w, 0.5) || w->options.without[SIM_CHECKPOINTS],
        .address = sim_network_address(w->network, n->machine),
        .join_group = n->founded ? 0 : w->group_id,
        .transport = sim_network_transport(w->network, n->machine),
        .leader_wait_ms = 1500,
        .write_timeout_ms = 3000,
        .clock = {monotonic_ns, wall_ms, n},
        .seed = kith_rng_next(&w->rng) | 1,
        .manual = true,
    };
}

static void forget_engine(struct sim_node *n)
{
    engine_close(&n->engine);
    n->node = NULL;
    n->dying = false;
    n->role = KITH_CORE_FOLLOWER;
    for (int i = 0; i < SIM_PARTS; i++)
        n->due_us[i] = UINT64_MAX;
}

/* It could not be opened: is that what its disk deserves? */
static bool explain_open(struct sim_node *n, int status, const char *text)
{
    struct world *w = n->world;
    const struct sim_disk_figures *f = sim_disk_get_figures(n->disk);
    world_trace(w, 1, "node %d does not start: %s", n->machine, text);
    if (sim_disk_is_dead(n->disk)) {
        w->result->crashes++;
        sim_disk_restart(n->disk, SIM_DISK_SCATTERS);
        return true;
    }
    return (status == KITH_ENOSPC && f->full) || (status == KITH_EIO && f->failed_syncs);
}

bool node_start(struct sim_node *n)
{
    struct world *w = n->world;
    struct kith_error error = {""};
    struct kith_node_options options = options_of(n);
    n->life++;
    n->full = sim_disk_get_figures(n->disk)->full;
    n->failed_syncs = sim_disk_get_figures(n->disk)->failed_syncs;
    n->unhealthy = false;
    n->term = n->commit_index = n->streams = n->near_count = n->arrival_count = 0;
    if (!engine_open(&n->engine, w, n->machine, kith_rng_next(&w->rng), &options.machine))
        abort();
    uint64_t count = canon_count(w->canon);
    int status = kith_node_open(&n->node, &options, &error);
    if (status != KITH_OK) {
        canon_take_back(w->canon,
                        count); /* of an entry whose sync had failed, and that a crash may yet lose */
        n->node = NULL;
        forget_engine(n);
        if (!explain_open(n, status, error.text))
            world_fail(w, "node %d cannot be opened: %s", n->machine, error.text);
        return false;
    }
    n->id = kith_node_id(n->node);
    sim_network_set_node(w->network, n->machine, n->id);
    w->result->restarts++;
    world_trace(w, 1, "node %d (%016" PRIx64 ") starts, %" PRIu64 " entries applied", n->machine, n->id,
                n->engine.count);
    claims_check_start(n);
    plan(n, SIM_POLL, 10);
    node_settle(n);
    return n->node != NULL;
}

void node_crash(struct sim_node *n, enum sim_disk_crash how)
{
    struct world *w = n->world;
    if (!n->node || n->dying)
        return;
    world_trace(w, 1, "node %d crashes; its disk %s what was not synced", n->machine,
                how == SIM_DISK_KEEPS     ? "keeps"
                : how == SIM_DISK_FORGETS ? "forgets"
                                          : "scatters");
    world_mix(w, 77);
    n->dying = true;
    w->result->crashes++;
    sim_disk_kill(n->disk);
    sim_network_end_node(w->network, n->machine, how == SIM_DISK_KEEPS);
    (void)kith_node_close(n->node); /* it cannot save anything any more */
    forget_engine(n);
    clients_node_gone(n);
    sim_disk_restart(n->disk, how);
    n->paused_until_us = 0;
}

void node_stop(struct sim_node *n)
{
    struct world *w = n->world;
    if (!n->node || n->dying)
        return;
    world_trace(w, 1, "node %d is stopped", n->machine);
    int status = kith_node_close(n->node);
    sim_network_end_node(w->network, n->machine, true);
    if (status != KITH_OK)
        world_trace(w, 1, "node %d: %s", n->machine, kith_status_text(status));
    n->dying = true;
    forget_engine(n);
    clients_node_gone(n);
    if (sim_disk_is_dead(n->disk))
        sim_disk_restart(n->disk, SIM_DISK_SCATTERS);
    n->paused_until_us = 0;
}

void node_wipe(struct sim_node *n)
{
    sim_disk_close(n->disk);
    n->disk = sim_disk_open(kith_rng_next(&n->world->rng));
    n->founded = false;
    n->id = n->acked_term = n->acked_index = n->led_term = 0;
    n->world->admin.stayed[n->machine] = false;
}

/* --- one run --- */

#ifdef KITH_CORE_CONTROLS
unsigned kith_core_guards_off;
#endif

static struct world *current; /* for the log's sink: a line has no context */

static void log_line(void *arg, enum kith_log_level level, const char *line)
{
    if (current)
        world_trace(current, 1, "  log: %s", line);
}

static void open_world(struct world *w)
{
    static const int sizes[] = {1, 2, 2, 3, 3, 3, 3, 4, 5, 5};
    kith_rng_seed(&w->rng, w->options.seed);
    w->count = w->options.nodes ? w->options.nodes : sizes[world_below(w, 10)];
    w->segment_bytes = (uint64_t)(8 << 10) << world_below(w, 5);
    faults_choose(w);
    struct sim_network_options network = {
        &w->events, kith_rng_next(&w->rng), w, deliver, wake_node, sent, heard, lost};
    w->network = sim_network_open(&network);
    w->canon = canon_open();
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        *n = (struct sim_node){.world = w, .machine = i, .disk_us = 400};
        for (int k = 0; k < SIM_PARTS; k++)
            n->due_us[k] = UINT64_MAX;
        node_wipe(n);
    }
}

static void run_until(struct world *w, uint64_t until_us, bool (*done)(struct world *w))
{
    while (!world_has_failed(w) && w->events.count && w->events.heap[0]->at_us <= until_us &&
           !(done && done(w)))
        sim_events_step(&w->events);
}

static bool all_agree(struct world *w)
{
    uint64_t count = canon_count(w->canon);
    if (!admin_is_done(w))
        return false;
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (w->admin.wanted[i] && (!w->nodes[i].node || w->nodes[i].engine.count != count))
            return false;
    return true;
}

static const char *describe(struct world *w)
{
    static char text[700];
    size_t at = 0;
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        if (!n->node && !w->admin.wanted[i])
            continue;
        struct kith_node_status s = {0};
        if (n->node)
            kith_node_get_status(n->node, &s);
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "%s%d %s term %" PRIu64 " last %" PRIu64 " synced %" PRIu64 " commit %" PRIu64
                               " applied %" PRIu64 " (%" PRIu64 ")%s",
                               at ? "; " : "", i, !n->node ? "down" : (const char *[]){"F", "C", "L"}[s.role],
                               s.term, s.last_index, s.synced_index, s.commit_index, s.applied_index,
                               n->engine.count, n->unhealthy ? " ill" : "");
        if (at >= sizeof text)
            break;
    }
    return text;
}

/* All members have all that anybody had when it was mended; clients go on meanwhile. */
static bool is_at_rest(struct world *w)
{
    if (w->events.now_us < w->rest_due_us)
        return false;
    w->rest_due_us = w->events.now_us + LOOK_US;
    if (!admin_is_done(w))
        return false;
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (w->admin.wanted[i] && (!node_is_up(&w->nodes[i]) || w->nodes[i].engine.count < w->rest_count))
            return false;
    return true;
}

static void come_to_rest(struct world *w)
{
    w->rest_count = canon_count(w->canon);
    run_until(w, w->events.now_us + FINAL_US, is_at_rest);
    w->rest_due_us = 0;
    if (!world_has_failed(w) && !is_at_rest(w))
        world_fail(w, "the mended group does not come to rest at %" PRIu64 " entries%s: %s", w->rest_count,
                   admin_is_done(w) ? "" : " (members)", describe(w));
    w->result->rests++;
    admin_note_rest(w);
}

/* Troubles in rounds, and the peace after each: what is stuck then would be so for ever. */
static void live_through_troubles(struct world *w, uint64_t left_us)
{
    bool whole = world_chance(w, 0.3);
    faults_start(w);
    while (left_us && !world_has_failed(w)) {
        uint64_t us = whole ? left_us : 500000 + world_below(w, 4000000);
        if (us > left_us)
            us = left_us;
        left_us -= us;
        faults_begin(w);
        run_until(w, w->events.now_us + us, NULL);
        faults_end(w);
        if (left_us)
            come_to_rest(w);
    }
}

static bool has_progressed(struct world *w)
{
    return canon_count(w->canon) > w->rest_count;
}

static void check_end(struct world *w)
{
    struct sim_node *first = NULL;
    uint64_t before = canon_count(w->canon);
    if (world_has_failed(w))
        return;
    run_until(w, w->events.now_us + PROGRESS_US, NULL); /* clients go on */
    w->rest_count = before;
    run_until(w, w->events.now_us + FINAL_US,
              has_progressed); /* all of them may wait for nodes that have not joined */
    if (!world_has_failed(w) && canon_count(w->canon) == before)
        world_fail(w, "the healed group makes no progress: %s", describe(w));
    w->stopped = true;
    run_until(w, w->events.now_us + FINAL_US, clients_are_idle);
    run_until(w, w->events.now_us + FINAL_US, all_agree);
    if (!world_has_failed(w) && !all_agree(w))
        world_fail(w, "the healed group does not come to an agreement at %" PRIu64 " entries%s: %s",
                   canon_count(w->canon), admin_is_done(w) ? "" : " (members)", describe(w));
    for (int i = 1; i <= SIM_MACHINES && !world_has_failed(w); i++) {
        struct sim_node *n = &w->nodes[i];
        if (!w->admin.wanted[i])
            continue;
        if (!first)
            first = n;
        if (kith_engine_digest(first->engine.engine) != kith_engine_digest(n->engine.engine))
            world_fail(w, "nodes %d and %d hold different states after the same entries", first->machine,
                       n->machine);
    }
}

static void close_world(struct world *w)
{
    const struct sim_network_figures *f = sim_network_get_figures(w->network);
    w->result->frames = f->delivered;
    w->result->applied = canon_count(w->canon);
    w->result->virtual_ms = w->events.now_us / 1000;
    w->result->events = w->events.ran;
    w->result->held = f->held;
    w->result->parts = f->parts;
    w->result->ended = f->ended;
    w->stopped = true;
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        w->result->syncs += sim_disk_get_figures(n->disk)->syncs;
        w->result->full += sim_disk_get_figures(n->disk)->full;
        w->result->failed_syncs += sim_disk_get_figures(n->disk)->failed_syncs;
        sim_disk_kill(n->disk);
        n->dying = true;
        if (n->node) {
            (void)kith_node_close(n->node);
            engine_close(&n->engine);
        }
        sim_disk_close(n->disk);
    }
    sim_events_fini(&w->events);
    sim_network_close(w->network);
    clients_free(w);
    canon_close(w->canon);
    kith_frame_room_close(&w->room);
}

bool sim_run(const struct sim_options *options, struct sim_result *result)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    *result = (struct sim_result){0};
#ifdef KITH_CORE_CONTROLS
    kith_core_guards_off = options->control == SIM_CONTROL_CORE ? options->core_guards : 0;
#endif
    w->options = *options;
    w->result = result;
    current = w;
    kith_log_setup(KITH_LOG_INFO, log_line, NULL);
    open_world(w);
    w->nodes[1].founded = true;
    if (node_start(&w->nodes[1])) {
        w->group_id = kith_node_group_id(w->nodes[1].node);
        for (int i = 1; i <= w->count; i++)
            w->admin.wanted[i] = true;
        admin_start(w);
        run_until(w, 60000000, admin_is_done);
        if (!world_has_failed(w) && !admin_is_done(w))
            world_fail(w, "the group of %d could not be formed: %s", w->count, describe(w));
    }
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (options->control == SIM_CONTROL_STATE_NOT_SYNCED ||
            options->control == SIM_CONTROL_LOG_NOT_SYNCED)
            sim_disk_lie(w->nodes[i].disk,
                         options->control == SIM_CONTROL_STATE_NOT_SYNCED ? "state-" : "log-");
    admin_note_rest(w);
    claims_start(w);
    clients_start(w);
    live_through_troubles(w, (options->seconds ? options->seconds : 12) * 1000000);
    run_until(w, w->events.now_us + SETTLE_US, NULL);
    check_end(w);
    clients_check(w);
    close_world(w);
    current = NULL;
    kith_log_setup(KITH_LOG_INFO, NULL, NULL);
    free(w);
    return !*result->failure;
}
