/* A connection: bytes in, replies out, and the end of it. An idle one owns no buffer: input is read into one
 * buffer of the server and only what is left of an unfinished request is kept; reply buffers come from a
 * small stock. */
#include "net/internal.h"

#include "base/log.h"
#include "base/os.h"
#include "net/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BLOCKED_READ_MAX = 64 * 1024,       /* bytes taken in while parsing waits */
    RIGHT_SIZED_MAX = 32 * 1024 * 1024, /* a larger claim gets its memory as the bytes come */
    SEND_MAX = 1 << 30                  /* bytes of one write */
};

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer);

struct kith_connection *connection_of(const struct kith_call *call)
{
    return call->session->owner;
}

/* --- buffers
 * ------------------------------------------------------------------------------------------------- */

struct kith_buf *connection_out(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if (!connection->out.data && server->spare_buffer_count)
        connection->out = server->spare_buffers[--server->spare_buffer_count];
    connection_mark_dirty(connection);
    return &connection->out;
}

static void give_back(struct kith_server *server, struct kith_buf *buf)
{
    if (buf->data && buf->capacity <= SPARE_BUFFER_BYTES && server->spare_buffer_count < SPARE_MAX) {
        kith_buf_clear(buf);
        server->spare_buffers[server->spare_buffer_count++] = *buf;
        kith_buf_init(buf);
        return;
    }
    kith_buf_fini(buf);
}

size_t connection_output_bytes(const struct kith_connection *connection)
{
    return connection->out.length + connection->sending_left;
}

size_t connection_memory(const struct kith_connection *connection)
{
    size_t bytes = sizeof *connection + connection->query.capacity + connection->out.capacity +
                   connection->sending.capacity;
    if (connection->parser)
        bytes += kith_request_parser_memory(connection->parser);
    return bytes + (connection->deferred ? sizeof *connection->deferred : 0);
}

/* --- the end
 * ------------------------------------------------------------------------------------------------- */

void connection_release(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if (!(connection->flags & CONNECTION_CLOSED) || connection->in_flight || connection->deferred ||
        (connection->flags & (CONNECTION_DIRTY | CONNECTION_RESUMED | CONNECTION_LATER)))
        return;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    else
        server->connections_tail = connection->previous;
    kith_session_fini(&connection->session);
    kith_buf_fini(&connection->query);
    kith_buf_fini(&connection->out);
    kith_buf_fini(&connection->sending);
    if (connection->parser) {
        kith_request_parser_fini(connection->parser);
        free(connection->parser);
    }
    free(connection);
}

static void on_closed(uv_handle_t *handle)
{
    struct kith_connection *connection = (struct kith_connection *)handle;
    connection->flags |= CONNECTION_CLOSED;
    connection_release(connection);
}

void connection_close(struct kith_connection *connection)
{
    if (connection->flags & CONNECTION_CLOSING)
        return;
    connection->flags |= CONNECTION_CLOSING;
    if (connection->flags & CONNECTION_HELD)
        connection->server->held_count--;
    connection->flags &= ~CONNECTION_HELD;
    connection->server->client_count--;
    deferred_abandon(connection);
    uv_close(&connection->handle, on_closed);
}

/* The last reply is out, or the client sends no more and everything it asked for is answered. */
static void close_if_finished(struct kith_connection *connection)
{
    uint32_t flags = connection->flags;
    if (connection->in_flight || connection->deferred || connection_output_bytes(connection))
        return;
    if (flags & CONNECTION_LAST_REPLY ||
        ((flags & CONNECTION_END_OF_FILE) &&
         !(flags & (CONNECTION_BLOCKED | CONNECTION_HELD | CONNECTION_RESUMED | CONNECTION_LATER))))
        connection_close(connection);
}

/* --- replies
 * ------------------------------------------------------------------------------------------------- */

void connection_mark_dirty(struct kith_connection *connection)
{
    if (connection->flags & (CONNECTION_DIRTY | CONNECTION_CLOSED))
        return;
    connection->flags |= CONNECTION_DIRTY;
    connection->next_dirty = connection->server->dirty;
    connection->server->dirty = connection;
}

static void on_written(uv_write_t *write, int status)
{
    struct kith_connection *connection = write->data;
    connection->server->stats.total.output_bytes += status ? 0 : connection->sending_left;
    connection->sending_left = 0;
    connection->output_soft_since_ms = 0;
    give_back(connection->server, &connection->sending);
    if (status)
        connection_close(connection);
    else
        connection_mark_dirty(connection);
}

