/* Searches with a filter, however many pass and wherever they lie, against an exact scan of what passes. */
#include "failing_malloc.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { ROWS = 8000, DIM = 24, CLUSTERS = 30, QUERIES = 12, K = 10 };

/* Where the elements that pass lie, seen from the query. */
enum correlation { RANDOM, NEAR, FAR, CORRELATIONS };

/* What filters read: each row's place, in thousandths. */
struct ranks {
    uint32_t of_row[ROWS];
    uint32_t share; /* those below pass */
};

struct ranked {
    float distance;
    uint32_t row;
};

static bool is_ranked_below(void *context, uint32_t slot, uint64_t user)
{
    const struct ranks *ranks = context;
    return ranks->of_row[user] < ranks->share;
}

static int by_distance(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

static void rank_rows(struct ranks *ranks, const float *rows, const float *query,
                      enum correlation correlation)
{
    static struct ranked order[ROWS];
    struct kith_rng rng;
    kith_rng_seed(&rng, 77);
    for (uint32_t row = 0; row < ROWS; row++) {
        float apart = test_cosine_distance(query, rows + (size_t)row * DIM, DIM);
        order[row].row = row;
        order[row].distance = correlation == RANDOM ? (float)kith_rng_unit(&rng)
                              : correlation == NEAR ? apart
                                                    : -apart;
    }
    qsort(order, ROWS, sizeof *order, by_distance);
    for (uint32_t i = 0; i < ROWS; i++)
        ranks->of_row[order[i].row] = i * 1000 / ROWS;
}

static uint32_t add(struct kith_hnsw *h, const float *rows, uint32_t row)
{
    uint32_t slot;
    assert_int_equal(kith_hnsw_add(h, rows + (size_t)row * DIM, 0, row, &slot), KITH_OK);
    return slot;
}

static struct kith_hnsw *open_index(enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {
        .dim = DIM, .codes = codes, .metric = KITH_HNSW_COSINE, .seed = 9, .tail_max = ROWS};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    return h;
}

static struct kith_hnsw *build(const float *rows, enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h = open_index(codes);
    for (uint32_t row = 0; row < ROWS; row++)
        add(h, rows, row);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    return h;
}

/* The part of the exact answers that is found; the number of answers must be the same. */
static double recall(struct kith_hnsw *h, struct kith_hnsw_query query)
{
    struct kith_hnsw_hit exact[K], found[K];
    query.k = K;
    query.exact = true;
    int n = kith_hnsw_search(h, &query, exact, NULL);
    query.exact = false;
    int m = kith_hnsw_search(h, &query, found, NULL), right = 0;
    assert_int_equal(m, n);
    for (int i = 0; i < m; i++) {
        right += found[i].distance <= exact[n - 1].distance + 1e-6f;
        assert_true(query.filter(query.filter_context, found[i].slot, kith_hnsw_user(h, found[i].slot)));
    }
    return n ? (double)right / n : 1;
}

static void any_share_of_elements_anywhere_is_found(void **state)
{
    static const uint32_t shares[] = {500, 100, 10, 1, 0};
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_I8, KITH_HNSW_F32, KITH_HNSW_I4};
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 31),
          *queries = test_clusters(QUERIES, DIM, CLUSTERS, 32);
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        struct kith_hnsw *h = build(rows, codes[c]);
        for (unsigned cell = 0; cell < CORRELATIONS * 5; cell++) {
            static struct ranks ranks;
            double sum = 0;
            ranks.share = shares[cell % 5];
            for (uint32_t q = 0; q < QUERIES; q++) {
                const float *query = queries + (size_t)q * DIM;
                rank_rows(&ranks, rows, query, (enum correlation)(cell / 5));
                sum += recall(h, (struct kith_hnsw_query){
                                     .vector = query, .filter = is_ranked_below, .filter_context = &ranks});
            }
            if (sum / QUERIES < 0.95)
                fail_msg("codes %d, correlation %u, %u in a thousand: recall %.4f", codes[c], cell / 5,
                         ranks.share, sum / QUERIES);
        }
        kith_hnsw_close(h);
    }
    free(rows);
    free(queries);
}

static void each_way_alone_finds_as_many(void **state)
{
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 33),
          *queries = test_clusters(QUERIES, DIM, CLUSTERS, 34);
    struct kith_hnsw *h = build(rows, KITH_HNSW_I8);
    static struct ranks ranks;
    for (unsigned way = KITH_HNSW_WAY_GRAPH; way <= KITH_HNSW_WAY_SCAN; way++) {
        for (uint32_t q = 0; q < QUERIES; q++) {
            struct kith_hnsw_query query = {.vector = queries + (size_t)q * DIM,
                                            .filter = is_ranked_below,
                                            .filter_context = &ranks,
                                            .way = (enum kith_hnsw_way)way};
            rank_rows(&ranks, rows, query.vector, (enum correlation)(q % CORRELATIONS));
            ranks.share = q % 2 ? 100 : 5;
            recall(h, query);
        }
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void where_all_pass_few_are_asked(void **state)
{
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 35);
    struct kith_hnsw *h = build(rows, KITH_HNSW_I8);
    static struct ranks ranks;
    ranks.share = 1000;
    struct kith_hnsw_profile profile;
    struct kith_hnsw_hit hits[K];
    struct kith_hnsw_query query = {
        .vector = rows, .k = K, .filter = is_ranked_below, .filter_context = &ranks};
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), K);
    assert_int_equal(profile.strategy, KITH_HNSW_GRAPH);
    assert_true(profile.filter_calls <= 4 * K);
    kith_hnsw_close(h);
    free(rows);
}

