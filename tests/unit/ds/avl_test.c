/* The ordered index beside a plain sorted array that is right by being simple. */
#include "base/random.h"
#include "ds/avl_private.h"
#include "failing_malloc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What references point to: `rank` breaks ties. */
struct entry {
    uint64_t rank;
};

static int by_rank(const void *a, const void *b, void *arg)
{
    const struct entry *x = a, *y = b;
    assert_ptr_not_equal(a, b); /* the tree knows that a reference equals itself */
    ++*(size_t *)arg;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* --- The model. --- */

enum { MODEL_ROOM = 8192 };

struct model {
    struct kith_avl_item items[MODEL_ROOM];
    size_t count;
};

static int compare_items(struct kith_avl_item a, struct kith_avl_item b)
{
    const struct entry *x = a.ref, *y = b.ref;
    if (a.key != b.key)
        return a.key < b.key ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* Items before `item`, or not after it. */
static size_t model_place(const struct model *model, struct kith_avl_item item, bool after)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int side = compare_items(model->items[middle], item);
        if (side < 0 || (after && side == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool model_has(const struct model *model, struct kith_avl_item item)
{
    size_t at = model_place(model, item, false);
    return at < model->count && compare_items(model->items[at], item) == 0;
}

static int model_insert(struct model *model, struct kith_avl_item item)
{
    size_t at = model_place(model, item, false);
    if (model_has(model, item))
        return KITH_EEXIST;
    assert_true(model->count < MODEL_ROOM);
    memmove(&model->items[at + 1], &model->items[at], (model->count++ - at) * sizeof item);
    model->items[at] = item;
    return KITH_OK;
}

static void model_cut(struct model *model, size_t at, size_t count)
{
    memmove(&model->items[at], &model->items[at + count], (model->count - at - count) * sizeof *model->items);
    model->count -= count;
}

static int model_remove(struct model *model, struct kith_avl_item item)
{
    if (!model_has(model, item))
        return KITH_ENOENT;
    model_cut(model, model_place(model, item, false), 1);
    return KITH_OK;
}

/* --- Comparing the two. --- */

static void expect_sound(const struct kith_avl *tree)
{
    struct kith_error error;
    if (kith_avl_check(tree, &error))
        fail_msg("%s", error.text);
}

static void expect_at(const struct kith_avl *tree, const struct model *model, struct kith_avl_cursor cursor,
                      size_t rank)
{
    assert_int_equal(kith_avl_rank(tree, cursor), rank);
    assert_int_equal(kith_avl_at_end(cursor), rank == model->count);
    if (rank < model->count) {
        struct kith_avl_item item = kith_avl_item(tree, cursor);
        assert_true(item.key == model->items[rank].key && item.ref == model->items[rank].ref);
    }
}

static void expect_runs(const struct kith_avl *tree, const struct model *model, size_t from)
{
    struct kith_avl_cursor cursor = kith_avl_select(tree, from);
    struct kith_avl_run run;
    size_t rank = from < model->count ? from : model->count;
    while (kith_avl_next_run(tree, &cursor, &run))
        for (size_t i = 0; i < run.count; i++, rank++)
            assert_true(run.keys[i] == model->items[rank].key && run.refs[i] == model->items[rank].ref);
    assert_int_equal(rank, model->count);
    cursor = kith_avl_select(tree, from);
    rank = from < model->count ? from : model->count;
    while (kith_avl_prev_run(tree, &cursor, &run))
        for (size_t i = run.count; i-- > 0;) {
            rank--;
            assert_true(run.keys[i] == model->items[rank].key && run.refs[i] == model->items[rank].ref);
        }
    assert_int_equal(rank, 0);
}

static void expect_same(const struct kith_avl *tree, const struct model *model)
{
    expect_sound(tree);
    assert_int_equal(kith_avl_count(tree), model->count);
    struct kith_avl_cursor cursor = kith_avl_first(tree);
    for (size_t i = 0; i < model->count; i++) {
        expect_at(tree, model, cursor, i);
        expect_at(tree, model, kith_avl_select(tree, i), i);
        assert_int_equal(kith_avl_next(tree, &cursor), i + 1 < model->count);
    }
    assert_true(kith_avl_at_end(cursor));
    assert_false(kith_avl_next(tree, &cursor));
    for (size_t i = model->count; i-- > 0;) {
        assert_true(kith_avl_prev(tree, &cursor));
        expect_at(tree, model, cursor, i);
    }
    assert_false(kith_avl_prev(tree, &cursor));
    assert_true(kith_avl_at_end(cursor));
    expect_runs(tree, model, 0);
    expect_runs(tree, model, model->count);
    expect_runs(tree, model, model->count / 3);
}

static int probe_rank(const void *ref, void *arg)
{
    const struct entry *entry = ref;
    return entry->rank < *(uint64_t *)arg ? -1 : 0;
}

/* Every way to ask for a place near `item`. */
static void expect_places(const struct kith_avl *tree, const struct model *model, struct kith_avl_item item)
{
    struct entry lowest = {0}, highest = {UINT64_MAX};
    struct kith_avl_item before = {item.key, &lowest}, after = {item.key, &highest};
    size_t lower = model_place(model, item, false);
    uint64_t rank = ((struct entry *)item.ref)->rank;
    expect_at(tree, model, kith_avl_lower_bound(tree, item.key, item.ref), lower);
    expect_at(tree, model, kith_avl_upper_bound(tree, item.key, item.ref), model_place(model, item, true));
    expect_at(tree, model, kith_avl_find(tree, item.key, item.ref),
              model_has(model, item) ? lower : model->count);
    expect_at(tree, model, kith_avl_lower_bound_key(tree, item.key), model_place(model, before, false));
    expect_at(tree, model, kith_avl_upper_bound_key(tree, item.key), model_place(model, after, true));
    expect_at(tree, model, kith_avl_seek(tree, item.key, probe_rank, &rank), lower);
}

/* --- Properties. --- */

enum { ENTRY_COUNT = 4096 };

struct fixture {
    struct kith_avl *tree;
    struct model model;
    struct entry entries[ENTRY_COUNT];
    struct kith_rng rng;
    size_t callbacks;
    size_t released;
    uint64_t key_bound;
};

static struct fixture *open_fixture(uint64_t seed, uint64_t key_bound)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    kith_rng_seed(&f->rng, seed);
    f->key_bound = key_bound;
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        f->entries[i].rank =
            1 + i * 3 % ENTRY_COUNT; /* 3 has no factor in common with the count: all differ */
    assert_int_equal(kith_avl_open(&f->tree, by_rank, &f->callbacks), KITH_OK);
    return f;
}

static void close_fixture(struct fixture *f)
{
    kith_avl_close(f->tree);
    free(f);
}

static uint64_t any_key(struct fixture *f)
{
    uint64_t key = kith_rng_below(&f->rng, f->key_bound);
    return f->key_bound == 2 ? -key : key; /* two keys: the smallest and the largest */
}

static struct kith_avl_item any_item(struct fixture *f)
{
    return (struct kith_avl_item){any_key(f), &f->entries[kith_rng_below(&f->rng, ENTRY_COUNT)]};
}

/* Often one that is there. */
static struct kith_avl_item some_item(struct fixture *f)
{
    if (f->model.count == 0 || kith_rng_below(&f->rng, 4) == 0)
        return any_item(f);
    return f->model.items[kith_rng_below(&f->rng, f->model.count)];
}

static void expect_release(uint64_t key, void *ref, void *arg)
{
    struct fixture *f = arg;
    struct kith_avl_item *expected = &f->model.items[f->released++];
    assert_true(key == expected->key && ref == expected->ref);
}

static void remove_a_range(struct fixture *f, size_t longest)
{
    size_t first = kith_rng_below(&f->rng, f->model.count + 2), count = kith_rng_below(&f->rng, longest);
    f->released = first;
    size_t there = first >= f->model.count ? 0 : f->model.count - first;
    size_t expected = there < count ? there : count;
    assert_int_equal(kith_avl_remove_range(f->tree, first, count, expect_release, f), expected);
    assert_int_equal(f->released - first, expected);
    if (expected)
        model_cut(&f->model, first, expected);
}

static void remove_under_a_cursor(struct fixture *f)
{
    if (f->model.count == 0)
        return;
    size_t rank = kith_rng_below(&f->rng, f->model.count);
    struct kith_avl_cursor cursor = kith_avl_select(f->tree, rank);
    kith_avl_remove_at(f->tree, &cursor);
    model_cut(&f->model, rank, 1);
    expect_at(f->tree, &f->model, cursor, rank);
}

static void change_a_key(struct fixture *f)
{
    struct kith_avl_item item = some_item(f);
    uint64_t key = kith_rng_below(&f->rng, 2) ? any_key(f) : item.key + kith_rng_below(&f->rng, 3) - 1;
    int expected = KITH_OK;
    if (!model_has(&f->model, item))
        expected = KITH_ENOENT;
    else if (key != item.key && model_has(&f->model, (struct kith_avl_item){key, item.ref}))
        expected = KITH_EEXIST;
    assert_int_equal(kith_avl_rekey(f->tree, item.key, key, item.ref), expected);
    if (expected == KITH_OK) {
        model_remove(&f->model, item);
        model_insert(&f->model, (struct kith_avl_item){key, item.ref});
    }
}

static void append_one(struct fixture *f)
{
    struct kith_avl_item item = some_item(f);
    if (f->model.count && kith_rng_below(&f->rng, 2))
        item.key = f->model.items[f->model.count - 1].key;
    bool fits = model_place(&f->model, item, false) == f->model.count;
    assert_int_equal(kith_avl_append(f->tree, item.key, item.ref), fits ? KITH_OK : KITH_EINVAL);
    if (fits)
        model_insert(&f->model, item);
}

static void one_change(struct fixture *f, unsigned insert_percent)
{
    struct kith_avl_item item;
    if (kith_rng_below(&f->rng, 100) < insert_percent && f->model.count < MODEL_ROOM / 2) {
        item = any_item(f);
        assert_int_equal(kith_avl_insert(f->tree, item.key, item.ref), model_insert(&f->model, item));
        return;
    }
    switch (kith_rng_below(&f->rng, 20)) {
    case 0:
        append_one(f);
        break;
    case 1:
    case 2:
        change_a_key(f);
        break;
    case 3:
        remove_under_a_cursor(f);
        break;
    case 4:
        remove_a_range(f, 30);
        break;
    default:
        item = some_item(f);
        assert_int_equal(kith_avl_remove(f->tree, item.key, item.ref), model_remove(&f->model, item));
    }
    expect_places(f->tree, &f->model, some_item(f));
}

static void it_agrees_with_a_sorted_array_under_random_changes(void **state)
{
    static const uint64_t key_bounds[] = {1, 2, 10, 1000, 1 << 20, UINT64_MAX};
    for (size_t k = 0; k < sizeof key_bounds / sizeof *key_bounds; k++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            printf("seed %u, keys below %llu\n", (unsigned)seed, (unsigned long long)key_bounds[k]);
            struct fixture *f = open_fixture(seed, key_bounds[k]);
            for (int phase = 0; phase < 6; phase++) { /* grows, swings, shrinks, twice */
                static const unsigned insert_percent[] = {97, 60, 10};
                for (int i = 0; i < 3000; i++) {
                    one_change(f, insert_percent[phase % 3]);
                    if (i % 16 == 0)
                        expect_sound(f->tree);
                }
                expect_same(f->tree, &f->model);
            }
            close_fixture(f);
        }
    }
}

static void long_ranges_leave_what_is_around_them(void **state)
{
    struct fixture *f = open_fixture(7, 100000);
    for (int round = 0; round < 60; round++) {
        while (f->model.count < 3000)
            one_change(f, 100);
        remove_a_range(f, 1 + kith_rng_below(&f->rng, 3000));
        expect_same(f->tree, &f->model);
    }
    assert_int_equal(kith_avl_remove_range(f->tree, 0, SIZE_MAX, NULL, NULL), f->model.count);
    assert_int_equal(kith_avl_count(f->tree), 0);
    expect_sound(f->tree);
    close_fixture(f);
}

static void an_empty_tree_answers_everything(void **state)
{
    struct fixture *f = open_fixture(1, 1);
    void *ref = &f->entries[0];
    struct kith_avl_run run;
    expect_same(f->tree, &f->model);
    expect_places(f->tree, &f->model, (struct kith_avl_item){0, ref});
    struct kith_avl_cursor cursor = kith_avl_end(f->tree);
    assert_false(kith_avl_prev_run(f->tree, &cursor, &run));
    assert_int_equal(kith_avl_remove(f->tree, 0, ref), KITH_ENOENT);
    assert_int_equal(kith_avl_rekey(f->tree, 0, 1, ref), KITH_ENOENT);
    assert_int_equal(kith_avl_replace_ref(f->tree, 0, ref, ref), KITH_ENOENT);
    assert_int_equal(kith_avl_remove_range(f->tree, 0, 10, NULL, NULL), 0);
    close_fixture(f);
    kith_avl_close(NULL);
}

/* --- Memory. --- */

static void expect_fill(const struct kith_avl *tree, double blocks_at_least, double memory_at_least)
{
    struct kith_avl_stats stats;
    kith_avl_get_stats(tree, &stats);
    assert_true((double)stats.item_count >=
                blocks_at_least * KITH_AVL_BLOCK_ITEMS * (double)stats.block_count);
    assert_true((double)stats.item_count >= memory_at_least * (double)stats.slot_count);
}

static void blocks_stay_full_whatever_the_order(void **state)
{
    enum { COUNT = 100000 };
    static const struct {
        const char *order;
        double blocks, memory;
    } rows[] = {{"ascending", 0.95, 0.95},
                {"descending", 0.95, 0.95},
                {"inwards", 0.70, 0.85},
                {"random", 0.70, 0.85}};
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct kith_avl *tree;
        assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
        for (uint64_t i = 0; i < COUNT; i++) {
            uint64_t random = i;
            uint64_t key = row == 0   ? i
                           : row == 1 ? COUNT - i
                           : row == 2 ? (i % 2 ? COUNT - i : i)
                                      : kith_splitmix64(&random);
            assert_int_equal(kith_avl_insert(tree, key, NULL), KITH_OK);
        }
        expect_sound(tree);
        expect_fill(tree, rows[row].blocks, rows[row].memory);
        assert_true(kith_avl_memory_bytes(tree) <= COUNT * 19);
        while (kith_avl_count(tree) > 1000) /* every second item goes, then every second of those */
            for (size_t rank = 0; rank < kith_avl_count(tree); rank++)
                kith_avl_remove_range(tree, rank, 1, NULL, NULL);
        expect_sound(tree);
        assert_true(kith_avl_memory_bytes(tree) <=
                    1000 * 32 + 3 * KITH_AVL_CHUNK_BLOCKS * sizeof(struct kith_avl_block));
        kith_avl_close(tree);
    }
}

static void a_tree_of_three_takes_few_bytes_and_an_emptied_one_too(void **state)
{
    struct kith_avl *tree;
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(kith_avl_insert(tree, i, NULL), KITH_OK);
    assert_true(kith_avl_memory_bytes(tree) < 256);
    for (uint64_t i = 3; i < 300000; i++)
        assert_int_equal(kith_avl_append(tree, i, NULL), KITH_OK);
    expect_sound(tree);
    assert_true(tree->chunk_count > 4);
    while (kith_avl_count(tree) > 3)
        kith_avl_remove_range(tree, 3, 1000, NULL, NULL);
    expect_sound(tree);
    assert_int_equal(tree->chunk_count, 1);
    assert_true(kith_avl_memory_bytes(tree) < 1024);
    kith_avl_close(tree);
}

static void a_failed_allocation_changes_nothing(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct fixture *f = open_fixture(seed, seed == 1 ? 3 : 1 << 16);
        size_t failures = 0;
        for (int i = 0; i < 20000; i++) {
            struct kith_avl_item item = any_item(f);
            bool adds = kith_rng_below(&f->rng, 100) < (i < 12000 ? 70 : 30);
            failing_malloc_arm((long)kith_rng_below(&f->rng, 3));
            if (adds) {
                int status = kith_rng_below(&f->rng, 4) ? kith_avl_insert(f->tree, item.key, item.ref)
                                                        : kith_avl_append(f->tree, item.key, item.ref);
                failures += failing_malloc_disarm();
                if (status == KITH_OK)
                    assert_int_equal(model_insert(&f->model, item), KITH_OK);
                else
                    assert_true(status == KITH_ENOMEM || status == KITH_EINVAL || model_has(&f->model, item));
            } else if (i % 3) {
                struct kith_avl_item old = some_item(f);
                int status = kith_avl_rekey(f->tree, old.key, item.key, old.ref);
                failures += failing_malloc_disarm();
                if (status == KITH_OK) {
                    assert_int_equal(model_remove(&f->model, old), KITH_OK);
                    assert_int_equal(model_insert(&f->model, (struct kith_avl_item){item.key, old.ref}),
                                     KITH_OK);
                }
            } else {
                item = some_item(f);
                int status = kith_avl_remove(f->tree, item.key, item.ref); /* needs no memory */
                failures += failing_malloc_disarm();
                assert_int_equal(status, model_remove(&f->model, item));
            }
            if (i % 64 == 0)
                expect_sound(f->tree);
        }
        assert_true(failures > 100);
        expect_same(f->tree, &f->model);
        close_fixture(f);
    }
    struct kith_avl *tree = NULL;
    failing_malloc_arm(0);
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_ENOMEM);
    assert_true(failing_malloc_disarm());
    assert_null(tree);
}

