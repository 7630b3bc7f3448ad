/* Numbers as text, both ways and exactly: what a client may send as an integer, a score or an increment, and
 * how a reply prints one. Accepts and prints what Redis 7.2 does, and does not look at the process's locale.
 */
#ifndef KITH_BASE_NUM_H
#define KITH_BASE_NUM_H

#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

/* Room that the format functions ask for, the terminating zero included. */
#define KITH_NUM_INT64_CHARS       24
#define KITH_NUM_DOUBLE_CHARS      32
#define KITH_NUM_LONG_DOUBLE_CHARS 5120

/* Parsing takes the whole slice or fails with KITH_EINVAL and leaves *out alone. The slice needs no
 * terminator. */

/* Decimal digits, the first not 0 unless it is the only one; a leading '-' but no '+', no space, no "-0". */
int kith_num_parse_int64(struct kith_slice text, int64_t *out);
/* The same without a sign. */
int kith_num_parse_uint64(struct kith_slice text, uint64_t *out);

/* What strtod reads: decimal and hexadecimal floats, "inf" and "infinity" in any case and with either sign.
 * Refused unless the flag says otherwise: a leading space, NaN, and what overflows to infinity or underflows
 * to zero. */
enum kith_num_flag {
    KITH_NUM_SPACE_OK = 1, /* leading white space */
    KITH_NUM_NAN_OK = 2,
    KITH_NUM_RANGE_OK = 4, /* too large gives an infinity, too small gives zero */
};
int kith_num_parse_double(struct kith_slice text, unsigned flags, double *out);

/* The same rules, no flags: INCRBYFLOAT's operand. */
int kith_num_parse_long_double(struct kith_slice text, long double *out);

/* Formatting writes a terminated string to `out` and returns its length. */

/* At most 20 characters. */
size_t kith_num_format_int64(char out[KITH_NUM_INT64_CHARS], int64_t value);
size_t kith_num_format_uint64(char out[KITH_NUM_INT64_CHARS], uint64_t value);

/* The shortest decimal that reads back as the same double: "3", "0.1", "1e+21", "5e-324", "inf", "-inf",
 * "nan",
 * "-0". Whole numbers up to 2^62 are written in full. At most 25 characters. */
size_t kith_num_format_double(char out[KITH_NUM_DOUBLE_CHARS], double value);

/* 17 decimals with the trailing zeros cut, never an exponent, "-0" as "0": INCRBYFLOAT's reply. */
size_t kith_num_format_long_double(char out[KITH_NUM_LONG_DOUBLE_CHARS], long double value);

#endif
