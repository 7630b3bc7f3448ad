/* The hash table against a plain model: an array that says for each key number whether it is in, and where
 * its entry is. Keys are "k<number>"; every run has a fixed seed. */
#include "base/random.h"
#include "base/status.h"
#include "ds/bucket.h"
#include "ds/table.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define SEED ((struct kith_hash_seed){0x6b697468, 0x7461626c65})

struct model {
    struct kith_table *table;
    void **entries; /* by key number; NULL: not in the table */
    uint32_t key_count, count;
    struct kith_rng rng;
};

struct name {
    char text[16];
    struct kith_slice slice;
    uint64_t hash;
};

static void name_init(struct name *name, const struct kith_table *table, uint32_t number)
{
    int length = snprintf(name->text, sizeof name->text, "k%u", number);
    name->slice = kith_slice(name->text, (size_t)length);
    name->hash = kith_table_hash(table, name->slice);
}

/* The payload of every entry is its number. */
static uint32_t number_of(const void *entry)
{
    uint32_t number;
    memcpy(&number, kith_entry_payload_const(entry), sizeof number);
    return number;
}

static void *entry_of(const struct name *name, uint32_t number)
{
    void *entry = kith_entry_open(7, name->slice, sizeof number);
    assert_non_null(entry);
    memcpy(kith_entry_payload(entry), &number, sizeof number);
    return entry;
}

static void model_open(struct model *model, uint32_t key_count, uint64_t seed)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_int_equal(kith_table_open(&model->table, SEED), KITH_OK);
    model->entries = calloc(key_count, sizeof *model->entries);
    assert_non_null(model->entries);
    model->key_count = key_count;
    model->count = 0;
    kith_rng_seed(&model->rng, seed);
}

static void model_close(struct model *model)
{
    kith_table_close(model->table, NULL, NULL);
    free(model->entries);
}

static void model_insert(struct model *model, uint32_t number)
{
    struct name name;
    name_init(&name, model->table, number);
    assert_ptr_equal(kith_table_find(model->table, name.slice, name.hash), model->entries[number]);
    if (model->entries[number])
        return;
    model->entries[number] = entry_of(&name, number);
    assert_int_equal(kith_table_insert(model->table, model->entries[number], name.hash), KITH_OK);
    model->count++;
}

static void model_remove(struct model *model, uint32_t number)
{
    struct name name;
    name_init(&name, model->table, number);
    void *entry = model->entries[number];
    if (entry && number % 2)
        kith_table_remove_entry(model->table, entry, name.hash);
    else
        assert_ptr_equal(kith_table_remove(model->table, name.slice, name.hash), entry);
    model->count -= entry != NULL;
    model->entries[number] = NULL;
    free(entry);
}

static void model_replace(struct model *model, uint32_t number)
{
    struct name name;
    name_init(&name, model->table, number);
    void *old = model->entries[number];
    if (!old)
        return;
    model->entries[number] = entry_of(&name, number);
    kith_table_replace(model->table, old, model->entries[number], name.hash);
    free(old);
}

static void model_agrees(const struct model *model)
{
    assert_int_equal(kith_table_check(model->table), KITH_OK);
    assert_int_equal(kith_table_count(model->table), model->count);
    for (uint32_t i = 0; i < model->key_count; i++) {
        struct name name;
        name_init(&name, model->table, i);
        assert_ptr_equal(kith_table_find(model->table, name.slice, name.hash), model->entries[i]);
    }
}

static uint32_t model_pick(struct model *model)
{
    return (uint32_t)kith_rng_below(&model->rng, model->key_count);
}