static void every_allocation_of_a_growing_tree_may_fail_once(void **state)
{
    enum { COUNT = KITH_AVL_CHUNK_BLOCKS * KITH_AVL_BLOCK_ITEMS + 5000 }; /* past the first chunk */
    struct kith_avl *tree;
    size_t failures = 0;
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
    for (uint64_t i = 0; i < COUNT;) {
        failing_malloc_arm(0);
        int status = kith_avl_append(tree, i, NULL);
        bool failed = failing_malloc_disarm();
        assert_int_equal(status, failed ? KITH_ENOMEM : KITH_OK);
        assert_int_equal(kith_avl_count(tree), i + !failed);
        if (failed) {
            failures++;
            for (long second = 1; (failing_malloc_arm(second), status = kith_avl_append(tree, i, NULL));
                 second++)
                assert_true(failing_malloc_disarm() && status == KITH_ENOMEM && kith_avl_count(tree) == i);
            failing_malloc_disarm();
        }
        i++;
    }
    assert_true(failures > COUNT / KITH_AVL_BLOCK_ITEMS);
    expect_sound(tree);
    kith_avl_close(tree);
}

/* --- Single promises. --- */

static void a_moved_entry_is_found_without_a_look_at_the_old_one(void **state)
{
    struct fixture *f = open_fixture(3, 4);
    for (size_t i = 0; i < 1000; i++) {
        struct entry *entry = malloc(sizeof *entry);
        entry->rank = kith_rng_next(&f->rng);
        assert_int_equal(kith_avl_insert(f->tree, i % 4, entry), KITH_OK);
    }
    for (size_t i = 0; i < 3000; i++) {
        struct kith_avl_item item =
            kith_avl_item(f->tree, kith_avl_select(f->tree, kith_rng_below(&f->rng, 1000)));
        struct entry *entry = malloc(sizeof *entry);
        *entry = *(struct entry *)item.ref;
        ((struct entry *)item.ref)->rank ^= UINT64_MAX; /* whoever looks at it goes astray */
        assert_int_equal(kith_avl_replace_ref(f->tree, item.key, item.ref, entry), KITH_OK);
        free(item.ref);
        assert_int_equal(kith_avl_replace_ref(f->tree, item.key ^ 1, entry, entry), KITH_ENOENT);
        if (i % 100 == 0)
            expect_sound(f->tree);
    }
    expect_sound(f->tree);
    for (struct kith_avl_cursor c = kith_avl_first(f->tree); !kith_avl_at_end(c); kith_avl_next(f->tree, &c))
        free(kith_avl_item(f->tree, c).ref);
    close_fixture(f);
}

