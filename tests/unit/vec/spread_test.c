/* The SPREAD layout: its kernels against the scalar reference, its estimates against distances, its rows against its
 * links, and its searches against an exact scan. */
#include "failing_malloc.h"
#include "vec/index.h"
#include "vec/rotation.h"
#include "vec/spread.h"
#include "vectors.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct kith_hnsw_options options_of(uint32_t dim, enum kith_hnsw_codes codes,
                                           enum kith_hnsw_metric metric)
{
    return (struct kith_hnsw_options){
        .dim = dim, .codes = codes, .metric = metric, .layout = KITH_HNSW_SPREAD, .seed = 5};
}

static void check(const struct kith_hnsw *h)
{
    struct kith_error error;
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static struct kith_hnsw *build(const float *rows, uint32_t count, struct kith_hnsw_options options)
{
    struct kith_hnsw *h;
    uint32_t slot;
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * options.dim, 0, i, &slot), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    check(h);
    return h;
}

/* Part of the exact scan's answers that the walk finds, equal distances counting as equal. */
static double recall(struct kith_hnsw *h, const float *queries, uint32_t count, uint32_t ef)
{
    struct kith_hnsw_hit exact[10], found[10];
    double right = 0, all = 0;
    for (uint32_t q = 0; q < count; q++) {
        struct kith_hnsw_query query = {
            .vector = queries + (size_t)q * h->options.dim, .k = 10, .ef = ef, .exact = true};
        int n = kith_hnsw_search(h, &query, exact, NULL);
        query.exact = false;
        int m = kith_hnsw_search(h, &query, found, NULL);
        assert_int_equal(n, m);
        for (int i = 0; i < m; i++)
            right +=
                found[i].distance <= exact[n - 1].distance + 1e-6f * fabsf(exact[n - 1].distance) + 1e-6f;
        all += n;
    }
    return all > 0 ? right / all : 1;
}

/* ---- kernels ---- */

static void every_kernel_estimates_as_the_scalar_one_does(void **state)
{
    static const size_t groups[] = {4, 8, 32, 196, 256, 260, 1028};
    static const enum kith_kernel_level levels[] = {KITH_KERNEL_NEON, KITH_KERNEL_AVX2, KITH_KERNEL_AVX512};
    const struct spread_kernels *scalar = spread_kernels_scalar();
    enum { MOST = 1028, SEED = 8 };
    uint8_t *block = aligned_alloc(64, SPREAD_FACTOR_BYTES + 2 * SPREAD_GROUP_BYTES * MOST);
    uint8_t *tables[2] = {aligned_alloc(64, SPREAD_GROUP_BYTES * MOST),
                          aligned_alloc(64, SPREAD_GROUP_BYTES * MOST)};
    float *q = malloc(4 * MOST * sizeof *q), out[2][SPREAD_LANES];
    struct kith_rng rng;
    printf("seed %d\n", SEED);
    kith_rng_seed(&rng, SEED);
    for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
        const struct kith_kernels *here = kith_kernels_at(levels[l]);
        if (!here)
            continue;
        const struct spread_kernels *kernels = spread_kernels_pick(levels[l]);
        assert_true(kernels != scalar);
        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
            for (unsigned planes = 1; planes <= 2; planes++) {
                struct spread_query query[2] = {{.tables = tables[0], .groups = groups[g], .planes = planes},
                                                {.tables = tables[1], .groups = groups[g], .planes = planes}};
                for (size_t i = 0; i < 4 * groups[g]; i++)
                    q[i] = test_normal(&rng);
                for (size_t i = 0; i < SPREAD_FACTOR_BYTES + planes * SPREAD_GROUP_BYTES * groups[g]; i++)
                    block[i] = (uint8_t)kith_rng_below(&rng, 256);
                uint16_t *factors = (uint16_t *)(void *)block;
                for (unsigned i = 0; i < 2 * SPREAD_LANES; i++) /* 1 to 2, and one lane without a link */
                    factors[i] = i == 7 ? 0x7f80 : (uint16_t)(0x3f80 | (factors[i] & 0x7f));
                scalar->make_tables(q, &query[0]);
                kernels->make_tables(q, &query[1]);
                for (size_t i = 0; i < SPREAD_GROUP_BYTES * groups[g]; i++)
                    assert_true(abs(tables[0][i] - tables[1][i]) <= 1); /* rounding of sums */
                query[1].tables = tables[0];
                uint32_t below = scalar->estimate(&query[0], block, 0.5f, 1.5f, out[0]);
                uint32_t same = kernels->estimate(&query[1], block, 0.5f, 1.5f, out[1]);
                for (unsigned i = 0; i < SPREAD_LANES; i++) {
                    assert_true(out[0][i] == out[1][i] ||
                                fabsf(out[0][i] - out[1][i]) <= 1e-4f * (1 + fabsf(out[0][i])));
                    if (fabsf(out[0][i] - 1.5f) > 1e-2f)
                        assert_int_equal(below >> i & 1, same >> i & 1);
                }
                assert_int_equal(same >> 7 & 1, 0);
            }
        }
    }
    free(block);
    free(tables[0]);
    free(tables[1]);
    free(q);
}