static void an_entry_gives_back_its_meta_key_and_payload(void **state)
{
    static const size_t lengths[] = {0, 1, 2, 126, 127, 128, 129, 16383, 16384, 100000};
    char *bytes = malloc(100000);
    assert_non_null(bytes);
    memset(bytes, 'x', 100000);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct kith_slice key = kith_slice(bytes, lengths[i]);
        char *entry = kith_entry_open(200, key, 3);
        assert_non_null(entry);
        memcpy(kith_entry_payload(entry), "abc", 3);
        assert_int_equal(kith_entry_meta(entry), 200);
        assert_true(kith_slice_equal(kith_entry_key(entry), key));
        assert_true(kith_entry_key_is(entry, key));
        assert_false(kith_entry_key_is(entry, kith_slice(bytes, lengths[i] ? lengths[i] - 1 : 1)));
        assert_int_equal(kith_entry_payload(entry) - entry, kith_entry_header_bytes(lengths[i]));
        kith_entry_set_meta(entry, 3);
        assert_int_equal(kith_entry_meta(entry), 3);
        assert_memory_equal(kith_entry_payload_const(entry), "abc", 3);
        free(entry);
    }
    free(bytes);
}

static void tags_are_compared_alike_by_vector_word_and_byte(void **state)
{
    struct kith_bucket bucket = {0};
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    for (int round = 0; round < 20000; round++) {
        unsigned alphabet =
            round % 2 ? 256 : 3; /* few tags: many of them equal, and next to each other by one */
        for (unsigned i = 0; i < KITH_BUCKET_SLOTS; i++)
            bucket.tags[i] = (uint8_t)(kith_rng_below(&rng, alphabet) + (round % 4 == 2 ? 0x7f : 0));
        memset(&bucket.overflow, (int)kith_rng_below(&rng, 3), 55); /* what is behind them does not count */
        uint8_t tag = bucket.tags[kith_rng_below(&rng, 9)];
        for (int delta = -1; delta <= 1; delta++) {
            unsigned mask = kith_bucket_match_scalar(&bucket, (uint8_t)(tag + delta));
            assert_int_equal(kith_bucket_match(&bucket, (uint8_t)(tag + delta)), mask);
            assert_int_equal(kith_bucket_match_word(&bucket, (uint8_t)(tag + delta)), mask);
        }
    }
}

static void a_bucket_gives_back_nine_pointers(void **state)
{
    struct kith_bucket bucket = {0};
    uint64_t words[KITH_BUCKET_SLOTS];
    for (unsigned i = 0; i < KITH_BUCKET_SLOTS; i++)
        kith_bucket_put(&bucket, i, (uint8_t)(i + 1), &words[i], i % 3 == 0);
    bucket.overflow = 255;
    for (unsigned i = 0; i < KITH_BUCKET_SLOTS; i++) {
        assert_ptr_equal(kith_bucket_get(&bucket, i), &words[i]);
        assert_int_equal(kith_bucket_displaced(&bucket, i), i % 3 == 0);
    }
    kith_bucket_put(&bucket, 8, 255, (void *)(uintptr_t)0xfffffffffff8, true);
    assert_true((uintptr_t)kith_bucket_get(&bucket, 8) == 0xfffffffffff8);
    assert_true(kith_bucket_displaced(&bucket, 8));
}

/* Inserts, removes and replaces at random; `insert_share` of 16 picks insert. */
static void churn(struct model *model, uint32_t operations, unsigned insert_share)
{
    for (uint32_t i = 0; i < operations; i++) {
        uint32_t number = model_pick(model);
        unsigned dice = (unsigned)kith_rng_below(&model->rng, 18);
        if (dice >= 16)
            model_replace(model, number);
        else if (dice < insert_share)
            model_insert(model, number);
        else
            model_remove(model, number);
    }
}

