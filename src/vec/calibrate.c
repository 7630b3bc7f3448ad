/* Effort by recall, see calibrate.h: taking samples, and what is learned of them. It is kept as histograms over the slack:
 * of the true neighbours that a search comes upon with that slack and not with less, and of the distances computed until
 * a search with it ends; for each width of the way down. They add up over samples and age by being halved. What searches
 * go by is made of them in calibrate_table.c. */
#include "vec/calibrate.h"

#include "base/varint.h"
#include "vec/calibrate_internal.h"
#include "vec/sample.h"
#include "vec/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RIGHT_MAX = 256,   /* elements counted as right: those as near as the 100th */
    SEEN_SLOTS = 1024, /* of the table of these */
    VERSION = 2,
};

/* How much farther than the k-th best a candidate is. */
static float need_of(const struct hnsw_calibration *c, float distance, float kth)
{
    if (c->by_difference)
        return (distance - kth) / c->sample_scale;
    kth = kth > c->least ? kth : c->least;
    return distance / kth - 1;
}

/* ---- one sample ---- */

/* Slots that are right answers, and what is known of each. */
struct right {
    uint32_t slot;
    unsigned ks; /* bit i: it is one of the ks[i] nearest */
    uint32_t bins
        [KITH_CALIBRATION_KS]; /* with less slack a search would not have come upon it; BINS: none would */
    float distance;            /* by code; INFINITY: not met, or in the tail */
};

/* One walk of a sample. */
struct track {
    struct hnsw_calibration *c;
    struct kith_hnsw *h;
    struct scratch *s;
    struct target target;
    struct learned *one;
    unsigned width;
    struct right rights[RIGHT_MAX];
    uint32_t right_count;
    uint16_t seen[SEEN_SLOTS]; /* by hash of the slot: index in rights, + 1 */
    uint32_t bins[KITH_CALIBRATION_KS];
    float kth[KITH_CALIBRATION_KS]; /* when the walk is over, by code; INFINITY: fewer were found */
};

static uint32_t hash_slot(uint32_t slot)
{
    return slot * 0x9e3779b1u >> 22;
}
static_assert(SEEN_SLOTS == 1 << 10, "hash_slot gives ten bits");

static struct right *find_right(struct track *t, uint32_t slot)
{
    for (uint32_t at = hash_slot(slot); t->seen[at]; at = (at + 1) % SEEN_SLOTS)
        if (t->rights[t->seen[at] - 1].slot == slot)
            return &t->rights[t->seen[at] - 1];
    return NULL;
}

/* False: it is there, or there is no room. */
static bool add_right(struct track *t, uint32_t slot, unsigned of_ks)
{
    if (t->right_count == RIGHT_MAX || find_right(t, slot))
        return false;
    t->rights[t->right_count++] = (struct right){.slot = slot, .ks = of_ks};
    uint32_t at = hash_slot(slot);
    while (t->seen[at])
        at = (at + 1) % SEEN_SLOTS;
    t->seen[at] = (uint16_t)t->right_count;
    return true;
}

/* Among the k nearest, or as near as the k-th: rounding differs with how many are compared at once. */
static unsigned right_for(const struct sample *sample, uint32_t slot, float distance)
{
    const struct pool *nearest = &sample->nearest;
    uint32_t rank = 0;
    unsigned bits = 0;
    while (rank < nearest->count && nearest->items[rank].slot != slot)
        rank++;
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++)
        if (nearest->count >= hnsw_calibration_ks[i])
            bits |= (unsigned)(rank < hnsw_calibration_ks[i] ||
                               distance <= nearest->items[hnsw_calibration_ks[i] - 1].distance)
                    << i;
    return bits;
}

static void add_nearest(struct track *t)
{
    const struct pool *nearest = &t->c->sample.nearest;
    for (uint32_t i = 0; i < nearest->count; i++)
        add_right(t, nearest->items[i].slot,
                  right_for(&t->c->sample, nearest->items[i].slot, nearest->items[i].distance));
}

/* What the walk has found that is as near as the nearest. False: nothing that is new. */
static bool add_equals(struct track *t)
{
    const struct pool *found = hnsw_sample_found(&t->c->sample, t->s);
    bool any = false;
    for (uint32_t i = 0; i < found->count; i++) {
        unsigned bits = right_for(&t->c->sample, found->items[i].slot, found->items[i].distance);
        any |= bits && add_right(t, found->items[i].slot, bits);
    }
    return any;
}

/* In distances computed; an estimate is an eighth of one. */
static float cost_so_far(const struct scratch *s)
{
    return (float)s->profile.evaluations + (float)s->profile.estimates / 8;
}

