/* Decimal digits for protocol headers: small numbers are the rule, so the one- and two-digit cases come
 * first. Private to src/wire (reply.h inlines it). */
#ifndef KITH_WIRE_DIGITS_H
#define KITH_WIRE_DIGITS_H

#include <stdint.h>
#include <string.h>

enum { KITH_DIGITS_MAX = 20 };

/* Digits of `value`, at least 1. */
static inline unsigned kith_digits_count(uint64_t value)
{
    unsigned count = 1;
    while (value >= 10000) {
        value /= 10000;
        count += 4;
    }
    return count + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Writes `value` at `to` (KITH_DIGITS_MAX bytes of room); returns the end of what was written. */
static inline char *kith_digits_put(char *to, uint64_t value)
{
    if (value < 10) {
        *to = (char)('0' + value);
        return to + 1;
    }
    unsigned count = kith_digits_count(value);
    char *at = to + count;
    while (value >= 10) {
        *--at = (char)('0' + value % 10);
        value /= 10;
    }
    *--at = (char)('0' + value);
    return to + count;
}

/* As kith_digits_put, with a minus sign where needed (KITH_DIGITS_MAX + 1 bytes of room). */
static inline char *kith_digits_put_signed(char *to, int64_t value)
{
    if (value >= 0)
        return kith_digits_put(to, (uint64_t)value);
    *to = '-';
    return kith_digits_put(to + 1, 0 - (uint64_t)value);
}

#endif
