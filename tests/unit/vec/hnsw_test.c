/* The index against plain models: an exact scan, a list of what was added, counters of what was released. */
#include "failing_malloc.h"
#include "vec/hnsw.h"
#include "vec/kernels.h"
#include "vectors.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct kith_hnsw *open_index(uint32_t dim, enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h = NULL;
    struct kith_hnsw_options options = {.dim = dim, .codes = codes, .metric = KITH_HNSW_COSINE, .seed = 5};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    return h;
}

static uint32_t add(struct kith_hnsw *h, const float *vector, uint64_t user)
{
    uint32_t slot = KITH_HNSW_NONE;
    assert_int_equal(kith_hnsw_add(h, vector, 0, user, &slot), KITH_OK);
    return slot;
}

static void check(const struct kith_hnsw *h)
{
    struct kith_error error;
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static struct kith_hnsw *build(const float *rows, uint32_t count, uint32_t dim, enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h = open_index(dim, codes);
    for (uint32_t i = 0; i < count; i++)
        add(h, rows + (size_t)i * dim, i);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    check(h);
    return h;
}

/* Part of the exact scan's answers that the graph finds, equal distances counting as equal. */
static double recall(struct kith_hnsw *h, const float *queries, uint32_t count, uint32_t dim,
                     struct kith_hnsw_query query)
{
    struct kith_hnsw_hit exact[100], found[100];
    double right = 0, all = 0;
    for (uint32_t q = 0; q < count; q++) {
        query.vector = queries + (size_t)q * dim;
        query.exact = true;
        int n = kith_hnsw_search(h, &query, exact, NULL);
        query.exact = false;
        int m = kith_hnsw_search(h, &query, found, NULL);
        assert_int_equal(n, m);
        for (int i = 0; i < m; i++) {
            right += found[i].distance <= exact[n - 1].distance + 1e-6f;
            assert_true(i == 0 || found[i].distance >= found[i - 1].distance);
        }
        all += n;
    }
    return all > 0 ? right / all : 1;
}

static void the_graph_finds_what_an_exact_scan_finds(void **state)
{
    enum { ROWS = 6000, DIM = 48, QUERIES = 100 };
    static const struct {
        enum kith_hnsw_codes codes;
        double least;
    } cases[] = {{KITH_HNSW_F32, 0.98}, {KITH_HNSW_I8, 0.98}, {KITH_HNSW_BIN, 0.95}};
    float *rows = test_clusters(ROWS, DIM, 60, 1), *queries = test_clusters(QUERIES, DIM, 60, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kith_hnsw *h = build(rows, ROWS, DIM, cases[i].codes);
        struct kith_hnsw_profile profile;
        struct kith_hnsw_hit hits[10];
        struct kith_hnsw_query query = {.vector = queries, .k = 10, .ef = 200};
        assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
        assert_int_equal(profile.strategy, KITH_HNSW_GRAPH);
        assert_true(profile.evaluations < ROWS / 2);
        double r = recall(h, queries, QUERIES, DIM, query);
        if (r < cases[i].least)
            fail_msg("codes %d: recall %.4f", cases[i].codes, r);
        kith_hnsw_close(h);
    }
    free(rows);
    free(queries);
}

static void a_profile_tells_the_way_down_and_what_was_read(void **state)
{
    enum { ROWS = 3000, DIM = 24 };
    float *rows = test_clusters(ROWS, DIM, 20, 5);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_I8);
    struct kith_hnsw_profile profile;
    struct kith_hnsw_hit hits[10];
    struct kith_hnsw_query query = {.vector = rows, .k = 10, .ef = 100, .timed = true};
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
    assert_int_equal(profile.path_count, kith_hnsw_max_level(h) + 1);
    for (uint32_t i = 0; i < profile.path_count; i++)
        assert_true(kith_hnsw_level(h, profile.path[i]) >= profile.path_count - 1 - i);
    assert_int_equal(profile.ef, 100);
    assert_true(profile.descend_hops > 0 && profile.descend_hops < profile.hops);
    assert_true(profile.bytes_read >= (uint64_t)profile.evaluations * DIM);
    query.timed = false;
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), 10);
    assert_true(profile.bytes_read == 0 && profile.walk_ns == 0);
    kith_hnsw_close(h);
    free(rows);
}

