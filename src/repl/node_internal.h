/* Inside the node: its state, and what its files share. */
#ifndef KITH_REPL_NODE_INTERNAL_H
#define KITH_REPL_NODE_INTERNAL_H

#include "base/task.h"
#include "repl/core.h"
#include "repl/members.h"
#include "repl/node.h"
#include "store/store.h"

enum {
    NODE_TRAILER_BYTES = 16
}; /* behind a command's payload in the log: origin's id and number, u64 each */

/* How far a write is that was handed to the leader, or waits for one. */
enum node_forward_state { NODE_WAITS, NODE_SENT, NODE_DECIDED };

/* An entry of the log with, where it was submitted here, what the caller wants to hear. */
struct node_entry {
    struct kith_log_entry log;            /* first: kith_log_entry_release frees the whole */
    struct node_entry *next;              /* among the orphans, or the forwards */
    const struct kith_apply_hooks *hooks; /* until done has run */
    void (*done)(void *context, int status);
    void *context;
    uint64_t since_ms; /* when it was submitted here */
    /* of a forward */
    uint64_t number, sent_term;
    enum node_forward_state state;
    int status; /* once decided */
};

/* Writes that this node could not append itself, in the order of their submits: first those on their way to a leader,
 * then those that wait. */
struct node_forwards {
    struct node_entry *head, *tail, *unsent; /* unsent: the first that waits */
    uint64_t next_number;
    size_t bytes;
    bool held;              /* one was refused while later ones are on their way: these come first */
    uint64_t not_before_ms; /* after a refusal */
};

/* Linearizable reads on their way: node_read.c. */
struct node_read {
    struct node_read *next;
    void (*done)(void *context, int status); /* NULL: a peer's, that is told the index */
    void *context;
    uint64_t peer, peer_number;
    uint64_t since_ms;
    uint64_t number; /* of the probe, or of the question to the leader, that answers for it */
    uint64_t index;  /* that must be applied */
};

struct node_read_queue {
    struct node_read *head, *tail;
};

struct node_voter {
    uint64_t id;
    uint64_t answered; /* the newest probe that it has answered in this term */
    uint64_t heard_ms; /* when a message of this leader's term came from it last; 0: never */
    uint64_t ranked;   /* the last probe to all that it has answered */
    unsigned rank;     /* its place among the answers to that */
};

struct node_reads {
    struct node_read_queue gathered; /* since the last probe or question */
    struct node_read_queue asked;    /* wait for a majority, or for the leader */
    struct node_read_queue known;    /* wait for the index to be applied */
    uint64_t number, sent_ms;        /* of the last probe or question */
    uint64_t not_before_ms;          /* after a leader said no */
    struct node_voter voters[KITH_MEMBERS_MAX];
    size_t voter_count;
    uint64_t wide_number;                /* of the last probe to all voters; 0: none in this term */
    unsigned answer_count, narrow_count; /* its answers, and probes to some of them since */
    /* A follower's view of its age: all that the leader had committed at at_ms is in index, and once that is applied
     * the state is no older than that. */
    uint64_t fresh_ms, next_index, next_ms; /* 0: none */
};

/* Entries [first, next) by index, in a ring: those that wait to be applied, and before them, in a group, the last that
 * were, because a member that is a little behind will ask for them. */
struct node_window {
    struct node_entry **at;
    size_t capacity; /* a power of two, or 0 */
    uint64_t first, next;
    size_t applied_bytes; /* node_entry_bytes of those up to the applied index */
};

/* Entries that were made before the core knows of them, so that what it accepts needs no memory any more. */
struct node_prepared {
    struct node_entry **at;
    size_t count, capacity;
    uint64_t first_index;
};

/* Of a leader: how long its log was at which time, the oldest first. node_lag.c. */
enum { NODE_LAG_NOTES = 128 };
struct node_lag {
    uint64_t index[NODE_LAG_NOTES], at_ms[NODE_LAG_NOTES];
    size_t count;
};

struct checkpoint_run; /* node_checkpoint.c */
struct node_streams;   /* node_stream.h */
struct node_backups;   /* node_backup.c */

struct kith_node {
    struct kith_node_options options;
    struct kith_node_machine machine;
    enum kith_durability durability;
    struct kith_store *store; /* NULL in memory */
    struct kith_log *log;     /* NULL in memory */
    struct kith_core *core;
    struct kith_pool *keeper; /* one thread: checkpoints and deleting; NULL in memory */
    uint64_t id;
    uint64_t now_ms;

