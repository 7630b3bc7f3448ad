/* What two nodes say on one connection, as a state machine over bytes: bytes in, bytes out, frames out; no socket, no
 * clock, no TLS. First a handshake in which both prove that they know the group's secret without sending it,
 *
 *     dialer                                   acceptor
 *       HELLO: versions, who, whom, nonce  ->
 *                                          <-  CHALLENGE: version, who, nonce     (or REFUSED: why)
 *       PROOF: HMAC(secret, all of it)     ->
 *                                          <-  ACCEPT: HMAC(secret, all of it)    (or REFUSED: why)
 *
 * then frames, each behind a header of 16 bytes. The dialer proves first: whoever only connects learns nothing that a
 * guessed secret could be tried on. docs/FORMAT.md has every byte. */
#ifndef KITH_NET_PEER_WIRE_H
#define KITH_NET_PEER_WIRE_H

#include "base/buf.h"
#include "base/status.h"

#include <stdint.h>

enum {
    PEER_VERSION_LOWEST = 1, /* that this program speaks */
    PEER_VERSION_HIGHEST = 1,
    PEER_HEADER_BYTES = 16, /* of a frame */
    PEER_NONCE_BYTES = 32,
    PEER_PROOF_BYTES = 32,
    PEER_HELLO_BYTES_MAX = 1024, /* of any message of the handshake, without its head */
    PEER_HEAD_BYTES = 12,        /* magic, kind, length */
    PEER_ADDRESS_MAX = 255,
    PEER_STREAM_FRAME_MAX = 1 << 20, /* on the stream's lane; on the messages' KITH_FRAME_BYTES_MAX */
    PEER_JOIN_FRAME_MAX = 4096,
};

/* What a connection is for. On the wire: never renumber. */
enum peer_purpose {
    PEER_MESSAGES = 1,
    PEER_STREAM,
    PEER_JOIN, /* the only one on which the acceptor sends a frame: the answer */
    PEER_ASK,  /* of which group are you? No frames */
};

/* Why an acceptor says no. On the wire: never renumber. */
enum peer_refusal {
    PEER_REFUSED_VERSION = 1,
    PEER_REFUSED_SECRET,
    PEER_REFUSED_GROUP,
    PEER_REFUSED_NODE, /* another node than the one meant */
    PEER_REFUSED_TLS,
    PEER_REFUSED_BUSY,
    PEER_REFUSED_OTHER,
};

enum peer_wire_state {
    PEER_WAITS_HELLO,
    PEER_WAITS_CHALLENGE,
    PEER_WAITS_PROOF,
    PEER_WAITS_ACCEPT,
    PEER_READY,
    PEER_FAILED, /* reason says why */
};

/* This side. Borrowed by its connections. */
struct peer_self {
    uint64_t group_id, node_id; /* group 0: not known yet (a join, a question) */
    const char *address;        /* where peers reach it */
    struct kith_slice secret;   /* may be empty */
    bool as_spare;              /* a join: wants to be known only */
    uint16_t lowest, highest;   /* versions */
};

struct peer_wire {
    const struct peer_self *self;
    enum peer_wire_state state;
    enum peer_purpose purpose;
    bool dialer;
    bool as_spare; /* acceptor: of one who joins */
    uint16_t version;
    uint64_t peer_id; /* dialer: the node meant, 0 anyone; after CHALLENGE or HELLO the other's own */
    uint64_t peer_group;
    char peer_address[PEER_ADDRESS_MAX + 1]; /* acceptor: where the dialer says it can be reached */
    char nonce[PEER_NONCE_BYTES];
    struct kith_buf transcript; /* HELLO, CHALLENGE, and what binds them to their TLS connection */
    struct kith_slice binding;  /* of TLS; borrowed until READY */
    struct kith_buf in;         /* an unfinished message or frame */
    struct kith_buf out;        /* of the handshake: to be sent by the owner, who clears it */
    uint32_t sent, received;    /* frames: the next one's number */
    uint32_t salt;              /* of this connection's sums */
    enum peer_refusal refusal;  /* PEER_FAILED by a REFUSED that was sent or came; else 0 */
    bool refused_by_peer;
    char reason[256]; /* a sentence's end for the log: "spoke of group ..., this is ..." */
};

/* `nonce`: PEER_NONCE_BYTES, fresh and secret-quality random. The dialer's HELLO is in `out` afterwards. */
void peer_wire_dial(struct peer_wire *wire, const struct peer_self *self, enum peer_purpose purpose,
                    uint64_t peer_id, const void *nonce);
void peer_wire_accept(struct peer_wire *wire, const struct peer_self *self, const void *nonce);
void peer_wire_fini(struct peer_wire *wire);

/* Takes what came, cut anywhere. `frame` is called for each whole frame (borrowed); a status of it that is not 0 ends
 * the call and is returned. KITH_ECORRUPT, KITH_EVERSION, KITH_EPERM (secret, group, node), KITH_ETOOBIG, KITH_ENOMEM:
 * the connection is over, after `out` (a REFUSED, perhaps) was sent; `reason` says why. */
int peer_wire_receive(struct peer_wire *wire, struct kith_slice bytes,
                      int (*frame)(void *context, struct kith_slice frame), void *context);

/* Writes the header of the next frame to be sent; frames must be sent in the order of these calls. */
void peer_wire_header(struct peer_wire *wire, struct kith_slice frame, char out[PEER_HEADER_BYTES]);
/* The same of a frame that lies in pieces: its length, and its bytes' sum, seeded with wire->salt. */
void peer_wire_header_of(struct peer_wire *wire, size_t length, uint32_t sum, char out[PEER_HEADER_BYTES]);

/* The greatest frame that the connection's purpose allows. */
size_t peer_wire_frame_max(enum peer_purpose purpose);

/* Acceptor, before READY: says no in so many words. */
void peer_wire_refuse(struct peer_wire *wire, enum peer_refusal why, const char *text);

#endif
