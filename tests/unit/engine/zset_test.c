/* Sorted sets and hashes against plain models, small and large. */
#include "engine/hash.h"
#include "engine/zset.h"

#include "base/num.h"
#include "base/random.h"
#include "base/status.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct kith_hash_seed seed = {1, 2};

enum { NAMES = 400 };

struct model {
    bool present[NAMES];
    double score[NAMES];
    char name[NAMES][8];
};

static void name_all(struct model *model)
{
    *model = (struct model){0};
    for (int i = 0; i < NAMES; i++)
        snprintf(model->name[i], sizeof model->name[i], "m%d", i);
}

static struct kith_slice name_of(const struct model *model, int i)
{
    return kith_slice(model->name[i], strlen(model->name[i]));
}

/* Members in order of the model. */
static size_t sort(const struct model *model, int *order)
{
    size_t count = 0;
    for (int i = 0; i < NAMES; i++) {
        if (!model->present[i])
            continue;
        size_t at = count++;
        for (; at > 0; at--) {
            int other = order[at - 1];
            if (model->score[other] < model->score[i] ||
                (model->score[other] == model->score[i] &&
                 kith_slice_compare(name_of(model, other), name_of(model, i)) < 0))
                break;
            order[at] = other;
        }
        order[at] = i;
    }
    return count;
}

struct walk {
    const struct model *model;
    const int *order;
    size_t at, step;
};

static void expect_member(void *arg, struct kith_slice member, double score)
{
    struct walk *walk = arg;
    int i = walk->order[walk->at];
    assert_true(kith_slice_equal(member, name_of(walk->model, i)));
    assert_true(score == walk->model->score[i]);
    walk->at += walk->step;
}

static void expect_same(const struct kith_zset *zset, const struct model *model, struct kith_rng *rng)
{
    int order[NAMES];
    size_t count = sort(model, order), rank;
    assert_int_equal(kith_zset_count(zset), count);
    assert_int_equal(kith_zset_check(zset), KITH_OK);
    struct walk up = {model, order, 0, 1};
    kith_zset_range(zset, 0, SIZE_MAX, false, expect_member, &up);
    assert_int_equal(up.at, count);
    if (!count)
        return;
    size_t first = kith_rng_below(rng, count), length = kith_rng_below(rng, count - first) + 1;
    struct walk down = {model, order, first + length - 1, (size_t)-1};
    kith_zset_range(zset, first, length, true, expect_member, &down);
    int some = order[first];
    assert_true(kith_zset_rank(zset, name_of(model, some), &rank));
    assert_int_equal(rank, first);
    size_t below = 0, up_to = 0;
    for (size_t i = 0; i < count; i++) {
        below += model->score[order[i]] < model->score[some];
        up_to += model->score[order[i]] <= model->score[some];
    }
    assert_int_equal(kith_zset_rank_of_score(zset, model->score[some], false), below);
    assert_int_equal(kith_zset_rank_of_score(zset, model->score[some], true), up_to);
}

static void play(int names, int rounds, uint64_t random_seed)
{
    struct kith_rng rng;
    struct model model;
    kith_rng_seed(&rng, random_seed);
    name_all(&model);
    struct kith_zset *zset = kith_zset_open(&seed);
    for (int round = 0; round < rounds; round++) {
        int i = (int)kith_rng_below(&rng, (uint64_t)names);
        uint64_t what = kith_rng_below(&rng, 100);
        if (what < 60) {
            double score = (double)kith_rng_below(&rng, 20) - 10;
            assert_int_equal(kith_zset_set(zset, name_of(&model, i), score), !model.present[i]);
            model.present[i] = true;
            model.score[i] = score;
        } else if (what < 97) {
            assert_int_equal(kith_zset_remove(zset, name_of(&model, i)), model.present[i]);
            model.present[i] = false;
        } else {
            int order[NAMES];
            size_t count = sort(&model, order), first = kith_rng_below(&rng, count + 1),
                   length = kith_rng_below(&rng, 6);
            size_t removed = kith_zset_remove_range(zset, first, length);
            assert_int_equal(removed, length < count - first ? length : count - first);
            for (size_t k = 0; k < removed; k++)
                model.present[order[first + k]] = false;
        }
        if (round % 7 == 0)
            expect_same(zset, &model, &rng);
    }
    kith_zset_close(zset);
}

static void a_small_sorted_set_agrees_with_the_model(void **state)
{
    for (uint64_t s = 1; s <= 20; s++)
        play(40, 600, s);
}

static void a_large_sorted_set_agrees_with_the_model(void **state)
{
    for (uint64_t s = 1; s <= 6; s++)
        play(NAMES, 6000, s);
}

