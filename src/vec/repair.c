/* Taking removed elements out of the graph, in rounds. An element does not know who links to it, and exact
 * lists of that would cost as much as the links themselves; so removed elements are left in place, hidden but
 * walkable, until they are about 1.5 % of all, and then one pass over all links finds and mends every link to
 * any of them (as FreshDiskANN's consolidation does: Singh et al., 2021). Per removed element that is the
 * cost of reading some 64 elements' links in order.
 *
 *     IDLE -> GRACE: the removed become DYING, which no one links to any more; wait for those who began
 * before
 *          -> SCAN: blocks of slots, by any number of workers; links to DYING give way to the dying one's own
 * neighbours
 *          -> ORPHANS: whom only the dying linked to is linked again
 *          -> IDLE: nothing leads to the batch but walks that are under way; the writer frees it after a
 * grace period */
#include "vec/index.h"

#include <stdlib.h>
#include <string.h>

/* ROUND_MAX: the writer frees what a round took out, and must not be at it for long. */
enum { ROUND_MAX = 1 << 18 };
enum { BLOCK = 256, ORPHAN_BLOCK = 16, MEND_TRIES = 8, ROUND_FRACTION = 64, TRIM_FROM = 1024 };

/* ---- what waits ---- */

int hnsw_repair_reserve(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    int rc = KITH_OK;
    pthread_mutex_lock(&r->lock);
    if (r->removed_count == r->removed_room) {
        uint32_t room = 2 * r->removed_room + 16;
        uint32_t *removed = realloc(r->removed, room * sizeof *removed);
        if (removed) {
            r->removed = removed;
            r->removed_room = room;
        } else {
            rc = KITH_ENOMEM;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

void hnsw_repair_push(struct kith_hnsw *h, uint32_t slot)
{
    struct repair *r = &h->repair;
    pthread_mutex_lock(&r->lock);
    KITH_ASSERT(r->removed_count < r->removed_room);
    r->removed[r->removed_count++] = slot;
    atomic_store_explicit(&r->waiting, r->removed_count, memory_order_relaxed);
    pthread_mutex_unlock(&r->lock);
    atomic_fetch_add_explicit(&r->changes, 1, memory_order_relaxed);
}

void hnsw_repair_trim(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    if (atomic_load_explicit(&r->waiting, memory_order_relaxed))
        return;
    pthread_mutex_lock(&r->lock);
    if (r->removed_count == 0 && r->removed_room > TRIM_FROM) {
        free(r->removed);
        r->removed = NULL;
        r->removed_room = 0;
    }
    pthread_mutex_unlock(&r->lock);
}

void hnsw_repair_fini(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    free(r->removed);
    free(r->batch);
    for (struct dead_batch *next; r->dead; r->dead = next) {
        next = r->dead->next;
        free(r->dead);
    }
    free(r->sweep.seen);
    free(r->sweep.reached);
}

static bool round_pays(const struct kith_hnsw *h)
{
    uint64_t waiting = atomic_load_explicit(&h->repair.waiting, memory_order_relaxed);
    return waiting > 0 && waiting * ROUND_FRACTION >= atomic_load_explicit(&h->live, memory_order_relaxed);
}

bool hnsw_repair_pending(const struct kith_hnsw *h)
{
    return atomic_load_explicit(&h->repair.in_round, memory_order_relaxed) || round_pays(h) ||
           hnsw_sweep_pending(h, false);
}

/* ---- phases (under the lock) ---- */

static void enter_phase(struct repair *r, enum repair_phase phase, uint32_t end)
{
    r->phase = phase;
    r->next = r->busy = 0;
    r->end = end;
    r->failed = false;
    atomic_store_explicit(&r->in_round, phase != REPAIR_IDLE, memory_order_relaxed);
}

/* Under the lock, and without it while it marks: the writer shall not wait for that. */
static int begin_round(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    uint32_t count = r->removed_count < ROUND_MAX ? r->removed_count : ROUND_MAX;
    struct dead_batch *batch = malloc(sizeof *batch + count * sizeof batch->slots[0]);
    if (!batch)
        return KITH_ENOMEM;
    batch->count = count;
    r->removed_count -= count; /* the room stays: the writer may have reserved it */
    memcpy(batch->slots, r->removed + r->removed_count, count * sizeof batch->slots[0]);
    atomic_store_explicit(&r->waiting, r->removed_count, memory_order_relaxed);
    r->batch = batch;
    r->best = KITH_HNSW_NONE;
    enter_phase(r, REPAIR_MARK, 0);
    pthread_mutex_unlock(&r->lock);
    for (uint32_t i = 0; i < count; i++)
        state_move(h, batch->slots[i], SLOT_REMOVED, SLOT_DYING);
    pthread_mutex_lock(&r->lock);
    r->epoch = epoch_advance(&h->epoch);
    enter_phase(r, REPAIR_GRACE, 0);
    return 1;
}

/* The entry point must not be freed: the highest element that the scan saw takes its place. */
static void replace_dying_entry(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    uint32_t entry = atomic_load(&h->entry);
    while ((entry == KITH_HNSW_NONE || state_at(h, entry) == SLOT_DYING) &&
           !atomic_compare_exchange_weak(&h->entry, &entry, r->best))
        ;
}

static void end_round(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    r->batch->epoch = epoch_advance(&h->epoch);
    r->batch->next = r->dead;
    r->dead = r->batch;
    r->batch = NULL;
    enter_phase(r, REPAIR_IDLE, 0);
}

static void end_phase(struct kith_hnsw *h)
{
    struct repair *r = &h->repair;
    if (r->failed) {
        enter_phase(r, r->phase, r->end);
    } else if (r->phase == REPAIR_SCAN) {
        replace_dying_entry(h);
        enter_phase(r, REPAIR_ORPHANS, r->batch->count);
    } else {
        end_round(h);
    }
}

/* ---- mending one element ---- */

static bool is_in(const uint32_t *list, uint32_t count, uint32_t slot)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == slot)
            return true;
    return false;
}

/* The live neighbours of a dying element, and of dying ones among those, that the list does not have. */
static uint32_t gather_heirs(struct kith_hnsw *h, struct scratch *s, uint32_t of, uint32_t slot,
                             unsigned level, const uint32_t *kept, uint32_t kept_count, uint32_t count,
                             unsigned depth)
{
    struct links links = links_at(h, of, level);
    for (uint32_t i = 0; i < links.room && count < s->sorted_room; i++) {
        uint32_t link = link_peek(links, i);
        if (link == KITH_HNSW_NONE)
            break;
        if (!slot_has_chunk(h, link))
            continue;
        enum slot_state state = state_at(h, link);
        if (state == SLOT_DYING && depth > 0)
            count = gather_heirs(h, s, link, slot, level, kept, kept_count, count, depth - 1);
        else if (state == SLOT_LINKED && link != slot && !is_in(kept, kept_count, link) && !visit(s, link))
            s->sorted[count++].slot = link;
    }
    return count;
}

static void sort_heirs(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t count, bool by_product)
{
    for (uint32_t i = 0; i < count; i += s->gathered_room) {
        uint32_t batch = count - i < s->gathered_room ? count - i : s->gathered_room;
        for (uint32_t k = 0; k < batch; k++)
            s->gathered[k] = s->sorted[i + k].slot;
        hnsw_distances(h, hnsw_link_target(h, slot, by_product), s->gathered, batch, s->distances);
        for (uint32_t k = 0; k < batch; k++)
            s->sorted[i + k].distance = s->distances[k];
    }
    hnsw_sort_candidates(s->sorted, count);
    for (uint32_t i = 0; i < count; i++) /* only what was marked here */
        s->visited[s->sorted[i].slot / 64] &= ~((uint64_t)1 << s->sorted[i].slot % 64);
}

/* Adds those of the heirs that are not shadowed, up to `max` links in all. */
static uint32_t add_heirs(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t heirs,
                          bool by_product, uint32_t max, uint32_t *links, uint32_t count)
{
    sort_heirs(h, s, slot, heirs, by_product);
    for (uint32_t i = 0; i < heirs && count < max; i++)
        if (!is_in(links, count, s->sorted[i].slot) &&
            !hnsw_is_shadowed(h, &s->sorted[i], links, count, by_product))
            links[count++] = s->sorted[i].slot;
    return count;
}

/* Replaces links to the dying by their neighbours, as many as are not shadowed and have room: one for one, lists would
 * lose in quality with each round. Returns the links it has then. */
static uint32_t mend(struct kith_hnsw *h, struct scratch *s, uint32_t slot, unsigned level)
{
    uint32_t room = links_room(h, level), *before = s->chosen, *after = s->chosen + h->links0, kept = 0;
    for (int tries = 0; tries < MEND_TRIES; tries++) {
        /* Under the lock: none of the links to the dying may be missed. */
        uint32_t count = hnsw_links_copy_locked(h, slot, level, before), heirs = 0;
        kept = 0;
        for (uint32_t i = 0; i < count; i++)
            if (state_at(h, before[i]) != SLOT_DYING)
                after[kept++] = before[i];
        if (kept == count)
            return kept;
        for (uint32_t i = 0; i < count; i++)
            if (state_at(h, before[i]) == SLOT_DYING)
                heirs = gather_heirs(h, s, before[i], slot, level, after, kept, heirs, 1);
        if (h->options.metric == KITH_HNSW_INNER_PRODUCT) /* half of the room that there is */
            kept = add_heirs(h, s, slot, heirs, true, (kept + room) / 2, after, kept);
        kept = add_heirs(h, s, slot, heirs, false, room, after, kept);
        if (hnsw_links_replace(h, s, slot, level, before, count, after, kept))
            return kept;
    }
    return kept;
}

static int mend_slot(struct kith_hnsw *h, struct scratch *s, uint32_t slot)
{
    unsigned top = flags_level(flags_at(h, slot));
    uint32_t links = 1;
    for (unsigned level = top + 1; level-- > 0;)
        links = mend(h, s, slot, level);
    return links ? KITH_OK : hnsw_relink(h, s, slot);
}

/* ---- blocks ---- */

static int scan_block(struct kith_hnsw *h, struct scratch *s, uint32_t from, uint32_t to, uint32_t *best,
                      unsigned *best_level)
{
    int rc = hnsw_scratch_prepare(h, s, h->options.ef_construction);
    for (uint32_t slot = from; slot < to && rc == KITH_OK; slot++) {
        if (!slot_has_chunk(h, slot))
            continue;
        uint8_t flags = flags_at(h, slot);
        enum slot_state state = (enum slot_state)(flags & FLAG_STATE);
        if (state != SLOT_LINKED && state != SLOT_REMOVED)
            continue;
        rc = mend_slot(h, s, slot);
        if (state == SLOT_LINKED && (*best == KITH_HNSW_NONE || flags_level(flags) > *best_level)) {
            *best = slot;
            *best_level = flags_level(flags);
        }
    }
    return rc;
}

/* The links of the dying no longer count; who has no other is linked again. */
static int orphans_block(struct kith_hnsw *h, struct scratch *s, const uint32_t *slots, uint32_t count)
{
    uint32_t *links = s->chosen + 2 * h->links0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t link_count = hnsw_links_copy(h, slots[i], 0, links);
        for (uint32_t k = 0; k < link_count; k++) {
            if (state_at(h, links[k]) != SLOT_LINKED)
                continue;
            hnsw_in_links_add(h, links[k], -1);
            if (in_links_at(h, links[k]) == 0 && hnsw_relink(h, s, links[k]) != KITH_OK)
                return KITH_ENOMEM; /* the sweep will find it */
        }
    }
    return KITH_OK;
}