static void an_item_does_not_move_onto_its_equal(void **state)
{
    struct fixture *f = open_fixture(1, 1);
    struct entry *a = &f->entries[0], *b = &f->entries[1];
    assert_int_equal(kith_avl_insert(f->tree, 1, a), KITH_OK);
    assert_int_equal(kith_avl_insert(f->tree, 2, a), KITH_OK);
    assert_int_equal(kith_avl_rekey(f->tree, 1, 2, a), KITH_EEXIST);
    assert_int_equal(kith_avl_rekey(f->tree, 2, 1, a), KITH_EEXIST);
    assert_int_equal(kith_avl_rekey(f->tree, 1, 1, a), KITH_OK);
    assert_int_equal(kith_avl_rekey(f->tree, 1, 2, b), KITH_ENOENT);
    assert_int_equal(kith_avl_rekey(f->tree, 1, 0, a), KITH_OK);
    assert_int_equal(kith_avl_item(f->tree, kith_avl_first(f->tree)).key, 0);
    expect_sound(f->tree);
    close_fixture(f);
}

static void without_a_tie_callback_references_order_by_value(void **state)
{
    struct kith_avl *tree;
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
    for (uintptr_t i = 0; i < 1000; i++)
        assert_int_equal(kith_avl_insert(tree, 5, (void *)(i * 7 % 1000)), KITH_OK);
    assert_int_equal(kith_avl_insert(tree, 5, NULL), KITH_EEXIST);
    assert_int_equal(kith_avl_replace_ref(tree, 5, NULL, tree), KITH_EINVAL);
    for (uintptr_t i = 0; i < 1000; i++) {
        assert_ptr_equal(kith_avl_item(tree, kith_avl_select(tree, i)).ref, (void *)i);
        assert_int_equal(kith_avl_rank(tree, kith_avl_find(tree, 5, (void *)i)), i);
    }
    expect_sound(tree);
    kith_avl_close(tree);
}

