/* The exact scan: every live element that passes, compared with the query by the finest that is kept of it. */
#include "vec/search.h"

/* SPARE: kept beyond k, should some be removed before the scan ends. */
enum { BATCH = 32, SPARE = 16 };

/* found.items[0..count) as a heap, the farthest on top. */
static void heap_sink(struct candidate *items, uint32_t count, uint32_t at)
{
    struct candidate moving = items[at];
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && items[child + 1].distance > items[child].distance)
            child++;
        if (items[child].distance <= moving.distance)
            break;
        items[at] = items[child];
    }
    items[at] = moving;
}

static void keep_nearest(struct pool *pool, float distance, uint32_t slot)
{
    struct candidate *items = pool->items;
    if (pool->count == pool->capacity) {
        if (distance < items[0].distance) {
            items[0] = (struct candidate){distance, slot};
            heap_sink(items, pool->count, 0);
        }
        return;
    }
    uint32_t at = pool->count++;
    for (uint32_t parent; at > 0 && items[parent = (at - 1) / 2].distance < distance; at = parent)
        items[at] = items[parent];
    items[at] = (struct candidate){distance, slot};
}

static void compare(struct search *search, const uint32_t *slots, uint32_t count)
{
    float distances[BATCH];
    if (search->query->by_codes)
        hnsw_distances(search->h, search->target, slots, count, distances);
    else
        hnsw_fine_distances(search->h, search->target, slots, count, distances);
    search->scratch->profile.evaluations += count;
    for (uint32_t i = 0; i < count; i++)
        keep_nearest(&search->scratch->found, distances[i], slots[i]);
}

int hnsw_search_scan(struct search *search, struct pool **result)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    uint32_t kept = search->query->by_codes && search->ef > search->k ? search->ef : search->k;
    if (hnsw_pool_reserve(h, &s->found, kept + SPARE) != KITH_OK)
        return KITH_ENOMEM;
    s->profile.strategy = KITH_HNSW_SCAN;
    uint32_t slots[BATCH], count = 0, end = kith_hnsw_slot_end(h);
    for (uint32_t slot = 0; slot < end && !search->filter_spent; slot++) {
        if (!slot_has_chunk(h, slot) || !hnsw_passes(search, slot))
            continue;
        slots[count++] = slot;
        if (count == BATCH) {
            compare(search, slots, count);
            count = 0;
        }
    }
    compare(search, slots, count);
    *result = &s->found;
    hnsw_sort_candidates(s->found.items, s->found.count);
    return KITH_OK;
}
