/* Text to numbers. Decimal floats are read with one 64 x 128 bit multiplication by a power of ten that is
 * known to 128 bits: the product bounds the true value from below by less than one part in 2^127, and only
 * where that is not enough to round (and for hexadecimal, infinities, subnormals and more than 19 digits) the
 * C library decides. The idea is Lemire's, Number Parsing at a Gigabyte per Second (2021). */
#include "base/num.h"
#include "base/num_private.h"
#include "base/status.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* --- Integers. --- */

int kith_num_parse_uint64(struct kith_slice text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.length == 0 || text.length > 20 || (text.data[0] == '0' && text.length > 1))
        return KITH_EINVAL;
    for (size_t i = 0; i < text.length; i++) {
        unsigned digit = (unsigned char)text.data[i] - (unsigned)'0';
        if (digit > 9)
            return KITH_EINVAL;
        if (i == 19 && (value > UINT64_MAX / 10 || value * 10 > UINT64_MAX - digit))
            return KITH_EINVAL;
        value = value * 10 + digit;
    }
    *out = value;
    return KITH_OK;
}

int kith_num_parse_int64(struct kith_slice text, int64_t *out)
{
    uint64_t value;
    if (text.length == 0)
        return KITH_EINVAL;
    bool negative = text.data[0] == '-';
    if (kith_num_parse_uint64(kith_slice(text.data + negative, text.length - negative), &value))
        return KITH_EINVAL;
    if (value > (uint64_t)INT64_MAX + negative || (negative && value == 0))
        return KITH_EINVAL;
    *out = (int64_t)(negative ? -value : value);
    return KITH_OK;
}

/* --- Decimal floats. --- */

/* digits * 10^exponent */
struct decimal {
    uint64_t digits;
    int exponent;
    bool negative;
};

/* The whole text as [sign] digits [. digits] [e [sign] digits] with at most 19 significant digits; false for
 * all else. */
static bool scan_decimal(const char *p, const char *end, struct decimal *out)
{
    uint64_t digits = 0;
    int significant = 0, exponent = 0, seen = 0;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    bool after_point = false;
    for (; p < end; p++) {
        unsigned digit = (unsigned char)*p - (unsigned)'0';
        if (digit <= 9) {
            digits = digits * 10 + digit;
            significant += significant || digit;
            exponent -= after_point;
            seen++;
        } else if (*p == '.' && !after_point) {
            after_point = true;
        } else {
            break;
        }
        if (significant > 19 || seen > 300)
            return false;
    }
    if (!seen)
        return false;
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool below = ++p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        int power = 0;
        if (p == end || end - p > 4)
            return false;
        for (; p < end; p++) {
            unsigned digit = (unsigned char)*p - (unsigned)'0';
            if (digit > 9)
                return false;
            power = power * 10 + (int)digit;
        }
        exponent += below ? -power : power;
    }
    *out = (struct decimal){digits, exponent, negative};
    return p == end;
}

static double from_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Correctly rounded, ties to even; false where the 128 bits do not tell, or the result is not a normal
 * double. */
static bool scale(uint64_t digits, int exponent, double *out)
{
    if (exponent < KITH_NUM_POW10_FIRST || exponent > 308)
        return false;
    const uint64_t *power = kith_num_pow10[exponent - KITH_NUM_POW10_FIRST];
    int zeros = __builtin_clzll(digits);
    unsigned __int128 upper = (unsigned __int128)(digits << zeros) * power[0];
    unsigned __int128 lower = (unsigned __int128)(digits << zeros) * power[1];
    upper += (uint64_t)(lower >> 64);
    uint64_t high = (uint64_t)(upper >> 64), middle = (uint64_t)upper;
    unsigned top = (unsigned)(high >> 63);
    unsigned cut = 9 + top; /* 53 bits and one to round by stay */
    uint64_t rest = high & ((UINT64_C(1) << cut) - 1), kept = high >> cut;
    bool exact = exponent >= 0 && exponent <= 55;
    if (!exact && rest == (UINT64_C(1) << cut) - 1 && middle == UINT64_MAX)
        return false; /* the true product may carry into what is kept */
    bool more = !exact || rest || middle || (uint64_t)lower;
    uint64_t mantissa = kept >> 1;
    mantissa += (kept & 1) && (more || (mantissa & 1));
    int biased = 1023 + 63 + (int)top + kith_num_log2_pow10(exponent) - zeros;
    if (mantissa >> 53) {
        mantissa >>= 1;
        biased++;
    }
    if (biased < 1 || biased > 2046)
        return false;
    *out = from_bits((uint64_t)biased << 52 | (mantissa & ((UINT64_C(1) << 52) - 1)));
    return true;
}

