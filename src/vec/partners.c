/* The partners of one element: from the graph, or by a scan. The walk starts at the element itself and reads the links
 * of everything within reach, in no order: all of it has to be seen. Codes say who may be near; who is, the
 * finest that is kept says. */
#include "vec/pairs_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 32,
    TAIL_EF = 64, /* candidates looked at in place of the links that an unlinked element has not got yet */
    NEAR_ROOM = 64,
};
/* Times the bound: pairs that a link leads to directly have most of the recall, this has the rest. */
static const float REACH = 1.5f;
/* For inner products, which have no zero to be near to: in standard deviations of links. */
static const float PRODUCT_REACH = 0.5f;
/* Times what the metric's rounding is: the most that recoding what is kept may put between equals. */
static const float SELF_MOST = 1000;

bool pairs_passes(const struct kith_hnsw_pairs *p, uint32_t slot)
{
    if (!state_is_live(state_at(p->h, slot)))
        return false;
    return !p->options.filter ||
           p->options.filter(p->options.filter_context, slot, kith_hnsw_user(p->h, slot));
}

/* ---- distances ---- */

/* Rounding moves a squared distance the more the longer it is: what was seen of links holds up to their
 * length, and grows with the root beyond. */
static float margin(const struct kith_hnsw_pairs *p, float bound)
{
    if (p->h->options.metric == KITH_HNSW_INNER_PRODUCT || !(bound > p->link_distance) ||
        !(p->link_distance > 0))
        return p->code_margin;
    return p->code_margin * sqrtf(bound / p->link_distance);
}

float pairs_code_bound(const struct kith_hnsw_pairs *p, float bound)
{
    return bound + margin(p, bound);
}

/* How far away links are still read. */
static float reach(const struct kith_hnsw_pairs *p)
{
    float wide = p->h->options.metric == KITH_HNSW_INNER_PRODUCT ? p->bound + PRODUCT_REACH * p->link_spread
                                                                 : REACH * (p->bound > 0 ? p->bound : 0);
    return wide + margin(p, p->bound) + p->tolerance;
}

void pairs_set_owner(struct kith_hnsw_pairs *p, uint32_t owner)
{
    const struct kith_hnsw *h = p->h;
    float norm = h->options.metric == KITH_HNSW_COSINE ? 1 : norm_for_products(h, kith_hnsw_norm(h, owner));
    p->target = hnsw_target(h, owner);
    p->fine_ready = false;
    p->tolerance = NEAR_ZERO * (norm < 1 ? 1 : norm * norm);
}

/* What an element is from itself is rounding: what is as near is equal to it. */
static void prepare_fine(struct kith_hnsw_pairs *p, uint32_t owner)
{
    p->fine = hnsw_element_target(p->h, p->scratch, owner);
    p->fine_ready = true;
    hnsw_fine_distances(p->h, p->fine, &owner, 1, &p->self);
    if (p->h->options.metric == KITH_HNSW_INNER_PRODUCT || !(p->self < SELF_MOST * p->tolerance))
        p->self = -INFINITY;
}

void pairs_fine_distances(struct kith_hnsw_pairs *p, uint32_t owner, const uint32_t *slots, uint32_t count,
                          float *out)
{
    if (!p->fine_ready)
        prepare_fine(p, owner);
    hnsw_fine_distances(p->h, p->fine, slots, count, out);
    for (uint32_t i = 0; i < count; i++)
        out[i] = out[i] <= p->self ? 0 : hnsw_clamp(p->h, out[i]);
}

/* ---- what is found ---- */

static int by_slot(const void *a, const void *b)
{
    uint32_t x = ((const struct candidate *)a)->slot, y = ((const struct candidate *)b)->slot;
    return (x > y) - (x < y);
}

/* The first by slot stay; what comes behind them is not wanted any more. */
static void near_cut(struct partners *w)
{
    qsort(w->near, w->near_count, sizeof *w->near, by_slot);
    if (w->near_count > w->most) {
        w->near_count = w->most;
        w->near_end = w->near[w->most - 1].slot;
    }
}

static int near_add(struct partners *w, uint32_t slot, float distance)
{
    if (w->near_count >= NEAR_ROOM && w->near_count / 2 >= w->most)
        near_cut(w);
    if (slot >= w->near_end)
        return KITH_OK;
    struct candidate *near = pairs_grow(w->near, sizeof *near, &w->near_room, w->near_count + 1);
    if (!near)
        return KITH_ENOMEM;
    w->near = near;
    w->near[w->near_count++] = (struct candidate){distance, slot};
    return KITH_OK;
}