static void any_sequence_of_operations_does_what_a_plain_model_does(void **state)
{
    static const struct {
        uint32_t key_count, operations;
    } sizes[] = {{8, 400}, {30, 2000}, {200, 5000}, {3000, 20000}, {40000, 120000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct model model;
        model_open(&model, sizes[i].key_count, 100 + i);
        static const unsigned shares[] = {14, 8, 2, 12, 1, 8, 15, 4, 0};
        for (size_t phase = 0; phase < sizeof shares / sizeof *shares; phase++) {
            churn(&model, sizes[i].operations, shares[phase]);
            model_agrees(&model);
        }
        for (uint32_t k = 0; k < model.key_count; k++)
            model_remove(&model, k);
        model_agrees(&model);
        assert_int_equal(kith_table_memory_bytes(model.table), 64);
        assert_null(kith_table_random(model.table, &model.rng));
        model_close(&model);
    }
}

static void a_key_costs_at_most_twelve_bytes_at_any_count(void **state)
{
    struct model model;
    model_open(&model, 60000, 1);
    double worst = 0, sum = 0;
    for (uint32_t i = 0; i < model.key_count; i++) {
        model_insert(&model, i);
        double each = (double)kith_table_memory_bytes(model.table) / (i + 1);
        if (i >= 100) {
            worst = each > worst ? each : worst;
            sum += each;
        }
    }
    print_message("bytes a key: worst %.2f, mean %.2f\n", worst, sum / (model.key_count - 100));
    assert_true(worst <= 12);
    assert_true(sum / (model.key_count - 100) <= 9.2);
    model_agrees(&model);
    model_close(&model);
}

static void a_small_table_is_small(void **state)
{
    struct model model;
    model_open(&model, 10, 1);
    assert_int_equal(kith_table_memory_bytes(model.table), 64);
    for (uint32_t i = 0; i < 9; i++)
        model_insert(&model, i);
    assert_int_equal(kith_table_memory_bytes(model.table), 128);
    model_insert(&model, 9);
    assert_int_equal(kith_table_memory_bytes(model.table), 192);
    model_close(&model);
}

static void memory_comes_back_as_a_table_empties(void **state)
{
    struct model model;
    model_open(&model, 50000, 2);
    for (uint32_t i = 0; i < model.key_count; i++)
        model_insert(&model, i);
    for (uint32_t left = model.key_count; left-- > 1;) {
        model_remove(&model, left);
        if (left >= 100)
            assert_true((double)kith_table_memory_bytes(model.table) / left < 16);
        if (left % 5000 == 0)
            model_agrees(&model);
    }
    model_close(&model);
}

static void going_back_and_forth_over_an_edge_does_not_move_segments(void **state)
{
    struct model model;
    model_open(&model, 20000, 3);
    for (uint32_t i = 0; i < model.key_count; i++) {
        model_insert(&model, i);
        model_remove(&model, i);
        model_insert(&model, i);
        size_t bytes = kith_table_memory_bytes(model.table);
        model_remove(&model, i); /* whatever the last insert grew stays */
        assert_true(i < 20 || kith_table_memory_bytes(model.table) == bytes);
        model_insert(&model, i);
        assert_true(i < 20 || kith_table_memory_bytes(model.table) == bytes);
    }
    model_close(&model);
}

struct seen {
    struct model *model;
    uint32_t *times; /* by key number */
    uint64_t from, calls;
    bool removes, removes_others;
};

static void see(void *arg, void *entry)
{
    struct seen *seen = arg;
    uint32_t number = number_of(entry);
    assert_ptr_equal(seen->model->entries[number], entry);
    seen->times[number]++;
    seen->calls++;
    if (seen->removes && number % 3 == 0)
        model_remove(seen->model, number);
    else if (seen->removes && number % 3 == 1)
        model_replace(seen->model, number);
    for (uint32_t i = 0; seen->removes_others && i < 3; i++)
        model_remove(seen->model, model_pick(seen->model));
}

static void seen_open(struct seen *seen, struct model *model)
{
    *seen = (struct seen){model, calloc(model->key_count, sizeof *seen->times), 0, 0, false, false};
    assert_non_null(seen->times);
}

static void a_scan_reports_every_entry_once(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 9, 10, 100, 1000, 5000, 30000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model;
        struct seen seen;
        model_open(&model, counts[i] + 1, 4);
        seen_open(&seen, &model);
        for (uint32_t k = 0; k < counts[i]; k++)
            model_insert(&model, k);
        uint64_t cursor = 0;
        do {
            seen.calls = 0;
            uint64_t next = kith_table_scan(model.table, cursor, see, &seen);
            assert_true(next == 0 || next > cursor);
            assert_true(next < (uint64_t)1 << 48);
            assert_true(seen.calls <= 40);
            cursor = next;
        } while (cursor);
        for (uint32_t k = 0; k < counts[i]; k++)
            assert_int_equal(seen.times[k], 1);
        free(seen.times);
        model_close(&model);
    }
}