/* An entry is the inner product of the four values and the four bits' signs, in steps. */
static void tables_and_blocks_make_inner_products(void **state)
{
    enum { GROUPS = 8, DIM = 4 * GROUPS };
    _Alignas(64) uint8_t tables[SPREAD_GROUP_BYTES * GROUPS];
    _Alignas(64) uint8_t block[SPREAD_FACTOR_BYTES + 2 * SPREAD_GROUP_BYTES * GROUPS] = {0};
    float q[DIM], out[SPREAD_LANES];
    uint8_t levels[SPREAD_LANES][DIM];
    struct kith_rng rng;
    kith_rng_seed(&rng, 9);
    for (unsigned i = 0; i < DIM; i++)
        q[i] = test_normal(&rng);
    for (unsigned lane = 0; lane < SPREAD_LANES; lane++) {
        ((uint16_t *)(void *)block)[SPREAD_LANES + lane] = 0x3f80; /* b = 1 */
        for (unsigned d = 0; d < DIM; d++) {
            levels[lane][d] = (uint8_t)kith_rng_below(&rng, 4);
            for (unsigned p = 0; p < 2; p++)
                if (levels[lane][d] >> p & 1)
                    block[SPREAD_FACTOR_BYTES + (p * GROUPS + d / 4) * SPREAD_GROUP_BYTES + lane % 16] |=
                        (uint8_t)(1u << (d % 4 + (lane < 16 ? 0 : 4)));
        }
    }
    struct spread_query query = {.tables = tables, .groups = GROUPS, .planes = 2};
    spread_kernels_scalar()->make_tables(q, &query);
    spread_kernels_scalar()->estimate(&query, block, 0, 0, out);
    for (unsigned lane = 0; lane < SPREAD_LANES; lane++) {
        float dot = 0;
        for (unsigned d = 0; d < DIM; d++)
            dot += q[d] * ((float)levels[lane][d] - 1.5f);
        assert_true(fabsf(out[lane] - dot) <= query.scale * 3 * GROUPS / 2);
    }
}

/* ---- estimates ---- */

static void estimates_are_near_the_distances_and_not_biased(void **state)
{
    enum { ROWS = 600, DIM = 96, QUERIES = 20 };
    static const enum kith_hnsw_metric metrics[] = {KITH_HNSW_COSINE, KITH_HNSW_INNER_PRODUCT,
                                                    KITH_HNSW_L2SQ};
    float *rows = test_clusters(ROWS, DIM, 8, 1), *queries = test_clusters(QUERIES, DIM, 8, 2);
    for (size_t m = 0; m < 3; m++) {
        struct kith_hnsw *h = build(rows, ROWS, options_of(DIM, KITH_HNSW_F32, metrics[m]));
        struct scratch *s = hnsw_scratch_take(h);
        double off = 0, squares = 0, spread = 0;
        unsigned count = 0;
        for (uint32_t q = 0; q < QUERIES; q++) {
            struct target target = hnsw_query_target(h, s, queries + q * DIM);
            float *rotated = s->spread_query, norm = target.fine->norm;
            kith_rotation_apply(h->spread.rotation, target.fine->unit, rotated);
            for (uint32_t d = 0; d < DIM; d++)
                rotated[d] *= norm;
            struct spread_query query = {
                .tables = s->spread_tables, .groups = h->spread.groups, .planes = h->spread.planes};
            h->spread.kernels->make_tables(rotated, &query);
            for (uint32_t slot = 0; slot < ROWS; slot++) {
                float base, estimates[SPREAD_LANES], truth[SPREAD_LANES];
                uint32_t links[SPREAD_LANES], n = hnsw_links_copy(h, slot, 0, links);
                hnsw_distances(h, target, &slot, 1, &base);
                hnsw_distances(h, target, links, n, truth);
                h->spread.kernels->estimate(&query, region_at(&h->spread.rows, slot), base, 0, estimates);
                for (uint32_t i = 0; i < n; i++, count++) {
                    off += estimates[i] - truth[i];
                    squares += (estimates[i] - truth[i]) * (estimates[i] - truth[i]);
                    spread += (truth[i] - base) * (truth[i] - base);
                }
                for (uint32_t i = n; i < SPREAD_LANES; i++)
                    assert_true(estimates[i] > 1e30f);
            }
        }
        double deviation = sqrt(squares / count), typical = sqrt(spread / count);
        if (deviation > 0.5 * typical || fabs(off / count) > 0.03 * typical)
            fail_msg("metric %zu: off by %g, bias %g, differences %g", m, deviation, off / count, typical);
        hnsw_scratch_give(h, s);
        kith_hnsw_close(h);
    }
    free(rows);
    free(queries);
}

