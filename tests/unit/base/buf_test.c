/* Buffers, varints, hash. */
#include "base/buf.h"
#include "base/hash.h"
#include "base/varint.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void a_buf_keeps_what_was_appended_and_drops_what_is_consumed(void **state)
{
    struct kith_buf b;
    kith_buf_init(&b);
    for (int i = 0; i < 1000; i++)
        kith_buf_append_format(&b, "%d,", i);
    kith_buf_consume(&b, 4);
    assert_memory_equal(b.data, "2,3,", 4);
    assert_false(b.failed);
    kith_buf_fini(&b);
}

static void a_failed_allocation_sticks_and_leaks_nothing(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_buf b;
        kith_buf_init(&b);
        for (int i = 0; i < 300; i++)
            kith_buf_append_text(&b, "0123456789");
        assert_true(b.failed || b.length == 3000);
        kith_buf_fini(&b);
    }
}

static void every_varint_comes_back_and_none_is_read_past_its_end(void **state)
{
    for (int shift = 0; shift < 64; shift++) {
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t value = ((uint64_t)1 << shift) + (uint64_t)delta, back = 0;
            uint8_t bytes[KITH_VARINT_MAX];
            size_t n = kith_varint_put(bytes, value);
            assert_int_equal(n, kith_varint_size(value));
            assert_int_equal(kith_varint_get(bytes, n, &back), n);
            assert_true(back == value);
            for (size_t cut = 0; cut < n; cut++)
                assert_int_equal(kith_varint_get(bytes, cut, &back), 0);
        }
    }
    uint64_t value;
    const uint8_t too_long[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    assert_int_equal(kith_varint_get(too_long, sizeof too_long, &value), 0);
}

static void siphash_depends_on_every_byte_and_the_seed(void **state)
{
    char text[64] = {0};
    struct kith_hash_seed a = {1, 2}, b = {1, 3};
    uint64_t base = kith_hash(a, text, sizeof text);
    assert_true(base != kith_hash(b, text, sizeof text));
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = 1;
        assert_true(base != kith_hash(a, text, sizeof text));
        text[i] = 0;
        assert_true(kith_hash(a, text, i) != kith_hash(a, text, i + 1 > sizeof text - 1 ? 0 : i + 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buf_keeps_what_was_appended_and_drops_what_is_consumed),
        cmocka_unit_test(a_failed_allocation_sticks_and_leaks_nothing),
        cmocka_unit_test(every_varint_comes_back_and_none_is_read_past_its_end),
        cmocka_unit_test(siphash_depends_on_every_byte_and_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