static void the_bound_on_what_is_asked_is_kept(void **state)
{
    static const uint32_t bounds[] = {1, 9, 50, 500, ROWS - 1, ROWS, 2 * ROWS, UINT32_MAX};
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 36),
          *queries = test_clusters(QUERIES, DIM, CLUSTERS, 37);
    struct kith_hnsw *h = build(rows, KITH_HNSW_I8);
    for (unsigned i = 0; i < QUERIES * 8; i++) {
        static struct ranks ranks;
        struct kith_hnsw_profile profile;
        struct kith_hnsw_hit hits[K];
        struct kith_hnsw_query query = {.vector = queries + (size_t)(i / 8) * DIM,
                                        .k = K,
                                        .filter = is_ranked_below,
                                        .filter_context = &ranks,
                                        .filter_ef = bounds[i % 8],
                                        .way = (enum kith_hnsw_way)(i / 8 % 3)};
        rank_rows(&ranks, rows, query.vector, (enum correlation)(i / 8 % CORRELATIONS));
        ranks.share = i / 8 % 4 ? 10 : 300;
        int found = kith_hnsw_search(h, &query, hits, &profile);
        assert_in_range(found, 0, K);
        if (bounds[i % 8] < ROWS)
            assert_in_range(profile.filter_calls, 1, bounds[i % 8]);
        else
            assert_int_equal(found, K); /* it bounds nothing */
        for (int k = 0; k < found; k++)
            assert_true(is_ranked_below(&ranks, hits[k].slot, kith_hnsw_user(h, hits[k].slot)));
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void unlinked_and_removed_elements_cost_no_results(void **state)
{
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 38),
          *queries = test_clusters(QUERIES, DIM, CLUSTERS, 39);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8);
    static uint32_t slots[ROWS];
    struct kith_rng rng;
    kith_rng_seed(&rng, 40);
    for (uint32_t row = 0; row < ROWS; row++) {
        slots[row] = add(h, rows, row);
        if (row < ROWS / 2)
            kith_hnsw_work(h, 1, 0);
    }
    for (unsigned round = 0; round < 6; round++) {
        for (uint32_t q = 0; q < QUERIES; q++) {
            static struct ranks ranks;
            struct kith_hnsw_query query = {.vector = queries + (size_t)q * DIM,
                                            .filter = is_ranked_below,
                                            .filter_context = &ranks,
                                            .way = (enum kith_hnsw_way)(q % 4)};
            rank_rows(&ranks, rows, query.vector, (enum correlation)(q % CORRELATIONS));
            ranks.share = q % 2 ? 500 : 3;
            recall(h, query);
        }
        for (uint32_t i = 0; i < ROWS / 8; i++) {
            uint32_t row = (uint32_t)kith_rng_below(&rng, ROWS);
            if (slots[row] == KITH_HNSW_NONE)
                continue;
            assert_int_equal(kith_hnsw_remove(h, slots[row]), KITH_OK);
            slots[row] = KITH_HNSW_NONE;
        }
        kith_hnsw_work(h, ROWS / 8, 0);
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void running_out_of_memory_is_told(void **state)
{
    float *rows = test_clusters(ROWS, DIM, CLUSTERS, 41);
    static struct ranks ranks;
    rank_rows(&ranks, rows, rows, RANDOM);
    for (unsigned way = KITH_HNSW_WAY_GRAPH; way <= KITH_HNSW_WAY_SCAN; way++) {
        struct kith_hnsw *h = open_index(KITH_HNSW_I8);
        for (uint32_t row = 0; row < 1500; row++)
            add(h, rows, row);
        kith_hnsw_work(h, 1400, 0); /* some stay in the tail */
        ranks.share = 30;
        struct kith_hnsw_hit hits[K];
        struct kith_hnsw_query query = {.vector = rows,
                                        .k = K,
                                        .filter = is_ranked_below,
                                        .filter_context = &ranks,
                                        .way = (enum kith_hnsw_way)way};
        bool failed = true;
        for (int n = 0; failed; n++) {
            failing_malloc_arm(n);
            int found = kith_hnsw_search(h, &query, hits, NULL);
            failed = failing_malloc_disarm();
            assert_int_equal(found, failed ? KITH_ENOMEM : K);
        }
        kith_hnsw_close(h);
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_share_of_elements_anywhere_is_found),
        cmocka_unit_test(each_way_alone_finds_as_many),
        cmocka_unit_test(where_all_pass_few_are_asked),
        cmocka_unit_test(the_bound_on_what_is_asked_is_kept),
        cmocka_unit_test(unlinked_and_removed_elements_cost_no_results),
        cmocka_unit_test(running_out_of_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
