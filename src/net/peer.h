/* The peers of a node, over TCP: struct kith_transport (repl/transport.h) with sockets.
 *
 * Each node opens connections of its own to each peer, one a lane, and only sends on them; on what it accepts it only
 * receives. So nobody has to agree on whose connection of two counts, the one that sends knows whom it dialed, and each
 * direction breaks and heals by itself. It costs twice the sockets.
 *
 * All calls come from the loop's thread. */
#ifndef KITH_NET_PEER_H
#define KITH_NET_PEER_H

#include "base/slice.h"
#include "base/status.h"
#include "repl/transport.h"

#include <uv.h>

enum { PEER_PARTIAL_MS = 25 };

struct kith_peers;
struct kith_peer_tls;
struct kith_peer_join; /* one who asked to join and waits for the answer */

struct kith_peers_options {
    uv_loop_t *loop;
    const char *address; /* "host:port": what peers are told; listened on unless `bind` says otherwise */
    const char *bind;    /* "host:port"; NULL or "": address */
    struct kith_slice
        secret; /* may be empty: then whoever reaches the port and knows the group is believed */
    const struct kith_peer_tls *tls;                /* NULL: none; must outlive */
    size_t message_queue_bytes, stream_queue_bytes; /* of one peer; 0: 64 MiB, 4 MiB */
};

/* Whom the frames are for. */
struct kith_peers_host {
    void *context;
    uint64_t group_id, node_id;
    /* As kith_node_receive. */
    int (*receive)(void *context, uint64_t peer, const char *address, struct kith_slice frame);
    /* Bytes of a frame of messages came that is not whole yet; at most every PEER_PARTIAL_MS. May be NULL. */
    void (*heard)(void *context, uint64_t peer);
    /* The peer, or its system, has closed its connection for messages. May be NULL. */
    void (*lost)(void *context, uint64_t peer);
    /* There is room again, or a peer is reached. */
    void (*wake)(void *context);
    /* Somebody who knows the secret wants to be a standby, or a spare. kith_peer_join_answer must be called once, now or
     * later. NULL: nobody joins here. */
    void (*join)(void *context, uint64_t node_id, const char *address, bool as_spare,
                 struct kith_peer_join *join);
};

/* Copies the texts. Nothing is listened on or sent before kith_peers_start. KITH_EINVAL (an address), KITH_ENOMEM. */
int kith_peers_open(struct kith_peers **out, const struct kith_peers_options *options,
                    struct kith_error *error);
struct kith_transport kith_peers_transport(struct kith_peers *peers);
/* Listens. KITH_EIO: the error names the address. */
int kith_peers_start(struct kith_peers *peers, const struct kith_peers_host *host, struct kith_error *error);
/* Writes what was sent since the last call. The loop does so by itself before it sleeps; a pass that sends after that
 * calls it. NULL is fine. */
void kith_peers_flush(struct kith_peers *peers);
/* Nothing is received or sent any more. The memory goes in the next rounds of the loop. close(NULL) is safe. */
void kith_peers_close(struct kith_peers *peers);
/* The port listened on (the bind address may have 0); 0: none. */
uint16_t kith_peers_port(const struct kith_peers *peers);

/* status KITH_OK: a member now. `text` says why not. Frees the join. */
void kith_peer_join_answer(struct kith_peer_join *join, int status, const char *text);

/* For tests, since no kernel of theirs can: each frame that goes out waits `delay_ms`, or is lost with a chance of
 * `drop_percent`; nothing goes to or comes from the peers of `blocked` ("host:port host:port"). May change at any time;
 * `blocked` is copied. KITH_ENOMEM. */
struct kith_peers_faults {
    unsigned delay_ms, drop_percent;
    const char *blocked;
};
int kith_peers_set_faults(struct kith_peers *peers, const struct kith_peers_faults *faults);

/* --- TLS --- */

/* Mutual TLS 1.3: each side shows a certificate that `ca` (PEM files all) has signed, in whatever name. The error names
 * the file. */
int kith_peer_tls_open(struct kith_peer_tls **out, const char *certificate, const char *key, const char *ca,
                       struct kith_error *error);
void kith_peer_tls_close(struct kith_peer_tls *tls);

/* --- addresses --- */

enum { KITH_PEER_HOST_BYTES = 254 };
/* "host:port", "1.2.3.4:port", "[::1]:port" into its parts. KITH_EINVAL. */
int kith_peer_parse_address(const char *text, char host[KITH_PEER_HOST_BYTES], uint16_t *port);
/* Whether only this machine reaches it. A name counts by what it stands for now. */
bool kith_peer_is_loopback(const char *host);

/* --- joining: before there is a node, on a loop of its own; blocks --- */

struct kith_peer_join_options {
    const char *target;  /* the peer port of any member */
    const char *address; /* our own */
    struct kith_slice secret;
    const struct kith_peer_tls *tls;
    uint64_t node_id;  /* our own */
    uint64_t group_id; /* 0: whichever it is */
    bool as_spare;     /* not as a standby */
    unsigned limit_ms; /* to keep trying; 0: 60,000 */
};
/* Asks to become a standby until it is one: *group_id is then the group's. What cannot get better (another secret, group
 * or version, no TLS there) ends it at once. The error is a sentence. */
int kith_peer_join_group(const struct kith_peer_join_options *options, uint64_t *group_id,
                         struct kith_error *error);
/* Only asks whose member the target is, once. KITH_EAGAIN, KITH_EIO: it was not reached. */
int kith_peer_ask_group(const struct kith_peer_join_options *options, uint64_t *group_id,
                        struct kith_error *error);

#endif
