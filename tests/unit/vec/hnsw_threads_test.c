/* Searches, workers and the writer at once; worth most under ThreadSanitizer. What each search returns is held against
 * what the writer promises: a removed element is never returned, and its user word is not released while a filter may
 * look at it. Meanwhile samples are taken and searches go by what they taught. */
#include "failing_malloc.h"
#include "vec/calibrate.h"
#include "vec/hnsw.h"
#include "vectors.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { ROWS = 2000, DIM = 12, STEPS = 6000, FEWER = 2000, SEARCHERS = 3, WORKERS = 2, CALIBRATORS = 1 };
enum { THREADS = SEARCHERS + WORKERS + CALIBRATORS };

/* What a user word points to: filters read it while the writer removes. */
struct owner {
    uint32_t row;
    uint32_t magic;
};

enum { MAGIC = 0x5eed };

struct race {
    struct kith_hnsw *h;
    float *rows;
    uint32_t slots[ROWS];
    atomic_bool stop;
    atomic_uint searches, failures, samples;
};

static void release(void *context, uint64_t user)
{
    struct owner *owner = (struct owner *)(uintptr_t)user;
    owner->magic = 0;
    free(owner);
}

static bool even_rows(void *context, uint32_t slot, uint64_t user)
{
    const struct owner *owner = (const struct owner *)(uintptr_t)user;
    struct race *race = context;
    if (owner->magic != MAGIC)
        atomic_fetch_add(&race->failures, 1);
    return owner->row % 2 == 0;
}

/* Odd rows are what the writer changes; the even ones stay, so that there always are results. */
static void *search(void *arg)
{
    struct race *race = arg;
    struct kith_rng rng;
    kith_rng_seed(&rng, (uint64_t)(uintptr_t)&rng);
    while (!atomic_load(&race->stop)) {
        struct kith_hnsw_hit hits[10];
        uint32_t row = (uint32_t)kith_rng_below(&rng, ROWS);
        struct kith_hnsw_query query = {.vector = race->rows + row * DIM, .k = 10, .ef = 20};
        unsigned kind = (unsigned)kith_rng_below(&rng, 8);
        if (kind % 4 == 1)
            query.exact = true;
        if (kind % 4 >= 2) {
            query.filter = even_rows;
            query.filter_context = race;
        }
        if (kind == 4 || kind == 6) {
            query.recall = 0.95f;
            query.ef = 200;
        }
        if (kind == 7) { /* even rows stay where they are */
            query.vector = NULL;
            query.slot = race->slots[row & ~1u];
            query.mmr_pool = 15;
            query.mmr_lambda = 1;
        }
        int found = kith_hnsw_search(race->h, &query, hits, NULL);
        if (found != 10)
            atomic_fetch_add(&race->failures, 1);
        for (int i = 1; i < found; i++)
            if (!(hits[i].distance >= hits[i - 1].distance))
                atomic_fetch_add(&race->failures, 1);
        atomic_fetch_add(&race->searches, 1);
    }
    return NULL;
}

static void *work(void *arg)
{
    struct race *race = arg;
    while (!atomic_load(&race->stop))
        if (kith_hnsw_work(race->h, 16, 0) < 0)
            atomic_fetch_add(&race->failures, 1);
    return NULL;
}

static void *calibrate(void *arg)
{
    struct race *race = arg;
    while (!atomic_load(&race->stop)) {
        struct kith_calibration learned;
        int rc = kith_hnsw_calibrate(race->h, 300, NULL);
        if (rc < 0 || !kith_hnsw_get_calibration(race->h, &learned))
            atomic_fetch_add(&race->failures, 1);
        atomic_fetch_add(&race->samples, rc == 0);
    }
    return NULL;
}

static uint32_t add(struct race *race, uint32_t row)
{
    struct owner *owner = malloc(sizeof *owner);
    uint32_t slot = 0;
    *owner = (struct owner){row, MAGIC};
    if (kith_hnsw_add(race->h, race->rows + row * DIM, 0, (uint64_t)(uintptr_t)owner, &slot) != KITH_OK)
        atomic_fetch_add(&race->failures, 1);
    return slot;
}

/* A removed element is not found by a search that starts afterwards. */
static void expect_gone(struct race *race, uint32_t row, uint32_t slot, uint32_t generation)
{
    struct kith_hnsw_hit hits[10];
    struct kith_hnsw_query query = {.vector = race->rows + row * DIM, .k = 10};
    int found = kith_hnsw_search(race->h, &query, hits, NULL);
    for (int i = 0; i < found; i++)
        if (hits[i].slot == slot && hits[i].generation == generation)
            atomic_fetch_add(&race->failures, 1);
}

struct kind {
    enum kith_hnsw_codes codes;
    enum kith_hnsw_keep keep;
    enum kith_hnsw_metric metric;
    enum kith_hnsw_layout layout;
};

static void start(struct race *race, pthread_t *threads)
{
    for (unsigned i = 0; i < THREADS; i++) {
        void *(*run)(void *) = i < SEARCHERS ? search : i < SEARCHERS + WORKERS ? work : calibrate;
        assert_int_equal(pthread_create(&threads[i], NULL, run, race), 0);
    }
}

/* A checkpoint saves while all goes on. */
static void save_some(struct race *race)
{
    struct kith_buf buf;
    kith_buf_init(&buf);
    for (uint32_t i = 0; i < ROWS; i += 50)
        kith_hnsw_save_element(race->h, race->slots[i], &buf);
    kith_hnsw_save_calibration(race->h, &buf);
    kith_buf_fini(&buf);
}

