/* A search: which way to go (graph, scan, two-hop walk), the graph way, and the results. The walk compares
 * codes with codes; the few nearest are then compared once more with the query itself, before it was rounded
 * to a code. */
#include "vec/search.h"
#include "vec/calibrate_internal.h"
#include "vec/index.h"
#include "vec/spread.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_EF = 100, TAIL_BATCH = 32 };

/* An exact scan looks at n codes in order; a walk at about 20 to 30 ef in disorder, and more than that with a
 * filter. */
enum { SCAN_BELOW = 8 };

bool hnsw_passes(struct search *search, uint32_t slot)
{
    const struct kith_hnsw_query *q = search->query;
    if (!state_is_live(state_at(search->h, slot)))
        return false;
    if (!q->filter)
        return true;
    if (search->filter_left == 0) {
        search->filter_spent = true;
        return false;
    }
    search->filter_left--;
    search->scratch->profile.filter_calls++;
    bool pass = q->filter(q->filter_context, slot, kith_hnsw_user(search->h, slot));
    search->scratch->profile.filter_passes += pass;
    return pass;
}

/* The tail is looked at first: what is linked meanwhile is in the graph by the time it is walked. Its nearest are kept
 * apart from the walk's candidates: hundreds of unlinked elements may be nearer than the node where the walk begins, and
 * would crowd it out, and with it all that is linked. */
static int look_through_tail(struct search *search)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    uint64_t position = atomic_load_explicit(&h->tail_head, memory_order_acquire);
    uint32_t slots[TAIL_BATCH];
    float distances[TAIL_BATCH];
    s->tail.count = 0;
    for (uint32_t count; (count = hnsw_tail_read(h, &position, slots, TAIL_BATCH)) > 0;) {
        if (s->tail.count == 0 && hnsw_pool_reserve(h, &s->tail, search->ef) != KITH_OK)
            return KITH_ENOMEM;
        uint32_t unseen = 0;
        for (uint32_t i = 0; i < count; i++)
            if (!visit(s, slots[i]) && (!search->query->filter || hnsw_passes(search, slots[i])))
                slots[unseen++] = slots[i];
        hnsw_distances(h, search->target, slots, unseen, distances);
        s->profile.tail += unseen;
        s->profile.evaluations += unseen;
        for (uint32_t i = 0; i < unseen; i++)
            hnsw_pool_insert(&s->tail, distances[i], slots[i]);
    }
    return KITH_OK;
}

/* What the way down has in view counts as visited: the tail leaves it out. */
static int seed_wide(struct search *search)
{
    struct scratch *s = search->scratch;
    hnsw_descend_wide(search->h, s, search->target, search->width, KITH_HNSW_NONE);
    s->profile.seeds = s->pool.count;
    hnsw_search_lap(search, &s->profile.descend_ns);
    int rc = look_through_tail(search);
    hnsw_search_lap(search, &s->profile.tail_ns);
    return rc;
}

int hnsw_search_seed(struct search *search)
{
    struct scratch *s = search->scratch;
    float distance;
    unsigned top;
    search->start = KITH_HNSW_NONE;
    hnsw_search_lap(search, &s->profile.prepare_ns);
    if (search->width > 1)
        return seed_wide(search);
    if (look_through_tail(search) != KITH_OK)
        return KITH_ENOMEM;
    hnsw_search_lap(search, &s->profile.tail_ns);
    uint32_t start = hnsw_descend(search->h, s, search->target, 0, &distance, &top);
    hnsw_search_lap(search, &s->profile.descend_ns);
    if (start == KITH_HNSW_NONE)
        return KITH_OK;
    s->profile.seeds = 1;
    hnsw_pool_insert(&s->pool, distance, start);
    if (visit(s, start))
        search->start = start;
    return KITH_OK;
}

void hnsw_search_add_tail(struct search *search, struct pool *result)
{
    const struct pool *tail = &search->scratch->tail;
    for (uint32_t i = 0; i < tail->count; i++)
        if (search->query->filter || tail->items[i].slot != search->start)
            hnsw_pool_insert(result, tail->items[i].distance, tail->items[i].slot);
}

