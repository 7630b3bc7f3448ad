/* Replies into trees. A line (type byte and the rest up to CR LF) either is a whole scalar, opens a bulk
 * text, or opens a container; open containers are a small stack of frames. A container's items grow as they
 * arrive; the slot being read is always the last of its array, so pointers in the frames above it stay good.
 */
#include "wire/value.h"

#include "base/assert.h"
#include "base/num.h"
#include "base/status.h"
#include "wire/reply.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ITEMS_AT_ONCE = 64,
    TEXT_AT_ONCE = 1 << 16,
};

void kith_value_fini(struct kith_value *value)
{
    switch (value->type) {
    case KITH_VALUE_SIMPLE:
    case KITH_VALUE_STRING:
    case KITH_VALUE_VERBATIM:
    case KITH_VALUE_BIG:
    case KITH_VALUE_ERROR:
        free((char *)value->text.data);
        break;
    case KITH_VALUE_ARRAY:
    case KITH_VALUE_MAP:
    case KITH_VALUE_SET:
    case KITH_VALUE_PUSH:
        for (size_t i = 0; i < value->count; i++)
            kith_value_fini(&value->items[i]);
        free(value->items);
        break;
    default:
        break;
    }
    if (value->attributes) {
        kith_value_fini(value->attributes);
        free(value->attributes);
    }
    *value = (struct kith_value){0};
}

void kith_value_reader_init(struct kith_value_reader *reader, struct kith_value_limits limits)
{
    *reader = (struct kith_value_reader){.limits = limits};
    if (reader->limits.depth_max > KITH_VALUE_DEPTH_MAX)
        reader->limits.depth_max = KITH_VALUE_DEPTH_MAX;
}

void kith_value_reader_fini(struct kith_value_reader *reader)
{
    kith_value_fini(&reader->root);
    for (size_t i = 0; i <= KITH_VALUE_DEPTH_MAX; i++) {
        if (reader->attributes[i]) {
            kith_value_fini(reader->attributes[i]);
            free(reader->attributes[i]);
        }
    }
    kith_buf_fini(&reader->line);
    *reader = (struct kith_value_reader){0};
}

bool kith_value_reader_is_partial(const struct kith_value_reader *reader)
{
    return reader->depth || reader->bulk || reader->line.length || reader->attributes[0];
}

static int refuse(struct kith_value_reader *reader, int status, const char *what, struct kith_slice line)
{
    int shown = line.length > 40 ? 40 : (int)line.length;
    snprintf(reader->error, sizeof reader->error, "%s: '%.*s'", what, shown, line.length ? line.data : "");
    return status;
}

/* Takes `bytes` from the reply's allowance. */
static int charge(struct kith_value_reader *reader, size_t bytes)
{
    if (bytes > reader->limits.bytes_max - reader->bytes) {
        snprintf(reader->error, sizeof reader->error, "the reply is larger than %zu bytes",
                 reader->limits.bytes_max);
        return KITH_ETOOBIG;
    }
    reader->bytes += bytes;
    return KITH_OK;
}

static struct kith_value_frame *innermost(struct kith_value_reader *reader)
{
    return reader->depth ? &reader->frames[reader->depth - 1] : NULL;
}

/* Where the next value goes: the root, or a fresh slot of the innermost open container. NULL: no memory. */
static struct kith_value *next_slot(struct kith_value_reader *reader)
{
    struct kith_value_frame *frame = innermost(reader);
    struct kith_value *slot = &reader->root;
    if (frame) {
        struct kith_value *container = frame->container;
        if (container->count == frame->capacity) {
            size_t most = container->count + frame->left;
            size_t grown = frame->capacity ? frame->capacity * 2 : ITEMS_AT_ONCE;
            if (grown > most)
                grown = most;
            struct kith_value *items = realloc(container->items, grown * sizeof *items);
            if (!items)
                return NULL;
            container->items = items;
            frame->capacity = grown;
        }
        slot = &container->items[container->count++];
        frame->left--;
    }
    *slot = (struct kith_value){.attributes = reader->attributes[reader->depth]};
    reader->attributes[reader->depth] = NULL;
    return slot;
}

/* Closes the containers that are complete. True when the root is. */
static bool close_complete(struct kith_value_reader *reader)
{
    while (reader->depth && innermost(reader)->left == 0) {
        bool was_attribute = innermost(reader)->is_attribute;
        reader->depth--;
        if (was_attribute)
            return false; /* its value is still to come, at this depth */
    }
    return reader->depth == 0;
}

static int copy_text(struct kith_value_reader *reader, enum kith_value_type type, struct kith_slice text)
{
    int status = charge(reader, text.length + 1);
    if (status)
        return status;
    char *copy = malloc(text.length + 1);
    if (!copy)
        return KITH_ENOMEM;
    struct kith_value *slot = next_slot(reader);
    if (!slot) {
        free(copy);
        return KITH_ENOMEM;
    }
    if (text.length)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    slot->type = type;
    slot->text = kith_slice(copy, text.length);
    return KITH_OK;
}