static void a_cursor_that_never_was_is_harmless(void **state)
{
    struct model model;
    struct seen seen;
    model_open(&model, 3000, 5);
    seen_open(&seen, &model);
    for (uint32_t i = 0; i < model.key_count; i++)
        model_insert(&model, i);
    for (int i = 0; i < 5000; i++) {
        uint64_t cursor = kith_rng_next(&model.rng) >> kith_rng_below(&model.rng, 64);
        uint64_t next = kith_table_scan(model.table, cursor, see, &seen);
        assert_true(next == 0 || next > cursor);
    }
    assert_int_equal(kith_table_scan(model.table, UINT64_MAX, see, &seen), 0);
    free(seen.times);
    model_close(&model);
}

/* Keys below `stable` stay; the others come and go between the calls. */
static void scan_while_it_changes(uint32_t stable, uint32_t key_count, uint32_t burst, uint64_t seed)
{
    struct model model;
    struct seen seen;
    model_open(&model, key_count, seed);
    seen_open(&seen, &model);
    for (uint32_t i = 0; i < stable; i++)
        model_insert(&model, i);
    unsigned phase = (unsigned)(seed % 2), steps = 0;
    uint64_t cursor = 0;
    do {
        cursor = kith_table_scan(model.table, cursor, see, &seen);
        for (uint32_t i = 0; i < burst; i++) {
            uint32_t number = stable + (uint32_t)kith_rng_below(&model.rng, key_count - stable);
            if (phase)
                model_insert(&model, number);
            else
                model_remove(&model, number);
        }
        if (++steps % 25 == 0)
            phase = !phase;
    } while (cursor);
    for (uint32_t i = 0; i < stable; i++)
        assert_int_equal(seen.times[i], 1);
    model_agrees(&model);
    free(seen.times);
    model_close(&model);
}

static void what_stays_is_scanned_once_while_the_table_grows_and_shrinks(void **state)
{
    for (uint64_t seed = 0; seed < 6; seed++) {
        scan_while_it_changes(20, 2000, 50, seed);
        scan_while_it_changes(500, 30000, 400, seed);
        scan_while_it_changes(3000, 9000, 30, seed);
    }
}

static void a_cursor_tells_which_keys_it_has_passed(void **state)
{
    struct model model;
    struct seen seen;
    model_open(&model, 4000, 6);
    seen_open(&seen, &model);
    for (uint32_t i = 0; i < 2000; i++)
        model_insert(&model, i);
    uint64_t cursor = 0;
    while ((cursor = kith_table_scan(model.table, cursor, see, &seen)) != 0) {
        if (model.count < 4000)
            model_insert(&model, model.count); /* passed already or not: both happen */
        for (uint32_t i = 0; i < 2000; i += 7) {
            struct name name;
            name_init(&name, model.table, i);
            assert_int_equal(seen.times[i], kith_table_position(name.hash) < cursor);
        }
    }
    free(seen.times);
    model_close(&model);
}