    struct node_window window;
    struct node_prepared prepared;
    struct node_forwards forwards;
    struct node_reads reads;
    struct node_lag lag;
    size_t own_waiting;                     /* of the window: entries submitted here whose done has not run */
    uint64_t own_first;                     /* none of them is before this index */
    struct node_entry *orphans;             /* no longer in the log; their dones are yet to run */
    struct kith_frame_room room;            /* of the frame that came in last */
    struct kith_core_entry *append_entries; /* of the append that goes out */
    size_t append_capacity;
    size_t waiting_bytes; /* of entries not yet applied */
    uint64_t applied_index, applied_term;
    uint64_t truncations; /* asked for by the core in this run */
    uint64_t core_not_before_ms;
    uint64_t leader, leader_term; /* as last seen */
    struct kith_core_message
        agreed; /* the last append result without a rejection that went out; kind 0: none */
    bool advancing, poll_now, in_group, closing;
    bool bounded; /* applying ends after a while: what is left is for the next poll */
    bool cut;     /* it has ended */
    bool removed; /* from the group, by what a member said: it stands for no election any more */
    struct node_streams *streams; /* NULL until a member is far behind, or this node is */
    struct node_backups *backups; /* NULL until one is made */
    struct node_members *members; /* node_members.h */
    bool needs_barrier;           /* a leader that has no entry of its own term yet */
    int failure;
    bool failed_in_apply; /* memory is not what the log says: no checkpoint of it either */
    struct kith_error failure_text;

    uint64_t log_bytes_since, entries_since; /* the newest checkpoint */
    uint64_t checkpoint_term;                /* of its last entry */
    bool log_lacks_entries; /* that the core would send: the next checkpoint makes it forget all before it */
    uint64_t checkpoint_not_before; /* log_bytes_since at which the next automatic one may start */
    struct checkpoint_run *run;
    size_t keeper_tasks; /* submitted, not yet drained */
    struct kith_node_status
        status; /* its checkpoint, recovery and time fields; the others are filled on request */
};

/* --- node_window.c --- */

int node_window_grow(struct node_window *window);
/* Room for one more; KITH_ENOMEM. */
static inline int node_window_reserve(struct node_window *window)
{
    return window->next - window->first < window->capacity ? KITH_OK : node_window_grow(window);
}
/* Takes the entry over; room was reserved, and its index is window->next (or the window is empty). */
void node_window_push(struct node_window *window, struct node_entry *entry);
/* NULL when the window does not hold it. Borrowed. */
static inline struct node_entry *node_window_get(const struct node_window *window, uint64_t index)
{
    return index >= window->first && index < window->next ? window->at[index & (window->capacity - 1)] : NULL;
}
/* What an entry costs in memory, about. */
static inline size_t node_entry_bytes(const struct node_entry *entry)
{
    return sizeof *entry + entry->log.payload.capacity;
}
/* Lets go of the first, or gives the last away; the window is not empty. */
static inline void node_window_drop_first(struct node_window *window)
{
    kith_log_entry_release(&window->at[window->first++ & (window->capacity - 1)]->log);
}
struct node_entry *node_window_pop_last(struct node_window *window);
void node_window_close(struct node_window *window);

/* Makes an entry with a copy of the payload and one reference; NULL: no memory. */
struct node_entry *node_entry_new(const struct kith_core_entry *from, uint64_t index);

/* --- node_update.c: what the core asks for --- */

/* Does all that the update asks for: state, log, messages, roles; then applies what is committed. Failures end in
 * node_fail. After it the update's pointers are void. */
void node_carry_out(struct kith_node *node, struct kith_core_update *update);
/* Appends an entry here, on the leader: taken on success. As kith_core_submit. */
int node_submit_entry(struct kith_node *node, struct node_entry *entry);
/* Hands a message to the core, and carries out what comes of it. */
void node_take_message(struct kith_node *node, const struct kith_core_message *message);
/* Tells the core how far the log is on the disk, and applies what that commits. */
void node_take_progress(struct kith_node *node);
/* Lets the core's timer run when it is due. */
void node_take_time(struct kith_node *node);

/* --- node_apply.c --- */

/* Applies what is committed, in order; after a failure everything that waits is told so. */
void node_advance(struct kith_node *node);
int node_apply(struct kith_node *node, enum kith_record_kind kind, uint64_t index, struct kith_slice payload,
               const struct kith_apply_hooks *hooks);
