/* TLS for peer connections, over memory: ciphertext in, plaintext out, and the other way round. */
#ifndef KITH_NET_PEER_TLS_H
#define KITH_NET_PEER_TLS_H

#include "base/buf.h"
#include "net/peer.h"

#include <openssl/ssl.h>

enum { PEER_TLS_BINDING_BYTES = 32 };

struct peer_tls {
    SSL *ssl;
    BIO *incoming, *outgoing; /* owned by ssl */
    bool established;
    char binding[PEER_TLS_BINDING_BYTES]; /* only the two ends of this connection know it; once established */
};

/* KITH_ENOMEM. */
int peer_tls_init(struct peer_tls *channel, const struct kith_peer_tls *tls, bool dialer);
void peer_tls_fini(struct peer_tls *channel);

/* Begins, or goes on with, the handshake. KITH_OK: so far; look at `established`. KITH_EPERM: `reason` says why. */
int peer_tls_handshake(struct peer_tls *channel, char *reason, size_t reason_size);
/* Takes ciphertext; `plain` gets what it held (borrowed), until it returns something else than 0, which is then
 * returned. KITH_ECLOSED: the other side ended. KITH_EPERM, KITH_ECORRUPT, KITH_ENOMEM. */
int peer_tls_receive(struct peer_tls *channel, struct kith_slice bytes,
                     int (*plain)(void *context, struct kith_slice bytes), void *context, char *reason,
                     size_t reason_size);
/* KITH_ENOMEM. */
int peer_tls_send(struct peer_tls *channel, struct kith_slice bytes);
/* Appends what is to go to the socket; out->failed when memory is short. */
void peer_tls_take(struct peer_tls *channel, struct kith_buf *out);

#endif
