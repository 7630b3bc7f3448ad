/* The best-first walk over one level's links, as searching and linking both use it. Its candidates are one
 * sorted array: for the few hundred that are kept, an insertion moves less memory than two heaps touch. All
 * unseen neighbours of a node are gathered first and their distances taken together, so that their cache
 * misses overlap. */
#include "vec/index.h"

#include <string.h>

/* Pools from here on expand a whole batch at once: in smaller ones more of it would be in vain. */
enum { WIDE_FROM = 24 };

/* Where a candidate of this distance goes: after those that are as near. Without branches: which half it is, is a coin
 * toss. */
static inline uint32_t pool_place(const struct pool *pool, float distance)
{
    const struct candidate *base = pool->items;
    uint32_t length = pool->count;
    while (length > 1) {
        uint32_t half = length / 2;
        base += base[half - 1].distance <= distance ? half : 0;
        length -= half;
    }
    return (uint32_t)(base - pool->items) + (length == 1 && base->distance <= distance);
}

bool hnsw_pool_insert(struct pool *pool, float distance, uint32_t slot)
{
    if (pool->count == pool->capacity) {
        if (!pool->count || distance >= pool->items[pool->count - 1].distance)
            return false;
        pool->count--;
    }
    uint32_t at = pool_place(pool, distance);
    memmove(pool->items + at + 1, pool->items + at, (pool->count - at) * sizeof *pool->items);
    pool->items[at] = (struct candidate){distance, slot};
    pool->count++;
    if (at < pool->next)
        pool->next = at;
    return true;
}

/* Drops candidates that the pool's stop rules out, now that its k-th best is nearer. */
static inline void pool_tighten(struct pool *pool)
{
    if (!pool->stop.k || pool->count < pool->stop.k)
        return;
    pool->bound = stop_bound(pool->stop, pool->items[pool->stop.k - 1].distance);
    while (pool->count > pool->stop.k && pool->items[pool->count - 1].distance > pool->bound)
        pool->count--;
    pool->next = pool->next < pool->count ? pool->next : pool->count;
}

/* Takes the nearest that is not expanded yet; false when there is none. */
static inline bool pool_expand_next(struct pool *pool, uint32_t *slot)
{
    while (pool->next < pool->count && pool->items[pool->next].slot & EXPANDED)
        pool->next++;
    if (pool->next == pool->count || pool->items[pool->next].distance > pool->bound)
        return false;
    *slot = pool->items[pool->next].slot;
    pool->items[pool->next++].slot |= EXPANDED;
    return true;
}

/* Whoever is let in will be expanded, nearly always: its links are asked for while there is time. */
static inline void prefetch_links(const struct kith_hnsw *h, uint32_t slot)
{
    const char *links = region_at(&h->links, slot);
    __builtin_prefetch(links);
    __builtin_prefetch(links + 64); /* 96 bytes with m = 16: two lines, wherever they begin */
}

/* On the levels above an element says where its links are. */
static inline void prefetch_for(const struct kith_hnsw *h, uint32_t slot, unsigned level)
{
    if (level)
        __builtin_prefetch(element_at(h, slot));
    else
        prefetch_links(h, slot);
}

/* The unseen neighbours of the nearest nodes that are not expanded yet, to s->gathered. Several at once, though what
 * the first leads to might have come before the second: the second would have been expanded later, nearly always, and
 * so the misses of several nodes overlap. *hops: how many nodes; 0 when none is left. */
static inline uint32_t gather(struct kith_hnsw *h, struct scratch *s, unsigned level, unsigned *hops)
{
    struct pool *pool = &s->pool;
    unsigned batch = pool->capacity < WIDE_FROM ? WALK_BATCH / 2 : WALK_BATCH;
    uint32_t slot, count = 0, found = 0;
    struct links links[WALK_BATCH];
    for (*hops = 0; *hops < batch && pool_expand_next(pool, &slot); ++*hops) {
        if (!hnsw_links_find(h, slot, level, &links[found]))
            continue;
        if (level)
            __builtin_prefetch(links[found].low);
        found++;
    }
    for (uint32_t i = 0; i < found; i++)
        count += h->gather(links[i], s->visited, s->visited_end, s->gathered + count);
    return count;
}