/* ---- searches ---- */

static void a_walk_finds_what_an_exact_scan_finds_for_all_codes_and_metrics(void **state)
{
    enum { ROWS = 1500, DIM = 24, QUERIES = 40 };
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_F32, KITH_HNSW_F16, KITH_HNSW_BF16, KITH_HNSW_I8,
                                                 KITH_HNSW_I4};
    static const enum kith_hnsw_metric metrics[] = {KITH_HNSW_COSINE, KITH_HNSW_INNER_PRODUCT,
                                                    KITH_HNSW_L2SQ};
    float *rows = test_clusters(ROWS, DIM, 40, 1), *queries = test_clusters(QUERIES, DIM, 40, 2);
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        for (size_t m = 0; m < 3; m++) {
            struct kith_hnsw *h = build(rows, ROWS, options_of(DIM, codes[c], metrics[m]));
            struct kith_hnsw_profile profile;
            struct kith_hnsw_hit hits[10];
            struct kith_hnsw_query query = {.vector = queries, .k = 10, .ef = 100};
            assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
            assert_int_equal(profile.strategy, KITH_HNSW_GRAPH);
            assert_true(profile.estimates > profile.evaluations);
            double r = recall(h, queries, QUERIES, 150);
            if (r < 0.95)
                fail_msg("codes %d, metric %d: recall %.4f", codes[c], metrics[m], r);
            /* An element as the query: the element itself comes first. */
            query = (struct kith_hnsw_query){.slot = 77, .k = 1, .ef = 64};
            assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 1);
            assert_true(metrics[m] == KITH_HNSW_INNER_PRODUCT || hits[0].slot == 77);
            kith_hnsw_close(h);
        }
    }
    free(rows);
    free(queries);
}

static void any_number_of_dimensions_and_links_works(void **state)
{
    static const struct {
        uint32_t dim, m;
    } cases[] = {{1, 16},  {2, 16},   {3, 16},   {15, 16}, {16, 16},  {17, 2},
                 {17, 20}, {127, 16}, {511, 16}, {512, 9}, {513, 16}, {1000, 40}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t dim = cases[i].dim, count = dim > 500 ? 300 : 500;
        float *rows = test_clusters(count, dim, 10, 13);
        struct kith_hnsw_options options = options_of(dim, KITH_HNSW_I8, KITH_HNSW_L2SQ);
        options.m = cases[i].m;
        struct kith_hnsw *h = build(rows, count, options);
        double r = recall(h, rows, 40, 40);
        if (r < (cases[i].m < 4 ? 0.7 : 0.9))
            fail_msg("dim %u, m %u: recall %.4f", dim, cases[i].m, r);
        kith_hnsw_close(h);
        free(rows);
    }
}

static void codes_of_one_bit_are_refused(void **state)
{
    struct kith_hnsw *h = NULL;
    struct kith_hnsw_options options = options_of(8, KITH_HNSW_BIN, KITH_HNSW_COSINE);
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_EINVAL);
    options.codes = KITH_HNSW_I8;
    options.layout = (enum kith_hnsw_layout)2;
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_EINVAL);
    assert_null(h);
}

static void equal_and_zero_vectors_do_not_ruin_the_graph(void **state)
{
    enum { SAME = 800, OTHERS = 800, DIM = 24 };
    float *rows = test_clusters(OTHERS, DIM, 10, 11), zero[DIM] = {0};
    struct kith_hnsw_options options = options_of(DIM, KITH_HNSW_I8, KITH_HNSW_COSINE);
    struct kith_hnsw *h;
    uint32_t slot;
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    for (uint32_t i = 0; i < SAME; i++) {
        assert_int_equal(kith_hnsw_add(h, i % 100 ? rows : zero, 0, i, &slot), KITH_OK);
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot), KITH_OK);
    }
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    check(h);
    double r = recall(h, rows + DIM, 60, 100);
    if (r < 0.95)
        fail_msg("recall %.4f", r);
    kith_hnsw_close(h);
    free(rows);
}

