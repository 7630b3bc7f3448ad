/* Every kind of code with every kept copy and metric, against distances taken in double from the vectors as given. */
#include "failing_malloc.h"
#include "vec/hnsw.h"
#include "vec/kernels.h"
#include "vectors.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { DIM = 96, ROWS = 1500, QUERIES = 20, K = 10 };

/* off: what distances may be off by, in units of both lengths. least: recall against the truth. */
static const struct {
    enum kith_hnsw_codes codes;
    enum kith_hnsw_keep keep;
    double off, least;
} kinds[] = {
    {KITH_HNSW_F32, KITH_HNSW_KEEP_DEFAULT, 1e-6, 0.98},  {KITH_HNSW_F32, KITH_HNSW_KEEP_F32, 1e-6, 0.98},
    {KITH_HNSW_F16, KITH_HNSW_KEEP_NONE, 1e-3, 0.98},     {KITH_HNSW_F16, KITH_HNSW_KEEP_F32, 1e-6, 0.98},
    {KITH_HNSW_BF16, KITH_HNSW_KEEP_NONE, 5e-3, 0.97},    {KITH_HNSW_BF16, KITH_HNSW_KEEP_F16, 1e-3, 0.98},
    {KITH_HNSW_BF16, KITH_HNSW_KEEP_F32, 1e-6, 0.98},     {KITH_HNSW_I8, KITH_HNSW_KEEP_NONE, 0.01, 0.95},
    {KITH_HNSW_I8, KITH_HNSW_KEEP_RESIDUAL, 0.003, 0.97}, {KITH_HNSW_I8, KITH_HNSW_KEEP_F16, 1e-3, 0.98},
    {KITH_HNSW_I8, KITH_HNSW_KEEP_F32, 1e-6, 0.98},       {KITH_HNSW_I4, KITH_HNSW_KEEP_NONE, 0.08, 0.75},
    {KITH_HNSW_I4, KITH_HNSW_KEEP_RESIDUAL, 0.008, 0.95}, {KITH_HNSW_I4, KITH_HNSW_KEEP_F16, 1e-3, 0.97},
    {KITH_HNSW_I4, KITH_HNSW_KEEP_F32, 1e-6, 0.97},       {KITH_HNSW_BIN, KITH_HNSW_KEEP_NONE, 0.45, 0.2},
    {KITH_HNSW_BIN, KITH_HNSW_KEEP_F16, 1e-3, 0.7},       {KITH_HNSW_BIN, KITH_HNSW_KEEP_F32, 1e-6, 0.7},
};
static const enum kith_hnsw_metric metrics[] = {KITH_HNSW_COSINE, KITH_HNSW_INNER_PRODUCT, KITH_HNSW_L2SQ};
enum { KINDS = sizeof kinds / sizeof *kinds, METRICS = 3 };

struct data {
    float *rows, *queries;
};

/* Clusters of lengths between a half and one and a half; all positive where asked for. */
static struct data make_data(bool positive)
{
    struct data data = {test_clusters(ROWS, DIM, 30, 1), test_clusters(QUERIES, DIM, 30, 2)};
    struct kith_rng rng;
    kith_rng_seed(&rng, 3);
    for (uint32_t i = 0; i < ROWS + QUERIES; i++) {
        float *row = i < ROWS ? data.rows + i * DIM : data.queries + (i - ROWS) * DIM;
        float length = 0.5f + (float)kith_rng_unit(&rng);
        for (uint32_t d = 0; d < DIM; d++)
            row[d] = (positive && row[d] < 0 ? 0 : row[d]) * length;
    }
    return data;
}

static void data_fini(struct data *data)
{
    free(data->rows);
    free(data->queries);
}

