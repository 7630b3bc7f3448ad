/* The group's configuration: reading it, and working out what a change makes of it. Nothing here alters the core: a
 * change is an entry of the log like any other. */
#include "repl/core_internal.h"
#include "repl/members.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const role_names[] = {
    [KITH_CORE_STANDBY] = "a standby", [KITH_CORE_VOTER] = "a voter", [KITH_CORE_SPARE] = "a spare"};

/* --- what there is --- */

size_t kith_core_member_count(const struct kith_core *core)
{
    return core->raft.configuration.n;
}

void kith_core_get_member(const struct kith_core *core, size_t i, struct kith_core_member *out)
{
    const struct raft_server *server = &core->raft.configuration.servers[i];
    raft_index match = 0;
    if (core->raft.state != RAFT_LEADER || raft_match_index(&core->raft, server->id, &match) != 0)
        match = 0;
    *out = (struct kith_core_member){.id = server->id,
                                     .address = server->address,
                                     .role = (enum kith_core_member_role)server->role,
                                     .match_index = match};
}

bool kith_core_find_member(const struct kith_core *core, uint64_t id, struct kith_core_member *out)
{
    for (size_t i = 0; i < core->raft.configuration.n; i++)
        if (core->raft.configuration.servers[i].id == id) {
            kith_core_get_member(core, i, out);
            return true;
        }
    return false;
}

uint64_t kith_core_configuration_index(const struct kith_core *core, bool *committed)
{
    uint64_t uncommitted = core->raft.configuration_uncommitted_index;
    *committed = uncommitted == 0;
    return uncommitted ? uncommitted : core->raft.configuration_committed_index;
}

uint64_t kith_core_leader(const struct kith_core *core, const char **address)
{
    raft_id id = 0;
    const char *text = NULL;
    raft_leader((struct raft *)&core->raft, &id, &text); /* it changes nothing */
    *address = text && id ? text : "";
    return id;
}

bool kith_core_has_committed_own(const struct kith_core *core)
{
    return core->raft.state == RAFT_LEADER && core->raft.commit_index >= core->own_first_index;
}

bool kith_core_is_alone(const struct kith_core *core)
{
    const struct raft_configuration *configuration = &core->raft.configuration;
    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].role == RAFT_VOTER && configuration->servers[i].id != core->raft.id)
            return false;
    return core->raft.state == RAFT_LEADER;
}

bool kith_core_is_transferring(const struct kith_core *core)
{
    return core->raft.state == RAFT_LEADER && core->raft.leader_state.transferee != 0;
}

uint64_t kith_core_best_heir(const struct kith_core *core)
{
    uint64_t best = 0, best_match = 0;
    for (size_t i = 0; i < core->raft.configuration.n; i++) {
        struct kith_core_member member;
        kith_core_get_member(core, i, &member);
        if (member.id == core->raft.id || member.role != KITH_CORE_VOTER)
            continue;
        if (!best || member.match_index > best_match) {
            best = member.id;
            best_match = member.match_index;
        }
    }
    return best;
}

/* --- what may be changed --- */

static bool is_caught_up(const struct kith_core *core, const struct kith_core_member *member)
{
    return member->match_index + KITH_MEMBER_LAG_ENTRIES >= core->last_index;
}

/* All voters but this node and `id` are caught up: what is changed is committed soon, and by more than a bare
 * majority. */
static int check_voters(const struct kith_core *core, uint64_t id, struct kith_error *why)
{
    for (size_t i = 0; i < core->raft.configuration.n; i++) {
        struct kith_core_member member;
        kith_core_get_member(core, i, &member);
        if (member.role != KITH_CORE_VOTER || member.id == core->raft.id || member.id == id ||
            is_caught_up(core, &member))
            continue;
        return kith_error_set(
            why, KITH_EAGAIN,
            "member %016" PRIx64 " at %s is %" PRIu64
            " entries behind: wait until it has caught up, or remove it first if it is gone",
            member.id, member.address, core->last_index - member.match_index);
    }
    return KITH_OK;
}

