/* The attributes of a vector-set element: a JSON text as the client gave it, and its top-level fields parsed
 * once, for filters. Immutable, one allocation, so that filters on worker threads read it without a lock; a
 * change makes a new one. */
#ifndef KITH_ENGINE_ATTRIBUTES_H
#define KITH_ENGINE_ATTRIBUTES_H

#include "base/slice.h"

#include <stdint.h>

/* What a field or an element of an array is to a filter. Objects and nested arrays are kept as "other": no
 * filter matches them. */
enum kith_value_kind {
    KITH_VALUE_NULL,
    KITH_VALUE_NUMBER,
    KITH_VALUE_TEXT,
    KITH_VALUE_ARRAY,
    KITH_VALUE_OTHER
};

struct kith_attribute_value {
    enum kith_value_kind kind;
    double number;                            /* NUMBER; booleans are 1 and 0 */
    struct kith_slice text;                   /* TEXT */
    const struct kith_attribute_value *items; /* ARRAY: item_count of them */
    uint32_t item_count;
};

struct kith_attributes;

/* Keeps `text` and parses it; text that is not a JSON object is kept too, and has no fields. NULL when there
 * is no memory. */
struct kith_attributes *kith_attributes_open(struct kith_slice text);
void kith_attributes_close(struct kith_attributes *attributes); /* NULL is safe */

/* The text as given; borrowed. */
struct kith_slice kith_attributes_text(const struct kith_attributes *attributes);
/* The text was a JSON object. */
bool kith_attributes_valid(const struct kith_attributes *attributes);
/* The field's value, or NULL; borrowed. */
const struct kith_attribute_value *kith_attributes_get(const struct kith_attributes *attributes,
                                                       struct kith_slice name);
/* A link for a list of attributes that nobody shows any more; returns the old one. */
struct kith_attributes *kith_attributes_set_next(struct kith_attributes *attributes,
                                                 struct kith_attributes *next);
size_t kith_attributes_bytes(const struct kith_attributes *attributes);

#endif
