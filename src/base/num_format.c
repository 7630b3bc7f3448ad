/* Numbers to text. A double's shortest decimal comes from Giulietti's Schubfach (The Schubfach way to render
 * doubles, 2020): the rounding interval is scaled so that it holds one to ten whole numbers, by one
 * multiplication of each bound with a power of ten known to 128 bits; rounding to odd keeps comparisons
 * exact. */
#include "base/num.h"
#include "base/num_private.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- Integers. --- */

static const char digit_pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

static const uint64_t powers[] = {0,
                                  10,
                                  100,
                                  1000,
                                  10000,
                                  100000,
                                  1000000,
                                  10000000,
                                  100000000,
                                  1000000000,
                                  10000000000,
                                  100000000000,
                                  1000000000000,
                                  10000000000000,
                                  100000000000000,
                                  1000000000000000,
                                  10000000000000000,
                                  100000000000000000,
                                  1000000000000000000,
                                  10000000000000000000u};

/* 1 for 0. */
static unsigned count_digits(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned digits = bits * 1233 >> 12; /* log10(2), rounded down: right or one short */
    return digits + (value >= powers[digits]);
}

/* Exactly `count` digits, leading zeros included. */
static void write_digits(char *out, uint64_t value, unsigned count)
{
    while (count >= 2) {
        count -= 2;
        memcpy(out + count, digit_pairs + value % 100 * 2, 2);
        value /= 100;
    }
    if (count)
        *out = (char)('0' + value);
}

static size_t write_uint64(char *out, uint64_t value)
{
    unsigned count = count_digits(value);
    write_digits(out, value, count);
    out[count] = '\0';
    return count;
}

size_t kith_num_format_uint64(char out[KITH_NUM_INT64_CHARS], uint64_t value)
{
    return write_uint64(out, value);
}

size_t kith_num_format_int64(char out[KITH_NUM_INT64_CHARS], int64_t value)
{
    if (value >= 0)
        return write_uint64(out, (uint64_t)value);
    *out = '-';
    return 1 + write_uint64(out + 1, -(uint64_t)value);
}

/* --- The shortest decimal. --- */

/* digits * 10^exponent, the last digit not 0 */
struct decimal {
    uint64_t digits;
    int exponent;
};

/* floor(power * factor / 2^128), made odd where bits were lost: so that it compares with whole numbers as the
 * exact product does. `power` is the table's, rounded up. */
static uint64_t multiply_to_odd(const uint64_t power[2], uint64_t factor)
{
    uint64_t low = (uint64_t)(((unsigned __int128)power[1] * factor) >> 64);
    unsigned __int128 product = (unsigned __int128)power[0] * factor + low;
    return (uint64_t)(product >> 64) | ((uint64_t)product > 1);
}