static void doubles_and_integers_become_keys_in_their_order(void **state)
{
    static const double doubles[] = {-INFINITY, -1e300, -1.5, -1,  -5e-324, 0,
                                     5e-324,    0.1,    1,    1.5, 1e300,   INFINITY};
    static const int64_t integers[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        assert_true(kith_avl_key_to_double(kith_avl_key_from_double(doubles[i])) == doubles[i]);
        assert_true(!i || kith_avl_key_from_double(doubles[i - 1]) < kith_avl_key_from_double(doubles[i]));
    }
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        assert_true(kith_avl_key_to_int64(kith_avl_key_from_int64(integers[i])) == integers[i]);
        assert_true(!i || kith_avl_key_from_int64(integers[i - 1]) < kith_avl_key_from_int64(integers[i]));
    }
    assert_true(kith_avl_key_from_double(-0.0) == kith_avl_key_from_double(0.0));
    assert_false(signbit(kith_avl_key_to_double(kith_avl_key_from_double(-0.0))));
}

/* --- Rotations, on blocks of one item so that the shapes can be written down. --- */

static uint32_t open_single(struct kith_avl *tree, uint64_t key)
{
    uint32_t id;
    assert_int_equal(kith_avl_block_open(tree, 1, &id), KITH_OK);
    kith_avl_block_put(kith_avl_block(tree, id), 0, key, NULL);
    return id;
}

