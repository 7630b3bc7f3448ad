/* Who belongs to the group, as the core knows it, and which change of it is possible now.
 *
 * One change at a time, and one member in each: two majorities of neighbouring configurations then share a node (Raft
 * thesis 4.1). libraft 0.22.1 adds its own rules, which simulation found: all voters that stay are to be caught up, and
 * only a standby that is caught up becomes a voter. */
#ifndef KITH_REPL_MEMBERS_H
#define KITH_REPL_MEMBERS_H

#include "repl/frame.h"

enum {
    KITH_MEMBERS_MAX = 64,          /* in one group, of all roles */
    KITH_MEMBER_LAG_ENTRIES = 64,   /* a member with no more than so many to come is caught up */
    KITH_MEMBER_ADDRESS_BYTES = 256 /* with its NUL */
};

struct kith_core_member {
    uint64_t id;
    const char *address; /* borrowed until the next event */
    enum kith_core_member_role role;
    uint64_t match_index; /* on the leader: the log up to here is known to be on its disk; else 0 */
};

/* Of the configuration in force, committed or not. */
size_t kith_core_member_count(const struct kith_core *core);
void kith_core_get_member(const struct kith_core *core, size_t i, struct kith_core_member *out);
bool kith_core_find_member(const struct kith_core *core, uint64_t id, struct kith_core_member *out);
/* Entry of the configuration in force, and whether it is committed; 0: none is known yet. */
uint64_t kith_core_configuration_index(const struct kith_core *core, bool *committed);

/* 0: not known; *address is "" then, and borrowed until the next event. */
uint64_t kith_core_leader(const struct kith_core *core, const char **address);
/* This leader has committed an entry of its own term. Before that it may neither change the group (two leaders'
 * changes could pass each other by: Ongaro's note to raft-dev of July 2015) nor serve a linearizable read. */
bool kith_core_has_committed_own(const struct kith_core *core);
/* This node leads, and is the only voter. */
bool kith_core_is_alone(const struct kith_core *core);
/* A transfer of leadership runs; submit answers KITH_EAGAIN until it has ended. */
bool kith_core_is_transferring(const struct kith_core *core);
/* The voter that has most of the log beside this leader; 0: there is none. */
uint64_t kith_core_best_heir(const struct kith_core *core);

/* On the leader: the configuration after `change`, to be submitted as an entry; *out is malloc'ed. `address` (ADD,
 * MOVE) is up to KITH_MEMBER_ADDRESS_BYTES - 1 bytes without NUL. Positive: the group is so already, nothing is to be
 * done. Failures say in *why (may be NULL) what to do: KITH_EAGAIN not the leader, or a member is not caught up;
 * KITH_EBUSY another change, or a transfer, is under way; KITH_ENOENT no such member; KITH_EINVAL a change that makes no
 * sense; KITH_ETOOBIG; KITH_ENOMEM. Not for TRANSFER. */
int kith_core_plan_change(const struct kith_core *core, enum kith_change_kind change, uint64_t id,
                          struct kith_slice address, struct kith_slice *out, struct kith_error *why);

#endif
