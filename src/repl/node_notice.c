/* Telling a member at once what is committed, when it waits for that.
 *
 * raft tells the commit index with the next entries, or the next heartbeat. A member that has forwarded a write, or has
 * asked from which index on it may read, would wait for that long. So the leader remembers up to where each member waits,
 * and sends it a heartbeat of its own making as soon as that is committed: an append without entries behind what the
 * member is known to have. */
#include "repl/node_internal.h"
#include "repl/node_members.h"

static struct member_about *place_of(struct kith_node *node, uint64_t peer)
{
    struct node_members *members = node->members;
    for (size_t i = 0; members && i < members->about_count; i++)
        if (members->abouts[i].id == peer)
            return &members->abouts[i];
    return NULL; /* not heard of yet: heartbeats do */
}

void node_notice_want(struct kith_node *node, uint64_t peer, uint64_t index)
{
    struct member_about *about = place_of(node, peer);
    if (!about || about->wanted_commit >= index || about->told_commit >= index)
        return;
    about->wanted_commit = index;
    node->members->notices_wanted = true;
}

/* What a member has not on its disk it does not take as committed, and nobody tells it again when it has. */
static bool can_be_told(const struct kith_node *node, uint64_t peer, uint64_t index,
                        struct kith_core_member *member)
{
    return kith_core_find_member(node->core, peer, member) && member->match_index >= index;
}

void node_notice_told(struct kith_node *node, uint64_t peer, uint64_t commit_index)
{
    struct kith_core_member member;
    struct member_about *about = node->members && node->members->notices_wanted ? place_of(node, peer) : NULL;
    if (about && about->told_commit < commit_index && can_be_told(node, peer, commit_index, &member))
        about->told_commit = commit_index;
}

static void send_notice(struct kith_node *node, struct member_about *about,
                        const struct kith_core_member *member)
{
    uint64_t index = about->wanted_commit;
    const struct node_entry *entry = node_window_get(&node->window, index);
    about->told_commit = index;
    if (!entry)
        return; /* long ago: a heartbeat will do */
    struct kith_frame frame = {
        .kind = KITH_CORE_APPEND,
        .raft = {
            .kind = KITH_CORE_APPEND,
            .peer = member->id,
            .peer_address = member->address,
            .term = kith_core_term(node->core),
            .append = {.previous_index = index, .previous_term = entry->log.term, .commit_index = index}}};
    node_send(node, member->id, member->address, KITH_LANE_MESSAGES, &frame);
}

void node_notice_flush(struct kith_node *node)
{
    struct node_members *members = node->members;
    struct kith_core_member member;
    if (!members || !members->notices_wanted)
        return;
    bool leads = node->failure == KITH_OK && kith_core_get_role(node->core) == KITH_CORE_LEADER;
    uint64_t commit_index = kith_core_commit_index(node->core);
    bool waits = false;
    for (size_t i = 0; i < members->about_count; i++) {
        struct member_about *about = &members->abouts[i];
        if (!leads)
            about->wanted_commit = about->told_commit = 0;
        else if (about->wanted_commit <= about->told_commit)
            continue;
        else if (about->wanted_commit <= commit_index &&
                 can_be_told(node, about->id, about->wanted_commit, &member))
            send_notice(node, about, &member);
        else
            waits = true;
    }
    members->notices_wanted = waits;
}
