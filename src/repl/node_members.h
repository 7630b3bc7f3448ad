/* Inside the node: its view of the group's members, and the changes that are under way. */
#ifndef KITH_REPL_NODE_MEMBERS_H
#define KITH_REPL_NODE_MEMBERS_H

#include "repl/members.h"
#include "repl/node.h"

struct wish; /* node_change.c */

/* What another member has told about itself, and when a frame from it came last. */
struct member_about {
    uint64_t id, heard_ms;
    uint64_t wanted_commit, told_commit; /* node_notice.c: up to where it waits; what it was told */
    char client_address[128], version[32];
};

struct node_members {
    struct wish *wishes; /* in the order they came */
    size_t wish_count;
    uint64_t last_number;
    uint64_t barrier_term; /* in which a barrier was appended to settle a new leader */

    struct member_about abouts[KITH_MEMBERS_MAX];
    size_t about_count;
    uint64_t about_next_ms;

    bool notices_wanted; /* somebody may wait for a commit index */

    uint64_t known[KITH_MEMBERS_MAX]; /* ids of the committed configuration ... */
    size_t known_count;
    uint64_t known_index; /* ... of this entry */

    bool was_member, was_voter; /* in this run */
    bool caring;                /* a wish of the node's own is under way */
    uint64_t care_next_ms;
};

/* --- node_members.c: what the driver calls --- */

int node_members_open(struct kith_node *node);
/* Everything that waits is answered KITH_ECLOSED; the window has let go of all entries. */
void node_members_close(struct kith_node *node);
void node_members_poll(struct kith_node *node);
/* When to poll for it next, on the node's clock; UINT64_MAX: it needs no poll. */
uint64_t node_members_due_ms(const struct kith_node *node);
/* True: the frame was for it, or comes from a node that was removed and is dropped. */
bool node_members_receive(struct kith_node *node, uint64_t peer, const char *address,
                          const struct kith_frame *frame);
/* After `change` of `id` a majority of the voters was heard of lately, this node among them; else the change could never
 * be committed, nor anything after it. KITH_EAGAIN and why. */
int node_members_check_majority(const struct kith_node *node, enum kith_change_kind change, uint64_t id,
                                struct kith_error *why);
/* A new leader has committed nothing of its own term: appends what it can commit (once a term). Needed before a
 * change and before a linearizable read. */
void node_members_settle(struct kith_node *node);

/* --- node_notice.c --- */

/* The member waits until the entry at `index` is committed, and knows it. */
void node_notice_want(struct kith_node *node, uint64_t peer, uint64_t index);
/* An append that goes out tells it anyway. */
void node_notice_told(struct kith_node *node, uint64_t peer, uint64_t commit_index);
/* Tells who waits and can be told now. Cheap when nobody waits. */
void node_notice_flush(struct kith_node *node);

/* --- node_change.c --- */

void node_change_receive(struct kith_node *node, uint64_t peer, const char *address,
                         const struct kith_frame *frame);
void node_change_receive_result(struct kith_node *node, uint64_t peer, const struct kith_frame *frame);
void node_change_poll(struct kith_node *node);
void node_change_close(struct kith_node *node);

#endif
