/* A join in steps: which owners to look at, what to keep of their partners, where a page ends.
 *
 * The nearest pairs (`top`): the links alone have nearly all of them, and where the n-th nearest link ends the
 * n-th nearest pair does, at the latest. So one pass over the links gives the bound, and a join within that bound,
 * which falls while better pairs are found, gives the pairs. Where the links between elements that pass the filter
 * are fewer than the pairs wanted, these elements are few as well, and are compared each with each. */
#include "vec/pairs_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of codes that a step, and a page, may read: about half a millisecond, and half a second. */
static const int64_t STEP_BYTES = INT64_C(4) << 20, PAGE_BYTES = INT64_C(4) << 30;
/* A sample of links tells how good codes are: at most so many elements, from the first few on so many bytes. */
enum { CALIBRATED_MOST = 256, CALIBRATED_LEAST = 16, CALIBRATED_BYTES = 16 << 20 };
enum {
    SCAN_ELEMENTS = 512, /* up to here comparing each with each is as fast */
    SPARE = 16,          /* nearest pairs beyond those asked for, in place of what is removed meanwhile */
    CURSOR_BITS = 31,
};
#define CURSOR_SLOT ((UINT64_C(1) << CURSOR_BITS) - 1)

void *pairs_grow(void *items, size_t item_bytes, uint32_t *room, uint32_t count)
{
    if (count <= *room)
        return items;
    uint32_t wanted = count + count / 2 + 16;
    void *grown = realloc(items, wanted * item_bytes);
    if (grown)
        *room = wanted;
    return grown;
}

/* ---- life ---- */

int kith_hnsw_pairs_open(struct kith_hnsw_pairs **out, struct kith_hnsw *h,
                         const struct kith_hnsw_pairs_options *o)
{
    bool pages = !o->top && !o->sample;
    if (o->top > KITH_HNSW_PAIRS_MAX || o->sample > KITH_HNSW_PAIRS_SAMPLE_MAX || (o->top && o->sample) ||
        (pages && (o->count < 1 || o->count > KITH_HNSW_PAIRS_MAX)) || (!o->top && isnan(o->max_distance)))
        return KITH_EINVAL;
    struct kith_hnsw_pairs *p = calloc(1, sizeof *p);
    if (!p)
        return KITH_ENOMEM;
    p->h = h;
    p->options = *o;
    p->bound = o->top ? INFINITY : o->max_distance;
    p->scan = kith_hnsw_count(h) <= SCAN_ELEMENTS;
    p->phase = p->scan ? PAIRS_LIST : PAIRS_CALIBRATE;
    p->page_left = PAGE_BYTES;
    kith_rng_seed(&p->rng, o->sample ? o->seed : kith_hnsw_get_options(h)->seed);
    *out = p;
    return KITH_OK;
}

void kith_hnsw_pairs_close(struct kith_hnsw_pairs *p)
{
    if (!p)
        return;
    pairs_partners_fini(&p->partners);
    free(p->list);
    free(p->pairs);
    free(p->truth);
    free(p);
}

/* ---- what is kept ---- */

static bool is_farther(const struct kith_hnsw_pair *x, const struct kith_hnsw_pair *y)
{
    if (x->distance != y->distance)
        return x->distance > y->distance;
    return x->a != y->a ? x->a > y->a : x->b > y->b;
}

static int nearest_first(const void *a, const void *b)
{
    const struct kith_hnsw_pair *x = a, *y = b;
    return is_farther(x, y) ? 1 : is_farther(y, x) ? -1 : 0;
}

static struct kith_hnsw_pair make_pair(const struct kith_hnsw_pairs *p, uint32_t a, uint32_t b,
                                       float distance)
{
    return (struct kith_hnsw_pair){distance, a, b, kith_hnsw_generation(p->h, a),
                                   kith_hnsw_generation(p->h, b)};
}

/* Puts a pair in the place of the farthest. */
static void heap_sink(struct kith_hnsw_pair *items, uint32_t count, struct kith_hnsw_pair moving)
{
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_farther(&items[child + 1], &items[child]))
            child++;
        if (!is_farther(&items[child], &moving))
            break;
        items[at] = items[child];
    }
    items[at] = moving;
}

static void heap_rise(struct kith_hnsw_pair *items, uint32_t at, struct kith_hnsw_pair moving)
{
    for (uint32_t parent; at > 0 && is_farther(&moving, &items[parent = (at - 1) / 2]); at = parent)
        items[at] = items[parent];
    items[at] = moving;
}

static uint32_t heap_room(const struct kith_hnsw_pairs *p)
{
    return p->options.top + SPARE;
}

