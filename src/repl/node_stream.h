/* Inside the node: what goes to members that are far behind, and what comes from a leader to a node that is.
 *
 *     node_behind.c       entries that are no longer in memory, read from the log's segments
 *     node_stream_out.c   a checkpoint that is sent: OFFER, WANT, DATA, END
 *     node_stream_in.c    one that is received
 *     node_install.c      one that takes the place of this node's log and state
 *     node_stream.c       what they share: peers, the reading thread, time
 *
 * Files are touched on one thread of their own, so that a member that catches up waits for no checkpoint of this node's,
 * nor the other way round. All else happens on the keyspace thread. */
#ifndef KITH_REPL_NODE_STREAM_H
#define KITH_REPL_NODE_STREAM_H

#include "repl/node_internal.h"
#include "store/incoming.h"
#include "store/log_reader.h"

/* Appends on their way to a member: entries [next, end) are still to be sent. */
struct behind {
    uint64_t term;
    uint64_t start, next, end;          /* start: where this stretch began; none when next == end */
    uint64_t start_term, previous_term; /* of the entries before `start` and before `next` */
    struct kith_log_cursor cursor;      /* the reading thread's while `reading` */
    struct kith_log_batch batch;
    uint64_t read_from;
    size_t read_count;
    int read_status;
    bool reading, stale; /* stale: what is being read is not wanted any more */
    struct kith_task task;
    /* what is on its way, see node_behind.c */
    size_t out_bytes, window_bytes;
    uint64_t out_up_to; /* the last entry of it; 0: nothing is */
    uint64_t sent_ms, rest_until_ms, gap;
};

enum out_state { OUT_NONE, OUT_OPENING, OUT_OFFERED, OUT_SENDING };

struct stream_out {
    enum out_state state;
    uint64_t term, index;
    struct kith_outgoing file; /* the reading thread's while `busy` */
    uint64_t file_bytes;
    uint64_t sent, acknowledged; /* bytes */
    struct kith_buf piece;       /* at `sent`; empty: to be read */
    uint64_t progress_ms, offered_ms;
    int status; /* of the task */
    bool busy, ending;
    struct kith_task task;
};

struct stream_peer {
    struct stream_peer *next;
    struct kith_node *node;
    uint64_t id;
    char address[256];
    struct behind behind;
    struct stream_out out;
};

enum in_state { IN_NONE, IN_OPENING, IN_TAKING, IN_CHECKING, IN_READY };

struct stream_in {
    struct kith_node *node;
    enum in_state state;
    uint64_t peer, term; /* of the leader that sends */
    char address[256];
    struct kith_incoming_offer offer;
    struct kith_incoming *file; /* the reading thread's while `busy` */
    uint64_t taken;             /* bytes, with those that wait to be written */
    struct kith_buf queued, writing;
    struct kith_checkpoint_read ready; /* with IN_READY: what the file says of itself */
    uint64_t drop_index;               /* a received file that is not wanted any more; 0: none */
    uint64_t heard_ms;
    int status;
    bool busy, cancelled;
    struct kith_error why;
    struct kith_task task;
};

enum load_state { LOAD_NONE, LOAD_RESETTING, LOAD_TAKING, LOAD_READING, LOAD_FAILED };

struct stream_load {
    struct kith_node *node;
    enum load_state state;
    struct kith_core_snapshot snapshot; /* its configuration is owned */
    uint64_t truncations;               /* that the log must have on the disk */
    struct kith_file *file;
    struct kith_checkpoint_reader *reader; /* the reading thread's while `busy` */
    struct kith_buf block, next;           /* being loaded; being read */
    size_t loaded;                         /* bytes of `block` */
    uint64_t file_bytes;
    int64_t created_ms;
    int status; /* of the task; 1: a block was read */
    bool busy, ended;
    struct kith_error why;
    struct kith_task task;
};

struct node_streams {
    struct kith_pool *reader;
    size_t tasks; /* submitted, not yet done */
    struct stream_peer *peers;
    uint64_t budget_bytes, budget_ms; /* what the rate allows now, and when that was reckoned */
    struct stream_in in;
    struct stream_load load;
};

/* --- node_stream.c --- */

/* NULL: no memory, or no thread. */
struct node_streams *node_streams_need(struct kith_node *node);
/* The same for one peer; NULL too when it is not known and `make` is false. */
struct stream_peer *node_stream_peer(struct kith_node *node, uint64_t id, const char *address, bool make);
void node_stream_submit(struct kith_node *node, struct kith_task *task, void (*run)(struct kith_task *),
                        void (*done)(struct kith_task *));
/* A task's `done` has run. */
void node_stream_task_done(struct kith_node *node);
/* Whether a frame of `bytes` bytes may go to the peer on the stream's lane now. */
bool node_stream_room(struct kith_node *node, uint64_t peer, size_t bytes);
bool node_stream_is_connected(struct kith_node *node, uint64_t peer);
/* Whether this node leads in `term`, and is alive. */
bool node_stream_leads(struct kith_node *node, uint64_t term);

/* --- node_behind.c --- */

void node_behind_poll(struct stream_peer *peer);
/* When entries are to be sent, that wait for nothing but time; UINT64_MAX: none do. */
uint64_t node_behind_due_ms(const struct stream_peer *peer);
void node_behind_close(struct behind *behind);

/* --- node_stream_out.c --- */

void node_out_poll(struct stream_peer *peer);
uint64_t node_out_due_ms(const struct stream_peer *peer);
void node_out_receive(struct kith_node *node, uint64_t id, const struct kith_frame *frame);
void node_out_close(struct stream_out *out);

/* --- node_stream_in.c --- */

void node_in_poll(struct kith_node *node);
void node_in_receive(struct kith_node *node, uint64_t peer, const char *address,
                     const struct kith_frame *frame);
/* What was received is in its place, or never will be. */
void node_in_forget(struct stream_in *in);
void node_in_close(struct stream_in *in);

/* --- node_install.c --- */

void node_load_poll(struct kith_node *node);
bool node_load_is_ready(const struct stream_load *load);
void node_load_close(struct stream_load *load);

#endif
