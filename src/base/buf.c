/* Growable bytes. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void kith_buf_fini(struct kith_buf *buf)
{
    free(buf->data);
    *buf = (struct kith_buf){0};
}

char *kith_buf_reserve_slow(struct kith_buf *buf, size_t extra)
{
    if (buf->failed)
        return NULL;
    if (extra > SIZE_MAX / 2 - buf->length)
        goto fail;
    size_t need = buf->length + extra;
    if (need > buf->capacity || !buf->data) {
        size_t capacity = buf->capacity + buf->capacity / 2;
        if (capacity < 64)
            capacity = 64;
        if (capacity < need)
            capacity = need;
        char *data = realloc(buf->data, capacity);
        if (!data)
            goto fail;
        buf->data = data;
        buf->capacity = capacity;
    }
    return buf->data + buf->length;
fail:
    buf->failed = true;
    return NULL;
}

void kith_buf_append_format(struct kith_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *room = length < 0 ? NULL : kith_buf_reserve(buf, (size_t)length + 1);
    if (room) {
        vsnprintf(room, (size_t)length + 1, format, again);
        buf->length += (size_t)length;
    }
    va_end(again);
}

void kith_buf_consume(struct kith_buf *buf, size_t count)
{
    buf->length -= count;
    if (buf->length && count)
        memmove(buf->data, buf->data + count, buf->length);
}
