/* A growable run of bytes with a sticky failure: appends after a failed allocation do nothing, so that a
 * writer checks `failed` once at the end instead of after every byte. */
#ifndef KITH_BASE_BUF_H
#define KITH_BASE_BUF_H

#include "base/slice.h"

#include <stddef.h>
#include <string.h>

struct kith_buf {
    char *data;      /* owned; NULL while capacity is 0 */
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated */
    bool failed;     /* an allocation failed since the last clear: the content is cut short */
};

static inline void kith_buf_init(struct kith_buf *buf)
{
    *buf = (struct kith_buf){0};
}

/* Frees the memory; the buf is as after init. */
void kith_buf_fini(struct kith_buf *buf);

/* Room for `extra` more bytes, grown by half or more at a time. Returns where they go, or NULL (and sets
 * failed). Does not change length. */
char *kith_buf_reserve_slow(struct kith_buf *buf, size_t extra);

static inline char *kith_buf_reserve(struct kith_buf *buf, size_t extra)
{
    if (!buf->failed && buf->capacity - buf->length >= extra && buf->data)
        return buf->data + buf->length;
    return kith_buf_reserve_slow(buf, extra);
}

static inline void kith_buf_append(struct kith_buf *buf, const void *bytes, size_t length)
{
    char *room = kith_buf_reserve(buf, length);
    if (!room)
        return;
    if (length)
        memcpy(room, bytes, length);
    buf->length += length;
}

static inline void kith_buf_append_char(struct kith_buf *buf, char c)
{
    char *room = kith_buf_reserve(buf, 1);
    if (!room)
        return;
    *room = c;
    buf->length++;
}

static inline void kith_buf_append_text(struct kith_buf *buf, const char *text)
{
    kith_buf_append(buf, text, strlen(text));
}

void kith_buf_append_format(struct kith_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Forgets the content and a failure; keeps the memory. */
static inline void kith_buf_clear(struct kith_buf *buf)
{
    buf->length = 0;
    buf->failed = false;
}

/* Drops the first `count` bytes (count <= length). */
void kith_buf_consume(struct kith_buf *buf, size_t count);

static inline struct kith_slice kith_buf_slice(const struct kith_buf *buf)
{
    return kith_slice(buf->data, buf->length);
}

#endif