static uint32_t find_single(const struct kith_avl *tree, uint64_t key)
{
    uint32_t id = tree->root;
    while (id != KITH_AVL_NIL && kith_avl_block(tree, id)->first_key != key) {
        const struct kith_avl_block *block = kith_avl_block(tree, id);
        id = key < block->first_key ? block->left : block->right;
    }
    return id;
}

static void link_single(struct kith_avl *tree, uint64_t key)
{
    uint32_t id = open_single(tree, key), below = KITH_AVL_NIL, first = kith_avl_block_first(tree);
    for (uint32_t i = first; i != KITH_AVL_NIL && kith_avl_block(tree, i)->first_key < key;
         i = kith_avl_block_next(tree, i))
        below = i;
    if (below == KITH_AVL_NIL)
        kith_avl_link_before(tree, first, id);
    else
        kith_avl_link_after(tree, below, id);
}

static void unlink_single(struct kith_avl *tree, uint64_t key)
{
    uint32_t id = find_single(tree, key);
    assert_int_not_equal(id, KITH_AVL_NIL);
    kith_avl_block_cut(kith_avl_block(tree, id), 0, 1);
    kith_avl_add_total(tree, id, -1u);
    kith_avl_unlink(tree, id);
    kith_avl_block_close(tree, id);
}