static void an_exact_search_of_floats_is_exact(void **state)
{
    enum { ROWS = 500, DIM = 20 };
    float *rows = test_clusters(ROWS, DIM, 10, 3), *queries = test_clusters(20, DIM, 10, 4);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_F32);
    for (uint32_t q = 0; q < 20; q++) {
        struct kith_hnsw_hit hits[ROWS];
        struct kith_hnsw_query query = {.vector = queries + q * DIM, .k = ROWS + 5, .exact = true};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), ROWS);
        for (uint32_t i = 0; i < ROWS; i++) {
            float expected = test_cosine_distance(query.vector, rows + hits[i].slot * DIM, DIM);
            assert_true(fabsf(hits[i].distance - expected) < 1e-5f);
            assert_true(i == 0 || hits[i - 1].distance <= hits[i].distance);
        }
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void every_kernel_builds_the_same_graph_of_bytes(void **state)
{
    enum { ROWS = 800, DIM = 70 };
    float *rows = test_clusters(ROWS, DIM, 10, 3);
    uint32_t expected[ROWS][32], counts[ROWS];
    for (int level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512_BF16; level++) {
        struct kith_hnsw *h;
        struct kith_hnsw_options options = {
            .dim = DIM, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 5, .kernel_max = level};
        assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
        for (uint32_t i = 0; i < ROWS; i++)
            add(h, rows + (size_t)i * DIM, i);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t links[32], count = kith_hnsw_links(h, i, 0, links, 32);
            if (level == KITH_KERNEL_SCALAR) {
                counts[i] = count;
                memcpy(expected[i], links, count * sizeof *links);
            }
            assert_int_equal(count, counts[i]);
            assert_memory_equal(links, expected[i], count * sizeof *links);
        }
        kith_hnsw_close(h);
    }
    free(rows);
}

static void an_added_element_is_found_before_it_is_linked(void **state)
{
    enum { ROWS = 5000, DIM = 16 };
    float *rows = test_clusters(ROWS, DIM, 10, 5);
    struct kith_hnsw *h = build(rows, ROWS - 100, DIM, KITH_HNSW_I8);
    for (uint32_t i = ROWS - 100; i < ROWS; i++) {
        uint32_t slot = add(h, rows + (size_t)i * DIM, i);
        struct kith_hnsw_hit hits[3];
        struct kith_hnsw_query query = {.vector = rows + (size_t)i * DIM, .k = 3};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 3);
        assert_int_equal(hits[0].slot, slot);
        query = (struct kith_hnsw_query){.slot = slot, .k = 3};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 3);
        assert_int_equal(hits[0].slot, slot);
        assert_true(hits[0].distance < 1e-6f);
    }
    assert_int_equal(kith_hnsw_get_backlog(h).tail, 100);
    assert_true(kith_hnsw_get_backlog(h).work_pending);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_int_equal(kith_hnsw_get_backlog(h).tail, 0);
    assert_false(kith_hnsw_get_backlog(h).work_pending);
    kith_hnsw_close(h);
    free(rows);
}

static bool passes_odd(void *context, uint32_t slot, uint64_t user)
{
    return user % 2;
}

