/* What nodes claim, and must keep to: what the core takes for stored is on the disk, an entry that was acknowledged to a
 * leader is there after any crash, and a node's own state is no older than it says.
 *
 * An acknowledgement binds as long as nobody of a later term may have taken the entry back. The age of a state
 * (kith_node_lag_ms) is counted from the arrival of a leader's message: its own way, which is known here, is added, and the
 * time for which a leader that has lost its majority does not know it. */
#include "repl/core_internal.h"
#include "repl/node_internal.h"
#include "world.h"

#include <inttypes.h>

enum { MARK_US = 10000, BLIND_US = 1200000 };

/* Of all this, what takes a decoder is looked at only. */
static bool is_of_interest(struct kith_slice frame)
{
    unsigned char kind = frame.length ? (unsigned char)*frame.data : 0;
    return kind == KITH_CORE_APPEND || kind == KITH_CORE_APPEND_RESULT || kind == KITH_CORE_INSTALL ||
           kind == KITH_FRAME_STREAM_OFFER || kind == KITH_FRAME_PROBE_RESULT;
}

static struct sim_node *find_node(struct world *w, uint64_t id)
{
    for (int i = 1; i <= SIM_MACHINES; i++)
        if (w->nodes[i].id == id && id)
            return &w->nodes[i];
    return NULL;
}

static void note_acknowledgement(struct sim_node *n, const struct kith_core_message *m)
{
    if (!n || m->append_result.rejected || m->term < n->led_term || m->term < n->acked_term)
        return;
    if (m->term > n->acked_term)
        n->acked_index = 0;
    n->acked_term = m->term;
    if (n->acked_index < m->append_result.last_index)
        n->acked_index = m->append_result.last_index;
}

static void note_leader(struct sim_node *n, uint64_t term)
{
    if (term > n->led_term)
        n->led_term = term;
    if (n->led_term > n->acked_term)
        n->acked_index = 0;
}

void claims_note(struct sim_node *n, uint64_t peer, uint64_t sent_us, struct kith_slice bytes)
{
    struct world *w = n->world;
    struct kith_frame frame;
    if (!is_of_interest(bytes) || kith_frame_decode(&frame, &w->room, bytes) != KITH_OK)
        return;
    if (frame.kind == KITH_CORE_APPEND_RESULT)
        note_acknowledgement(find_node(w, peer), &frame.raft);
    else if (frame.kind == KITH_CORE_APPEND || frame.kind == KITH_CORE_INSTALL)
        note_leader(n, frame.raft.term);
    else if (frame.kind == KITH_FRAME_STREAM_OFFER)
        note_leader(n, frame.stream_offer.term);
    n->arrivals[n->arrival_count++ % SIM_ARRIVALS] =
        (struct sim_arrival){w->events.now_us, w->events.now_us - sent_us};
}

void claims_check_start(struct sim_node *n)
{
    struct kith_node_status status;
    kith_node_get_status(n->node, &status);
    n->stored = n->node->core->raft.last_stored;
    if (status.last_index < n->acked_index)
        world_fail(n->world,
                   "node %d told the leader of term %" PRIu64 " that it has entry %" PRIu64
                   ", and starts with %" PRIu64,
                   n->machine, n->acked_term, n->acked_index, status.last_index);
}

/* An acknowledgement tells of nothing that is not stored. */
void claims_check_sent(struct sim_node *n, struct kith_slice bytes)
{
    struct kith_frame frame;
    if (!bytes.length || *bytes.data != KITH_CORE_APPEND_RESULT ||
        kith_frame_decode(&frame, &n->world->room, bytes) != KITH_OK || frame.raft.append_result.rejected)
        return;
    if (frame.raft.append_result.last_index > n->node->core->raft.last_stored)
        world_fail(n->world, "node %d acknowledges entry %" PRIu64 ", and has stored %" PRIu64, n->machine,
                   frame.raft.append_result.last_index, (uint64_t)n->node->core->raft.last_stored);
}

void claims_check_stored(struct sim_node *n)
{
    const struct kith_node *node = n->node;
    uint64_t truncations, stored = node->core->raft.last_stored;
    if (stored <= n->stored || node->failure != KITH_OK) {
        n->stored = stored;
        return;
    }
    uint64_t synced = kith_log_synced(node->log, &truncations);
    if (truncations < node->truncations)
        world_fail(n->world,
                   "node %d takes entry %" PRIu64 " for stored, and its log has yet to take others back",
                   n->machine, stored);
    else if (stored > synced)
        world_fail(n->world, "node %d takes entry %" PRIu64 " for stored, and has synced %" PRIu64,
                   n->machine, stored, synced);
    n->stored = stored;
}

/* --- near reads --- */

static void mark(struct world *w, uint64_t unused)
{
    w->marks[w->events.now_us / MARK_US % SIM_MARKS] = canon_count(w->canon);
    world_later(w, MARK_US - w->events.now_us % MARK_US, mark, 0);
}

void claims_start(struct world *w)
{
    mark(w, 0);
}

/* The longest way of a message that came since then, or at about that time. */
static uint64_t longest_way_us(const struct sim_node *n, uint64_t since_us)
{
    uint64_t way_us = 0;
    for (size_t i = 0; i < SIM_ARRIVALS && i < n->arrival_count; i++) {
        const struct sim_arrival *a = &n->arrivals[i];
        bool all = n->arrival_count > SIM_ARRIVALS;
        if ((all || a->at_us >= since_us) && a->way_us > way_us)
            way_us = a->way_us;
    }
    return way_us;
}

void claims_read_near(struct sim_node *n)
{
    struct world *w = n->world;
    if (kith_node_is_loading(n->node))
        return;
    if (n->engine.count < n->near_count)
        world_fail(w, "node %d: a near read goes back from %" PRIu64 " entries to %" PRIu64, n->machine,
                   n->near_count, n->engine.count);
    n->near_count = n->engine.count;
    int64_t lag_ms = kith_node_lag_ms(n->node);
    if (lag_ms < 0)
        return;
    uint64_t age_us = (uint64_t)(lag_ms + 2) * 1000, now_us = w->events.now_us;
    w->result->near++;
    w->result->near_ms += (uint64_t)lag_ms;
    age_us += longest_way_us(n, now_us > age_us ? now_us - age_us : 0) + BLIND_US + MARK_US;
    if (age_us >= now_us || age_us >= (uint64_t)(SIM_MARKS - 1) * MARK_US)
        return;
    uint64_t then = w->marks[(now_us - age_us) / MARK_US % SIM_MARKS];
    if (n->engine.count < then)
        world_fail(w,
                   "node %d says that its state is %" PRId64 " ms old; it has %" PRIu64
                   " entries, and %" PRIu64 " ms ago there were %" PRIu64,
                   n->machine, lag_ms, n->engine.count, age_us / 1000, then);
}