static void check(const struct kith_hnsw *h)
{
    struct kith_error error;
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static double length_of(const float *x, uint32_t dim)
{
    double sum = 0;
    for (uint32_t d = 0; d < dim; d++)
        sum += (double)x[d] * x[d];
    return sqrt(sum);
}

static double true_distance(enum kith_hnsw_metric metric, const float *x, const float *y, uint32_t dim)
{
    double dot = 0, square = 0, lengths = length_of(x, dim) * length_of(y, dim);
    for (uint32_t d = 0; d < dim; d++) {
        dot += (double)x[d] * y[d];
        square += ((double)x[d] - y[d]) * ((double)x[d] - y[d]);
    }
    return metric == KITH_HNSW_L2SQ            ? square
           : metric == KITH_HNSW_INNER_PRODUCT ? 1 - dot
           : lengths > 0                       ? 1 - dot / lengths
                                               : 1;
}

/* What the distances may be off by: by the part of the lengths' product. */
static double allowance(enum kith_hnsw_metric metric, const float *x, const float *y, double off)
{
    double a = length_of(x, DIM), b = length_of(y, DIM);
    return metric == KITH_HNSW_L2SQ            ? 2 * off * a * b + 2e-6 * (a * a + b * b)
           : metric == KITH_HNSW_INNER_PRODUCT ? off * a * b + 1e-6
                                               : off + 1e-6;
}

static struct kith_hnsw *open_index(uint32_t dim, enum kith_hnsw_codes codes, enum kith_hnsw_keep keep,
                                    enum kith_hnsw_metric metric)
{
    struct kith_hnsw *h = NULL;
    struct kith_hnsw_options options = {
        .dim = dim, .codes = codes, .keep = keep, .metric = metric, .ef_construction = 100, .seed = 5};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    return h;
}

static void settle(struct kith_hnsw *h)
{
    struct kith_error error;
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static struct kith_hnsw *build(const struct data *data, unsigned kind, enum kith_hnsw_metric metric)
{
    struct kith_hnsw *h = open_index(DIM, kinds[kind].codes, kinds[kind].keep, metric);
    uint32_t slot;
    for (uint32_t i = 0; i < ROWS; i++)
        assert_int_equal(kith_hnsw_add(h, data->rows + i * DIM, 0, i, &slot), KITH_OK);
    settle(h);
    return h;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The true distance of the K-th nearest. */
static double bound_of(const struct data *data, const float *query, enum kith_hnsw_metric metric)
{
    static double distances[ROWS];
    for (uint32_t i = 0; i < ROWS; i++)
        distances[i] = true_distance(metric, query, data->rows + i * DIM, DIM);
    qsort(distances, ROWS, sizeof *distances, by_value);
    return distances[K - 1];
}

/* Part of the hits that are right; each distance is about what it is in truth. */
static double right_hits(const struct data *data, const float *query, unsigned kind,
                         enum kith_hnsw_metric metric, const struct kith_hnsw_hit *hits, bool fine)
{
    double bound = bound_of(data, query, metric), right = 0;
    bound += 1e-6 * fabs(bound);
    for (int i = 0; i < K; i++) {
        const float *row = data->rows + hits[i].slot * DIM;
        double distance = true_distance(metric, query, row, DIM);
        right += distance <= bound;
        if (fine &&
            fabs(distance - (double)hits[i].distance) > allowance(metric, query, row, kinds[kind].off))
            fail_msg("kind %u metric %d: distance %g, in truth %g", kind, metric, (double)hits[i].distance,
                     distance);
        assert_true(i == 0 || hits[i].distance >= hits[i - 1].distance);
    }
    return right / K;
}

static void check_recall(struct kith_hnsw *h, const struct data *data, unsigned kind,
                         enum kith_hnsw_metric metric)
{
    double graph = 0, exact = 0, codes = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct kith_hnsw_hit hits[K];
        struct kith_hnsw_profile profile;
        struct kith_hnsw_query query = {.vector = data->queries + q * DIM, .k = K, .ef = 100};
        assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), K);
        assert_int_equal(profile.strategy, KITH_HNSW_GRAPH);
        graph += right_hits(data, query.vector, kind, metric, hits, true);
        query.exact = true;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), K);
        exact += right_hits(data, query.vector, kind, metric, hits, true);
        query.by_codes = true;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), K);
        codes += right_hits(data, query.vector, kind, metric, hits, true);
    }
    if (graph / QUERIES < kinds[kind].least || exact < graph - 0.02 * QUERIES ||
        codes < graph - 0.02 * QUERIES)
        fail_msg("codes %d keep %d metric %d: recall %.3f, by codes %.3f, exact %.3f", kinds[kind].codes,
                 kinds[kind].keep, metric, graph / QUERIES, codes / QUERIES, exact / QUERIES);
}

static void the_graph_finds_the_truth_by_every_code_and_metric(void **state)
{
    for (int positive = 0; positive < 2; positive++) {
        struct data data = make_data(positive);
        for (unsigned kind = 0; kind < KINDS; kind++) {
            for (unsigned m = 0; m < METRICS; m++) {
                struct kith_hnsw *h = build(&data, kind, metrics[m]);
                check_recall(h, &data, kind, metrics[m]);
                kith_hnsw_close(h);
            }
        }
        data_fini(&data);
    }
}