static void a_large_tail_hides_nothing_that_is_linked(void **state)
{
    enum { ROWS = 6000, DIM = 16 };
    float *rows = test_clusters(ROWS, DIM, 10, 15);
    struct kith_hnsw *h = build(rows, ROWS / 2, DIM, KITH_HNSW_I8);
    for (uint32_t i = ROWS / 2; i < ROWS; i++)
        add(h, rows + (size_t)i * DIM, i);
    assert_int_equal(kith_hnsw_get_backlog(h).tail, ROWS / 2);
    for (uint32_t slot = 1; slot < ROWS; slot += 50) {
        struct kith_hnsw_hit hits[5];
        struct kith_hnsw_query query = {.slot = slot, .k = 5};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 5);
        assert_true(hits[0].distance < 1e-6f);
        query.filter = passes_odd;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 5);
        for (int i = 0; i < 5; i++)
            assert_true(hits[i].slot % 2 && (i == 0 || hits[i].slot != hits[i - 1].slot));
        assert_true(slot % 2 == 0 || hits[0].distance < 1e-6f);
    }
    double r = recall(h, rows, 200, DIM, (struct kith_hnsw_query){.k = 10, .ef = 100});
    if (r < 0.98)
        fail_msg("recall %.4f", r);
    kith_hnsw_close(h);
    free(rows);
}

static void a_deleted_element_is_never_returned_again(void **state)
{
    enum { ROWS = 4000, DIM = 16 };
    float *rows = test_clusters(ROWS, DIM, 10, 6);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_I8);
    for (uint32_t i = 0; i < ROWS; i += 3) {
        assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
        assert_false(kith_hnsw_is_live(h, i));
        assert_int_equal(kith_hnsw_remove(h, i), KITH_ENOENT);
        struct kith_hnsw_hit hits[20];
        struct kith_hnsw_query query = {.vector = rows + (size_t)i * DIM, .k = 20, .ef = 20};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 20);
        for (int k = 0; k < 20; k++)
            assert_true(hits[k].slot > i || hits[k].slot % 3 != 0);
        query = (struct kith_hnsw_query){.slot = i, .k = 1};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), KITH_EINVAL);
        if (i % 300 == 0)
            kith_hnsw_work(h, 50, 0);
    }
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_int_equal(kith_hnsw_get_backlog(h).deleted, 0);
    check(h);
    kith_hnsw_close(h);
    free(rows);
}

struct model {
    uint32_t slot_of[3000];
    uint32_t generation_of[3000];
    unsigned releases[3000];
    bool in[3000];
};

static void count_release(void *context, uint64_t user)
{
    struct model *model = context;
    model->releases[user]++;
}

static void churn_keeps_the_graph_sound_and_equal_to_a_list(void **state)
{
    enum { ROWS = 3000, DIM = 8, STEPS = 12000, SEED = 77 };
    float *rows = test_clusters(ROWS, DIM, 20, 7);
    static struct model model;
    memset(&model, 0, sizeof model);
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {.dim = DIM,
                                        .codes = KITH_HNSW_I8,
                                        .metric = KITH_HNSW_COSINE,
                                        .m = 6,
                                        .ef_construction = 40,
                                        .release = count_release,
                                        .release_context = &model};
    struct kith_rng rng;
    uint32_t count = 0, adds[ROWS] = {0};
    printf("seed %d\n", SEED);
    kith_rng_seed(&rng, SEED);
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t row = (uint32_t)kith_rng_below(&rng, ROWS);
        /* Waves of growth and shrinking, to the last element. */
        bool growing = step / 3000 % 2 == 0;
        if (!model.in[row] && (growing || kith_rng_below(&rng, 4) == 0)) {
            model.slot_of[row] = add(h, rows + (size_t)row * DIM, row);
            model.generation_of[row] = kith_hnsw_generation(h, model.slot_of[row]);
            model.in[row] = true;
            adds[row]++;
            count++;
        } else if (model.in[row] && (!growing || kith_rng_below(&rng, 4) == 0)) {
            assert_int_equal(kith_hnsw_remove(h, model.slot_of[row]), KITH_OK);
            model.in[row] = false;
            count--;
        }
        if (kith_rng_below(&rng, 3) == 0)
            assert_true(kith_hnsw_work(h, (unsigned)kith_rng_below(&rng, 8), 0) >= 0);
        if (step % 500 == 0) {
            check(h);
            if (step % 1000 == 0)
                assert_int_equal(kith_hnsw_settle(h), KITH_OK);
            check(h);
        }
        assert_int_equal(kith_hnsw_count(h), count);
        if (step % 20)
            continue;
        struct kith_hnsw_hit hits[10];
        struct kith_hnsw_query query = {.vector = rows + (size_t)row * DIM, .k = 10, .ef = 60};
        int found = kith_hnsw_search(h, &query, hits, NULL);
        assert_int_equal(found, count < 10 ? count : 10);
        for (int i = 0; i < found; i++) {
            uint64_t user = kith_hnsw_user(h, hits[i].slot);
            assert_true(model.in[user]);
            assert_int_equal(model.slot_of[user], hits[i].slot);
            assert_int_equal(model.generation_of[user], hits[i].generation);
        }
    }
    for (uint32_t row = 0; row < ROWS; row++)
        if (model.in[row])
            assert_int_equal(kith_hnsw_remove(h, model.slot_of[row]), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    check(h);
    assert_int_equal(kith_hnsw_count(h), 0);
    assert_int_equal(kith_hnsw_slot_end(h), 0);
    kith_hnsw_close(h);
    for (uint32_t row = 0; row < ROWS; row++)
        assert_int_equal(model.releases[row], adds[row]);
    free(rows);
}