/* Before a node at this distance is expanded: how much slack it takes to come as far. */
static void advance(struct track *t, float distance)
{
    const struct pool *pool = hnsw_sample_found(&t->c->sample, t->s);
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        if (pool->count < hnsw_calibration_ks[i])
            continue;
        float need = need_of(t->c, distance, pool->items[hnsw_calibration_ks[i] - 1].distance);
        if (need <= t->c->edges[t->bins[i]])
            continue;
        float *evaluations = t->one->sums + learned_at(t->width, i, EVALUATIONS);
        for (uint32_t bin = hnsw_calibration_bin(need); t->bins[i] < bin; t->bins[i]++)
            evaluations[t->bins[i]] = cost_so_far(t->s);
    }
}

/* The walk comes upon a node for the first time. */
static void note_found(struct track *t, uint32_t slot, float distance)
{
    struct right *r = find_right(t, slot);
    if (!r || r->distance < INFINITY)
        return;
    r->distance = distance;
    memcpy(r->bins, t->bins, sizeof r->bins);
}

/* A search looks through the tail in any case. */
static void forget_found(struct track *t)
{
    memset(t->bins, 0, sizeof t->bins);
    for (uint32_t i = 0; i < t->right_count; i++) {
        uint32_t bin = hnsw_sample_is_unlinked(t->h, t->rights[i].slot) ? 0 : BINS;
        t->rights[i].distance = INFINITY;
        for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++)
            t->rights[i].bins[k] = bin;
    }
}

/* Walks as far as any search would. */
static int walk(struct track *t)
{
    struct sample *sample = &t->c->sample;
    struct pool *pool = &t->s->pool;
    float distance;
    forget_found(t);
    t->s->profile.evaluations = t->s->profile.estimates = 0;
    if (hnsw_sample_walk(sample, t->h, t->s, t->target,
                         hnsw_recall_ef(t->h, hnsw_calibration_ks[KITH_CALIBRATION_KS - 1]),
                         t->width == WIDE ? WIDE_VIEW : 1) != KITH_OK)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < pool->count && !sample->by_rows; i++)
        note_found(t, pool->items[i].slot, pool->items[i].distance);
    while (hnsw_sample_peek(t->s, &distance)) {
        advance(t, distance);
        uint32_t count = hnsw_sample_expand(sample, t->h, t->s, t->target);
        for (uint32_t i = 0; i < count; i++)
            note_found(t, t->s->gathered[i], t->s->distances[i]);
    }
    pool = hnsw_sample_found(sample, t->s);
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        float *evaluations = t->one->sums + learned_at(t->width, i, EVALUATIONS);
        for (uint32_t bin = t->bins[i]; bin < BINS; bin++)
            evaluations[bin] = cost_so_far(t->s);
        uint32_t k = hnsw_calibration_ks[i];
        t->kth[i] = pool->count >= k ? pool->items[k - 1].distance : INFINITY;
    }
    return KITH_OK;
}

