/* The less frequent reply shapes; the hot ones are inline in reply.h. */
#include "wire/reply.h"

#include "base/assert.h"
#include "base/num.h"

#include <stdarg.h>
#include <stdio.h>

void kith_reply_simple(struct kith_reply *reply, const char *text)
{
    size_t length = strlen(text);
    char *room = kith_buf_reserve(reply->out, length + 3);
    if (!room)
        return;
    room[0] = '+';
    memcpy(room + 1, text, length);
    memcpy(room + 1 + length, "\r\n", 2);
    reply->out->length += length + 3;
}

/* What would end the line early, or a C client's string. */
static bool breaks_line(char c)
{
    return c == '\r' || c == '\n' || c == '\0';
}

/* Makes text[0..length), which stands behind one free byte at the buffer's end, an error. */
static void finish_error(struct kith_reply *reply, char *text, size_t length)
{
    while (length && breaks_line(text[length - 1]))
        length--;
    for (size_t i = 0; i < length; i++)
        text[i] = breaks_line(text[i]) ? ' ' : text[i];
    text[-1] = '-';
    memcpy(text + length, "\r\n", 2);
    reply->out->length += length + 3;
}

void kith_reply_error_slice(struct kith_reply *reply, struct kith_slice text)
{
    reply->error_count++;
    char *room = kith_buf_reserve(reply->out, text.length + 3);
    if (!room)
        return;
    if (text.length)
        memcpy(room + 1, text.data, text.length);
    finish_error(reply, room + 1, text.length);
}

void kith_reply_error(struct kith_reply *reply, const char *text)
{
    kith_reply_error_slice(reply, kith_slice(text, strlen(text)));
}

void kith_reply_error_format(struct kith_reply *reply, const char *format, ...)
{
    va_list args;
    reply->error_count++;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *room = length < 0 ? NULL : kith_buf_reserve(reply->out, (size_t)length + 3);
    if (!room)
        return;
    va_start(args, format);
    vsnprintf(room + 1, (size_t)length + 1, format, args);
    va_end(args);
    finish_error(reply, room + 1, (size_t)length);
}

void kith_reply_bulk_int(struct kith_reply *reply, int64_t value)
{
    char digits[KITH_DIGITS_MAX + 1];
    char *end = kith_digits_put_signed(digits, value);
    kith_reply_bulk(reply, kith_slice(digits, (size_t)(end - digits)));
}

/* Puts `type`, count, CR LF in front of what was written since `offset`. */
static void insert_header(struct kith_buf *out, size_t offset, char type, uint64_t count)
{
    char header[KITH_REPLY_HEADER_MAX];
    header[0] = type;
    char *end = kith_digits_put(header + 1, count);
    memcpy(end, "\r\n", 2);
    size_t length = (size_t)(end + 2 - header);
    KITH_ASSERT(offset <= out->length);
    if (!kith_buf_reserve(out, length))
        return;
    memmove(out->data + offset + length, out->data + offset, out->length - offset);
    memcpy(out->data + offset, header, length);
    out->length += length;
}

char *kith_reply_bulk_room(struct kith_reply *reply, size_t length)
{
    char *room = kith_buf_reserve(reply->out, length + KITH_REPLY_HEADER_MAX + 2);
    if (!room)
        return NULL;
    kith_reply_header(reply, '$', length);
    room = reply->out->data + reply->out->length;
    memcpy(room + length, "\r\n", 2);
    reply->out->length += length + 2;
    return room;
}

void kith_reply_bulk_format(struct kith_reply *reply, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *room = length < 0 ? NULL : kith_reply_bulk_room(reply, (size_t)length);
    if (!room)
        return;
    va_start(args, format);
    vsnprintf(room, (size_t)length + 1, format, args);
    va_end(args);
    room[length] = '\r'; /* printf's zero byte took its place */
}

void kith_reply_double(struct kith_reply *reply, double value)
{
    char text[KITH_NUM_DOUBLE_CHARS];
    struct kith_slice digits = kith_slice(text, kith_num_format_double(text, value));
    if (reply->protocol < 3) {
        kith_reply_bulk(reply, digits);
        return;
    }
    char *room = kith_buf_reserve(reply->out, digits.length + 3);
    if (!room)
        return;
    room[0] = ',';
    memcpy(room + 1, digits.data, digits.length);
    memcpy(room + 1 + digits.length, "\r\n", 2);
    reply->out->length += digits.length + 3;
}

void kith_reply_big_number(struct kith_reply *reply, struct kith_slice digits)
{
    if (reply->protocol < 3) {
        kith_reply_bulk(reply, digits);
        return;
    }
    char *room = kith_buf_reserve(reply->out, digits.length + 3);
    if (!room)
        return;
    room[0] = '(';
    memcpy(room + 1, digits.data, digits.length);
    memcpy(room + 1 + digits.length, "\r\n", 2);
    reply->out->length += digits.length + 3;
}

void kith_reply_verbatim(struct kith_reply *reply, const char *format, struct kith_slice text)
{
    KITH_ASSERT(strlen(format) == 3);
    if (reply->protocol < 3) {
        kith_reply_bulk(reply, text);
        return;
    }
    if (!kith_buf_reserve(reply->out, text.length + 4 + KITH_REPLY_HEADER_MAX + 2))
        return;
    kith_reply_header(reply, '=', text.length + 4);
    kith_buf_append(reply->out, format, 3);
    kith_buf_append_char(reply->out, ':');
    kith_buf_append(reply->out, text.data, text.length);
    kith_buf_append(reply->out, "\r\n", 2);
}

void kith_reply_array_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t count)
{
    insert_header(reply->out, mark.offset, '*', count);
}

void kith_reply_map_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t pairs)
{
    if (reply->protocol >= 3)
        insert_header(reply->out, mark.offset, '%', pairs);
    else
        insert_header(reply->out, mark.offset, '*', 2 * (uint64_t)pairs);
}

void kith_reply_set_end(struct kith_reply *reply, struct kith_reply_mark mark, size_t count)
{
    insert_header(reply->out, mark.offset, reply->protocol >= 3 ? '~' : '*', count);
}

void kith_reply_rewind(struct kith_reply *reply, struct kith_reply_mark mark)
{
    KITH_ASSERT(mark.offset <= reply->out->length);
    reply->out->length = mark.offset;
}