static void a_scan_may_remove_and_replace_what_it_reports(void **state)
{
    static const uint32_t counts[] = {1, 5, 60, 700, 9000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model;
        struct seen seen;
        model_open(&model, counts[i], 7);
        seen_open(&seen, &model);
        seen.removes = true;
        for (uint32_t k = 0; k < counts[i]; k++)
            model_insert(&model, k);
        for (uint64_t cursor = kith_table_scan(model.table, 0, see, &seen); cursor;)
            cursor = kith_table_scan(model.table, cursor, see, &seen);
        for (uint32_t k = 0; k < counts[i]; k++)
            assert_int_equal(seen.times[k], 1);
        model_agrees(&model);
        free(seen.times);
        model_close(&model);
    }
}

static void a_scan_does_not_report_what_its_callback_removed(void **state)
{
    for (uint32_t count = 1; count < 6000; count = 2 * count + 1) {
        struct model model;
        struct seen seen;
        model_open(&model, count, count);
        seen_open(&seen, &model);
        seen.removes_others = true;
        for (uint32_t k = 0; k < count; k++)
            model_insert(&model, k);
        for (uint64_t cursor = kith_table_scan(model.table, 0, see, &seen); cursor;)
            cursor = kith_table_scan(model.table, cursor, see, &seen);
        for (uint32_t k = 0; k < count; k++)
            assert_true(model.entries[k] ? seen.times[k] == 1 : seen.times[k] <= 1);
        model_agrees(&model);
        free(seen.times);
        model_close(&model);
    }
}

static void every_entry_is_drawn_as_often_as_any_other(void **state)
{
    static const uint32_t counts[] = {1, 7, 100, 1100, 1500, 4000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model;
        model_open(&model, counts[i], 8);
        for (uint32_t k = 0; k < counts[i]; k++)
            model_insert(&model, k);
        uint32_t *times = calloc(counts[i], sizeof *times);
        assert_non_null(times);
        for (uint32_t n = 0; n < 200 * counts[i]; n++)
            times[number_of(kith_table_random(model.table, &model.rng))]++;
        double squares = 0;
        for (uint32_t k = 0; k < counts[i]; k++) {
            assert_in_range(times[k], 120, 300); /* 200, give or take seven times its deviation of 14 */
            squares += (times[k] - 200.0) * (times[k] - 200.0);
        }
        assert_true(squares / counts[i] < 300);
        free(times);
        model_close(&model);
    }
}

static void count_and_free(void *arg, void *entry)
{
    ++*(size_t *)arg;
    free(entry);
}

static void a_table_is_drained_in_steps(void **state)
{
    static const uint32_t counts[] = {0, 1, 30, 2500, 12000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model;
        model_open(&model, counts[i] + 1, 9);
        for (uint32_t k = 0; k < counts[i]; k++)
            model_insert(&model, k);
        size_t freed = 0, steps = 0;
        bool more = counts[i] > 0;
        while (more && steps++ < 20) {
            size_t before = freed;
            more = kith_table_drain(model.table, 100, count_and_free, &freed);
            assert_true(freed - before <= 100 + KITH_BUCKET_SLOTS);
            assert_int_equal(kith_table_count(model.table), counts[i] - freed);
        }
        kith_table_close(model.table, count_and_free, &freed);
        assert_int_equal(freed, counts[i]);
        free(model.entries);
    }
    kith_table_close(NULL, NULL, NULL);
}

static void prefetching_is_harmless_at_any_size(void **state)
{
    struct model model;
    model_open(&model, 3000, 10);
    for (uint32_t i = 0; i < model.key_count; i++) {
        uint64_t hash = kith_rng_next(&model.rng);
        kith_table_prefetch(model.table, hash);
        kith_table_prefetch_entry(model.table, hash);
        model_insert(&model, i);
    }
    model_agrees(&model);
    model_close(&model);
}

static void ignore(void *arg, void *entry)
{
}

/* What was inserted is there, what was refused is not, and the table is sound, whichever of its allocations
 * failed. */
