/* How a node reaches its peers: a table of functions that src/net answers with sockets and tests/sim with a virtual
 * network. A frame (frame.h) is delivered once, whole and unchanged, or not at all; on one lane of one connection in
 * order. A connection that breaks loses what was on its way. Whoever needs an answer waits with a time limit. */
#ifndef KITH_REPL_TRANSPORT_H
#define KITH_REPL_TRANSPORT_H

#include "base/buf.h"

#include "base/slice.h"

#include <stdint.h>

/* Two connections to each peer, so that a snapshot's bytes never stand in front of a heartbeat. */
enum kith_lane { KITH_LANE_MESSAGES, KITH_LANE_STREAM };

struct kith_peer_status {
    bool connected;      /* the lane of messages, in either direction */
    size_t queued_bytes; /* handed over and not yet taken by the system, both lanes */
    uint64_t sent_bytes, received_bytes, dropped_frames; /* since the start */
    int64_t heard_ms_ago;                                /* since the last frame from it; -1: never */
};

/* The last bytes of a frame, which stay where they are: a large entry is the same for all members, and copying it for
 * each would stop the node that has to be heard. */
struct kith_shared {
    struct kith_slice bytes;
    void *owner;
    void (*release)(void *owner); /* once, from the loop's thread, when the bytes are not needed any more */
};

struct kith_transport {
    void *context;
    /* Takes the frame's bytes in every case (*frame is as after init afterwards). Never blocks, never calls back into
     * the node. A peer that is not reached, or whose queue is at its bound, gets nothing: the frame is dropped. */
    void (*send)(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                 struct kith_buf *frame);
    /* The same of a frame that is *head and then the shared bytes; takes both in every case. May be NULL. */
    void (*send_shared)(void *context, uint64_t peer, const char *address, enum kith_lane lane,
                        struct kith_buf *head, const struct kith_shared *rest);
    /* Bytes that send would take now; 0: not connected, or full. When it was 0 and is not any more the node is woken. */
    size_t (*room)(void *context, uint64_t peer, enum kith_lane lane);
    /* The peer has left the group: close, and do not connect again. */
    void (*forget)(void *context, uint64_t peer);
    void (*status)(void *context, uint64_t peer, struct kith_peer_status *out);
};

#endif