int pairs_offer(struct kith_hnsw_pairs *p, uint32_t a, uint32_t b, float distance)
{
    struct kith_hnsw_pair pair = make_pair(p, a, b, distance);
    if (p->count < heap_room(p)) {
        struct kith_hnsw_pair *pairs = pairs_grow(p->pairs, sizeof *pairs, &p->room, p->count + 1);
        if (!pairs)
            return KITH_ENOMEM;
        p->pairs = pairs;
        heap_rise(p->pairs, p->count++, pair);
    } else if (is_farther(&p->pairs[0], &pair)) {
        heap_sink(p->pairs, p->count, pair);
    }
    if (p->count == heap_room(p) && p->pairs[0].distance < p->bound)
        p->bound = p->pairs[0].distance;
    return KITH_OK;
}

/* ---- how good codes are ---- */

static void calibrate_one(struct kith_hnsw_pairs *p, uint32_t slot)
{
    struct scratch *s = p->scratch;
    uint32_t count = hnsw_links_copy(p->h, slot, 0, s->gathered);
    pairs_set_owner(p, slot);
    hnsw_distances(p->h, p->target, s->gathered, count, s->distances);
    p->evaluations += count;
    p->left -= (int64_t)count * ((int64_t)p->h->code_stride + PAIRS_LOOK_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        float fine;
        pairs_fine_distances(p, slot, &s->gathered[i], 1, &fine);
        double error = (double)s->distances[i] - (double)fine;
        p->distance_sum += (double)fine;
        p->distance_squares += (double)fine * (double)fine;
        p->error_sum += error;
        p->error_squares += error * error;
    }
    p->link_count += count;
}

static double deviation(double sum, double squares, double count)
{
    double variance = squares / count - sum / count * (sum / count);
    return variance > 0 ? sqrt(variance) : 0;
}

static void conclude_calibration(struct kith_hnsw_pairs *p)
{
    double n = p->link_count ? p->link_count : 1;
    double bias = p->error_sum / n;
    p->link_distance = (float)(p->distance_sum / n);
    p->link_spread = (float)deviation(p->distance_sum, p->distance_squares, n);
    p->code_margin = (float)((bias > 0 ? bias : 0) + 3 * deviation(p->error_sum, p->error_squares, n));
}

static int calibrate(struct kith_hnsw_pairs *p)
{
    uint32_t end = kith_hnsw_slot_end(p->h);
    uint64_t most = CALIBRATED_BYTES / (p->h->code_stride * p->h->links0);
    most = most < CALIBRATED_LEAST ? CALIBRATED_LEAST : most > CALIBRATED_MOST ? CALIBRATED_MOST : most;
    for (; p->left > 0 && p->calibrated < most && end; p->calibrated++) {
        uint32_t slot = (uint32_t)kith_rng_below(&p->rng, end);
        if (slot_has_chunk(p->h, slot) && state_at(p->h, slot) == SLOT_LINKED)
            calibrate_one(p, slot);
    }
    if (p->calibrated < most && end)
        return 1;
    conclude_calibration(p);
    p->phase = p->options.top ? PAIRS_ESTIMATE : p->options.sample ? PAIRS_LIST : PAIRS_JOIN;
    p->next = p->options.top || p->options.sample ? 0 : (uint32_t)(p->options.cursor >> CURSOR_BITS);
    return 1;
}

/* ---- the nearest links ---- */

static int estimate_one(struct kith_hnsw_pairs *p, uint32_t slot)
{
    struct scratch *s = p->scratch;
    uint32_t count = hnsw_links_copy(p->h, slot, 0, s->chosen), owned = 0;
    for (uint32_t i = 0; i < count; i++)
        if (state_is_live(state_at(p->h, s->chosen[i])) && pairs_owns(p->h, slot, s->chosen[i]))
            s->gathered[owned++] = s->chosen[i];
    hnsw_distances(p->h, hnsw_target(p->h, slot), s->gathered, owned, s->distances);
    p->evaluations += owned;
    p->left -= (int64_t)owned * ((int64_t)p->h->code_stride + PAIRS_LOOK_BYTES) + PAIRS_LOOK_BYTES;
    for (uint32_t i = 0; i < owned; i++) {
        if (!(s->distances[i] < p->bound) || !pairs_passes(p, s->gathered[i]) || !pairs_passes(p, slot))
            continue;
        if (pairs_offer(p, slot, s->gathered[i], s->distances[i]) != KITH_OK)
            return KITH_ENOMEM;
    }
    return KITH_OK;
}

static void begin_join(struct kith_hnsw_pairs *p, bool scan)
{
    p->scan = scan;
    p->count = 0;
    p->next = 0;
    p->phase = PAIRS_JOIN;
}