static void equal_scores_are_ordered_by_name(void **state)
{
    struct kith_zset *zset = kith_zset_open(&seed);
    char name[8];
    for (int i = 999; i >= 0; i--) {
        int length = snprintf(name, sizeof name, "%03d", i);
        assert_int_equal(kith_zset_set(zset, kith_slice(name, (size_t)length), 1), 1);
    }
    assert_int_equal(kith_zset_rank_of_member(zset, KITH_SLICE("500"), false), 500);
    assert_int_equal(kith_zset_rank_of_member(zset, KITH_SLICE("500"), true), 501);
    assert_int_equal(kith_zset_rank_of_member(zset, KITH_SLICE("5"), false), 500);
    assert_int_equal(kith_zset_rank_of_member(zset, KITH_SLICE(""), false), 0);
    assert_int_equal(kith_zset_rank_of_member(zset, KITH_SLICE("a"), false), 1000);
    kith_zset_close(zset);
}

static void no_allocation_failure_changes_a_sorted_set(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_zset *zset = kith_zset_open(&seed);
        char name[8];
        size_t count = 0;
        for (int i = 0; zset && i < 200; i++) {
            int length = snprintf(name, sizeof name, "%d", i * 7 % 200);
            int status = kith_zset_set(zset, kith_slice(name, (size_t)length), i % 10);
            assert_true(status == 1 || status == KITH_ENOMEM);
            count += status == 1;
            assert_int_equal(kith_zset_count(zset), count);
        }
        failing_malloc_disarm(); /* the check allocates, too */
        if (zset)
            assert_int_equal(kith_zset_check(zset), KITH_OK);
        kith_zset_close(zset);
    }
}

/* ---- hashes ---- */

static void count_pair(void *arg, struct kith_slice field, struct kith_slice value)
{
    ++*(size_t *)arg;
}

static void a_hash_agrees_with_the_model_small_and_large(void **state)
{
    for (uint64_t s = 1; s <= 10; s++) {
        struct kith_rng rng;
        struct model model;
        kith_rng_seed(&rng, s);
        name_all(&model);
        struct kith_hash *hash = kith_hash_open(&seed);
        int names = s % 2 ? 50 : NAMES;
        for (int round = 0; round < 4000; round++) {
            int i = (int)kith_rng_below(&rng, (uint64_t)names);
            char text[KITH_NUM_INT64_CHARS];
            if (kith_rng_below(&rng, 3)) {
                model.score[i] = (double)kith_rng_below(&rng, 100000);
                size_t length = kith_num_format_int64(text, (int64_t)model.score[i]);
                assert_int_equal(kith_hash_set(hash, name_of(&model, i), kith_slice(text, length)),
                                 !model.present[i]);
                model.present[i] = true;
            } else {
                assert_int_equal(kith_hash_remove(hash, name_of(&model, i)), model.present[i]);
                model.present[i] = false;
            }
            i = (int)kith_rng_below(&rng, (uint64_t)names);
            struct kith_slice value;
            int64_t number = -1;
            assert_int_equal(kith_hash_get(hash, name_of(&model, i), &value), model.present[i]);
            if (model.present[i])
                assert_int_equal(kith_num_parse_int64(value, &number), KITH_OK);
            assert_true(!model.present[i] || (double)number == model.score[i]);
        }
        size_t listed = 0, present = 0;
        kith_hash_each(hash, count_pair, &listed);
        for (int i = 0; i < NAMES; i++)
            present += model.present[i];
        assert_int_equal(listed, present);
        assert_int_equal(kith_hash_count(hash), present);
        kith_hash_close(hash);
    }
}

static void no_allocation_failure_changes_a_hash(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_hash *hash = kith_hash_open(&seed);
        char name[8];
        size_t count = 0;
        for (int i = 0; hash && i < 160; i++) {
            int length = snprintf(name, sizeof name, "%d", i);
            int status = kith_hash_set(hash, kith_slice(name, (size_t)length), KITH_SLICE("value"));
            assert_true(status == 1 || status == KITH_ENOMEM);
            count += status == 1;
            assert_int_equal(kith_hash_count(hash), count);
        }
        kith_hash_close(hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_sorted_set_agrees_with_the_model),
        cmocka_unit_test(a_large_sorted_set_agrees_with_the_model),
        cmocka_unit_test(equal_scores_are_ordered_by_name),
        cmocka_unit_test(no_allocation_failure_changes_a_sorted_set),
        cmocka_unit_test(a_hash_agrees_with_the_model_small_and_large),
        cmocka_unit_test(no_allocation_failure_changes_a_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
