/* The log's writing end: one thread that turns queued entries into records, many with one write and one sync.
 *
 *     keyspace thread: append -> queue          log thread: take all -> write -> sync -> publish how far ->
 * wake
 *
 * While a sync runs, further entries gather; they all go with the next one (group commit). Entries change
 * hands without a copy of their payload by the caller; small ones are gathered in a staging buffer here, big
 * ones are written from where they lie. After the first failed write or sync nothing more is written, ever:
 * what the kernel does with pages whose write-back failed differs, and a second fsync that succeeds proves
 * nothing. */
#ifndef KITH_STORE_LOG_H
#define KITH_STORE_LOG_H

#include "base/clock.h"
#include "base/task.h"
#include "store/segment.h"

#include <stdatomic.h>

/* When the thread syncs: after each group, once a second, or only when a segment is full and at close. */
enum kith_log_sync { KITH_LOG_SYNC_EACH_GROUP, KITH_LOG_SYNC_EACH_SECOND, KITH_LOG_SYNC_SELDOM };

/* One record to be written. Allocated by the caller with malloc; freed when the last of its references goes.
 */
struct kith_log_entry {
    struct kith_log_entry *next; /* the log's */
    struct kith_buf payload;     /* owned */
    uint64_t index, term;
    enum kith_record_kind kind;
    atomic_uint references;
};

/* Frees payload and entry with the last reference. */
void kith_log_entry_release(struct kith_log_entry *entry);

struct kith_log;

/* A segment on the disk. */
struct kith_log_segment {
    uint64_t sequence, first_index;
    uint64_t bytes;       /* that were written */
    uint64_t least_index; /* first_index, or less: to where it takes entries of earlier segments back */
    bool takes_back;      /* it holds a record that makes others void */
};

struct kith_log_options {
    struct kith_fs *fs;
    const char *dir; /* borrowed until close, like fs */
    uint64_t folder_id;
    uint64_t next_sequence, next_index; /* of the segment that open makes */
    uint64_t committed;                 /* as kith_log_set_committed */
    uint64_t first_index;   /* the least entry that the old segments hold; next_index: none. 0 counts as 1 */
    uint64_t segment_bytes; /* as long as records fit; a longer record gets a segment of its own */
    uint64_t queue_bytes;   /* append blocks while more than this waits */
    enum kith_log_sync sync;
    struct kith_executor helper; /* makes segments ahead of time; submit NULL: none. Outlives the log */
    void (*wake)(
        void *context); /* from the log thread: there is news; once until kith_log_synced is called */
    void *wake_context;
    struct kith_clock clock; /* zero: the system's */
    uint64_t seed;           /* of the segments' salts; 0: drawn */
    bool manual;             /* no thread: kith_log_run moves the log, append never blocks */
};

/* Makes and syncs the first segment, and starts the thread. `old[0..old_count)` are the segments that
 * recovery found, in order, for kith_log_trim. KITH_ENOMEM, KITH_ENOSPC, KITH_EIO, KITH_EPERM, KITH_EAGAIN
 * (no thread). */
int kith_log_open(struct kith_log **out, const struct kith_log_options *options,
                  const struct kith_log_segment *old, size_t old_count, struct kith_error *error);

/* Writes and syncs what waits (unless failed), seals the segment, ends the thread. Returns the failure, if
 * any. */
int kith_log_close(struct kith_log *log);

/* Queues the entry; one reference moves to the log. Indexes follow on each other, but for KITH_RECORD_TRUNCATE and
 * KITH_RECORD_RESET, whose index is the next entry's; both count as truncations. A reset ends its segment. Blocks while the queue is full. After a failure
 * entries are dropped. */
void kith_log_append(struct kith_log *log, struct kith_log_entry *entry);

/* With options.manual: does what the thread would do next: takes the queue, writes it, syncs as asked or when it is due,
 * and wakes. False: nothing was to be done. */
bool kith_log_run(struct kith_log *log);

/* Whether more than a quarter of the queue waits: the time to take fewer writes, before append blocks. */
bool kith_log_is_behind(struct kith_log *log);

/* Entries up to here are committed and synced: each new segment says so for the next recovery. Never falls. */
void kith_log_set_committed(struct kith_log *log, uint64_t index);

struct kith_log_progress {
    uint64_t written, synced; /* the last index that was; 0 none */
    uint64_t committed;       /* what kith_log_set_committed said */
    int failure;              /* 0, or why nothing is written any more */
    size_t waiting_entries, waiting_bytes;
    uint64_t live_bytes; /* of all segments on the disk, without what is only preallocated */
    uint64_t groups, syncs, bytes;
};

void kith_log_progress(struct kith_log *log, struct kith_log_progress *out);
/* The last index that is synced, in the log as it is after *truncations (may be NULL) truncate records.
 * Rearms the wake; takes no lock. */
uint64_t kith_log_synced(struct kith_log *log, uint64_t *truncations);
/* Why nothing is written any more, or 0; `error` (may be NULL) then gets the sentence for it. Cheap while 0.
 */
int kith_log_failure(struct kith_log *log, struct kith_error *error);

/* Going to EACH_GROUP makes the thread sync what is not yet synced. */
void kith_log_set_sync(struct kith_log *log, enum kith_log_sync sync);

/* Blocks until all that was appended is written and synced; 0 or the failure. */
int kith_log_flush(struct kith_log *log);

/* Deletes the segments that hold nothing above `index`, never the current one. From any one thread at a time.
 * Returns the first failure; what could not be deleted stays on the list. */
int kith_log_trim(struct kith_log *log, uint64_t index);

/* The first entry that stays when `index` is covered by a checkpoint and about `bytes` of what lies before it are to be
 * kept all the same: for kith_log_trim(log, it - 1). At most index + 1. */
uint64_t kith_log_keep_from(struct kith_log *log, uint64_t index, uint64_t bytes);
/* The first entry there is: what a reset or trimming has left. */
uint64_t kith_log_first_index(struct kith_log *log);

/* --- for log_reader.c --- */

/* Where an entry lies. */
struct kith_log_place {
    struct kith_fs *fs;
    const char *dir; /* borrowed */
    struct kith_log_segment segment;
    uint64_t below;       /* entries from here on lie in later segments, or not in the log */
    uint64_t truncations; /* asked for so far: see kith_log_is_place */
};
/* KITH_ENOENT: not in the log, or not written yet. KITH_EAGAIN: a truncation waits to be written. */
int kith_log_find(struct kith_log *log, uint64_t index, struct kith_log_place *out);
/* Whether nothing was taken back since. */
bool kith_log_is_place(struct kith_log *log, const struct kith_log_place *place);

#endif
