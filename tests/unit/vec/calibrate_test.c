/* Searches by recall: the effort picked keeps the recall asked for, on queries that the set has not seen; what was
 * learned can be saved; failing memory leaves a set that works. */
#include "vec/calibrate.h"

#include "failing_malloc.h"
#include "vec/hnsw.h"
#include "vec/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>

enum { DIM = 24, K = 10, QUERIES = 200, CODES = 1 << 20 };

static float gauss(struct kith_rng *rng)
{
    double u = 1 - kith_rng_unit(rng), v = kith_rng_unit(rng);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Clusters of different widths. */
static void draw(struct kith_rng *rng, float *out)
{
    struct kith_rng centre;
    uint64_t cluster = kith_rng_below(rng, 40);
    kith_rng_seed(&centre, 1000 + cluster);
    float width = 0.1f + 0.03f * (float)cluster;
    for (unsigned d = 0; d < DIM; d++)
        out[d] = gauss(&centre) + width * gauss(rng);
}

typedef void draw_fn(struct kith_rng *rng, float *out);

static struct kith_hnsw *build_of(uint32_t rows, const struct kith_hnsw_options *options, draw_fn *draw_row)
{
    struct kith_hnsw *h;
    struct kith_rng rng;
    kith_rng_seed(&rng, 11);
    assert_int_equal(kith_hnsw_open(&h, options), KITH_OK);
    for (uint32_t i = 0; i < rows; i++) {
        float vector[DIM];
        uint32_t slot;
        draw_row(&rng, vector);
        assert_int_equal(kith_hnsw_add(h, vector, 0, i, &slot), KITH_OK);
        kith_hnsw_work(h, 1, 0);
    }
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    return h;
}

static struct kith_hnsw *build(uint32_t rows, enum kith_hnsw_metric metric, enum kith_hnsw_codes codes)
{
    struct kith_hnsw_options options = {
        .dim = DIM, .codes = codes, .metric = metric, .m = 8, .ef_construction = 60, .seed = 5};
    return build_of(rows, &options, draw);
}

static void calibrate(struct kith_hnsw *h)
{
    assert_int_equal(kith_hnsw_calibrate_begin(h), KITH_OK);
    for (unsigned steps = 0; kith_hnsw_calibrate_due(h); steps++) {
        assert_true(steps < 10000);
        assert_true(kith_hnsw_calibrate(h, CODES, NULL) >= 0);
    }
}

/* Mean recall of the K nearest over new queries, against exact scans; *evaluations: the mean. */
static double measure(struct kith_hnsw *h, float recall, uint32_t ef, double *evaluations)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 77);
    double sum = 0;
    *evaluations = 0;
    for (unsigned i = 0; i < QUERIES; i++) {
        float vector[DIM];
        struct kith_hnsw_hit truth[K], hits[K];
        struct kith_hnsw_profile profile;
        draw(&rng, vector);
        struct kith_hnsw_query exact = {.vector = vector, .k = K, .exact = true};
        struct kith_hnsw_query query = {.vector = vector, .k = K, .recall = recall, .ef = ef};
        assert_int_equal(kith_hnsw_search(h, &exact, truth, NULL), K);
        assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), K);
        for (unsigned a = 0; a < K; a++)
            for (unsigned b = 0; b < K; b++)
                sum += hits[a].slot == truth[b].slot;
        *evaluations += (double)profile.evaluations / QUERIES;
    }
    return sum / (K * QUERIES);
}

static void the_recall_asked_for_is_kept(struct kith_hnsw *h)
{
    static const float recalls[] = {0.9f, 0.95f, 0.99f};
    double before = 0, evaluations;
    for (unsigned i = 0; i < 3; i++) {
        double recall = measure(h, recalls[i], 0, &evaluations);
        if (recall < (double)recalls[i] - 0.015)
            fail_msg("asked for %.2f, measured %.4f", (double)recalls[i], recall);
        assert_true(evaluations >= before);
        before = evaluations;
    }
}

static void a_calibrated_set_keeps_the_recall_asked_for_at_three_sizes(void **state)
{
    static const uint32_t sizes[] = {500, 3000, 12000};
    for (unsigned i = 0; i < 3; i++) {
        struct kith_hnsw *h = build(sizes[i], KITH_HNSW_COSINE, KITH_HNSW_I8);
        calibrate(h);
        the_recall_asked_for_is_kept(h);
        kith_hnsw_close(h);
    }
}

