/* What goes wrong. One trouble after the other begins, each for a while; at the end all of it is mended, every machine is
 * started, and the group must come to rest. */
#include "world.h"

#include <assert.h>
#include <inttypes.h>

static void restart(struct world *w, uint64_t machine)
{
    struct sim_node *n = &w->nodes[machine];
    if (!n->node && (n->id || machine == 1) && !node_start(n) && !world_has_failed(w))
        world_later(w, 200000 + world_below(w, 800000), restart, machine);
}

static uint64_t a_while(struct world *w)
{
    return 50000 + world_below(w, world_chance(w, 0.2) ? 5000000 : 1200000);
}

static enum sim_disk_crash some_crash(struct world *w)
{
    static const enum sim_disk_crash all[] = {SIM_DISK_KEEPS, SIM_DISK_SCATTERS, SIM_DISK_SCATTERS,
                                              SIM_DISK_FORGETS};
    return all[world_below(w, 4)];
}

/* --- each trouble --- */

static struct sim_node *some_victim(struct world *w)
{
    struct sim_node *leader = world_leader(w), *last = NULL;
    if (leader && world_chance(w, 0.4))
        return leader;
    for (int i = 1; i <= SIM_MACHINES && world_chance(w, 0.9); i++) /* who is behind */
        if (node_is_up(&w->nodes[i]) && (!last || w->nodes[i].engine.count < last->engine.count))
            last = &w->nodes[i];
    return last && world_chance(w, 0.3) ? last : world_random_node(w);
}

static void trouble_crash(struct world *w)
{
    struct sim_node *n = some_victim(w);
    bool all = world_chance(w, 0.15);
    if (all) {
        for (int i = 1; i <= SIM_MACHINES; i++)
            if (w->nodes[i].node && world_chance(w, 0.8)) {
                node_crash(&w->nodes[i], some_crash(w));
                world_later(w, a_while(w), restart, (uint64_t)i);
            }
    } else if (n && world_chance(w, 0.5)) {
        world_trace(w, 1, "node %d is going to crash at a write", n->machine);
        sim_disk_kill_in(n->disk, 1 + world_below(w, 60));
    } else if (n) {
        node_crash(n, some_crash(w));
        world_later(w, a_while(w), restart, (uint64_t)n->machine);
    }
}

static void trouble_stop(struct world *w)
{
    struct sim_node *n = some_victim(w);
    if (!n)
        return;
    node_stop(n);
    world_later(w, a_while(w) / 4, restart, (uint64_t)n->machine);
}

static bool knows_itself(const struct sim_node *n)
{
    struct kith_node_member members[16];
    size_t count = kith_node_get_members(n->node, members, 16);
    for (size_t i = 0; i < count && i < 16; i++)
        if (members[i].self)
            return true;
    return false;
}

/* Stopped here, started at another address. One that knows of no member yet could tell nobody. */
static void trouble_move(struct world *w)
{
    struct sim_node *n = some_victim(w);
    if (!n || !w->admin.wanted[n->machine] || !admin_can_do_without(w, n->machine) || !knows_itself(n))
        return;
    w->admin.stayed[n->machine] = false;
    node_stop(n);
    sim_network_move(w->network, n->machine);
    world_trace(w, 1, "node %d moves to %s", n->machine, sim_network_address(w->network, n->machine));
    w->result->moves++;
    world_later(w, a_while(w) / 4, restart, (uint64_t)n->machine);
}

static void heal_links(struct world *w, uint64_t unused)
{
    world_trace(w, 1, "the network is whole again");
    sim_network_heal(w->network);
}

static void trouble_partition(struct world *w)
{
    uint64_t side = world_below(w, 1u << SIM_MACHINES);
    struct sim_node *leader = world_leader(w);
    bool one_way = world_chance(w, 0.3);
    if (leader && world_chance(w, 0.4))
        side = (uint64_t)1 << (leader->machine - 1);
    world_trace(w, 1, "the network parts%s, side %02" PRIx64, one_way ? " in one direction" : "", side);
    for (int i = 1; i <= SIM_MACHINES; i++)
        for (int k = 1; k <= SIM_MACHINES; k++) {
            bool from = side >> (i - 1) & 1, to = side >> (k - 1) & 1;
            if (one_way ? from && !to : from != to)
                sim_network_block(w->network, i, k, true);
        }
    w->result->partitions++;
    world_later(w, a_while(w), heal_links, 0);
}

