/* Effort by recall, see calibrate.h. What was learned is kept as histograms over the slack: of the true neighbours that
 * a search comes upon with that slack and not with less, and of the distances computed until a search with it ends.
 * They add up over samples and age by being halved. From them comes a table, of atomics, which searches read. */
#include "vec/calibrate.h"

#include "base/varint.h"
#include "vec/calibrate_internal.h"
#include "vec/sample.h"
#include "vec/search.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLES = 512,     /* elements sampled, when no queries are */
    QUERIES = 256,     /* from so many on only queries count */
    USABLE = 32,       /* samples, below which a guess is better */
    OFFERS_EACH = 256, /* with QUERIES sampled: one of so many more */
    RIGHT_MAX = 256,   /* elements counted as right: those as near as the 100th */
    SEEN_SLOTS = 1024, /* of the table of these */
    VERSION = 1,
};

static const uint32_t ks[KITH_CALIBRATION_KS] = {1, 10, 100};
/* Recalls that the table has, and what a search goes by before it has them: the largest of what sets of images, of
 * clusters and of text-like vectors needed. */
static const float levels[LEVELS] = {0.5f,  0.7f,  0.8f,  0.85f,  0.9f,   0.925f, 0.95f,
                                     0.97f, 0.98f, 0.99f, 0.995f, 0.998f, 0.9995f};
static const float guesses[KITH_CALIBRATION_KS][LEVELS] = {
    {0.2f, 0.27f, 0.33f, 0.37f, 0.42f, 0.46f, 0.5f, 0.55f, 0.6f, 0.66f, 0.75f, 0.85f, 1.0f},
    {0.03f, 0.07f, 0.1f, 0.13f, 0.16f, 0.18f, 0.21f, 0.24f, 0.27f, 0.3f, 0.35f, 0.42f, 0.5f},
    {0.0f, 0.0f, 0.01f, 0.02f, 0.04f, 0.06f, 0.08f, 0.11f, 0.13f, 0.17f, 0.2f, 0.25f, 0.3f}};
/* The least slack that counts: bin 0 is none at all, bin b > 0 up to 2^(FIRST_OCTAVE + (b - 1) / PER_OCTAVE). */
enum { FIRST_OCTAVE = -9, PER_OCTAVE = 20 };

static float edge_of(uint32_t bin)
{
    return bin ? exp2f(FIRST_OCTAVE + (float)(bin - 1) / PER_OCTAVE) : 0;
}

static uint32_t bin_of(float slack)
{
    if (!(slack > 0))
        return 0;
    float place = (log2f(slack) - FIRST_OCTAVE) * PER_OCTAVE + 1;
    return place <= 1 ? 1 : place > BINS - 1 ? BINS - 1 : (uint32_t)ceilf(place);
}

/* Distances below are rounding; a share of nothing is nothing. */
static float least_of(const struct kith_hnsw *h)
{
    return h->options.metric == KITH_HNSW_COSINE ? NEAR_ZERO : FLT_MIN;
}

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
    float distance;            /* by code */
};