static void vectors_come_back_as_well_as_they_are_kept(void **state)
{
    struct data data = make_data(false);
    for (unsigned i = 0; i < KINDS * METRICS; i++) {
        unsigned kind = i / METRICS;
        struct kith_hnsw *h = open_index(DIM, kinds[kind].codes, kinds[kind].keep, metrics[i % METRICS]);
        for (uint32_t row = 0; row < 20; row++) {
            const float *vector = data.rows + row * DIM;
            float back[DIM];
            uint32_t slot;
            assert_int_equal(kith_hnsw_add(h, vector, 0, row, &slot), KITH_OK);
            kith_hnsw_vector(h, slot, back);
            double length = length_of(vector, DIM);
            assert_true(fabs(length_of(back, DIM) - length) < 1e-3 * length);
            assert_true(fabs((double)kith_hnsw_norm(h, slot) - length) < 1e-5 * length);
            double off = sqrt(true_distance(KITH_HNSW_L2SQ, vector, back, DIM)) / length;
            if (off > (kinds[kind].codes == KITH_HNSW_BIN ? 4 : 3) * kinds[kind].off + 1e-6)
                fail_msg("codes %d keep %d: off by %.4f", kinds[kind].codes, kinds[kind].keep, off);
        }
        kith_hnsw_close(h);
    }
    data_fini(&data);
}

static void an_element_is_nearest_to_itself(void **state)
{
    struct data data = make_data(false);
    for (unsigned i = 0; i < KINDS * METRICS; i++) {
        enum kith_hnsw_metric metric = metrics[i % METRICS];
        struct kith_hnsw *h = open_index(DIM, kinds[i / METRICS].codes, kinds[i / METRICS].keep, metric);
        for (uint32_t row = 0; row < 200; row++) {
            uint32_t slot;
            assert_int_equal(kith_hnsw_add(h, data.rows + row * DIM, 0, row, &slot), KITH_OK);
        }
        settle(h);
        for (uint32_t row = 0; row < 200; row += 7) {
            struct kith_hnsw_hit hits[3];
            float back[DIM];
            double length = length_of(data.rows + row * DIM, DIM);
            double self = metric == KITH_HNSW_INNER_PRODUCT ? 1 - length * length : 0;
            double slack = 1e-5 * (metric == KITH_HNSW_COSINE ? 1 : length * length);
            assert_true(fabs((double)kith_hnsw_distance(h, row, row) - self) < slack);
            struct kith_hnsw_query query = {.slot = row, .k = 3};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 3);
            if (metric != KITH_HNSW_INNER_PRODUCT) /* a longer one may be nearer */
                assert_int_equal(hits[0].slot, row);
            for (int k = 0; k < 3; k++)
                if (hits[k].slot == row && fabs((double)hits[k].distance - self) > slack)
                    fail_msg("kind %u metric %d: %g, not %g", i / METRICS, metric, (double)hits[k].distance,
                             self);
            kith_hnsw_vector(h, row, back);
            query = (struct kith_hnsw_query){.vector = back, .k = 1};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 1);
            if (metric != KITH_HNSW_INNER_PRODUCT)
                assert_int_equal(hits[0].slot, row);
        }
        kith_hnsw_close(h);
    }
    data_fini(&data);
}

static struct kith_hnsw *save_and_restore(const struct kith_hnsw *h)
{
    struct kith_hnsw *copy = NULL;
    struct kith_hnsw_options options = {0};
    struct kith_buf header, record;
    kith_buf_init(&header);
    kith_buf_init(&record);
    kith_hnsw_save_header(h, &header);
    assert_int_equal(kith_hnsw_restore_open(&copy, kith_buf_slice(&header), &options), KITH_OK);
    for (uint32_t slot = 0; slot < kith_hnsw_slot_end(h); slot++) {
        kith_buf_clear(&record);
        kith_hnsw_save_element(h, slot, &record);
        for (size_t cut = 0; slot == 3 && cut < record.length; cut++)
            assert_int_equal(kith_hnsw_restore_element(copy, slot, kith_slice(record.data, cut), slot),
                             KITH_ECORRUPT);
        assert_int_equal(kith_hnsw_restore_element(copy, slot, kith_buf_slice(&record), slot), KITH_OK);
    }
    assert_int_equal(kith_hnsw_restore_finish(copy), KITH_OK);
    kith_buf_fini(&header);
    kith_buf_fini(&record);
    return copy;
}