static void recall_holds_while_all_vectors_are_replaced(void **state)
{
    enum { ROWS = 4000, DIM = 24, STEP = ROWS / 10, QUERIES = 50 };
    float *rows = test_clusters(2 * ROWS, DIM, 40, 8), *queries = test_clusters(QUERIES, DIM, 40, 9);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_I8);
    uint32_t *slots = malloc(2 * ROWS * sizeof *slots);
    struct kith_hnsw_query query = {.k = 10, .ef = 64};
    for (uint32_t i = 0; i < ROWS; i++)
        slots[i] = i;
    double before = recall(h, queries, QUERIES, DIM, query);
    uint64_t bytes = kith_hnsw_bytes(h);
    for (uint32_t step = 0; step < 10; step++) {
        for (uint32_t i = step * STEP; i < (step + 1) * STEP; i++)
            assert_int_equal(kith_hnsw_remove(h, slots[i]), KITH_OK);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        for (uint32_t i = ROWS + step * STEP; i < ROWS + (step + 1) * STEP; i++)
            slots[i] = add(h, rows + (size_t)i * DIM, i);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        double now = recall(h, queries, QUERIES, DIM, query);
        if (now < before - 0.02)
            fail_msg("step %u: recall %.4f, before %.4f", step, now, before);
    }
    assert_true((double)kith_hnsw_bytes(h) <= 1.05 * (double)bytes);
    kith_hnsw_close(h);
    free(slots);
    free(rows);
    free(queries);
}

static void deleting_everything_gives_the_memory_back(void **state)
{
    enum { ROWS = 20000, DIM = 64 };
    float *rows = test_clusters(ROWS, DIM, 10, 10);
    struct kith_hnsw *h = open_index(DIM, KITH_HNSW_I8);
    for (uint32_t i = 0; i < ROWS; i++)
        add(h, rows + (size_t)i * DIM, i);
    uint64_t full = kith_hnsw_bytes(h);
    for (uint32_t i = 0; i < ROWS; i++)
        assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_true(kith_hnsw_bytes(h) < full / 10);
    assert_int_equal(add(h, rows, 0), 0);
    check(h);
    kith_hnsw_close(h);
    free(rows);
}

