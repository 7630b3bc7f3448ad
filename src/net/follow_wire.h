/* What a replica says to a Redis or Valkey, and what it hears, up to the stream of commands: bytes in, bytes out, no
 * socket and no clock, so that a fuzzer can be the other side.
 *
 *     PING, [AUTH], REPLCONF listening-port, [REPLCONF ip-address], REPLCONF capa, PSYNC replid offset
 *     -> +CONTINUE [replid]               the stream follows
 *     -> +FULLRESYNC replid offset        "$length" and so many bytes, or "$EOF:mark", bytes and the mark; the stream
 *
 * Source: Redis' documentation of replication and what redis-server 6.0 to 7.2 sends. */
#ifndef KITH_NET_FOLLOW_WIRE_H
#define KITH_NET_FOLLOW_WIRE_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdint.h>

enum { FOLLOW_LINE_MAX = 1024, FOLLOW_MARK_BYTES = 40, FOLLOW_REPLID_BYTES = 40 };

enum follow_wire_state {
    FOLLOW_PING,
    FOLLOW_AUTH,
    FOLLOW_PORT,
    FOLLOW_ADDRESS,
    FOLLOW_CAPA,
    FOLLOW_PSYNC,
    FOLLOW_HEADER, /* of the copy; meanwhile the other side sends empty lines */
    FOLLOW_COPY,
    FOLLOW_MARK, /* the 40 bytes behind a copy whose length was not known */
    FOLLOW_STREAM,
};

/* Called by feed. A negative status ends the reading, and feed returns it; the caller has then set `error` itself. */
struct follow_wire_events {
    /* The stream goes on where it was asked to; `replid` is the one that counts from here on. */
    int (*resumed)(void *arg, const char *replid);
    /* A whole copy comes; the stream behind it begins at `offset`. */
    int (*copy_begins)(void *arg, const char *replid, int64_t offset, int64_t length);
    /* Bytes of it. 0: there must be more; 1: it ends behind *used of them. */
    int (*copy_bytes)(void *arg, const char *bytes, size_t length, size_t *used);
    int (*copy_ends)(void *arg);
};

struct follow_wire_options {
    const char *user, *password; /* "" none */
    unsigned port;               /* that INFO of the other side shows */
    const char *announce;        /* an address likewise; "": the connection's */
    const char *replid;          /* "": a whole copy */
    int64_t offset;              /* of the last byte that is known */
};

struct follow_wire {
    enum follow_wire_state state;
    struct follow_wire_options options; /* texts borrowed until the stream begins */
    const struct follow_wire_events *events;
    void *arg;
    struct kith_buf out; /* to be sent; the caller clears it */
    char line[FOLLOW_LINE_MAX];
    size_t line_length;
    char replid[FOLLOW_REPLID_BYTES + 1];
    int64_t offset;
    int64_t copy_left; /* bytes of the copy that are still to come; -1: it ends with the mark */
    char mark[FOLLOW_MARK_BYTES];
    size_t mark_length;
    bool wants_password; /* it said so */
    char error[512];     /* after a failure: what is wrong and what to do */
};

/* Puts the first words into `out`. */
void follow_wire_init(struct follow_wire *wire, const struct follow_wire_options *options,
                      const struct follow_wire_events *events, void *arg);
void follow_wire_fini(struct follow_wire *wire);
/* Takes bytes in. *used is how many; once the state is FOLLOW_STREAM the rest is the stream's. KITH_OK; KITH_ECORRUPT:
 * not what a master says; KITH_EPERM: it wants another password or user; KITH_EAGAIN: not now; KITH_EINVAL: it does not
 * serve replicas; KITH_ENOMEM; or what an event returned. Failures are final. */
int follow_wire_feed(struct follow_wire *wire, const char *bytes, size_t length, size_t *used);
/* A request as an array of bulk strings. */
void follow_wire_request(struct kith_buf *out, const char *const *words, size_t count);

#endif
