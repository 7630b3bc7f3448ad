/* Numbers as text: tables of edges, and random values against what the C library reads and prints. */
#include "base/num.h"
#include "base/random.h"
#include "base/status.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RANDOM_ROUNDS = 1000000 };

static struct kith_slice text_of(const char *text)
{
    return kith_slice(text, strlen(text));
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* --- Integers. --- */

static void integers_are_read_over_their_whole_range(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {{"0", 0},
                {"7", 7},
                {"-1", -1},
                {"10", 10},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN},
                {"1000000000000000000", 1000000000000000000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t value = 1;
        char out[KITH_NUM_INT64_CHARS];
        assert_int_equal(kith_num_parse_int64(text_of(rows[i].text), &value), KITH_OK);
        assert_true(value == rows[i].value);
        assert_int_equal(kith_num_format_int64(out, value), strlen(rows[i].text));
        assert_string_equal(out, rows[i].text);
    }
    uint64_t value = 1;
    assert_int_equal(kith_num_parse_uint64(text_of("18446744073709551615"), &value), KITH_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(kith_num_parse_uint64(text_of("0"), &value), KITH_OK);
    assert_true(value == 0);
}

static void what_is_no_integer_is_refused_and_leaves_the_output_alone(void **state)
{
    static const char *const rows[] = {"",
                                       "-",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "-0",
                                       "00",
                                       "01",
                                       "-01",
                                       "1.0",
                                       "1e3",
                                       "0x1",
                                       "--1",
                                       "1-",
                                       "a",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "18446744073709551616",
                                       "99999999999999999999",
                                       "100000000000000000000",
                                       "1\n",
                                       "/",
                                       ":"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t value = 42;
        uint64_t unsigned_value = 42;
        assert_int_equal(kith_num_parse_int64(text_of(rows[i]), &value), KITH_EINVAL);
        assert_true(value == 42);
        if (strcmp(rows[i], "9223372036854775808") != 0)
            assert_int_equal(kith_num_parse_uint64(text_of(rows[i]), &unsigned_value), KITH_EINVAL);
        assert_true(unsigned_value == 42);
    }
    int64_t value = 42;
    assert_int_equal(kith_num_parse_int64(kith_slice("1\0", 2), &value), KITH_EINVAL);
    assert_int_equal(kith_num_parse_int64(kith_slice(NULL, 0), &value), KITH_EINVAL);
    assert_int_equal(kith_num_parse_int64(kith_slice("123", 2), &value), KITH_OK);
    assert_true(value == 12);
}

static void integers_of_every_length_come_back(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    for (int i = 0; i < RANDOM_ROUNDS; i++) {
        uint64_t value = kith_rng_next(&rng) >> kith_rng_below(&rng, 64), again = 0;
        int64_t signed_value = (int64_t)(i & 1 ? value : -value), signed_again = 0;
        char out[KITH_NUM_INT64_CHARS], expected[32];
        size_t length = kith_num_format_uint64(out, value);
        if (i % 16 == 0) {
            assert_int_equal(length, snprintf(expected, sizeof expected, "%llu", (unsigned long long)value));
            assert_string_equal(out, expected);
        }
        assert_int_equal(kith_num_parse_uint64(kith_slice(out, length), &again), KITH_OK);
        assert_true(again == value);
        length = kith_num_format_int64(out, signed_value);
        assert_int_equal(kith_num_parse_int64(kith_slice(out, length), &signed_again), KITH_OK);
        assert_true(signed_again == signed_value);
    }
    for (uint64_t power = 1, digits = 1; digits <= 20; digits++, power *= 10) {
        char out[KITH_NUM_INT64_CHARS];
        assert_int_equal(kith_num_format_uint64(out, power), digits);
        if (digits > 1)
            assert_int_equal(kith_num_format_uint64(out, power - 1), digits - 1);
    }
}

/* --- Doubles from text. --- */

/* strtod on the whole text, with the same refusals. */
static void expect_as_strtod(const char *text)
{
    char *end;
    double expected = strtod(text, &end), value = 42;
    bool reads = *text && *end == '\0' && !isnan(expected) && *text != ' ';
    int status = kith_num_parse_double(text_of(text), KITH_NUM_RANGE_OK, &value);
    if (status != (reads ? KITH_OK : KITH_EINVAL) || bits_of(value) != bits_of(reads ? expected : 42))
        fail_msg("%s: status %d, %.17g, not %.17g", text, status, value, expected);
}

static void doubles_are_read_as_the_c_library_reads_them(void **state)
{
    static const char *const rows[] = {"0",
                                       "-0",
                                       "0.0",
                                       "1",
                                       "+1",
                                       "-1",
                                       ".5",
                                       "5.",
                                       "-.5e1",
                                       "1e5",
                                       "1E+5",
                                       "1e-5",
                                       "3.0e0",
                                       "0.1",
                                       "0.3",
                                       "123456789012345678",
                                       "9007199254740993",
                                       "9007199254740993.0",
                                       "9007199254740992.5",
                                       "9007199254740995e1",
                                       "1e22",
                                       "1e23",
                                       "8.5e22",
                                       "179769313486231570e291",
                                       "1.7976931348623157e308",
                                       "1.7976931348623159e308",
                                       "1e309",
                                       "2.2250738585072014e-308",
                                       "2.2250738585072011e-308",
                                       "4.9e-324",
                                       "2.4703282292062327e-324",
                                       "2.4703282292062328e-324",
                                       "1e-400",
                                       "0e-400",
                                       "0e999",
                                       "1e9999",
                                       "1e99999",
                                       "1e-99999",
                                       "inf",
                                       "INF",
                                       "+inf",
                                       "-inf",
                                       "infinity",
                                       "-Infinity",
                                       "infinit",
                                       "nan",
                                       "NaN",
                                       "-nan",
                                       "nan(1)",
                                       "0x1p3",
                                       "0x1.8p-1",
                                       "-0X.8",
                                       "0x",
                                       "",
                                       " 1",
                                       "1 ",
                                       "1e",
                                       "1e+",
                                       "e5",
                                       ".",
                                       "-",
                                       "+",
                                       "-.",
                                       "1.2.3",
                                       "1,5",
                                       "1f",
                                       "--1",
                                       "+-1",
                                       "1_0",
                                       "0000000000000000000000000000001",
                                       "0.00000000000000000000000000000000000000000000000001",
                                       "100000000000000000000000000000000000000000000000000",
                                       "1234567890123456789012345678901234567890",
                                       "0.5000000000000000000000000000000000000000001",
                                       "9223372036854775808",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "6.02214076e23",
                                       "1.00000000000000011102230246251565404236316680908203125",
                                       "7.2057594037927933e16",
                                       "9214843084008499",
                                       "5708990770823839524233143877797980545530986496"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_as_strtod(rows[i]);
}

static void random_decimals_are_read_as_the_c_library_reads_them(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 2);
    for (int i = 0; i < RANDOM_ROUNDS; i++) {
        char text[64];
        uint64_t digits = kith_rng_next(&rng) >> kith_rng_below(&rng, 64);
        int exponent = (int)kith_rng_below(&rng, i % 4 ? 40 : 700) - (i % 4 ? 20 : 350);
        const char *sign = i % 3 ? "" : "-";
        if (i % 2)
            snprintf(text, sizeof text, "%s%llue%d", sign, (unsigned long long)digits, exponent);
        else
            snprintf(text, sizeof text, "%s%llu.%llu", sign, (unsigned long long)(digits >> 40),
                     (unsigned long long)(digits & 0xffffffffff));
        expect_as_strtod(text);
    }
}

/* Decimals right on, just below and just above the middle between two doubles. */
static void halfway_decimals_round_to_even(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 3);
    for (int i = 0; i < RANDOM_ROUNDS / 8; i++) {
        uint64_t middle =
            (UINT64_C(1) << 53 | kith_rng_next(&rng) >> 11) << 1 | 1; /* 55 bits, the last one set */
        int halvings = (int)kith_rng_below(&rng, 3);
        char text[96];
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t digits = middle;
            int exponent = 0;
            for (int k = 0; k < halvings; k++, exponent--)
                digits *= 5; /* digits * 10^-halvings is middle * 2^-halvings */
            snprintf(text, sizeof text, "%llue%d", (unsigned long long)digits + (uint64_t)delta, exponent);
            expect_as_strtod(text);
            snprintf(text, sizeof text, "%llu", (unsigned long long)middle + (uint64_t)delta);
            expect_as_strtod(text);
        }
    }
}

