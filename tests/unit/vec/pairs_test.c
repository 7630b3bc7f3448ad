/* Near pairs from the graph against all pairs by brute force. */
#include "failing_malloc.h"
#include "vec/hnsw.h"
#include "vec/pairs.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { DIM = 24 };

struct pair_list {
    struct kith_hnsw_pair *items;
    size_t count, room;
};

static void list_add(struct pair_list *list, struct kith_hnsw_pair pair)
{
    if (list->count == list->room) {
        list->room = 2 * list->room + 64;
        list->items = realloc(list->items, list->room * sizeof *list->items);
        assert_non_null(list->items);
    }
    if (pair.a < pair.b) {
        uint32_t a = pair.a;
        pair.a = pair.b;
        pair.b = a;
    }
    list->items[list->count++] = pair;
}

static int by_slots(const void *x, const void *y)
{
    const struct kith_hnsw_pair *p = x, *q = y;
    return p->a != q->a ? (p->a > q->a) - (p->a < q->a) : (p->b > q->b) - (p->b < q->b);
}

static void list_sort(struct pair_list *list)
{
    if (list->count)
        qsort(list->items, list->count, sizeof *list->items, by_slots);
}

static bool list_has(const struct pair_list *list, const struct kith_hnsw_pair *pair)
{
    return list->count && bsearch(pair, list->items, list->count, sizeof *pair, by_slots);
}

static void assert_no_pair_twice(const struct pair_list *sorted)
{
    for (size_t i = 1; i < sorted->count; i++)
        assert_true(by_slots(&sorted->items[i - 1], &sorted->items[i]) < 0);
}

/* The vectors as the index keeps them, by slot. */
static float *kept_vectors(const struct kith_hnsw *h)
{
    uint32_t end = kith_hnsw_slot_end(h), dim = kith_hnsw_get_options(h)->dim;
    float *vectors = calloc((size_t)end * dim, sizeof *vectors);
    assert_non_null(vectors);
    for (uint32_t slot = 0; slot < end; slot++)
        if (kith_hnsw_is_live(h, slot))
            kith_hnsw_vector(h, slot, vectors + (size_t)slot * dim);
    return vectors;
}

/* Of two kept vectors; bits are compared as bits. */
static float kept_distance(const struct kith_hnsw *h, const float *vectors, uint32_t a, uint32_t b)
{
    const struct kith_hnsw_options *o = kith_hnsw_get_options(h);
    const float *v = vectors + (size_t)a * o->dim, *w = vectors + (size_t)b * o->dim;
    double dot = 0, square = 0;
    if (o->codes == KITH_HNSW_BIN)
        return kith_hnsw_distance(h, a, b);
    if (o->metric == KITH_HNSW_COSINE)
        return test_cosine_distance(v, w, o->dim);
    for (uint32_t d = 0; d < o->dim; d++) {
        dot += (double)v[d] * w[d];
        square += ((double)v[d] - w[d]) * ((double)v[d] - w[d]);
    }
    return (float)(o->metric == KITH_HNSW_L2SQ ? square : 1 - dot);
}

/* All pairs whose kept vectors are near. */
static struct pair_list brute_force(const struct kith_hnsw *h, float bound, kith_hnsw_filter *filter)
{
    struct pair_list list = {0};
    uint32_t end = kith_hnsw_slot_end(h);
    float *vectors = kept_vectors(h);
    for (uint32_t a = 0; a < end; a++) {
        if (!kith_hnsw_is_live(h, a) || (filter && !filter(NULL, a, kith_hnsw_user(h, a))))
            continue;
        for (uint32_t b = 0; b < a; b++) {
            if (!kith_hnsw_is_live(h, b) || (filter && !filter(NULL, b, kith_hnsw_user(h, b))))
                continue;
            float distance = kept_distance(h, vectors, a, b);
            if (distance <= bound)
                list_add(&list, (struct kith_hnsw_pair){.distance = distance, .a = a, .b = b});
        }
    }
    free(vectors);
    return list;
}

