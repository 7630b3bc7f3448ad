/* A node: the log, the raft core and the state machine of one server, behind the calls the keyspace thread
 * makes.
 *
 *     submit -> raft core -> log thread writes (and syncs) -> raft commits -> machine.apply -> done
 *
 * One voter for now; the core below is ready for more. All calls come from the keyspace thread, the one
 * exception being options.wake, which the node calls from its own threads. The keyspace thread answers a wake
 * with kith_node_poll(). Reading the state machine needs no call here: what was applied is what there is. */
#ifndef KITH_REPL_NODE_H
#define KITH_REPL_NODE_H

#include "base/buf.h"
#include "base/fs.h"
#include "base/status.h"

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
    /* Takes back what checkpoint_step yielded, in the same order, cut anywhere. Called on an empty machine,
     * only while the node opens. */
    int (*load)(void *context, struct kith_slice bytes);
    int (*load_finish)(void *context);
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
};

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

/* Appends one entry. `payload` is taken on success (it is then as after init) and untouched on failure.
 * `done(context, status)` runs exactly once on success of this call, on this thread: from poll, close, or,
 * with everysec, none and in memory, before this call returns. status 0: applied. Negative: what apply
 * returned, or, when the disk failed, why; the entry may then still be found after a restart (outcome
 * unknown). `hooks` is borrowed until done has run; `done` may be NULL; `done` may submit. Failure:
 * KITH_ENOMEM, KITH_ETOOBIG (payload over 1 GiB), KITH_ECLOSED, or the status that made the node read-only,
 * explained by kith_node_error(). */
int kith_node_submit(struct kith_node *node, struct kith_buf *payload, const struct kith_apply_hooks *hooks,
                     void (*done)(void *context, int status), void *context);

/* Takes in what the threads finished, applies, runs `done`s, advances a checkpoint by one bounded step (well
 * under a millisecond) and starts one when it is due. Cheap when there is nothing to do. */
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
 * untouched); KITH_EPERM: a node in memory has none; or what the machine returned, now or at a failed apply. It
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
};

void kith_node_get_status(const struct kith_node *node, struct kith_node_status *out);

#endif