static void trouble_cut(struct world *w)
{
    int i = 1 + (int)world_below(w, SIM_MACHINES), k = 1 + (int)world_below(w, SIM_MACHINES);
    sim_network_block(w->network, i, k, true);
    if (world_chance(w, 0.5))
        sim_network_block(w->network, k, i, true);
    world_trace(w, 1, "the way from %d to %d is cut", i, k);
    w->result->partitions++;
    world_later(w, a_while(w), heal_links, 0);
}

/* A network that parts for a while, and keeps its connections: what is sent meanwhile comes at the end. */
static void trouble_hold(struct world *w)
{
    struct sim_node *leader = world_leader(w);
    int machine = leader && world_chance(w, 0.5) ? leader->machine : 1 + (int)world_below(w, SIM_MACHINES);
    uint64_t until_us = w->events.now_us + a_while(w), directions = 1 + world_below(w, 3);
    double share = world_chance(w, 0.5) ? 1 : 0.5;
    world_trace(w, 1, "ways %s machine %d hold what is sent until %" PRIu64 " ms",
                directions == 1   ? "from"
                : directions == 2 ? "to"
                                  : "from and to",
                machine, until_us / 1000);
    for (int i = 1; i <= SIM_MACHINES; i++) {
        if (i == machine || !world_chance(w, share))
            continue;
        if (directions & 1)
            sim_network_hold(w->network, machine, i, until_us);
        if (directions & 2)
            sim_network_hold(w->network, i, machine, until_us);
    }
    w->result->partitions++;
}

static void calm_down(struct world *w, uint64_t unused)
{
    world_trace(w, 1, "the weather is calm again");
    sim_network_set_weather(w->network, &w->calm);
}

static void trouble_weather(struct world *w)
{
    double much = world_chance(w, 0.25) || w->options.often[SIM_WEATHER] ? 4 : 1;
    struct sim_weather storm = {.delay_us = 300 + world_below(w, 8000),
                                .lost = world_chance(w, 0.7) ? 0.15 * kith_rng_unit(&w->rng) : 0,
                                .doubled = world_chance(w, 0.7) ? 0.1 * much * kith_rng_unit(&w->rng) : 0,
                                .late = world_chance(w, 0.7) ? 0.15 * much * kith_rng_unit(&w->rng) : 0,
                                .late_us = world_below(w, world_chance(w, 0.3) ? 4000000 : 800000),
                                .broken = world_chance(w, 0.4) ? 0.01 * kith_rng_unit(&w->rng) : 0};
    world_trace(w, 1, "a storm: %.3f lost, %.3f doubled, %.3f late by %" PRIu64 " us, %.4f broken",
                storm.lost, storm.doubled, storm.late, storm.late_us, storm.broken);
    sim_network_set_weather(w->network, &storm);
    w->result->weathers++;
    world_later(w, a_while(w), calm_down, 0);
}

static void trouble_slow_link(struct world *w)
{
    int i = 1 + (int)world_below(w, SIM_MACHINES);
    uint64_t extra_us = world_below(w, 500000);
    world_trace(w, 1, "ways of machine %d are slow by %" PRIu64 " us", i, extra_us);
    for (int k = 1; k <= SIM_MACHINES; k++)
        if (world_chance(w, 0.7)) {
            sim_network_slow(w->network, i, k, extra_us);
            if (world_chance(w, 0.7))
                sim_network_slow(w->network, k, i, extra_us);
        }
    w->result->slow++;
    world_later(w, a_while(w), heal_links, 0);
}

static void trouble_pause(struct world *w)
{
    struct sim_node *n = some_victim(w);
    uint64_t us = a_while(w);
    if (!n)
        return;
    world_trace(w, 1, "node %d stands still for %" PRIu64 " ms", n->machine, us / 1000);
    n->paused_until_us = w->events.now_us + us;
    w->result->pauses++;
}

static void trouble_clock(struct world *w)
{
    struct sim_node *n = world_random_node(w);
    if (!n)
        return;
    n->wall_offset_ms = (int64_t)world_below(w, 200000) - 100000;
    world_trace(w, 1, "the clock of node %d is %" PRId64 " ms off", n->machine, n->wall_offset_ms);
    w->result->jumps++;
}

static void quicken_disk(struct world *w, uint64_t machine)
{
    w->nodes[machine].disk_us = 400;
}

static void trouble_slow_disk(struct world *w)
{
    struct sim_node *n = some_victim(w);
    if (!n)
        return;
    n->disk_us = 5000 + world_below(w, 600000);
    world_trace(w, 1, "the disk of node %d takes up to %" PRIu64 " ms", n->machine, n->disk_us / 1000);
    w->result->slow++;
    world_later(w, a_while(w), quicken_disk, (uint64_t)n->machine);
}