struct track {
    struct right rights[RIGHT_MAX];
    uint32_t right_count;
    uint16_t seen[SEEN_SLOTS]; /* by hash of the slot: index in rights, + 1 */
    uint32_t bins[KITH_CALIBRATION_KS];
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

static void add_right(struct track *t, uint32_t slot, unsigned of_ks, uint32_t bin)
{
    if (t->right_count == RIGHT_MAX || find_right(t, slot))
        return;
    struct right *r = &t->rights[t->right_count++];
    *r = (struct right){.slot = slot, .ks = of_ks, .bins = {bin, bin, bin}, .distance = INFINITY};
    uint32_t at = hash_slot(slot);
    while (t->seen[at])
        at = (at + 1) % SEEN_SLOTS;
    t->seen[at] = (uint16_t)t->right_count;
}

/* Before a node at this distance is expanded: how much slack it takes to come as far. */
static void advance(struct hnsw_calibration *c, struct track *t, const struct pool *pool, float distance,
                    uint32_t evaluations, struct learned *one)
{
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        if (pool->count < ks[i])
            continue;
        float need = need_of(c, distance, pool->items[ks[i] - 1].distance);
        if (need <= c->edges[t->bins[i]])
            continue;
        for (uint32_t bin = bin_of(need); one && t->bins[i] < bin; t->bins[i]++)
            one->ks[i].evaluations[t->bins[i]] = (float)evaluations;
        uint32_t bin = bin_of(need);
        t->bins[i] = t->bins[i] < bin ? bin : t->bins[i];
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

/* Walks as far as any search would. `one`: what it costs is learned; else rights are looked for. */
static int walk(struct hnsw_calibration *c, struct kith_hnsw *h, struct scratch *s, struct target target,
                struct track *t, struct learned *one)
{
    float distance;
    memset(t->bins, 0, sizeof t->bins);
    s->profile.evaluations = 0;
    if (hnsw_sample_walk(&c->sample, h, s, target, hnsw_recall_ef(h, ks[KITH_CALIBRATION_KS - 1])) != KITH_OK)
        return KITH_ENOMEM;
    if (!one && hnsw_sample_peek(s, &distance))
        note_found(t, s->pool.items[s->pool.next].slot, distance);
    while (hnsw_sample_peek(s, &distance)) {
        advance(c, t, &s->pool, distance, s->profile.evaluations, one);
        uint32_t count = hnsw_sample_expand(&c->sample, h, s, target);
        for (uint32_t i = 0; i < count && !one; i++)
            note_found(t, s->gathered[i], s->distances[i]);
    }
    for (unsigned i = 0; one && i < KITH_CALIBRATION_KS; i++)
        for (uint32_t bin = t->bins[i]; bin < BINS; bin++)
            one->ks[i].evaluations[bin] = (float)s->profile.evaluations;
    return KITH_OK;
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
        if (nearest->count >= ks[i])
            bits |= (unsigned)(rank < ks[i] || distance <= nearest->items[ks[i] - 1].distance) << i;
    return bits;
}

/* What the walk found that is right, and what the tail has: that is looked at in any case. */
static void collect_rights(const struct hnsw_calibration *c, const struct kith_hnsw *h,
                           const struct pool *found, struct track *t)
{
    const struct pool *nearest = &c->sample.nearest;
    for (uint32_t i = 0; i < found->count; i++) {
        unsigned bits = right_for(&c->sample, found->items[i].slot, found->items[i].distance);
        if (bits)
            add_right(t, found->items[i].slot, bits, BINS);
    }
    for (uint32_t i = 0; i < nearest->count; i++)
        if (hnsw_sample_is_unlinked(h, nearest->items[i].slot))
            add_right(t, nearest->items[i].slot,
                      right_for(&c->sample, nearest->items[i].slot, nearest->items[i].distance), 0);
}

static int order_bins(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* With ties more than k are right: the first k found are as good as any. */
static void count_rights(const struct hnsw_calibration *c, const struct pool *pool, const struct track *t,
                         struct learned *one)
{
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        uint32_t bins[RIGHT_MAX] = {0}, count = 0;
        for (uint32_t r = 0; r < t->right_count; r++) {
            const struct right *right = &t->rights[r];
            if (!(right->ks >> i & 1) || right->bins[i] >= BINS)
                continue;
            bins[count] = right->bins[i];
            /* Farther by code than the walk goes, it would not be kept to be ranked again. */
            if (right->distance < INFINITY && pool->count >= ks[i]) {
                uint32_t kept = bin_of(need_of(c, right->distance, pool->items[ks[i] - 1].distance));
                bins[count] = bins[count] < kept ? kept : bins[count];
            }
            count++;
        }
        qsort(bins, count, sizeof *bins, order_bins);
        for (uint32_t r = 0; r < count && r < ks[i]; r++)
            one->ks[i].found[bins[r]] += 1.0f / (float)ks[i];
    }
    one->samples = 1;
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

/* The scan is done: walks twice, first to see what is found at all, then when. */
static int learn(struct hnsw_calibration *c, struct kith_hnsw *h, struct scratch *s, struct target target,
                 struct learned *one)
{
    struct track *t = calloc(1, sizeof *t);
    if (!t)
        return KITH_ENOMEM;
    set_scale(c, h, target);
    int rc = walk(c, h, s, target, t, one);
    if (rc == KITH_OK) {
        hnsw_sample_refine(h, s, &s->pool, target, ks[KITH_CALIBRATION_KS - 1]);
        collect_rights(c, h, &s->pool, t);
        rc = walk(c, h, s, target, t, NULL);
    }
    if (rc == KITH_OK)
        count_rights(c, &s->pool, t, one);
    free(t);
    return rc;
}

/* ---- the table ---- */

static float share_of_queries(const struct hnsw_calibration *c)
{
    float queries = c->sources[FROM_QUERIES].samples;
    return c->sources[FROM_ELEMENTS].samples <= 0 ? 1 : queries < QUERIES ? queries / QUERIES : 1;
}

/* Per sample, both sources by their shares. */
static void combine(const struct hnsw_calibration *c, unsigned k, float *recall, float *evaluations)
{
    float part = share_of_queries(c), sum = 0;
    const float weights[] = {1 - part, part};
    memset(recall, 0, BINS * sizeof *recall);
    memset(evaluations, 0, BINS * sizeof *evaluations);
    for (unsigned source = 0; source < 2; source++) {
        const struct learned *l = &c->sources[source];
        float weight = l->samples > 0 ? weights[source] / l->samples : 0;
        for (uint32_t bin = 0; bin < BINS && weight > 0; bin++) {
            recall[bin] += weight * l->ks[k].found[bin];
            evaluations[bin] += weight * l->ks[k].evaluations[bin];
        }
    }
    for (uint32_t bin = 0; bin < BINS; bin++)
        recall[bin] = sum += recall[bin];
}

/* One deviation of a mean recall over that many samples, as the sets looked at have it: neighbours of one query are
 * found or missed together, so that ten of them count like four. */
static float deviation(const struct hnsw_calibration *c, unsigned k, float recall)
{
    static const float independent[KITH_CALIBRATION_KS] = {1, 4, 6};
    float part = share_of_queries(c), inverse = 0;
    const float weights[] = {1 - part, part};
    for (unsigned source = 0; source < 2; source++)
        if (c->sources[source].samples > 0)
            inverse += weights[source] * weights[source] / c->sources[source].samples;
    return sqrtf(recall * (1 - recall) / independent[k] * inverse);
}

static void publish(struct hnsw_calibration *c)
{
    float recall[BINS], evaluations[BINS];
    for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++) {
        combine(c, k, recall, evaluations);
        uint32_t bin = 0;
        for (unsigned level = 0; level < LEVELS; level++) {
            float most = 1 - (1 - levels[level]) / 4, wanted = levels[level] + deviation(c, k, levels[level]);
            wanted = wanted < most ? wanted : most;
            if (wanted > recall[BINS - 1] && levels[level] <= recall[BINS - 1])
                wanted = recall[BINS - 1];
            while (bin + 1 < BINS && recall[bin] < wanted)
                bin++;
            float slack = c->edges[bin], cost = evaluations[bin];
            if (bin > 0 && recall[bin] > recall[bin - 1] && recall[bin] >= wanted) {
                float part = (wanted - recall[bin - 1]) / (recall[bin] - recall[bin - 1]);
                part = part < 0 ? 0 : part;
                slack = c->edges[bin - 1] + part * (slack - c->edges[bin - 1]);
                cost = evaluations[bin - 1] + part * (cost - evaluations[bin - 1]);
            }
            atomic_store_explicit(&c->slack[k][level], slack, memory_order_relaxed);
            atomic_store_explicit(&c->cost[k][level], cost, memory_order_relaxed);
        }
        atomic_store_explicit(&c->reach[k], recall[BINS - 1], memory_order_relaxed);
    }
    atomic_store_explicit(&c->scale, c->sample_scale, memory_order_relaxed);
    atomic_store_explicit(&c->sampled[FROM_ELEMENTS], (uint32_t)c->sources[FROM_ELEMENTS].samples,
                          memory_order_relaxed);
    atomic_store_explicit(&c->sampled[FROM_QUERIES], (uint32_t)c->sources[FROM_QUERIES].samples,
                          memory_order_release);
}

static bool is_usable(const struct hnsw_calibration *c)
{
    return atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_acquire) +
               atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed) >=
           USABLE;
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

static void age(struct hnsw_calibration *c)
{
    unsigned times = atomic_exchange_explicit(&c->agings, 0, memory_order_relaxed);
    if (!times)
        return;
    float factor = times < 20 ? 1.0f / (float)(1u << times) : 0;
    pthread_mutex_lock(&c->lock);
    for (unsigned source = 0; source < 2; source++) {
        struct learned *l = &c->sources[source];
        l->samples *= factor;
        for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++)
            for (uint32_t bin = 0; bin < BINS; bin++) {
                l->ks[k].found[bin] *= factor;
                l->ks[k].evaluations[bin] *= factor;
            }
    }
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
    return hnsw_sample_draw(&c->sample, h, &c->rng);
}

