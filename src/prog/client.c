/* The tools' connection: a non-blocking socket under poll(), so that a long pipeline is written while its first replies
 * are read. */
#include "prog/client.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    CONNECT_TIMEOUT_MS = 5000,
    READ_AT_ONCE = 1 << 16,
    WORDS_MAX = 8,
};

struct kith_client {
    const struct kith_client_options *options;
    int fd;
    struct kith_buf out; /* bytes from out_sent on are still to be sent */
    size_t out_sent;
    struct kith_buf in; /* bytes from in_used on are not read yet */
    size_t in_used;
    size_t pending;
    struct kith_value_reader reader;
};

void kith_client_address(const struct kith_client_options *options, char *text, size_t size)
{
    if (options->socket_path)
        snprintf(text, size, "%s", options->socket_path);
    else
        snprintf(text, size, strchr(options->host, ':') ? "[%s]:%s" : "%s:%s", options->host, options->port);
}

static int io_error(struct kith_client *client, struct kith_error *error, const char *what, int error_number)
{
    char address[300];
    kith_client_address(client->options, address, sizeof address);
    return kith_error_set(error, KITH_EIO, "%s %s: %s", what, address, strerror(error_number));
}

/* Waits until the socket is ready for one of `events`; returns what it is ready for, 0 after timeout_ms. */
static int wait_for(int fd, short events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        int n = poll(&p, 1, timeout_ms);
        if (n >= 0)
            return n ? p.revents : 0;
        if (errno != EINTR)
            return POLLERR;
    }
}

/* Connects `fd` within timeout_ms; returns 0 or an errno. */
static int connect_within(int fd, const struct sockaddr *address, socklen_t length, int timeout_ms)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return errno;
    if (connect(fd, address, length) == 0)
        return 0;
    if (errno != EINPROGRESS && errno != EINTR)
        return errno;
    if (!wait_for(fd, POLLOUT, timeout_ms))
        return ETIMEDOUT;
    int failure = 0;
    socklen_t size = sizeof failure;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) ? errno : failure;
}

static int connect_unix(struct kith_client *client, int timeout_ms, struct kith_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(client->options->socket_path) >= sizeof address.sun_path)
        return kith_error_set(error, KITH_EINVAL, "the socket's path is longer than %zu bytes",
                              sizeof address.sun_path - 1);
    memcpy(address.sun_path, client->options->socket_path, strlen(client->options->socket_path) + 1);
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failure = client->fd < 0 ? errno
                                 : connect_within(client->fd, (const struct sockaddr *)&address,
                                                  sizeof address, timeout_ms);
    return failure ? io_error(client, error, "cannot connect to", failure) : KITH_OK;
}

static int connect_tcp(struct kith_client *client, int timeout_ms, struct kith_error *error)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int failure = getaddrinfo(client->options->host, client->options->port, &hints, &list);
    if (failure)
        return kith_error_set(error, KITH_EIO, "cannot find host '%s', port '%s': %s", client->options->host,
                              client->options->port, gai_strerror(failure));
    failure = ECONNREFUSED;
    for (struct addrinfo *a = list; a && failure; a = a->ai_next) {
        client->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        failure = client->fd < 0 ? errno : connect_within(client->fd, a->ai_addr, a->ai_addrlen, timeout_ms);
        if (failure && client->fd >= 0) {
            close(client->fd);
            client->fd = -1;
        }
    }
    freeaddrinfo(list);
    if (failure)
        return io_error(client, error, "cannot connect to", failure);
    int on = 1;
    /* A hint: without it small pipelines are slower, nothing else. */
    (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return KITH_OK;
}

/* A call whose error reply is a failure of the connection. */
static int call_or_fail(struct kith_client *client, const struct kith_slice *argv, size_t argc,
                        struct kith_error *error)
{
    struct kith_value reply = {0};
    int status = kith_client_call(client, argv, argc, &reply, error);
    if (status == KITH_OK && reply.type == KITH_VALUE_ERROR)
        status = kith_error_set(error, KITH_EPERM, "%s: %s", argv[0].data, reply.text.data);
    kith_value_fini(&reply);
    return status;
}

static struct kith_slice text_slice(const char *text)
{
    return kith_slice(text, strlen(text));
}

static int introduce(struct kith_client *client, struct kith_error *error)
{
    const struct kith_client_options *o = client->options;
    struct kith_slice argv[WORDS_MAX];
    size_t argc = 0;
    int status = KITH_OK;
    if (o->protocol == 3) {
        argv[argc++] = KITH_SLICE("HELLO");
        argv[argc++] = KITH_SLICE("3");
    }
    if (o->password) {
        argv[argc++] = KITH_SLICE("AUTH");
        if (o->user || o->protocol == 3)
            argv[argc++] = text_slice(o->user ? o->user : "default");
        argv[argc++] = text_slice(o->password);
    }
    if (argc)
        status = call_or_fail(client, argv, argc, error);
    if (!status && o->database && strcmp(o->database, "0") != 0)
        status = call_or_fail(client, (struct kith_slice[]){KITH_SLICE("SELECT"), text_slice(o->database)}, 2,
                              error);
    return status;
}