static void ten_thousand_equal_vectors_do_not_ruin_the_graph(void **state)
{
    enum { EQUAL = 10000, OTHERS = 4000, DIM = 24, QUERIES = 60 };
    float *rows = test_clusters(OTHERS, DIM, 10, 11), *queries = test_clusters(QUERIES, DIM, 10, 12);
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_I8, KITH_HNSW_F32};
    for (size_t c = 0; c < 2; c++) {
        struct kith_hnsw *h = open_index(DIM, codes[c]);
        for (uint32_t i = 0; i < OTHERS / 2; i++)
            add(h, rows + (size_t)i * DIM, i);
        for (uint32_t i = 0; i < EQUAL; i++)
            add(h, rows, OTHERS);
        for (uint32_t i = OTHERS / 2; i < OTHERS; i++)
            add(h, rows + (size_t)i * DIM, i);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        double r = recall(h, queries, QUERIES, DIM, (struct kith_hnsw_query){.k = 10, .ef = 100});
        if (r < 0.95)
            fail_msg("recall %.4f", r);
        struct kith_hnsw_hit hits[50];
        struct kith_hnsw_query query = {.vector = rows, .k = 50, .ef = 100};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 50);
        assert_true(hits[49].distance < 1e-4f);
        /* From an equal, the others can be reached. */
        query = (struct kith_hnsw_query){.vector = rows + (size_t)(OTHERS - 1) * DIM, .k = 1, .ef = 100};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 1);
        assert_int_equal(kith_hnsw_user(h, hits[0].slot), OTHERS - 1);
        kith_hnsw_close(h);
    }
    free(rows);
    free(queries);
}

static void the_fewest_and_the_most_dimensions_work(void **state)
{
    static const uint32_t dims[] = {1, 2, 3, 63, 65, 127, KITH_HNSW_DIM_MAX};
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_F32, KITH_HNSW_I8, KITH_HNSW_BIN};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        uint32_t dim = dims[d], count = dim > 1000 ? 40 : 400;
        float *rows = test_clusters(count, dim, 5, 13), *back = malloc(dim * sizeof *back);
        for (size_t c = 0; c < 3; c++) {
            struct kith_hnsw *h = build(rows, count, dim, codes[c]);
            for (uint32_t i = 0; i < count; i += 7) {
                struct kith_hnsw_hit hits[5];
                struct kith_hnsw_query query = {.slot = i, .k = 5, .ef = 5};
                assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 5);
                assert_true(hits[0].distance < 1e-5f);
                kith_hnsw_vector(h, i, back);
                float apart = test_cosine_distance(back, rows + (size_t)i * dim, dim);
                assert_true(apart < (codes[c] == KITH_HNSW_F32  ? 1e-5f
                                     : codes[c] == KITH_HNSW_I8 ? 1e-2f
                                                                : 0.7f));
            }
            for (uint32_t i = 0; i < count; i += 2)
                assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
            assert_int_equal(kith_hnsw_settle(h), KITH_OK);
            check(h);
            kith_hnsw_close(h);
        }
        free(rows);
        free(back);
    }
}

static bool passes_every_nth(void *context, uint32_t slot, uint64_t user)
{
    return user % *(uint32_t *)context == 0;
}

static void a_filter_never_costs_results_that_match(void **state)
{
    enum { ROWS = 12000, DIM = 24, QUERIES = 40 };
    float *rows = test_clusters(ROWS, DIM, 40, 14), *queries = test_clusters(QUERIES, DIM, 40, 15);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_I8);
    static const uint32_t every[] = {1, 2, 5, 10, 30, 100, 1000, 4000};
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        uint32_t nth = every[i];
        struct kith_hnsw_query query = {
            .k = 10, .ef = 100, .filter = passes_every_nth, .filter_context = &nth};
        double r = recall(h, queries, QUERIES, DIM, query);
        if (r < 0.95)
            fail_msg("one in %u: recall %.4f", nth, r);
        struct kith_hnsw_hit hits[10];
        query.vector = queries;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), nth == 4000 ? 3 : 10);
        /* A bound on the effort is kept. */
        struct kith_hnsw_profile profile;
        query.filter_ef = 50;
        int found = kith_hnsw_search(h, &query, hits, &profile);
        assert_in_range(profile.filter_calls, 1, 50);
        assert_true(found >= 0 && found <= 10);
        for (int k = 0; k < found; k++)
            assert_true(kith_hnsw_user(h, hits[k].slot) % nth == 0);
    }
    kith_hnsw_close(h);
    free(rows);
    free(queries);
}

