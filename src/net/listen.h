/* Listeners of a server: TCP addresses and a Unix socket. */
#ifndef KITH_NET_LISTEN_H
#define KITH_NET_LISTEN_H

#include "base/status.h"

struct kith_server;

/* Opens what the options name; on failure none stays open (they close with the loop) and the error names the
 * address. */
int listen_open(struct kith_server *server, struct kith_error *error);
void listen_close(struct kith_server *server);

#endif
