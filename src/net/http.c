/* Sockets around http_request. What a client can do to the loop is bounded in time (one timer from accept to the end), in
 * number (the oldest connection goes first) and in bytes (one head, and little behind it), and nobody is waited for. */
#include "net/http.h"

#include "base/log.h"
#include "net/http_request.h"
#include "net/listen.h"

#include <stdlib.h>

enum {
    TIMEOUT_MS = 5000,
    CONNECTIONS_MAX = 32,
    LISTENERS_MAX = 8,
    BACKLOG = 64,
    READ_BYTES = 4096,
    STALL_MS = 100,           /* out of memory: when to accept again */
    DISCARD_BYTES = 64 << 10, /* read behind a head, so that closing is no reset that eats the answer */
};

struct connection {
    struct kith_http *http;
    struct connection *previous, *next; /* in the order they came */
    uv_tcp_t tcp;
    uv_timer_t timer;
    unsigned open_handles;
    bool is_answered, is_closing;
    size_t discarded;
    struct http_request request;
    uv_write_t write;
    uv_shutdown_t shutdown;
    struct kith_buf head, body;
};

struct kith_http {
    struct kith_http_options options;
    uv_tcp_t listeners[LISTENERS_MAX];
    bool is_stalled[LISTENERS_MAX]; /* one waits there that could not be taken */
    uv_timer_t retry;
    size_t listener_count, open_handles;
    struct connection *first, *last;
    size_t connection_count;
    bool is_closing;
    char read_buffer[READ_BYTES]; /* one for all: a read is taken at once */
};

static void release(struct kith_http *http)
{
    if (http->is_closing && !http->open_handles && !http->first)
        free(http);
}

/* --- the end of a connection --- */

static void unlink_connection(struct connection *c)
{
    struct kith_http *http = c->http;
    *(c->previous ? &c->previous->next : &http->first) = c->next;
    *(c->next ? &c->next->previous : &http->last) = c->previous;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    struct kith_http *http = c->http;
    if (--c->open_handles)
        return;
    unlink_connection(c);
    kith_buf_fini(&c->head);
    kith_buf_fini(&c->body);
    free(c);
    release(http);
}

static void close_connection(struct connection *c)
{
    if (c->is_closing)
        return;
    c->is_closing = true;
    c->http->connection_count--;
    uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    close_connection(timer->data);
}

/* --- the answer --- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {{200, "OK"},
                 {400, "Bad Request"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"},
                 {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].status == status)
            return known[i].reason;
    return "";
}

static void write_head(struct connection *c, int status, const char *type)
{
    kith_buf_append_format(&c->head,
                           "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                           "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s"
                           "Connection: close\r\n\r\n",
                           status, reason_of(status), type, c->body.length,
                           status == 405 ? "Allow: GET, HEAD\r\n" : "");
}

static void fill_answer(struct connection *c, int status)
{
    struct kith_http *http = c->http;
    struct kith_http_answer answer = {
        .status = status, .type = "text/plain; charset=utf-8", .body = &c->body};
    struct kith_http_question question = {.path = c->request.path,
                                          .is_local = listen_peer_is_loopback(&c->tcp)};
    if (status == 200)
        http->options.answer(http->options.context, &question, &answer);
    else
        kith_buf_append_format(&c->body, "%s\n", reason_of(status));
    if (c->body.failed) {
        kith_buf_fini(&c->body);
        answer.status = 500;
    }
    write_head(c, answer.status, answer.type);
}

static void on_written(uv_write_t *write, int status)
{
    struct connection *c = write->data;
    /* The end of the client's side, or the timer, closes it. */
    if (!c->is_closing && (status != 0 || uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, NULL) != 0))
        close_connection(c);
}

static void answer(struct connection *c, int status)
{
    c->is_answered = true;
    fill_answer(c, status);
    uv_buf_t parts[2] = {uv_buf_init(c->head.data, (unsigned)c->head.length),
                         uv_buf_init(c->body.data, (unsigned)c->body.length)};
    c->write.data = c;
    if (c->head.failed || uv_write(&c->write, (uv_stream_t *)&c->tcp, parts,
                                   c->request.is_head || !c->body.length ? 1 : 2, on_written) != 0)
        close_connection(c);
}