static int order_bins(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The slack with which each of the right ones is found, in bins[0..returned). */
static uint32_t bins_of_rights(const struct track *t, unsigned k, uint32_t *bins)
{
    uint32_t count = 0;
    for (uint32_t r = 0; r < t->right_count; r++) {
        const struct right *right = &t->rights[r];
        if (!(right->ks >> k & 1) || right->bins[k] >= BINS)
            continue;
        bins[count] = right->bins[k];
        /* Farther by code than the walk goes, it would not be kept to be ranked again. */
        if (right->distance < INFINITY && t->kth[k] < INFINITY) {
            uint32_t kept = hnsw_calibration_bin(need_of(t->c, right->distance, t->kth[k]));
            bins[count] = bins[count] < kept ? kept : bins[count];
        }
        count++;
    }
    return count;
}

/* With ties more than k are right: the first k found are as good as any. Returns the share that is found at all. */
static float count_rights(const struct track *t, unsigned k)
{
    uint32_t bins[RIGHT_MAX], of_k = hnsw_calibration_ks[k];
    uint32_t count = bins_of_rights(t, k, bins);
    float *found = t->one->sums + learned_at(t->width, k, FOUND);
    float *squares = t->one->sums + learned_at(t->width, k, SQUARES), recall = 0;
    qsort(bins, count, sizeof *bins, order_bins);
    for (uint32_t r = 0; r < count && r < of_k; r++)
        found[bins[r]] += 1.0f / (float)of_k;
    for (uint32_t bin = 0; bin < BINS; bin++) {
        recall += found[bin];
        squares[bin] = recall * recall;
    }
    return recall;
}

/* The inner product's distances have no zero to be compared with: the unit is how far the walk comes down, of the
 * first sample. */
static void set_scale(struct hnsw_calibration *c, struct kith_hnsw *h, struct target target)
{
    uint32_t entry = atomic_load_explicit(&h->entry, memory_order_acquire);
    float distance = 0;
    if (!c->by_difference || c->sample_scale > 0 || entry == KITH_HNSW_NONE || !c->sample.nearest.count)
        return;
    hnsw_distances(h, target, &entry, 1, &distance);
    float scale = fabsf(distance - c->sample.nearest.items[0].distance);
    c->sample_scale = scale > 0 ? scale : 1;
}

/* The walk with one width; the shares found go to found[]. What it finds that is equal to the nearest is right as well:
 * then it is walked again, to see when. */
static int learn_width(struct track *t, unsigned width, float *found)
{
    t->width = width;
    int rc = walk(t);
    if (rc != KITH_OK)
        return rc;
    hnsw_sample_refine(t->h, t->s, hnsw_sample_found(&t->c->sample, t->s), t->target,
                       hnsw_calibration_ks[KITH_CALIBRATION_KS - 1]);
    if (add_equals(t))
        rc = walk(t);
    for (unsigned k = 0; rc == KITH_OK && k < KITH_CALIBRATION_KS; k++)
        found[k] = count_rights(t, k);
    return rc;
}

static int learn_both(struct track *t)
{
    float narrow[KITH_CALIBRATION_KS], wide[KITH_CALIBRATION_KS], kth[KITH_CALIBRATION_KS];
    int rc = learn_width(t, NARROW, narrow);
    memcpy(kth, t->kth, sizeof kth);
    if (rc == KITH_OK)
        rc = learn_width(t, WIDE, wide);
    for (unsigned k = 0; rc == KITH_OK && k < KITH_CALIBRATION_KS; k++) {
        uint32_t bin = hnsw_calibration_gate_bin(t->c, kth[k]);
        t->one->gates[gate_at(k, THERE) + bin] = 1;
        t->one->gates[gate_at(k, MISSED) + bin] = wide[k] > narrow[k] ? wide[k] - narrow[k] : 0;
    }
    return rc;
}

/* The scan is done. */
static int learn(struct hnsw_calibration *c, struct kith_hnsw *h, struct scratch *s, struct target target,
                 struct learned *one)
{
    struct track *t = calloc(1, sizeof *t);
    if (!t)
        return KITH_ENOMEM;
    t->c = c;
    t->h = h;
    t->s = s;
    t->target = target;
    t->one = one;
    set_scale(c, h, target);
    add_nearest(t);
    int rc = learn_both(t);
    one->samples = 1;
    free(t);
    return rc;
}

/* ---- steps ---- */

static uint32_t elements_wanted(const struct hnsw_calibration *c)
{
    uint32_t queries = atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_relaxed);
    return queries < QUERIES ? SAMPLES - SAMPLES * queries / QUERIES : 0;
}

static bool query_waits(const struct hnsw_calibration *c)
{
    for (unsigned i = 0; i < PENDING; i++)
        if (atomic_load_explicit(&c->pending[i].state, memory_order_relaxed) == PENDING_READY)
            return true;
    return false;
}

bool kith_hnsw_calibrate_due(struct kith_hnsw *h)
{
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_relaxed);
    uint64_t n = kith_hnsw_count(h);
    if (!c || n < KITH_CALIBRATION_ELEMENTS_MIN)
        return false;
    uint64_t fewer = c->elements > n ? c->elements - n : 0;
    if ((h->added - c->added + fewer) * 4 > n) {
        c->added = h->added;
        c->elements = n;
        atomic_fetch_add_explicit(&c->agings, 1, memory_order_relaxed);
    }
    return !atomic_load_explicit(&c->busy, memory_order_relaxed) &&
           (atomic_load_explicit(&c->under_way, memory_order_relaxed) ||
            atomic_load_explicit(&c->agings, memory_order_relaxed) || query_waits(c) ||
            atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed) < elements_wanted(c));
}

static void scale(struct learned *l, float factor)
{
    l->samples *= factor;
    for (uint32_t i = 0; i < sizeof l->sums / sizeof *l->sums; i++)
        l->sums[i] *= factor;
    for (uint32_t i = 0; i < sizeof l->gates / sizeof *l->gates; i++)
        l->gates[i] *= factor;
}