static int work_on_phase(struct kith_hnsw *h, struct scratch *s)
{
    struct repair *r = &h->repair;
    enum repair_phase phase = r->phase;
    uint32_t block = phase == REPAIR_SCAN ? BLOCK : ORPHAN_BLOCK, from = r->next;
    uint32_t to = r->end - from < block ? r->end : from + block;
    if (from == r->end && r->busy)
        return 0; /* others are at the last blocks */
    r->next = to;
    r->busy++;
    pthread_mutex_unlock(&r->lock);
    uint32_t best = KITH_HNSW_NONE;
    unsigned best_level = 0;
    int rc = phase == REPAIR_SCAN ? scan_block(h, s, from, to, &best, &best_level)
                                  : orphans_block(h, s, r->batch->slots + from, to - from);
    pthread_mutex_lock(&r->lock);
    r->busy--;
    if (rc != KITH_OK && phase == REPAIR_SCAN)
        r->failed = true;
    if (best != KITH_HNSW_NONE && (r->best == KITH_HNSW_NONE || best_level > r->best_level)) {
        r->best = best;
        r->best_level = best_level;
    }
    if (r->next == r->end && r->busy == 0)
        end_phase(h);
    return rc == KITH_OK ? 1 : rc;
}

int hnsw_repair_step(struct kith_hnsw *h, struct scratch *s, bool all)
{
    struct repair *r = &h->repair;
    int rc = 0;
    pthread_mutex_lock(&r->lock);
    switch (r->phase) {
    case REPAIR_IDLE:
        if (r->removed_count && (all || round_pays(h)))
            rc = begin_round(h);
        break;
    case REPAIR_MARK:
        break;
    case REPAIR_GRACE:
        if (hnsw_epoch_oldest(h) > r->epoch) {
            enter_phase(r, REPAIR_SCAN, atomic_load_explicit(&h->slot_end, memory_order_acquire));
            rc = 1;
        }
        break;
    case REPAIR_SCAN:
    case REPAIR_ORPHANS:
        rc = work_on_phase(h, s);
        break;
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}