static void flags_let_in_what_is_refused_otherwise(void **state)
{
    static const struct {
        const char *text;
        unsigned flag;
    } rows[] = {{" 1", KITH_NUM_SPACE_OK},      {"\t-2e3", KITH_NUM_SPACE_OK},
                {"nan", KITH_NUM_NAN_OK},       {"1e400", KITH_NUM_RANGE_OK},
                {"-1e400", KITH_NUM_RANGE_OK},  {"1e-400", KITH_NUM_RANGE_OK},
                {"1.8e308", KITH_NUM_RANGE_OK}, {"1.7976931348623159e308", KITH_NUM_RANGE_OK}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double value = 42, expected = strtod(rows[i].text, NULL);
        assert_int_equal(kith_num_parse_double(text_of(rows[i].text), 7u & ~rows[i].flag, &value),
                         KITH_EINVAL);
        assert_true(value == 42);
        assert_int_equal(kith_num_parse_double(text_of(rows[i].text), rows[i].flag, &value), KITH_OK);
        assert_true(value == expected || (isnan(value) && isnan(expected)));
    }
    double value = 42;
    assert_int_equal(kith_num_parse_double(text_of("5e-324"), 0, &value), KITH_OK); /* subnormal, not zero */
    assert_int_equal(kith_num_parse_double(kith_slice("1\0", 2), 7, &value), KITH_EINVAL);
    assert_int_equal(kith_num_parse_double(kith_slice("12", 1), 0, &value), KITH_OK);
    assert_true(value == 1);
    char *endless = malloc(6000);
    memset(endless, '0', 6000);
    assert_int_equal(kith_num_parse_double(kith_slice(endless, 6000), 7, &value), KITH_EINVAL);
    assert_int_equal(kith_num_parse_double(kith_slice(endless, 5000), 7, &value), KITH_OK);
    free(endless);
}