static struct kith_hnsw_pairs_result run(struct kith_hnsw *h, const struct kith_hnsw_pairs_options *options,
                                         struct kith_hnsw_pairs **pairs)
{
    int rc;
    assert_int_equal(kith_hnsw_pairs_open(pairs, h, options), KITH_OK);
    while ((rc = kith_hnsw_pairs_step(*pairs)) > 0)
        ;
    assert_int_equal(rc, KITH_OK);
    return kith_hnsw_pairs_get(*pairs);
}

/* Every page; between(h, page) may change the set. */
static struct pair_list join(struct kith_hnsw *h, struct kith_hnsw_pairs_options options,
                             void (*between)(struct kith_hnsw *h, unsigned page))
{
    struct pair_list list = {0};
    unsigned page = 0;
    do {
        struct kith_hnsw_pairs *pairs;
        struct kith_hnsw_pairs_result result = run(h, &options, &pairs);
        assert_true(result.count <= options.count);
        assert_true(result.cursor == 0 || result.cursor > options.cursor);
        for (uint32_t i = 0; i < result.count; i++)
            list_add(&list, result.pairs[i]);
        options.cursor = result.cursor;
        kith_hnsw_pairs_close(pairs);
        if (between)
            between(h, page++);
    } while (options.cursor);
    list_sort(&list);
    return list;
}

/* Part of `truth` that is in `list`. Both sorted. */
static double recall(const struct pair_list *truth, const struct pair_list *list)
{
    size_t found = 0;
    for (size_t i = 0; i < truth->count; i++)
        found += list_has(list, &truth->items[i]);
    return truth->count ? (double)found / (double)truth->count : 1;
}

static struct kith_hnsw *open_index(enum kith_hnsw_codes codes, enum kith_hnsw_metric metric, uint32_t dim)
{
    struct kith_hnsw *h = NULL;
    struct kith_hnsw_options options = {.dim = dim, .codes = codes, .metric = metric, .seed = 5};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    return h;
}

static void add_rows(struct kith_hnsw *h, const float *rows, uint32_t count)
{
    uint32_t slot, dim = kith_hnsw_get_options(h)->dim;
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(kith_hnsw_add(h, rows + (size_t)i * dim, 0, i, &slot), KITH_OK);
}

/* The distance that the first `wanted` pairs of a sample of rows are within. */
static float bound_for(const struct kith_hnsw *h, double part)
{
    struct kith_rng rng;
    float distances[4096];
    kith_rng_seed(&rng, 9);
    uint32_t end = kith_hnsw_slot_end(h), count = 0;
    while (count < 4096) {
        uint32_t a = (uint32_t)kith_rng_below(&rng, end), b = (uint32_t)kith_rng_below(&rng, end);
        if (a == b || !kith_hnsw_is_live(h, a) || !kith_hnsw_is_live(h, b))
            continue;
        float distance = kith_hnsw_distance(h, a, b);
        uint32_t at = count++;
        for (; at > 0 && distances[at - 1] > distance; at--)
            distances[at] = distances[at - 1];
        distances[at] = distance;
    }
    return distances[(uint32_t)(part * count)];
}

static void the_graph_finds_the_pairs_that_brute_force_finds(void **state)
{
    enum { ROWS = 1500 };
    static const struct {
        enum kith_hnsw_codes codes;
        enum kith_hnsw_metric metric;
        double least;
    } cases[] = {
        {KITH_HNSW_F32, KITH_HNSW_COSINE, 0.995},       {KITH_HNSW_F16, KITH_HNSW_COSINE, 0.995},
        {KITH_HNSW_BF16, KITH_HNSW_L2SQ, 0.995},        {KITH_HNSW_I8, KITH_HNSW_COSINE, 0.995},
        {KITH_HNSW_I8, KITH_HNSW_L2SQ, 0.995},          {KITH_HNSW_I8, KITH_HNSW_INNER_PRODUCT, 0.97},
        {KITH_HNSW_F32, KITH_HNSW_INNER_PRODUCT, 0.97}, {KITH_HNSW_I4, KITH_HNSW_COSINE, 0.99},
        {KITH_HNSW_I4, KITH_HNSW_L2SQ, 0.99},           {KITH_HNSW_BIN, KITH_HNSW_COSINE, 0.98},
    };
    float *rows = test_clusters(ROWS, DIM, 15, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kith_hnsw *h = open_index(cases[i].codes, cases[i].metric, DIM);
        add_rows(h, rows, ROWS);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        for (double part = 0.0005; part < 0.02; part *= 5) {
            float bound = bound_for(h, part), rounding = fabsf(bound) * 3e-4f;
            struct pair_list truth = brute_force(h, bound - rounding, NULL);
            struct kith_hnsw_pairs_options options = {.max_distance = bound, .count = 100};
            struct pair_list found = join(h, options, NULL);
            float *vectors = kept_vectors(h);
            assert_no_pair_twice(&found);
            for (size_t k = 0; k < found.count; k++) {
                float distance = kept_distance(h, vectors, found.items[k].a, found.items[k].b);
                if (!(distance <= bound + rounding && fabsf(distance - found.items[k].distance) <= rounding))
                    fail_msg("case %zu: %g is not %g", i, (double)found.items[k].distance, (double)distance);
            }
            double r = recall(&truth, &found);
            if (r < cases[i].least)
                fail_msg("case %zu, bound %g: recall %.4f of %zu", i, (double)bound, r, truth.count);
            free(vectors);
            free(truth.items);
            free(found.items);
        }
        kith_hnsw_close(h);
    }
    free(rows);
}