static void every_kind_is_restored_as_it_was(void **state)
{
    for (int positive = 0; positive < 2; positive++) {
        struct data data = make_data(positive);
        for (unsigned i = 0; i < KINDS * METRICS; i++) {
            struct kith_hnsw *h =
                open_index(DIM, kinds[i / METRICS].codes, kinds[i / METRICS].keep, metrics[i % METRICS]);
            uint32_t slot;
            for (uint32_t row = 0; row < 300; row++)
                assert_int_equal(kith_hnsw_add(h, data.rows + row * DIM, 0, row, &slot), KITH_OK);
            settle(h);
            struct kith_hnsw *copy = save_and_restore(h);
            settle(copy);
            for (uint32_t row = 0; row < 300; row++) {
                float x[DIM], y[DIM];
                kith_hnsw_vector(h, row, x);
                kith_hnsw_vector(copy, row, y);
                assert_memory_equal(x, y, sizeof x);
            }
            for (uint32_t q = 0; q < QUERIES; q++) {
                struct kith_hnsw_hit a[K], b[K];
                struct kith_hnsw_query query = {
                    .vector = data.queries + q * DIM, .k = K, .ef = 20, .exact = q % 2};
                assert_int_equal(kith_hnsw_search(h, &query, a, NULL), K);
                assert_int_equal(kith_hnsw_search(copy, &query, b, NULL), K);
                for (int k = 0; k < K; k++)
                    assert_true(a[k].slot == b[k].slot && a[k].distance == b[k].distance);
            }
            assert_int_equal(kith_hnsw_add(copy, data.rows, 0, 0, &slot), KITH_OK);
            kith_hnsw_close(h);
            kith_hnsw_close(copy);
        }
        data_fini(&data);
    }
}

/* Nodes of one cluster may have different processors, and are compared by these bytes. */
static void every_kernel_keeps_the_same_bytes(void **state)
{
    static const uint32_t dims[] = {3, 33, 128, 700};
    for (int run = 0; run < KINDS * METRICS * 4; run++) {
        uint32_t dim = dims[run / KINDS / METRICS], slot;
        float *rows = test_clusters(40, dim, 5, 7);
        struct kith_hnsw *first = NULL;
        for (int level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512_BF16; level++) {
            struct kith_hnsw_options options = {.dim = dim,
                                                .codes = kinds[run % KINDS].codes,
                                                .keep = kinds[run % KINDS].keep,
                                                .metric = metrics[run / KINDS % METRICS],
                                                .seed = 5,
                                                .kernel_max = level};
            struct kith_hnsw *h;
            bool has_form = options.codes == KITH_HNSW_I4 || options.codes == KITH_HNSW_BIN;
            assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
            for (uint32_t i = 0; i < 40; i++) {
                assert_int_equal(kith_hnsw_add(h, rows + i * dim, 0, i, &slot), KITH_OK);
                if (!first)
                    continue;
                struct kith_slice a = kith_hnsw_code(first, slot, NULL), b = kith_hnsw_code(h, slot, NULL);
                assert_memory_equal(a.data, b.data, a.length);
                a = kith_hnsw_kept(first, slot);
                b = kith_hnsw_kept(h, slot);
                assert_memory_equal(a.data, b.data, a.length);
                assert_true(kith_hnsw_norm(first, slot) == kith_hnsw_norm(h, slot));
                assert_true(!has_form || kith_hnsw_form(first, slot) == kith_hnsw_form(h, slot));
            }
            if (first)
                kith_hnsw_close(h);
            else
                first = h;
        }
        kith_hnsw_close(first);
        free(rows);
    }
}

