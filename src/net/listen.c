/* Listeners. An address of `bind` that starts with '-' may be missing on this machine (IPv6 often is); any
 * other that cannot be had ends the start. */
#include "net/listen.h"

#include "base/log.h"
#include "net/internal.h"

#include <netdb.h>
#include <sys/stat.h>
#include <unistd.h>

static int add_tcp(void *context, const struct sockaddr *address)
{
    struct kith_server *server = context;
    if (server->listener_count == LISTENER_MAX)
        return UV_ENOBUFS;
    uv_tcp_t *tcp = &server->listeners[server->listener_count].tcp;
    int status = uv_tcp_init(&server->loop, tcp);
    if (status)
        return status;
    server->listener_count++;
    tcp->data = server;
    status = uv_tcp_bind(tcp, address, address->sa_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
    if (!status)
        status = uv_listen((uv_stream_t *)tcp, server->options.backlog, connection_accept);
    if (status) {
        uv_close((uv_handle_t *)tcp, NULL);
        KITH_ASSERT(server->listener_count > 0);
        /* The slot is not used again: libuv still holds it until the loop has run. */
    }
    return status;
}

/* "*" is every IPv4 address, "::*" every IPv6 one, as in Redis. */
static int add_name(const char *name, uint16_t port, listen_add *add, void *context)
{
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    hints.ai_family = strcmp(name, "*") == 0 ? AF_INET : strcmp(name, "::*") == 0 ? AF_INET6 : AF_UNSPEC;
    snprintf(service, sizeof service, "%u", port);
    int status = getaddrinfo(hints.ai_family == AF_UNSPEC ? name : NULL, service, &hints, &found);
    if (status)
        return UV_EADDRNOTAVAIL;
    status = UV_EADDRNOTAVAIL;
    for (struct addrinfo *each = found; each; each = each->ai_next) {
        status = add(context, each->ai_addr);
        if (status)
            break;
    }
    freeaddrinfo(found);
    return status;
}

int listen_each(const char *bind, const char *bind_name, uint16_t port, listen_add *add, void *context,
                struct kith_error *error)
{
    size_t opened = 0;
    for (const char *at = bind; *at;) {
        char name[256];
        size_t length = strcspn(at, " ");
        bool optional = *at == '-';
        snprintf(name, sizeof name, "%.*s", (int)(length - optional), at + optional);
        at += length + (at[length] == ' ');
        if (!*name)
            continue;
        int status = add_name(name, port, add, context);
        if (!status)
            opened++;
        else if (!optional || (status != UV_EADDRNOTAVAIL && status != UV_EAFNOSUPPORT))
            return kith_error_set(
                error, KITH_EIO, "cannot listen on %s port %u: %s: %s '%s')", name, port, uv_strerror(status),
                status == UV_EADDRINUSE ? "stop what uses it, or choose another port (the one of"
                                        : "choose an address of this machine (key",
                bind_name);
    }
    if (!opened)
        return kith_error_set(error, KITH_EIO, "none of the addresses of '%s' (%s) exists on this machine",
                              bind_name, bind);
    return KITH_OK;
}

static int open_unix(struct kith_server *server, struct kith_error *error)
{
    const char *path = server->options.unixsocket;
    struct stat about;
    if (server->listener_count == LISTENER_MAX)
        return kith_error_set(error, KITH_ETOOBIG, "too many addresses: %d at most", LISTENER_MAX);
    if (stat(path, &about) == 0 && S_ISSOCK(about.st_mode))
        unlink(path); /* left by a server that was killed; a failure shows in the bind below */
    uv_pipe_t *pipe = &server->listeners[server->listener_count].pipe;
    uv_pipe_init(&server->loop, pipe, 0);
    server->listener_count++;
    pipe->data = server;
    int status = uv_pipe_bind(pipe, path);
    if (!status && server->options.unixsocket_mode && chmod(path, server->options.unixsocket_mode) != 0)
        status = UV_EACCES;
    if (!status)
        status = uv_listen((uv_stream_t *)pipe, server->options.backlog, connection_accept);
    if (status)
        return kith_error_set(error, KITH_EIO, "cannot listen on unixsocket %s: %s", path,
                              uv_strerror(status));
    return KITH_OK;
}

int listen_open(struct kith_server *server, struct kith_error *error)
{
    int status = KITH_OK;
    if (server->options.port)
        status = listen_each(server->options.bind, "bind", server->options.port, add_tcp, server, error);
    if (!status && *server->options.unixsocket)
        status = open_unix(server, error);
    if (status)
        listen_close(server);
    return status;
}

void listen_close(struct kith_server *server)
{
    for (size_t i = 0; i < server->listener_count; i++)
        if (!uv_is_closing(&server->listeners[i].handle))
            uv_close(&server->listeners[i].handle, NULL);
}

bool listen_peer_is_loopback(const uv_tcp_t *tcp)
{
    struct sockaddr_storage address;
    int length = sizeof address;
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&address, &length) != 0)
        return false;
    if (address.ss_family == AF_INET)
        return ntohl(((struct sockaddr_in *)&address)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *v6 = &((struct sockaddr_in6 *)&address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}