/* The socket is full: libuv sends the rest when it can take more. */
static void send_rest(struct kith_connection *connection, size_t sent)
{
    connection->sending = connection->out;
    connection->sending_left = connection->out.length - sent;
    kith_buf_init(&connection->out);
    connection->write.data = connection;
    uv_buf_t rest = uv_buf_init(connection->sending.data + sent, 0);
    rest.len = connection->sending_left; /* uv_buf_init takes 32 bits only */
    if (uv_write(&connection->write, &connection->stream, &rest, 1, on_written) != 0)
        connection_close(connection);
}

void connection_send(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if (!connection->out.length || connection->sending_left)
        return;
    uv_buf_t all = uv_buf_init(connection->out.data, 0);
    all.len = connection->out.length < SEND_MAX ? connection->out.length : SEND_MAX;
    int sent = uv_try_write(&connection->stream, &all, 1);
    if (sent < 0 && sent != UV_EAGAIN) {
        connection_close(connection);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    server->stats.total.output_bytes += (uint64_t)sent;
    if ((size_t)sent == connection->out.length)
        give_back(server, &connection->out);
    else
        send_rest(connection, (size_t)sent);
}

void connection_flush(struct kith_connection *connection)
{
    if (connection->out.failed && !(connection->flags & CONNECTION_CLOSING)) {
        KITH_WARN("client %llu: no memory for its replies: closed",
                  (unsigned long long)connection->session.id);
        connection_close(connection);
    }
    if (connection->flags & CONNECTION_CLOSING) {
        kith_buf_fini(&connection->out);
        connection_release(connection);
        return;
    }
    connection_send(connection);
    if (!connection->out.length)
        give_back(connection->server, &connection->out);
    if (connection->flags & (CONNECTION_LAST_REPLY | CONNECTION_END_OF_FILE))
        close_if_finished(connection);
}

bool connection_over_output_limit(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    const struct kith_server_limits *limits = &server->options.limits;
    size_t bytes = connection_output_bytes(connection);
    uint64_t now_ms = uv_now(&server->loop);
    bool over = limits->output_hard_bytes && bytes > limits->output_hard_bytes;
    if (!limits->output_soft_bytes || bytes <= limits->output_soft_bytes)
        connection->output_soft_since_ms = 0;
    else if (!connection->output_soft_since_ms)
        connection->output_soft_since_ms = now_ms;
    else if (now_ms - connection->output_soft_since_ms >= limits->output_soft_s * 1000ull)
        over = true;
    if (over && !(connection->flags & CONNECTION_CLOSING)) {
        server->stats.total.output_limit_closed++;
        KITH_WARN("client %llu leaves %zu bytes of replies unread, past client-output-buffer-limit: closed",
                  (unsigned long long)connection->session.id, bytes);
        connection_close(connection);
    }
    return over;
}

/* --- input
 * --------------------------------------------------------------------------------------------------- */

void connection_stop_reading(struct kith_connection *connection)
{
    if (connection->flags & (CONNECTION_STOPPED | CONNECTION_CLOSING))
        return;
    connection->flags |= CONNECTION_STOPPED;
    uv_read_stop(&connection->stream);
}

static void read_again(struct kith_connection *connection)
{
    uint32_t flags = connection->flags;
    if (!(flags & CONNECTION_STOPPED) ||
        (flags & (CONNECTION_CLOSING | CONNECTION_END_OF_FILE | CONNECTION_LAST_REPLY)) ||
        connection->server->stopping)
        return;
    connection->flags &= ~CONNECTION_STOPPED;
    uv_read_start(&connection->stream, on_alloc, on_read);
}

static bool is_waiting(const struct kith_connection *connection)
{
    return connection->flags & (CONNECTION_BLOCKED | CONNECTION_HELD | CONNECTION_RESUMED | CONNECTION_LATER);
}

/* Into the server's buffer behind what is left of the last read, or, for a large argument or while parsing
 * waits, into the connection's own. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct kith_connection *connection = (struct kith_connection *)handle;
    struct kith_server *server = connection->server;
    if (!turn_takes_a_read(connection)) {
        connection->flags |= CONNECTION_NOT_READ;
        *buffer = uv_buf_init(NULL, 0);
        return;
    }
    size_t have = connection->query.length;
    size_t needed = connection->parser ? kith_request_needed(connection->parser) : 1;
    if (have <= READ_BUFFER_BYTES / 2 && have + needed <= READ_BUFFER_BYTES && !is_waiting(connection)) {
        if (have)
            memcpy(server->read_buffer, connection->query.data, have);
        connection->flags |= CONNECTION_IN_SHARED;
        *buffer = uv_buf_init(server->read_buffer + have, (unsigned)(READ_BUFFER_BYTES - have));
        return;
    }
    connection->flags &= ~CONNECTION_IN_SHARED;
    size_t extra = needed;
    if (extra > RIGHT_SIZED_MAX)
        extra = have > RIGHT_SIZED_MAX && have < needed ? have : have >= needed ? needed : RIGHT_SIZED_MAX;
    if (extra < READ_BUFFER_BYTES / 4)
        extra = READ_BUFFER_BYTES / 4;
    char *room = connection->query.capacity - have >= extra && connection->query.data
                     ? connection->query.data + have
                     : kith_buf_reserve(&connection->query, extra);
    size_t length = room ? connection->query.capacity - have : 0;
    *buffer = uv_buf_init(room, 0);
    buffer->len = length > INT32_MAX ? INT32_MAX : length;
}

/* Keeps what is left of the input, right-sized. */
static void keep_rest(struct kith_connection *connection, const char *data, size_t length, size_t used)
{
    if (data == connection->query.data && connection->query.data) {
        connection->query.length = length;
        if (used)
            kith_buf_consume(&connection->query, used);
    } else {
        kith_buf_clear(&connection->query);
        if (used < length)
            kith_buf_append(&connection->query, data + used, length - used);
    }
    if (connection->query.failed) {
        KITH_WARN("client %llu: no memory for its request: closed",
                  (unsigned long long)connection->session.id);
        connection_close(connection);
    } else if (!connection->query.length && connection->query.data) {
        kith_buf_fini(&connection->query);
    }
}

static void check_query_limit(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    size_t limit = server->options.limits.query_bytes;
    size_t claimed = connection->query.length;
    if (connection->parser)
        claimed += kith_request_needed(connection->parser);
    if (claimed <= limit || is_waiting(connection))
        return;
    server->stats.total.query_limit_closed++;
    KITH_WARN("client %llu sends a request of more than client-query-buffer-limit (%zu bytes): closed",
              (unsigned long long)connection->session.id, limit);
    connection_close(connection);
}

static void take_input(struct kith_connection *connection, const char *data, size_t length)
{
    KITH_ASSERT(data); /* libuv reports a buffer that could not be had before it reads */
    if (is_waiting(connection)) {
        keep_rest(connection, data, length, 0);
        if (connection->query.length > BLOCKED_READ_MAX)
            connection_stop_reading(connection);
        return;
    }
    size_t used = dispatch_input(connection, data, length);
    keep_rest(connection, data, length, used);
    if (!(connection->flags & CONNECTION_CLOSING))
        check_query_limit(connection);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct kith_connection *connection = (struct kith_connection *)stream;
    struct kith_server *server = connection->server;
    bool not_read = connection->flags & CONNECTION_NOT_READ;
    connection->flags &= ~CONNECTION_NOT_READ;
    if (count == 0 || (count == UV_ENOBUFS && not_read)) /* the loop comes back to it in the next pass */
        return;
    if (count < 0) {
        if (count != UV_EOF) {
            connection_close(connection);
            return;
        }
        connection_stop_reading(connection);
        connection->flags |= CONNECTION_END_OF_FILE;
        connection_mark_dirty(connection);
        return;
    }
    server->stats.total.input_bytes += (uint64_t)count;
    connection->active_ms = uv_now(&server->loop);
    const char *data =
        connection->flags & CONNECTION_IN_SHARED ? server->read_buffer : connection->query.data;
    take_input(connection, data, connection->query.length + (size_t)count);
}

void connection_mark_resumed(struct kith_connection *connection)
{
    if (connection->flags & (CONNECTION_RESUMED | CONNECTION_LATER | CONNECTION_CLOSED))
        return;
    connection->flags |= CONNECTION_RESUMED;
    connection->next_resumed = connection->server->resumed;
    connection->server->resumed = connection;
}

void connection_resume(struct kith_connection *connection)
{
    if (connection->flags & CONNECTION_CLOSING) {
        connection_release(connection);
        return;
    }
    connection->flags &= ~CONNECTION_BLOCKED;
    if (connection->flags & CONNECTION_HELD || connection->server->stopping)
        return;
    if (connection->query.length)
        take_input(connection, connection->query.data, connection->query.length);
    if (!is_waiting(connection))
        read_again(connection);
    connection_mark_dirty(connection);
}

/* --- the start
 * ----------------------------------------------------------------------------------------------- */

void connection_address(const struct kith_connection *connection, bool peer, char *text, size_t size)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    char name[INET6_ADDRSTRLEN] = "?";
    if (connection->flags & CONNECTION_PIPE) {
        snprintf(text, size, "%s:0", connection->server->options.unixsocket);
        return;
    }
    int status = peer ? uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address, &length)
                      : uv_tcp_getsockname(&connection->tcp, (struct sockaddr *)&address, &length);
    if (status) {
        snprintf(text, size, "?:0");
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(v6, name, sizeof name);
        snprintf(text, size, "[%s]:%u", name, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        uv_ip4_name(v4, name, sizeof name);
        snprintf(text, size, "%s:%u", name, ntohs(v4->sin_port));
    }
}