/* A disk that was full has made its node refuse writes: it is started again. */
static void mend_disk(struct world *w, uint64_t machine)
{
    struct sim_node *n = &w->nodes[machine];
    sim_disk_set_capacity(n->disk, 0);
    sim_disk_fail_syncs(n->disk, 0);
    if (n->node && n->unhealthy) {
        if (world_chance(w, 0.5))
            node_crash(n, some_crash(w));
        else
            node_stop(n);
        world_later(w, a_while(w) / 4, restart, machine);
    }
}

static void trouble_full_disk(struct world *w)
{
    struct sim_node *n = some_victim(w);
    if (!n)
        return;
    sim_disk_set_capacity(n->disk, sim_disk_used(n->disk) + world_below(w, 100000));
    world_trace(w, 1, "the disk of node %d fills up", n->machine);
    world_later(w, a_while(w), mend_disk, (uint64_t)n->machine);
}

static void trouble_failed_sync(struct world *w)
{
    struct sim_node *n = some_victim(w);
    if (!n)
        return;
    sim_disk_fail_syncs(n->disk, 1 + world_below(w, 30));
    world_trace(w, 1, "syncs of node %d are going to fail", n->machine);
    world_later(w, a_while(w), mend_disk, (uint64_t)n->machine);
}

static void trouble_members(struct world *w)
{
    admin_shuffle(w);
}

static void transferred(void *context, int status, const char *text)
{
    world_trace(context, 1, "the transfer: %s%s%s", kith_status_text(status), text && *text ? ": " : "",
                text ? text : "");
}

static void crash_one(struct world *w, uint64_t machine)
{
    struct sim_node *n = &w->nodes[machine];
    if (!w->trouble || !n->node)
        return;
    node_crash(n, some_crash(w));
    world_later(w, a_while(w), restart, machine);
}

static void cut_machine(struct world *w, uint64_t machine)
{
    bool both = world_chance(w, 0.5), held = world_chance(w, 0.3);
    uint64_t us = 300000 + a_while(w);
    if (!w->trouble)
        return;
    world_trace(w, 1, "the ways from machine %" PRIu64 " are %s", machine, held ? "held" : "cut");
    for (int i = 1; i <= SIM_MACHINES; i++) {
        if (i == (int)machine)
            continue;
        if (held)
            sim_network_hold(w->network, (int)machine, i, w->events.now_us + us);
        else
            sim_network_block(w->network, (int)machine, i, true);
        if (both && !held)
            sim_network_block(w->network, i, (int)machine, true);
    }
    w->result->partitions++;
    world_later(w, us, heal_links, 0);
    if (w->nodes[machine].node && world_chance(w, 0.4) && !w->options.without[SIM_CRASHES])
        world_later(w, world_below(w, us), crash_one, machine);
}

/* Who is to lead stands for election, and nobody hears it; who is to vote never gets the entry that says so. */
void faults_cut_soon(struct world *w, struct sim_node *n)
{
    uint64_t in_us = w->options.often[SIM_TRANSFERS] ? 250 + world_below(w, 500) /* between order and vote */
                                                     : world_below(w, world_chance(w, 0.5) ? 1000 : 5000);
    if (w->trouble && !w->options.without[SIM_PARTITIONS])
        world_later(w, in_us, cut_machine, (uint64_t)n->machine);
}

/* And back to who had it before. */
static void transfer_back(struct world *w, uint64_t machine)
{
    struct sim_node *leader = world_leader(w), *to = &w->nodes[machine];
    if (!w->trouble || !leader || !node_is_up(leader) || !to->id)
        return;
    world_trace(w, 1, "the operator asks node %d to make node %d the leader again", leader->machine,
                to->machine);
    w->result->transfers++;
    (void)kith_node_change(leader->node, KITH_CHANGE_TRANSFER, to->id, NULL, transferred, w);
    node_settle(leader);
}

static void trouble_transfer(struct world *w)
{
    struct sim_node *asked = world_chance(w, 0.7) ? world_leader(w) : world_random_node(w),
                    *to = world_random_node(w);
    for (int i = 1; i <= SIM_MACHINES && w->options.often[SIM_TRANSFERS];
         i++) /* no question without effect */
        if (to == asked && w->admin.wanted[i] && node_is_up(&w->nodes[i]))
            to = &w->nodes[i];
    if (!asked || !to || !node_is_up(asked))
        return;
    world_trace(w, 1, "the operator asks node %d to make node %d the leader", asked->machine, to->machine);
    w->result->transfers++;
    (void)kith_node_change(asked->node, KITH_CHANGE_TRANSFER, world_chance(w, 0.3) ? 0 : to->id, NULL,
                           transferred, w);
    if (world_chance(w, 0.35))
        faults_cut_soon(w, to);
    else if (world_chance(w, 0.4))
        world_later(w, 20000 + world_below(w, 400000), transfer_back, (uint64_t)asked->machine);
    node_settle(asked);
}

