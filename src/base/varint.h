/* Numbers as bytes: LEB128 varints (Protocol Buffers' encoding) and fixed little-endian words. The decoders
 * check every bound, since they read files and the network. */
#ifndef KITH_BASE_VARINT_H
#define KITH_BASE_VARINT_H

#include "base/buf.h"

#include <stdint.h>

#define KITH_VARINT_MAX 10 /* bytes of the longest varint */

/* Writes at most KITH_VARINT_MAX bytes to `out`; returns how many. */
static inline size_t kith_varint_put(void *out, uint64_t value)
{
    uint8_t *p = out;
    size_t n = 0;
    while (value >= 0x80) {
        p[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    p[n++] = (uint8_t)value;
    return n;
}

static inline size_t kith_varint_size(uint64_t value)
{
    size_t n = 1;
    while (value >= 0x80) {
        value >>= 7;
        n++;
    }
    return n;
}

/* Reads a varint at in[0..length). Returns the bytes used, or 0 when it is cut short or longer than 64 bits.
 */
static inline size_t kith_varint_get(const void *in, size_t length, uint64_t *value)
{
    const uint8_t *p = in;
    uint64_t result = 0;
    for (size_t n = 0; n < length && n < KITH_VARINT_MAX; n++) {
        if (n == KITH_VARINT_MAX - 1 && p[n] > 1)
            return 0;
        result |= (uint64_t)(p[n] & 0x7f) << (7 * n);
        if (!(p[n] & 0x80)) {
            *value = result;
            return n + 1;
        }
    }
    return 0;
}

static inline void kith_buf_append_varint(struct kith_buf *buf, uint64_t value)
{
    char *room = kith_buf_reserve(buf, KITH_VARINT_MAX);
    if (room)
        buf->length += kith_varint_put(room, value);
}

static inline void kith_put_u32(void *out, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    memcpy(out, b, sizeof b);
}

static inline uint32_t kith_get_u32(const void *in)
{
    const uint8_t *b = in;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline void kith_put_u64(void *out, uint64_t v)
{
    kith_put_u32(out, (uint32_t)v);
    kith_put_u32((char *)out + 4, (uint32_t)(v >> 32));
}

static inline uint64_t kith_get_u64(const void *in)
{
    return (uint64_t)kith_get_u32(in) | (uint64_t)kith_get_u32((const char *)in + 4) << 32;
}

/* A cursor over bytes that came from outside. After a short read `failed` is set and every later read gives
 * 0. */
struct kith_reader {
    const char *data;
    size_t length;
    bool failed;
};

static inline struct kith_reader kith_reader(struct kith_slice s)
{
    return (struct kith_reader){s.data, s.length, false};
}

/* Borrows the next `length` bytes; an empty slice on failure. */
static inline struct kith_slice kith_reader_bytes(struct kith_reader *r, uint64_t length)
{
    if (r->failed || length > r->length) {
        r->failed = true;
        return kith_slice("", 0);
    }
    struct kith_slice s = kith_slice(r->data, (size_t)length);
    r->data += length;
    r->length -= (size_t)length;
    return s;
}

static inline uint64_t kith_reader_varint(struct kith_reader *r)
{
    uint64_t value = 0;
    size_t used = r->failed ? 0 : kith_varint_get(r->data, r->length, &value);
    if (!used) {
        r->failed = true;
        return 0;
    }
    r->data += used;
    r->length -= used;
    return value;
}

static inline uint32_t kith_reader_u32(struct kith_reader *r)
{
    struct kith_slice s = kith_reader_bytes(r, 4);
    return s.length ? kith_get_u32(s.data) : 0;
}

static inline uint64_t kith_reader_u64(struct kith_reader *r)
{
    struct kith_slice s = kith_reader_bytes(r, 8);
    return s.length ? kith_get_u64(s.data) : 0;
}

static inline uint8_t kith_reader_u8(struct kith_reader *r)
{
    struct kith_slice s = kith_reader_bytes(r, 1);
    return s.length ? (uint8_t)s.data[0] : 0;
}

/* A slice with its length in front, as kith_buf_append_slice writes it. */
static inline struct kith_slice kith_reader_slice(struct kith_reader *r)
{
    return kith_reader_bytes(r, kith_reader_varint(r));
}

static inline void kith_buf_append_slice(struct kith_buf *buf, struct kith_slice s)
{
    kith_buf_append_varint(buf, s.length);
    kith_buf_append(buf, s.data, s.length);
}

static inline void kith_buf_append_u32(struct kith_buf *buf, uint32_t v)
{
    char b[4];
    kith_put_u32(b, v);
    kith_buf_append(buf, b, sizeof b);
}

static inline void kith_buf_append_u64(struct kith_buf *buf, uint64_t v)
{
    char b[8];
    kith_put_u64(b, v);
    kith_buf_append(buf, b, sizeof b);
}

#endif