static void add_sample(struct hnsw_calibration *c, const struct learned *one)
{
    struct learned *l = &c->sources[c->sample.self == KITH_HNSW_NONE ? FROM_QUERIES : FROM_ELEMENTS];
    pthread_mutex_lock(&c->lock);
    if (l == &c->sources[FROM_QUERIES] && l->samples >= 2 * QUERIES) { /* newer queries count for more */
        l->samples /= 2;
        for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++)
            for (uint32_t bin = 0; bin < BINS; bin++) {
                l->ks[k].found[bin] /= 2;
                l->ks[k].evaluations[bin] /= 2;
            }
    }
    l->samples += one->samples;
    for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++)
        for (uint32_t bin = 0; bin < BINS; bin++) {
            l->ks[k].found[bin] += one->ks[k].found[bin];
            l->ks[k].evaluations[bin] += one->ks[k].evaluations[bin];
        }
    publish(c);
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
    bool fine = hnsw_sample_init(&c->sample, h, ks[KITH_CALIBRATION_KS - 1], 0) == KITH_OK;
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
    c->least = least_of(h);
    c->added = h->added;
    c->elements = kith_hnsw_count(h);
    for (uint32_t bin = 0; bin < BINS; bin++)
        c->edges[bin] = edge_of(bin);
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