static void a_distance_bound_leaves_out_what_is_farther(void **state)
{
    enum { ROWS = 3000, DIM = 12 };
    float *rows = test_clusters(ROWS, DIM, 10, 16);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_F32);
    struct kith_hnsw_hit hits[100];
    struct kith_hnsw_query query = {.vector = rows, .k = 100, .ef = 100, .max_distance = 0.05f};
    int found = kith_hnsw_search(h, &query, hits, NULL);
    assert_in_range(found, 1, 100);
    assert_true(hits[found - 1].distance <= 0.05f);
    query.max_distance = FLT_MIN;
    assert_int_equal(kith_hnsw_search(h, &query, hits, NULL) <= 1, true);
    kith_hnsw_close(h);
    free(rows);
}

static void efforts_of_any_size_have_a_meaning(void **state)
{
    enum { ROWS = 3000, DIM = 12 };
    float *rows = test_clusters(ROWS, DIM, 10, 17);
    struct kith_hnsw *h = build(rows, ROWS, DIM, KITH_HNSW_I8);
    static const uint32_t efs[] = {0, 1, 9, 1000, 1000000000, UINT32_MAX};
    static struct kith_hnsw_hit hits[ROWS];
    for (size_t i = 0; i < sizeof efs / sizeof *efs; i++) {
        struct kith_hnsw_query query = {.vector = rows, .k = 10, .ef = efs[i]};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 10);
        query.k = UINT32_MAX;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), ROWS);
        query.k = 0;
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 0);
    }
    uint32_t slot;
    assert_int_equal(kith_hnsw_add(h, rows, UINT32_MAX, 0, &slot), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    kith_hnsw_close(h);
    free(rows);
}

static void a_vector_comes_back_nearly_as_it_was_given(void **state)
{
    const float vector[3] = {1, 2, 3};
    float back[3], range;
    struct kith_hnsw *h = open_index(3, KITH_HNSW_I8);
    uint32_t slot = add(h, vector, 0);
    struct kith_slice code = kith_hnsw_code(h, slot, &range);
    assert_int_equal(code.length, 3);
    assert_memory_equal(code.data, "\x2a\x55\x7f", 3);
    assert_true(kith_hnsw_norm(h, slot) == 3.7416574954986572f);
    assert_true(fabsf(range - 0.8017836809158325f) < 0.002f);
    kith_hnsw_vector(h, slot, back);
    assert_true(fabsf(back[0] - 1) < 0.005f && fabsf(back[1] - 2) < 0.005f && fabsf(back[2] - 3) < 0.005f);
    kith_hnsw_close(h);
    h = open_index(3, KITH_HNSW_BIN);
    slot = add(h, vector, 0);
    code = kith_hnsw_code(h, slot, NULL);
    assert_int_equal(code.length, 8);
    kith_hnsw_close(h);
    h = open_index(3, KITH_HNSW_F32);
    slot = add(h, vector, 0);
    kith_hnsw_vector(h, slot, back);
    assert_memory_equal(back, vector, 4);
    kith_hnsw_close(h);
}

static void a_zero_vector_is_at_one_from_everything(void **state)
{
    const float zero[4] = {0}, one[4] = {1, 0, 0, 0}, huge[4] = {3e38f, 3e38f, -3e38f, 3e38f};
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_F32, KITH_HNSW_I8};
    for (size_t c = 0; c < 2; c++) {
        struct kith_hnsw *h = open_index(4, codes[c]);
        uint32_t a = add(h, zero, 0), b = add(h, one, 1), d = add(h, huge, 2);
        assert_true(kith_hnsw_distance(h, a, b) == 1 && kith_hnsw_distance(h, a, a) == 1);
        assert_true(fabsf(kith_hnsw_distance(h, b, d) - 0.5f) < 0.01f);
        struct kith_hnsw_hit hits[3];
        struct kith_hnsw_query query = {.vector = zero, .k = 3};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 3);
        for (int i = 0; i < 3; i++)
            assert_true(hits[i].distance == 1);
        kith_hnsw_close(h);
    }
}

