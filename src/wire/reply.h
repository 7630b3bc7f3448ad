/* Writes replies in RESP2 or RESP3 to the end of a buffer. A handler says what the value is (a map, a double,
 * a null) and never looks at the protocol: the difference lives here. Sources: the RESP2 and RESP3
 * specifications of the Redis documentation.
 *
 * Nothing here returns a status: a failed allocation sticks in out->failed (base/buf.h), and the connection
 * is closed by the one who sends the buffer. Containers are a header followed by that many replies:
 * kith_reply_array(r, 2) and then two more calls. Where the count is known only afterwards, use the begin/end
 * pairs. */
#ifndef KITH_WIRE_REPLY_H
#define KITH_WIRE_REPLY_H

#include "base/buf.h"
#include "base/slice.h"
#include "wire/digits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kith_reply {
    struct kith_buf *out; /* borrowed; replies are appended */
    uint8_t protocol;     /* 2 or 3 */
    uint32_t error_count; /* error replies written since init, for INFO's statistics */
};

static inline void kith_reply_init(struct kith_reply *reply, struct kith_buf *out, uint8_t protocol)
{
    *reply = (struct kith_reply){.out = out, .protocol = protocol};
}

/* Bytes as they are: they must be a whole reply (or a whole piece of one). */
static inline void kith_reply_raw(struct kith_reply *reply, const void *bytes, size_t length)
{
    kith_buf_append(reply->out, bytes, length);
}

enum { KITH_REPLY_HEADER_MAX = 1 + 1 + KITH_DIGITS_MAX + 2 };

/* `type`, the count, CR LF: the start of nearly everything. `type` is a RESP type byte. */
static inline void kith_reply_header(struct kith_reply *reply, char type, uint64_t count)
{
    char *room = kith_buf_reserve(reply->out, KITH_REPLY_HEADER_MAX);
    if (!room)
        return;
    room[0] = type;
    char *at = kith_digits_put(room + 1, count);
    memcpy(at, "\r\n", 2);
    reply->out->length += (size_t)(at + 2 - room);
}

/* "+OK" */
static inline void kith_reply_ok(struct kith_reply *reply)
{
    kith_buf_append(reply->out, "+OK\r\n", 5);
}

/* A status line such as PONG or QUEUED. `text` is ours, not a client's: no CR or LF inside. */
void kith_reply_simple(struct kith_reply *reply, const char *text);

/* An error. `text` starts with its code word ("ERR ...", "WRONGTYPE ..."), without '-' or line end. CR, LF
 * and NUL inside become spaces, trailing ones are cut: what a client sent can be quoted without breaking the
 * protocol. */
