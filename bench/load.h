/* What a protocol of bench_load has to do: write requests, and find their replies in what came. */
#ifndef KITH_BENCH_LOAD_H
#define KITH_BENCH_LOAD_H

#include "base/buf.h"
#include "base/random.h"

#include <stdbool.h>
#include <stdint.h>

struct load_options {
    const char *port;
    const struct protocol *protocol;
    unsigned clients, pipeline, threads, value_bytes, keys, wait, pace;
    double seconds;
    const char *set, *prefix; /* of searches: the key, and what its elements' names begin with */
};

/* One connection. Requests are numbered from 0. */
struct load_client {
    const struct load_options *options;
    struct kith_rng *rng;
    int fd;
    uint64_t sent, done;
    struct kith_buf in, out;
    uint64_t *began_ns; /* of request n at n % ring */
    size_t ring;
    uint64_t unanswered; /* grpc: bytes received that no window update told of */
    void *owner;
};

struct protocol {
    const char *name;
    bool in_order; /* of the replies */
    void (*hello)(struct load_client *client);
    /* Appends request number client->sent to client->out. */
    void (*request)(struct load_client *client);
    /* Finds complete replies in client->in from `at` on; calls load_finished for each; how many bytes were used, or -1
     * where the bytes make no sense. */
    int64_t (*replies)(struct load_client *client, const char *at, size_t length);
};

void load_finished(struct load_client *client, uint64_t number, bool good);

extern const struct protocol load_protocols[]; /* the last one has no name */

#endif