static void the_user_word_can_be_changed_and_the_old_one_deferred(void **state)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {.dim = 2,
                                        .codes = KITH_HNSW_F32,
                                        .metric = KITH_HNSW_COSINE,
                                        .release = count_release,
                                        .release_context = &model};
    const float vector[2] = {1, 2};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    uint32_t slot = add(h, vector, 1);
    uint64_t old = kith_hnsw_set_user(h, slot, 2);
    assert_int_equal(old, 1);
    assert_int_equal(kith_hnsw_defer(h, old), KITH_OK);
    kith_hnsw_reclaim(h);
    assert_int_equal(model.releases[1], 1);
    assert_int_equal(model.releases[2], 0);
    kith_hnsw_close(h);
    assert_int_equal(model.releases[2], 1);
}

static void equal_seeds_give_equal_levels(void **state)
{
    const float vector[2] = {1, 2};
    struct kith_hnsw *a = open_index(2, KITH_HNSW_F32), *b = open_index(2, KITH_HNSW_I8);
    unsigned highest = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        unsigned level = kith_hnsw_level(a, add(a, vector, i));
        assert_int_equal(level, kith_hnsw_level(b, add(b, vector, i)));
        highest = level > highest ? level : highest;
    }
    assert_in_range(highest, 1, 6);
    struct kith_hnsw_stats stats;
    kith_hnsw_get_stats(a, &stats);
    assert_in_range(stats.levels[0], 1750, 1950);
    kith_hnsw_close(a);
    kith_hnsw_close(b);
}

static void a_random_slot_is_a_live_one(void **state)
{
    const float vector[2] = {1, 2};
    struct kith_hnsw *h = open_index(2, KITH_HNSW_F32);
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    assert_int_equal(kith_hnsw_random(h, &rng), KITH_HNSW_NONE);
    for (uint32_t i = 0; i < 5000; i++)
        add(h, vector, i);
    for (uint32_t i = 0; i < 5000; i++)
        if (i != 4321 && i != 17)
            assert_int_equal(kith_hnsw_remove(h, i), KITH_OK);
    unsigned seen[2] = {0};
    for (int i = 0; i < 100; i++) {
        uint32_t slot = kith_hnsw_random(h, &rng);
        assert_true(slot == 17 || slot == 4321);
        seen[slot == 17]++;
    }
    assert_true(seen[0] > 20 && seen[1] > 20);
    kith_hnsw_close(h);
}

static void options_out_of_range_are_refused(void **state)
{
    static const struct kith_hnsw_options wrong[] = {
        {.dim = 0, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE},
        {.dim = 65537, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .codes = KITH_HNSW_I8, .metric = (enum kith_hnsw_metric)4},
        {.dim = 3, .codes = KITH_HNSW_F32, .keep = KITH_HNSW_KEEP_RESIDUAL, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .codes = KITH_HNSW_I8, .keep = (enum kith_hnsw_keep)5, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .codes = KITH_HNSW_I8, .layout = (enum kith_hnsw_layout)2, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .codes = (enum kith_hnsw_codes)7, .metric = KITH_HNSW_COSINE},
        {.dim = 3, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .m = 1},
        {.dim = 3, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .m = 5000},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct kith_hnsw *h = NULL;
        assert_int_equal(kith_hnsw_open(&h, &wrong[i]), KITH_EINVAL);
        assert_null(h);
    }
    kith_hnsw_close(NULL);
}

static void the_extremes_of_m_work(void **state)
{
    static const uint32_t ms[] = {2, 3, 64, 4096};
    float *rows = test_clusters(600, 8, 10, 18);
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++) {
        struct kith_hnsw *h;
        struct kith_hnsw_options options = {
            .dim = 8, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .m = ms[i]};
        assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
        for (uint32_t row = 0; row < 600; row++)
            add(h, rows + row * 8, row);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        for (uint32_t row = 0; row < 600; row += 2)
            assert_int_equal(kith_hnsw_remove(h, row), KITH_OK);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        kith_hnsw_close(h);
    }
    free(rows);
}