void kith_reply_error(struct kith_reply *reply, const char *text);
void kith_reply_error_slice(struct kith_reply *reply, struct kith_slice text);
void kith_reply_error_format(struct kith_reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void kith_reply_int(struct kith_reply *reply, int64_t value)
{
    char *room = kith_buf_reserve(reply->out, KITH_REPLY_HEADER_MAX);
    if (!room)
        return;
    room[0] = ':';
    char *at = kith_digits_put_signed(room + 1, value);
    memcpy(at, "\r\n", 2);
    reply->out->length += (size_t)(at + 2 - room);
}

static inline void kith_reply_bulk(struct kith_reply *reply, struct kith_slice bytes)
{
    char *room = kith_buf_reserve(reply->out, bytes.length + KITH_REPLY_HEADER_MAX + 2);
    if (!room)
        return;
    room[0] = '$';
    char *at = kith_digits_put(room + 1, bytes.length);
    memcpy(at, "\r\n", 2);
    at += 2;
    if (bytes.length)
        memcpy(at, bytes.data, bytes.length);
    memcpy(at + bytes.length, "\r\n", 2);
    reply->out->length += (size_t)(at + bytes.length + 2 - room);
}

static inline void kith_reply_bulk_text(struct kith_reply *reply, const char *text)
{
    kith_reply_bulk(reply, kith_slice(text, strlen(text)));
}

/* The decimal text of `value` as a bulk string. */
void kith_reply_bulk_int(struct kith_reply *reply, int64_t value);

/* printf into a bulk string. */
void kith_reply_bulk_format(struct kith_reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Opens a bulk string of exactly `length` bytes and returns where they go, for values that are made in place
 * (GETRANGE of a packed value, a vector's blob). The caller fills all of them before the next call. NULL when
 * memory is out. */
char *kith_reply_bulk_room(struct kith_reply *reply, size_t length);

/* The missing value where a string is expected: "$-1" or "_". */
static inline void kith_reply_null(struct kith_reply *reply)
{
    if (reply->protocol >= 3)
        kith_buf_append(reply->out, "_\r\n", 3);
    else
        kith_buf_append(reply->out, "$-1\r\n", 5);
}

/* The missing value where an array is expected: "*-1" or "_". */
static inline void kith_reply_null_array(struct kith_reply *reply)
{
    if (reply->protocol >= 3)
        kith_buf_append(reply->out, "_\r\n", 3);
    else
        kith_buf_append(reply->out, "*-1\r\n", 5);
}

static inline void kith_reply_array(struct kith_reply *reply, size_t count)
{
    kith_reply_header(reply, '*', count);
}

/* `pairs` times key, value follow. RESP2: an array of 2 * pairs. */
static inline void kith_reply_map(struct kith_reply *reply, size_t pairs)
{
    if (reply->protocol >= 3)
        kith_reply_header(reply, '%', pairs);
    else
        kith_reply_header(reply, '*', 2 * (uint64_t)pairs);
}

/* RESP2: an array. */
static inline void kith_reply_set(struct kith_reply *reply, size_t count)
{
    kith_reply_header(reply, reply->protocol >= 3 ? '~' : '*', count);
}

/* Out-of-band message (invalidation, subscription). RESP2: an array. */
static inline void kith_reply_push(struct kith_reply *reply, size_t count)
{
    kith_reply_header(reply, reply->protocol >= 3 ? '>' : '*', count);
}

/* RESP2: 1 or 0. */
static inline void kith_reply_bool(struct kith_reply *reply, bool value)
{
    if (reply->protocol >= 3)
        kith_buf_append(reply->out, value ? "#t\r\n" : "#f\r\n", 4);
    else
        kith_buf_append(reply->out, value ? ":1\r\n" : ":0\r\n", 4);
}

/* The shortest text that reads back as the same double; "inf", "-inf", "nan". RESP2: a bulk string. */
void kith_reply_double(struct kith_reply *reply, double value);

/* Decimal digits of any length with an optional sign. RESP2: a bulk string. */
void kith_reply_big_number(struct kith_reply *reply, struct kith_slice digits);

/* Text for people; `format` is three letters, "txt" or "mkd". RESP2: a bulk string. */
void kith_reply_verbatim(struct kith_reply *reply, const char *format, struct kith_slice text);

/* Deferred counts: what is written between begin and end is the content, and end puts the header before it.
 * Marks nest; end the inner one first. The content is moved by the header's few bytes, once. Nothing else may
 * shrink or send the buffer in between. */
struct kith_reply_mark {
    size_t offset;
};

static inline struct kith_reply_mark kith_reply_array_begin(struct kith_reply *reply)
{
    return (struct kith_reply_mark){reply->out->length};
}

static inline struct kith_reply_mark kith_reply_map_begin(struct kith_reply *reply)
{
    return (struct kith_reply_mark){reply->out->length};
}

void kith_reply_array_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t count);
void kith_reply_map_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t pairs);
void kith_reply_set_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t count);

/* Takes back everything since the mark (an error found half way): the error count is left alone. */
void kith_reply_rewind(struct kith_reply *reply, struct kith_reply_mark mark);

#endif