int kith_client_open(struct kith_client **out, const struct kith_client_options *options,
                     struct kith_error *error)
{
    struct kith_client *client = calloc(1, sizeof *client);
    if (!client)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    client->options = options;
    client->fd = -1;
    kith_value_reader_init(&client->reader, (struct kith_value_limits)KITH_VALUE_LIMITS_DEFAULT);
    int timeout_ms = options->timeout_ms ? (int)options->timeout_ms : CONNECT_TIMEOUT_MS;
    int status = options->socket_path ? connect_unix(client, timeout_ms, error)
                                      : connect_tcp(client, timeout_ms, error);
    if (!status)
        status = introduce(client, error);
    if (status) {
        kith_client_close(client);
        return status;
    }
    *out = client;
    return KITH_OK;
}

void kith_client_close(struct kith_client *client)
{
    if (!client)
        return;
    if (client->fd >= 0)
        close(client->fd);
    kith_buf_fini(&client->out);
    kith_buf_fini(&client->in);
    kith_value_reader_fini(&client->reader);
    free(client);
}

struct kith_buf *kith_client_get_out(struct kith_client *client)
{
    return &client->out;
}

void kith_client_queued(struct kith_client *client)
{
    client->pending++;
}

size_t kith_client_pending(const struct kith_client *client)
{
    return client->pending;
}

int kith_client_put(struct kith_client *client, const struct kith_slice *argv, size_t argc)
{
    kith_request_put(&client->out, argv, argc);
    if (client->out.failed)
        return KITH_ENOMEM;
    client->pending++;
    return KITH_OK;
}

/* Takes what the socket has, into client->in. */
static int receive(struct kith_client *client, struct kith_error *error)
{
    if (client->in_used == client->in.length) {
        kith_buf_clear(&client->in);
        client->in_used = 0;
    }
    char *room = kith_buf_reserve(&client->in, READ_AT_ONCE);
    if (!room)
        return kith_error_set(error, KITH_ENOMEM, "out of memory for replies");
    ssize_t got = read(client->fd, room, READ_AT_ONCE);
    if (got > 0) {
        client->in.length += (size_t)got;
        return KITH_OK;
    }
    if (got == 0)
        return kith_error_set(error, KITH_ECLOSED, "the server closed the connection");
    if (errno == EAGAIN || errno == EINTR)
        return KITH_OK;
    return io_error(client, error, "cannot read from", errno);
}

int kith_client_flush(struct kith_client *client, struct kith_error *error)
{
    if (client->out.failed)
        return kith_error_set(error, KITH_ENOMEM, "out of memory for commands");
    int status = KITH_OK;
    while (client->out_sent < client->out.length && !status) {
        ssize_t sent = send(client->fd, client->out.data + client->out_sent,
                            client->out.length - client->out_sent, MSG_NOSIGNAL);
        if (sent >= 0) {
            client->out_sent += (size_t)sent;
        } else if (errno == EAGAIN) {
            if (wait_for(client->fd, POLLIN | POLLOUT, -1) & POLLIN)
                status = receive(client, error);
        } else if (errno != EINTR) {
            status = io_error(client, error, "cannot write to", errno);
        }
    }
    if (!status) {
        kith_buf_clear(&client->out);
        client->out_sent = 0;
    }
    return status;
}

int kith_client_reply(struct kith_client *client, struct kith_value *out, struct kith_error *error)
{
    int status = kith_client_flush(client, error);
    while (!status) {
        size_t consumed;
        status = kith_value_read(&client->reader, client->in.data + client->in_used,
                                 client->in.length - client->in_used, out, &consumed);
        client->in_used += consumed;
        if (status == 1) {
            client->pending -= out->type != KITH_VALUE_PUSH && client->pending;
            return KITH_OK;
        }
        if (status < 0)
            return kith_error_set(error, status, "the server's reply cannot be read: %s",
                                  status == KITH_ENOMEM ? "out of memory" : client->reader.error);
        (void)wait_for(client->fd, POLLIN, -1); /* its failure is seen by read */
        status = receive(client, error);
    }
    return status;
}

int kith_client_call(struct kith_client *client, const struct kith_slice *argv, size_t argc,
                     struct kith_value *out, struct kith_error *error)
{
    if (kith_client_put(client, argv, argc))
        return kith_error_set(error, KITH_ENOMEM, "out of memory for a command");
    return kith_client_reply(client, out, error);
}

int kith_client_call_words(struct kith_client *client, struct kith_value *out, struct kith_error *error, ...)
{
    struct kith_slice argv[WORDS_MAX];
    size_t argc = 0;
    va_list args;
    va_start(args, error);
    for (const char *word; (word = va_arg(args, const char *));) {
        KITH_ASSERT(argc < WORDS_MAX);
        argv[argc++] = text_slice(word);
    }
    va_end(args);
    return kith_client_call(client, argv, argc, out, error);
}

bool kith_client_is_closed(struct kith_client *client)
{
    char byte;
    if (client->in_used < client->in.length)
        return false;
    ssize_t got = recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}