/* Whatever allocation fails, calls fail cleanly and can be repeated. */
static void an_allocation_failure_changes_nothing(void **state)
{
    enum { ROWS = 100, DIM = 8 };
    float *rows = test_clusters(ROWS, DIM, 3, 19);
    bool failed = true;
    for (long n = 0; failed; n++) {
        static struct model model;
        memset(&model, 0, sizeof model);
        struct kith_hnsw *h = NULL;
        failing_malloc_arm(n);
        struct kith_hnsw_options options = {.dim = DIM,
                                            .codes = KITH_HNSW_I8,
                                            .metric = KITH_HNSW_COSINE,
                                            .m = 4,
                                            .release = count_release,
                                            .release_context = &model};
        if (kith_hnsw_open(&h, &options) != KITH_OK) {
            assert_null(h);
            failing_malloc_disarm();
            continue;
        }
        uint32_t slots[ROWS];
        bool in[ROWS] = {false}, was_in[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            in[i] = kith_hnsw_add(h, rows + i * DIM, 0, i, &slots[i]) == KITH_OK;
            if (i % 8 == 0)
                kith_hnsw_work(h, 4, 0);
        }
        memcpy(was_in, in, sizeof in);
        kith_hnsw_settle(h);
        for (uint32_t i = 0; i < ROWS; i += 2)
            if (in[i] && kith_hnsw_remove(h, slots[i]) == KITH_OK)
                in[i] = false;
        struct kith_hnsw_hit hits[10];
        struct kith_hnsw_query query = {.vector = rows, .k = 10, .ef = 12};
        int found = kith_hnsw_search(h, &query, hits, NULL);
        assert_true(found == 10 || found == KITH_ENOMEM);
        kith_hnsw_settle(h);
        uint64_t count = 0;
        for (uint32_t i = 0; i < ROWS; i++)
            count += in[i];
        assert_int_equal(kith_hnsw_count(h), count);
        failed = failing_malloc_disarm();
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        check(h);
        kith_hnsw_close(h);
        for (uint32_t i = 0; i < ROWS; i++)
            assert_int_equal(model.releases[i], was_in[i]);
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_graph_finds_what_an_exact_scan_finds),
        cmocka_unit_test(a_profile_tells_the_way_down_and_what_was_read),
        cmocka_unit_test(an_exact_search_of_floats_is_exact),
        cmocka_unit_test(every_kernel_builds_the_same_graph_of_bytes),
        cmocka_unit_test(an_added_element_is_found_before_it_is_linked),
        cmocka_unit_test(a_large_tail_hides_nothing_that_is_linked),
        cmocka_unit_test(a_deleted_element_is_never_returned_again),
        cmocka_unit_test(churn_keeps_the_graph_sound_and_equal_to_a_list),
        cmocka_unit_test(recall_holds_while_all_vectors_are_replaced),
        cmocka_unit_test(deleting_everything_gives_the_memory_back),
        cmocka_unit_test(ten_thousand_equal_vectors_do_not_ruin_the_graph),
        cmocka_unit_test(the_fewest_and_the_most_dimensions_work),
        cmocka_unit_test(a_filter_never_costs_results_that_match),
        cmocka_unit_test(a_distance_bound_leaves_out_what_is_farther),
        cmocka_unit_test(efforts_of_any_size_have_a_meaning),
        cmocka_unit_test(a_vector_comes_back_nearly_as_it_was_given),
        cmocka_unit_test(a_zero_vector_is_at_one_from_everything),
        cmocka_unit_test(the_user_word_can_be_changed_and_the_old_one_deferred),
        cmocka_unit_test(equal_seeds_give_equal_levels),
        cmocka_unit_test(a_random_slot_is_a_live_one),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(the_extremes_of_m_work),
        cmocka_unit_test(an_allocation_failure_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
