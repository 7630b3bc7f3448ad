/* Sample queries: scan and walk, see sample.h. */
#include "vec/sample.h"

#include "vec/search.h"
#include "vec/spread.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, TRIES = 1000 };

static int open_pool(struct pool *pool, uint32_t capacity)
{
    *pool = (struct pool){.capacity = capacity, .room = capacity};
    pool->items = capacity ? malloc(capacity * sizeof *pool->items) : NULL;
    return pool->items || !capacity ? KITH_OK : KITH_ENOMEM;
}

int hnsw_sample_init(struct sample *sample, const struct kith_hnsw *h, uint32_t k, uint32_t ef)
{
    *sample = (struct sample){.self = KITH_HNSW_NONE, .other = KITH_HNSW_NONE};
    sample->vector = malloc(h->options.dim * sizeof *sample->vector);
    if (!sample->vector || open_pool(&sample->nearest, k) != KITH_OK ||
        open_pool(&sample->by_code, ef) != KITH_OK)
        return KITH_ENOMEM;
    return KITH_OK;
}

void hnsw_sample_fini(struct sample *sample)
{
    free(sample->vector);
    free(sample->nearest.items);
    free(sample->by_code.items);
}

static void begin(struct sample *sample)
{
    sample->position = 0;
    sample->nearest.count = sample->by_code.count = 0;
}

void hnsw_sample_set(struct sample *sample, const struct kith_hnsw *h, const float *vector)
{
    memcpy(sample->vector, vector, h->options.dim * sizeof *vector);
    sample->self = sample->other = KITH_HNSW_NONE;
    begin(sample);
}

static uint32_t draw_linked(const struct kith_hnsw *h, struct kith_rng *rng)
{
    uint32_t end = kith_hnsw_slot_end(h);
    for (unsigned tries = 0; end && tries < TRIES; tries++) {
        uint32_t slot = (uint32_t)kith_rng_below(rng, end);
        if (slot_has_chunk(h, slot) && state_at(h, slot) == SLOT_LINKED)
            return slot;
    }
    return KITH_HNSW_NONE;
}

bool hnsw_sample_draw(struct sample *sample, const struct kith_hnsw *h, struct kith_rng *rng)
{
    uint32_t slot = draw_linked(h, rng);
    if (slot == KITH_HNSW_NONE)
        return false;
    kith_hnsw_vector(h, slot, sample->vector);
    sample->self = slot;
    sample->other = KITH_HNSW_NONE;
    begin(sample);
    return true;
}

bool hnsw_sample_draw_between(struct sample *sample, const struct kith_hnsw *h, struct kith_rng *rng)
{
    uint32_t self = draw_linked(h, rng), other = draw_linked(h, rng), dim = h->options.dim;
    float *vector = malloc(dim * sizeof *vector), part = 0.25f + 0.5f * (float)kith_rng_unit(rng);
    bool drawn = vector && self != KITH_HNSW_NONE && other != KITH_HNSW_NONE;
    if (drawn) {
        kith_hnsw_vector(h, self, sample->vector);
        kith_hnsw_vector(h, other, vector);
        for (uint32_t i = 0; i < dim; i++)
            sample->vector[i] += part * (vector[i] - sample->vector[i]);
        sample->self = self;
        sample->other = other;
        begin(sample);
    }
    free(vector);
    return drawn;
}

struct target hnsw_sample_target(const struct sample *sample, const struct kith_hnsw *h, struct scratch *s)
{
    return hnsw_query_target(h, s, sample->vector);
}

/* ---- the scan ---- */

static void compare(struct sample *sample, struct kith_hnsw *h, struct target target, const uint32_t *slots,
                    uint32_t count)
{
    float distances[BATCH];
    hnsw_fine_distances(h, target, slots, count, distances);
    for (uint32_t i = 0; i < count; i++)
        hnsw_pool_insert(&sample->nearest, distances[i], slots[i]);
    if (!sample->by_code.capacity)
        return;
    hnsw_distances(h, target, slots, count, distances);
    for (uint32_t i = 0; i < count; i++)
        hnsw_pool_insert(&sample->by_code, distances[i], slots[i]);
}

bool hnsw_sample_scan(struct sample *sample, struct kith_hnsw *h, struct scratch *s, struct target target,
                      uint32_t count)
{
    uint32_t slots[BATCH], found = 0, all = kith_hnsw_slot_end(h);
    uint32_t end = all - sample->position < count || sample->position > all ? all : sample->position + count;
    for (; sample->position < end; sample->position++) {
        uint32_t slot = sample->position;
        if (slot == sample->self || slot == sample->other || !slot_has_chunk(h, slot) ||
            !state_is_live(state_at(h, slot)))
            continue;
        slots[found++] = slot;
        if (found == BATCH) {
            compare(sample, h, target, slots, found);
            found = 0;
        }
    }
    compare(sample, h, target, slots, found);
    s->profile.evaluations += count;
    return end == all;
}

/* ---- the walk ---- */

/* Where the way down ended, but not in the sample itself. */
static void seed(const struct sample *sample, struct kith_hnsw *h, struct scratch *s, struct target target)
{
    float distance;
    unsigned top;
    uint32_t start = hnsw_descend(h, s, target, 0, &distance, &top);
    if (sample->self != KITH_HNSW_NONE)
        visit(s, sample->self);
    if (start == sample->self && start != KITH_HNSW_NONE) {
        /* The way down ended in itself: go on from where it would have stood before, the nearest that it links to. */
        if (kith_hnsw_links(h, start, 0, &start, 1) == 0)
            return;
        hnsw_distances(h, target, &start, 1, &distance);
    }
    if (start != KITH_HNSW_NONE && !visit(s, start))
        hnsw_pool_insert(&s->pool, distance, start);
}

