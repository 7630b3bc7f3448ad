/* The request parser. One idea: the common case (the whole request is here, every line is short and well
 * formed) runs in one tight loop of parse_arguments_fast; whatever is odd (a line cut by the end of the
 * input, a bad number, a line that never ends) goes to the slow readers, which know every error text and may
 * take its time. */
#include "wire/request.h"

#include "base/assert.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    NEED_MORE = 0,
    WHOLE = 1,
    SLICES_AT_ONCE = 1024, /* argument slots that a header may claim before the arguments are there */
    SLICES_KEPT = 256,     /* slots and bytes kept by trim */
    LINE_KEPT = 4096,
};

void kith_request_parser_init(struct kith_request_parser *parser, const struct kith_request_limits *limits)
{
    *parser = (struct kith_request_parser){.limits = limits, .needed = 1};
}

void kith_request_parser_fini(struct kith_request_parser *parser)
{
    free(parser->slices);
    kith_buf_fini(&parser->line);
    *parser = (struct kith_request_parser){0};
}

bool kith_request_is_partial(const struct kith_request_parser *parser)
{
    return parser->scanned > 0;
}

size_t kith_request_parser_memory(const struct kith_request_parser *parser)
{
    return parser->slice_capacity * sizeof *parser->slices + parser->line.capacity;
}

void kith_request_parser_trim(struct kith_request_parser *parser)
{
    if (kith_request_is_partial(parser))
        return;
    parser->slice_count = 0;
    if (parser->slice_capacity > SLICES_KEPT) {
        free(parser->slices);
        parser->slices = NULL;
        parser->slice_capacity = 0;
    }
    if (parser->line.capacity > LINE_KEPT)
        kith_buf_fini(&parser->line);
}

static int reserve_slices(struct kith_slice **slices, size_t *capacity, size_t need)
{
    if (need <= *capacity)
        return KITH_OK;
    size_t grown = *capacity + *capacity / 2;
    if (grown < need)
        grown = need;
    if (grown < 16)
        grown = 16;
    struct kith_slice *moved = realloc(*slices, grown * sizeof *moved);
    if (!moved)
        return KITH_ENOMEM;
    *slices = moved;
    *capacity = grown;
    return KITH_OK;
}

static int protocol_error(struct kith_request_parser *parser, const char *text)
{
    snprintf(parser->error, sizeof parser->error, "ERR Protocol error: %s", text);
    return parser->status = KITH_ECORRUPT;
}

/* The digits of a length line whose end is in [at, end): *next is put behind CR LF. False for anything
 * unusual. */
static inline bool length_line_fast(const char *at, const char *end, uint64_t *value, const char **next)
{
    /* Twelve bytes hold every length of up to ten digits with its line end. */
    const char *stop = end - at > 12 ? at + 12 : end;
    const char *first = at;
    uint64_t number = 0;
    unsigned digit;
    while (at < stop && (digit = (unsigned char)*at - (unsigned)'0') < 10) {
        number = number * 10 + digit;
        at++;
    }
    if (at == first || stop - at < 2 || at[0] != '\r' || at[1] != '\n' || (*first == '0' && at != first + 1))
        return false;
    *value = number;
    *next = at + 2;
    return true;
}

/* A decimal number as Redis's string2ll takes it: no sign but '-', no blanks, no leading zeros. */
static bool whole_number(const char *at, const char *end, int64_t *value)
{
    bool negative = at < end && *at == '-';
    at += negative;
    if (end - at < 1 || end - at > 18 || *at < '0' || *at > '9' || (*at == '0' && (end - at > 1 || negative)))
        return false;
    int64_t number = 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        number = number * 10 + (*at - '0');
    }
    *value = negative ? -number : number;
    return true;
}

enum line_kind { ARGUMENT_COUNT, BULK_LENGTH };

/* The careful reader of a length line: data[position] is its type byte. Returns WHOLE with *value and *next
 * (an offset), NEED_MORE, or an error. `*value` is within limits. */