/* ---- rows ---- */

static void churn_keeps_the_rows_those_of_the_links(void **state)
{
    enum { ROWS = 800, DIM = 20, STEPS = 4000, SEED = 77 };
    static const uint32_t ms[] = {4, 20};
    float *rows = test_clusters(ROWS, DIM, 20, 7);
    printf("seed %d\n", SEED);
    for (size_t k = 0; k < 2; k++) {
        struct kith_hnsw_options options = options_of(DIM, KITH_HNSW_I8, KITH_HNSW_COSINE);
        struct kith_rng rng;
        struct kith_hnsw *h;
        uint32_t slots[ROWS];
        bool in[ROWS] = {false};
        options.m = ms[k];
        options.ef_construction = 40;
        kith_rng_seed(&rng, SEED);
        assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
        for (unsigned step = 0; step < STEPS; step++) {
            uint32_t row = (uint32_t)kith_rng_below(&rng, ROWS);
            bool growing = step / 1000 % 2 == 0;
            if (!in[row] && (growing || kith_rng_below(&rng, 4) == 0)) {
                assert_int_equal(kith_hnsw_add(h, rows + (size_t)row * DIM, 0, row, &slots[row]), KITH_OK);
                in[row] = true;
            } else if (in[row] && (!growing || kith_rng_below(&rng, 4) == 0)) {
                assert_int_equal(kith_hnsw_remove(h, slots[row]), KITH_OK);
                in[row] = false;
            }
            if (kith_rng_below(&rng, 3) == 0)
                assert_true(kith_hnsw_work(h, (unsigned)kith_rng_below(&rng, 8), 0) >= 0);
            if (step % 250 == 0)
                check(h);
        }
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        for (uint32_t row = 0; row < ROWS; row++)
            if (in[row])
                assert_int_equal(kith_hnsw_remove(h, slots[row]), KITH_OK);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        assert_int_equal(kith_hnsw_slot_end(h), 0);
        kith_hnsw_close(h);
    }
    free(rows);
}

static void a_row_that_is_not_that_of_its_links_is_told(void **state)
{
    enum { ROWS = 200, DIM = 16 };
    float *rows = test_clusters(ROWS, DIM, 5, 3);
    struct kith_hnsw *h = build(rows, ROWS, options_of(DIM, KITH_HNSW_I8, KITH_HNSW_COSINE));
    struct kith_error error;
    for (size_t at = 0; at < h->spread.block_bytes; at += SPREAD_FACTOR_BYTES / 2) {
        uint8_t *byte = (uint8_t *)region_at(&h->spread.rows, 50) + at;
        *byte ^= 1;
        assert_int_equal(kith_hnsw_check(h, &error), KITH_ECORRUPT);
        *byte ^= 1;
    }
    check(h);
    kith_hnsw_close(h);
    free(rows);
}

static void memory_is_counted_and_given_back(void **state)
{
    enum { ROWS = 2500, DIM = 64 };
    float *rows = test_clusters(ROWS, DIM, 10, 10);
    struct kith_hnsw *h = build(rows, ROWS, options_of(DIM, KITH_HNSW_I8, KITH_HNSW_COSINE));
    struct kith_hnsw_stats stats;
    kith_hnsw_get_stats(h, &stats);
    assert_int_equal(stats.spread_bytes, stats.slots * (128 + 2 * 16 * 16));
    assert_true(stats.bytes > stats.spread_bytes + stats.code_bytes + stats.link_bytes);
    for (uint32_t i = 0; i < ROWS; i++)
        assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_true(kith_hnsw_bytes(h) < stats.bytes / 10);
    kith_hnsw_close(h);
    free(rows);
}

/* ---- save and restore ---- */

struct saved {
    struct kith_buf header, *records;
    uint32_t count;
};

static void save(const struct kith_hnsw *h, struct saved *saved)
{
    saved->count = kith_hnsw_slot_end(h);
    saved->records = calloc(saved->count, sizeof *saved->records);
    kith_buf_init(&saved->header);
    kith_hnsw_save_header(h, &saved->header);
    for (uint32_t slot = 0; slot < saved->count; slot++)
        kith_hnsw_save_element(h, slot, &saved->records[slot]);
}