static void a_failed_allocation_leaves_the_table_as_it_was(void **state)
{
    enum { count = 2600 };
    static void *entries[count], *in[count];
    static struct name names[count];
    struct kith_table *table;
    assert_int_equal(kith_table_open(&table, SEED), KITH_OK);
    for (uint32_t i = 0; i < count; i++) {
        name_init(&names[i], table, i);
        entries[i] = entry_of(&names[i], i);
    }
    kith_table_close(table, NULL, NULL);
    for (int n = 0; failing_malloc_sweep(&n);) {
        table = NULL;
        if (kith_table_open(&table, SEED) == KITH_ENOMEM) {
            assert_null(table);
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            bool is_in = kith_table_insert(table, entries[i], names[i].hash) == KITH_OK;
            in[i] = is_in ? entries[i] : NULL;
            assert_ptr_equal(kith_table_find(table, names[i].slice, names[i].hash), in[i]);
        }
        for (uint32_t i = 0; i < count; i++) {
            if (i % 16)
                assert_ptr_equal(kith_table_remove(table, names[i].slice, names[i].hash), in[i]);
        }
        for (uint32_t i = 0; i < count; i++)
            assert_ptr_equal(kith_table_find(table, names[i].slice, names[i].hash), i % 16 ? NULL : in[i]);
        int status = kith_table_check(table);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        kith_table_close(table, ignore, NULL);
    }
    for (uint32_t i = 0; i < count; i++)
        free(entries[i]);
}

static void with_no_memory_at_all_an_insert_is_refused_and_nothing_is_lost(void **state)
{
    struct model model;
    model_open(&model, 2000, 11);
    uint32_t refused = 0, squeezed = 0;
    for (uint32_t i = 0; i < model.key_count; i++) {
        struct name name;
        name_init(&name, model.table, i);
        void *entry = entry_of(&name, i);
        failing_malloc_arm(0);
        int status = kith_table_insert(model.table, entry, name.hash);
        bool failed = failing_malloc_disarm();
        assert_true(failed || status == KITH_OK);
        squeezed += failed && status == KITH_OK;
        if (status == KITH_OK) {
            model.entries[i] = entry;
            model.count++;
        } else {
            assert_int_equal(status, KITH_ENOMEM);
            refused++;
            free(entry);
            if (refused % 4 == 0)
                model_insert(&model, i); /* memory again */
        }
    }
    assert_true(refused > 20);
    assert_true(squeezed > 100); /* into the slots that are kept free for speed */
    model_agrees(&model);
    model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_gives_back_its_meta_key_and_payload),
        cmocka_unit_test(tags_are_compared_alike_by_vector_word_and_byte),
        cmocka_unit_test(a_bucket_gives_back_nine_pointers),
        cmocka_unit_test(any_sequence_of_operations_does_what_a_plain_model_does),
        cmocka_unit_test(a_key_costs_at_most_twelve_bytes_at_any_count),
        cmocka_unit_test(a_small_table_is_small),
        cmocka_unit_test(memory_comes_back_as_a_table_empties),
        cmocka_unit_test(going_back_and_forth_over_an_edge_does_not_move_segments),
        cmocka_unit_test(a_scan_reports_every_entry_once),
        cmocka_unit_test(a_cursor_that_never_was_is_harmless),
        cmocka_unit_test(what_stays_is_scanned_once_while_the_table_grows_and_shrinks),
        cmocka_unit_test(a_cursor_tells_which_keys_it_has_passed),
        cmocka_unit_test(a_scan_may_remove_and_replace_what_it_reports),
        cmocka_unit_test(a_scan_does_not_report_what_its_callback_removed),
        cmocka_unit_test(every_entry_is_drawn_as_often_as_any_other),
        cmocka_unit_test(a_table_is_drained_in_steps),
        cmocka_unit_test(prefetching_is_harmless_at_any_size),
        cmocka_unit_test(a_failed_allocation_leaves_the_table_as_it_was),
        cmocka_unit_test(with_no_memory_at_all_an_insert_is_refused_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
