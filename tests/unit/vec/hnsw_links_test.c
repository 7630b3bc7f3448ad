/* Links in three bytes and in four: what a reader may see of a change, slots that no link can name, and slots of 2^24
 * and more. */
#include "base/varint.h"
#include "failing_malloc.h"
#include "vec/gather.h"
#include "vec/index.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { DIM = 8, COUNT = 300 };

static void check(const struct kith_hnsw *h)
{
    struct kith_error error;
    if (kith_hnsw_check(h, &error) != KITH_OK)
        fail_msg("%s", error.text);
}

static void a_link_is_read_whole_or_not_at_all_while_it_changes(void **state)
{
    _Atomic uint16_t low[2] = {LINK_LOW_NONE, LINK_LOW_NONE};
    _Atomic uint8_t high[2] = {0}, top[2] = {0};
    struct links links = {.low = low, .high = high, .top = top, .room = 2};
    uint32_t old = 0x2a123456, new = 0x01abcdef;
    assert_int_equal(link_peek(links, 0), KITH_HNSW_NONE);
    link_set(links, 0, old);
    assert_int_equal(link_peek(links, 0), old);
    assert_int_equal(links_count(links), 1);
    /* The writer's steps one by one. */
    low[0] = LINK_LOW_NONE;
    assert_int_equal(link_peek(links, 0), KITH_HNSW_NONE);
    high[0] = new >> 16 & 0xff;
    assert_int_equal(link_peek(links, 0), KITH_HNSW_NONE);
    top[0] = new >> 24;
    assert_int_equal(link_peek(links, 0), KITH_HNSW_NONE);
    low[0] = new & 0xffff;
    assert_int_equal(link_peek(links, 0), new);
    assert_int_equal(link_get(links, 0), new);
    link_set(links, 0, KITH_HNSW_NONE);
    assert_int_equal(links_count(links), 0);
    links.top = NULL;
    link_set(links, 1, 0x00fffffe);
    assert_int_equal(link_peek(links, 1), 0x00fffffe);
}

static void no_slot_is_handed_out_that_a_link_cannot_name(void **state)
{
    enum { ADDED = 140000 };
    struct kith_hnsw *h;
    struct kith_hnsw_options options = {
        .dim = 1, .codes = KITH_HNSW_F32, .metric = KITH_HNSW_COSINE, .m = 2, .ef_construction = 1};
    const float one = 1;
    uint32_t slot, highest = 0, *slots = malloc(ADDED * sizeof *slots);
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    for (uint32_t i = 0; i < ADDED; i++) {
        assert_int_equal(kith_hnsw_add(h, &one, 0, i, &slot), KITH_OK);
        assert_true(slot_is_linkable(slot));
        highest = slot > highest ? slot : highest;
        slots[i] = slot;
    }
    assert_int_equal(highest, ADDED - 1 + 2); /* two were left out: 65,535 and 131,071 */
    for (uint32_t i = 0; i < ADDED; i++)
        if (slots[i] > 65500)
            assert_int_equal(kith_hnsw_remove(h, slots[i]), KITH_OK);
    free(slots);
    assert_int_equal(kith_hnsw_count(h), 65501);
    kith_hnsw_close(h);
}

