/* The attributes of a vector-set element: a JSON text as the client gave it, and its top-level fields parsed
 * once, for filters. The content is immutable and one allocation, so that filters on worker threads read it
 * without a lock; a change makes a new one. */
#ifndef KITH_ENGINE_ATTRIBUTES_H
#define KITH_ENGINE_ATTRIBUTES_H

#include "base/slice.h"

#include <stdint.h>

/* What a field or an element of an array is to a filter. Objects and nested arrays are kept as "other". */
enum kith_value_kind {
    KITH_VALUE_NULL,
    KITH_VALUE_NUMBER, /* booleans, too: 1 and 0 */
    KITH_VALUE_TEXT,
    KITH_VALUE_ARRAY,
    KITH_VALUE_OTHER
};

struct kith_attribute_value {
    enum kith_value_kind kind;
    uint32_t count; /* bytes of a TEXT, items of an ARRAY */
    union {
        double number;
        const char *text;
        const struct kith_attribute_value *items;
    };
};

struct kith_attributes;

/* Keeps `text` and parses it. What is not a JSON object (RFC 8259; a name that stands twice is refused, too)
 * is kept as a text without fields. NULL: no memory, or 4 GiB and more. */
struct kith_attributes *kith_attributes_open(struct kith_slice text);
/* Drops one holder; the last one frees. NULL is safe. One thread at a time for all holders of one object:
 * only the content may be read beside it. */
void kith_attributes_close(struct kith_attributes *attributes);
/* One holder more; returns its argument, which may be NULL. */
struct kith_attributes *kith_attributes_hold(struct kith_attributes *attributes);

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
size_t kith_attributes_bytes(const struct kith_attributes *attributes); /* NULL: 0 */

#endif
