/* A node: the log, the raft core and the state machine of one server, behind the calls the keyspace thread
 * makes.
 *
 *     submit -> raft core -> log thread writes (and syncs) -> raft commits -> machine.apply -> done
 *
 * A group of one node and a group of many are the same path: frames of peers come in through kith_node_receive
 * and go out through options.transport. All calls come from the keyspace thread, the one
 * exception being options.wake, which the node calls from its own threads. The keyspace thread answers a wake
 * with kith_node_poll(). Reading the state machine needs no call here: what was applied is what there is. */
#ifndef KITH_REPL_NODE_H
#define KITH_REPL_NODE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/status.h"
#include "repl/frame.h"
#include "repl/transport.h"

#include <stdint.h>

struct kith_node;
struct kith_apply_hooks; /* the engine's; only handed through */

/* When submit's `done` runs, on a group of one:
 *   always    after the entry was written and fdatasync'ed: survives a power cut
 *   everysec  at once; written within about a millisecond, synced once a second: a power cut loses up to a
 * second or so, a killed process up to the last milliseconds none      at once; written within about a
 * millisecond, synced only when a segment is full and at close */
enum kith_durability { KITH_DURABILITY_ALWAYS, KITH_DURABILITY_EVERYSEC, KITH_DURABILITY_NONE };

/* The state machine. `context` is handed back as the first argument. */
struct kith_node_machine {
    void *context;
    /* Changes the state by one entry. hooks is what submit was given, NULL in replay. Its result goes to
     * `done`; a negative one makes the node read-only (memory and log have parted), and fails the open in
     * replay. */
    int (*apply)(void *context, struct kith_slice payload, const struct kith_apply_hooks *hooks);
    /* Freezes the state as it is now for a checkpoint; later applies must not be seen in its bytes. */
    int (*checkpoint_begin)(void *context);
    /* Appends about budget_bytes of the frozen state to `out`. 1: more to come, 0: finished, negative: failed
     * (the node then calls abort). Bounded work. */
    int (*checkpoint_step)(void *context, struct kith_buf *out, size_t budget_bytes);
    void (*checkpoint_abort)(void *context);
    /* Takes back what checkpoint_step yielded, in the same order, cut anywhere. Called on an empty machine:
     * while the node opens, or after `reset`. */
    int (*load)(void *context, struct kith_slice bytes);
    int (*load_finish)(void *context);
    /* Empties the machine: a peer's checkpoint is to be loaded in its place. Bounded work: what is large is freed
     * later. KITH_ENOMEM: nothing has changed. */
    int (*reset)(void *context);
};

struct kith_node_options {
    const char *dir; /* NULL or "": memory only, no file is touched */
    enum kith_durability durability;
    struct kith_fs *fs;               /* NULL: kith_fs_posix() */
    struct kith_node_machine machine; /* copied */
    /* Called from any thread when kith_node_poll has something to do; must be thread-safe and must not call
     * back. May be NULL: then poll often. */
    void (*wake)(void *context);
    void *wake_context;
    uint64_t segment_bytes; /* of one log file; 0: 64 MiB */
    uint64_t
        checkpoint_log_bytes; /* checkpoint when the log since the last one is longer; 0: 64 MiB (and always
                                 at least half the last checkpoint); UINT64_MAX: never by itself */
    uint64_t queue_bytes;     /* entries that may wait for the disk before submit blocks; 0: 256 MiB */
    bool no_final_checkpoint; /* kith_node_close leaves the log for the next start to replay */

    /* --- the group; texts are borrowed for the node's life --- */
    const char *address; /* where peers reach this node, "host:port"; NULL: "local", a group that nobody
                                        can join */
    uint64_t join_group; /* not 0: a new folder founds no group, but takes this one's identity (what a member
                                        answered: kith_node_group_id) and waits for its leader */
    uint64_t node_id;    /* of a new folder, as the group was told when it asked to join; 0: drawn */
    const char *client_address; /* where clients reach this node, for redirects and lists; NULL: not told */
    const char *version;        /* of the program, told to the other members; NULL: "" */
    bool wants_vote; /* as a standby that has never been more: asks to be promoted once it is caught up */
    struct kith_transport transport;    /* copied; send NULL: no peer is ever reached */
    unsigned election_ms, heartbeat_ms; /* 0: 300, 50 */
    unsigned leader_wait_ms;   /* how long writes and reads wait for a leader to be known; 0: 3,000 */
    unsigned write_timeout_ms; /* how long an appended write may stay undecided before its outcome is reported
                                           as unknown; 0: 10,000 */
    uint64_t keep_log_bytes;   /* of the log behind a checkpoint, for members that are behind; 0: 256 MiB */
    uint64_t keep_always_bytes; /* the same on a node that is alone, too: for copies of the log; 0: nothing */
    uint64_t stream_bytes_per_s; /* of snapshots, for all peers together; 0: no limit */