static bool decimal_to_double(const struct decimal *decimal, double *out)
{
    static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                          1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    double value;
    if (decimal->digits == 0)
        value = 0;
    else if (decimal->digits >> 53 == 0 && decimal->exponent >= 0 && decimal->exponent <= 22)
        value = (double)decimal->digits *
                exact_powers[decimal->exponent]; /* both exact: one rounding (Clinger) */
    else if (decimal->digits >> 53 == 0 && decimal->exponent < 0 && decimal->exponent >= -22)
        value = (double)decimal->digits / exact_powers[-decimal->exponent];
    else if (!scale(decimal->digits, decimal->exponent, &value))
        return false;
    *out = decimal->negative ? -value : value;
    return true;
}

/* --- What the C library reads. --- */

/* A terminated copy: the slice may end where the next argument begins. False when it is too long. */
static bool copy_text(char out[KITH_NUM_LONG_DOUBLE_CHARS], struct kith_slice text, bool space_ok)
{
    if (text.length == 0 || text.length >= KITH_NUM_LONG_DOUBLE_CHARS)
        return false;
    if (!space_ok && isspace((unsigned char)text.data[0]))
        return false;
    memcpy(out, text.data, text.length);
    out[text.length] = '\0';
    return true;
}

/* The host program's locale must not decide what a decimal point is. glibc hands out its own static object
 * here. */
static locale_t plain_locale(void)
{
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static int read_double(struct kith_slice text, unsigned flags, double *out)
{
    char copy[KITH_NUM_LONG_DOUBLE_CHARS], *end;
    if (!copy_text(copy, text, flags & KITH_NUM_SPACE_OK))
        return KITH_EINVAL;
    locale_t locale = plain_locale();
    if (!locale)
        return KITH_ENOMEM;
    errno = 0;
    double value = strtod_l(copy, &end, locale);
    bool out_of_range = errno == ERANGE && (isinf(value) || value == 0);
    freelocale(locale);
    if (end != copy + text.length || (out_of_range && !(flags & KITH_NUM_RANGE_OK)) ||
        (isnan(value) && !(flags & KITH_NUM_NAN_OK)))
        return KITH_EINVAL;
    *out = value;
    return KITH_OK;
}

int kith_num_parse_double(struct kith_slice text, unsigned flags, double *out)
{
    struct decimal decimal;
    if (text.length == 0)
        return KITH_EINVAL;
    if (scan_decimal(text.data, text.data + text.length, &decimal) && decimal_to_double(&decimal, out))
        return KITH_OK;
    return read_double(text, flags, out);
}

int kith_num_parse_long_double(struct kith_slice text, long double *out)
{
    char copy[KITH_NUM_LONG_DOUBLE_CHARS], *end;
    int64_t whole;
    if (kith_num_parse_int64(text, &whole) == KITH_OK) {
        *out = (long double)whole;
        return KITH_OK;
    }
    if (!copy_text(copy, text, false))
        return KITH_EINVAL;
    locale_t locale = plain_locale();
    if (!locale)
        return KITH_ENOMEM;
    errno = 0;
    long double value = strtold_l(copy, &end, locale);
    bool out_of_range = errno == ERANGE && (isinf(value) || value == 0);
    freelocale(locale);
    if (end != copy + text.length || out_of_range || isnan(value))
        return KITH_EINVAL;
    *out = value;
    return KITH_OK;
}