static struct decimal strip_zeros(uint64_t digits, int exponent)
{
    while (digits % 100 == 0) {
        digits /= 100;
        exponent += 2;
    }
    if (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    return (struct decimal){digits, exponent};
}

/* value is finite, above 0, and mantissa * 2^exponent; `lopsided` when the double below is nearer than the
 * one above. Numbers are in quarters of 10^k from here on. */
static struct decimal shortest(uint64_t mantissa, int exponent, bool lopsided)
{
    int k = (exponent * 1262611 - (lopsided ? 524031 : 0)) >> 22; /* floor(log10(interval's width)) */
    int shift = exponent + kith_num_log2_pow10(-k) + 1;
    const uint64_t *cut = kith_num_pow10[-k - KITH_NUM_POW10_FIRST];
    const uint64_t power[2] = {cut[0] + (cut[1] == UINT64_MAX), cut[1] + 1};
    uint64_t odd =
        mantissa & 1; /* reading rounds ties to even: only an even mantissa owns its interval's ends */
    uint64_t lower = multiply_to_odd(power, (4 * mantissa - 2 + lopsided) << shift) + odd;
    uint64_t exact = multiply_to_odd(power, 4 * mantissa << shift);
    uint64_t upper = multiply_to_odd(power, (4 * mantissa + 2) << shift) - odd;
    uint64_t below = exact / 4;
    if (below >= 10) { /* one digit less? */
        uint64_t tens = below / 10;
        bool down = lower <= 40 * tens, up = 40 * tens + 40 <= upper;
        if (down != up)
            return strip_zeros(tens + up, k + 1);
    }
    bool down = lower <= 4 * below, up = 4 * below + 4 <= upper;
    if (down == up) /* both or neither: the nearer one, ties to even */
        up = exact > 4 * below + 2 || (exact == 4 * below + 2 && (below & 1));
    return strip_zeros(below + up, k);
}

/* --- Layout, Redis 7.2's: in full where that takes few zeros, else with an exponent. --- */

static size_t write_exponent(char *out, int exponent)
{
    out[0] = 'e';
    out[1] = exponent < 0 ? '-' : '+';
    return 2 + write_uint64(out + 2, (uint64_t)(exponent < 0 ? -exponent : exponent));
}

static size_t write_decimal(char *out, struct decimal decimal)
{
    unsigned count = count_digits(decimal.digits);
    int scientific = decimal.exponent + (int)count - 1; /* of the first digit */
    int point = (int)count + decimal.exponent;          /* digits before the point, when > 0 */
    if (decimal.exponent >= 0 && scientific < (int)count + 7) {
        write_digits(out, decimal.digits, count);
        memset(out + count, '0', (size_t)decimal.exponent);
        return count + (size_t)decimal.exponent;
    }
    if (decimal.exponent < 0 && (decimal.exponent > -7 || (scientific < 4 && scientific > -4))) {
        if (point <= 0) {
            memcpy(out, "0.0000000", 9); /* at most six zeros follow the point */
            write_digits(out + 2 - point, decimal.digits, count);
            return count + 2 + (size_t)-point;
        }
        write_digits(out + 1, decimal.digits, count);
        memmove(out, out + 1, (size_t)point);
        out[point] = '.';
        return count + 1;
    }
    write_digits(out + 1, decimal.digits, count);
    out[0] = out[1];
    out[1] = '.';
    size_t length = count == 1 ? 1 : count + 1;
    return length + write_exponent(out + length, scientific);
}

static size_t write_word(char *out, const char *word)
{
    size_t length = strlen(word);
    memcpy(out, word, length + 1);
    return length;
}

size_t kith_num_format_double(char out[KITH_NUM_DOUBLE_CHARS], double value)
{
    if (isnan(value))
        return write_word(out, "nan");
    if (isinf(value))
        return write_word(out, value < 0 ? "-inf" : "inf");
    if (value == 0)
        return write_word(out, signbit(value) ? "-0" : "0");
    if (fabs(value) <= 4611686018427387904.0 && /* 2^62 */ (double)(int64_t)value == value)
        return kith_num_format_int64(out, (int64_t)value);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    int biased = (int)(bits >> 52 & 0x7ff);
    struct decimal decimal =
        biased ? shortest(fraction | UINT64_C(1) << 52, biased - 1075, !fraction && biased > 1)
               : shortest(fraction, -1074, false);
    size_t length = 0;
    if (value < 0)
        out[length++] = '-';
    length += write_decimal(out + length, decimal);
    out[length] = '\0';
    return length;
}

/* --- Long doubles. --- */

/* The text without zeros at the end of its decimals, "-0" as "0". */
static size_t trim_decimals(char *out, size_t length)
{
    if (memchr(out, '.', length)) {
        while (out[length - 1] == '0')
            length--;
        length -= out[length - 1] == '.';
    }
    if (length == 2 && out[0] == '-' && out[1] == '0') {
        out[0] = '0';
        length = 1;
    }
    out[length] = '\0';
    return length;
}

/* Below 2^63 and with a mantissa of 64 bits, value * 10^17 is exact in 128 bits. */
static bool write_fixed(char *out, long double value, size_t *length)
{
    const uint64_t unit = 100000000000000000;
    int exponent;
    long double magnitude = fabsl(value), mantissa = ldexpl(frexpl(magnitude, &exponent), 64);
    if (exponent > 63 || (long double)(uint64_t)mantissa != mantissa)
        return false;
    unsigned shift = (unsigned)(64 - exponent);
    unsigned __int128 product = (unsigned __int128)(uint64_t)mantissa * unit, scaled = 0;
    if (shift < 128) {
        unsigned __int128 rest = product & (((unsigned __int128)1 << shift) - 1);
        unsigned __int128 half = (unsigned __int128)1 << (shift - 1);
        scaled = product >> shift;
        scaled += rest > half || (rest == half && (scaled & 1));
    }
    char *p = out;
    if (signbit(value))
        *p++ = '-';
    p += write_uint64(p, (uint64_t)(scaled / unit));
    *p++ = '.';
    write_digits(p, (uint64_t)(scaled % unit), 17);
    *length = (size_t)(p + 17 - out);
    return true;
}

size_t kith_num_format_long_double(char out[KITH_NUM_LONG_DOUBLE_CHARS], long double value)
{
    if (isnan(value))
        return write_word(out, "nan");
    if (isinf(value))
        return write_word(out, value < 0 ? "-inf" : "inf");
    size_t length;
    if (!write_fixed(out, value, &length)) {
        locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(plain);
        length = (size_t)snprintf(out, KITH_NUM_LONG_DOUBLE_CHARS, "%.17Lf", value);
        uselocale(before);
        freelocale(plain);
    }
    return trim_decimals(out, length);
}
