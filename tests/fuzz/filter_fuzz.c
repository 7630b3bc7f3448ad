/* FILTER expressions from any bytes: they compile or are refused with a place that is inside them, and what
 * compiles can be evaluated on any attributes, twice with one result. The input is the expression; a zero
 * byte, if there is one, ends it, and the rest is a JSON text to evaluate it on. */
#include "base/assert.h"
#include "engine/attributes.h"
#include "engine/filter.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const samples[] = {
    "{}",
    "{\"y\":1,\"s\":\"ab\",\"t\":[\"x\",2,true,null,[1],{}],\"b\":true,\"n\":null,\"o\":{\"p\":1}}",
    "{\"y\":-0.0,\"s\":\"\",\"t\":[],\"b\":false,\"n\":1e308,\"o\":\"12\"}",
    "not json",
};

static void match(const struct kith_filter *filter, struct kith_slice json)
{
    struct kith_attributes *attributes = kith_attributes_open(json);
    if (!attributes)
        abort();
    bool first = kith_filter_match(filter, attributes);
    KITH_ASSERT(first == kith_filter_match(filter, attributes));
    KITH_ASSERT(!first || kith_attributes_valid(attributes));
    KITH_ASSERT(kith_slice_equal(kith_attributes_text(attributes), json));
    kith_attributes_close(attributes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t length = end ? (size_t)(end - data) : size;
    struct kith_slice json = end ? kith_slice(end + 1, size - length - 1) : kith_slice("", 0);
    /* Copies, so that a byte read past the end is seen; the attributes have their own already. */
    char *copy = malloc(length ? length : 1);
    if (!copy)
        abort();
    if (length)
        memcpy(copy, data, length);
    struct kith_filter *filter = NULL;
    struct kith_error error = {""};
    int status = kith_filter_open(&filter, kith_slice(copy, length), &error);
    free(copy);
    KITH_ASSERT(status == KITH_OK || (status == KITH_EINVAL && error.text[0] && !filter));
    if (status != KITH_OK)
        return 0;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        match(filter, kith_slice(samples[i], strlen(samples[i])));
    match(filter, json);
    KITH_ASSERT(!kith_filter_match(filter, NULL));
    kith_filter_close(filter);
    return 0;
}
