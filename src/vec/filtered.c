/* Searches with a filter. The walk goes over all nodes, as it does without one: what does not pass leads to what does.
 * What it keeps of the far ones, in a heap, lets it go on past ef until enough have passed, and the filter is asked
 * from the nearest on, and no farther than is needed: asking it costs several cache misses, as much as many distances.
 *
 * How many pass near the query is then known from the walk itself. Where they are few, going on is compared with an
 * exact scan, and with a walk over passing nodes only that steps through the others to their neighbours (two hops;
 * Patel et al., "ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured Data", 2024). */
#include "vec/search.h"

#include <stdlib.h>
#include <string.h>

/* BATCH: nodes taken at once, so that their cache misses overlap. LOOK_EVERY: nodes asked between two looks at what the
 * rest will cost. */
enum { BATCH = 8, LOOK_EVERY = 64 };
/* Elements probed at random: one in PROBE_PART, which costs about a hundredth of the scan that it may save. */
enum { PROBE_PART = 256, PROBE_MIN = 64, PROBE_MAX = 4096 };

/* What things cost, in nanoseconds of one machine: only their ratios matter, and these are much the same on others. */
#define COST_STEP     300.0f /* a node taken: its links, its place in the heap, the filter asked */
#define COST_DISTANCE 60.0f  /* a node met on a walk, and its code's bytes times COST_BYTE */
#define COST_BYTE     0.07f
#define COST_SCAN                                                                                            \
    90.0f /* a slot of the scan, in order: 28 on an idle machine, 100 to 170 beside other work */
#define COST_SCAN_PASS 50.0f /* more where it passes, and its code's bytes times COST_BYTE */
#define COST_TWO_HOPS  40e3f /* a node expanded over two hops: some hundreds are asked */
/* Two hops lead from one passing node to enough others when so many of all near the query pass. */
#define TWO_HOP_SHARE 0.02f
/* What passes anywhere counts as so many of those near the query that passed. */
#define PRIOR 4.0f

struct walk {
    struct search *search;
    struct pool *open;         /* a heap, the nearest on top */
    uint32_t wanted;           /* passing elements nearer than all that is open, and the walk is over */
    uint32_t asked, passed;    /* by the filter, on this walk */
    uint32_t expanded, before; /* nodes; evaluations before the first */
    float share;               /* of all elements, that pass; < 0: not known yet */
    bool two_hop, scan;
};

/* ---- the heap of what is open ---- */

static int open_reserve(struct walk *walk, uint32_t more)
{
    struct pool *open = walk->open;
    if (open->room - open->count >= more)
        return KITH_OK;
    uint32_t room = open->room + open->room / 2 + more;
    struct candidate *items = realloc(open->items, room * sizeof *items);
    if (!items)
        return KITH_ENOMEM;
    hnsw_scratch_count(walk->search->h, (room - open->room) * sizeof *items);
    open->items = items;
    open->room = room;
    return KITH_OK;
}

static void heap_sink(struct pool *open, uint32_t at)
{
    struct candidate *items = open->items, moving = items[at];
    for (uint32_t child; (child = 2 * at + 1) < open->count; at = child) {
        if (child + 1 < open->count && items[child + 1].distance < items[child].distance)
            child++;
        if (items[child].distance >= moving.distance)
            break;
        items[at] = items[child];
    }
    items[at] = moving;
}

static void heap_push(struct pool *open, float distance, uint32_t slot)
{
    uint32_t at = open->count++;
    for (uint32_t parent; at > 0 && open->items[parent = (at - 1) / 2].distance > distance; at = parent)
        open->items[at] = open->items[parent];
    open->items[at] = (struct candidate){distance, slot};
}

static struct candidate heap_pop(struct pool *open)
{
    struct candidate top = open->items[0];
    open->items[0] = open->items[--open->count];
    if (open->count)
        heap_sink(open, 0);
    return top;
}

static void heap_make(struct pool *open)
{
    for (uint32_t at = open->count / 2; at-- > 0;)
        heap_sink(open, at);
}

/* ---- asking the filter ---- */

/* Each ask misses the cache for the element, and again for what its
 * user word points to, as a rule: so these are fetched ahead, the second as if it were an address, which does no harm
 * where it is none. */
