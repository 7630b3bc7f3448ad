/* Inside the store: what a folder's names say. */
#ifndef KITH_STORE_FOLDER_H
#define KITH_STORE_FOLDER_H

#include "store/log.h"

struct kith_folder {
    struct kith_log_segment *segments; /* by sequence; bytes not filled */
    size_t segment_count;
    uint64_t *checkpoints; /* indexes, ascending */
    size_t checkpoint_count;
    uint64_t
        *received; /* complete checkpoints of a leader that wait for the log's reset: indexes, ascending */
    size_t received_count;
    size_t temporary_count; /* files of ours that end in .tmp */
    size_t unknown_count;
    char unknown[256]; /* one of them */
};

/* Reads the names. close frees; it is safe on a zeroed one. */
int kith_folder_open(struct kith_folder *out, struct kith_fs *fs, const char *dir);
void kith_folder_close(struct kith_folder *folder);

/* Removes our unfinished files. */
int kith_folder_remove_temporary(struct kith_fs *fs, const char *dir);

/* Where recovery starts: the last segment whose first index is at most `next_index`; -1 when there is none.
 */
long kith_folder_start(const struct kith_folder *folder, uint64_t next_index);
/* The first of the segments that lead up to `start` without a gap in their numbers: kept for members of the group that
 * are behind. */
size_t kith_folder_kept(const struct kith_folder *folder, size_t start);

/* Takes (or tries) the folder's lock. `create` false: a missing lock file counts as unlocked, *out stays
 * NULL. */
int kith_folder_lock(struct kith_file **out, struct kith_fs *fs, const char *dir, bool create,
                     struct kith_error *error);

/* Reading the segments from `first` on, in order, checking records, their indexes, and how each segment ends.
 * The error names file, offset and what to do. What is wrong before `start` is no error: the reader hears of a reset
 * then, since what was read up to there does not lead up to the rest. */
struct kith_folder_walk {
    struct kith_fs *fs;
    const char *dir;
    struct kith_folder *folder; /* bytes, least_index and takes_back of the segments are filled in */
    uint64_t folder_id;
    int (*visit)(void *context, const struct kith_record *record);
    void *context;
    /* filled in: */
    uint64_t first_index; /* of what is left when truncations and resets have had their say */
    uint64_t next_index;  /* behind the last record */
    uint64_t base_index;  /* what the last reset record says: entries before are in the checkpoint; 0: none */
    uint64_t records, bytes;
    uint64_t committed;  /* the most that a segment's header says */
    uint64_t cut_offset; /* where the last segment's good part ends, its seal included */
    uint64_t cut_bytes;  /* of the unfinished write behind it; 0: none */
    bool refused;        /* by visit, or for want of memory */
};
int kith_folder_walk(struct kith_folder_walk *walk, size_t first, size_t start, struct kith_error *error);

#endif