static void race_all(struct kind kind, unsigned steps)
{
    static struct race race;
    race = (struct race){0};
    struct kith_hnsw_options options = {.dim = DIM,
                                        .layout = kind.layout,
                                        .codes = kind.codes,
                                        .keep = kind.keep,
                                        .metric = kind.metric,
                                        .m = 6,
                                        .ef_construction = 30,
                                        .release = release};
    uint32_t *slots = race.slots;
    bool in[ROWS] = {false};
    pthread_t threads[THREADS];
    struct kith_rng rng;
    kith_rng_seed(&rng, 3);
    race.rows = test_clusters(ROWS, DIM, 20, 1);
    assert_int_equal(kith_hnsw_open(&race.h, &options), KITH_OK);
    for (uint32_t row = 0; row < ROWS; row += 2)
        slots[row] = add(&race, row);
    assert_int_equal(kith_hnsw_calibrate_begin(race.h), KITH_OK);
    start(&race, threads);
    for (unsigned step = 0; step < steps; step++) {
        uint32_t row = (uint32_t)kith_rng_below(&rng, ROWS / 2) * 2 + 1;
        bool growing = step / 1000 % 2 == 0;
        if (!in[row] && growing) {
            slots[row] = add(&race, row);
            in[row] = true;
        } else if (in[row] && !growing) {
            uint32_t generation = kith_hnsw_generation(race.h, slots[row]);
            if (kith_hnsw_remove(race.h, slots[row]) != KITH_OK)
                atomic_fetch_add(&race.failures, 1);
            in[row] = false;
            if (step % 16 == 0)
                expect_gone(&race, row, slots[row], generation);
        }
        kith_hnsw_reclaim(race.h);
        if (step % 20 == 0)
            kith_hnsw_calibrate_due(race.h);
        if (step % 100 == 0)
            save_some(&race);
    }
    while (kith_hnsw_get_backlog(race.h).tail)
        kith_hnsw_reclaim(race.h);
    atomic_store(&race.stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct kith_error error = {{0}};
    assert_int_equal(atomic_load(&race.failures), 0);
    assert_true(atomic_load(&race.searches) > 0);
    assert_true(atomic_load(&race.samples) > 0);
    assert_int_equal(kith_hnsw_settle(race.h), KITH_OK);
    if (kith_hnsw_check(race.h, &error) != KITH_OK)
        fail_msg("%s", error.text);
    assert_int_equal(kith_hnsw_get_backlog(race.h).deleted, 0);
    kith_hnsw_close(race.h);
    free(race.rows);
}

static void searches_race_adds_removes_and_work(void **state)
{
    race_all((struct kind){KITH_HNSW_I8, KITH_HNSW_KEEP_DEFAULT, KITH_HNSW_COSINE, KITH_HNSW_COMPACT}, STEPS);
}

static void searches_race_writers_of_rows(void **state)
{
    race_all((struct kind){KITH_HNSW_I8, KITH_HNSW_KEEP_F16, KITH_HNSW_L2SQ, KITH_HNSW_SPREAD}, STEPS);
}

static void searches_race_writers_of_4_bits(void **state)
{
    race_all((struct kind){KITH_HNSW_I4, KITH_HNSW_KEEP_RESIDUAL, KITH_HNSW_COSINE, KITH_HNSW_SPREAD}, FEWER);
    race_all((struct kind){KITH_HNSW_I4, KITH_HNSW_KEEP_NONE, KITH_HNSW_L2SQ, KITH_HNSW_COMPACT}, FEWER);
}

static void searches_race_writers_of_signs(void **state)
{
    race_all((struct kind){KITH_HNSW_BIN, KITH_HNSW_KEEP_F16, KITH_HNSW_INNER_PRODUCT, KITH_HNSW_COMPACT},
             FEWER);
    race_all((struct kind){KITH_HNSW_BIN, KITH_HNSW_KEEP_NONE, KITH_HNSW_COSINE, KITH_HNSW_COMPACT}, FEWER);
}

static void workers_build_a_graph_as_good_as_one_thread_does(void **state)
{
    enum { COUNT = 5000, QUERIES = 100 };
    static struct race race;
    atomic_store(&race.stop, false);
    struct kith_hnsw_options options = {.dim = DIM, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE};
    float *rows = test_clusters(COUNT, DIM, 20, 4), *queries = test_clusters(QUERIES, DIM, 20, 5);
    pthread_t threads[WORKERS];
    uint32_t slot;
    assert_int_equal(kith_hnsw_open(&race.h, &options), KITH_OK);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(kith_hnsw_add(race.h, rows + i * DIM, 0, i, &slot), KITH_OK);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &race), 0);
    while (kith_hnsw_get_backlog(race.h).tail)
        kith_hnsw_work(race.h, 1, 0);
    atomic_store(&race.stop, true);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(kith_hnsw_settle(race.h), KITH_OK);
    struct kith_error error = {{0}};
    if (kith_hnsw_check(race.h, &error) != KITH_OK)
        fail_msg("%s", error.text);
    unsigned right = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct kith_hnsw_hit exact[10], hits[10];
        struct kith_hnsw_query query = {.vector = queries + q * DIM, .k = 10, .ef = 100};
        assert_int_equal(kith_hnsw_search(race.h, &query, hits, NULL), 10);
        query.exact = true;
        assert_int_equal(kith_hnsw_search(race.h, &query, exact, NULL), 10);
        for (int i = 0; i < 10; i++)
            right += hits[i].distance <= exact[9].distance + 1e-6f;
    }
    assert_true(right >= 980);
    kith_hnsw_close(race.h);
    free(rows);
    free(queries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_race_adds_removes_and_work),
        cmocka_unit_test(searches_race_writers_of_rows),
        cmocka_unit_test(searches_race_writers_of_4_bits),
        cmocka_unit_test(searches_race_writers_of_signs),
        cmocka_unit_test(workers_build_a_graph_as_good_as_one_thread_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
