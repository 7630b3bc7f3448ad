/* What a node must remember beside its log: term and vote, and who it is. 64 bytes, in two files that are
 * both rewritten at each change, one after the other, each synced: when one is damaged the other one counts,
 * and a crash between the two leaves the newer one whole. */
#ifndef KITH_STORE_STATE_H
#define KITH_STORE_STATE_H

#include "base/fs.h"
#include "base/status.h"

struct kith_state {
    uint64_t folder_id; /* random; in each segment and checkpoint of the folder */
    uint64_t node_id;
    uint64_t term, voted_for;
    uint64_t counter; /* of writes */
    bool
        bootstrapped; /* the log's first entry is on the disk: from here on a folder without a log is damaged */
    bool backup; /* a copy made by kith backup, or a restore that was not finished: no server starts on it */
};

/* Reads both copies and takes the newer valid one. KITH_ENOENT: neither file is there. KITH_ECORRUPT: no
 * valid one. A log line tells of a damaged copy beside a valid one; the next save mends it. */
int kith_state_load(struct kith_state *out, struct kith_fs *fs, const char *dir, struct kith_error *error);

/* Counts state->counter up and writes both copies, synced. On failure the old state or the new one is there.
 */
int kith_state_save(struct kith_state *state, struct kith_fs *fs, const char *dir, struct kith_error *error);

/* For `kith check`: reads one copy (0 or 1). KITH_ENOENT, KITH_ECORRUPT, KITH_EVERSION. */
int kith_state_read_copy(struct kith_state *out, struct kith_fs *fs, const char *dir, int copy,
                         struct kith_error *error);

#endif