/* --- Doubles to text. --- */

static void doubles_print_as_clients_expect_them(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0, "-0"},
                {3, "3"},
                {-17, "-17"},
                {0.1, "0.1"},
                {0.3, "0.3"},
                {0.1 + 0.2, "0.30000000000000004"},
                {INFINITY, "inf"},
                {-INFINITY, "-inf"},
                {NAN, "nan"},
                {-NAN, "nan"},
                {1.5, "1.5"},
                {-2.75, "-2.75"},
                {0.994984894990921, "0.994984894990921"},
                {0.9188781678676605, "0.9188781678676605"},
                {2.007874011993408, "2.007874011993408"},
                {1e17, "100000000000000000"},
                {1e18, "1000000000000000000"},
                {0x1p62, "4611686018427387904"},
                {-0x1p62, "-4611686018427387904"},
                {0x1p63, "9223372036854776000"},
                {1e19, "1e+19"},
                {1e21, "1e+21"},
                {-1e21, "-1e+21"},
                {1.5e21, "1.5e+21"},
                {1e100, "1e+100"},
                {123456789e15, "1.23456789e+23"},
                {1.2345678901234567e22, "12345678901234568000000"},
                {1.2345678901234567e23, "123456789012345670000000"},
                {1.2345678901234567e24, "1.2345678901234568e+24"},
                {0.001, "0.001"},
                {0.000001, "0.000001"},
                {1e-7, "1e-7"},
                {1.5e-7, "1.5e-7"},
                {0.0001234, "1.234e-4"},
                {0.001234, "0.001234"},
                {0.00012345678, "1.2345678e-4"},
                {0.0012345678, "0.0012345678"},
                {1e-10, "1e-10"},
                {1e-100, "1e-100"},
                {5e-324, "5e-324"},
                {DBL_MAX, "1.7976931348623157e+308"},
                {-DBL_MAX, "-1.7976931348623157e+308"},
                {DBL_MIN, "2.2250738585072014e-308"},
                {9007199254740993.0, "9007199254740992"},
                {1234.5678, "1234.5678"},
                {2251799813685248.5, "2251799813685248.5"},
                {9.5367431640625e-7, "9.5367431640625e-7"},
                {1125899906842624.25, "1125899906842624.2"},
                {1125899906842624.75, "1125899906842624.8"},
                {2e-44, "2e-44"},
                {9e-265, "9e-265"},
                {5e22, "5e+22"},
                {1e23, "1e+23"},
                {9.007199254740991e15, "9007199254740991"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[KITH_NUM_DOUBLE_CHARS];
        size_t length = kith_num_format_double(out, rows[i].value);
        assert_string_equal(out, rows[i].text);
        assert_int_equal(length, strlen(rows[i].text));
    }
}