static void a_small_set_is_joined_exactly(void **state)
{
    enum { ROWS = 300 };
    float *rows = test_clusters(ROWS, DIM, 5, 2);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS);
    struct pair_list truth = brute_force(h, 0.2f - 1e-5f, NULL);
    assert_true(truth.count > 100);
    struct pair_list found =
        join(h, (struct kith_hnsw_pairs_options){.max_distance = 0.2f, .count = 7}, NULL);
    assert_true(recall(&truth, &found) == 1);
    assert_no_pair_twice(&found);
    free(truth.items);
    free(found.items);
    kith_hnsw_close(h);
    free(rows);
}

static void the_nearest_pairs_are_the_nearest(void **state)
{
    enum { ROWS = 4000 };
    float *rows = test_clusters(ROWS, DIM, 40, 3);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    static const uint32_t tops[] = {1, 10, 500, 5000};
    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++) {
        struct kith_hnsw_pairs *pairs;
        struct kith_hnsw_pairs_options options = {.top = tops[i]};
        struct kith_hnsw_pairs_result result = run(h, &options, &pairs);
        assert_true(result.count >= tops[i] && result.cursor == 0);
        for (uint32_t k = 1; k < result.count; k++)
            assert_true(result.pairs[k].distance >= result.pairs[k - 1].distance);
        struct pair_list found = {0},
                         truth = brute_force(h, result.pairs[tops[i] - 1].distance - 1e-5f, NULL);
        for (uint32_t k = 0; k < result.count; k++)
            list_add(&found, result.pairs[k]);
        list_sort(&found);
        assert_no_pair_twice(&found);
        assert_true(recall(&truth, &found) >= 0.995);
        free(found.items);
        free(truth.items);
        kith_hnsw_pairs_close(pairs);
    }
    kith_hnsw_close(h);
    free(rows);
}

static bool one_in_forty(void *context, uint32_t slot, uint64_t user)
{
    return user % 40 == 0;
}

static bool one_in_three(void *context, uint32_t slot, uint64_t user)
{
    return user % 3 == 0;
}

static void both_of_a_pair_pass_the_filter(void **state)
{
    enum { ROWS = 4000 };
    kith_hnsw_filter *filters[] = {one_in_three, one_in_forty};
    float *rows = test_clusters(ROWS, DIM, 40, 4);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    for (size_t i = 0; i < 2; i++) {
        float bound = bound_for(h, 0.01);
        struct kith_hnsw_pairs_options options = {.max_distance = bound, .count = 50, .filter = filters[i]};
        struct pair_list truth = brute_force(h, bound, filters[i]), found = join(h, options, NULL);
        assert_true(truth.count > 10);
        assert_true(recall(&truth, &found) >= 0.99);
        for (size_t k = 0; k < found.count; k++)
            assert_true(filters[i](NULL, 0, kith_hnsw_user(h, found.items[k].a)) &&
                        filters[i](NULL, 0, kith_hnsw_user(h, found.items[k].b)));
        /* More than there are links between those that pass: each is compared with each. */
        struct kith_hnsw_pairs *pairs;
        struct kith_hnsw_pairs_result result =
            run(h, &(struct kith_hnsw_pairs_options){.top = 1000, .filter = filters[i]}, &pairs);
        assert_true(result.count >= 1000);
        if (filters[i] == one_in_forty) {
            free(truth.items);
            truth = brute_force(h, result.pairs[999].distance - 1e-5f, filters[i]);
            assert_true(truth.count >= 990 && truth.count <= result.count);
        }
        kith_hnsw_pairs_close(pairs);
        free(truth.items);
        free(found.items);
    }
    kith_hnsw_close(h);
    free(rows);
}

