/* Reply bytes in both protocols, and what happens when memory runs out. */
#include "failing_malloc.h"
#include "wire/reply.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void write_one_of_each(struct kith_reply *r)
{
    kith_reply_ok(r);
    kith_reply_simple(r, "PONG");
    kith_reply_error(r, "ERR a\r\nb\n");
    kith_reply_error_format(r, "ERR unknown '%s' %d", "x\ny", 7);
    kith_reply_int(r, 0);
    kith_reply_int(r, -42);
    kith_reply_int(r, INT64_MIN);
    kith_reply_int(r, INT64_MAX);
    kith_reply_bulk(r, KITH_SLICE("a\r\nb"));
    kith_reply_bulk(r, (struct kith_slice){0});
    kith_reply_bulk_text(r, "0123456789");
    kith_reply_bulk_int(r, -100);
    kith_reply_bulk_format(r, "%s=%d", "n", 5);
    kith_reply_null(r);
    kith_reply_null_array(r);
    kith_reply_array(r, 0);
    kith_reply_map(r, 1);
    kith_reply_bool(r, true);
    kith_reply_bool(r, false);
    kith_reply_set(r, 10);
    kith_reply_push(r, 2);
    kith_reply_double(r, 0.1);
    kith_reply_double(r, 3);
    kith_reply_double(r, INFINITY);
    kith_reply_double(r, -INFINITY);
    kith_reply_double(r, NAN);
    kith_reply_big_number(r, KITH_SLICE("-123456789012345678901234567890"));
    kith_reply_verbatim(r, "txt", KITH_SLICE("hi"));
    char *room = kith_reply_bulk_room(r, 3);
    if (room)
        memcpy(room, "xyz", 3);
}

#define SHARED                                                                                               \
    "+OK\r\n+PONG\r\n-ERR a  b\r\n-ERR unknown 'x y' 7\r\n:0\r\n:-42\r\n:-9223372036854775808\r\n"           \
    ":9223372036854775807\r\n$4\r\na\r\nb\r\n$0\r\n\r\n$10\r\n0123456789\r\n$4\r\n-100\r\n$3\r\nn=5\r\n"

static const char golden2[] =
    SHARED "$-1\r\n*-1\r\n*0\r\n*2\r\n:1\r\n:0\r\n*10\r\n*2\r\n$3\r\n0.1\r\n$1\r\n3\r\n"
           "$3\r\ninf\r\n$4\r\n-inf\r\n$3\r\nnan\r\n"
           "$31\r\n-123456789012345678901234567890\r\n$2\r\nhi\r\n$3\r\nxyz\r\n";
static const char golden3[] =
    SHARED "_\r\n_\r\n*0\r\n%1\r\n#t\r\n#f\r\n~10\r\n>2\r\n,0.1\r\n,3\r\n,inf\r\n,-inf\r\n"
           ",nan\r\n(-123456789012345678901234567890\r\n=6\r\ntxt:hi\r\n$3\r\nxyz\r\n";

static void each_shape_has_its_bytes_in_both_protocols(void **state)
{
    for (int protocol = 2; protocol <= 3; protocol++) {
        const char *golden = protocol == 2 ? golden2 : golden3;
        struct kith_buf out;
        struct kith_reply r;
        kith_buf_init(&out);
        kith_reply_init(&r, &out, (uint8_t)protocol);
        write_one_of_each(&r);
        kith_buf_append_char(&out, '\0');
        assert_string_equal(out.data, golden);
        assert_int_equal(r.error_count, 2);
        kith_buf_fini(&out);
    }
}

static void a_deferred_count_lands_before_its_content(void **state)
{
    static const size_t counts[] = {0, 1, 9, 10, 99, 100, 12345};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int protocol = 2; protocol <= 3; protocol++) {
            struct kith_buf late, early;
            struct kith_reply a, b;
            kith_buf_init(&late);
            kith_buf_init(&early);
            kith_reply_init(&a, &late, (uint8_t)protocol);
            kith_reply_init(&b, &early, (uint8_t)protocol);
            kith_reply_ok(&a);
            kith_reply_ok(&b);
            struct kith_reply_mark outer = kith_reply_array_begin(&a);
            struct kith_reply_mark inner = kith_reply_map_begin(&a);
            kith_reply_array(&b, 2);
            kith_reply_map(&b, counts[i]);
            for (size_t k = 0; k < 2 * counts[i]; k++) {
                kith_reply_int(&a, (int64_t)k);
                kith_reply_int(&b, (int64_t)k);
            }
            kith_reply_map_end(&a, inner, counts[i]);
            inner = kith_reply_array_begin(&a);
            kith_reply_set_end(&a, inner, 0);
            kith_reply_set(&b, 0);
            kith_reply_array_end(&a, outer, 2);
            assert_int_equal(late.length, early.length);
            assert_memory_equal(late.data, early.data, late.length);
            kith_buf_fini(&late);
            kith_buf_fini(&early);
        }
    }
}

static void a_rewind_takes_back_what_was_written(void **state)
{
    struct kith_buf out;
    struct kith_reply r;
    kith_buf_init(&out);
    kith_reply_init(&r, &out, 3);
    kith_reply_ok(&r);
    struct kith_reply_mark mark = kith_reply_array_begin(&r);
    kith_reply_int(&r, 1);
    kith_reply_rewind(&r, mark);
    kith_reply_error(&r, "ERR no");
    assert_int_equal(out.length, 5 + 9);
    assert_memory_equal(out.data, "+OK\r\n-ERR no\r\n", 14);
    kith_buf_fini(&out);
}

static void digits_are_those_of_printf(void **state)
{
    uint64_t value = 1;
    for (int i = 0; i < 64; i++, value = value * 2 + (value % 3)) {
        for (int d = -1; d <= 1; d++) {
            char mine[KITH_DIGITS_MAX + 2], theirs[32];
            *kith_digits_put(mine, value + (uint64_t)d) = '\0';
            snprintf(theirs, sizeof theirs, "%llu", (unsigned long long)(value + (uint64_t)d));
            assert_string_equal(mine, theirs);
        }
    }
    for (uint64_t ten = 1; ten <= 1000000000000000000u; ten *= 10) {
        char mine[KITH_DIGITS_MAX + 2], theirs[32];
        *kith_digits_put(mine, ten) = '\0';
        snprintf(theirs, sizeof theirs, "%llu", (unsigned long long)ten);
        assert_string_equal(mine, theirs);
        *kith_digits_put(mine, ten - 1) = '\0';
        snprintf(theirs, sizeof theirs, "%llu", (unsigned long long)(ten - 1));
        assert_string_equal(mine, theirs);
    }
}

static void a_failed_allocation_sticks_in_the_buffer(void **state)
{
    for (int protocol = 2; protocol <= 3; protocol++) {
        for (int n = 0; failing_malloc_sweep(&n);) {
            struct kith_buf out;
            struct kith_reply r;
            kith_buf_init(&out);
            kith_reply_init(&r, &out, (uint8_t)protocol);
            struct kith_reply_mark mark = kith_reply_array_begin(&r);
            for (int i = 0; i < 4; i++)
                write_one_of_each(&r);
            kith_reply_array_end(&r, mark, 4);
            kith_buf_fini(&out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_shape_has_its_bytes_in_both_protocols),
        cmocka_unit_test(a_deferred_count_lands_before_its_content),
        cmocka_unit_test(a_rewind_takes_back_what_was_written),
        cmocka_unit_test(digits_are_those_of_printf),
        cmocka_unit_test(a_failed_allocation_sticks_in_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