/* Nothing is written, sent or taken in any more. The first failure stays. */
void node_fail(struct kith_node *node, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- node_forward.c: writes of clients on other nodes than the leader --- */

/* Takes the entry (its payload has the trailer) to wait for a leader or to be sent to it. */
void node_forward_add(struct kith_node *node, struct node_entry *entry);
/* Sends, or appends here, what may go now. */
void node_forward_flush(struct kith_node *node);
/* A leader appends what a peer hands over, or says that it does not; a refusal puts a write back. */
void node_forward_receive(struct kith_node *node, uint64_t peer, const char *address,
                          const struct kith_frame *frame);
/* An entry of the log with this trailer (empty: none) is about to be applied. The forward that it is: from here on the caller's, to be finished; NULL: none of ours. Those that
 * came before it are decided, and their dones have run. */
struct node_entry *node_forward_claim(struct kith_node *node, struct kith_slice trailer, uint64_t term);
/* Runs the done of the first when it is decided and its turn has come. False: there was nothing to run. */
bool node_forward_finish_one(struct kith_node *node);
/* Decides all: `sent` for those that are on their way, `waiting` for the others. */
void node_forward_decide_all(struct kith_node *node, int sent, int waiting);
/* Decides what has waited for too long. */
void node_forward_take_time(struct kith_node *node);
/* When the next of them is due; UINT64_MAX: none. */
uint64_t node_forward_due_ms(const struct kith_node *node);

/* --- node_read.c: linearizable reads --- */

/* A frame of theirs. */
void node_read_receive(struct kith_node *node, uint64_t peer, const char *address,
                       const struct kith_frame *frame);
/* A message of the core's has come in: what it tells about age, and who follows. Before the core takes it. */
void node_read_note(struct kith_node *node, const struct kith_core_message *message);
/* Another leader, or another term: all answers that are still out are void. */
void node_read_begin_term(struct kith_node *node);
/* Sends what was gathered, and runs the dones of what is due. From poll only. */
void node_read_poll(struct kith_node *node);
void node_read_close(struct kith_node *node);
uint64_t node_read_due_ms(const struct kith_node *node);

/* --- node_lag.c --- */

/* At each poll. */
void node_lag_note(struct kith_node *node);
/* On the leader: how old the first entry behind this index is, about; 0: there is none. */
int64_t node_lag_ms(const struct kith_node *node, uint64_t match_index);

/* --- node_probe.c --- */

/* What is known of a voter in this leader's term; NULL: too many. */
struct node_voter *node_probe_voter(struct kith_node *node, uint64_t id);
/* The greatest value, of the number at `offset` in struct node_voter, that a majority of the voters has reached; `own` is
 * this node's. */
uint64_t node_probe_majority(const struct kith_node *node, size_t offset, uint64_t own);
/* The next number goes to as many voters as make a majority, or to all. */
void node_probe_send(struct kith_node *node);
void node_probe_take_answer(struct kith_node *node, struct node_voter *voter, uint64_t number);
/* When the oldest question is to go to all voters; UINT64_MAX: it has, or there is none. */
uint64_t node_probe_late_ms(const struct kith_node *node);

/* --- node_send.c --- */

void node_send(struct kith_node *node, uint64_t peer, const char *address, enum kith_lane lane,
               const struct kith_frame *frame);
/* The same of a frame whose last bytes are the entry's payload, or its beginning: they are not copied. */
void node_send_entry(struct kith_node *node, uint64_t peer, const char *address,
                     const struct kith_frame *frame, struct node_entry *entry);
/* A frame with so many bytes of payload would be taken now; one that is larger than all the room only when it goes alone. */
bool node_has_room(const struct kith_node *node, uint64_t peer, size_t bytes);
void node_send_message(struct kith_node *node, const struct kith_core_message *message);
/* An append whose entries are given, in as many frames as its size asks for. */
void node_send_entries(struct kith_node *node, const struct kith_core_message *message);

/* --- node_open.c --- */

enum kith_log_sync node_sync_of(enum kith_durability durability);
int node_open_in_memory(struct kith_node *node, struct kith_error *error);
int node_open_folder(struct kith_node *node, struct kith_error *error);

/* --- node_stream.c --- */

/* Entries that are no longer in memory: read them from the log's segments off this thread, then node_send_entries.
 * Copies what it needs of `message`. Dropping it is allowed: raft asks again. */
void node_stream_append(struct kith_node *node, const struct kith_core_message *message);
/* The core wants the peer to get a checkpoint: an INSTALL message that goes out. Called often; one stream runs. */
void node_stream_offer(struct kith_node *node, const struct kith_core_message *message);
/* An INSTALL frame or a frame of a stream has come. Once everything is there: node_take_message. */
int node_stream_receive(struct kith_node *node, uint64_t peer, const char *address,
                        const struct kith_frame *frame);
/* Whether earlier appends to the peer are still to be sent: later ones go the same way. */
bool node_stream_is_behind(struct kith_node *node, uint64_t peer);
/* update.install: drop the log, take the checkpoint that was received; later kith_core_installed. The window is empty
 * by now. */
void node_stream_install(struct kith_node *node, const struct kith_core_snapshot *snapshot);
/* A leader's checkpoint takes the place of the state: nothing may be read, applied or saved. */
bool node_stream_is_loading(const struct kith_node *node);
void node_stream_poll(struct kith_node *node);
/* When to poll next; UINT64_MAX: not on its account. */
uint64_t node_stream_due_ms(const struct kith_node *node);
/* For kith_node_run: one task of the thread that reads. */
bool node_stream_run(struct kith_node *node);
/* Bytes of the checkpoint on its way to the peer; *total 0: none is. */
void node_stream_get_progress(const struct kith_node *node, uint64_t peer, uint64_t *done, uint64_t *total);
/* Waits for what runs. */
void node_stream_close(struct kith_node *node);

/* --- node_backup.c --- */

/* Lets go of what nobody reads any more. */
void node_backup_poll(struct kith_node *node);
uint64_t node_backup_due_ms(const struct kith_node *node);
/* Once the streams are closed: their thread is the one that reads. */
void node_backup_close(struct kith_node *node);

/* --- node_checkpoint.c --- */

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
/* Gives the running one up: the state that it is of goes away. */
void node_checkpoint_give_up(struct kith_node *node);
/* Drives the running one to its end, blocking. */
void node_checkpoint_complete(struct kith_node *node);

#endif