int hnsw_sample_walk(struct sample *sample, struct kith_hnsw *h, struct scratch *s, struct target target,
                     uint32_t ef, uint32_t width)
{
    struct search search = {.h = h, .scratch = s, .target = target};
    sample->by_rows = is_spread(h) && hnsw_spread_is_ready(h);
    if (hnsw_scratch_prepare(h, s, ef) != KITH_OK ||
        (sample->by_rows && hnsw_pool_reserve(h, &s->found, ef) != KITH_OK))
        return KITH_ENOMEM;
    if (width > 1)
        hnsw_descend_wide(h, s, target, width, sample->self);
    else
        seed(sample, h, s, target);
    if (sample->other != KITH_HNSW_NONE)
        visit(s, sample->other);
    if (sample->by_rows)
        hnsw_spread_prepare(&search, &sample->rows);
    return KITH_OK;
}

bool hnsw_sample_peek(struct scratch *s, float *distance)
{
    struct pool *pool = &s->pool;
    while (pool->next < pool->count && pool->items[pool->next].slot & EXPANDED)
        pool->next++;
    if (pool->next == pool->count)
        return false;
    *distance = pool->items[pool->next].distance;
    return true;
}

static bool is_among(uint32_t slot, const uint32_t *slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (slots[i] == slot)
            return true;
    return false;
}

/* Where `slot`, which links to the sample's element, would link to in its place: the nearest to it of the element's
 * neighbours that it does not link to yet. NONE: there is none. */
static uint32_t step_over(const struct sample *sample, struct kith_hnsw *h, struct scratch *s, uint32_t slot,
                          const uint32_t *links, uint32_t count)
{
    uint32_t *offered = s->gathered, best = KITH_HNSW_NONE; /* gathered is not filled yet */
    uint32_t offered_count = hnsw_links_copy(h, sample->self, 0, offered);
    float nearest = 0;
    for (uint32_t i = 0; i < offered_count; i++) {
        if (offered[i] == slot || offered[i] == sample->self || is_among(offered[i], links, count) ||
            !kith_hnsw_is_live(h, offered[i]))
            continue;
        float distance = kith_hnsw_distance(h, slot, offered[i]);
        if (best == KITH_HNSW_NONE || distance < nearest) {
            best = offered[i];
            nearest = distance;
        }
    }
    return best;
}

/* The link of `slot` that is mended, when it leads to the sample itself; else NONE. */
static uint32_t mended_link(const struct sample *sample, struct kith_hnsw *h, struct scratch *s,
                            uint32_t slot, const uint32_t *links, uint32_t count)
{
    if (sample->self == KITH_HNSW_NONE || !sample->mended || !is_among(sample->self, links, count))
        return KITH_HNSW_NONE;
    return step_over(sample, h, s, slot, links, count);
}

static uint32_t expand_by_rows(const struct sample *sample, struct kith_hnsw *h, struct scratch *s,
                               struct target target, uint32_t slot)
{
    struct search search = {.h = h, .scratch = s, .target = target};
    uint32_t *links = s->chosen, over = KITH_HNSW_NONE;
    float distance;
    if (sample->self != KITH_HNSW_NONE && sample->mended)
        over = mended_link(sample, h, s, slot, links, hnsw_links_copy(h, slot, 0, links));
    hnsw_distances(h, target, &slot, 1, &distance);
    hnsw_pool_insert(&s->found, distance, slot);
    hnsw_spread_expand(&search, &sample->rows, slot, distance);
    s->profile.evaluations++;
    if (over != KITH_HNSW_NONE && !visit(s, over)) {
        float other;
        hnsw_distances(h, target, &over, 1, &other);
        hnsw_pool_insert(&s->pool, other, over);
    }
    s->gathered[0] = slot;
    s->distances[0] = distance;
    return 1;
}

uint32_t hnsw_sample_expand(const struct sample *sample, struct kith_hnsw *h, struct scratch *s,
                            struct target target)
{
    struct pool *pool = &s->pool;
    uint32_t slot = pool->items[pool->next].slot, *links = s->chosen, count = 0;
    pool->items[pool->next++].slot |= EXPANDED;
    if (sample->by_rows)
        return expand_by_rows(sample, h, s, target, slot);
    uint32_t link_count = hnsw_links_copy(h, slot, 0, links);
    uint32_t over = mended_link(sample, h, s, slot, links, link_count);
    if (over != KITH_HNSW_NONE)
        links[link_count++] = over; /* chosen has room for far more */
    for (uint32_t i = 0; i < link_count; i++)
        if (!visit(s, links[i]))
            s->gathered[count++] = links[i];
    s->profile.evaluations += count;
    hnsw_distances(h, target, s->gathered, count, s->distances);
    for (uint32_t i = 0; i < count; i++)
        hnsw_pool_insert(pool, s->distances[i], s->gathered[i]);
    return count;
}

void hnsw_sample_refine(struct kith_hnsw *h, struct scratch *s, struct pool *pool, struct target target,
                        uint32_t k)
{
    struct search search = {.h = h, .scratch = s, .target = target, .k = k};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < pool->count; i++) {
        uint32_t slot = pool->items[i].slot & ~EXPANDED;
        if (kith_hnsw_is_live(h, slot)) /* what the scan met may be gone since */
            pool->items[kept++] = (struct candidate){pool->items[i].distance, slot};
    }
    pool->count = kept;
    if (hnsw_is_refinable(h, &target))
        hnsw_refine(&search, pool);
}
