/* Finding elements that no walk from the entry point can reach, and linking them again. Links are dropped
 * with care (link.c keeps the last one to an element), but two elements that link only to each other are
 * beyond that; so after enough changes one worker goes over the graph breadth first, in short steps, level by
 * level as a search does. What changes meanwhile may be linked again in vain, which does no harm. */
#include "vec/index.h"

#include <stdlib.h>
#include <string.h>

enum { STEP = 1024, CHECK_STEP = 8192, SWEEP_FRACTION = 8, SWEEP_MIN = 1024, SWEEPS_IN_VAIN = 8 };

bool hnsw_sweep_pending(const struct kith_hnsw *h, bool all)
{
    uint64_t changes = atomic_load_explicit(&h->repair.changes, memory_order_relaxed);
    uint64_t live = atomic_load_explicit(&h->live, memory_order_relaxed);
    if (!all && atomic_load_explicit(&h->repair.sweeping, memory_order_relaxed))
        return true;
    if (atomic_load_explicit(&h->repair.sweep_again, memory_order_relaxed))
        return true;
    return changes && (all || (changes >= SWEEP_MIN && changes >= live / SWEEP_FRACTION));
}

static void sweep_end(struct kith_hnsw *h, struct sweep *w)
{
    atomic_store_explicit(&h->repair.sweeping, false, memory_order_relaxed);
    free(w->seen);
    free(w->reached);
    *w = (struct sweep){.busy = w->busy};
}

static int sweep_begin(struct kith_hnsw *h, struct sweep *w)
{
    uint32_t entry = atomic_load_explicit(&h->entry, memory_order_acquire);
    w->seen_words = atomic_load_explicit(&h->slot_end, memory_order_acquire) / 64 + 1;
    w->seen = calloc(w->seen_words, sizeof *w->seen);
    w->reached_room = 1024;
    w->reached = malloc(w->reached_room * sizeof *w->reached);
    if (!w->seen || !w->reached) {
        sweep_end(h, w);
        return KITH_ENOMEM;
    }
    atomic_store_explicit(&h->repair.changes, 0, memory_order_relaxed);
    atomic_store_explicit(&h->repair.sweep_again, false, memory_order_relaxed);
    w->active = true;
    atomic_store_explicit(&h->repair.sweeping, true, memory_order_relaxed);
    if (entry != KITH_HNSW_NONE && entry / 64 < w->seen_words) {
        w->seen[entry / 64] |= (uint64_t)1 << entry % 64;
        w->reached[w->reached_count++] = entry;
        w->level = flags_level(flags_at(h, entry));
    }
    return 1;
}

static int reach(struct sweep *w, uint32_t slot)
{
    if (slot / 64 >= w->seen_words || w->seen[slot / 64] >> slot % 64 & 1)
        return KITH_OK;
    if (w->reached_count == w->reached_room) {
        uint32_t *reached = realloc(w->reached, 2 * (size_t)w->reached_room * sizeof *reached);
        if (!reached)
            return KITH_ENOMEM;
        w->reached = reached;
        w->reached_room *= 2;
    }
    w->seen[slot / 64] |= (uint64_t)1 << slot % 64;
    w->reached[w->reached_count++] = slot;
    return KITH_OK;
}

/* Expands some of what was reached; at the end of a level, the next one starts over all of it. */
static int sweep_walk(struct kith_hnsw *h, struct scratch *s, struct sweep *w)
{
    for (unsigned steps = 0; steps < STEP && w->next < w->reached_count; steps++) {
        uint32_t slot = w->reached[w->next++];
        if (!slot_has_chunk(h, slot) || state_at(h, slot) == SLOT_FREE ||
            flags_level(flags_at(h, slot)) < w->level)
            continue; /* freed, or reused, since it was reached */
        uint32_t count = hnsw_links_copy(h, slot, w->level, s->chosen);
        for (uint32_t i = 0; i < count; i++)
            if (reach(w, s->chosen[i]) != KITH_OK)
                return KITH_ENOMEM;
    }
    if (w->next == w->reached_count && w->level > 0) {
        w->level--;
        w->next = 0;
    }
    return 1;
}

static int sweep_check(struct kith_hnsw *h, struct scratch *s, struct sweep *w)
{
    uint32_t end = w->seen_words * 64;
    for (unsigned steps = 0; steps < CHECK_STEP && w->check_next < end; steps++) {
        uint32_t slot = w->check_next++;
        if (!slot_has_chunk(h, slot) || state_at(h, slot) != SLOT_LINKED)
            continue;
        bool seen = w->seen[slot / 64] >> slot % 64 & 1;
        if (seen && (links_count(links_at(h, slot, 0)) > 0 || w->reached_count == 1))
            continue;
        w->found++;
        if (hnsw_relink(h, s, slot) != KITH_OK)
            return KITH_ENOMEM;
        break; /* linking is a step of its own */
    }
    if (w->check_next < end)
        return 1;
    /* Making room for a link may have cut another off: what a sweep mended is looked at once more, and soon. A few
     * times in a row at most, since what is linked while a sweep runs may look unreachable to it. */
    h->repair.sweeps_in_vain = w->found ? h->repair.sweeps_in_vain + 1 : 0;
    if (w->found && h->repair.sweeps_in_vain < SWEEPS_IN_VAIN)
        atomic_store_explicit(&h->repair.sweep_again, true, memory_order_relaxed);
    sweep_end(h, w);
    return 1;
}

static bool sweep_take(struct repair *r)
{
    pthread_mutex_lock(&r->lock);
    bool taken = !r->sweep.busy && !atomic_load_explicit(&r->in_round, memory_order_relaxed);
    if (taken)
        r->sweep.busy = true;
    pthread_mutex_unlock(&r->lock);
    return taken;
}

int hnsw_sweep_step(struct kith_hnsw *h, struct scratch *s, bool all)
{
    struct repair *r = &h->repair;
    struct sweep *w = &r->sweep;
    int rc = 0;
    if (!sweep_take(r))
        return 0;
    if (!w->active)
        rc = hnsw_sweep_pending(h, all) ? sweep_begin(h, w) : 0;
    else if (w->next < w->reached_count || w->level > 0)
        rc = sweep_walk(h, s, w);
    else
        rc = sweep_check(h, s, w);
    if (rc < 0) {
        sweep_end(h, w);
        atomic_fetch_add_explicit(&r->changes, SWEEP_MIN, memory_order_relaxed);
    }
    pthread_mutex_lock(&r->lock);
    w->busy = false;
    pthread_mutex_unlock(&r->lock);
    return rc;
}