static void refuse(struct kith_connection *connection, const char *text)
{
    uv_buf_t line = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
    /* One short line into an empty socket buffer; should it not fit, the client only misses the reason. */
    (void)uv_try_write(&connection->stream, &line, 1);
    connection_close(connection);
}

/* Whether it may stay; otherwise it is told why and closed. */
static bool may_stay(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    const struct kith_server_options *options = &server->options;
    if (server->client_count > options->limits.client_max) {
        server->stats.total.connections_rejected++;
        refuse(connection, "-ERR max number of clients reached\r\n");
        return false;
    }
    if (options->protected_mode && !*options->password && !(connection->flags & CONNECTION_LOCAL)) {
        server->stats.total.connections_denied++;
        refuse(connection,
               "-DENIED Kith runs in protected mode: as long as it has no password it talks to this machine "
               "only. To "
               "serve other machines, set 'requirepass' (CONFIG SET requirepass ... from this machine, or in "
               "the "
               "configuration), or, in a network that you trust entirely, turn 'protected-mode' off.\r\n");
        return false;
    }
    return true;
}

static int open_handle(struct kith_connection *connection, uv_stream_t *listener)
{
    struct kith_server *server = connection->server;
    int status;
    if (listener->type == UV_NAMED_PIPE) {
        connection->flags |= CONNECTION_PIPE;
        status = uv_pipe_init(&server->loop, &connection->pipe, 0);
    } else {
        status = uv_tcp_init(&server->loop, &connection->tcp);
    }
    return status;
}

