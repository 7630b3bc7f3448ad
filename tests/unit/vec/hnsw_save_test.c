/* Saving and restoring: the same elements, links and answers; and records that are out of date, cut or wrong. */
#include "failing_malloc.h"
#include "vec/hnsw.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { ROWS = 3000, DIM = 24 };

static const struct kith_hnsw_options options = {
    .dim = DIM, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .m = 8, .ef_construction = 60, .seed = 9};

static void check(const struct kith_hnsw *h)
{
    struct kith_error error;
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

/* Some elements were removed, some are in the tail. */
static struct kith_hnsw *build(enum kith_hnsw_codes codes)
{
    struct kith_hnsw *h;
    struct kith_hnsw_options o = options;
    o.codes = codes;
    float *rows = test_clusters(ROWS, DIM, 20, 1);
    uint32_t slot;
    assert_int_equal(kith_hnsw_open(&h, &o), KITH_OK);
    for (uint32_t i = 0; i < ROWS - 50; i++)
        assert_int_equal(kith_hnsw_add(h, rows + i * DIM, 0, i, &slot), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(kith_hnsw_remove(h, i * 7), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    for (uint32_t i = ROWS - 50; i < ROWS; i++)
        assert_int_equal(kith_hnsw_add(h, rows + i * DIM, 0, i, &slot), KITH_OK);
    assert_int_equal(kith_hnsw_remove(h, 1), KITH_OK); /* not repaired yet */
    free(rows);
    return h;
}

struct saved {
    struct kith_buf header, *records;
    uint32_t end;
};

static struct saved save(const struct kith_hnsw *h)
{
    struct saved saved = {.end = kith_hnsw_slot_end(h)};
    saved.records = calloc(saved.end, sizeof *saved.records);
    kith_buf_init(&saved.header);
    kith_hnsw_save_header(h, &saved.header);
    for (uint32_t slot = 0; slot < saved.end; slot++)
        if (kith_hnsw_is_live(h, slot))
            kith_hnsw_save_element(h, slot, &saved.records[slot]);
    return saved;
}

static void saved_fini(struct saved *saved)
{
    for (uint32_t i = 0; i < saved->end; i++)
        kith_buf_fini(&saved->records[i]);
    free(saved->records);
    kith_buf_fini(&saved->header);
}

/* Every `skip`-th record left out (0: none). */
static int restore(struct kith_hnsw **out, const struct saved *saved, uint32_t skip)
{
    int rc = kith_hnsw_restore_open(out, kith_buf_slice(&saved->header), &options);
    for (uint32_t i = saved->end; i-- > 0 && rc == KITH_OK;)
        if (saved->records[i].length && (!skip || i % skip))
            rc = kith_hnsw_restore_element(*out, i, kith_buf_slice(&saved->records[i]), i);
    return rc == KITH_OK ? kith_hnsw_restore_finish(*out) : rc;
}

static void a_restored_index_equals_the_saved_one(void **state)
{
    static const enum kith_hnsw_codes codes[] = {KITH_HNSW_F32, KITH_HNSW_I8, KITH_HNSW_BIN};
    float *queries = test_clusters(30, DIM, 20, 2);
    for (size_t c = 0; c < 3; c++) {
        struct kith_hnsw *a = build(codes[c]), *b = NULL;
        struct saved saved = save(a);
        assert_int_equal(restore(&b, &saved, 0), KITH_OK);
        check(b);
        assert_int_equal(kith_hnsw_count(a), kith_hnsw_count(b));
        assert_int_equal(kith_hnsw_get_options(b)->m, 8);
        assert_int_equal(kith_hnsw_get_backlog(b).tail, 50);
        for (uint32_t slot = 0; slot < saved.end; slot++) {
            assert_int_equal(kith_hnsw_is_live(a, slot), kith_hnsw_is_live(b, slot));
            if (!kith_hnsw_is_live(a, slot))
                continue;
            float x[DIM], y[DIM];
            uint32_t m[16], n[16];
            kith_hnsw_vector(a, slot, x);
            kith_hnsw_vector(b, slot, y);
            assert_memory_equal(x, y, sizeof x);
            assert_int_equal(kith_hnsw_level(a, slot), kith_hnsw_level(b, slot));
            for (unsigned level = 0; level <= kith_hnsw_level(a, slot); level++) {
                uint32_t count = kith_hnsw_links(a, slot, level, m, 16);
                assert_int_equal(kith_hnsw_links(b, slot, level, n, 16), count);
                assert_memory_equal(m, n, count * sizeof *m);
            }
        }
        for (uint32_t q = 0; q < 30; q++) {
            struct kith_hnsw_hit x[10], y[10];
            struct kith_hnsw_query query = {.vector = queries + q * DIM, .k = 10, .exact = q % 2};
            assert_int_equal(kith_hnsw_search(a, &query, x, NULL), 10);
            assert_int_equal(kith_hnsw_search(b, &query, y, NULL), 10);
            for (int i = 0; i < 10; i++)
                assert_true(x[i].distance == y[i].distance);
        }
        assert_int_equal(kith_hnsw_settle(b), KITH_OK);
        check(b);
        kith_hnsw_close(a);
        kith_hnsw_close(b);
        saved_fini(&saved);
    }
    free(queries);
}

static void links_to_elements_that_are_gone_are_dropped(void **state)
{
    struct kith_hnsw *a = build(KITH_HNSW_I8), *b = NULL;
    struct saved saved = save(a);
    for (uint32_t skip = 2; skip < 5; skip++) {
        assert_int_equal(restore(&b, &saved, skip), KITH_OK);
        assert_int_equal(kith_hnsw_settle(b), KITH_OK);
        check(b);
        kith_hnsw_close(b);
    }
    kith_hnsw_close(a);
    saved_fini(&saved);
}

static void records_are_taken_in_any_order_once(void **state)
{
    struct kith_hnsw *a = build(KITH_HNSW_I8), *b;
    struct saved saved = save(a);
    assert_int_equal(kith_hnsw_restore_open(&b, kith_buf_slice(&saved.header), &options), KITH_OK);
    assert_int_equal(kith_hnsw_restore_element(b, 2000, kith_buf_slice(&saved.records[2000]), 0), KITH_OK);
    assert_int_equal(kith_hnsw_restore_element(b, 3, kith_buf_slice(&saved.records[3]), 0), KITH_OK);
    assert_int_equal(kith_hnsw_restore_element(b, 3, kith_buf_slice(&saved.records[3]), 0), KITH_EEXIST);
    assert_int_equal(kith_hnsw_restore_element(b, KITH_HNSW_NONE, kith_buf_slice(&saved.records[3]), 0),
                     KITH_ECORRUPT);
    assert_int_equal(kith_hnsw_restore_finish(b), KITH_OK);
    assert_int_equal(kith_hnsw_settle(b), KITH_OK);
    check(b);
    assert_int_equal(kith_hnsw_count(b), 2);
    kith_hnsw_close(a);
    kith_hnsw_close(b);
    saved_fini(&saved);
}

static void a_cut_record_is_refused_at_every_length(void **state)
{
    struct kith_hnsw *a = build(KITH_HNSW_I8), *b;
    struct saved saved = save(a);
    for (size_t length = 0; length < saved.header.length; length++) {
        struct kith_hnsw *none = NULL;
        struct kith_slice cut = kith_slice(saved.header.data, length);
        assert_int_equal(kith_hnsw_restore_open(&none, cut, &options), KITH_ECORRUPT);
        assert_null(none);
    }
    assert_int_equal(kith_hnsw_restore_open(&b, kith_buf_slice(&saved.header), &options), KITH_OK);
    for (size_t length = 0; length < saved.records[2].length; length++)
        assert_int_equal(kith_hnsw_restore_element(b, 2, kith_slice(saved.records[2].data, length), 0),
                         KITH_ECORRUPT);
    kith_buf_append_char(&saved.records[2], 0);
    assert_int_equal(kith_hnsw_restore_element(b, 2, kith_buf_slice(&saved.records[2]), 0), KITH_ECORRUPT);
    saved.header.data[0] = 99;
    struct kith_hnsw *none = NULL;
    assert_int_equal(kith_hnsw_restore_open(&none, kith_buf_slice(&saved.header), &options), KITH_EVERSION);
    kith_hnsw_close(a);
    kith_hnsw_close(b);
    saved_fini(&saved);
}

/* Whether 4-bit codes are rotated is settled by the first element: a header that does not say belongs to an empty set, and
 * the next element would settle it against those that are there. */
static void four_bit_elements_need_a_header_that_says_whether_they_are_rotated(void **state)
{
    static const enum kith_hnsw_layout layouts[] = {KITH_HNSW_COMPACT, KITH_HNSW_SPREAD};
    for (size_t i = 0; i < 2; i++) {
        struct kith_hnsw_options o = options;
        o.codes = KITH_HNSW_I4;
        o.layout = layouts[i];
        struct kith_hnsw *a, *b;
        struct kith_buf empty, record;
        float vector[DIM] = {1, -1};
        uint32_t slot;
        kith_buf_init(&empty);
        kith_buf_init(&record);
        assert_int_equal(kith_hnsw_open(&a, &o), KITH_OK);
        kith_hnsw_save_header(a, &empty);
        assert_int_equal(kith_hnsw_add(a, vector, 0, 0, &slot), KITH_OK);
        kith_hnsw_save_element(a, slot, &record);
        assert_int_equal(kith_hnsw_restore_open(&b, kith_buf_slice(&empty), &o), KITH_OK);
        assert_int_equal(kith_hnsw_restore_element(b, slot, kith_buf_slice(&record), 0), KITH_ECORRUPT);
        assert_int_equal(kith_hnsw_restore_finish(b), KITH_OK);
        assert_int_equal(kith_hnsw_add(b, vector, 0, 0, &slot), KITH_OK);
        assert_int_equal(kith_hnsw_settle(b), KITH_OK);
        check(b);
        kith_hnsw_close(a);
        kith_hnsw_close(b);
        kith_buf_fini(&empty);
        kith_buf_fini(&record);
    }
}

static void wrong_bytes_never_break_the_graph(void **state)
{
    enum { ROUNDS = 60, SEED = 31 };
    struct kith_hnsw *a = build(KITH_HNSW_F32);
    struct saved saved = save(a);
    struct kith_rng rng;
    printf("seed %d\n", SEED);
    kith_rng_seed(&rng, SEED);
    for (int round = 0; round < ROUNDS; round++) {
        struct kith_hnsw *b;
        assert_int_equal(kith_hnsw_restore_open(&b, kith_buf_slice(&saved.header), &options), KITH_OK);
        for (uint32_t slot = 0; slot < 400; slot++) {
            struct kith_buf *record = &saved.records[slot];
            if (!record->length)
                continue;
            size_t at = (size_t)kith_rng_below(&rng, record->length);
            char kept = record->data[at];
            if (slot % 3)
                record->data[at] = (char)kith_rng_next(&rng);
            int rc = kith_hnsw_restore_element(b, slot, kith_buf_slice(record), slot);
            assert_true(rc == KITH_OK || rc == KITH_ECORRUPT);
            record->data[at] = kept;
        }
        assert_int_equal(kith_hnsw_restore_finish(b), KITH_OK);
        assert_int_equal(kith_hnsw_settle(b), KITH_OK);
        check(b);
        struct kith_hnsw_hit hits[10];
        float query[DIM] = {1};
        assert_int_equal(kith_hnsw_search(b, &(struct kith_hnsw_query){.vector = query, .k = 10}, hits, NULL),
                         10);
        kith_hnsw_close(b);
    }
    kith_hnsw_close(a);
    saved_fini(&saved);
}

/* The first half of the slots as they were, the second half after a third of the rows changed; small sets too, whose
 * changes alone would not be worth a sweep. */
static void what_was_saved_while_it_changed_can_be_reached_once_the_work_is_done(void **state)
{
    static const uint32_t sizes[] = {60, 150, 400, 900, 2000};
    struct kith_hnsw_options o = options;
    o.m = 3;
    o.ef_construction = 12;
    for (uint32_t round = 0; round < 25; round++) {
        uint32_t count = sizes[round % 5], slot;
        float *rows = test_clusters(2 * count, DIM, 20, round);
        struct kith_hnsw *a, *b;
        struct kith_rng rng;
        kith_rng_seed(&rng, round);
        assert_int_equal(kith_hnsw_open(&a, &o), KITH_OK);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(kith_hnsw_add(a, rows + i * DIM, 0, i, &slot), KITH_OK);
        assert_int_equal(kith_hnsw_settle(a), KITH_OK);
        struct saved early = save(a);
        for (uint32_t i = 0; i < count / 3; i++) {
            slot = kith_hnsw_random(a, &rng);
            assert_int_equal(kith_hnsw_remove(a, slot), KITH_OK);
            if (i % 2)
                assert_int_equal(kith_hnsw_add(a, rows + (count + i) * DIM, 0, i, &slot), KITH_OK);
            if (i % 20 == 0)
                assert_int_equal(kith_hnsw_settle(a), KITH_OK);
        }
        assert_int_equal(kith_hnsw_settle(a), KITH_OK);
        struct saved late = save(a);
        assert_int_equal(kith_hnsw_restore_open(&b, kith_buf_slice(&late.header), &o), KITH_OK);
        for (uint32_t i = 0; i < late.end; i++) {
            struct kith_buf *record =
                i < late.end / 2 && i < early.end ? &early.records[i] : &late.records[i];
            if (record->length)
                assert_int_equal(kith_hnsw_restore_element(b, i, kith_buf_slice(record), i), KITH_OK);
        }
        assert_int_equal(kith_hnsw_restore_finish(b), KITH_OK);
        while (kith_hnsw_work(b, 64, 0) > 0)
            ;
        check(b);
        assert_false(kith_hnsw_get_backlog(b).work_pending);
        kith_hnsw_close(a);
        kith_hnsw_close(b);
        saved_fini(&early);
        saved_fini(&late);
        free(rows);
    }
}

static void an_allocation_failure_while_restoring_leaks_nothing(void **state)
{
    struct kith_hnsw *a = build(KITH_HNSW_I8);
    struct saved saved = save(a);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_hnsw *b = NULL;
        int rc = restore(&b, &saved, 0);
        assert_true(rc == KITH_OK || rc == KITH_ENOMEM);
        kith_hnsw_close(b);
    }
    kith_hnsw_close(a);
    saved_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_index_equals_the_saved_one),
        cmocka_unit_test(links_to_elements_that_are_gone_are_dropped),
        cmocka_unit_test(records_are_taken_in_any_order_once),
        cmocka_unit_test(a_cut_record_is_refused_at_every_length),
        cmocka_unit_test(four_bit_elements_need_a_header_that_says_whether_they_are_rotated),
        cmocka_unit_test(wrong_bytes_never_break_the_graph),
        cmocka_unit_test(what_was_saved_while_it_changed_can_be_reached_once_the_work_is_done),
        cmocka_unit_test(an_allocation_failure_while_restoring_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
