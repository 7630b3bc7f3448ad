/* Memory that is made ready before an element needs it: where it is, and that it goes back. */
#include "base/os.h"
#include "failing_malloc.h"
#include "vec/index.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A row of 8 KB: 256 of them are a huge page, and the chunk from there on has huge pages only. */
enum { DIM = 2048, FIRST = 600, MORE = 1200, EF = 8 };

static struct kith_hnsw *open_index(void)
{
    struct kith_hnsw *h = NULL;
    struct kith_hnsw_options options = {.dim = DIM,
                                        .codes = KITH_HNSW_F32,
                                        .metric = KITH_HNSW_L2SQ,
                                        .keep = KITH_HNSW_KEEP_NONE,
                                        .m = 4,
                                        .seed = 5};
    assert_int_equal(kith_hnsw_open(&h, &options), KITH_OK);
    return h;
}

static void add_and_link(struct kith_hnsw *h, uint32_t count, struct kith_rng *rng)
{
    static float vector[DIM];
    uint32_t slot;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t d = 0; d < 8; d++)
            vector[d] = test_normal(rng);
        assert_int_equal(kith_hnsw_add(h, vector, EF, 0, &slot), KITH_OK);
        assert_int_equal(kith_hnsw_work(h, 1, 0), 1);
    }
}

/* Which part of the rows [from, until) has memory. */
static double resident(const struct kith_hnsw *h, uint32_t from, uint32_t until)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), there = 0, count = 0;
    for (uint32_t row = from; row < until; row++) {
        uintptr_t start = ((uintptr_t)code_at(h, row) + page - 1) & ~(page - 1);
        for (uintptr_t at = start; at < (uintptr_t)code_at(h, row) + h->codes.unit_bytes; at += page) {
            unsigned char in_memory = 0;
            assert_int_equal(mincore((void *)at, page, &in_memory), 0);
            there += in_memory & 1;
            count++;
        }
    }
    return count ? (double)there / (double)count : 0;
}

static bool can_prepare(void)
{
    void *pages = kith_os_pages_open(1 << 20);
    bool can = pages && kith_os_pages_prepare(pages, 1 << 20);
    kith_os_pages_close(pages, 1 << 20);
    return can;
}

static uint32_t chunk_end(const struct kith_hnsw *h)
{
    return region_chunk_start(h->elements.shift,
                              region_chunk_of(h->elements.shift, kith_hnsw_slot_end(h) - 1) + 1);
}

static void those_who_link_make_memory_ready_for_what_comes(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 11);
    if (!can_prepare())
        skip();
    struct kith_hnsw *h = open_index();
    add_and_link(h, FIRST, &rng);
    uint32_t end = kith_hnsw_slot_end(h), ahead = hnsw_ahead_slots(h);
    assert_int_equal(ahead, FIRST / 8);
    assert_true(end + ahead < chunk_end(h));
    assert_true(resident(h, 0, end + ahead) == 1);
    kith_hnsw_trim(h);
    assert_true(resident(h, 0, end) == 1);
    assert_true(resident(h, end + 1, chunk_end(h)) == 0);
    add_and_link(h, 10, &rng); /* and again */
    assert_true(resident(h, 0, end + ahead) == 1);
    kith_hnsw_close(h);
}

static void the_next_chunk_is_there_before_the_last_is_full(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 12);
    bool can = can_prepare();
    struct kith_hnsw *h = open_index();
    add_and_link(h, FIRST, &rng);
    uint32_t full = chunk_end(h);
    add_and_link(h, full - hnsw_ahead_slots(h) / 2 - kith_hnsw_slot_end(h), &rng);
    assert_true(kith_hnsw_slot_end(h) < full);
    assert_true(slot_has_chunk(h, full));
    assert_true(!can || resident(h, full, full + 1) == 1);
    add_and_link(h, MORE, &rng);
    for (uint32_t slot = 0, end = kith_hnsw_slot_end(h); slot < end; slot++)
        assert_int_equal(kith_hnsw_remove(h, slot), KITH_OK);
    assert_int_equal(kith_hnsw_settle(h), KITH_OK);
    assert_int_equal(kith_hnsw_count(h), 0);
    assert_int_equal(atomic_load(&h->chunks), 0); /* the one that was opened ahead, too */
    add_and_link(h, 20, &rng);
    kith_hnsw_close(h);
}

static void a_chunk_that_cannot_be_opened_ahead_is_opened_when_it_is_needed(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_rng rng;
        kith_rng_seed(&rng, 13);
        struct kith_hnsw *h = NULL;
        struct kith_hnsw_options options = {.dim = DIM,
                                            .codes = KITH_HNSW_F32,
                                            .metric = KITH_HNSW_L2SQ,
                                            .keep = KITH_HNSW_KEEP_NONE,
                                            .m = 4,
                                            .seed = 5};
        if (kith_hnsw_open(&h, &options) != KITH_OK)
            continue;
        float vector[DIM] = {0};
        uint32_t slot, refused = 0;
        for (uint32_t i = 0; i < 520; i++) {
            vector[0] = (float)i;
            if (kith_hnsw_add(h, vector, EF, 0, &slot) != KITH_OK)
                refused++;
        }
        assert_true(refused <= 1);
        assert_int_equal(kith_hnsw_count(h), 520 - refused);
        failing_malloc_disarm();
        kith_hnsw_close(h);
    }
}

static void small_sets_are_left_alone(void **state)
{
    struct kith_hnsw *h = open_index();
    struct kith_rng rng;
    kith_rng_seed(&rng, 14);
    add_and_link(h, 100, &rng);
    assert_int_equal(hnsw_ahead_slots(h), 0);
    assert_false(slot_has_chunk(h, chunk_end(h)));
    kith_hnsw_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_who_link_make_memory_ready_for_what_comes),
        cmocka_unit_test(the_next_chunk_is_there_before_the_last_is_full),
        cmocka_unit_test(a_chunk_that_cannot_be_opened_ahead_is_opened_when_it_is_needed),
        cmocka_unit_test(small_sets_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