static void admit(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if ((connection->flags & CONNECTION_PIPE) || listen_peer_is_loopback(&connection->tcp))
        connection->flags |= CONNECTION_LOCAL;
    if (!may_stay(connection))
        return;
    if (!(connection->flags & CONNECTION_PIPE)) {
        uv_tcp_nodelay(&connection->tcp, 1);
        if (server->options.limits.keepalive_s)
            uv_tcp_keepalive(&connection->tcp, 1, server->options.limits.keepalive_s);
    }
    connection->session.authenticated = !session_needs_password(server);
    if (uv_read_start(&connection->stream, on_alloc, on_read) != 0)
        connection_close(connection);
}

void connection_accept(uv_stream_t *listener, int status)
{
    struct kith_server *server = listener->data;
    if (status < 0) {
        KITH_WARN("cannot accept a connection: %s", uv_strerror(status));
        return;
    }
    struct kith_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        server->stalled_listener = listener; /* libuv waits until it is taken: the cron tries again */
        return;
    }
    connection->server = server;
    if (open_handle(connection, listener) != 0) {
        free(connection);
        return;
    }
    kith_session_init(&connection->session, ++server->next_id);
    connection->session.owner = connection;
    connection->created_ms = connection->active_ms = uv_now(&server->loop);
    connection->write_price = WRITE_PRICE_FIRST;
    connection->previous = server->connections_tail;
    if (connection->previous)
        connection->previous->next = connection;
    else
        server->connections = connection;
    server->connections_tail = connection;
    server->client_count++;
    server->stats.total.connections_received++;
    if (server->client_count > server->stats.total.clients_peak)
        server->stats.total.clients_peak = server->client_count;
    if (uv_accept(listener, &connection->stream) != 0)
        connection_close(connection);
    else
        admit(connection);
}
