/* A data folder: who holds it, what lies in it, and how it is read back.
 *
 *     lock                      held (flock) while a server uses the folder
 *     state-1, state-2          term, vote, identity: state.h
 *     log-SEQUENCE-FIRST        the log's segments: segment.h, log.h
 *     checkpoint-INDEX          the state machine at INDEX: checkpoint.h
 *     received-INDEX            a leader's checkpoint that waits for the log's reset: incoming.h
 *     *.tmp                     unfinished; removed at the next open
 *
 * Recovery reads the newest checkpoint, then the log from the segment on that holds the entry behind it. It
 * never guesses: an unfinished write at the log's end is cut, with a log line; everything else that does not
 * check out is refused with file, offset and what to do, and is left as it is. */
#ifndef KITH_STORE_STORE_H
#define KITH_STORE_STORE_H

#include "store/checkpoint.h"
#include "store/log.h"
#include "store/state.h"

struct kith_store;

/* What the folder holds; borrowed from the store. */
struct kith_store_found {
    struct kith_state state;
    bool has_checkpoint;
    struct kith_checkpoint_info checkpoint; /* valid when has_checkpoint */
    /* after kith_store_read_log: */
    uint64_t last_index; /* of the log; at least the checkpoint's */
    uint64_t committed;  /* entries up to here (and up to last_index) were known to be committed */
    uint64_t log_bytes;  /* read */
    uint64_t cut_bytes;  /* of an unfinished write at the end */
    size_t segment_count;
    uint64_t first_index; /* of the entries that are there, kept ones included; last_index + 1: none */
};

struct kith_store_options {
    struct kith_fs *fs;
    const char *dir; /* copied */
    uint64_t
        join_group; /* not 0: a new folder takes this for its folder_id: the checkpoints of a group's members are
                            interchangeable */
    uint64_t node_id; /* of a new folder's node; 0: drawn */
    uint64_t seed;    /* of a new folder's identity; 0: drawn */
    bool backup;      /* a copy's folder, which no server starts on, and not a server's */
};

/* Makes the folder if needed, locks it, reads the state and the names, and the newest checkpoint's header. A
 * new folder gets its identity (state.bootstrapped stays false until the caller saves it). KITH_EBUSY: locked
 * by another. KITH_ECORRUPT, KITH_EVERSION, KITH_EIO, KITH_EPERM, KITH_ENOSPC, KITH_ENOMEM. */
int kith_store_open(struct kith_store **out, const struct kith_store_options *options,
                    struct kith_error *error);
/* Unlocks and frees. close(NULL) is safe. */
void kith_store_close(struct kith_store *store);

const struct kith_store_found *kith_store_get_found(const struct kith_store *store);
const char *kith_store_get_dir(const struct kith_store *store);

/* The newest checkpoint's bytes, checked block by block, to take(). Also fills found.checkpoint.raw_bytes. */
int kith_store_read_checkpoint(struct kith_store *store, int (*take)(void *context, struct kith_slice bytes),
                               void *context, struct kith_error *error);

/* All records from the start of recovery on, truncations included, in order; checks everything. Records at or
 * below the checkpoint's index may come first: what is kept for members that are behind. A KITH_RECORD_RESET, from the
 * log or where what was kept does not lead up to the rest, makes all before it void. Changes nothing on the disk. A non-zero result of visit ends
 * it and is returned. May be called again. */
int kith_store_read_log(struct kith_store *store,
                        int (*visit)(void *context, const struct kith_record *record), void *context,
                        struct kith_error *error);

/* As read_log with only the last segments: from the last one on that holds a record. For a copy's folder, to go on where it
 * ends. */
int kith_store_read_tail(struct kith_store *store,
                         int (*visit)(void *context, const struct kith_record *record), void *context,
                         struct kith_error *error);

/* After read_log or read_tail: cuts the unfinished write, and syncs what was read, so that nothing is shown to clients
 * that a power cut could take back. Then opens the log behind last_index. options: fs, dir, folder_id,
 * next_sequence and next_index are filled in. */
int kith_store_open_log(struct kith_store *store, struct kith_log **out, struct kith_log_options *options,
                        struct kith_error *error);

/* Saves term, vote and bootstrapped. */
int kith_store_save_state(struct kith_store *store, const struct kith_state *state, struct kith_error *error);

/* Deletes the checkpoints below `index`, once that one is complete. Touches only the folder: any thread. */
int kith_store_trim_checkpoints(struct kith_fs *fs, const char *dir, uint64_t index);

/* --- kith check --- */

enum kith_store_finding { KITH_STORE_FINE, KITH_STORE_NOTE, KITH_STORE_PROBLEM };

struct kith_store_check_result {
    uint64_t segments, records, log_bytes, cut_bytes;
    uint64_t checkpoints, blocks, checkpoint_bytes;
    uint64_t last_index;
    uint64_t problems;
};

/* Reads every file of a folder that no server uses, changes nothing, and calls report for each with one
 * sentence. 0: sound. KITH_ECORRUPT: there are problems; *result counts. KITH_EBUSY: a server runs on it.
 * Others: it could not be read at all (reported too). */
int kith_store_check(struct kith_fs *fs, const char *dir,
                     void (*report)(void *context, enum kith_store_finding finding, const char *line),
                     void *context, struct kith_store_check_result *result);

#endif
