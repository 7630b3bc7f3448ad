/* Diverse results against the definition, written out: one after the other, the candidate with the best marginal
 * relevance, all similarities computed anew each time. */
#include "failing_malloc.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROWS = 1500, DIM = 24 };

static struct kith_hnsw *build(const float *rows, enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {.dim = DIM, .codes = codes, .metric = KITH_HNSW_COSINE, .seed = 7};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t slot;
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot), KITH_OK);
    }
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    return h;
}

/* The formula of Carbonell and Goldstein with cosines; out gets indexes into pool. */
static uint32_t choose_by_definition(const struct kith_hnsw *h, const struct kith_hnsw_hit *pool,
                                     uint32_t count, float lambda, uint32_t k, uint32_t *out)
{
    bool *taken = calloc(count, sizeof *taken);
    uint32_t n = 0;
    for (; n < k && n < count; n++) {
        uint32_t best = 0;
        double best_value = -1e9;
        for (uint32_t i = 0; i < count; i++) {
            double most = n ? -1e9 : 0;
            for (uint32_t j = 0; j < n; j++)
                most = fmax(most, 1 - (double)kith_hnsw_distance(h, pool[i].slot, pool[out[j]].slot));
            double value = n ? lambda * (1 - (double)pool[i].distance) - (1 - lambda) * most
                             : 1 - (double)pool[i].distance;
            if (taken[i] || value <= best_value + 1e-6)
                continue;
            best_value = value;
            best = i;
        }
        taken[best] = true;
        out[n] = best;
    }
    free(taken);
    return n;
}

static void the_choice_is_that_of_the_definition(void **state)
{
    static const float lambdas[] = {0, 0.3f, 0.5f, 0.7f, 0.95f, 1};
    float *rows = test_clusters(ROWS, DIM, 15, 3), *queries = test_clusters(20, DIM, 15, 4);
    struct kith_hnsw *h = build(rows, KITH_HNSW_F32);
    for (uint32_t q = 0; q < 20; q++) {
        for (size_t l = 0; l < sizeof lambdas / sizeof *lambdas; l++) {
            struct kith_hnsw_hit pool[80], hits[20];
            uint32_t expected[20];
            struct kith_hnsw_query query = {.vector = queries + (size_t)q * DIM, .k = 80, .ef = 100};
            assert_int_equal(kith_hnsw_search(h, &query, pool, NULL), 80);
            query.k = 20;
            query.mmr_pool = 80;
            query.mmr_lambda = lambdas[l];
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 20);
            choose_by_definition(h, pool, 80, lambdas[l], 20, expected);
            for (uint32_t i = 0; i < 20; i++) {
                assert_int_equal(hits[i].slot, pool[expected[i]].slot);
                assert_true(hits[i].distance == pool[expected[i]].distance);
            }
        }
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void a_pool_that_is_small_or_large_gives_what_there_is(void **state)
{
    float *rows = test_clusters(ROWS, DIM, 15, 3);
    struct kith_hnsw *h = build(rows, KITH_HNSW_I8);
    struct kith_hnsw_hit *hits = calloc(ROWS + 10, sizeof *hits);
    static const uint32_t pools[] = {1, 5, 10, 11, ROWS, ROWS + 5, 4 * ROWS};
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        struct kith_hnsw_profile profile;
        struct kith_hnsw_query query = {
            .vector = rows, .k = 10, .ef = 20, .mmr_pool = pools[i], .mmr_lambda = 0.5f, .timed = true};
        assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
        for (int a = 0; a < 10; a++)
            for (int b = 0; b < a; b++)
                assert_true(hits[a].slot != hits[b].slot);
        query.k = ROWS + 10;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), ROWS);
        query.k = 0;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 0);
    }
    free(hits);
    kith_hnsw_close(h);
    free(rows);
}

static void without_memory_a_search_says_so(void **state)
{
    float *rows = test_clusters(ROWS, DIM, 15, 3);
    struct kith_hnsw *h = build(rows, KITH_HNSW_I8);
    bool failed = true;
    for (long n = 0; failed; n++) {
        struct kith_hnsw_hit hits[10];
        struct kith_hnsw_query query = {
            .vector = rows, .k = 10, .ef = 100, .mmr_pool = 50, .mmr_lambda = 0.5f};
        failing_malloc_arm(n);
        int found = kith_hnsw_search(h, &query, hits, NULL);
        failed = failing_malloc_disarm();
        assert_int_equal(found, failed ? KITH_ENOMEM : 10);
    }
    kith_hnsw_close(h);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_choice_is_that_of_the_definition),
        cmocka_unit_test(a_pool_that_is_small_or_large_gives_what_there_is),
        cmocka_unit_test(without_memory_a_search_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
