/* Inside the node: what node.c and node_checkpoint.c share. */
#ifndef KITH_REPL_NODE_INTERNAL_H
#define KITH_REPL_NODE_INTERNAL_H

#include "base/task.h"
#include "repl/core.h"
#include "repl/node.h"
#include "store/store.h"

/* A submitted entry: the log's record with what the caller wants to hear. */
struct node_entry {
    struct kith_log_entry log; /* first: kith_log_entry_release frees the whole */
    struct node_entry *next;   /* in the node's queue */
    const struct kith_apply_hooks *hooks;
    void (*done)(void *context, int status);
    void *context;
};

struct checkpoint_run; /* node_checkpoint.c */

struct kith_node {
    struct kith_node_options options;
    struct kith_node_machine machine;
    enum kith_durability durability;
    struct kith_store *store; /* NULL in memory */
    struct kith_log *log;     /* NULL in memory */
    struct kith_core *core;
    struct kith_pool *keeper; /* one thread: checkpoints and deleting; NULL in memory */
    uint64_t now_ms;

    struct node_entry *head, *tail; /* submitted, not yet applied, by index */
    size_t waiting_entries, waiting_bytes;
    uint64_t applied_index, applied_term;
    bool advancing, poll_now;
    int failure;
    bool failed_in_apply; /* memory is not what the log says: no checkpoint of it either */
    struct kith_error failure_text;

    uint64_t log_bytes_since, entries_since; /* the newest checkpoint */
    uint64_t checkpoint_not_before;          /* log_bytes_since at which the next automatic one may start */
    struct checkpoint_run *run;
    size_t keeper_tasks; /* submitted, not yet drained */
    struct kith_node_status
        status; /* its checkpoint, recovery and time fields; the others are filled on request */
};

/* Starts one; returns as kith_node_checkpoint. */
int node_checkpoint_start(struct kith_node *node, void (*done)(void *context, int status), void *context);
/* Takes in what the keeper finished, and yields the next bytes to it. */
void node_checkpoint_advance(struct kith_node *node);
/* True when the running checkpoint could yield bytes now. */
bool node_checkpoint_is_ready(const struct kith_node *node);
/* The log has grown enough for one, and none runs. */
bool node_checkpoint_is_due(const struct kith_node *node);
/* Starts one then. */
void node_checkpoint_start_when_due(struct kith_node *node);
/* Drives the running one to its end, blocking. */
void node_checkpoint_complete(struct kith_node *node);

#endif
