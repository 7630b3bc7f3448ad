/* Line by line: what is refused is refused at the end of its line. Only what a probe or a scraper needs is understood; a
 * body is refused rather than skipped, so that nobody can hide a second request in it. */
#include "net/http_request.h"

static bool is_token(struct kith_slice text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i], lower = (char)(c | 0x20);
        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'z') &&
            (!c || !memchr(others, c, sizeof others - 1)))
            return false;
    }
    return text.length > 0;
}

/* Up to `mark`, which goes with it; nothing when there is none. */
static struct kith_slice take_word(struct kith_slice *line, char mark)
{
    const char *end = line->length ? memchr(line->data, mark, line->length) : NULL;
    struct kith_slice word = kith_slice(line->data, end ? (size_t)(end - line->data) : 0);
    if (end)
        *line = kith_slice(end + 1, line->length - word.length - 1);
    return word;
}

/* "/path?query" or "http://host/path?query". */
static bool take_target(struct http_request *request, struct kith_slice target)
{
    static const struct kith_slice scheme = {"http://", 7};
    for (size_t i = 0; i < target.length; i++)
        if ((unsigned char)target.data[i] <= ' ' || (unsigned char)target.data[i] >= 0x7f)
            return false;
    if (target.length > scheme.length && strncasecmp(target.data, scheme.data, scheme.length) == 0) {
        const char *slash = memchr(target.data + scheme.length, '/', target.length - scheme.length);
        target = slash ? kith_slice(slash, target.length - (size_t)(slash - target.data)) : KITH_SLICE("/");
    }
    if (!target.length || target.data[0] != '/')
        return false;
    const char *query = memchr(target.data, '?', target.length);
    request->path = kith_slice(target.data, query ? (size_t)(query - target.data) : target.length);
    return true;
}

static int take_request_line(struct http_request *request, struct kith_slice line)
{
    struct kith_slice method = take_word(&line, ' '), target = take_word(&line, ' ');
    if (!is_token(method) || !target.length || line.length != 8 || memcmp(line.data, "HTTP/", 5) != 0 ||
        line.data[6] != '.' || line.data[5] < '0' || line.data[5] > '9' || line.data[7] < '0' ||
        line.data[7] > '9')
        return 400;
    if (line.data[5] != '1')
        return 505;
    request->is_old = line.data[7] == '0';
    request->is_head = kith_slice_equal(method, KITH_SLICE("HEAD"));
    if (!request->is_head && !kith_slice_equal(method, KITH_SLICE("GET")))
        return 405;
    return take_target(request, target) ? 0 : 400;
}

static struct kith_slice trim(struct kith_slice text)
{
    while (text.length && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = kith_slice(text.data + 1, text.length - 1);
    while (text.length && (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t'))
        text.length--;
    return text;
}

static int take_field(struct http_request *request, struct kith_slice line)
{
    struct kith_slice name = take_word(&line, ':'), value = trim(line);
    if (!is_token(name))
        return 400;
    for (size_t i = 0; i < value.length; i++)
        if (((unsigned char)value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            return 400;
    if (kith_slice_is(name, "Transfer-Encoding") ||
        (kith_slice_is(name, "Content-Length") && !kith_slice_equal(value, KITH_SLICE("0"))))
        return 400;
    if (kith_slice_is(name, "Host") && request->hosts++)
        return 400;
    return 0;
}

/* A line without its end. */
static int take_line(struct http_request *request, struct kith_slice line)
{
    if (request->lines == 0 && !line.length)
        return 0; /* some clients send an empty line first */
    if (request->lines++ == 0)
        return take_request_line(request, line);
    if (line.length)
        return take_field(request, line);
    return request->hosts || request->is_old ? 200 : 400;
}

static int take_byte(struct http_request *request, char c)
{
    if (request->length == HTTP_HEAD_BYTES)
        return 431;
    request->head[request->length++] = c;
    if (c != '\n')
        return 0;
    struct kith_slice line =
        kith_slice(request->head + request->line_start, request->length - 1 - request->line_start);
    if (line.length && line.data[line.length - 1] == '\r')
        line.length--;
    request->line_start = request->length;
    return take_line(request, line);
}

int http_request_take(struct http_request *request, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && !request->status; i++)
        request->status = take_byte(request, bytes[i]);
    return request->status;
}