static int length_line_slow(struct kith_request_parser *parser, enum line_kind kind, const char *data,
                            size_t length, size_t position, uint64_t *value, size_t *next)
{
    const struct kith_request_limits *limits = parser->limits;
    size_t from = parser->scanned > position ? parser->scanned : position;
    const char *cr = from < length ? memchr(data + from, '\r', length - from) : NULL;
    size_t line_length = (cr ? (size_t)(cr - data) : length) - position;
    if (line_length > limits->line_max)
        return protocol_error(parser, kind == ARGUMENT_COUNT ? "too big mbulk count string"
                                                             : "too big bulk count string");
    if (!cr || (size_t)(cr - data) + 1 >= length) {
        parser->scanned = cr ? (size_t)(cr - data) : length;
        parser->needed = cr ? 1 : 2;
        return NEED_MORE;
    }
    int64_t number = 0;
    bool valid = whole_number(data + position + 1, cr, &number) && cr[1] == '\n';
    if (kind == ARGUMENT_COUNT) {
        if (!valid || number > (int64_t)limits->arguments_max)
            return protocol_error(parser, valid && limits->unauthenticated
                                              ? "unauthenticated multibulk length"
                                              : "invalid multibulk length");
        number = number < 0 ? 0 : number;
    } else {
        if (data[position] != '$') {
            char text[32];
            snprintf(text, sizeof text, "expected '$', got '%c'", data[position]);
            return protocol_error(parser, text);
        }
        if (!valid || number < 0 || (uint64_t)number > limits->bulk_max)
            return protocol_error(parser, valid && number > 0 && limits->unauthenticated
                                              ? "unauthenticated bulk length"
                                              : "invalid bulk length");
    }
    *value = (uint64_t)number;
    *next = (size_t)(cr - data) + 2;
    return WHOLE;
}

/* The arguments of an array request that are whole and have plain length lines: nearly all there are. Stops
 * at the first that is not, with parser->position at its '$'. State is kept in locals, for speed, and written
 * back once. */
static void parse_arguments_fast(struct kith_request_parser *parser, const char *data, size_t length)
{
    const char *at = data + parser->position, *end = data + length;
    const uint64_t bulk_max = parser->limits->bulk_max;
    struct kith_slice *slice = parser->slices + parser->slice_count;
    size_t room = parser->slice_capacity - parser->slice_count, filled = 0;
    size_t most = parser->argument_left < room ? parser->argument_left : room;
    while (filled < most) {
        uint64_t bulk_length;
        const char *bytes;
        if (end - at <= 3 || *at != '$' || !length_line_fast(at + 1, end, &bulk_length, &bytes) ||
            bulk_length > bulk_max || (size_t)(end - bytes) < bulk_length + 2 || bytes[bulk_length] != '\r' ||
            bytes[bulk_length + 1] != '\n')
            break;
        slice[filled++] = kith_slice(bytes, bulk_length);
        at = bytes + bulk_length + 2;
    }
    parser->slice_count += filled;
    parser->argument_left -= filled;
    parser->position = (size_t)(at - data);
    if (filled)
        parser->scanned = parser->position;
}

/* One argument with every check. Returns WHOLE, NEED_MORE or an error. */
static int parse_argument_slow(struct kith_request_parser *parser, const char *data, size_t length)
{
    if (!parser->in_bulk) {
        size_t next = 0;
        int status = length_line_slow(parser, BULK_LENGTH, data, length, parser->position,
                                      &parser->bulk_length, &next);
        if (status != WHOLE)
            return status;
        parser->in_bulk = true;
        parser->position = parser->scanned = next;
    }
    const char *bytes = data + parser->position;
    size_t have = length - parser->position;
    uint64_t bulk_length = parser->bulk_length;
    if (have < bulk_length + 2) {
        parser->scanned = length;
        /* The shortest argument is "$0", CR LF, CR LF. */
        parser->needed = (size_t)(bulk_length + 2 - have + (parser->argument_left - 1) * 6);
        return NEED_MORE;
    }
    if (bytes[bulk_length] != '\r' || bytes[bulk_length + 1] != '\n')
        return protocol_error(parser, "expected CR LF after the argument");
    if (reserve_slices(&parser->slices, &parser->slice_capacity, parser->slice_count + 1))
        return KITH_ENOMEM;
    parser->slices[parser->slice_count++] = kith_slice(bytes, bulk_length);
    parser->in_bulk = false;
    parser->argument_left--;
    parser->position += bulk_length + 2;
    parser->scanned = parser->position;
    return WHOLE;
}