static int check_moment(const struct kith_core *core, struct kith_error *why)
{
    if (core->raft.state != RAFT_LEADER)
        return kith_error_set(why, KITH_EAGAIN, "this node does not lead the group any more");
    if (core->raft.leader_state.transferee)
        return kith_error_set(why, KITH_EBUSY, "leadership is being handed over: try again in a moment");
    if (CORE_GUARDED(CORE_GUARD_SECOND_CHANGE) &&
        (core->raft.configuration_uncommitted_index || core->raft.leader_state.promotee_id))
        return kith_error_set(why, KITH_EBUSY,
                              "another change of the group is under way: try again in a moment");
    if (!kith_core_has_committed_own(core))
        return kith_error_set(why, KITH_EAGAIN, "the leader is new: try again in a moment");
    return KITH_OK;
}

/* The member as it is to be; present false: it leaves. */
struct plan {
    enum kith_change_kind change;
    uint64_t id;
    char address[KITH_MEMBER_ADDRESS_BYTES];
    enum kith_core_member_role role;
    bool known, present;
};

static int check_address(const struct kith_core *core, const struct plan *plan, struct kith_error *why)
{
    if (!plan->address[0])
        return kith_error_set(why, KITH_EINVAL, "an address is missing: give HOST:PORT of its peers' port");
    for (size_t i = 0; i < core->raft.configuration.n; i++) {
        const struct raft_server *server = &core->raft.configuration.servers[i];
        if (server->id != plan->id && strcmp(server->address, plan->address) == 0)
            return kith_error_set(why, KITH_EINVAL,
                                  "the address %s is member %016" PRIx64
                                  "'s: if that one has lost its data, remove it first",
                                  plan->address, (uint64_t)server->id);
    }
    return KITH_OK;
}

static int plan_add(const struct kith_core *core, struct plan *plan, const struct kith_core_member *now,
                    struct kith_error *why)
{
    plan->role = plan->change == KITH_CHANGE_ADD_SPARE ? KITH_CORE_SPARE : KITH_CORE_STANDBY;
    int status = check_address(core, plan, why);
    if (status != KITH_OK)
        return status;
    if (!plan->known && core->raft.configuration.n >= KITH_MEMBERS_MAX)
        return kith_error_set(why, KITH_ETOOBIG, "a group has at most %d members", KITH_MEMBERS_MAX);
    if (plan->known && now->role == KITH_CORE_VOTER)
        return kith_error_set(why, KITH_EINVAL, "member %016" PRIx64 " is a voter already", plan->id);
    return plan->known && now->role == plan->role && strcmp(now->address, plan->address) == 0;
}

static int plan_promote(const struct kith_core *core, struct plan *plan, const struct kith_core_member *now,
                        struct kith_error *why)
{
    if (now->role == KITH_CORE_VOTER)
        return 1;
    if (now->role == KITH_CORE_SPARE)
        return kith_error_set(why, KITH_EINVAL,
                              "member %016" PRIx64 " is a spare and has no data: add it as a standby first",
                              plan->id);
    /* Who lacks the entry that took it in would not vote, and its vote may be the one that is needed. */
    if (!is_caught_up(core, now) || now->match_index < core->raft.configuration_committed_index)
        return kith_error_set(why, KITH_EAGAIN,
                              "member %016" PRIx64 " is %" PRIu64
                              " entries behind: it can be promoted once it has caught up",
                              plan->id, core->last_index - now->match_index);
    plan->role = KITH_CORE_VOTER;
    return KITH_OK;
}