    /* --- for the simulator --- */
    struct kith_clock clock; /* zero: the system's */
    uint64_t seed;           /* of election timeouts; 0: drawn */
    bool manual;             /* no threads: log and keeper move by kith_node_run only */
};

/* With options.manual: does what the log's thread, or the keeper's, would do next. False: nothing was to be done. */
enum kith_node_part { KITH_NODE_LOG, KITH_NODE_KEEPER };
bool kith_node_run(struct kith_node *node, enum kith_node_part part);

/* Locks and recovers the folder (newest checkpoint, then the log), or makes a new one. The machine must be
 * empty, and holds the recovered state afterwards. On failure *error says what is wrong, where, and what to
 * do; nothing is deleted or changed that could not be read: KITH_EBUSY another server has it, KITH_ECORRUPT
 * damage, KITH_EVERSION, KITH_ENOSPC, KITH_EIO, KITH_EPERM, KITH_ENOMEM, or what the machine returned. */
int kith_node_open(struct kith_node **out, const struct kith_node_options *options, struct kith_error *error);

/* Waits for everything submitted (`done` runs for it), writes a last checkpoint if there is something new and
 * the options allow it, and frees the node. Returns the status of that flush: 0, or why something may not
 * have reached the disk. close(NULL) is safe. */
int kith_node_close(struct kith_node *node);
/* As no_final_checkpoint: close writes none. */
void kith_node_skip_final_checkpoint(struct kith_node *node);

/* A frame from a peer has come; the bytes are borrowed. `address`: where the peer says it can be reached. KITH_ECORRUPT
 * or KITH_EVERSION: the transport is to close the connection and tell why; other failures are the node's own. */
int kith_node_receive(struct kith_node *node, uint64_t peer, const char *address, struct kith_slice frame);

/* A frame of the peer's is still on its way in, and bytes of it came just now. Of a leader's large entry this is the only
 * sign of life for as long as it takes; the leader is given one, too. */
void kith_node_heard(struct kith_node *node, uint64_t peer);

/* The peer's connection has ended by itself. When it was the leader, its process most likely has, too. */
void kith_node_lost(struct kith_node *node, uint64_t peer);

/* Appends one entry: here when this node leads, else by handing it to the leader; while no leader is known it waits.
 * Either way the entry is applied here too, in its place, with `hooks`: the reply is made on this node. `payload`
 * is taken on success (it is then as after init) and untouched on failure.
 * `done(context, status)` runs exactly once on success of this call, on this thread: from poll, close, or,
 * with everysec, none and in memory, before this call returns. status 0: applied. Negative: what apply
 * returned, or, when the disk failed, why; the entry may then still be found after a restart (outcome
 * unknown); KITH_EUNKNOWN: the leader was lost, the entry may have been kept or not; KITH_EAGAIN: no leader in time,
 * the entry was certainly not taken. `hooks` is borrowed until done has run; `done` may be NULL; `done` may submit. Dones run in the order of the submits. Failure:
 * KITH_ENOMEM, KITH_ETOOBIG (payload over 1 GiB), KITH_ECLOSED, or the status that made the node read-only,
 * explained by kith_node_error(). */
int kith_node_submit(struct kith_node *node, struct kith_buf *payload, const struct kith_apply_hooks *hooks,
                     void (*done)(void *context, int status), void *context);

/* A linearizable read (ReadIndex, Raft thesis 6.4). Positive: the state may be read right now, `done` will not run (a
 * group of one). 0: done(context, status) runs once from poll, submit, receive or close; with status 0 every write that
 * was acknowledged before this call, anywhere in the group, is in the state. KITH_EAGAIN in done: no leader in time.
 * Negative: KITH_ENOMEM, KITH_ECLOSED, or why this node is read-only: it cannot know what the group does. One probe serves all reads between two polls. */
int kith_node_read(struct kith_node *node, void (*done)(void *context, int status), void *context);

/* Nobody else votes: what this node has is the truth, and kith_node_read would say so at once. */
bool kith_node_is_alone(const struct kith_node *node);

/* The leader's checkpoint is being loaded in place of the state, or could not be: the machine is not to be read. */
bool kith_node_is_loading(const struct kith_node *node);

/* How old this node's state may be, in ms: the time since the last message of the leader whose commits are all applied
 * here (on the leader: since a majority was heard); a message's own way is not in it. 0 on a leader of one; -1: unknown
 * (no leader was heard yet). */
int64_t kith_node_lag_ms(const struct kith_node *node);

/* --- members --- */