/* Opens a text of `length` bytes, which fill_bulk then fills as they come. */
static int open_bulk(struct kith_value_reader *reader, enum kith_value_type type, size_t length)
{
    int status = charge(reader, length);
    if (status)
        return status;
    size_t capacity = length < TEXT_AT_ONCE ? length : TEXT_AT_ONCE;
    char *data = malloc(capacity + 1);
    if (!data)
        return KITH_ENOMEM;
    struct kith_value *slot = next_slot(reader);
    if (!slot) {
        free(data);
        return KITH_ENOMEM;
    }
    slot->type = type;
    slot->text = kith_slice(data, 0);
    reader->bulk = slot;
    reader->bulk_length = length;
    reader->bulk_capacity = capacity;
    reader->bulk_end = 0;
    return KITH_OK;
}

/* "txt:" in front of a verbatim string goes to its format. */
static int close_verbatim(struct kith_value_reader *reader, struct kith_value *value)
{
    char *data = (char *)value->text.data;
    if (value->text.length < 4 || data[3] != ':')
        return refuse(reader, KITH_ECORRUPT, "a verbatim string without its format", value->text);
    memcpy(value->format, data, 3);
    value->text.length -= 4;
    memmove(data, data + 4, value->text.length + 1);
    return KITH_OK;
}

/* Moves what is there of the open text into it. Returns 1 when it is complete, 0 when bytes are missing. */
static int fill_bulk(struct kith_value_reader *reader, const char *data, size_t length, size_t *consumed)
{
    struct kith_value *value = reader->bulk;
    size_t have = value->text.length, used = reader->bulk_length - have;
    if (used > length)
        used = length;
    if (have + used > reader->bulk_capacity) {
        size_t grown = reader->bulk_capacity * 2;
        if (grown < have + used)
            grown = have + used;
        if (grown > reader->bulk_length)
            grown = reader->bulk_length;
        char *moved = realloc((char *)value->text.data, grown + 1);
        if (!moved)
            return KITH_ENOMEM;
        value->text.data = moved;
        reader->bulk_capacity = grown;
    }
    char *text = (char *)value->text.data;
    if (used)
        memcpy(text + have, data, used);
    value->text.length = have + used;
    text[have + used] = '\0';
    while (value->text.length == reader->bulk_length && used < length && reader->bulk_end < 2) {
        if (data[used] != "\r\n"[reader->bulk_end])
            return refuse(reader, KITH_ECORRUPT, "a string is longer than its length says",
                          (struct kith_slice){0});
        used++;
        reader->bulk_end++;
    }
    *consumed += used;
    if (reader->bulk_end < 2)
        return 0;
    reader->bulk = NULL;
    int status = value->type == KITH_VALUE_VERBATIM ? close_verbatim(reader, value) : KITH_OK;
    return status ? status : 1;
}

static int open_container(struct kith_value_reader *reader, enum kith_value_type type, size_t values,
                          bool is_attribute)
{
    if (reader->depth == reader->limits.depth_max) {
        snprintf(reader->error, sizeof reader->error, "the reply nests deeper than %u",
                 reader->limits.depth_max);
        return KITH_ETOOBIG;
    }
    struct kith_value *container;
    if (is_attribute) {
        container = calloc(1, sizeof *container);
        if (!container)
            return KITH_ENOMEM;
        if (reader->attributes[reader->depth]) {
            free(container);
            return refuse(reader, KITH_ECORRUPT, "two attributes before one value", (struct kith_slice){0});
        }
        reader->attributes[reader->depth] = container;
    } else {
        container = next_slot(reader);
        if (!container)
            return KITH_ENOMEM;
    }
    container->type = type;
    container->items = NULL;
    container->count = 0;
    reader->frames[reader->depth++] =
        (struct kith_value_frame){.container = container, .left = values, .is_attribute = is_attribute};
    return KITH_OK;
}

static int set_scalar(struct kith_value_reader *reader, struct kith_value value)
{
    struct kith_value *slot = next_slot(reader);
    if (!slot)
        return KITH_ENOMEM;
    value.attributes = slot->attributes;
    *slot = value;
    return KITH_OK;
}

static int read_number(struct kith_value_reader *reader, struct kith_slice line)
{
    struct kith_slice digits = kith_slice(line.data + 1, line.length - 1);
    struct kith_value value = {0};
    int status;
    if (line.data[0] == ':') {
        value.type = KITH_VALUE_INT;
        if (digits.length && digits.data[0] == '+')
            digits = kith_slice(digits.data + 1, digits.length - 1);
        status = kith_num_parse_int64(digits, &value.integer);
    } else {
        value.type = KITH_VALUE_DOUBLE;
        status = kith_num_parse_double(digits, KITH_NUM_NAN_OK | KITH_NUM_RANGE_OK, &value.number);
    }
    return status ? refuse(reader, KITH_ECORRUPT, "not a number", line) : set_scalar(reader, value);
}