static void age(struct hnsw_calibration *c)
{
    unsigned times = atomic_exchange_explicit(&c->agings, 0, memory_order_relaxed);
    if (!times)
        return;
    float factor = times < 20 ? 1.0f / (float)(1u << times) : 0;
    pthread_mutex_lock(&c->lock);
    for (unsigned source = 0; source < SOURCES; source++)
        scale(&c->sources[source], factor);
    /* What little is left is better than nothing until there is more: the table stays as it is. */
    atomic_store_explicit(&c->sampled[FROM_ELEMENTS], (uint32_t)c->sources[FROM_ELEMENTS].samples,
                          memory_order_relaxed);
    pthread_mutex_unlock(&c->lock);
}

static bool take_query(struct hnsw_calibration *c, const struct kith_hnsw *h)
{
    for (unsigned i = 0; i < PENDING; i++) {
        struct pending_query *p = &c->pending[i];
        if (atomic_load_explicit(&p->state, memory_order_acquire) != PENDING_READY)
            continue;
        hnsw_sample_set(&c->sample, h, p->vector);
        atomic_store_explicit(&p->state, PENDING_EMPTY, memory_order_release);
        return true;
    }
    return false;
}

static bool begin_sample(struct hnsw_calibration *c, const struct kith_hnsw *h)
{
    if (take_query(c, h))
        return true;
    if (atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed) >= elements_wanted(c))
        return false;
    /* Taken out without a trace an element is a little harder to find neighbours for than a query, mended a little
     * easier, or just as hard: one half each. */
    c->sample.mended = !c->sample.mended;
    float between = c->sources[FROM_BETWEEN].samples, elements = c->sources[FROM_ELEMENTS].samples;
    return between * BETWEEN_EACH < elements ? hnsw_sample_draw_between(&c->sample, h, &c->rng)
                                             : hnsw_sample_draw(&c->sample, h, &c->rng);
}

static void add_sample(struct hnsw_calibration *c, const struct learned *one)
{
    struct learned *l = &c->sources[c->sample.self == KITH_HNSW_NONE    ? FROM_QUERIES
                                    : c->sample.other == KITH_HNSW_NONE ? FROM_ELEMENTS
                                                                        : FROM_BETWEEN];
    pthread_mutex_lock(&c->lock);
    if (l == &c->sources[FROM_QUERIES] && l->samples >= 2 * QUERIES)
        scale(l, 0.5f); /* newer queries count for more */
    l->samples += one->samples;
    for (uint32_t i = 0; i < sizeof l->sums / sizeof *l->sums; i++)
        l->sums[i] += one->sums[i];
    for (uint32_t i = 0; i < sizeof l->gates / sizeof *l->gates; i++)
        l->gates[i] += one->gates[i];
    hnsw_calibration_publish(c);
    pthread_mutex_unlock(&c->lock);
}

static int step(struct hnsw_calibration *c, struct kith_hnsw *h, struct scratch *s, uint32_t codes,
                const _Atomic unsigned *give_way)
{
    enum { STRETCH = 1024 };
    struct target target = hnsw_sample_target(&c->sample, h, s);
    bool seen_all = false;
    for (uint32_t looked_at = 0; !seen_all && looked_at < codes; looked_at += STRETCH) {
        if (give_way && looked_at && atomic_load_explicit(give_way, memory_order_relaxed))
            return 1;
        seen_all = hnsw_sample_scan(&c->sample, h, s, target, STRETCH);
    }
    if (!seen_all)
        return 1;
    struct learned *one = calloc(1, sizeof *one);
    int rc = one ? learn(c, h, s, target, one) : KITH_ENOMEM;
    if (rc == KITH_OK) {
        add_sample(c, one);
        atomic_store_explicit(&c->under_way, false, memory_order_relaxed);
    }
    free(one);
    return rc;
}

int kith_hnsw_calibrate(struct kith_hnsw *h, uint32_t codes, const _Atomic unsigned *give_way)
{
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_acquire);
    if (!c || atomic_exchange_explicit(&c->busy, true, memory_order_acquire))
        return 0;
    int rc = 0;
    struct scratch *s = hnsw_scratch_take(h);
    if (!s) {
        rc = KITH_ENOMEM;
    } else {
        age(c);
        if (!atomic_load_explicit(&c->under_way, memory_order_relaxed))
            atomic_store_explicit(&c->under_way, begin_sample(c, h), memory_order_relaxed);
        if (atomic_load_explicit(&c->under_way, memory_order_relaxed))
            rc = step(c, h, s, codes, give_way);
        hnsw_scratch_give(h, s);
    }
    atomic_store_explicit(&c->busy, false, memory_order_release);
    return rc;
}

/* ---- life ---- */