static void every_metric_keeps_the_recall_asked_for(void **state)
{
    static const enum kith_hnsw_metric metrics[] = {KITH_HNSW_L2SQ, KITH_HNSW_INNER_PRODUCT};
    for (unsigned i = 0; i < 2; i++) {
        struct kith_hnsw *h = build(4000, metrics[i], KITH_HNSW_F32);
        calibrate(h);
        the_recall_asked_for_is_kept(h);
        kith_hnsw_close(h);
    }
}

static void the_spread_layout_keeps_the_recall_asked_for(void **state)
{
    struct kith_hnsw_options options = {.dim = DIM,
                                        .codes = KITH_HNSW_I8,
                                        .layout = KITH_HNSW_SPREAD,
                                        .metric = KITH_HNSW_COSINE,
                                        .m = 8,
                                        .ef_construction = 60,
                                        .seed = 5};
    struct kith_hnsw *h = build_of(8000, &options, draw);
    double by_recall, by_ef;
    calibrate(h);
    the_recall_asked_for_is_kept(h);
    measure(h, 0.9f, 0, &by_recall);
    measure(h, 0, 2 * K, &by_ef);
    assert_true(by_recall < 2 * by_ef); /* it stops by its slack, not by the room it has */
    kith_hnsw_close(h);
}

/* Tight clusters, and a few wide ones whose elements lie between these. */
static void draw_scattered(struct kith_rng *rng, float *out)
{
    struct kith_rng centre;
    uint64_t cluster = kith_rng_below(rng, 40);
    kith_rng_seed(&centre, 5000 + cluster);
    float width = cluster % 4 == 0 ? 0.9f : 0.05f;
    for (unsigned d = 0; d < DIM; d++)
        out[d] = gauss(&centre) + width * gauss(rng);
}

/* One query in five is between two clusters. */
static void draw_between(struct kith_rng *rng, float *out)
{
    float other[DIM];
    draw_scattered(rng, out);
    if (kith_rng_below(rng, 5))
        return;
    draw_scattered(rng, other);
    for (unsigned d = 0; d < DIM; d++)
        out[d] = 0.5f * (out[d] + other[d]);
}

/* *wide: how many went down with the wide view. */
static double measure_between(struct kith_hnsw *h, uint64_t seed, float recall, unsigned *wide)
{
    struct kith_rng rng;
    double sum = 0;
    kith_rng_seed(&rng, seed);
    *wide = 0;
    for (unsigned i = 0; i < QUERIES; i++) {
        float vector[DIM];
        struct kith_hnsw_hit truth[K], hits[K];
        struct kith_hnsw_profile profile;
        draw_between(&rng, vector);
        struct kith_hnsw_query exact = {.vector = vector, .k = K, .exact = true};
        struct kith_hnsw_query query = {
            .vector = vector, .k = K, .recall = recall, .ef = recall > 0 ? 0 : 200};
        assert_int_equal(kith_hnsw_search(h, &exact, truth, NULL), K);
        assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), K);
        for (unsigned a = 0; a < K; a++)
            for (unsigned b = 0; b < K; b++)
                sum += hits[a].slot == truth[b].slot;
        *wide += profile.seeds > 1;
        calibrate(h);
    }
    return sum / (K * QUERIES);
}

static void walks_that_end_in_the_wrong_cluster_go_down_once_more(void **state)
{
    struct kith_hnsw_options options = {.dim = DIM,
                                        .codes = KITH_HNSW_F32,
                                        .metric = KITH_HNSW_COSINE,
                                        .m = 8,
                                        .ef_construction = 60,
                                        .seed = 5};
    struct kith_hnsw *h = build_of(30000, &options, draw_scattered);
    unsigned wide;
    calibrate(h);
    double by_ef = measure_between(h, 1, 0, &wide);
    assert_int_equal(wide, 0);
    measure_between(h, 2, 0.99f, &wide); /* become samples */
    double by_recall = measure_between(h, 1, 0.99f, &wide);
    print_message("EF 200: %.4f, RECALL 0.99: %.4f, %u of %d wide\n", by_ef, by_recall, wide, QUERIES);
    assert_true(wide > 0 && by_recall >= 0.98 && by_recall > by_ef);
    kith_hnsw_close(h);
}