static void extreme_values_are_ordered_and_never_nan(void **state)
{
    enum { COUNT = 120, SMALL = 7 };
    static const float scales[] = {0, FLT_MIN, 1e-30f, 1e-10f, 1, 1e10f, 1e19f, 1e25f, FLT_MAX};
    struct kith_rng rng;
    kith_rng_seed(&rng, 4);
    for (unsigned i = 0; i < KINDS * METRICS; i++) {
        struct kith_hnsw *h =
            open_index(SMALL, kinds[i / METRICS].codes, kinds[i / METRICS].keep, metrics[i % METRICS]);
        for (uint32_t row = 0; row < COUNT; row++) {
            float vector[SMALL], back[SMALL];
            uint32_t slot;
            for (int d = 0; d < SMALL; d++)
                vector[d] = (float)(2 * kith_rng_unit(&rng) - 1) * scales[row % 9];
            assert_int_equal(kith_hnsw_add(h, vector, 0, row, &slot), KITH_OK);
            kith_hnsw_vector(h, slot, back);
            for (int d = 0; d < SMALL; d++)
                assert_true(fabsf(back[d]) <= FLT_MAX);
        }
        settle(h);
        for (uint32_t row = 0; row < COUNT; row++) {
            struct kith_hnsw_hit hits[COUNT];
            float vector[SMALL];
            for (int d = 0; d < SMALL; d++)
                vector[d] = (float)(2 * kith_rng_unit(&rng) - 1) * scales[row % 9];
            struct kith_hnsw_query query = {.vector = vector, .k = COUNT, .ef = COUNT, .exact = row % 2};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), COUNT);
            for (int k = 0; k < COUNT; k++)
                assert_true(fabsf(hits[k].distance) <= FLT_MAX &&
                            (k == 0 || hits[k].distance >= hits[k - 1].distance));
            query = (struct kith_hnsw_query){.slot = row, .k = COUNT, .ef = COUNT};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), COUNT);
            for (int k = 0; k < COUNT; k++)
                assert_true(fabsf(hits[k].distance) <= FLT_MAX);
        }
        kith_hnsw_close(h);
    }
}

static void equal_vectors_are_at_zero_by_l2_and_do_not_ruin_any_graph(void **state)
{
    struct data data = make_data(false);
    for (unsigned i = 0; i < KINDS * METRICS; i++) {
        enum kith_hnsw_metric metric = metrics[i % METRICS];
        if (kinds[i / METRICS].keep > KITH_HNSW_KEEP_NONE)
            continue;
        struct kith_hnsw *h = open_index(DIM, kinds[i / METRICS].codes, KITH_HNSW_KEEP_NONE, metric);
        uint32_t slot;
        for (uint32_t row = 0; row < 1000; row++)
            assert_int_equal(kith_hnsw_add(h, data.rows + row * DIM, 0, row, &slot), KITH_OK);
        for (uint32_t row = 0; row < 1000; row++)
            assert_int_equal(kith_hnsw_add(h, data.rows, 0, 0, &slot), KITH_OK);
        settle(h);
        struct kith_hnsw_hit hits[30], exact[30];
        double right = 0;
        for (uint32_t row = 1; row < 200; row++) { /* those beside the equals are found all the same */
            struct kith_hnsw_query query = {.slot = row, .k = 10, .ef = 100};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 10);
            query.exact = true;
            assert_int_equal(kith_hnsw_search(h, &query, exact, NULL), 10);
            for (int k = 0; k < 10; k++)
                right += hits[k].distance <= exact[9].distance + 1e-6f * fabsf(exact[9].distance) + 1e-6f;
        }
        if (right < 0.9 * 1990)
            fail_msg("codes %d metric %d: %.3f", kinds[i / METRICS].codes, metric, right / 1990);
        struct kith_hnsw_query query = {.vector = data.rows, .k = 30, .ef = 100};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 30);
        if (kinds[i / METRICS].codes == KITH_HNSW_F32 && metric == KITH_HNSW_L2SQ)
            assert_true(hits[29].distance == 0);
        kith_hnsw_close(h);
    }
    data_fini(&data);
}

/* By products all links lead to the longest: the short must be reached, too, and the answers found where all vectors lie
 * to one side, as where they do not. */
