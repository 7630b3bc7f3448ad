/* Files in memory that remember how they came to be.
 *
 * Each call that changes something is recorded. A crash can then be played at any point of the recording: what was
 * synced is there; of what was not, every sector may or may not have reached the disk, the last write may be torn at
 * any byte, and names may be as they were before. Calls can also be made to fail, and the disk to fill.
 *
 * The disk's part of the bargain, as here modelled: a sector (512 bytes) that a write does not change is not damaged
 * by it, and what a sync returned for stays. */
#ifndef TESTS_CRASH_FS_H
#define TESTS_CRASH_FS_H

#include "base/fs.h"
#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>

struct crash_fs;

/* An empty disk. */
struct crash_fs *crash_fs_open(void);
void crash_fs_close(struct crash_fs *disk);
struct kith_fs *crash_fs_table(struct crash_fs *disk);

/* Adds a mark to the recording: what was promised up to here. */
void crash_fs_mark(struct crash_fs *disk, uint64_t value);
size_t crash_fs_operations(const struct crash_fs *disk);

/* Calls (of the kinds that change something) fail with `status` from the n-th on, counted from now; n < 0: never.
 * `count` of them fail (0: all). */
void crash_fs_fail(struct crash_fs *disk, long n, int status, long count);
/* Only syncs fail. */
void crash_fs_fail_syncs(struct crash_fs *disk, int status);
/* Bytes in all files together; more gives KITH_ENOSPC. 0: no bound. */
void crash_fs_set_capacity(struct crash_fs *disk, uint64_t bytes);

/* Changes a byte of a file, behind everyone's back. False: it has none there. */
bool crash_fs_flip(struct crash_fs *disk, const char *path, uint64_t offset, unsigned char mask);
/* The first file whose name begins so, in the order of names; NULL: none. Borrowed. */
const char *crash_fs_find(struct crash_fs *disk, const char *path_prefix, size_t nth);
/* Its content, borrowed until the next call that changes it. */
const unsigned char *crash_fs_bytes(struct crash_fs *disk, const char *path, size_t *length);

/* --- playing crashes --- */

struct crash_replay;

enum crash_kind {
    CRASH_PREFIX,    /* all operations so far took effect */
    CRASH_TORN,      /* and the last one only in part, cut at a random byte */
    CRASH_REORDERED, /* of everything not synced, a random subset of sectors, sizes and names */
    CRASH_BARE,      /* nothing that was not synced */
};

/* At the beginning of disk's recording; the disk must live on, and no one may use it meanwhile. */
struct crash_replay *crash_replay_open(struct crash_fs *disk);
void crash_replay_close(struct crash_replay *replay);
/* Takes the next operation in; false at the end. */
bool crash_replay_step(struct crash_replay *replay);
/* The last mark passed; 0 before the first. */
uint64_t crash_replay_mark(const struct crash_replay *replay);
/* A new disk as it is after a crash here. */
struct crash_fs *crash_replay_crash(struct crash_replay *replay, enum crash_kind kind, struct kith_rng *rng);

#endif