static void thousands_of_equal_vectors_come_page_by_page(void **state)
{
    enum { EQUALS = 1000, OTHERS = 1500 };
    float *rows = test_clusters(OTHERS, DIM, 40, 5), *same = test_clusters(1, DIM, 1, 6);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    uint32_t slot;
    for (uint32_t i = 0; i < EQUALS; i++)
        assert_int_equal(kith_hnsw_add(h, same, 0, i, &slot), KITH_OK);
    add_rows(h, rows, OTHERS);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    struct kith_hnsw_pairs_options options = {.max_distance = 0, .count = 10000};
    struct pair_list found = join(h, options, NULL);
    assert_no_pair_twice(&found);
    size_t all = (size_t)EQUALS * (EQUALS - 1) / 2;
    assert_true(found.count <= all && found.count >= all - all / 100);
    free(found.items);
    /* A page far smaller than one element's partners goes on where it ended. */
    options.cursor = (uint64_t)(EQUALS - 1) << 31;
    options.count = 100;
    found = join(h, options, NULL);
    assert_no_pair_twice(&found);
    assert_true(found.count >= (EQUALS - 1) * 99 / 100 && found.count <= EQUALS - 1);
    free(found.items);
    struct kith_hnsw_pairs *pairs;
    struct kith_hnsw_pairs_result result = run(h, &(struct kith_hnsw_pairs_options){.top = 10}, &pairs);
    assert_true(result.count >= 10 && result.pairs[9].distance <= 1e-6f);
    assert_true(result.evaluations < 200000); /* ten are enough: it does not look at all of them */
    kith_hnsw_pairs_close(pairs);
    kith_hnsw_close(h);
    free(rows);
    free(same);
}

static void what_is_not_linked_yet_has_partners(void **state)
{
    enum { ROWS = 2500, LATE = 400 };
    float *rows = test_clusters(ROWS, DIM, 40, 7);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS - LATE);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    add_rows(h, rows + (size_t)(ROWS - LATE) * DIM, LATE);
    assert_int_equal(kith_hnsw_get_backlog(h).tail, LATE);
    float bound = bound_for(h, 0.005);
    struct pair_list truth = brute_force(h, bound, NULL);
    struct pair_list found =
        join(h, (struct kith_hnsw_pairs_options){.max_distance = bound, .count = 1000}, NULL);
    assert_no_pair_twice(&found);
    assert_true(recall(&truth, &found) >= 0.99);
    free(truth.items);
    free(found.items);
    kith_hnsw_close(h);
    free(rows);
}

/* ---- changes between the pages ---- */

enum { STAYING = 2000, COMING = 4000 };
static float *coming_rows;

/* Elements 0..STAYING stay; the others come and go. */
static void come_and_go(struct kith_hnsw *h, unsigned page)
{
    uint32_t slot, gone = 0;
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t row = STAYING + (page * 40 + i) % (COMING - STAYING);
        assert_int_equal(kith_hnsw_add(h, coming_rows + (size_t)row * DIM, 0, row, &slot), KITH_OK);
    }
    for (slot = 0; slot < kith_hnsw_slot_end(h) && gone < 40; slot++) {
        uint32_t at = (slot + page * 977) % kith_hnsw_slot_end(h);
        if (kith_hnsw_is_live(h, at) && kith_hnsw_user(h, at) >= STAYING) {
            assert_int_equal(kith_hnsw_remove(h, at), KITH_OK);
            gone++;
        }
    }
    if (page % 3 == 0)
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
}