/* Digits between sign and exponent, without the zeros at either end. */
static int significant_digits(const char *text)
{
    int count = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (*text == '0' && !count))
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        count++;
    }
    return count - zeros;
}

/* Reads back, in both readers, and no decimal with fewer digits does; among those with as many it is the
 * nearest. */
static void expect_shortest(double value)
{
    char out[KITH_NUM_DOUBLE_CHARS], other[64];
    size_t length = kith_num_format_double(out, value);
    double again = 42;
    assert_true(length == strlen(out) && length <= 25);
    assert_int_equal(kith_num_parse_double(kith_slice(out, length), 0, &again), KITH_OK);
    if (bits_of(again) != bits_of(value) || bits_of(strtod(out, NULL)) != bits_of(value))
        fail_msg("%.17g printed as %s", value, out);
    if (fabs(value) <= 0x1p62 && value == floor(value))
        return; /* written in full */
    int digits = significant_digits(out);
    snprintf(other, sizeof other, "%.*e", digits - 1, value); /* the nearest with as many digits */
    double nearest = strtod(other, NULL);
    if (bits_of(nearest) == bits_of(value) && significant_digits(other) != digits)
        fail_msg("%s is longer than %s", out, other);
    if (digits > 1) {
        snprintf(other, sizeof other, "%.*e", digits - 2, value);
        if (bits_of(strtod(other, NULL)) == bits_of(value))
            fail_msg("%s is longer than %s", out, other);
    }
}

static void random_doubles_print_shortest_and_read_back(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 4);
    for (int i = 0; i < RANDOM_ROUNDS / 2; i++) {
        double any = double_of(kith_rng_next(&rng));
        if (isfinite(any))
            expect_shortest(any);
        expect_shortest(kith_rng_unit(&rng));                                               /* a similarity */
        expect_shortest((double)(int64_t)(kith_rng_next(&rng) >> 20) / 1000);               /* a price */
        expect_shortest(1.0 - (float)kith_rng_unit(&rng));                                  /* from a float */
        expect_shortest(double_of(kith_rng_next(&rng) >> (12 + kith_rng_below(&rng, 52)))); /* subnormal */
    }
}

static void powers_of_two_and_their_neighbours_print_shortest(void **state)
{
    for (int exponent = -1074; exponent <= 1023; exponent++)
        for (int step = -2; step <= 2; step++) {
            double value = double_of(bits_of(ldexp(1, exponent)) + (uint64_t)(int64_t)step);
            if (isfinite(value) && value > 0)
                expect_shortest(value);
        }
    for (int exponent = -323; exponent <= 308; exponent++) {
        char text[16], out[KITH_NUM_DOUBLE_CHARS];
        snprintf(text, sizeof text, "1e%d", exponent);
        for (int step = -2; step <= 2; step++)
            expect_shortest(double_of(bits_of(strtod(text, NULL)) + (uint64_t)(int64_t)step));
        kith_num_format_double(out, strtod(text, NULL));
        assert_int_equal(significant_digits(out), 1);
    }
}

/* --- Long doubles. --- */