struct kith_node_member {
    uint64_t id;
    char address[256];
    char client_address[128], version[32]; /* "" when not heard yet */
    enum kith_core_member_role role;
    bool self, leader;
    uint64_t match_index;  /* on the leader: what it is known to have; else 0 */
    uint64_t behind_bytes; /* on the leader: of the log that it lacks, about */
    int64_t behind_ms;     /* on the leader: the age of the first entry that it lacks, about; else -1 */
    int64_t heard_ms_ago;  /* -1: never, or not known here */
    uint64_t stream_done, stream_total; /* bytes of a checkpoint on its way to it; total 0: none */
    struct kith_peer_status peer;
};
/* Writes at most `max`; returns how many there are. */
size_t kith_node_get_members(const struct kith_node *node, struct kith_node_member *out, size_t max);
uint64_t kith_node_id(const struct kith_node *node);
uint64_t kith_node_group_id(const struct kith_node *node);
/* 0: not known. The address is "" then, and borrowed until the next call. */
uint64_t kith_node_leader(const struct kith_node *node, const char **address);
enum kith_core_role kith_node_role(const struct kith_node *node);

/* Changes the group; on another node than the leader by asking it. `address` is copied. done(context, status, text)
 * runs once on success of this call; text says why not. KITH_ENOENT: no such member; KITH_EINVAL: one that makes no sense;
 * KITH_EBUSY: another change is under way; KITH_EAGAIN: not caught up yet, or no leader; KITH_EUNKNOWN. */
int kith_node_change(struct kith_node *node, enum kith_change_kind change, uint64_t id, const char *address,
                     void (*done)(void *context, int status, const char *text), void *context);

/* Takes in what the threads finished, applies for about a millisecond, runs `done`s, advances a checkpoint by one bounded
 * step (well under a millisecond) and starts one when it is due. Cheap when there is nothing to do. */
void kith_node_poll(struct kith_node *node);

/* When to poll next without a wake: 0 now (but serve others first), a positive number of milliseconds, or -1:
 * only after a wake. */
int64_t kith_node_timeout_ms(const struct kith_node *node);
static inline bool kith_node_wants_poll(const struct kith_node *node)
{
    return kith_node_timeout_ms(node) == 0;
}

/* Starts a checkpoint of the state as it is now; `done(context, status)` (may be NULL) runs from poll or
 * close when it is safely on the disk, verified, or failed. KITH_EBUSY: one is running (its own `done` is
 * untouched); KITH_EPERM: a node in memory has none; KITH_EAGAIN: a change of the group is committed and
 * not applied yet; or what the machine returned, now or at a failed apply. It
 * is possible after the log failed, and then makes safe what only memory holds. */
int kith_node_checkpoint(struct kith_node *node, void (*done)(void *context, int status), void *context);

/* From the next submit on. Going to `always` syncs what was not yet synced. */
void kith_node_set_durability(struct kith_node *node, enum kith_durability durability);

/* "" while writes are possible, else a sentence for clients that says what happened and what to do. Borrowed.
 */
const char *kith_node_error(const struct kith_node *node);

/* The disk is slower than the writes: submit will block when this goes on. */
bool kith_node_is_behind(const struct kith_node *node);

/* For INFO persistence and replication. Times are wall-clock milliseconds since 1970. */
struct kith_node_status {
    bool in_memory;
    enum kith_durability durability;
    uint64_t term;
    uint64_t last_index, commit_index, applied_index,
        synced_index;                              /* of the log; synced: known to be on the disk */
    size_t waiting_entries, waiting_bytes;         /* submitted, not yet written */
    uint64_t log_bytes;                            /* in the log since the last checkpoint */
    uint64_t groups_written, syncs, bytes_written; /* by the log thread since open */
    const char *error;                             /* kith_node_error() */

    bool checkpoint_running;
    uint64_t checkpoint_running_bytes; /* of the machine's stream so far, before compression */
    int64_t checkpoint_started_ms;     /* of the running one, or the last */
    int64_t checkpoint_took_ms;        /* the last finished one; -1 none yet */
    int last_checkpoint_status;        /* 0, or why the last one failed */
    uint64_t checkpoint_index;         /* the newest on disk covers the log up to here; 0 none */
    uint64_t checkpoint_file_bytes;    /* its size */
    uint64_t checkpoints_done;         /* since open */
    int64_t last_save_ms;              /* of the newest checkpoint; when there is none, of the open */

    struct {
        uint64_t checkpoint_bytes; /* of the stream loaded, before compression */
        uint64_t entries;          /* replayed */
        uint64_t log_bytes;        /* read */
        uint64_t cut_bytes;        /* of an unfinished write at the log's end */
        int64_t took_ms;
    } recovery;

    /* the group */
    enum kith_core_role role;
    uint64_t leader_id;                      /* 0: none known */
    uint64_t elections, leader_changes;      /* begun by this node; seen */
    uint64_t forwarded, forwarded_unknown;   /* writes handed to a leader; of unknown outcome */
    uint64_t reads, probes;                  /* linearizable reads asked for; probes sent for them */
    uint64_t streams_sent, streams_received; /* whole checkpoints */
    uint64_t stream_bytes_sent, stream_bytes_received;
};

void kith_node_get_status(const struct kith_node *node, struct kith_node_status *out);

#endif