/* ---- searches ---- */

/* Where `recall` is between the levels, by the error that is left: 0.99 is as far from 0.98 as 0.98 from 0.96. */
static float at_level(float recall, unsigned *level)
{
    *level = 0;
    while (*level + 2 < LEVELS && recall > levels[*level + 1])
        ++*level;
    float low = logf(1 - levels[*level]), high = logf(1 - levels[*level + 1]);
    float part = (logf(1 - recall) - low) / (high - low);
    return part < 0 ? 0 : part > 1 ? 1 : part;
}

static float at_k(uint32_t k, unsigned *index)
{
    *index = k < ks[1] ? 0 : 1;
    float part = log10f((float)(k ? k : 1)) - (float)*index;
    return part > 1 ? 1 : part;
}

static float between(float low, float high, float part)
{
    return low + part * (high - low);
}

static float look_up(const _Atomic float table[KITH_CALIBRATION_KS][LEVELS], uint32_t k, float recall)
{
    unsigned level, index;
    float level_part = at_level(recall, &level), k_part = at_k(k, &index), values[2];
    for (unsigned i = 0; i < 2; i++)
        values[i] =
            between(atomic_load_explicit(&table[index + i][level], memory_order_relaxed),
                    atomic_load_explicit(&table[index + i][level + 1], memory_order_relaxed), level_part);
    return between(values[0], values[1], k_part);
}