static void pairs_that_exist_all_along_are_reported_once_while_the_set_changes(void **state)
{
    coming_rows = test_clusters(COMING, DIM, 40, 8);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, coming_rows, STAYING + 600);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    float bound = bound_for(h, 0.004);
    struct pair_list truth = brute_force(h, bound, NULL), staying = {0};
    for (size_t i = 0; i < truth.count; i++)
        if (kith_hnsw_user(h, truth.items[i].a) < STAYING && kith_hnsw_user(h, truth.items[i].b) < STAYING)
            list_add(&staying, truth.items[i]);
    list_sort(&staying);
    struct kith_hnsw_pairs_options options = {.max_distance = bound, .count = 100};
    struct pair_list found = join(h, options, come_and_go), kept = {0};
    assert_true(found.count > 20 * options.count);
    for (size_t i = 0; i < found.count; i++)
        if (list_has(&staying, &found.items[i]))
            list_add(&kept, found.items[i]);
    assert_no_pair_twice(&kept);
    double r = recall(&staying, &kept);
    if (r < 0.99)
        fail_msg("recall %.4f of %zu", r, staying.count);
    free(truth.items);
    free(staying.items);
    free(found.items);
    free(kept.items);
    kith_hnsw_close(h);
    free(coming_rows);
}

static void a_step_goes_on_after_its_owner_and_its_queue_are_gone(void **state)
{
    enum { ROWS = 3000 };
    struct kith_rng rng;
    float *rows = test_clusters(ROWS, 512, 2, 9); /* long enough for steps to end within an owner's walk */
    for (unsigned round = 0; round < 6; round++) {
        struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, 512);
        struct kith_hnsw_pairs *pairs;
        struct kith_hnsw_pairs_options options = {.max_distance = 2, .count = 100000};
        int rc;
        kith_rng_seed(&rng, round);
        add_rows(h, rows, ROWS);
        assert_int_equal(kith_hnsw_settle(h), KITH_OK);
        if (round % 3 == 2)
            options = (struct kith_hnsw_pairs_options){.max_distance = 2, .sample = 20, .seed = round};
        else if (round % 3 == 1)
            options = (struct kith_hnsw_pairs_options){.top = 5000};
        assert_int_equal(kith_hnsw_pairs_open(&pairs, h, &options), KITH_OK);
        for (unsigned steps = 0; (rc = kith_hnsw_pairs_step(pairs)) > 0; steps++) {
            for (unsigned i = 0; i < 300 && steps < 9; i++)
                kith_hnsw_remove(h, (uint32_t)kith_rng_below(&rng, ROWS));
            if (steps < 9)
                assert_int_equal(kith_hnsw_settle(h), KITH_OK);
            if (steps % 2 && steps < 9)
                add_rows(h, rows, 100);
        }
        assert_int_equal(rc, KITH_OK);
        struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(pairs);
        for (uint32_t i = 0; i < result.count; i++)
            assert_true(result.pairs[i].a != result.pairs[i].b);
        assert_true(result.found <= result.near);
        kith_hnsw_pairs_close(pairs);
        kith_hnsw_close(h);
    }
    free(rows);
}

/* ---- the sample ---- */

static void a_sample_of_all_elements_is_the_recall(void **state)
{
    enum { ROWS = 2000 };
    float *rows = test_clusters(ROWS, DIM, 40, 10);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    float bound = bound_for(h, 0.01);
    struct pair_list truth = brute_force(h, bound, NULL);
    struct kith_hnsw_pairs *pairs;
    struct kith_hnsw_pairs_options options = {.max_distance = bound, .count = 1000};
    struct pair_list found = join(h, options, NULL);
    options.sample = ROWS;
    struct kith_hnsw_pairs_result result = run(h, &options, &pairs);
    assert_int_equal(result.sampled, ROWS);
    assert_true(fabs((double)result.near - (double)truth.count) <= 0.001 * (double)truth.count + 2);
    assert_true(fabs((double)result.found - (double)found.count) <= 0.001 * (double)found.count + 2);
    assert_true(result.effective_count > 1 && result.effective_count <= (double)result.near);
    kith_hnsw_pairs_close(pairs);
    options.sample = 300;
    result = run(h, &options, &pairs);
    assert_int_equal(result.sampled, 300);
    assert_true(result.near > 0 && result.found <= result.near);
    kith_hnsw_pairs_close(pairs);
    free(truth.items);
    free(found.items);
    kith_hnsw_close(h);
    free(rows);
}