/* The elements of a small index, put back at other slots. */
static void a_set_of_more_than_2_to_the_24_slots_links_them(void **state)
{
    struct kith_hnsw *small, *h, *again;
    struct kith_hnsw_options options = {
        .dim = DIM, .codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .m = 4, .ef_construction = 50};
    float *rows = test_clusters(COUNT, DIM, 5, 1);
    struct kith_buf header, record;
    uint32_t at[COUNT], slot, list[64], crossing = 0;
    kith_buf_init(&header);
    kith_buf_init(&record);
    assert_int_equal(kith_hnsw_open(&small, &options), KITH_OK);
    kith_hnsw_save_header(small, &header);
    header.length--; /* the slot end, of an empty one; a set may grow to four times that while it is saved */
    kith_buf_append_varint(&header, 1 << 23);
    assert_int_equal(kith_hnsw_restore_open(&h, kith_buf_slice(&header), &options), KITH_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(kith_hnsw_add(small, rows + i * DIM, 0, i, &slot), KITH_OK);
        at[i] = i % 2 ? LINK_WIDE_FROM + i : i;
        kith_buf_clear(&record);
        kith_hnsw_save_element(small, slot, &record);
        assert_int_equal(kith_hnsw_restore_element(h, at[i], kith_buf_slice(&record), i), KITH_OK);
    }
    assert_int_equal(kith_hnsw_restore_finish(h), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    check(h);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct kith_hnsw_hit hits[1];
        struct kith_hnsw_query query = {.vector = rows + i * DIM, .k = 1, .ef = 32};
        assert_int_equal(kith_hnsw_search(h, &query, hits, NULL), 1);
        assert_int_equal(hits[0].slot, at[i]);
        uint32_t count = kith_hnsw_links(h, at[i], 0, list, 64);
        for (uint32_t k = 0; k < count; k++)
            crossing += (list[k] < LINK_WIDE_FROM) != (at[i] < LINK_WIDE_FROM);
    }
    assert_true(crossing > COUNT);
    /* Saved and read again, the links are the same. */
    kith_buf_clear(&header);
    kith_hnsw_save_header(h, &header);
    assert_int_equal(kith_hnsw_restore_open(&again, kith_buf_slice(&header), &options), KITH_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        kith_buf_clear(&record);
        kith_hnsw_save_element(h, at[i], &record);
        assert_int_equal(kith_hnsw_restore_element(again, at[i], kith_buf_slice(&record), i), KITH_OK);
    }
    assert_int_equal(kith_hnsw_restore_finish(again), KITH_OK);
    check(again);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t other[64], count = kith_hnsw_links(h, at[i], 0, list, 64);
        assert_int_equal(kith_hnsw_links(again, at[i], 0, other, 64), count);
        assert_memory_equal(list, other, count * sizeof *list);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(kith_hnsw_remove(again, at[i]), KITH_OK);
    assert_int_equal(kith_hnsw_settle(again), KITH_OK);
    assert_true(kith_hnsw_bytes(again) < 1 << 24); /* the visited map of 2^24 slots, for the most part */
    kith_hnsw_close(again);
    kith_hnsw_close(h);
    kith_hnsw_close(small);
    kith_buf_fini(&header);
    kith_buf_fini(&record);
    free(rows);
}

/* Rows of any length, with lists of any length in them, and slots that are seen, past the end, and there twice. */
static void every_form_of_gather_finds_what_the_plain_one_does(void **state)
{
    enum { SLOTS = 300, ROOM_MAX = 70, ROUNDS = 20000 };
    static uint16_t low[ROOM_MAX + 1];
    static uint8_t high[ROOM_MAX + 1], top[ROOM_MAX + 1];
    static uint64_t map[(3 << 16) / 64], other[(3 << 16) / 64], *maps[] = {map, other};
    struct kith_rng rng;
    kith_rng_seed(&rng, 11);
    for (enum kith_kernel_level level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512; level++) {
        hnsw_gather *gather = hnsw_gather_pick(kith_kernels_pick(level)->level);
        for (unsigned round = 0; round < ROUNDS; round++) {
            unsigned shift = (unsigned)kith_rng_below(&rng, 2); /* rows are aligned to two bytes, no more */
            struct links links = {.low = (_Atomic uint16_t *)low + shift,
                                  .high = (_Atomic uint8_t *)high + shift,
                                  .top = round % 4 ? NULL : (_Atomic uint8_t *)top + shift,
                                  .room = 1 + (uint32_t)kith_rng_below(&rng, ROOM_MAX)};
            uint32_t count = (uint32_t)kith_rng_below(&rng, links.room + 1), found[2];
            uint32_t end = (2 << 16) + (uint32_t)kith_rng_below(&rng, SLOTS);
            uint32_t out[2][ROOM_MAX + GATHER_SPARE];
            memset(low, 0xff, sizeof low);
            for (uint32_t i = 0; i < count; i++) {
                uint32_t slot =
                    (uint32_t)kith_rng_below(&rng, 3) << 16 | (uint32_t)kith_rng_below(&rng, SLOTS);
                link_set(links, i, slot | (links.top && i % 5 == 0 ? 1u << 24 : 0));
            }
            memset(map, 0, sizeof map);
            for (unsigned i = 0; i < SLOTS / 2; i++)
                map[kith_rng_below(&rng, 3) << 10 | kith_rng_below(&rng, SLOTS / 64)] |= kith_rng_next(&rng);
            memcpy(other, map, sizeof map);
            for (unsigned i = 0; i < 2; i++)
                found[i] = (i ? gather : hnsw_gather_scalar)(links, maps[i], end, out[i]);
            assert_int_equal(found[0], found[1]);
            assert_memory_equal(out[0], out[1], found[0] * sizeof out[0][0]);
            assert_memory_equal(map, other, sizeof map);
            for (uint32_t i = 0; i < found[0]; i++)
                assert_true(out[0][i] < end);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_is_read_whole_or_not_at_all_while_it_changes),
        cmocka_unit_test(every_form_of_gather_finds_what_the_plain_one_does),
        cmocka_unit_test(no_slot_is_handed_out_that_a_link_cannot_name),
        cmocka_unit_test(a_set_of_more_than_2_to_the_24_slots_links_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