static float guess_slack(uint32_t k, float recall)
{
    unsigned level, index;
    float level_part = at_level(recall, &level), k_part = at_k(k, &index);
    const float caution = 1.3f; /* for sets harder than those, and graphs of fewer links */
    return caution * between(between(guesses[index][level], guesses[index][level + 1], level_part),
                             between(guesses[index + 1][level], guesses[index + 1][level + 1], level_part),
                             k_part);
}

uint32_t hnsw_recall_ef(const struct kith_hnsw *h, uint32_t k)
{
    enum { EF = 2048, EF_LEAST = 128 };
    uint64_t n = kith_hnsw_count(h), ef = EF;
    ef = ef < n / 8 ? ef : n / 8;
    ef = ef < EF_LEAST ? EF_LEAST : ef;
    ef = ef < 4 * (uint64_t)k ? 4 * (uint64_t)k : ef;
    return ef < WALK_EF_MAX ? (uint32_t)ef : WALK_EF_MAX;
}

/* Without a table, and without a scale to guess by. */
static uint32_t guess_ef(uint32_t k, float recall)
{
    float ef = (float)k + 10 / (1 - recall);
    return ef < WALK_EF_MAX ? (uint32_t)ef : WALK_EF_MAX;
}

static void offer(struct hnsw_calibration *c, const struct kith_hnsw *h, const float *vector)
{
    uint32_t count = atomic_fetch_add_explicit(&c->offers, 1, memory_order_relaxed);
    if (atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_relaxed) >= QUERIES &&
        count % OFFERS_EACH)
        return;
    struct pending_query *p = &c->pending[count % PENDING];
    unsigned state = PENDING_EMPTY;
    if (!atomic_compare_exchange_strong_explicit(&p->state, &state, PENDING_FILLING, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    memcpy(p->vector, vector, h->options.dim * sizeof *vector);
    atomic_store_explicit(&p->state, PENDING_READY, memory_order_release);
}

static float reach_of(const struct hnsw_calibration *c, uint32_t k)
{
    unsigned index;
    float part = at_k(k, &index);
    return between(atomic_load_explicit(&c->reach[index], memory_order_relaxed),
                   atomic_load_explicit(&c->reach[index + 1], memory_order_relaxed), part);
}

bool hnsw_search_by_recall(struct search *search)
{
    enum { SCAN_FASTER = 4 }; /* codes in order, beside codes and links in disorder */
    struct kith_hnsw *h = search->h;
    const struct kith_hnsw_query *q = search->query;
    struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_acquire);
    struct kith_hnsw_profile *profile = &search->scratch->profile;
    uint32_t k = q->recall_k && !q->mmr_pool && q->recall_k < search->k ? q->recall_k : search->k;
    if (c && q->vector && !q->of_element && !q->filter && search->n >= KITH_CALIBRATION_ELEMENTS_MIN)
        offer(c, h, q->vector);
    profile->recall = 1;
    if (search->n < KITH_CALIBRATION_ELEMENTS_MIN || q->recall > levels[LEVELS - 1])
        return false;
    float slack, scale = 0;
    bool usable = c && is_usable(c);
    if (usable) {
        /* What the graph does not give, the scan does; and where it costs no more. */
        if (!q->filter &&
            (q->recall > reach_of(c, k) || look_up(c->cost, k, q->recall) * SCAN_FASTER > (float)search->n))
            return false;
        slack = look_up(c->slack, k, q->recall);
        scale = atomic_load_explicit(&c->scale, memory_order_relaxed);
        profile->recall = q->recall < reach_of(c, k) ? q->recall : reach_of(c, k);
    } else {
        slack = guess_slack(k, q->recall);
        profile->recall = 0;
    }
    profile->slack = slack;
    uint32_t most = hnsw_recall_ef(h, k);
    bool by_difference = h->options.metric == KITH_HNSW_INNER_PRODUCT;
    if (by_difference && !usable) {
        search->ef = guess_ef(k, q->recall);
    } else {
        search->stop = by_difference ? (struct stop){k, 1, slack * scale, -INFINITY}
                                     : (struct stop){k, 1 + slack, 0, least_of(h)};
        search->ef = q->ef && q->ef < most ? q->ef : most;
    }
    search->ef = search->ef < search->k ? search->k : search->ef;
    return true;
}

