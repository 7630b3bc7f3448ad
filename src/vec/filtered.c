/* Walks with a filter. Where many pass, the walk goes over all nodes and keeps those that pass aside; where
 * few do, it goes over passing nodes only, and steps through the others to their neighbours (two hops; Patel
 * et al., "ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured Data",
 * 2024). */
#include "vec/search.h"

static uint32_t pool_next_open(struct pool *pool)
{
    while (pool->next < pool->count && pool->items[pool->next].slot & EXPANDED)
        pool->next++;
    return pool->next;
}

/* Nothing that is still to be expanded can improve the results. */
static bool is_over(const struct search *search)
{
    const struct pool *pool = &search->scratch->pool, *found = &search->scratch->found;
    if (pool->next == pool->count || search->filter_spent)
        return true;
    if (search->stop.k && found->count >= search->stop.k &&
        pool->items[pool->next].distance >
            stop_bound(search->stop, found->items[search->stop.k - 1].distance))
        return true;
    return found->count == found->capacity &&
           pool->items[pool->next].distance > found->items[found->count - 1].distance;
}

static bool would_be_found(const struct pool *found, float distance)
{
    return found->count < found->capacity || distance < found->items[found->count - 1].distance;
}

static void expand_all(struct search *search, uint32_t slot)
{
    struct scratch *s = search->scratch;
    uint32_t count = hnsw_links_copy(search->h, slot, 0, s->chosen), unseen = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!visit(s, s->chosen[i]))
            s->gathered[unseen++] = s->chosen[i];
    hnsw_distances(search->h, search->target, s->gathered, unseen, s->distances);
    s->profile.evaluations += unseen;
    for (uint32_t i = 0; i < unseen; i++) {
        hnsw_pool_insert(&s->pool, s->distances[i], s->gathered[i]);
        if (would_be_found(&s->found, s->distances[i]) && hnsw_passes(search, s->gathered[i]))
            hnsw_pool_insert(&s->found, s->distances[i], s->gathered[i]);
    }
}

static uint32_t gather_passing(struct search *search, const uint32_t *links, uint32_t count,
                               uint32_t gathered)
{
    struct scratch *s = search->scratch;
    for (uint32_t i = 0; i < count && gathered < s->gathered_room; i++)
        if (!visit(s, links[i]) && hnsw_passes(search, links[i]))
            s->gathered[gathered++] = links[i];
    return gathered;
}

static void expand_two_hops(struct search *search, uint32_t slot)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    uint32_t *near = s->chosen, *far = s->chosen + h->links0, gathered = 0;
    uint32_t count = hnsw_links_copy(h, slot, 0, near);
    for (uint32_t i = 0; i < count && gathered < s->gathered_room; i++) {
        uint32_t before = gathered;
        gathered = gather_passing(search, near + i, 1, gathered);
        if (gathered == before)
            gathered = gather_passing(search, far, hnsw_links_copy(h, near[i], 0, far), gathered);
    }
    hnsw_distances(h, search->target, s->gathered, gathered, s->distances);
    s->profile.evaluations += gathered;
    for (uint32_t i = 0; i < gathered; i++) {
        hnsw_pool_insert(&s->pool, s->distances[i], s->gathered[i]);
        hnsw_pool_insert(&s->found, s->distances[i], s->gathered[i]);
    }
}

int hnsw_search_filtered(struct search *search, float selectivity, bool two_hop, struct pool **result)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    /* Over all nodes, the frontier must hold the ones that do not pass as well. */
    float wide = two_hop ? (float)search->ef : 1.5f * (float)search->ef / selectivity;
    if (search->filter_left != UINT64_MAX && (float)search->filter_left > wide)
        wide = (float)search->filter_left; /* the caller's bound is the bound */
    uint32_t capacity = wide < WALK_EF_MAX ? (uint32_t)wide : WALK_EF_MAX;
    if (hnsw_scratch_prepare(h, s, capacity) != KITH_OK ||
        hnsw_pool_reserve(h, &s->found, search->ef) != KITH_OK)
        return KITH_ENOMEM;
    s->profile.strategy = two_hop ? KITH_HNSW_TWO_HOP : KITH_HNSW_GRAPH;
    if (hnsw_search_seed(search) != KITH_OK)
        return KITH_ENOMEM;
    for (pool_next_open(&s->pool); !is_over(search); pool_next_open(&s->pool)) {
        uint32_t slot = s->pool.items[s->pool.next].slot;
        s->pool.items[s->pool.next].slot |= EXPANDED;
        s->profile.hops++;
        if (two_hop)
            expand_two_hops(search, slot);
        else
            expand_all(search, slot);
    }
    hnsw_search_add_tail(search, &s->found);
    *result = &s->found;
    return KITH_OK;
}