/* Of these the codes say that they may be near. */
static int decide(struct kith_hnsw_pairs *p, const uint32_t *slots, uint32_t count)
{
    struct partners *w = &p->partners;
    float distances[BATCH];
    pairs_fine_distances(p, w->owner, slots, count, distances);
    p->left -= (int64_t)count * (4 * (int64_t)p->h->code_stride + 2 * PAIRS_LOOK_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        if (!(distances[i] <= p->bound + p->tolerance) || !pairs_passes(p, slots[i]))
            continue;
        int rc = p->options.top ? pairs_offer(p, w->owner, slots[i], distances[i])
                                : near_add(w, slots[i], distances[i]);
        if (rc != KITH_OK)
            return rc;
    }
    return KITH_OK;
}

/* A norm may be read of what is live. */
static bool is_wanted(const struct kith_hnsw_pairs *p, uint32_t slot)
{
    const struct partners *w = &p->partners;
    return state_is_live(state_at(p->h, slot)) && slot >= w->after && slot < w->near_end &&
           pairs_owns(p->h, w->owner, slot);
}

/* ---- from the graph ---- */

/* Marks it; returns whether it was marked already. What was added since counts as marked. */
static inline bool mark(struct partners *w, uint32_t slot)
{
    if (slot / 64 >= w->seen_words)
        return true;
    uint64_t bit = (uint64_t)1 << slot % 64, word = w->seen[slot / 64];
    if (word & bit)
        return true;
    w->seen[slot / 64] = word | bit;
    w->touched[w->touched_count++] = slot;
    return false;
}

static void forget(struct partners *w)
{
    for (uint32_t i = 0; i < w->touched_count; i++)
        w->seen[w->touched[i] / 64] = 0;
    w->touched_count = w->queue_count = 0;
}

/* Room to mark, and to queue, `more`. */
static int reserve(struct partners *w, uint32_t more)
{
    uint32_t *touched = pairs_grow(w->touched, sizeof *touched, &w->touched_room, w->touched_count + more);
    if (!touched)
        return KITH_ENOMEM;
    w->touched = touched;
    uint32_t *queue = pairs_grow(w->queue, sizeof *queue, &w->queue_room, w->queue_count + more);
    if (!queue)
        return KITH_ENOMEM;
    w->queue = queue;
    return KITH_OK;
}

/* Slots and their distances by code, at most links0 or BATCH of them. */
static int consider(struct kith_hnsw_pairs *p, const uint32_t *slots, const float *distances, uint32_t count)
{
    struct partners *w = &p->partners;
    float code_bound = fmaxf(pairs_code_bound(p, p->bound) + p->tolerance, p->target.most), far = reach(p);
    uint32_t batch[BATCH], batched = 0;
    int rc = KITH_OK;
    for (uint32_t i = 0; i < count && rc == KITH_OK; i++) {
        if (distances[i] <= far)
            w->queue[w->queue_count++] = slots[i];
        if (distances[i] <= code_bound && is_wanted(p, slots[i]))
            batch[batched++] = slots[i];
        if (batched == BATCH) {
            rc = decide(p, batch, batched);
            batched = 0;
        }
    }
    return batched && rc == KITH_OK ? decide(p, batch, batched) : rc;
}

/* The slots that were not seen yet are compared. */
static int compare(struct kith_hnsw_pairs *p, const uint32_t *slots, uint32_t count)
{
    struct scratch *s = p->scratch;
    uint32_t unseen = 0;
    if (reserve(&p->partners, count) != KITH_OK)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        if (!mark(&p->partners, slots[i]))
            s->gathered[unseen++] = slots[i];
    hnsw_distances(p->h, p->target, s->gathered, unseen, s->distances);
    p->evaluations += unseen;
    p->left -= (int64_t)unseen * ((int64_t)p->h->code_stride + PAIRS_LOOK_BYTES);
    return consider(p, s->gathered, s->distances, unseen);
}

static int read_links(struct kith_hnsw_pairs *p, uint32_t slot)
{
    uint32_t count = hnsw_links_copy(p->h, slot, 0, p->scratch->chosen);
    p->hops++;
    p->left -= (int64_t)p->h->links0 * (int64_t)sizeof(uint32_t);
    return compare(p, p->scratch->chosen, count);
}

/* Unlinked elements are compared one and all, as in a search. */
static int look_through_tail(struct kith_hnsw_pairs *p)
{
    uint64_t position = atomic_load_explicit(&p->h->tail_head, memory_order_acquire);
    uint32_t slots[BATCH], owned;
    for (uint32_t count; (count = hnsw_tail_read(p->h, &position, slots, BATCH)) > 0;) {
        owned = 0;
        for (uint32_t i = 0; i < count; i++)
            if (is_wanted(p, slots[i]))
                slots[owned++] = slots[i];
        if (compare(p, slots, owned) != KITH_OK)
            return KITH_ENOMEM;
    }
    return KITH_OK;
}

