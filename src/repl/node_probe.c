/* The question behind a linearizable read: do you know a newer term than mine? A majority must answer, and this node
 * counts, so not everybody need be asked: the answers cost each voter a wake-up. As many are asked as are missing, those
 * whose answers came first when all were asked last. All are asked now and then, so that the order stays true, and
 * whenever an answer is late, so that a voter that is slow or gone holds reads up for a moment only. */
#include "repl/node_internal.h"

#include <limits.h>

enum {
    LATE_MS = 2,      /* after which all are asked */
    WIDE_EVERY = 256, /* probes, one goes to all */
};

static struct node_voter *find(struct node_reads *reads, uint64_t id)
{
    for (size_t i = 0; i < reads->voter_count; i++)
        if (reads->voters[i].id == id)
            return &reads->voters[i];
    return NULL;
}

struct node_voter *node_probe_voter(struct kith_node *node, uint64_t id)
{
    struct node_reads *reads = &node->reads;
    struct node_voter *voter = find(reads, id);
    if (voter || reads->voter_count == KITH_MEMBERS_MAX)
        return voter;
    voter = &reads->voters[reads->voter_count++];
    *voter = (struct node_voter){.id = id};
    return voter;
}

uint64_t node_probe_majority(const struct kith_node *node, size_t offset, uint64_t own)
{
    uint64_t values[KITH_MEMBERS_MAX];
    size_t count = 0;
    struct kith_core_member member;
    for (size_t i = 0; i < kith_core_member_count(node->core) && count < KITH_MEMBERS_MAX; i++) {
        kith_core_get_member(node->core, i, &member);
        if (member.role != KITH_CORE_VOTER)
            continue;
        uint64_t value = member.id == node->id ? own : 0;
        for (size_t k = 0; k < node->reads.voter_count; k++)
            if (node->reads.voters[k].id == member.id && member.id != node->id)
                value = *(const uint64_t *)((const char *)&node->reads.voters[k] + offset);
        size_t at = count++; /* largest first */
        for (; at > 0 && values[at - 1] < value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
    return count ? values[count / 2] : 0;
}

void node_probe_take_answer(struct kith_node *node, struct node_voter *voter, uint64_t number)
{
    struct node_reads *reads = &node->reads;
    if (voter->answered < number)
        voter->answered = number;
    if (number < reads->wide_number || voter->ranked >= reads->wide_number)
        return;
    voter->ranked = reads->wide_number;
    voter->rank = ++reads->answer_count;
}

static bool is_late(const struct kith_node *node)
{
    const struct node_read *oldest = node->reads.asked.head;
    return oldest && node->now_ms > oldest->since_ms + LATE_MS;
}

uint64_t node_probe_late_ms(const struct kith_node *node)
{
    const struct node_reads *reads = &node->reads;
    /* Once all were asked for it, there is only waiting. */
    return reads->asked.head && reads->asked.head->number > reads->wide_number
               ? reads->asked.head->since_ms + LATE_MS + 1
               : UINT64_MAX;
}

/* Who has not answered the oldest question, or never any, is asked last. */
static unsigned rank_of(struct kith_node *node, uint64_t id)
{
    const struct node_voter *voter = find(&node->reads, id);
    return voter && voter->rank ? voter->rank : UINT_MAX;
}

static void demote_late(struct node_reads *reads)
{
    for (size_t i = 0; i < reads->voter_count; i++)
        if (reads->voters[i].answered < reads->asked.head->number)
            reads->voters[i].rank = 0;
}

/* The other voters, the quickest first. */
static size_t sort_voters(struct kith_node *node, struct kith_core_member *sorted, size_t *needed)
{
    size_t count = 0, voters = 0;
    struct kith_core_member member;
    bool votes = false;
    for (size_t i = 0; i < kith_core_member_count(node->core) && count < KITH_MEMBERS_MAX; i++) {
        kith_core_get_member(node->core, i, &member);
        voters += member.role == KITH_CORE_VOTER;
        votes |= member.role == KITH_CORE_VOTER && member.id == node->id;
        if (member.role != KITH_CORE_VOTER || member.id == node->id)
            continue;
        size_t at = count++;
        for (; at > 0 && rank_of(node, sorted[at - 1].id) > rank_of(node, member.id); at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = member;
    }
    *needed = voters / 2 + 1 - votes;
    return count;
}

static bool is_wide(const struct kith_node *node)
{
    const struct node_reads *reads = &node->reads;
    return !reads->wide_number || reads->narrow_count >= WIDE_EVERY || is_late(node);
}

void node_probe_send(struct kith_node *node)
{
    struct node_reads *reads = &node->reads;
    struct kith_core_member sorted[KITH_MEMBERS_MAX];
    size_t needed;
    if (is_late(node))
        demote_late(reads);
    bool wide = is_wide(node);
    size_t count = sort_voters(node, sorted, &needed);
    struct kith_frame frame = {.kind = KITH_FRAME_PROBE,
                               .probe = {.term = kith_core_term(node->core), .number = ++reads->number}};
    reads->sent_ms = node->now_ms;
    reads->narrow_count++;
    if (wide) {
        reads->wide_number = reads->number;
        reads->narrow_count = reads->answer_count = 0;
    }
    node->status.probes++;
    for (size_t i = 0; i < (wide ? count : needed) && i < count; i++)
        node_send(node, sorted[i].id, sorted[i].address, KITH_LANE_MESSAGES, &frame);
}