static int estimate(struct kith_hnsw_pairs *p)
{
    uint32_t end = kith_hnsw_slot_end(p->h);
    for (; p->next < end && p->left > 0; p->next++)
        if (kith_hnsw_is_live(p->h, p->next) && estimate_one(p, p->next) != KITH_OK)
            return KITH_ENOMEM;
    if (p->next < end)
        return 1;
    if (p->count < heap_room(p)) {
        p->bound = INFINITY;
        p->next = 0;
        p->phase = PAIRS_LIST;
    } else {
        p->bound = pairs_code_bound(p, p->bound) + NEAR_ZERO;
        begin_join(p, false);
    }
    return 1;
}

/* ---- the list ---- */

static int list(struct kith_hnsw_pairs *p)
{
    uint32_t end = kith_hnsw_slot_end(p->h);
    for (; p->next < end && p->left > 0; p->next++) {
        p->left -= PAIRS_LOOK_BYTES;
        if (!slot_has_chunk(p->h, p->next) || !pairs_passes(p, p->next))
            continue;
        uint32_t *grown = pairs_grow(p->list, sizeof *grown, &p->list_room, p->list_count + 1);
        if (!grown)
            return KITH_ENOMEM;
        p->list = grown;
        p->list[p->list_count++] = p->next;
    }
    if (p->next < end)
        return 1;
    if (p->options.sample) {
        p->next = 0;
        p->sample_left = p->options.sample < p->list_count ? p->options.sample : p->list_count;
        p->phase = PAIRS_SAMPLE;
    } else {
        begin_join(p, true);
        p->next = p->options.top ? 0 : (uint32_t)(p->options.cursor >> CURSOR_BITS);
    }
    return 1;
}

/* ---- the join ---- */

/* What was found of an owner becomes part of the page; true: the page is full. */
static int append_partners(struct kith_hnsw_pairs *p)
{
    const struct partners *w = &p->partners;
    struct kith_hnsw_pair *pairs =
        pairs_grow(p->pairs, sizeof *pairs, &p->room, p->count + w->near_count + 1);
    if (!pairs)
        return KITH_ENOMEM;
    p->pairs = pairs;
    for (uint32_t i = 0; i < w->near_count; i++)
        p->pairs[p->count++] = make_pair(p, w->owner, w->near[i].slot, w->near[i].distance);
    if (p->count < p->options.count)
        return KITH_OK;
    p->cursor = kith_hnsw_pairs_cursor(&p->pairs[p->count - 1]);
    p->phase = PAIRS_DONE;
    return KITH_OK;
}

static int begin_owner(struct kith_hnsw_pairs *p)
{
    uint32_t slot = p->next, after = 0, most = UINT32_MAX;
    if (!slot_has_chunk(p->h, slot) || !pairs_passes(p, slot))
        return KITH_OK;
    if (!p->options.top) {
        most = p->options.count - p->count;
        if (slot == p->options.cursor >> CURSOR_BITS)
            after = (uint32_t)(p->options.cursor & CURSOR_SLOT);
    }
    return pairs_partners_begin(p, slot, p->scan, after, most);
}

/* Pairs at no distance cannot be bettered. */
static bool is_settled(const struct kith_hnsw_pairs *p)
{
    return p->options.top && p->count == heap_room(p) && p->bound <= 0 &&
           p->h->options.metric != KITH_HNSW_INNER_PRODUCT;
}

/* For this time: the next one goes on. */
static bool page_is_over(const struct kith_hnsw_pairs *p)
{
    return p->page_left < STEP_BYTES - p->left;
}

static int join(struct kith_hnsw_pairs *p)
{
    while (p->left > 0 && p->phase == PAIRS_JOIN) {
        uint32_t end = kith_hnsw_slot_end(p->h);
        int rc = KITH_OK;
        if (p->next >= end || is_settled(p)) {
            p->phase = PAIRS_DONE;
            break;
        }
        if (!p->options.top && !p->partners.active && page_is_over(p)) {
            p->cursor = (uint64_t)p->next << CURSOR_BITS;
            p->phase = PAIRS_DONE;
            break;
        }
        if (!p->partners.active) {
            p->left -= p->scan ? 0 : PAIRS_LOOK_BYTES;
            rc = begin_owner(p);
        }
        if (rc == KITH_OK && p->partners.active) {
            rc = pairs_partners_step(p);
            if (rc > 0)
                break;
            if (rc == KITH_OK && p->partners.near_count)
                rc = append_partners(p);
        }
        if (rc != KITH_OK)
            return rc;
        p->next++;
    }
    return 1;
}

/* ---- the sample ---- */

