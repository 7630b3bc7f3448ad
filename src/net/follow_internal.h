/* What the files of the link to an upstream share. */
#ifndef KITH_NET_FOLLOW_INTERNAL_H
#define KITH_NET_FOLLOW_INTERNAL_H

#include "base/random.h"
#include "engine/upstream.h"
#include "net/follow.h"
#include "net/follow_wire.h"
#include "wire/rdb.h"
#include "wire/request.h"

enum {
    FOLLOW_LOOK_MS = 100,
    FOLLOW_ACK_MS = 1000,
    FOLLOW_RETRY_FIRST_MS = 100,
    FOLLOW_RETRY_MAX_MS = 5000,
    FOLLOW_READ_BYTES = 128 << 10,
    FOLLOW_ENTRY_BYTES = 1 << 20,   /* commands of one entry, about */
    FOLLOW_FLYING_BYTES = 16 << 20, /* submitted and not applied; then the socket waits */
    FOLLOW_REQUESTS = 64,
    FOLLOW_SEEN_MAX = 128,
    FOLLOW_SEEN_NAME = 32,
};

/* Commands, types and databases that were left out: each is logged when it is first met. */
struct follow_seen {
    char names[FOLLOW_SEEN_MAX][FOLLOW_SEEN_NAME];
    size_t count;
};

/* One connection, from the attempt to its end. */
struct follow_connection {
    struct kith_follow *follow;
    uv_tcp_t tcp;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    unsigned holds; /* handles and requests that still refer to it */
    bool closing, reading, connected;
    uint64_t link; /* of the state, which it serves */
    uint64_t last_io_ms, last_ack_ms;
    char host[KITH_UPSTREAM_HOST_MAX + 1];
    char replid[KITH_UPSTREAM_REPLID + 1]; /* of the stream that comes; at first the one that is asked for */

    struct follow_wire wire;

    /* The entry that is being made. */
    struct kith_buf commands; /* encoded */
    struct kith_buf parts;    /* of one command, while its count is not known */
    size_t part_count;
    struct kith_buf payload;

    /* The copy. */
    struct kith_rdb *rdb;
    struct kith_rdb_events rdb_events;
    uint64_t load;
    int64_t copy_offset, copy_done, copy_total;
    uint64_t copy_keys, copy_left_out;
    struct kith_rdb_vectors vectors; /* of the set under way */
    uint32_t copy_db;                /* that the stream has selected at its end */

    /* The stream. */
    struct kith_buf in;
    struct kith_request_parser parser;
    struct kith_request_limits limits;
    struct kith_request requests[FOLLOW_REQUESTS];
    int64_t offset;      /* of the bytes that were parsed */
    int64_t sent_offset; /* up to which entries were submitted */
    uint32_t db;
    bool in_multi;
    bool resync;         /* only a whole copy can go on from here */
    bool ack_wanted;     /* the upstream asked how far we are */
    int64_t ack_offset;  /* and is told when this is applied */
    size_t safe_length;  /* of `commands`, outside any MULTI */
    int64_t safe_offset; /* and the place in the stream */
    uint32_t safe_db;
};

struct kith_follow {
    uv_loop_t *loop;
    struct kith_engine *engine;
    struct kith_node *node;
    struct kith_follow_options options;
    struct kith_rng rng;
    uv_timer_t timer;
    struct follow_connection *connection; /* NULL: none */
    bool stopped, asking;                 /* for the barrier */
    uint64_t retry_at_ms;                 /* uv_now */
    unsigned attempts;                    /* that failed in a row */
    size_t address_index;                 /* which of the host's addresses is next */
    size_t flying_bytes;
    uint64_t forget_link; /* a link whose place in the stream is of no use: it asks for a whole copy */
    struct follow_seen seen;
    uint64_t down_since_ms, full_syncs, partial_syncs, failures;
    char error[640], logged[640];
    uint64_t logged_ms;
    char *read_buffer;
};

/* follow.c */
/* Ends it; why goes to the log and to INFO, "" for no reason. */
void follow_connection_end(struct follow_connection *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void follow_send_ack(struct follow_connection *c);
/* Entries were applied: the socket may be read on. */
void follow_room(struct follow_connection *c);

/* follow_entries.c */
/* Hands c->commands[0..length) to the node, behind `head`. False: the connection has ended. `to`: what the state's
 * offset is then; -1: it is a part of a copy. */
bool follow_submit(struct follow_connection *c, const char *const *head, size_t head_count, size_t length,
                   int64_t to);
/* Adds KITH.UPSTREAM LEAVE for keys argv[first..], step by step, up to and with last. `commands`: 0 or 1 of them. */
void follow_leave(struct follow_connection *c, uint32_t db, unsigned commands, struct kith_slice why,
                  const struct kith_slice *keys, size_t count);
/* Whether it is met for the first time. */
bool follow_is_new(struct follow_seen *seen, struct kith_slice name);

/* follow_copy.c */
int follow_copy_begins(void *arg, const char *replid, int64_t offset, int64_t length);
int follow_copy_bytes(void *arg, const char *bytes, size_t length, size_t *used);
int follow_copy_ends(void *arg);

/* follow_stream.c */
/* The stream begins behind byte `offset`, with database `db`. */
void follow_stream_begin(struct follow_connection *c, int64_t offset, uint32_t db);
int follow_stream_feed(struct follow_connection *c, const char *bytes, size_t length);

/* follow_foreign.c */
enum { FOLLOW_KEYS_MAX = 64 };
/* The keys that a command which Kith has not got writes, as indexes of argv; at most FOLLOW_KEYS_MAX. */
size_t follow_foreign_keys(const struct kith_slice *argv, size_t argc, size_t keys[FOLLOW_KEYS_MAX]);

#endif