static void vectors_of_many_lengths_are_reached_and_found_by_inner_product(void **state)
{
    enum { MANY = 6000 };
    static const enum kith_hnsw_layout layouts[] = {KITH_HNSW_COMPACT, KITH_HNSW_SPREAD};
    for (int run = 0; run < 4; run++) {
        bool positive = run % 2;
        float *rows = test_clusters(MANY + QUERIES, DIM, 40, 11);
        struct kith_rng rng;
        kith_rng_seed(&rng, 12);
        for (uint32_t i = 0; i < MANY + QUERIES; i++) {
            float length = expf(2 * (float)kith_rng_unit(&rng));
            for (uint32_t d = 0; d < DIM; d++)
                rows[i * DIM + d] = (positive ? fabsf(rows[i * DIM + d]) : rows[i * DIM + d]) * length;
        }
        struct kith_hnsw_options options = {.dim = DIM,
                                            .codes = KITH_HNSW_I8,
                                            .metric = KITH_HNSW_INNER_PRODUCT,
                                            .layout = layouts[run / 2],
                                            .m = 8,
                                            .seed = 5};
        struct kith_hnsw *h;
        uint32_t slot, right = 0;
        assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
        for (uint32_t i = 0; i < MANY; i++)
            assert_int_equal(kith_hnsw_add(h, rows + i * DIM, 0, i, &slot), KITH_OK);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        for (uint32_t i = 0; i < MANY; i += 3)
            assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        for (uint32_t q = 0; q < QUERIES; q++) {
            struct kith_hnsw_hit hits[K], exact[K];
            struct kith_hnsw_query query = {.vector = rows + (MANY + q) * DIM, .k = K, .ef = 100};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), K);
            query.exact = true;
            assert_int_equal(kith_hnsw_search(h, &query, exact, NULL), K);
            for (int i = 0; i < K; i++)
                right += hits[i].distance <= exact[K - 1].distance;
        }
        print_message("%s, layout %d: %u of %d\n", positive ? "positive" : "centred", (int)options.layout,
                      right, QUERIES * K);
        /* Estimates from rows say less where lengths differ. */
        assert_true(right >= QUERIES * K * (run / 2 ? 90 : 95) / 100);
        kith_hnsw_close(h);
        free(rows);
    }
}

static void inner_products_are_bounded_by_negative_distances(void **state)
{
    const float rows[4][2] = {{1, 0}, {2, 0}, {3, 0}, {4, 0}}, query_vector[2] = {1, 0};
    struct kith_hnsw *h = open_index(2, KITH_HNSW_F32, KITH_HNSW_KEEP_NONE, KITH_HNSW_INNER_PRODUCT);
    struct kith_hnsw_hit hits[4];
    uint32_t slot;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(kith_hnsw_add(h, rows[i], 0, i, &slot), KITH_OK);
    struct kith_hnsw_query query = {.vector = query_vector, .k = 4};
    assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 4);
    assert_true(hits[0].distance == -3 && hits[3].distance == 0);
    query.max_distance = -1.5f;
    assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 2);
    kith_hnsw_close(h);
}

/* Opening, adding, linking, searching and restoring, with each allocation failing in turn. */
static void an_allocation_failure_leaks_nothing_in_any_kind(void **state)
{
    enum { SMALL = 12, COUNT = 40 };
    float *rows = test_clusters(COUNT, SMALL, 3, 7);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        for (int n = 0; failing_malloc_sweep(&n);) {
            struct kith_hnsw *h = NULL;
            struct kith_hnsw_options options = {.dim = SMALL,
                                                .codes = kinds[kind].codes,
                                                .keep = kinds[kind].keep,
                                                .metric = metrics[kind % METRICS],
                                                .m = 4};
            if (kith_hnsw_open(&h, &options) != KITH_OK) {
                assert_null(h);
                continue;
            }
            for (uint32_t i = 0; i < COUNT; i++) {
                uint32_t slot;
                int rc = kith_hnsw_add(h, rows + i * SMALL, 0, i, &slot);
                assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
            }
            kith_hnsw_settle(h);
            struct kith_hnsw_hit hits[5];
            int found = kith_hnsw_search(h, &(struct kith_hnsw_query){.vector = rows, .k = 5}, hits, NULL);
            assert_true(found == 5 || found == KITH_ENOMEM);
            kith_hnsw_close(h);
        }
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_graph_finds_the_truth_by_every_code_and_metric),
        cmocka_unit_test(vectors_come_back_as_well_as_they_are_kept),
        cmocka_unit_test(an_element_is_nearest_to_itself),
        cmocka_unit_test(every_kind_is_restored_as_it_was),
        cmocka_unit_test(every_kernel_keeps_the_same_bytes),
        cmocka_unit_test(extreme_values_are_ordered_and_never_nan),
        cmocka_unit_test(equal_vectors_are_at_zero_by_l2_and_do_not_ruin_any_graph),
        cmocka_unit_test(vectors_of_many_lengths_are_reached_and_found_by_inner_product),
        cmocka_unit_test(inner_products_are_bounded_by_negative_distances),
        cmocka_unit_test(an_allocation_failure_leaks_nothing_in_any_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