/* The arguments of an array request, from parser->position on. All state is in the parser, so that it goes on
 * where it stopped. */
static int parse_arguments(struct kith_request_parser *parser, const char *data, size_t length)
{
    int status = WHOLE;
    while (parser->argument_left && status == WHOLE) {
        if (!parser->in_bulk)
            parse_arguments_fast(parser, data, length);
        if (parser->argument_left)
            status = parse_argument_slow(parser, data, length);
    }
    return status;
}

/* Space as isspace() has it in the C locale. */
static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a backslash sequence at `at` (behind the backslash) stands for; *at is moved behind it. */
static char unescape(const char **at, const char *end)
{
    const char *p = *at;
    if (*p == 'x' && end - p >= 3 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
        *at = p + 3;
        return (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
    }
    *at = p + 1;
    switch (*p) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return *p;
    }
}

/* A quoted run: *at is behind the opening quote and is moved behind the closing one. Returns the end of what
 * was written at `to`, or NULL when the quote does not close, or closes in the middle of a word. */
static char *unquote(const char **at, const char *end, char quote, char *to)
{
    const char *p = *at;
    while (p < end && *p != quote) {
        if (*p == '\\' && p + 1 < end && quote == '"') {
            p++;
            *to++ = unescape(&p, end);
        } else if (*p == '\\' && p + 1 < end && p[1] == '\'' && quote == '\'') {
            *to++ = '\'';
            p += 2;
        } else {
            *to++ = *p++;
        }
    }
    if (p == end || (p + 1 < end && !is_blank(p[1])))
        return NULL;
    *at = p + 1;
    return to;
}

int kith_request_split_line(struct kith_slice line, struct kith_buf *room, struct kith_slice **slices,
                            size_t *count, size_t *capacity)
{
    const char *at = line.data, *end = at + line.length;
    size_t found = *count;
    /* Unquoting only shortens: one reservation holds everything, and nothing moves. */
    char *to = kith_buf_reserve(room, line.length + 1);
    if (!to)
        return KITH_ENOMEM;
    for (;;) {
        while (at < end && is_blank(*at))
            at++;
        if (at == end)
            break;
        char *word = to;
        while (at < end && !is_blank(*at)) {
            if (*at == '"' || *at == '\'') {
                char quote = *at++;
                to = unquote(&at, end, quote, to);
                if (!to)
                    return KITH_EINVAL;
            } else {
                *to++ = *at++;
            }
        }
        if (reserve_slices(slices, capacity, found + 1))
            return KITH_ENOMEM;
        (*slices)[found++] = kith_slice(word, (size_t)(to - word));
    }
    room->length = (size_t)(to - room->data);
    *count = found;
    return KITH_OK;
}

static int parse_inline(struct kith_request_parser *parser, const char *data, size_t length)
{
    const char *newline = memchr(data + parser->scanned, '\n', length - parser->scanned);
    size_t line_length = newline ? (size_t)(newline - data) : length;
    if (line_length > parser->limits->line_max)
        return protocol_error(parser, "too big inline request");
    if (!newline) {
        parser->scanned = length;
        parser->needed = 1;
        return NEED_MORE;
    }
    parser->position = line_length + 1;
    /* As in Redis, a zero byte ends the line early. */
    line_length = strnlen(data, line_length);
    size_t before = parser->slice_count;
    kith_buf_clear(&parser->line);
    int status = kith_request_split_line(kith_slice(data, line_length), &parser->line, &parser->slices,
                                         &parser->slice_count, &parser->slice_capacity);
    if (status == KITH_EINVAL)
        return protocol_error(parser, "unbalanced quotes in request");
    if (status)
        return status;
    if (parser->slice_count - before > parser->limits->arguments_max)
        return protocol_error(parser, "too many arguments in inline request");
    return WHOLE;
}