static void prefetch_users(struct search *search, const struct candidate *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        __builtin_prefetch(element_at(search->h, items[i].slot & ~EXPANDED));
    for (uint32_t i = 0; i < count; i++) {
        uintptr_t user = (uintptr_t)kith_hnsw_user(search->h, items[i].slot & ~EXPANDED);
        __builtin_prefetch((const void *)user);        /* NOLINT(performance-no-int-to-ptr) */
        __builtin_prefetch((const void *)(user + 64)); /* NOLINT(performance-no-int-to-ptr) */
    }
}

/* What passes goes to found. */
static bool ask(struct walk *walk, const struct candidate *item)
{
    struct search *search = walk->search;
    uint32_t slot = item->slot & ~EXPANDED;
    walk->asked++;
    if (slot == search->start || !hnsw_passes(search, slot))
        return false; /* start: the tail had it */
    walk->passed++;
    hnsw_pool_insert(&search->scratch->found, item->distance, slot);
    return true;
}

/* What is farther cannot be among the wanted. */
static bool is_too_far(const struct walk *walk, float distance)
{
    const struct pool *found = &walk->search->scratch->found;
    if (found->count < walk->wanted)
        return false;
    float last = found->items[walk->wanted - 1].distance;
    return distance > (walk->search->stop.k ? stop_bound(walk->search->stop, last) : last);
}

/* ---- expanding ---- */

static inline void prefetch_links(const struct kith_hnsw *h, uint32_t slot)
{
    const char *links = region_at(&h->links, slot);
    __builtin_prefetch(links);
    __builtin_prefetch(links + 64);
}

static uint32_t gather(struct search *search, uint32_t slot)
{
    struct scratch *s = search->scratch;
    struct links links;
    if (!hnsw_links_find(search->h, slot, 0, &links))
        return 0;
    return search->h->gather(links, s->visited, s->visited_end, s->gathered);
}

/* Of slots[0..count), those that were not seen and pass go to gathered. */
static uint32_t gather_passing(struct walk *walk, const uint32_t *slots, uint32_t count, uint32_t gathered)
{
    struct search *search = walk->search;
    struct scratch *s = search->scratch;
    struct candidate unseen[BATCH] = {0};
    for (uint32_t i = 0; i < count && gathered < s->gathered_room;) {
        uint32_t batch = 0;
        for (; i < count && batch < BATCH; i++) {
            unseen[batch].slot = slots[i];
            batch += !visit(s, slots[i]);
        }
        prefetch_users(search, unseen, batch);
        for (uint32_t k = 0; k < batch && gathered < s->gathered_room; k++)
            if (hnsw_passes(search, unseen[k].slot))
                s->gathered[gathered++] = unseen[k].slot;
    }
    return gathered;
}

static uint32_t gather_two_hops(struct walk *walk, uint32_t slot)
{
    struct kith_hnsw *h = walk->search->h;
    struct scratch *s = walk->search->scratch;
    uint32_t *near = s->chosen, *far = s->chosen + h->links0;
    uint32_t count = hnsw_links_copy(h, slot, 0, near);
    for (uint32_t i = 0; i < count; i++)
        prefetch_links(h, near[i]);
    uint32_t gathered = gather_passing(walk, near, count, 0);
    for (uint32_t i = 0; i < count && gathered < s->gathered_room; i++)
        gathered = gather_passing(walk, far, hnsw_links_copy(h, near[i], 0, far), gathered);
    return gathered;
}

static void compare(struct search *search, uint32_t gathered)
{
    struct scratch *s = search->scratch;
    hnsw_distances(search->h, search->target, s->gathered, gathered, s->distances);
    s->profile.evaluations += gathered;
}

/* The query's recall, not ef, may end the walk of the pool (index.h): what is left of it is open, then. */
static int stop_beam(struct walk *walk)
{
    struct pool *pool = &walk->search->scratch->pool;
    if (open_reserve(walk, pool->count - pool->next) != KITH_OK)
        return KITH_ENOMEM;
    while (pool->count > pool->next)
        walk->open->items[walk->open->count++] = pool->items[--pool->count];
    return KITH_OK;
}

static bool is_stopped(const struct search *search, const struct pool *pool)
{
    uint32_t k = search->stop.k;
    return k && pool->count >= k &&
           pool->items[pool->next].distance > stop_bound(search->stop, pool->items[k - 1].distance);
}

