/* The walk over rows of the SPREAD layout. Its candidates are ranked by estimates; what is expanded is compared by its
 * own code, because the estimates of its neighbours start from there, and only what was compared so can be a result. */
#include "vec/rotation.h"
#include "vec/spread.h"

#include <math.h>
#include <string.h>

/* LINES_MOST: of a row and of a code; what follows the hardware finds by itself. */
enum { LINE = 64, LINES_MOST = 24 };
/* Pools from BATCH_FROM on expand a whole batch at once. */
enum { BATCH = 8, BATCH_FROM = 24 };

/* The query as rows see it: rotated, and in tables. */
void hnsw_spread_prepare(struct search *search, struct spread_query *query)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    const struct fine *fine = search->target.fine;
    float *q = s->spread_query;
    uint32_t dim = h->options.dim;
    if (!fine)
        hnsw_decode(h, search->query->slot, q);
    else
        memcpy(q, fine->unit, dim * sizeof *q);
    kith_rotation_apply(h->spread.rotation, q, q);
    float norm = fine ? norm_for_products(h, fine->norm) : 1;
    for (uint32_t i = 0; norm != 1 && i < dim; i++)
        q[i] *= norm;
    memset(q + dim, 0, (h->spread.dim - dim) * sizeof *q);
    query->tables = s->spread_tables;
    query->groups = h->spread.groups;
    query->planes = h->spread.planes;
    h->spread.kernels->make_tables(q, query);
}

static inline void prefetch_lines(const char *at, size_t bytes)
{
    size_t most = (size_t)LINES_MOST * LINE;
    for (size_t i = 0; i < bytes && i < most; i += LINE)
        __builtin_prefetch(at + i);
}

/* A third of those let in will be expanded: that is worth their links and codes, but not their rows, which are longer
 * than both and asked for when it is sure. */
static inline void prefetch_node(const struct kith_hnsw *h, uint32_t slot)
{
    const char *links = region_at(&h->links, slot);
    __builtin_prefetch(links);
    __builtin_prefetch(links + LINE);
    prefetch_lines(code_at(h, slot), h->code_stride);
    if (h->factor_count)
        __builtin_prefetch(factors_at(h, slot));
}

/* The nearest that are not expanded yet, several at once where there are many: what the first leads to might have come
 * before the others, but they would be expanded later, nearly always, and so their misses overlap. */
static inline uint32_t expand_next(const struct kith_hnsw *h, struct pool *pool, uint32_t *slots)
{
    uint32_t most = pool->capacity < BATCH_FROM ? BATCH / 2 : BATCH, count = 0;
    for (; pool->next < pool->count && count < most; pool->next++) {
        struct candidate *item = &pool->items[pool->next];
        if (item->slot & EXPANDED)
            continue;
        if (item->distance > pool->bound)
            break;
        prefetch_lines(region_at(&h->spread.rows, item->slot), h->spread.block_bytes);
        slots[count++] = item->slot;
        item->slot |= EXPANDED;
    }
    return count;
}

static inline float bound_of(const struct pool *pool)
{
    bool full = pool->count == pool->capacity;
    return full && pool->items[pool->count - 1].distance < pool->bound ? pool->items[pool->count - 1].distance
                                                                       : pool->bound;
}

/* Those lanes of a block that seem nearer than the pool's last. */
static inline void take(struct kith_hnsw *h, struct scratch *s, struct links links, uint32_t first,
                        uint32_t lanes, const float *estimates)
{
    for (struct pool *pool = &s->pool; lanes; lanes &= lanes - 1) {
        unsigned lane = (unsigned)__builtin_ctz(lanes);
        if (first + lane >= links.room || estimates[lane] >= bound_of(pool))
            continue;
        uint32_t link = link_peek(links, first + lane);
        if (link == KITH_HNSW_NONE || visit(s, link))
            continue;
        hnsw_pool_insert(pool, estimates[lane], link);
        prefetch_node(h, link);
    }
}

void hnsw_spread_expand(struct search *search, const struct spread_query *query, uint32_t slot,
                        float distance)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    struct links links;
    float estimates[SPREAD_LANES];
    if (!hnsw_links_find(h, slot, 0, &links))
        return;
    const uint8_t *block = region_at(&h->spread.rows, slot);
    for (uint32_t first = 0; first < links.room; first += SPREAD_LANES) {
        uint32_t lanes = h->spread.kernels->estimate(query, block, distance, bound_of(&s->pool), estimates);
        take(h, s, links, first, lanes, estimates);
        s->profile.estimates += SPREAD_LANES;
        block += h->spread.block_bytes;
    }
}

/* By the k-th best that was expanded; and before there is one, and ahead of it, by the 2k-th estimate: hundreds would be
 * let in that others soon overtake. */
static inline void set_bound(struct pool *pool, const struct pool *found)
{
    uint32_t k = pool->stop.k;
    float bound = found->count >= k ? stop_bound(pool->stop, found->items[k - 1].distance) : INFINITY;
    float ahead = pool->count >= 2 * k ? stop_bound(pool->stop, pool->items[2 * k - 1].distance) : INFINITY;
    pool->bound = bound < ahead ? bound : ahead;
}

void hnsw_spread_walk(struct search *search)
{
    struct scratch *s = search->scratch;
    struct spread_query query;
    uint32_t slots[BATCH], count;
    float distances[BATCH];
    struct pool *pool = &s->pool, *found = &s->found;
    hnsw_spread_prepare(search, &query);
    while ((count = expand_next(search->h, &s->pool, slots)) > 0) {
        s->profile.hops += count;
        s->profile.evaluations += count;
        hnsw_distances(search->h, search->target, slots, count, distances);
        for (uint32_t i = 0; i < count; i++) {
            hnsw_pool_insert(found, distances[i], slots[i]);
            if (pool->stop.k)
                set_bound(pool, found);
            hnsw_spread_expand(search, &query, slots[i], distances[i]);
        }
    }
}
