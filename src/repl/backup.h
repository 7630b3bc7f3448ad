/* What `kith backup` asks of a running node: a checkpoint that stays while it is read, and the log behind it.
 *
 *     open    makes a checkpoint of the state as it is (or takes one that is there), sums it up and holds it open:
 *             trimming may take its name, not its bytes
 *     read    a piece of it, from any offset: what was broken off goes on
 *     log     committed entries, from the segments on the disk
 *
 * All files are read on the thread that also reads for members which are behind, one piece at a time; the keyspace thread
 * copies a piece into a reply. What is held is let go when nobody has read it for a while. All calls come from the keyspace
 * thread; `done` runs once on success of the call, from poll or close, with what it gets borrowed for the time of the call. */
#ifndef KITH_REPL_BACKUP_H
#define KITH_REPL_BACKUP_H

#include "repl/node.h"
#include "store/segment.h"

enum {
    KITH_BACKUP_PIECE_MAX = 1 << 20, /* bytes of one read */
    KITH_BACKUP_LOG_BYTES =
        512 << 10 /* of payload in one answer of the log, unless the first entry is larger */
};

struct kith_backup_file {
    uint64_t index, term; /* the last entry it holds, and that one's term */
    uint64_t bytes;       /* of the file */
    uint32_t crc;         /* CRC-32C of the whole file */
    int64_t created_ms;
};

/* index 0: of the state as it is now; else the checkpoint of that index, which is held or still in the folder. `file` is NULL
 * on failure. KITH_EPERM: a node in memory; KITH_EBUSY: a checkpoint is being made for somebody else, or too many are
 * held; KITH_EAGAIN as kith_node_checkpoint; KITH_ENOENT in done: there is none of that index (any more). */
int kith_node_backup_open(struct kith_node *node, uint64_t index,
                          void (*done)(void *context, int status, const struct kith_backup_file *file),
                          void *context);

/* Up to `length` bytes (at most KITH_BACKUP_PIECE_MAX) at `offset` of the checkpoint that open has told of; none past its end.
 * KITH_ENOENT: it is not held (any more): open it again. KITH_EBUSY: too many reads at once. */
int kith_node_backup_read(struct kith_node *node, uint64_t index, uint64_t offset, size_t length,
                          void (*done)(void *context, int status, struct kith_slice bytes), void *context);

struct kith_backup_log {
    uint64_t first_index;   /* the first entry that the log still has */
    uint64_t last_index;    /* the last that may be read now: committed, applied, and written here */
    uint64_t previous_term; /* of the entry before the first asked for; 0: not known any more */
    const struct kith_record *records; /* from the one asked for on; none when that is yet to come */
    size_t count;
};

/* Entries from `from` (at least 1) on. KITH_ENOENT in done: `from` is not in the log any more (`log` tells what is).
 * KITH_EAGAIN in done: the log is being changed; again in a moment. KITH_EBUSY, KITH_EPERM, KITH_ENOMEM. */
int kith_node_backup_log(struct kith_node *node, uint64_t from,
                         void (*done)(void *context, int status, const struct kith_backup_log *log),
                         void *context);

/* What may change while it runs: bytes of the log behind a checkpoint, for members that are behind and always, and bytes a second of
 * checkpoints that are sent. As in kith_node_options. */
struct kith_node_limits {
    uint64_t keep_log_bytes, keep_always_bytes, stream_bytes_per_s;
};
void kith_node_set_limits(struct kith_node *node, const struct kith_node_limits *limits);

#endif