static struct kith_hnsw *restore(const struct saved *saved)
{
    struct kith_hnsw_options options = {0};
    struct kith_hnsw *h;
    assert_int_equal(kith_hnsw_restore_open(&h, kith_buf_slice(&saved->header), &options), KITH_OK);
    for (uint32_t slot = 0; slot < saved->count; slot++)
        assert_int_equal(kith_hnsw_restore_element(h, slot, kith_buf_slice(&saved->records[slot]), slot),
                         KITH_OK);
    assert_int_equal(kith_hnsw_restore_finish(h), KITH_OK);
    return h;
}

static void *work_on(void *arg)
{
    while (kith_hnsw_work(arg, 1, 0) > 0)
        ;
    return NULL;
}

static void rows_are_written_anew_after_a_restore(void **state)
{
    enum { ROWS = 1500, DIM = 32 };
    float *rows = test_clusters(ROWS, DIM, 20, 4);
    struct kith_hnsw *h = build(rows, ROWS, options_of(DIM, KITH_HNSW_I8, KITH_HNSW_COSINE));
    struct kith_hnsw_query query = {.vector = rows, .k = 10, .ef = 50};
    struct kith_hnsw_profile profile;
    struct kith_hnsw_hit hits[10];
    struct saved saved;
    save(h, &saved);
    kith_hnsw_close(h);
    h = restore(&saved);
    assert_int_equal(kith_hnsw_get_options(h)->layout, KITH_HNSW_SPREAD);
    assert_true(kith_hnsw_get_backlog(h).work_pending);
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10); /* without rows */
    assert_int_equal(profile.estimates, 0);
    check(h);
    /* Changes while rows are written by two. */
    uint32_t slot;
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(kith_hnsw_remove(h, 7 * i), KITH_OK);
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot), KITH_OK);
    }
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work_on, h), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
    assert_true(profile.estimates > 0);
    check(h);
    assert_true(recall(h, rows, 50, 100) > 0.95);
    kith_hnsw_close(h);
    kith_hnsw_close(restore(&saved)); /* before its rows are written */
    for (uint32_t i = 0; i < saved.count; i++)
        kith_buf_fini(&saved.records[i]);
    free(saved.records);
    kith_buf_fini(&saved.header);
    free(rows);
}

/* ---- memory that runs out ---- */

static void each_allocation_that_fails_is_survived(void **state)
{
    enum { ROWS = 120, DIM = 20 };
    float *rows = test_clusters(ROWS, DIM, 5, 3);
    struct kith_hnsw_options options = options_of(DIM, KITH_HNSW_F32, KITH_HNSW_L2SQ);
    bool failed = true;
    for (long n = 0; failed; n++) {
        failing_malloc_arm(n);
        struct kith_hnsw *h;
        struct kith_hnsw_hit hits[5];
        struct kith_hnsw_query query = {.vector = rows, .k = 5, .ef = 20};
        uint32_t slot;
        int rc = kith_hnsw_open(&h, &options);
        assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
        if (rc != KITH_OK) {
            failing_malloc_disarm();
            continue;
        }
        for (uint32_t i = 0; i < ROWS; i++) {
            rc = kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot);
            assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
        }
        rc = kith_hnsw_work(h, 10 * ROWS, 0);
        assert_true(rc >= 0 || rc == KITH_ENOMEM);
        rc = kith_hnsw_search(h, &query, hits, NULL);
        assert_true((rc >= 0 && rc <= 5) || rc == KITH_ENOMEM);
        failed = failing_malloc_disarm();
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        kith_hnsw_close(h);
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_estimates_as_the_scalar_one_does),
        cmocka_unit_test(tables_and_blocks_make_inner_products),
        cmocka_unit_test(estimates_are_near_the_distances_and_not_biased),
        cmocka_unit_test(a_walk_finds_what_an_exact_scan_finds_for_all_codes_and_metrics),
        cmocka_unit_test(any_number_of_dimensions_and_links_works),
        cmocka_unit_test(codes_of_one_bit_are_refused),
        cmocka_unit_test(equal_and_zero_vectors_do_not_ruin_the_graph),
        cmocka_unit_test(churn_keeps_the_rows_those_of_the_links),
        cmocka_unit_test(a_row_that_is_not_that_of_its_links_is_told),
        cmocka_unit_test(memory_is_counted_and_given_back),
        cmocka_unit_test(rows_are_written_anew_after_a_restore),
        cmocka_unit_test(each_allocation_that_fails_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