/* The walk as it is without a filter, but what does not fit into the pool is kept open, in no order yet. */
static int walk_beam(struct walk *walk)
{
    struct search *search = walk->search;
    struct scratch *s = search->scratch;
    struct pool *pool = &s->pool, *open = walk->open;
    for (;;) {
        while (pool->next < pool->count && pool->items[pool->next].slot & EXPANDED)
            pool->next++;
        if (pool->next == pool->count)
            return KITH_OK;
        if (is_stopped(search, pool))
            return stop_beam(walk);
        uint32_t slot = pool->items[pool->next].slot;
        pool->items[pool->next].slot |= EXPANDED;
        uint32_t count = gather(search, slot);
        s->profile.hops++;
        walk->expanded++;
        compare(search, count);
        if (open_reserve(walk, count) != KITH_OK)
            return KITH_ENOMEM;
        for (uint32_t i = 0; i < count; i++) {
            struct candidate left = {s->distances[i], s->gathered[i]};
            if (pool->count < pool->capacity || left.distance < pool->items[pool->count - 1].distance) {
                if (pool->count == pool->capacity)
                    left = pool->items[pool->count - 1];
                else
                    left.slot = KITH_HNSW_NONE;
                hnsw_pool_insert(pool, s->distances[i], s->gathered[i]);
                prefetch_links(search->h, s->gathered[i]);
            }
            open->items[open->count] = left;
            open->count += left.slot != KITH_HNSW_NONE;
        }
    }
}

/* Asks from the nearest on, until enough have passed or ef were asked. */
static void ask_beam(struct walk *walk)
{
    const struct pool *pool = &walk->search->scratch->pool;
    for (uint32_t i = 0; i < pool->count && !is_too_far(walk, pool->items[i].distance); i += BATCH) {
        uint32_t count = pool->count - i < BATCH ? pool->count - i : BATCH;
        prefetch_users(walk->search, pool->items + i, count);
        for (uint32_t k = 0; k < count; k++)
            ask(walk, &pool->items[i + k]);
    }
}

static int expand(struct walk *walk, uint32_t slot)
{
    struct search *search = walk->search;
    struct scratch *s = search->scratch;
    uint32_t count = walk->two_hop ? gather_two_hops(walk, slot) : gather(search, slot);
    s->profile.hops++;
    walk->expanded++;
    compare(search, count);
    if (open_reserve(walk, count) != KITH_OK)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        if (!is_too_far(walk, s->distances[i]))
            heap_push(walk->open, s->distances[i], s->gathered[i]);
    return KITH_OK;
}

/* ---- going on, or not ---- */

/* The share of all elements that passes, from random ones. */
static void probe(struct walk *walk)
{
    struct search *search = walk->search;
    struct kith_rng rng;
    kith_rng_seed(&rng, search->h->options.seed + search->n);
    uint32_t end = kith_hnsw_slot_end(search->h), live = 0, passed = 0;
    uint64_t count = search->n / PROBE_PART;
    count = count < PROBE_MIN ? PROBE_MIN : count > PROBE_MAX ? PROBE_MAX : count;
    for (uint64_t i = 0; i < count; i += BATCH) {
        struct candidate batch[BATCH] = {0};
        uint32_t size = 0;
        for (unsigned tries = 0; size < BATCH && tries < 8 * BATCH; tries++) {
            batch[size].slot = (uint32_t)kith_rng_below(&rng, end);
            size += kith_hnsw_is_live(search->h, batch[size].slot);
        }
        prefetch_users(search, batch, size);
        for (uint32_t k = 0; k < size; k++)
            passed += hnsw_passes(search, batch[k].slot);
        live += size;
    }
    walk->share = ((float)passed + 0.5f) / ((float)live + 1);
}

/* What is left to do, by how many of those near the query passed so far, and, while these are few, by how many pass
 * anywhere. The farther the walk gets, the fewer of a node's neighbours are new: half as many as so far, say. */
struct outlook {
    float share; /* of the next nodes, that will pass */
    float graph, two_hop, scan;
};

static struct outlook look_ahead(const struct walk *walk)
{
    const struct search *search = walk->search;
    const struct scratch *s = search->scratch;
    float n = (float)search->n, bytes = (float)search->h->code_stride;
    float missing = (float)(walk->wanted > s->found.count ? walk->wanted - s->found.count : 1);
    float asked = (float)walk->asked, passed = (float)walk->passed;
    float anywhere = walk->share < 0 ? passed / (asked + 1) : walk->share;
    struct outlook ahead = {.share = walk->share < 0 ? (passed + 0.5f) / (asked + 1)
                                                     : (passed + PRIOR) / (asked + PRIOR / walk->share)};
    float steps = missing / ahead.share, met = (float)(s->profile.evaluations - walk->before);
    float distance = COST_DISTANCE + bytes * COST_BYTE;
    steps = steps < n ? steps : n;
    ahead.graph = steps * (COST_STEP + met / (float)(2 * walk->expanded + 1) * distance);
    ahead.two_hop = (float)walk->wanted * COST_TWO_HOPS;
    ahead.scan = n * (COST_SCAN + anywhere * (COST_SCAN_PASS + bytes * COST_BYTE));
    return ahead;
}