static int plan_leave(const struct kith_core *core, struct plan *plan, const struct kith_core_member *now,
                      struct kith_error *why)
{
    if (plan->change == KITH_CHANGE_DEMOTE && now->role != KITH_CORE_VOTER)
        return now->role == KITH_CORE_STANDBY
                   ? 1
                   : kith_error_set(why, KITH_EINVAL, "member %016" PRIx64 " is %s, not a voter", plan->id,
                                    role_names[now->role]);
    if (plan->id == core->raft.id)
        return kith_error_set(why, KITH_EINVAL, "the leader cannot leave: hand leadership over first");
    plan->present = plan->change == KITH_CHANGE_DEMOTE;
    plan->role = KITH_CORE_STANDBY;
    return KITH_OK;
}

static int plan_member(const struct kith_core *core, struct plan *plan, struct kith_slice address,
                       struct kith_error *why)
{
    struct kith_core_member now = {0};
    bool adds = plan->change == KITH_CHANGE_ADD_STANDBY || plan->change == KITH_CHANGE_ADD_SPARE;
    bool names = adds || plan->change == KITH_CHANGE_MOVE;
    plan->known = kith_core_find_member(core, plan->id, &now);
    plan->present = true;
    plan->role = now.role;
    if (!plan->id || (!plan->known && !adds))
        return kith_error_set(why, KITH_ENOENT, "the group has no member %016" PRIx64, plan->id);
    if (address.length >= sizeof plan->address || (address.length && memchr(address.data, 0, address.length)))
        return kith_error_set(why, KITH_ETOOBIG, "an address has at most %d bytes",
                              KITH_MEMBER_ADDRESS_BYTES - 1);
    if (names && address.length)
        memcpy(plan->address, address.data, address.length);
    else if (!names)
        snprintf(plan->address, sizeof plan->address, "%s", now.address);
    if (adds)
        return plan_add(core, plan, &now, why);
    switch (plan->change) {
    case KITH_CHANGE_PROMOTE:
        return plan_promote(core, plan, &now, why);
    case KITH_CHANGE_DEMOTE:
    case KITH_CHANGE_REMOVE:
        return plan_leave(core, plan, &now, why);
    case KITH_CHANGE_MOVE: {
        int status = check_address(core, plan, why);
        return status == KITH_OK && strcmp(now.address, plan->address) == 0 ? 1 : status;
    }
    default:
        return kith_error_set(why, KITH_EINVAL, "this is no change of a member");
    }
}

/* The members in their order, the changed one in its place; a new one at the end. */
static int encode_plan(const struct kith_core *core, const struct plan *plan, struct kith_slice *out)
{
    struct raft_configuration configuration;
    int rv = 0;
    raft_configuration_init(&configuration);
    for (size_t i = 0; i < core->raft.configuration.n && rv == 0; i++) {
        const struct raft_server *server = &core->raft.configuration.servers[i];
        if (server->id != plan->id)
            rv = raft_configuration_add(&configuration, server->id, server->address, server->role);
        else if (plan->present)
            rv = raft_configuration_add(&configuration, plan->id, plan->address, (int)plan->role);
    }
    if (rv == 0 && !plan->known)
        rv = raft_configuration_add(&configuration, plan->id, plan->address, (int)plan->role);
    int status = core_status(rv);
    if (status == KITH_OK)
        status = core_encode_configuration(out, &configuration);
    raft_configuration_close(&configuration);
    return status;
}

int kith_core_plan_change(const struct kith_core *core, enum kith_change_kind change, uint64_t id,
                          struct kith_slice address, struct kith_slice *out, struct kith_error *why)
{
    struct plan plan = {.change = change, .id = id};
    int status = check_moment(core, why);
    if (status == KITH_OK)
        status = plan_member(core, &plan, address, why);
    if (status == KITH_OK && change != KITH_CHANGE_MOVE) /* which moves no majority */
        status = check_voters(core, id, why);
    if (status != KITH_OK)
        return status;
    status = encode_plan(core, &plan, out);
    return status == KITH_OK ? status : kith_error_set(why, status, "%s", kith_status_text(status));
}
