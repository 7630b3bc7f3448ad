/* What the files of the peer transport share. */
#ifndef KITH_NET_PEER_INTERNAL_H
#define KITH_NET_PEER_INTERNAL_H

#include "base/log.h"
#include "base/random.h"
#include "net/peer.h"
#include "net/peer_tls.h"
#include "net/peer_wire.h"

enum {
    PEER_LANES = 2,
    PEER_LISTENERS_MAX = 8,
    PEER_BACKLOG = 64,
    PEER_STRANGERS_MAX = 64,     /* accepted and not proven; the oldest goes first */
    PEER_READ_BYTES = 256 << 10, /* one buffer for all */
    PEER_WRITE_BYTES = 1 << 20,  /* gathered for one write; a larger frame goes alone */
    PEER_WRITE_FRAMES = 64,
    PEER_SUM_BYTES = 16 << 20, /* of a large frame in one go: some milliseconds */
    PEER_MESSAGE_QUEUE_BYTES = 64 << 20,
    PEER_STREAM_QUEUE_BYTES = 4 << 20,
    PEER_HANDSHAKE_MS = 3000, /* from the first packet to the proofs */
    PEER_PATIENCE_MS = 100,   /* for an answer, when the peer itself is there by now */
    PEER_RETRY_MIN_MS = 50,
    PEER_RETRY_MAX_MS = 2000,
    PEER_USER_TIMEOUT_MS = 3000, /* sent and not acknowledged: the connection is dead */
    PEER_KEEPALIVE_S = 2,        /* of silence, then a probe a second */
    PEER_KEEPALIVE_PROBES = 3,
    PEER_STALL_MS = 100, /* out of memory: when to accept again */
    PEER_LOG_LINES = 4,  /* of one kind in ... */
    PEER_LOG_WINDOW_MS = 10000,
};

/* Lines about one peer, or about strangers, do not fill the log. */
struct peer_limiter {
    uint64_t since_ms;
    unsigned lines, hidden;
};

struct peer_frame {
    struct peer_frame *next;
    struct kith_buf bytes;
    struct kith_shared rest; /* behind them; empty: nothing */
    size_t summed;           /* of bytes and rest, in `sum`, seeded with `salt` */
    uint32_t sum, salt;
    uint64_t due_ms; /* 0: at once */
    char header[PEER_HEADER_BYTES];
};

struct peer_queue {
    struct peer_frame *first, *last;
    size_t bytes;
};

/* What we send to one peer on one lane. */
struct peer_link {
    struct peer *peer;
    enum kith_lane lane;
    struct peer_connection *connection; /* NULL: none */
    struct peer_queue queue;            /* not empty only while the connection is ready, or first tried */
    size_t queue_bytes_max;
    size_t tls_offset; /* of the first frame: already encrypted */
    bool was_full;     /* room said 0: tell when it is not any more */
    bool lost;         /* was ready, and broke */
    unsigned failures; /* since it was ready last */
    uv_timer_t timer;  /* until the next try */
};

struct peer {
    struct kith_peers *peers;
    struct peer *next;
    uint64_t id;
    char address[PEER_ADDRESS_MAX + 1];      /* where the group says it is; "" not said yet */
    char told_address[PEER_ADDRESS_MAX + 1]; /* where it says itself that it is */
    bool wanted;                             /* we have something to send to it */
    struct peer_link links[PEER_LANES];
    struct peer_connection *incoming[PEER_LANES];
    uint64_t heard_ms, sent_bytes, received_bytes, dropped_frames; /* heard_ms 0: never */
    struct peer_limiter limiter;
    unsigned open_timers; /* while it is being freed */
};

