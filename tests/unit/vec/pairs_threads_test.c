/* Joins beside everything else that goes on in an index, for ThreadSanitizer. */
#include "vec/hnsw.h"
#include "vec/pairs.h"
#include "vectors.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>

#include <cmocka.h>

enum { DIM = 24, ROWS = 800, CHANGES = 400, JOINERS = 3 };

static bool one_in_three(void *context, uint32_t slot, uint64_t user)
{
    return user % 3 == 0;
}

struct joiner {
    struct kith_hnsw *h;
    float bound;
    atomic_bool stop;
    unsigned kind;
};

static void *join_until_stopped(void *arg)
{
    struct joiner *joiner = arg;
    struct kith_hnsw_pairs_options options = {
        .max_distance = joiner->bound, .count = 1000, .filter = one_in_three};
    if (joiner->kind == 1)
        options = (struct kith_hnsw_pairs_options){.top = 300};
    else if (joiner->kind == 2)
        options = (struct kith_hnsw_pairs_options){.max_distance = joiner->bound, .sample = 30};
    while (!joiner->stop) {
        struct kith_hnsw_pairs *pairs;
        int rc = kith_hnsw_pairs_open(&pairs, joiner->h, &options);
        if (rc != KITH_OK)
            abort();
        while ((rc = kith_hnsw_pairs_step(pairs)) > 0 && !joiner->stop)
            ;
        struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(pairs);
        for (uint32_t i = 0; i < result.count; i++)
            if (rc < 0 || result.pairs[i].a == result.pairs[i].b)
                abort();
        options.cursor = result.cursor;
        kith_hnsw_pairs_close(pairs);
    }
    return NULL;
}

static void *link_until_stopped(void *arg)
{
    struct joiner *joiner = arg;
    while (!joiner->stop)
        kith_hnsw_work(joiner->h, 16, 0);
    return NULL;
}

static void change(struct kith_hnsw *h, const float *rows, struct kith_rng *rng)
{
    uint32_t slot = (uint32_t)kith_rng_below(rng, kith_hnsw_slot_end(h)), added;
    uint32_t row = (uint32_t)kith_rng_below(rng, ROWS);
    if (kith_hnsw_is_live(h, slot))
        assert_int_equal(kith_hnsw_remove(h, slot), KITH_OK);
    assert_int_equal(kith_hnsw_add(h, rows + (size_t)row * DIM, 0, row, &added), KITH_OK);
    while (kith_hnsw_get_backlog(h).tail > 200)
        kith_hnsw_work(h, 4, 0);
    kith_hnsw_reclaim(h);
}

static void joins_run_beside_a_writer_and_workers(void **state)
{
    static const struct {
        enum kith_hnsw_metric metric;
        float bound;
    } cases[] = {{KITH_HNSW_COSINE, 0.05f}, {KITH_HNSW_INNER_PRODUCT, -30}};
    float *rows = test_clusters(ROWS, DIM, 40, 14);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct kith_hnsw_options options = {
            .dim = DIM, .codes = KITH_HNSW_I8, .metric = cases[c].metric, .seed = 5};
        struct kith_hnsw *h;
        struct joiner joiners[JOINERS + 1];
        pthread_t threads[JOINERS + 1];
        struct kith_rng rng;
        uint32_t slot;
        kith_rng_seed(&rng, 15);
        assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
        for (uint32_t i = 0; i < ROWS; i++)
            assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * DIM, 0, i, &slot), KITH_OK);
        for (unsigned i = 0; i <= JOINERS; i++) {
            joiners[i] = (struct joiner){.h = h, .kind = i, .bound = cases[c].bound};
            assert_int_equal(pthread_create(&threads[i], NULL,
                                            i < JOINERS ? join_until_stopped : link_until_stopped,
                                            &joiners[i]),
                             0);
        }
        for (unsigned i = 0; i < CHANGES; i++)
            change(h, rows, &rng);
        for (unsigned i = 0; i <= JOINERS; i++)
            joiners[i].stop = true;
        for (unsigned i = 0; i <= JOINERS; i++)
            pthread_join(threads[i], NULL);
        kith_hnsw_close(h);
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_run_beside_a_writer_and_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