static void before_it_is_calibrated_a_search_is_cautious(void **state)
{
    struct kith_hnsw *h = build(6000, KITH_HNSW_COSINE, KITH_HNSW_I8);
    struct kith_hnsw_profile profile;
    struct kith_hnsw_hit hits[K];
    float vector[DIM] = {1};
    the_recall_asked_for_is_kept(h);
    struct kith_hnsw_query query = {.vector = vector, .k = K, .recall = 0.9f};
    assert_int_equal(kith_hnsw_search(h, &query, hits, &profile), K);
    assert_true(profile.recall == 0 && profile.slack > 0);
    kith_hnsw_close(h);
}

static void queries_that_users_send_become_samples(void **state)
{
    struct kith_hnsw *h = build(3000, KITH_HNSW_COSINE, KITH_HNSW_I8);
    struct kith_calibration figures;
    struct kith_hnsw_hit hits[K];
    struct kith_rng rng;
    kith_rng_seed(&rng, 3);
    assert_false(kith_hnsw_get_calibration(h, &figures));
    calibrate(h);
    assert_true(kith_hnsw_get_calibration(h, &figures));
    assert_true(figures.usable && figures.elements_sampled >= 512 && figures.queries_sampled == 0);
    for (unsigned i = 0; i < 50; i++) {
        float vector[DIM];
        draw(&rng, vector);
        struct kith_hnsw_query query = {.vector = vector, .k = K, .recall = 0.9f, .of_element = i % 2};
        kith_hnsw_search(h, &query, hits, NULL);
        calibrate(h);
    }
    kith_hnsw_get_calibration(h, &figures);
    assert_int_equal(figures.queries_sampled, 25);
    kith_hnsw_close(h);
}

static void a_set_that_has_changed_is_calibrated_again(void **state)
{
    struct kith_hnsw *h = build(3000, KITH_HNSW_COSINE, KITH_HNSW_I8);
    struct kith_rng rng;
    kith_rng_seed(&rng, 12);
    calibrate(h);
    assert_false(kith_hnsw_calibrate_due(h));
    for (uint32_t i = 0; i < 1500; i++) {
        float vector[DIM];
        uint32_t slot;
        draw(&rng, vector);
        assert_int_equal(kith_hnsw_add(h, vector, 0, i, &slot), KITH_OK);
    }
    kith_hnsw_settle(h);
    assert_true(kith_hnsw_calibrate_due(h));
    calibrate(h);
    the_recall_asked_for_is_kept(h);
    kith_hnsw_close(h);
}

static void equal_vectors_do_not_spoil_the_calibration(void **state)
{
    struct kith_hnsw *h = build(2000, KITH_HNSW_COSINE, KITH_HNSW_I8);
    float vector[DIM] = {1, 2, 3};
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t slot;
        assert_int_equal(kith_hnsw_add(h, vector, 0, i, &slot), KITH_OK);
    }
    kith_hnsw_settle(h);
    calibrate(h);
    struct kith_calibration figures;
    kith_hnsw_get_calibration(h, &figures);
    assert_true(figures.ks[1].reach > 0.97f);
    kith_hnsw_close(h);
}