static struct hnsw_calibration *open_calibration(const struct kith_hnsw *h)
{
    struct hnsw_calibration *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    bool fine = hnsw_sample_init(&c->sample, h, hnsw_calibration_ks[KITH_CALIBRATION_KS - 1], 0) == KITH_OK;
    for (unsigned i = 0; i < PENDING; i++) {
        c->pending[i].vector = malloc(h->options.dim * sizeof(float));
        fine = fine && c->pending[i].vector;
    }
    if (!fine) {
        hnsw_calibration_close(c);
        return NULL;
    }
    pthread_mutex_init(&c->lock, NULL);
    kith_rng_seed(&c->rng, h->options.seed);
    c->by_difference = h->options.metric == KITH_HNSW_INNER_PRODUCT;
    c->least = hnsw_calibration_least(h);
    c->gate_octave = h->options.metric == KITH_HNSW_COSINE ? -24 : -8;
    c->added = h->added;
    c->elements = kith_hnsw_count(h);
    for (uint32_t bin = 0; bin < BINS; bin++)
        c->edges[bin] = hnsw_calibration_edge(bin);
    return c;
}

void hnsw_calibration_close(struct hnsw_calibration *c)
{
    if (!c)
        return;
    hnsw_sample_fini(&c->sample);
    for (unsigned i = 0; i < PENDING; i++)
        free(c->pending[i].vector);
    free(c);
}

int kith_hnsw_calibrate_begin(struct kith_hnsw *h)
{
    if (atomic_load_explicit(&h->calibration, memory_order_relaxed))
        return KITH_OK;
    struct hnsw_calibration *c = open_calibration(h);
    if (!c)
        return KITH_ENOMEM;
    atomic_fetch_add_explicit(&h->scratch_bytes, sizeof *c + (PENDING + 1) * h->options.dim * sizeof(float),
                              memory_order_relaxed);
    atomic_store_explicit(&h->calibration, c, memory_order_release);
    return KITH_OK;
}

/* ---- save and restore ----
 * u8 version; u64 elements added since it was last aged, varint elements then; f32 scale; for elements, queries and what
 * is between elements: f32 samples; for each width and each k: found, squares and evaluations, BINS f32 each; for each k:
 * samples and missed by distance, GATE_BINS f32 each. */

static void append_float(struct kith_buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    kith_buf_append_u32(out, bits);
}

static float read_float(struct kith_reader *reader)
{
    uint32_t bits = kith_reader_u32(reader);
    float value;
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value) || value < 0)
        reader->failed = true;
    return value;
}

void kith_hnsw_save_calibration(const struct kith_hnsw *h, struct kith_buf *out)
{
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_relaxed);
    struct kith_calibration figures;
    if (!kith_hnsw_get_calibration(h, &figures) || !figures.usable)
        return;
    kith_buf_append_char(out, VERSION);
    kith_buf_append_u64(out, h->added - c->added);
    kith_buf_append_varint(out, c->elements);
    pthread_mutex_lock(&c->lock);
    append_float(out, c->sample_scale);
    for (unsigned source = 0; source < SOURCES; source++) {
        const struct learned *l = &c->sources[source];
        append_float(out, l->samples);
        for (uint32_t i = 0; i < sizeof l->sums / sizeof *l->sums; i++)
            append_float(out, l->sums[i]);
        for (uint32_t i = 0; i < sizeof l->gates / sizeof *l->gates; i++)
            append_float(out, l->gates[i]);
    }
    pthread_mutex_unlock(&c->lock);
}

int kith_hnsw_restore_calibration(struct kith_hnsw *h, struct kith_slice bytes)
{
    struct kith_reader reader = kith_reader(bytes);
    if (kith_reader_u8(&reader) != VERSION)
        return KITH_ECORRUPT;
    int rc = kith_hnsw_calibrate_begin(h);
    if (rc != KITH_OK)
        return rc;
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_relaxed);
    uint64_t since = kith_reader_u64(&reader);
    c->elements = kith_reader_varint(&reader);
    c->added = since <= h->added ? h->added - since : h->added;
    c->sample_scale = read_float(&reader);
    for (unsigned source = 0; source < SOURCES; source++) {
        struct learned *l = &c->sources[source];
        l->samples = read_float(&reader);
        for (uint32_t i = 0; i < sizeof l->sums / sizeof *l->sums; i++)
            l->sums[i] = read_float(&reader);
        for (uint32_t i = 0; i < sizeof l->gates / sizeof *l->gates; i++)
            l->gates[i] = read_float(&reader);
        reader.failed |= l->samples > 1e6f;
    }
    if (reader.failed || reader.length) {
        memset(c->sources, 0, sizeof c->sources);
        c->sample_scale = 0;
        return KITH_ECORRUPT;
    }
    hnsw_calibration_publish(c);
    return KITH_OK;
}