/* Hidden elements take places in the pool: more of them then. */
uint32_t hnsw_search_effort(const struct kith_hnsw *h, uint32_t ef)
{
    uint64_t live = atomic_load_explicit(&h->live, memory_order_relaxed);
    uint64_t removed = atomic_load_explicit(&h->removed_count, memory_order_relaxed);
    uint64_t more = removed ? ef * removed / (live + removed) * 2 + 8 : 0;
    return ef + more < WALK_EF_MAX ? (uint32_t)(ef + more) : WALK_EF_MAX;
}

bool hnsw_search_is_lost(struct search *search, const struct pool *result)
{
    uint32_t k = search->stop.k;
    if (!k || search->width > 1 || (result->count >= k && !(result->items[k - 1].distance > search->gate)))
        return false;
    search->width = search->gate < INFINITY ? WIDE_VIEW : 1;
    return search->width > 1;
}

static int walk_graph(struct search *search, struct pool **result)
{
    struct scratch *s = search->scratch;
    int rc = hnsw_scratch_prepare(search->h, s, hnsw_search_effort(search->h, search->ef));
    if (rc != KITH_OK)
        return rc;
    rc = hnsw_search_seed(search);
    if (rc != KITH_OK)
        return rc;
    s->pool.stop = search->stop;
    bool spread = is_spread(search->h) && hnsw_spread_is_ready(search->h);
    if (spread && hnsw_pool_reserve(search->h, &s->found, s->pool.capacity) != KITH_OK)
        return KITH_ENOMEM;
    *result = spread ? &s->found : &s->pool;
    if (spread)
        hnsw_spread_walk(search);
    else
        hnsw_walk(search->h, s, search->target, 0, UINT32_MAX);
    return KITH_OK;
}

static int search_graph(struct search *search, struct pool **result)
{
    int rc = walk_graph(search, result);
    if (rc == KITH_OK && hnsw_search_is_lost(search, *result)) {
        hnsw_search_lap(search, &search->scratch->profile.walk_ns);
        rc = walk_graph(search, result);
    }
    if (rc == KITH_OK)
        hnsw_search_add_tail(search, *result);
    return rc;
}

/* ---- which way ---- */

static int search_chosen_way(struct search *search, struct pool **result)
{
    const struct kith_hnsw_query *q = search->query;
    bool scan = q->exact || search->k > WALK_EF_MAX || (q->recall > 0 && !hnsw_search_by_recall(search)) ||
                (!search->bounded && !search->stop.k &&
                 (search->ef > WALK_EF_MAX || search->ef >= search->n / SCAN_BELOW));
    if (!scan && search->ef > WALK_EF_MAX)
        search->ef = WALK_EF_MAX;
    if (scan || (q->filter && q->way == KITH_HNSW_WAY_SCAN))
        return hnsw_search_scan(search, result);
    return q->filter ? hnsw_search_filtered(search, result) : search_graph(search, result);
}

/* ---- results ---- */

/* Exact scans have ranked by what is kept already, unless they went by codes as a walk does. */
static void refine(struct search *search, struct pool *pool)
{
    for (uint32_t i = 0; i < pool->count; i++)
        pool->items[i].slot &= ~EXPANDED;
    bool by_codes = search->scratch->profile.strategy != KITH_HNSW_SCAN || search->query->by_codes;
    if (by_codes && hnsw_is_refinable(search->h, &search->target))
        hnsw_refine(search, pool);
    else
        hnsw_sort_candidates(pool->items, pool->count);
}

/* A bound that is not there is 0 or, where no distance can be, below. */
static bool is_too_far(const struct search *search, float distance)
{
    float most = search->query->max_distance;
    bool bounded = search->h->options.metric == KITH_HNSW_INNER_PRODUCT ? most != 0 : most > 0;
    return bounded && distance > most;
}

static uint32_t collect(const struct search *search, const struct pool *pool, struct kith_hnsw_hit *hits)
{
    const struct kith_hnsw *h = search->h;
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->count && count < search->k; i++) {
        uint32_t slot = pool->items[i].slot;
        float distance = pool->items[i].distance;
        distance = hnsw_clamp(h, distance);
        if (!state_is_live(state_at(h, slot)) || is_too_far(search, distance))
            continue;
        hits[count++] = (struct kith_hnsw_hit){slot, kith_hnsw_generation(h, slot), distance};
    }
    return count;
}