/* A line that announces a length: a text or a container. */
static int read_length(struct kith_value_reader *reader, struct kith_slice line)
{
    static const struct {
        char mark;
        uint8_t type, per_count;
    } kinds[] = {
        {'$', KITH_VALUE_STRING, 0}, {'!', KITH_VALUE_ERROR, 0}, {'=', KITH_VALUE_VERBATIM, 0},
        {'*', KITH_VALUE_ARRAY, 1},  {'~', KITH_VALUE_SET, 1},   {'>', KITH_VALUE_PUSH, 1},
        {'%', KITH_VALUE_MAP, 2},    {'|', KITH_VALUE_MAP, 2},
    };
    int64_t length;
    size_t k = 0;
    while (k < sizeof kinds / sizeof *kinds && kinds[k].mark != line.data[0])
        k++;
    if (k == sizeof kinds / sizeof *kinds)
        return refuse(reader, KITH_ECORRUPT, "not a reply of the Redis protocol", line);
    if (kith_num_parse_int64(kith_slice(line.data + 1, line.length - 1), &length) || length < -1)
        return refuse(reader, KITH_ECORRUPT, "not a length", line);
    if (length < 0) {
        if (line.data[0] != '$' && line.data[0] != '*')
            return refuse(reader, KITH_ECORRUPT, "not a length", line);
        return set_scalar(reader, (struct kith_value){.type = KITH_VALUE_NULL});
    }
    if (!kinds[k].per_count)
        return open_bulk(reader, kinds[k].type, (size_t)length);
    uint64_t values = (uint64_t)length * kinds[k].per_count;
    if (values > reader->limits.bytes_max)
        return refuse(reader, KITH_ETOOBIG, "too many items", line);
    int status = charge(reader, values * sizeof(struct kith_value));
    return status ? status : open_container(reader, kinds[k].type, values, line.data[0] == '|');
}

static int read_line(struct kith_value_reader *reader, struct kith_slice line)
{
    struct kith_slice rest = kith_slice(line.data + 1, line.length ? line.length - 1 : 0);
    switch (line.length ? line.data[0] : '\0') {
    case '+':
        return copy_text(reader, KITH_VALUE_SIMPLE, rest);
    case '-':
        return copy_text(reader, KITH_VALUE_ERROR, rest);
    case '(':
        return copy_text(reader, KITH_VALUE_BIG, rest);
    case ':':
    case ',':
        return read_number(reader, line);
    case '_':
        if (rest.length)
            return refuse(reader, KITH_ECORRUPT, "not a null", line);
        return set_scalar(reader, (struct kith_value){.type = KITH_VALUE_NULL});
    case '#':
        if (rest.length != 1 || (*rest.data != 't' && *rest.data != 'f'))
            return refuse(reader, KITH_ECORRUPT, "not a boolean", line);
        return set_scalar(reader, (struct kith_value){.type = KITH_VALUE_BOOL, .integer = *rest.data == 't'});
    default:
        return read_length(reader, line);
    }
}

/* Finds the end of the present line and reads it. Returns 1 when a line was read, 0 when its end is missing.
 */
static int take_line(struct kith_value_reader *reader, const char *data, size_t length, size_t *consumed)
{
    const char *newline = memchr(data, '\n', length);
    size_t used = newline ? (size_t)(newline - data) + 1 : length;
    if (reader->line.length + used > reader->limits.line_max + 2)
        return refuse(reader, KITH_ETOOBIG, "a line that does not end", kith_slice(data, used));
    struct kith_slice line = kith_slice(data, used);
    if (!newline || reader->line.length) {
        kith_buf_append(&reader->line, data, used);
        if (reader->line.failed)
            return KITH_ENOMEM;
        line = kith_buf_slice(&reader->line);
    }
    *consumed += used;
    if (!newline)
        return 0;
    if (line.length < 2 || line.data[line.length - 2] != '\r')
        return refuse(reader, KITH_ECORRUPT, "a line without CR LF", kith_slice(line.data, line.length - 1));
    int status = read_line(reader, kith_slice(line.data, line.length - 2));
    kith_buf_clear(&reader->line);
    return status ? status : 1;
}

int kith_value_read(struct kith_value_reader *reader, const char *data, size_t length, struct kith_value *out,
                    size_t *consumed)
{
    *consumed = 0;
    int status = reader->status;
    while (status >= 0 && *consumed < length) {
        const char *at = data + *consumed;
        size_t left = length - *consumed;
        status = reader->bulk ? fill_bulk(reader, at, left, consumed) : take_line(reader, at, left, consumed);
        if (status == 1 && !reader->bulk && close_complete(reader)) {
            *out = reader->root;
            reader->root = (struct kith_value){0};
            reader->bytes = 0;
            return 1;
        }
    }
    if (status < 0)
        reader->status = status;
    return status < 0 ? status : 0;
}

void kith_request_put_count(struct kith_buf *out, size_t argc)
{
    struct kith_reply writer = {.out = out};
    kith_reply_array(&writer, argc);
}

void kith_request_put_argument(struct kith_buf *out, struct kith_slice argument)
{
    struct kith_reply writer = {.out = out};
    kith_reply_bulk(&writer, argument);
}

void kith_request_put(struct kith_buf *out, const struct kith_slice *argv, size_t argc)
{
    kith_request_put_count(out, argc);
    for (size_t i = 0; i < argc; i++)
        kith_request_put_argument(out, argv[i]);
}