/* "4(2(1,3),6)": key(left,right), "-" for nobody beside somebody. */
static void print_shape(const struct kith_avl *tree, uint32_t id, char *out)
{
    if (id == KITH_AVL_NIL) {
        strcat(out, "-");
        return;
    }
    const struct kith_avl_block *block = kith_avl_block(tree, id);
    sprintf(out + strlen(out), "%u", (unsigned)block->first_key);
    if (block->left == KITH_AVL_NIL && block->right == KITH_AVL_NIL)
        return;
    strcat(out, "(");
    print_shape(tree, block->left, out);
    strcat(out, ",");
    print_shape(tree, block->right, out);
    strcat(out, ")");
}

static void each_rotation_gives_the_shape_in_the_book(void **state)
{
    static const struct {
        const char *rotation;
        int steps[12]; /* positive: link, negative: unlink, 0 ends */
        const char *shape;
    } rows[] = {
        {"LL", {3, 2, 1}, "2(1,3)"},
        {"RR", {1, 2, 3}, "2(1,3)"},
        {"LR", {3, 1, 2}, "2(1,3)"},
        {"RL", {1, 3, 2}, "2(1,3)"},
        {"LL with children", {5, 3, 6, 2, 4, 1}, "3(2(1,-),5(4,6))"},
        {"RR with children", {2, 1, 4, 3, 5, 6}, "4(2(1,3),5(-,6))"},
        {"LR, the middle one leans left", {5, 2, 6, 1, 4, 3}, "4(2(1,3),5(-,6))"},
        {"LR, the middle one leans right", {6, 2, 7, 1, 4, 5}, "4(2(1,-),6(5,7))"},
        {"RL, the middle one leans left", {2, 1, 6, 4, 7, 3}, "4(2(1,3),6(-,7))"},
        {"RL, the middle one leans right", {2, 1, 5, 4, 6, 3}, "4(2(1,3),5(-,6))"},
        {"removal, LL, even child", {4, 2, 5, 1, 3, -5}, "2(1,4(3,-))"},
        {"removal, RR, even child", {2, 1, 4, 3, 5, -1}, "4(2(-,3),5)"},
        {"removal, LL, leaning child", {3, 2, 4, 1, -4}, "2(1,3)"},
        {"removal, RR, leaning child", {2, 1, 3, 4, -1}, "3(2,4)"},
        {"removal, LR", {3, 1, 4, 2, -4}, "2(1,3)"},
        {"removal, RL", {2, 1, 4, 3, -1}, "3(2,4)"},
        {"removal of an inner block, heir below", {2, 1, 3, -2}, "3(1,-)"},
        {"removal of an inner block, heir deeper", {3, 1, 6, 2, 5, 7, 4, -3}, "4(1(-,2),6(5,7))"},
        {"two rotations on one way up",
         {8, 5, 11, 3, 7, 10, 12, 2, 4, 6, 1, -12},
         "5(3(2(1,-),4),8(7(6,-),11(10,-)))"},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct kith_avl *tree;
        char shape[200] = "";
        assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
        for (size_t i = 0; i < 12 && rows[row].steps[i]; i++) {
            if (rows[row].steps[i] > 0)
                link_single(tree, (uint64_t)rows[row].steps[i]);
            else
                unlink_single(tree, (uint64_t)-rows[row].steps[i]);
            expect_sound(tree);
        }
        print_shape(tree, tree->root, shape);
        if (strcmp(shape, rows[row].shape) != 0)
            fail_msg("%s: %s, not %s", rows[row].rotation, shape, rows[row].shape);
        kith_avl_close(tree);
    }
}

