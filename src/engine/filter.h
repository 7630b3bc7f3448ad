/* FILTER expressions over the attributes of vector-set elements, compiled once and evaluated per element.
 *
 *     .year >= 1980 and .genre in ["drama", "crime"] and not .hidden
 *
 * From weakest to strongest: or ||, and &&, comparisons (== != > >= < <= in), + -, * / %, ** (right to left),
 * not ! (words in any case). Values: numbers, "text" or 'text' (with \ escapes), true, false, null, [lists] of these, .field of
 * the attributes (letters, digits, _ and -). An element that lacks a field that the expression names, or has
 * an object there, or no attributes at all, does not match, whatever the expression says of it (as in Redis
 * 8). Numbers count as false when they are 0, texts when they are empty, null always. A text compared with a
 * number is read as a number, 0 if it is none. `in` tests the items of a list. */
#ifndef KITH_ENGINE_FILTER_H
#define KITH_ENGINE_FILTER_H

#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

#define KITH_FILTER_BYTES_MAX 65536 /* longest expression */
#define KITH_FILTER_DEPTH_MAX 256   /* deepest nesting of parentheses and pending operators */

struct kith_filter;
struct kith_attributes;

/* Compiles `text`. KITH_EINVAL with a sentence in *error (where, and what was expected), KITH_ENOMEM. */
int kith_filter_open(struct kith_filter **out, struct kith_slice text, struct kith_error *error);
void kith_filter_close(struct kith_filter *filter); /* NULL is safe */

/* Whether an element with these attributes (NULL: none) matches. Thread-safe: changes nothing. */
bool kith_filter_match(const struct kith_filter *filter, const struct kith_attributes *attributes);

#endif
