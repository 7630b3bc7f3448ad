/* Recall measured on the set's own elements: it agrees with that of queries the set has not seen, tells what codes and
 * graph lose, and survives failing memory. */
#include "vec/measure.h"

#include "failing_malloc.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROWS = 4000, DIM = 24, K = 10, EF = 12, CODES = 1 << 20 };

static float rows[ROWS * DIM], queries[500 * DIM];

static void fill(float *out, size_t count, uint64_t seed)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(kith_rng_unit(&rng) + kith_rng_unit(&rng) + kith_rng_unit(&rng) - 1.5);
}

static struct kith_hnsw *build(enum kith_hnsw_codes codes, enum kith_hnsw_keep keep, uint32_t count)
{
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {.dim = DIM,
                                        .codes = codes,
                                        .keep = keep,
                                        .metric = KITH_HNSW_COSINE,
                                        .m = 8,
                                        .ef_construction = 60,
                                        .seed = 7};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    fill(rows, ROWS * DIM, 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot;
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot), KITH_OK);
        kith_hnsw_work(h, 1, 0);
    }
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    return h;
}

static struct kith_measured measure(struct kith_hnsw *h, const struct kith_measure_options *options,
                                    uint32_t codes)
{
    struct kith_measure *m;
    struct kith_measured out;
    int rc;
    assert_int_equal(kith_measure_open(&m, h, options), KITH_OK);
    while ((rc = kith_measure_step(m, codes, NULL)) > 0)
        ;
    assert_int_equal(rc, KITH_OK);
    kith_measure_get(m, &out);
    kith_measure_close(m);
    return out;
}

static void it_agrees_with_the_recall_of_unseen_queries(void **state)
{
    struct kith_hnsw *h = build(KITH_HNSW_I8, KITH_HNSW_KEEP_DEFAULT, ROWS);
    struct kith_measure_options options = {.k = K, .ef = EF, .samples = 500, .seed = 3};
    struct kith_measured m = measure(h, &options, CODES);
    double right = 0;
    fill(queries, 500 * DIM, 2);
    for (unsigned i = 0; i < 500; i++) {
        struct kith_hnsw_hit truth[K], hits[K];
        struct kith_hnsw_query exact = {.vector = queries + (size_t)i * DIM, .k = K, .exact = true};
        struct kith_hnsw_query query = {.vector = queries + (size_t)i * DIM, .k = K, .ef = EF};
        kith_hnsw_search(h, &exact, truth, NULL);
        kith_hnsw_search(h, &query, hits, NULL);
        for (unsigned a = 0; a < K; a++)
            for (unsigned b = 0; b < K; b++)
                right += hits[a].slot == truth[b].slot;
    }
    double recall = right / (500 * K);
    if (fabs(m.recall - recall) > 0.05)
        fail_msg("measured %.4f, queries have %.4f", m.recall, recall);
    assert_int_equal(m.samples, 500);
    assert_true(m.low < m.recall && m.recall < m.high && m.high - m.low < 0.06);
    assert_true(m.evaluations > EF && m.evaluations < ROWS / 2.0);
    kith_hnsw_close(h);
}

static void steps_of_any_length_give_the_same(void **state)
{
    struct kith_hnsw *h = build(KITH_HNSW_I8, KITH_HNSW_KEEP_DEFAULT, ROWS);
    struct kith_measure_options options = {.k = K, .ef = EF, .samples = 20, .seed = 3};
    struct kith_measured a = measure(h, &options, CODES), b = measure(h, &options, 1);
    assert_true(a.recall == b.recall && a.evaluations == b.evaluations);
    kith_hnsw_close(h);
}

static void what_is_lost_is_told_apart(void **state)
{
    struct kith_measure_options options = {.k = K, .ef = 100, .samples = 100, .seed = 3};
    struct kith_hnsw *fine = build(KITH_HNSW_F32, KITH_HNSW_KEEP_NONE, ROWS);
    struct kith_hnsw *coarse = build(KITH_HNSW_BIN, KITH_HNSW_KEEP_F32, ROWS);
    struct kith_hnsw *alone = build(KITH_HNSW_I8, KITH_HNSW_KEEP_NONE, ROWS);
    struct kith_measured m = measure(fine, &options, CODES);
    assert_true(m.codes_known && m.codes_lost == 0);
    m = measure(coarse, &options, CODES);
    assert_true(m.codes_known && m.codes_lost > 0.02);
    assert_true(fabs(m.codes_lost + m.graph_lost + m.recall - 1) < 1e-9);
    assert_false(measure(alone, &options, CODES).codes_known);
    kith_hnsw_close(fine);
    kith_hnsw_close(coarse);
    kith_hnsw_close(alone);
}

static void small_sets_and_large_efforts_are_exact(void **state)
{
    struct kith_measure_options options = {.k = K, .ef = 2000, .samples = 10, .seed = 3};
    struct kith_hnsw *h = build(KITH_HNSW_I8, KITH_HNSW_KEEP_DEFAULT, ROWS),
                     *empty = build(KITH_HNSW_I8, 0, 0);
    assert_true(measure(h, &options, CODES).recall == 1);
    struct kith_measured m = measure(empty, &options, CODES);
    assert_int_equal(m.samples, 0);
    options = (struct kith_measure_options){.k = K, .recall = 0.9f, .samples = 50, .seed = 3};
    m = measure(h, &options, CODES);
    assert_true(m.recall > 0.85);
    struct kith_measure *refused;
    options.recall = 1;
    assert_int_equal(kith_measure_open(&refused, h, &options), KITH_EINVAL);
    options = (struct kith_measure_options){.k = KITH_MEASURE_K_MAX + 1, .ef = 10, .samples = 50};
    assert_int_equal(kith_measure_open(&refused, h, &options), KITH_EINVAL);
    kith_hnsw_close(h);
    kith_hnsw_close(empty);
}

static void each_allocation_may_fail(void **state)
{
    struct kith_hnsw *h = build(KITH_HNSW_I8, KITH_HNSW_KEEP_DEFAULT, 500);
    struct kith_measure_options options = {.k = K, .ef = EF, .samples = 2, .seed = 3};
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_measure *m;
        int rc = kith_measure_open(&m, h, &options);
        if (rc != KITH_OK) {
            assert_int_equal(rc, KITH_ENOMEM);
            continue;
        }
        while ((rc = kith_measure_step(m, CODES, NULL)) > 0)
            ;
        assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
        kith_measure_close(m);
    }
    kith_hnsw_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_the_recall_of_unseen_queries),
        cmocka_unit_test(steps_of_any_length_give_the_same),
        cmocka_unit_test(what_is_lost_is_told_apart),
        cmocka_unit_test(small_sets_and_large_efforts_are_exact),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