static void any_order_of_links_and_unlinks_stays_balanced(void **state)
{
    struct kith_avl *tree;
    struct kith_rng rng;
    bool there[200] = {false};
    kith_rng_seed(&rng, 11);
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
    for (int i = 0; i < 20000; i++) {
        uint64_t key = kith_rng_below(&rng, 200);
        there[key] = !there[key];
        if (there[key])
            link_single(tree, key);
        else
            unlink_single(tree, key);
        expect_sound(tree);
    }
    kith_avl_close(tree);
}

static void the_check_sees_each_kind_of_damage(void **state)
{
    struct kith_avl *tree;
    assert_int_equal(kith_avl_open(&tree, NULL, NULL), KITH_OK);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(kith_avl_insert(tree, i * 2, NULL), KITH_OK);
    struct kith_avl_block *root = kith_avl_block(tree, tree->root), saved = *root;
    root->balance ^= 1;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    *root = saved;
    root->total++;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    *root = saved;
    root->first_key--;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    *root = saved;
    root->parent = root->left;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    *root = saved;
    root->left = KITH_AVL_NIL;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    *root = saved;
    root->keys[3] = root->keys[4];
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    root->keys[3] = root->keys[2] + 2;
    tree->slot_count++;
    assert_int_equal(kith_avl_check(tree, NULL), KITH_ECORRUPT);
    tree->slot_count--;
    expect_sound(tree);
    kith_avl_close(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_a_sorted_array_under_random_changes),
        cmocka_unit_test(long_ranges_leave_what_is_around_them),
        cmocka_unit_test(an_empty_tree_answers_everything),
        cmocka_unit_test(blocks_stay_full_whatever_the_order),
        cmocka_unit_test(a_tree_of_three_takes_few_bytes_and_an_emptied_one_too),
        cmocka_unit_test(a_failed_allocation_changes_nothing),
        cmocka_unit_test(every_allocation_of_a_growing_tree_may_fail_once),
        cmocka_unit_test(a_moved_entry_is_found_without_a_look_at_the_old_one),
        cmocka_unit_test(an_item_does_not_move_onto_its_equal),
        cmocka_unit_test(without_a_tie_callback_references_order_by_value),
        cmocka_unit_test(doubles_and_integers_become_keys_in_their_order),
        cmocka_unit_test(each_rotation_gives_the_shape_in_the_book),
        cmocka_unit_test(any_order_of_links_and_unlinks_stays_balanced),
        cmocka_unit_test(the_check_sees_each_kind_of_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