/* Both lists are in the order of slots. What is gone by now was not there to be found. */
static void count_found(struct kith_hnsw_pairs *p)
{
    const struct partners *w = &p->partners;
    uint32_t at = 0, near = 0, found = 0;
    for (uint32_t i = 0; i < p->truth_count; i++) {
        while (at < w->near_count && w->near[at].slot < p->truth[i].slot)
            at++;
        bool is_found = at < w->near_count && w->near[at].slot == p->truth[i].slot;
        found += is_found;
        near += is_found || kith_hnsw_is_live(p->h, p->truth[i].slot);
    }
    p->near += near;
    p->found += found;
    p->near_squares += (double)near * near;
    p->sampled++;
}

/* The scan's partners are put aside, and the walk begins. */
static int begin_walk(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    struct candidate *truth = p->truth;
    uint32_t room = p->truth_room;
    p->truth = w->near;
    p->truth_room = w->near_room;
    p->truth_count = w->near_count;
    w->near = truth;
    w->near_room = room;
    p->sample_stage = SAMPLE_WALK;
    return pairs_partners_begin(p, w->owner, false, 0, UINT32_MAX);
}

/* The next element is taken with the probability that is due (Knuth, volume 2, 3.4.2, algorithm S). */
static int begin_scan(struct kith_hnsw_pairs *p)
{
    uint32_t slot = p->list[p->next], left = p->list_count - p->next++;
    p->left -= 1;
    if (kith_rng_below(&p->rng, left) >= p->sample_left)
        return KITH_OK;
    p->sample_left--;
    if (!kith_hnsw_is_live(p->h, slot))
        return KITH_OK;
    p->sample_stage = SAMPLE_SCAN;
    return pairs_partners_begin(p, slot, true, 0, UINT32_MAX);
}

/* One look-for after the other: an element's partners by a scan, then, if it has any, from the graph. */
static int sample(struct kith_hnsw_pairs *p)
{
    int rc = KITH_OK;
    while (p->left > 0 && rc == KITH_OK) {
        if (p->partners.active) {
            rc = pairs_partners_step(p);
        } else if (p->sample_stage == SAMPLE_SCAN && p->partners.near_count) {
            rc = begin_walk(p);
        } else if (p->sample_stage != SAMPLE_NEXT) {
            count_found(p);
            p->sample_stage = SAMPLE_NEXT;
        } else if (p->sample_left && p->next < p->list_count) {
            p->truth_count = 0;
            rc = begin_scan(p);
        } else {
            p->phase = PAIRS_DONE;
            break;
        }
    }
    return rc < 0 ? rc : 1;
}

/* ---- steps ---- */

/* The owner may be gone since the last step, and its pairs with it. */
static void resume(struct kith_hnsw_pairs *p)
{
    struct partners *w = &p->partners;
    if (!w->active)
        return;
    if (kith_hnsw_is_live(p->h, w->owner) && kith_hnsw_generation(p->h, w->owner) == w->generation) {
        pairs_set_owner(p, w->owner);
        return;
    }
    w->active = false;
    w->near_count = 0;
    p->sample_stage = SAMPLE_NEXT;
    if (p->phase == PAIRS_JOIN)
        p->next++;
}

static int step(struct kith_hnsw_pairs *p)
{
    resume(p);
    switch (p->phase) {
    case PAIRS_CALIBRATE:
        return calibrate(p);
    case PAIRS_ESTIMATE:
        return estimate(p);
    case PAIRS_LIST:
        return list(p);
    case PAIRS_JOIN:
        return join(p);
    case PAIRS_SAMPLE:
        return sample(p);
    case PAIRS_DONE:
        break;
    }
    return 0;
}

int kith_hnsw_pairs_step(struct kith_hnsw_pairs *p)
{
    if (p->phase == PAIRS_DONE)
        return 0;
    p->scratch = hnsw_scratch_take(p->h);
    if (!p->scratch)
        return KITH_ENOMEM;
    p->left = STEP_BYTES;
    int rc = step(p);
    hnsw_scratch_give(p->h, p->scratch);
    p->page_left -= STEP_BYTES - p->left;
    p->scratch = NULL;
    if (rc < 0 || p->phase != PAIRS_DONE)
        return rc;
    if (p->options.top && p->count)
        qsort(p->pairs, p->count, sizeof *p->pairs, nearest_first);
    return 0;
}

struct kith_hnsw_pairs_result kith_hnsw_pairs_get(const struct kith_hnsw_pairs *p)
{
    struct kith_hnsw_pairs_result result = {
        .pairs = p->pairs,
        .count = p->count,
        .cursor = p->cursor,
        .evaluations = p->evaluations,
        .hops = p->hops,
        .sampled = p->sampled,
        .near = p->near,
        .found = p->found,
    };
    if (p->near_squares > 0)
        result.effective_count = (double)p->near * (double)p->near / p->near_squares;
    return result;
}