/* ---- figures ---- */

bool kith_hnsw_get_calibration(const struct kith_hnsw *h, struct kith_calibration *out)
{
    static const float shown[] = {0.9f, 0.95f, 0.98f, 0.99f, 0.995f};
    const struct hnsw_calibration *c = atomic_load_explicit(&h->calibration, memory_order_acquire);
    memset(out, 0, sizeof *out);
    if (!c)
        return false;
    bool usable = is_usable(c);
    out->elements_sampled = atomic_load_explicit(&c->sampled[FROM_ELEMENTS], memory_order_relaxed);
    out->queries_sampled = atomic_load_explicit(&c->sampled[FROM_QUERIES], memory_order_relaxed);
    out->usable = usable;
    for (unsigned i = 0; i < KITH_CALIBRATION_KS; i++) {
        out->ks[i].k = ks[i];
        out->ks[i].reach = atomic_load_explicit(&c->reach[i], memory_order_relaxed);
        for (unsigned r = 0; r < sizeof shown / sizeof *shown; r++) {
            out->ks[i].rows[r].recall = shown[r];
            out->ks[i].rows[r].slack = look_up(c->slack, ks[i], shown[r]);
            out->ks[i].rows[r].evaluations = look_up(c->cost, ks[i], shown[r]);
        }
    }
    return true;
}

/* ---- save and restore ----
 * u8 version; u64 elements added since it was last aged, varint elements then; f32 scale; for elements and queries: f32
 * samples, and for each k: found and evaluations, BINS f32 each. */

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
    if (!c || !is_usable(c))
        return;
    kith_buf_append_char(out, VERSION);
    kith_buf_append_u64(out, h->added - c->added);
    kith_buf_append_varint(out, c->elements);
    pthread_mutex_lock(&c->lock);
    append_float(out, c->sample_scale);
    for (unsigned source = 0; source < 2; source++) {
        const struct learned *l = &c->sources[source];
        append_float(out, l->samples);
        for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++) {
            for (uint32_t bin = 0; bin < BINS; bin++)
                append_float(out, l->ks[k].found[bin]);
            for (uint32_t bin = 0; bin < BINS; bin++)
                append_float(out, l->ks[k].evaluations[bin]);
        }
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
    for (unsigned source = 0; source < 2; source++) {
        struct learned *l = &c->sources[source];
        l->samples = read_float(&reader);
        for (unsigned k = 0; k < KITH_CALIBRATION_KS; k++) {
            for (uint32_t bin = 0; bin < BINS; bin++)
                l->ks[k].found[bin] = read_float(&reader);
            for (uint32_t bin = 0; bin < BINS; bin++)
                l->ks[k].evaluations[bin] = read_float(&reader);
        }
        reader.failed |= l->samples > 1e6f;
    }
    if (reader.failed || reader.length) {
        memset(c->sources, 0, sizeof c->sources);
        c->sample_scale = 0;
        return KITH_ECORRUPT;
    }
    publish(c);
    return KITH_OK;
}