static void long_doubles_print_without_an_exponent_and_without_idle_zeros(void **state)
{
    static const struct {
        long double value;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0L, "0"},
                {3, "3"},
                {10.5L, "10.5"},
                {0.1L, "0.1"},
                {-0.1L, "-0.1"},
                {100, "100"},
                {5e3L, "5000"},
                {1e20L, "100000000000000000000"},
                {-1e20L, "-100000000000000000000"},
                {1e-17L, "0.00000000000000001"},
                {1e-18L, "0"},
                {-1e-18L, "0"},
                {1e-300L, "0"},
                {9223372036854775807.0L, "9223372036854775807"},
                {-9223372036854775808.0L, "-9223372036854775808"},
                {0.99999999999999999999L, "1"},
                {INFINITY, "inf"},
                {-INFINITY, "-inf"},
                {NAN, "nan"},
                {3.0e0L + 1.1L, "4.1"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[KITH_NUM_LONG_DOUBLE_CHARS];
        size_t length = kith_num_format_long_double(out, rows[i].value);
        assert_string_equal(out, rows[i].text);
        assert_int_equal(length, strlen(out));
    }
    char out[KITH_NUM_LONG_DOUBLE_CHARS];
    size_t longest = kith_num_format_long_double(out, LDBL_MAX);
    assert_int_equal(longest, strlen(out));
    assert_true(LDBL_MAX_10_EXP < 4000 || strlen(out) > 4000);
}

static void random_long_doubles_print_as_the_c_library_prints_them(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 5);
    for (int i = 0; i < RANDOM_ROUNDS / 4; i++) {
        long double value = ldexpl((long double)kith_rng_next(&rng), (int)kith_rng_below(&rng, 150) - 140);
        char out[KITH_NUM_LONG_DOUBLE_CHARS], expected[KITH_NUM_LONG_DOUBLE_CHARS];
        if (i % 2)
            value = -value;
        if (i % 5 == 0)
            value = roundl(value * 64) / 64 + 0x1p-18L; /* ties of the 18th decimal */
        size_t length = kith_num_format_long_double(out, value);
        int full = snprintf(expected, sizeof expected, "%.17Lf", value);
        for (int k = (int)length; k < full; k++)
            assert_true(expected[k] == '0' || expected[k] == '.' || length == 1);
        if (memcmp(out, expected, length) != 0 && strcmp(out, "0") != 0)
            fail_msg("%s, not %s", out, expected);
        long double again = 42;
        assert_int_equal(kith_num_parse_long_double(kith_slice(out, length), &again), KITH_OK);
        assert_true(again == strtold(out, NULL));
    }
}

static void long_doubles_are_read_strictly(void **state)
{
    static const char *const refused[] = {"", " 1", "1 ", "nan", "1e5000", "1e-5000", "abc", "1x", "-"};
    long double value = 42;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(kith_num_parse_long_double(text_of(refused[i]), &value), KITH_EINVAL);
        assert_true(value == 42);
    }
    assert_int_equal(kith_num_parse_long_double(text_of("3.0e3"), &value), KITH_OK);
    assert_true(value == 3000);
    assert_int_equal(kith_num_parse_long_double(text_of("-0x1p-4"), &value), KITH_OK);
    assert_true(value == -0.0625L);
    assert_int_equal(kith_num_parse_long_double(text_of("-inf"), &value), KITH_OK);
    assert_true(isinf(value));
    assert_int_equal(kith_num_parse_long_double(text_of("1.1"), &value), KITH_OK);
    assert_true(value == 1.1L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_read_over_their_whole_range),
        cmocka_unit_test(what_is_no_integer_is_refused_and_leaves_the_output_alone),
        cmocka_unit_test(integers_of_every_length_come_back),
        cmocka_unit_test(doubles_are_read_as_the_c_library_reads_them),
        cmocka_unit_test(random_decimals_are_read_as_the_c_library_reads_them),
        cmocka_unit_test(halfway_decimals_round_to_even),
        cmocka_unit_test(flags_let_in_what_is_refused_otherwise),
        cmocka_unit_test(doubles_print_as_clients_expect_them),
        cmocka_unit_test(random_doubles_print_shortest_and_read_back),
        cmocka_unit_test(powers_of_two_and_their_neighbours_print_shortest),
        cmocka_unit_test(long_doubles_print_without_an_exponent_and_without_idle_zeros),
        cmocka_unit_test(random_long_doubles_print_as_the_c_library_prints_them),
        cmocka_unit_test(long_doubles_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
