/* Recall measured on sample queries, see measure.h. */
#include "vec/measure.h"

#include "vec/calibrate_internal.h"
#include "vec/search.h"

#include <math.h>
#include <stdlib.h>

enum { STRETCH = 1024, SCAN_BELOW = 8 };

struct kith_measure {
    struct kith_hnsw *h;
    struct kith_measure_options options;
    struct kith_rng rng;
    struct sample sample;
    bool under_way, found_none;
    uint32_t done;
    double sum, squares; /* of the recalls */
    double sum_by_codes, sum_evaluations;
};

int kith_measure_open(struct kith_measure **out, struct kith_hnsw *h,
                      const struct kith_measure_options *options)
{
    bool by_ef = options->ef >= 1 && options->ef <= KITH_MEASURE_EF_MAX;
    if (options->k < 1 || options->k > KITH_MEASURE_K_MAX || options->samples < 1 ||
        options->samples > KITH_MEASURE_SAMPLES_MAX || !(options->recall > 0 ? options->recall < 1 : by_ef))
        return KITH_EINVAL;
    struct kith_measure *m = calloc(1, sizeof *m);
    if (!m)
        return KITH_ENOMEM;
    m->h = h;
    m->options = *options;
    if (options->recall > 0)
        m->options.ef = hnsw_recall_ef(h, options->k);
    m->options.ef = m->options.ef < options->k ? options->k : m->options.ef;
    kith_rng_seed(&m->rng, options->seed);
    if (hnsw_sample_init(&m->sample, h, options->k, m->options.ef) != KITH_OK) {
        kith_measure_close(m);
        return KITH_ENOMEM;
    }
    *out = m;
    return KITH_OK;
}

void kith_measure_close(struct kith_measure *m)
{
    if (!m)
        return;
    hnsw_sample_fini(&m->sample);
    free(m);
}

/* ---- one sample ---- */

/* Of the k nearest, how many are right: among the k, or as near as the last of them. */
static double right_share(const struct kith_measure *m, const struct pool *found)
{
    const struct pool *nearest = &m->sample.nearest;
    uint32_t k = nearest->count, right = 0;
    for (uint32_t i = 0; i < found->count && i < k; i++) {
        uint32_t rank = 0;
        while (rank < k && nearest->items[rank].slot != found->items[i].slot)
            rank++;
        right += rank < k || found->items[i].distance <= nearest->items[k - 1].distance;
    }
    return k ? (double)right / k : 1;
}

/* A search looks through the tail in any case. */
static void add_tail(const struct kith_measure *m, struct pool *pool, struct target target)
{
    const struct pool *nearest = &m->sample.nearest;
    for (uint32_t i = 0; i < nearest->count; i++) {
        uint32_t slot = nearest->items[i].slot;
        float distance;
        if (!hnsw_sample_is_unlinked(m->h, slot))
            continue;
        hnsw_distances(m->h, target, &slot, 1, &distance);
        hnsw_pool_insert(pool, distance, slot);
    }
}

static int walk_once(struct kith_measure *m, struct scratch *s, struct target target,
                     const struct search *search)
{
    float distance;
    if (hnsw_sample_walk(&m->sample, m->h, s, target, search->ef, search->width) != KITH_OK)
        return KITH_ENOMEM;
    const struct pool *pool = hnsw_sample_found(&m->sample, s);
    while (hnsw_sample_peek(s, &distance)) {
        if (search->stop.k && pool->count >= search->stop.k &&
            distance > stop_bound(search->stop, pool->items[search->stop.k - 1].distance))
            break;
        hnsw_sample_expand(&m->sample, m->h, s, target);
    }
    return KITH_OK;
}

/* Walks as a search would. *scans: a search would scan. */
static int walk(struct kith_measure *m, struct scratch *s, struct target target, bool *scans)
{
    struct kith_hnsw_query query = {.recall = m->options.recall, .k = m->options.k};
    struct search search = {.h = m->h,
                            .query = &query,
                            .scratch = s,
                            .n = kith_hnsw_count(m->h),
                            .k = m->options.k,
                            .ef = m->options.ef};
    *scans = query.recall > 0 ? !hnsw_search_by_recall(&search) : search.ef >= search.n / SCAN_BELOW;
    s->profile.evaluations = (uint32_t)search.n;
    if (*scans)
        return KITH_OK;
    s->profile.evaluations = 0;
    int rc = walk_once(m, s, target, &search);
    if (rc == KITH_OK && hnsw_search_is_lost(&search, hnsw_sample_found(&m->sample, s)))
        rc = walk_once(m, s, target, &search);
    return rc;
}

