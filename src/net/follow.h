/* The link to a Redis or Valkey that is followed (REPLICAOF): a replica towards it, entries of the log towards the node.
 *
 *     socket -> follow_wire -> copy   -> entries of about 1 MiB -> kith_node_submit -> engine
 *                           -> stream -> an entry for each piece that was read
 *
 * Whom to follow and how far the data is, is state of the engine (engine/upstream.h) that REPLICAOF changes through the
 * log; this looks at it ten times a second and does what it says. Only the group's leader has a link. All calls come
 * from the loop's thread. */
#ifndef KITH_NET_FOLLOW_H
#define KITH_NET_FOLLOW_H

#include "base/status.h"
#include "engine/engine.h"
#include "repl/node.h"

#include <stdint.h>
#include <uv.h>

struct kith_follow;

/* Texts are borrowed until the next configure. */
struct kith_follow_options {
    const char *user, *password; /* masteruser, masterauth; "" none */
    unsigned timeout_s;          /* of silence, after which a link is given up */
    unsigned port;               /* where clients reach this node, for the upstream's lists */
    const char *announce;        /* the host of that; "": where the connection comes from */
};

enum kith_follow_state {
    KITH_FOLLOW_NONE,       /* nobody is followed, or not by this node */
    KITH_FOLLOW_CONNECT,    /* waits for the next attempt */
    KITH_FOLLOW_CONNECTING, /* under way, or greeting */
    KITH_FOLLOW_SYNC,       /* a whole copy comes */
    KITH_FOLLOW_CONNECTED,  /* the stream comes */
};

struct kith_follow_status {
    enum kith_follow_state state;
    int64_t io_ms_ago;             /* since anything came; -1: nothing yet */
    int64_t down_ms;               /* since the link was lost, or was first tried; 0 while it is up */
    int64_t copy_done, copy_total; /* bytes of a copy under way; total -1: not known */
    uint64_t full_syncs, partial_syncs, failures;
    const char *error; /* why the last attempt failed; "" none. Borrowed */
};

/* engine and node are borrowed, options' texts too. KITH_ENOMEM. */
int kith_follow_open(struct kith_follow **out, uv_loop_t *loop, struct kith_engine *engine,
                     struct kith_node *node, const struct kith_follow_options *options);
void kith_follow_configure(struct kith_follow *follow, const struct kith_follow_options *options);
/* Ends the link; nothing is submitted any more. What was submitted may still be under way: the node is closed, and the
 * loop has run its last round, before kith_follow_close. NULL is fine for both. */
void kith_follow_stop(struct kith_follow *follow);
void kith_follow_close(struct kith_follow *follow);
void kith_follow_get_status(const struct kith_follow *follow, struct kith_follow_status *status);

#endif