/* An unlinked owner has no links to begin with: a search finds what they would lead to. */
static int search_neighbours(struct kith_hnsw_pairs *p)
{
    struct kith_hnsw *h = p->h;
    struct scratch *s = p->scratch;
    float distance;
    unsigned top;
    if (hnsw_scratch_prepare(h, s, TAIL_EF) != KITH_OK)
        return KITH_ENOMEM;
    uint32_t start = hnsw_descend(h, s, p->target, 0, &distance, &top);
    if (start == KITH_HNSW_NONE)
        return KITH_OK;
    visit(s, start);
    hnsw_pool_insert(&s->pool, distance, start);
    hnsw_walk(h, s, p->target, 0, UINT32_MAX);
    for (uint32_t i = 0; i < s->pool.count; i++) {
        uint32_t slot = s->pool.items[i].slot & ~EXPANDED;
        if (compare(p, &slot, 1) != KITH_OK)
            return KITH_ENOMEM;
    }
    return KITH_OK;
}

static int seen_reserve(struct partners *w, uint32_t slot_end)
{
    uint32_t words = slot_end / 64 + 1;
    if (words <= w->seen_words)
        return KITH_OK;
    uint64_t *seen = calloc(words + words / 8, sizeof *seen);
    if (!seen)
        return KITH_ENOMEM;
    free(w->seen);
    w->seen = seen;
    w->seen_words = words + words / 8;
    return KITH_OK;
}

static int walk_begin(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    if (seen_reserve(w, kith_hnsw_slot_end(p->h)) != KITH_OK || reserve(w, 1) != KITH_OK)
        return KITH_ENOMEM;
    enum slot_state state = state_at(p->h, w->owner);
    mark(w, w->owner);
    int rc = read_links(p, w->owner);
    if (rc == KITH_OK && state != SLOT_LINKED)
        rc = search_neighbours(p);
    if (rc == KITH_OK && atomic_load_explicit(&p->h->tail_count, memory_order_relaxed))
        rc = look_through_tail(p);
    return rc;
}

/* A slot in the queue may have been given back, or to another element, since an earlier step. */
static bool has_links(const struct kith_hnsw *h, uint32_t slot)
{
    return slot_has_chunk(h, slot) && state_at(h, slot) != SLOT_FREE;
}

static int walk_step(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    while (w->queue_count && p->left > 0) {
        uint32_t slot = w->queue[--w->queue_count];
        if (has_links(p->h, slot) && read_links(p, slot) != KITH_OK)
            return KITH_ENOMEM;
    }
    return w->queue_count > 0;
}

/* ---- by a scan ---- */

static int scan_step(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    uint32_t slots[BATCH], count = 0;
    bool ordered = p->h->options.metric != KITH_HNSW_INNER_PRODUCT;
    for (; w->scan_next < p->list_count && p->left > 0; w->scan_next++) {
        uint32_t slot = p->list[w->scan_next];
        if (ordered && slot >= w->owner)
            w->scan_next = p->list_count - 1;
        if (slot == w->owner || !kith_hnsw_is_live(p->h, slot) || !is_wanted(p, slot))
            continue;
        slots[count++] = slot;
        if (count < BATCH)
            continue;
        if (decide(p, slots, count) != KITH_OK)
            return KITH_ENOMEM;
        p->evaluations += count;
        p->left -= (int64_t)count * (int64_t)p->h->code_stride;
        count = 0;
    }
    p->evaluations += count;
    if (count && decide(p, slots, count) != KITH_OK)
        return KITH_ENOMEM;
    return w->scan_next < p->list_count;
}

/* ---- one owner ---- */

int pairs_partners_begin(struct kith_hnsw_pairs *p, uint32_t owner, bool scan, uint32_t after, uint32_t most)
{
    struct partners *w = &p->partners;
    w->owner = owner;
    w->generation = kith_hnsw_generation(p->h, owner);
    w->scan = scan;
    w->after = after;
    w->near_end = KITH_HNSW_NONE;
    w->most = most;
    w->near_count = w->scan_next = 0;
    w->active = true;
    forget(w);
    pairs_set_owner(p, owner);
    return scan ? KITH_OK : walk_begin(p);
}

int pairs_partners_step(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    int rc = w->scan ? scan_step(p) : walk_step(p);
    if (rc == 0) {
        w->active = false;
        if (w->near_count > 1)
            near_cut(w);
    }
    return rc;
}

void pairs_partners_fini(struct partners *w)
{
    free(w->seen);
    free(w->touched);
    free(w->queue);
    free(w->near);
}