/* --- the request --- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct connection *c = handle->data;
    *out = uv_buf_init(c->http->read_buffer, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *bytes)
{
    struct connection *c = stream->data;
    if (c->is_closing)
        return;
    if (length < 0) {
        close_connection(c);
        return;
    }
    if (c->is_answered) {
        c->discarded += (size_t)length;
        if (c->discarded > DISCARD_BYTES)
            close_connection(c);
        return;
    }
    int status = http_request_take(&c->request, bytes->base, (size_t)length);
    if (status)
        answer(c, status);
}

/* The oldest that has not got its answer, else the oldest. */
static void make_room(struct kith_http *http)
{
    struct connection *victim = NULL;
    for (struct connection *c = http->first; c; c = c->next)
        if (!c->is_closing && (!victim || (victim->is_answered && !c->is_answered)))
            victim = c;
    if (victim)
        close_connection(victim);
}

static void start(struct connection *c)
{
    if (c->http->is_closing || uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0 ||
        uv_timer_start(&c->timer, on_timeout, c->http->options.timeout_ms, 0) != 0)
        close_connection(c);
}

static void on_retry(uv_timer_t *timer);

/* libuv looks at a listener again only when what waits there was taken. */
static void stall(struct kith_http *http, uv_stream_t *listener)
{
    http->is_stalled[(uv_tcp_t *)listener - http->listeners] = true;
    uv_timer_start(&http->retry, on_retry, STALL_MS, 0);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct kith_http *http = listener->data;
    if (status != 0 || http->is_closing)
        return;
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        stall(http, listener);
        return;
    }
    c->http = http;
    uv_tcp_init(http->options.loop, &c->tcp);
    uv_timer_init(http->options.loop, &c->timer);
    c->tcp.data = c->timer.data = c;
    c->open_handles = 2;
    if (http->connection_count >= http->options.connections_max)
        make_room(http);
    c->previous = http->last;
    *(http->last ? &http->last->next : &http->first) = c;
    http->last = c;
    http->connection_count++;
    if (uv_accept(listener, (uv_stream_t *)&c->tcp) == 0)
        start(c);
    else
        close_connection(c);
}

static void on_retry(uv_timer_t *timer)
{
    struct kith_http *http = timer->data;
    for (size_t i = 0; i < http->listener_count; i++) {
        bool was_stalled = http->is_stalled[i];
        http->is_stalled[i] = false;
        if (was_stalled)
            on_connection((uv_stream_t *)&http->listeners[i], 0);
    }
}

/* --- life and death --- */

static void on_own_closed(uv_handle_t *handle)
{
    struct kith_http *http = handle->data;
    http->open_handles--;
    release(http);
}

static int add_listener(void *context, const struct sockaddr *address)
{
    struct kith_http *http = context;
    if (http->listener_count == LISTENERS_MAX)
        return UV_ENOBUFS;
    uv_tcp_t *tcp = &http->listeners[http->listener_count];
    int status = uv_tcp_init(http->options.loop, tcp);
    if (status)
        return status;
    tcp->data = http;
    http->listener_count++;
    http->open_handles++;
    status = uv_tcp_bind(tcp, address, address->sa_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
    if (!status)
        status = uv_listen((uv_stream_t *)tcp, BACKLOG, on_connection);
    return status;
}

int kith_http_open(struct kith_http **out, const struct kith_http_options *options, struct kith_error *error)
{
    struct kith_http *http = calloc(1, sizeof *http);
    if (!http)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    http->options = *options;
    if (!http->options.timeout_ms)
        http->options.timeout_ms = TIMEOUT_MS;
    if (!http->options.connections_max)
        http->options.connections_max = CONNECTIONS_MAX;
    uv_timer_init(options->loop, &http->retry);
    http->retry.data = http;
    http->open_handles = 1;
    int status = listen_each(options->bind, options->bind_name, options->port, add_listener, http, error);
    http->options.bind = http->options.bind_name = NULL;
    if (status) {
        kith_http_close(http);
        return status;
    }
    *out = http;
    return KITH_OK;
}

void kith_http_close(struct kith_http *http)
{
    if (!http)
        return;
    http->is_closing = true;
    for (struct connection *c = http->first; c; c = c->next)
        close_connection(c);
    for (size_t i = 0; i < http->listener_count; i++)
        uv_close((uv_handle_t *)&http->listeners[i], on_own_closed);
    uv_close((uv_handle_t *)&http->retry, on_own_closed);
}