static int collect_diverse(struct search *search, const struct pool *pool, struct kith_hnsw_hit *hits)
{
    uint64_t n = search->n;
    struct kith_hnsw_hit *candidates = malloc((search->k + (size_t)1) * sizeof *candidates);
    if (!candidates)
        return KITH_ENOMEM;
    uint32_t count = collect(search, pool, candidates);
    hnsw_search_lap(search, &search->scratch->profile.refine_ns);
    int rc = hnsw_search_diversify(search, candidates, count, hits,
                                   search->query->k < n ? search->query->k : (uint32_t)n);
    hnsw_search_lap(search, &search->scratch->profile.mmr_ns);
    free(candidates);
    return rc;
}

static bool found_too_few(const struct search *search, const struct pool *pool)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < pool->count && live < search->k; i++)
        live += state_is_live(state_at(search->h, pool->items[i].slot & ~EXPANDED));
    return live < search->k && search->scratch->profile.strategy != KITH_HNSW_SCAN && !search->bounded;
}

/* What a timed search has read, from what it counted: links by the room they have. */
static uint64_t bytes_read(const struct kith_hnsw *h, const struct kith_hnsw_profile *profile)
{
    uint64_t factors = h->factor_count * sizeof(float), code = h->code_bytes + factors;
    uint64_t links = (uint64_t)(profile->hops - profile->descend_hops) * h->links.unit_bytes +
                     (uint64_t)profile->descend_hops * h->upper.unit_bytes;
    uint64_t rows = profile->estimates / SPREAD_LANES * h->spread.block_bytes;
    return links + rows + (uint64_t)profile->evaluations * code +
           (uint64_t)profile->refined * (code + h->kept_bytes);
}

static int run(struct search *search, struct kith_hnsw_hit *hits)
{
    struct kith_hnsw_profile *profile = &search->scratch->profile;
    struct pool *pool;
    int rc = search_chosen_way(search, &pool);
    /* A walk may miss what a scan cannot: fewer than asked only if there are fewer. */
    if (rc == KITH_OK && found_too_few(search, pool))
        rc = hnsw_search_scan(search, &pool);
    if (rc != KITH_OK)
        return rc;
    hnsw_search_lap(search, &profile->walk_ns);
    refine(search, pool);
    rc = search->query->mmr_pool ? collect_diverse(search, pool, hits) : (int)collect(search, pool, hits);
    hnsw_search_lap(search, &profile->refine_ns);
    profile->ef = search->ef;
    if (search->query->timed)
        profile->bytes_read = bytes_read(search->h, profile);
    return rc;
}

static bool set_target(struct search *search)
{
    const struct kith_hnsw_query *q = search->query;
    struct scratch *s = search->scratch;
    if (!q->vector) {
        if (!kith_hnsw_is_live(search->h, q->slot))
            return false;
        search->target = hnsw_element_target(search->h, s, q->slot);
        return true;
    }
    search->target = hnsw_query_target(search->h, s, q->vector);
    return true;
}

int kith_hnsw_search(struct kith_hnsw *h, const struct kith_hnsw_query *query, struct kith_hnsw_hit *hits,
                     struct kith_hnsw_profile *profile)
{
    uint64_t n = kith_hnsw_count(h);
    struct scratch *s = hnsw_scratch_take(h);
    if (!s)
        return KITH_ENOMEM;
    memset(&s->profile, 0, sizeof s->profile);
    struct search search = {.h = h, .query = query, .scratch = s, .n = n};
    search.k = query->mmr_pool > query->k ? query->mmr_pool : query->k;
    search.k = search.k < n ? search.k : (uint32_t)n;
    search.ef = query->ef ? query->ef : DEFAULT_EF;
    search.ef = search.ef < search.k ? search.k : search.ef;
    search.bounded = query->filter && query->filter_ef && query->filter_ef < n;
    search.filter_left = search.bounded ? query->filter_ef : UINT64_MAX;
    int rc = KITH_EINVAL;
    search.clock_ns = query->timed ? kith_os_monotonic_ns() : 0;
    if (set_target(&search))
        rc = search.k ? run(&search, hits) : 0;
    if (profile)
        *profile = s->profile;
    hnsw_scratch_give(h, s);
    return rc;
}