void hnsw_walk(struct kith_hnsw *h, struct scratch *s, struct target target, unsigned level,
               uint32_t zero_max)
{
    struct pool *pool = &s->pool;
    uint32_t count, zeros = 0;
    unsigned hops;
    while (count = gather(h, s, level, &hops), hops > 0) {
        s->profile.hops += hops;
        s->profile.evaluations += count;
        hnsw_distances(h, target, s->gathered, count, s->distances);
        for (uint32_t i = 0; i < count; i++) {
            float distance = s->distances[i];
            if (zero_max != UINT32_MAX && distance <= target.most && distance >= target.least) {
                if (zeros++ >= zero_max)
                    continue;
                /* the last one found first: among equals that leads to the newest, with room */
                distance = equal_distance(zeros);
            }
            if (distance <= pool->bound &&
                (pool->count < pool->capacity || distance < pool->items[pool->count - 1].distance)) {
                hnsw_pool_insert(pool, distance, s->gathered[i]);
                prefetch_for(h, s->gathered[i], level);
            }
        }
        pool_tighten(pool);
    }
}

uint32_t hnsw_descend(struct kith_hnsw *h, struct scratch *s, struct target target, unsigned level,
                      float *distance, unsigned *top)
{
    uint32_t at = atomic_load_explicit(&h->entry, memory_order_acquire);
    if (at == KITH_HNSW_NONE)
        return at;
    hnsw_distances(h, target, &at, 1, distance);
    *top = flags_level(flags_at(h, at));
    s->profile.path[0] = at;
    s->profile.path_count = 1;
    for (unsigned l = *top; l > level; l--) {
        for (uint32_t before = KITH_HNSW_NONE; before != at;) {
            before = at;
            uint32_t count = hnsw_links_copy(h, at, l, s->gathered);
            s->profile.hops++;
            s->profile.descend_hops++;
            s->profile.evaluations += count;
            s->profile.descend_evaluations += count;
            hnsw_distances(h, target, s->gathered, count, s->distances);
            for (uint32_t i = 0; i < count; i++) {
                if (s->distances[i] < *distance) {
                    *distance = s->distances[i];
                    at = s->gathered[i];
                }
            }
        }
        s->profile.path[s->profile.path_count++] = at;
    }
    return at;
}

/* What the walk of a level has found are the next level's beginnings; but `without`, when there are others. */
static void begin_next_level(const struct kith_hnsw *h, struct scratch *s, uint32_t without)
{
    struct pool *pool = &s->pool;
    uint32_t kept = 0;
    hnsw_forget_visited(h, s);
    for (uint32_t i = 0; i < pool->count; i++) {
        struct candidate item = {pool->items[i].distance, pool->items[i].slot & ~EXPANDED};
        if (item.slot == without && pool->count > 1)
            continue;
        pool->items[kept++] = item;
        visit(s, item.slot);
    }
    pool->count = kept;
    pool->next = 0;
    if (without != KITH_HNSW_NONE)
        visit(s, without);
}

void hnsw_descend_wide(struct kith_hnsw *h, struct scratch *s, struct target target, uint32_t width,
                       uint32_t without)
{
    uint32_t at = atomic_load_explicit(&h->entry, memory_order_acquire), capacity = s->pool.capacity;
    uint32_t hops = s->profile.hops, evaluations = s->profile.evaluations;
    struct pool *pool = &s->pool;
    s->profile.path_count = 0;
    if (at == KITH_HNSW_NONE)
        return;
    pool->items[0].slot = s->profile.path[s->profile.path_count++] = at;
    pool->count = 1;
    pool->capacity = width < capacity ? width : capacity;
    hnsw_distances(h, target, &at, 1, &pool->items[0].distance);
    begin_next_level(h, s, without);
    for (unsigned level = flags_level(flags_at(h, at)); level > 0; level--) {
        hnsw_walk(h, s, target, level, UINT32_MAX);
        begin_next_level(h, s, without);
        s->profile.path[s->profile.path_count++] = pool->items[0].slot;
    }
    s->profile.descend_hops += s->profile.hops - hops;
    s->profile.descend_evaluations += s->profile.evaluations - evaluations;
    pool->capacity = capacity;
}
