/* A borrowed run of bytes: not owned, not terminated. Lives as long as what it points into. */
#ifndef KITH_BASE_SLICE_H
#define KITH_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct kith_slice {
    const char *data;
    size_t length;
};

#define KITH_SLICE(literal) ((struct kith_slice){(literal), sizeof(literal) - 1})

static inline struct kith_slice kith_slice(const void *data, size_t length)
{
    return (struct kith_slice){(const char *)data, length};
}

static inline bool kith_slice_equal(struct kith_slice a, struct kith_slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* memcmp order; a prefix sorts before what it is a prefix of. */
static inline int kith_slice_compare(struct kith_slice a, struct kith_slice b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

/* ASCII case ignored; `word` is a C string. */
static inline bool kith_slice_is(struct kith_slice a, const char *word)
{
    return strlen(word) == a.length && strncasecmp(a.data, word, a.length) == 0;
}

#endif