static int finish_sample(struct kith_measure *m, struct scratch *s, struct target target)
{
    bool scans;
    int rc = walk(m, s, target, &scans);
    if (rc != KITH_OK)
        return rc;
    double recall = 1, by_codes = 1;
    if (!scans) {
        struct pool *found = hnsw_sample_found(&m->sample, s);
        add_tail(m, found, target);
        hnsw_sample_refine(m->h, s, found, target, m->options.k);
        recall = right_share(m, found);
        hnsw_sample_refine(m->h, s, &m->sample.by_code, target, m->options.k);
        by_codes = right_share(m, &m->sample.by_code);
    }
    m->sum += recall;
    m->squares += recall * recall;
    m->sum_by_codes += by_codes;
    m->sum_evaluations += s->profile.evaluations;
    m->done++;
    m->under_way = false;
    return KITH_OK;
}

static int step(struct kith_measure *m, struct scratch *s, uint32_t *left, const _Atomic unsigned *give_way)
{
    struct target target = hnsw_sample_target(&m->sample, m->h, s);
    for (bool seen_all = false; !seen_all;) {
        if (*left == 0 || (give_way && atomic_load_explicit(give_way, memory_order_relaxed)))
            return KITH_OK;
        *left -= *left < STRETCH ? *left : STRETCH;
        seen_all = hnsw_sample_scan(&m->sample, m->h, s, target, STRETCH);
    }
    return finish_sample(m, s, target);
}

int kith_measure_step(struct kith_measure *m, uint32_t codes, const _Atomic unsigned *give_way)
{
    struct scratch *s = hnsw_scratch_take(m->h);
    if (!s)
        return KITH_ENOMEM;
    int rc = KITH_OK;
    uint32_t left = codes < STRETCH ? STRETCH : codes;
    while (rc == KITH_OK && left && m->done < m->options.samples && !m->found_none) {
        if (!m->under_way)
            m->under_way = hnsw_sample_draw(&m->sample, m->h, &m->rng);
        m->sample.mended = m->done % 2; /* too hard and too easy by turns, as in calibration */
        m->found_none = !m->under_way;
        uint32_t before = left;
        if (m->under_way)
            rc = step(m, s, &left, give_way);
        if (left == before)
            break;
    }
    hnsw_scratch_give(m->h, s);
    return rc < 0 ? rc : m->done < m->options.samples && !m->found_none;
}

/* ---- the result ---- */

static void score_interval(double share, double count, double *low, double *high)
{
    const double z = 1.96;
    double middle = (share + z * z / (2 * count)) / (1 + z * z / count);
    double half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count));
    *low = fmax(0, middle - half);
    *high = fmin(1, middle + half);
}

void kith_measure_get(const struct kith_measure *m, struct kith_measured *out)
{
    const struct kith_hnsw_options *o = kith_hnsw_get_options(m->h);
    double n = m->done ? m->done : 1;
    *out = (struct kith_measured){.samples = m->done, .recall = m->sum / n, .low = 0, .high = 1};
    out->codes_known = o->codes == KITH_HNSW_F32 || o->keep != KITH_HNSW_KEEP_NONE;
    out->codes_lost = 1 - m->sum_by_codes / n;
    out->graph_lost = m->sum_by_codes / n - out->recall;
    out->evaluations = m->sum_evaluations / n;
    if (!m->done)
        return;
    double variance = m->squares / n - out->recall * out->recall, spread = out->recall * (1 - out->recall);
    double independent =
        variance > 0 ? spread / variance : 1; /* neighbours a query that count each for itself */
    independent = fmin(fmax(independent, 1), m->options.k);
    score_interval(out->recall, n * independent, &out->low, &out->high);
}