/* The cheapest way on. Two hops find less, so they have to be much cheaper; and once taken they are kept to. */
static void choose_way(struct walk *walk)
{
    const struct search *search = walk->search;
    if (search->query->way != KITH_HNSW_WAY_CHOSEN || search->bounded || walk->two_hop)
        return;
    struct outlook ahead = look_ahead(walk);
    if (walk->share < 0 && (float)search->n * COST_SCAN < 2 * ahead.graph) {
        probe(walk);
        ahead = look_ahead(walk);
    }
    walk->two_hop =
        ahead.share >= TWO_HOP_SHARE && 2 * ahead.two_hop < ahead.graph && ahead.two_hop < ahead.scan;
    walk->scan = !walk->two_hop && ahead.scan < ahead.graph;
}

/* From the nearest that is open on. */
static int walk_on(struct walk *walk)
{
    struct search *search = walk->search;
    struct pool *open = walk->open;
    uint32_t look_at = 0;
    heap_make(open);
    while (open->count && !is_too_far(walk, open->items[0].distance) && !search->filter_spent) {
        if (walk->asked >= look_at) {
            choose_way(walk);
            if (walk->scan)
                return KITH_OK;
            look_at = walk->asked + LOOK_EVERY;
        }
        struct candidate batch[BATCH] = {0};
        uint32_t count = 0;
        while (count < BATCH && open->count && !is_too_far(walk, open->items[0].distance)) {
            batch[count] = heap_pop(open);
            prefetch_links(search->h, batch[count++].slot & ~EXPANDED);
        }
        prefetch_users(search, batch, count);
        for (uint32_t i = 0; i < count; i++) {
            bool passes = ask(walk, &batch[i]);
            bool leads_on = walk->two_hop ? passes : !(batch[i].slot & EXPANDED);
            if (leads_on && !is_too_far(walk, batch[i].distance) &&
                expand(walk, batch[i].slot & ~EXPANDED) != KITH_OK)
                return KITH_ENOMEM;
        }
    }
    return KITH_OK;
}

/* Beyond k: what the walk has missed, and what is ranked again by more than its code. */
static uint32_t wanted(const struct search *search)
{
    if (search->stop.k)
        return search->stop.k;
    enum kith_hnsw_codes codes = search->h->options.codes;
    uint32_t part = codes == KITH_HNSW_BIN ? 2 : codes == KITH_HNSW_I4 ? 4 : 16;
    return search->k + search->k / 4 + search->ef / part;
}

int hnsw_search_filtered(struct search *search, struct pool **result)
{
    struct kith_hnsw *h = search->h;
    struct scratch *s = search->scratch;
    uint32_t beam = hnsw_search_effort(h, search->ef);
    struct walk walk = {.search = search, .open = &s->open, .share = -1};
    walk.wanted = wanted(search);
    if (hnsw_scratch_prepare(h, s, beam) != KITH_OK ||
        hnsw_pool_reserve(h, &s->found, beam > walk.wanted ? beam : walk.wanted) != KITH_OK)
        return KITH_ENOMEM;
    s->open.count = 0;
    walk.two_hop = search->query->way == KITH_HNSW_WAY_TWO_HOP;
    if (hnsw_search_seed(search) != KITH_OK)
        return KITH_ENOMEM;
    hnsw_search_add_tail(search, &s->found);
    walk.before = s->profile.evaluations;
    if (walk_beam(&walk) != KITH_OK)
        return KITH_ENOMEM;
    ask_beam(&walk);
    if (s->found.count < walk.wanted && walk_on(&walk) != KITH_OK)
        return KITH_ENOMEM;
    s->profile.strategy = walk.two_hop ? KITH_HNSW_TWO_HOP : KITH_HNSW_GRAPH;
    if (walk.scan)
        return hnsw_search_scan(search, result);
    *result = &s->found;
    return KITH_OK;
}