static void what_was_learned_is_saved_and_bad_bytes_are_refused(void **state)
{
    struct kith_hnsw *h = build(3000, KITH_HNSW_COSINE, KITH_HNSW_I8),
                     *other = build(3000, KITH_HNSW_COSINE, KITH_HNSW_I8);
    struct kith_calibration before, after;
    struct kith_buf saved;
    kith_buf_init(&saved);
    kith_hnsw_save_calibration(h, &saved);
    assert_int_equal(saved.length, 0);
    calibrate(h);
    kith_hnsw_save_calibration(h, &saved);
    assert_true(saved.length > 0);
    assert_int_equal(kith_hnsw_restore_calibration(other, kith_slice(saved.data, saved.length - 1)),
                     KITH_ECORRUPT);
    assert_int_equal(kith_hnsw_restore_calibration(other, kith_slice("x", 1)), KITH_ECORRUPT);
    assert_int_equal(kith_hnsw_restore_calibration(other, kith_buf_slice(&saved)), KITH_OK);
    kith_hnsw_get_calibration(h, &before);
    kith_hnsw_get_calibration(other, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_false(kith_hnsw_calibrate_due(other));
    kith_buf_fini(&saved);
    kith_hnsw_close(h);
    kith_hnsw_close(other);
}

static void each_allocation_may_fail(void **state)
{
    struct kith_hnsw *h = build(1200, KITH_HNSW_COSINE, KITH_HNSW_I8);
    struct kith_calibration figures;
    unsigned failed = 0;
    for (unsigned n = 0;; n++) {
        failing_malloc_arm(n);
        int rc = kith_hnsw_calibrate_begin(h);
        failing_malloc_disarm();
        if (rc == KITH_OK)
            break;
        assert_int_equal(rc, KITH_ENOMEM);
        assert_false(kith_hnsw_get_calibration(h, &figures));
        failed++;
    }
    assert_true(failed > 0);
    for (unsigned sample = 0; sample < 3; sample++) {
        int rc = KITH_ENOMEM;
        for (unsigned n = 0; rc == KITH_ENOMEM; n++) {
            failing_malloc_arm(n);
            rc = kith_hnsw_calibrate(h, CODES, NULL);
            failing_malloc_disarm();
        }
        assert_int_equal(rc, 0);
    }
    calibrate(h);
    the_recall_asked_for_is_kept(h);
    kith_hnsw_close(h);
}

/* ---- threads ---- */

struct race {
    struct kith_hnsw *h;
    _Atomic bool stop;
    _Atomic unsigned give_way;
};

static void *calibrate_until_stopped(void *arg)
{
    struct race *race = arg;
    for (unsigned i = 0; !race->stop; i++) {
        race->give_way = i % 4 == 0;
        if (kith_hnsw_calibrate(race->h, 2048, &race->give_way) == 0)
            sched_yield();
    }
    return NULL;
}

static void *search_until_stopped(void *arg)
{
    struct race *race = arg;
    struct kith_rng rng;
    kith_rng_seed(&rng, 9);
    while (!race->stop) {
        struct kith_hnsw_hit hits[K];
        struct kith_calibration figures;
        float vector[DIM];
        draw(&rng, vector);
        struct kith_hnsw_query query = {.vector = vector, .k = K, .recall = 0.95f};
        kith_hnsw_search(race->h, &query, hits, NULL);
        kith_hnsw_get_calibration(race->h, &figures);
    }
    return NULL;
}

static void *measure_until_stopped(void *arg)
{
    struct race *race = arg;
    while (!race->stop) {
        struct kith_measure_options options = {.k = K, .ef = 40, .samples = 5, .seed = 4};
        struct kith_measure *m;
        if (kith_measure_open(&m, race->h, &options) != KITH_OK)
            return race;
        while (kith_measure_step(m, 512, NULL) > 0 && !race->stop)
            ;
        kith_measure_close(m);
    }
    return NULL;
}

static void samples_are_taken_beside_writers_and_searches(void **state)
{
    enum { ROWS = 2000, ROUNDS = 3 };
    struct race race = {.h = build(ROWS, KITH_HNSW_COSINE, KITH_HNSW_I8)};
    void *(*const runs[])(void *) = {calibrate_until_stopped, calibrate_until_stopped, search_until_stopped,
                                     measure_until_stopped};
    pthread_t threads[4];
    struct kith_rng rng;
    kith_rng_seed(&rng, 6);
    assert_int_equal(kith_hnsw_calibrate_begin(race.h), KITH_OK);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, runs[i], &race), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < ROWS / 2; i++) {
            struct kith_buf saved;
            uint32_t slot = kith_hnsw_random(race.h, &rng);
            float vector[DIM];
            draw(&rng, vector);
            kith_hnsw_calibrate_due(race.h);
            assert_int_equal(kith_hnsw_remove(race.h, slot), KITH_OK);
            if (round < ROUNDS - 1)
                assert_int_equal(kith_hnsw_add(race.h, vector, 0, i, &slot), KITH_OK);
            kith_hnsw_work(race.h, 2, 0);
            kith_buf_init(&saved);
            if (i % 100 == 0)
                kith_hnsw_save_calibration(race.h, &saved);
            kith_buf_fini(&saved);
        }
    }
    race.stop = true;
    for (unsigned i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    kith_hnsw_close(race.h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_calibrated_set_keeps_the_recall_asked_for_at_three_sizes),
        cmocka_unit_test(every_metric_keeps_the_recall_asked_for),
        cmocka_unit_test(the_spread_layout_keeps_the_recall_asked_for),
        cmocka_unit_test(walks_that_end_in_the_wrong_cluster_go_down_once_more),
        cmocka_unit_test(before_it_is_calibrated_a_search_is_cautious),
        cmocka_unit_test(queries_that_users_send_become_samples),
        cmocka_unit_test(a_set_that_has_changed_is_calibrated_again),
        cmocka_unit_test(equal_vectors_do_not_spoil_the_calibration),
        cmocka_unit_test(what_was_learned_is_saved_and_bad_bytes_are_refused),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(samples_are_taken_beside_writers_and_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