/* One request whose first byte is data[0]. */
static int parse_one(struct kith_request_parser *parser, const char *data, size_t length)
{
    if (parser->argument_left)
        return parse_arguments(parser, data, length);
    if (data[0] != '*')
        return parse_inline(parser, data, length);

    const char *next = data;
    uint64_t count = 0;
    size_t offset = 0;
    if (length_line_fast(data + 1, data + length, &count, &next) && count <= parser->limits->arguments_max) {
        offset = (size_t)(next - data);
    } else {
        int status = length_line_slow(parser, ARGUMENT_COUNT, data, length, 0, &count, &offset);
        if (status != WHOLE)
            return status;
    }
    if (reserve_slices(&parser->slices, &parser->slice_capacity,
                       parser->slice_count + (count < SLICES_AT_ONCE ? count : SLICES_AT_ONCE)))
        return KITH_ENOMEM;
    parser->argument_left = count;
    parser->position = parser->scanned = offset;
    return parse_arguments(parser, data, length);
}

/* Drops the slices of the last call's requests and points those of the unfinished one at where its bytes are
 * now. */
static void resume(struct kith_request_parser *parser, const char *data)
{
    size_t kept = kith_request_is_partial(parser) ? parser->slice_count - parser->first : 0;
    if (kept && parser->first)
        memmove(parser->slices, parser->slices + parser->first, kept * sizeof *parser->slices);
    for (size_t i = 0; i < kept && parser->base != (uintptr_t)data; i++)
        parser->slices[i].data = data + ((uintptr_t)parser->slices[i].data - parser->base);
    parser->slice_count = kept;
    parser->first = 0;
    parser->base = (uintptr_t)data;
}

/* The slices array may have moved while later requests were parsed: argv is set at the end, from the counts.
 */
static void place_arguments(struct kith_request_parser *parser, struct kith_request *requests, size_t count)
{
    struct kith_slice *next = parser->slices;
    for (size_t i = 0; i < count; i++) {
        requests[i].argv = next;
        next += requests[i].argc;
    }
}

int kith_request_parse(struct kith_request_parser *parser, const char *data, size_t length,
                       struct kith_request *requests, size_t requests_max, size_t *consumed)
{
    size_t start = 0, count = 0;
    *consumed = 0;
    if (parser->status)
        return parser->status;
    resume(parser, data);
    int status = WHOLE;
    while (count < requests_max && start < length && status == WHOLE) {
        bool is_inline = data[start] != '*';
        /* The inline buffer holds one request, and may move: it ends a batch, and does not join one. */
        if (is_inline && count)
            break;
        if (!kith_request_is_partial(parser))
            parser->first = parser->slice_count;
        status = parse_one(parser, data + start, length - start);
        if (status != WHOLE)
            break;
        size_t argc = parser->slice_count - parser->first;
        if (argc)
            requests[count++] =
                (struct kith_request){.argc = argc, .offset = start, .bytes = parser->position};
        start += parser->position;
        parser->position = parser->scanned = 0;
        if (is_inline && argc)
            break;
    }
    if (start == length)
        parser->needed = 1;
    *consumed = start;
    /* Where an unfinished request's slices point from. */
    parser->base = (uintptr_t)data + start;
    place_arguments(parser, requests, count);
    if (status < 0 && count) {
        /* The whole requests first; the error comes again, or is remembered in parser->status. */
        return (int)count;
    }
    return status < 0 ? status : (int)count;
}