/* ---- limits ---- */

static void options_out_of_range_are_refused(void **state)
{
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    struct kith_hnsw_pairs *pairs = NULL;
    const struct kith_hnsw_pairs_options wrong[] = {
        {.max_distance = 1},
        {.max_distance = 1, .count = KITH_HNSW_PAIRS_MAX + 1},
        {.max_distance = NAN, .count = 1},
        {.top = KITH_HNSW_PAIRS_MAX + 1},
        {.sample = KITH_HNSW_PAIRS_SAMPLE_MAX + 1, .max_distance = 1},
        {.sample = 1, .top = 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(kith_hnsw_pairs_open(&pairs, h, &wrong[i]), KITH_EINVAL);
    /* An empty set has no pairs, wherever one asks. */
    const struct kith_hnsw_pairs_options right[] = {
        {.max_distance = 1, .count = 1},
        {.max_distance = INFINITY, .count = 1, .cursor = UINT64_MAX},
        {.top = 5},
        {.sample = 5, .max_distance = 1},
    };
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        struct kith_hnsw_pairs_result result = run(h, &right[i], &pairs);
        assert_true(result.count == 0 && result.cursor == 0 && result.near == 0);
        kith_hnsw_pairs_close(pairs);
    }
    kith_hnsw_pairs_close(NULL);
    kith_hnsw_close(h);
}

static void any_cursor_is_safe(void **state)
{
    enum { ROWS = 1000 };
    struct kith_rng rng;
    float *rows = test_clusters(ROWS, DIM, 10, 11);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    kith_rng_seed(&rng, 12);
    for (unsigned i = 0; i < 200; i++) {
        struct kith_hnsw_pairs *pairs;
        struct kith_hnsw_pairs_options options = {
            .max_distance = 0.1f, .count = 5, .cursor = kith_rng_next(&rng) >> kith_rng_below(&rng, 64)};
        struct kith_hnsw_pairs_result result = run(h, &options, &pairs);
        assert_true(result.count <= 5);
        kith_hnsw_pairs_close(pairs);
    }
    kith_hnsw_close(h);
    free(rows);
}

static void a_join_survives_each_allocation_that_fails(void **state)
{
    enum { ROWS = 800 };
    float *rows = test_clusters(ROWS, DIM, 10, 13);
    struct kith_hnsw *h = open_index(KITH_HNSW_I8, KITH_HNSW_COSINE, DIM);
    add_rows(h, rows, ROWS - 20);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    add_rows(h, rows + (size_t)(ROWS - 20) * DIM, 20);
    const struct kith_hnsw_pairs_options options[] = {
        {.max_distance = 0.2f, .count = 5000},
        {.top = 500},
        {.top = 500, .filter = one_in_forty},
        {.max_distance = 0.2f, .sample = 20},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        for (int n = 0; failing_malloc_sweep(&n);) {
            struct kith_hnsw_pairs *pairs;
            int rc = kith_hnsw_pairs_open(&pairs, h, &options[i]);
            if (rc == KITH_OK) {
                while ((rc = kith_hnsw_pairs_step(pairs)) > 0)
                    ;
                kith_hnsw_pairs_close(pairs);
            }
            assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
        }
    }
    kith_hnsw_close(h);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_graph_finds_the_pairs_that_brute_force_finds),
        cmocka_unit_test(a_small_set_is_joined_exactly),
        cmocka_unit_test(the_nearest_pairs_are_the_nearest),
        cmocka_unit_test(both_of_a_pair_pass_the_filter),
        cmocka_unit_test(thousands_of_equal_vectors_come_page_by_page),
        cmocka_unit_test(what_is_not_linked_yet_has_partners),
        cmocka_unit_test(pairs_that_exist_all_along_are_reported_once_while_the_set_changes),
        cmocka_unit_test(a_step_goes_on_after_its_owner_and_its_queue_are_gone),
        cmocka_unit_test(a_sample_of_all_elements_is_the_recall),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(any_cursor_is_safe),
        cmocka_unit_test(a_join_survives_each_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