static void saved(void *context, int status)
{
    struct world *w = context;
    w->result->checkpoints += status == KITH_OK;
}

static void trouble_checkpoint(struct world *w)
{
    struct sim_node *n = world_random_node(w);
    if (!n)
        return;
    world_trace(w, 1, "node %d is asked for a checkpoint", n->machine);
    (void)kith_node_checkpoint(n->node, saved, w);
    node_settle(n);
}

static const struct {
    enum sim_fault fault;
    unsigned weight;
    void (*begin)(struct world *w);
} troubles[] = {
    {SIM_CRASHES, 6, trouble_crash},        {SIM_STOPS, 2, trouble_stop},
    {SIM_PARTITIONS, 3, trouble_partition}, {SIM_PARTITIONS, 2, trouble_cut},
    {SIM_HOLDS, 3, trouble_hold},           {SIM_WEATHER, 3, trouble_weather},
    {SIM_SLOW_LINKS, 1, trouble_slow_link}, {SIM_PAUSES, 2, trouble_pause},
    {SIM_CLOCKS, 1, trouble_clock},         {SIM_SLOW_DISKS, 2, trouble_slow_disk},
    {SIM_FULL_DISKS, 1, trouble_full_disk}, {SIM_FAILED_SYNCS, 1, trouble_failed_sync},
    {SIM_MEMBERS, 2, trouble_members},      {SIM_MOVES, 1, trouble_move},
    {SIM_TRANSFERS, 2, trouble_transfer},   {SIM_CHECKPOINTS, 2, trouble_checkpoint},
};
enum { TROUBLES = sizeof troubles / sizeof troubles[0] };
static_assert((int)TROUBLES <= (int)SIM_TROUBLES, "a weight for each");

/* A world in which everything happens all the time hides what takes a quiet moment between two troubles. So one in three
 * has all of them; in the others each is left out, usual or frequent, and troubles and clients may be slow to come. */
void faults_choose(struct world *w)
{
    bool all = world_chance(w, 0.33);
    for (int i = 0; i < TROUBLES; i++) {
        uint64_t dice = world_below(w, 8);
        unsigned factor = all || (dice > 2 && dice < 6) ? 1 : dice <= 2 ? 0 : 4;
        w->weights[i] = w->options.without[troubles[i].fault] ? 0 : troubles[i].weight * factor;
        if (w->options.often[troubles[i].fault])
            w->weights[i] = troubles[i].weight * 16;
    }
    w->pace_us = (uint64_t)700000 << (all ? 0 : world_below(w, 3));
    w->think_us = all || world_chance(w, 0.6) ? 20000 : world_chance(w, 0.5) ? 300000 : 3000000;
    if (w->options.often[SIM_WEATHER])
        w->think_us = 300000; /* so that a late message finds the log as it was */
}

static void next_trouble(struct world *w, uint64_t round)
{
    uint64_t sum = 0;
    int k = 0;
    if (!w->trouble || round != w->round)
        return;
    for (int i = 0; i < TROUBLES; i++)
        sum += w->weights[i];
    uint64_t at = world_below(w, sum);
    while (sum && at >= w->weights[k])
        at -= w->weights[k++];
    if (sum)
        troubles[k].begin(w);
    world_later(w, 40000 + world_below(w, w->pace_us), next_trouble, round);
}

/* Crashes at a write, and nodes that gave up, need someone to start them again. */
static void tend(struct world *w, uint64_t unused)
{
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        if (n->node && n->unhealthy)
            mend_disk(w, (uint64_t)i);
        else if (!n->node && n->id)
            restart(w, (uint64_t)i);
    }
    world_later(w, 1500000 + world_below(w, 1000000), tend, 0);
}

void faults_start(struct world *w)
{
    w->calm = (struct sim_weather){.delay_us = 400};
    world_later(w, 2000000, tend, 0);
}

void faults_begin(struct world *w)
{
    w->trouble = true;
    world_later(w, 100000 + world_below(w, 200000), next_trouble, ++w->round);
}

void faults_end(struct world *w)
{
    if (world_has_failed(w))
        return;
    world_trace(w, 1, "everything is mended");
    w->trouble = false;
    heal_links(w, 0);
    calm_down(w, 0);
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct sim_node *n = &w->nodes[i];
        n->paused_until_us = 0;
        n->disk_us = 400;
        sim_disk_kill_in(n->disk, 0);
        mend_disk(w, (uint64_t)i);
        restart(w, (uint64_t)i);
    }
}
