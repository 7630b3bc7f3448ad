/* Listeners of a server: TCP addresses and a Unix socket. */
#ifndef KITH_NET_LISTEN_H
#define KITH_NET_LISTEN_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct kith_server;

/* Opens what the options name; on failure none stays open (they close with the loop) and the error names the
 * address. */
int listen_open(struct kith_server *server, struct kith_error *error);
void listen_close(struct kith_server *server);

/* Opens one listener; a libuv error. */
typedef int listen_add(void *context, const struct sockaddr *address);
/* For each address of `bind` (blanks between; '-' before one: it may be missing). What was added before a failure stays:
 * the caller's to close. The error says which key, `bind_name`, is to be looked at. */
int listen_each(const char *bind, const char *bind_name, uint16_t port, listen_add *add, void *context,
                struct kith_error *error);
/* Who connected is on this machine. */
bool listen_peer_is_loopback(const uv_tcp_t *tcp);

#endif