struct peer_connection {
    uv_tcp_t tcp;
    uv_timer_t timer; /* the handshake's limit */
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    struct kith_peers *peers;
    struct peer_connection *previous, *next; /* all; the oldest first */
    struct peer_link *link;                  /* dialed: of; NULL: accepted */
    struct peer *peer;                       /* accepted and proven: of */
    struct kith_peer_join *join;             /* accepted, wants to join: the question under way */
    char remote[PEER_ADDRESS_MAX + 1];       /* as the log names it */
    struct peer_wire wire;
    struct peer_tls tls;
    bool has_tls, tls_refused; /* refused: the other side speaks without */
    bool seen_bytes, ready, closing, writing, last_write;
    uint64_t began_ms, told_ms; /* told: that there is a part of a frame */
    unsigned holds;             /* handles and requests that libuv still has */
    char reason[256];
    struct kith_buf bytes; /* of the handshake, or encrypted: next to be written */
    struct kith_buf writing_bytes;
    struct peer_queue written; /* frames of the write under way */
};

struct kith_peers {
    uv_loop_t *loop;
    uv_tcp_t listeners[PEER_LISTENERS_MAX];
    unsigned listener_count;
    uv_prepare_t prepare;
    uv_timer_t timer; /* frames that wait (faults), and accepting after a lack of memory */
    unsigned open_handles;
    bool closing, started, stalled;
    uint16_t port;
    char address[PEER_ADDRESS_MAX + 1], bind[PEER_ADDRESS_MAX + 1];
    struct kith_buf secret;
    struct peer_self self;
    const struct kith_peer_tls *tls;
    struct kith_peers_host host;
    size_t queue_bytes_max[PEER_LANES];
    struct peer *first;
    struct peer_connection *connections, *connections_tail;
    unsigned stranger_count;
    struct peer_limiter strangers;
    struct kith_rng rng;
    unsigned delay_ms, drop_percent;
    char *blocked; /* NULL: none */
    char *read_buffer;
};

struct kith_peer_join {
    struct peer_connection *connection; /* NULL: gone */
};

/* peer.c */
struct peer *peers_find(struct kith_peers *peers, uint64_t id);
/* Made when it is not there; NULL: no memory. */
struct peer *peers_get(struct kith_peers *peers, uint64_t id);
bool peers_is_blocked(const struct kith_peers *peers, const struct peer *peer);
/* A line of the log, unless there were many like it. */
void peers_log(struct kith_peers *peers, struct peer_limiter *limiter, enum kith_log_level level,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A connection of the link is ready, or has ended. */
void link_ready(struct peer_link *link);
void link_ended(struct peer_link *link, const char *reason);
/* Tries now, if it is not connected or trying. */
void link_dial(struct peer_link *link);
/* The peer is there: an attempt that waits for an answer, perhaps of a wire that was cut, is not worth waiting for. */
void link_dial_again(struct peer_link *link);
/* The one that was accepted and proven from a peer has ended. */
void peer_incoming_ended(struct peer *peer);
/* The timer that flushes, and accepts after a stall. */
void peers_start_timer(struct kith_peers *peers, uint64_t wait_ms);
/* Frees peers when the last handle is gone. */
void peers_release(struct kith_peers *peers);
void peer_queue_clear(struct peer_queue *queue);
void peer_queue_push(struct peer_queue *queue, struct peer_frame *frame);
struct peer_frame *peer_queue_pop(struct peer_queue *queue);
void peer_frame_free(struct peer_frame *frame);
static inline size_t peer_frame_bytes(const struct peer_frame *frame)
{
    return frame->bytes.length + frame->rest.bytes.length;
}
/* What lies in one piece from `offset` on, which is less than its bytes. */
struct kith_slice peer_frame_piece(const struct peer_frame *frame, size_t offset);

/* peer_connection.c */
/* False: no memory. The link's connection is set, unless it ended at once. */
bool connection_dial(struct peer_link *link, const char *address);
void peers_accept(uv_stream_t *listener, int status);
void peer_connection_close(struct peer_connection *connection, const char *reason);
/* Sends what waits, as far as the socket takes it. */
void peer_connection_flush(struct peer_connection *connection);
void peer_connection_answer_join(struct peer_connection *connection, int status, const char *text);

/* peer_address.c */
/* Blocks for a name. The result is to be freed with freeaddrinfo; KITH_EINVAL, KITH_EIO. */
struct addrinfo;
int peer_resolve(const char *address, bool passive, struct addrinfo **out, struct kith_error *error);

#endif
