/* The operator: who is to be a member, and one change after the other until it is so. A machine that is to join starts
 * with an empty disk and the group's name, becomes a standby, and then a voter. One that is removed is stopped, and
 * its disk is wiped. */
#include "world.h"

#include "base/status.h"

#include <inttypes.h>
#include <string.h>

enum { LOOK_US = 60000, PATIENCE_US = 8000000 };

static bool find_member(struct sim_node *leader, uint64_t id, struct kith_node_member *out)
{
    struct kith_node_member members[16];
    size_t count = kith_node_get_members(leader->node, members, 16);
    for (size_t i = 0; i < count && i < 16; i++)
        if (members[i].id == id && id) {
            *out = members[i];
            return true;
        }
    return false;
}

static size_t member_count(struct sim_node *leader)
{
    struct kith_node_member members[16];
    return kith_node_get_members(leader->node, members, 16);
}

static void changed(void *context, int status, const char *text)
{
    struct world *w = context;
    w->admin.busy = false;
    world_trace(w, 1, "the change: %s%s%s", kith_status_text(status), text && *text ? ": " : "",
                text ? text : "");
    w->result->members += status == KITH_OK;
}

static void change(struct world *w, enum kith_change_kind kind, struct sim_node *which)
{
    static const char *const names[] = {"",       "add as standby", "add as spare", "promote",
                                        "demote", "remove",         "transfer to",  "move"};
    struct sim_node *asked = world_chance(w, 0.8) ? world_leader(w) : world_random_node(w);
    if (!asked || !node_is_up(asked))
        return;
    world_trace(w, 1, "the operator asks node %d: %s node %d", asked->machine, names[kind], which->machine);
    w->admin.busy = true;
    w->admin.changing_until_us = w->events.now_us + PATIENCE_US;
    int status = kith_node_change(asked->node, kind, which->id,
                                  sim_network_address(w->network, which->machine), changed, w);
    if (status != KITH_OK) {
        w->admin.busy = false;
        world_trace(w, 1, "not possible: %s", kith_status_text(status));
    }
    if (world_chance(w, kind == KITH_CHANGE_PROMOTE ? 0.3 : 0.1))
        faults_cut_soon(w, which);
    node_settle(asked);
}

/* Who is to lead when the leader is to go; whether it can is for the group to say. */
static struct sim_node *some_heir(struct world *w, struct sim_node *leader)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (w->admin.wanted[i] && node_is_up(&w->nodes[i]) && &w->nodes[i] != leader && world_chance(w, 0.4))
            return &w->nodes[i];
    return leader;
}

/* One step towards what is wanted; false: there is nothing to do for this machine. */
static bool improve(struct world *w, struct sim_node *leader, int i)
{
    struct sim_node *n = &w->nodes[i];
    struct kith_node_member member;
    bool is_member = find_member(leader, n->id, &member);
    if (w->admin.wanted[i] && !is_member) {
        if (!n->node && n->id == 0)
            node_start(n);
        if (node_is_up(n))
            change(w, KITH_CHANGE_ADD_STANDBY, n);
        return true;
    }
    if (w->admin.wanted[i] && member.role != KITH_CORE_VOTER) {
        change(w, KITH_CHANGE_PROMOTE, n);
        return true;
    }
    if (!w->admin.wanted[i] && is_member) {
        change(w, n == leader ? KITH_CHANGE_TRANSFER : KITH_CHANGE_REMOVE, n == leader ? some_heir(w, n) : n);
        return true;
    }
    if (!w->admin.wanted[i] && n->id && leader != n) {
        world_trace(w, 1, "node %d is removed; its disk is wiped", i);
        node_crash(n, SIM_DISK_KEEPS);
        node_wipe(n);
        return true;
    }
    return false;
}

static void look(struct world *w, uint64_t unused)
{
    struct sim_node *leader = world_leader(w);
    if (w->admin.busy && w->events.now_us > w->admin.changing_until_us + PATIENCE_US)
        world_fail(w, "a change of the members was never answered");
    if (!w->admin.busy && leader && node_is_up(leader))
        for (int i = 1; i <= 2 * SIM_MACHINES && !w->admin.busy; i++) { /* first those who come */
            int machine = i <= SIM_MACHINES ? i : i - SIM_MACHINES;
            if (w->admin.wanted[machine] == (i <= SIM_MACHINES) && improve(w, leader, machine))
                break;
        }
    world_later(w, LOOK_US / 2 + world_below(w, LOOK_US), look, 0);
}

void admin_start(struct world *w)
{
    look(w, 0);
}

bool admin_is_done(struct world *w)
{
    struct sim_node *leader = world_leader(w);
    size_t wanted = 0;
    if (!leader)
        return false;
    for (int i = 1; i <= SIM_MACHINES; i++) {
        struct kith_node_member member;
        if (!w->admin.wanted[i])
            continue;
        wanted++;
        if (!w->nodes[i].id || !find_member(leader, w->nodes[i].id, &member) ||
            member.role != KITH_CORE_VOTER || strcmp(member.address, sim_network_address(w->network, i)) != 0)
            return false;
    }
    return member_count(leader) == wanted;
}

void admin_note_rest(struct world *w)
{
    memcpy(w->admin.stayed, w->admin.wanted, sizeof w->admin.stayed);
}

bool admin_can_do_without(const struct world *w, int machine)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (i != machine && w->admin.wanted[i] && w->admin.stayed[i])
            return true;
    return false;
}

void admin_shuffle(struct world *w)
{
    int wanted = 0;
    for (int i = 1; i <= SIM_MACHINES; i++)
        wanted += w->admin.wanted[i];
    int i = 1 + (int)world_below(w, SIM_MACHINES);
    if (w->admin.wanted[i] && wanted > 1 && admin_can_do_without(w, i))
        w->admin.wanted[i] = false;
    else if (!w->admin.wanted[i] && wanted < SIM_MACHINES)
        w->admin.wanted[i] = true;
}
