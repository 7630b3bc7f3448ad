/* Everything Kith asks of files, behind one small table of functions. The server runs on kith_fs_posix(); the
 * tests bring an implementation that records each write and replays every prefix, torn sector and reordered
 * sector of it against recovery. All calls may come from any thread; one file is used by one thread at a
 * time.
 *
 * Failures are statuses of base/status.h: KITH_ENOSPC, KITH_ENOENT, KITH_EEXIST, KITH_EPERM, KITH_EBUSY,
 * KITH_ENOMEM, or KITH_EIO for everything else. */
#ifndef KITH_BASE_FS_H
#define KITH_BASE_FS_H

#include "base/slice.h"

#include <stdint.h>

/* Flags of open; without KITH_FS_WRITE a file is read only. */
enum {
    KITH_FS_WRITE = 1 << 0,     /* read and write */
    KITH_FS_CREATE = 1 << 1,    /* make it when it is not there (mode 0600) */
    KITH_FS_EXCLUSIVE = 1 << 2, /* with CREATE: KITH_EEXIST when it is there already */
    KITH_FS_EMPTY = 1 << 3,     /* with WRITE: cut to zero bytes */
};

/* What sync must reach the disk with. */
enum kith_fs_sync {
    KITH_FS_SYNC_DATA, /* the bytes, and what is needed to read them back (fdatasync) */
    KITH_FS_SYNC_ALL,  /* the size too, also when it shrank (fsync) */
};

struct kith_fs;

/* An open file; the implementation's own struct begins with it. */
struct kith_file {
    struct kith_fs *fs;
};

struct kith_fs {
    int (*open)(struct kith_fs *fs, const char *path, unsigned flags, struct kith_file **out);
    /* Calls visit for each name in a folder, "." and ".." left out, in no order; stops at its first non-zero
     * result and returns that. */
    int (*list)(struct kith_fs *fs, const char *path, int (*visit)(void *context, const char *name),
                void *context);
    int (*make_folder)(struct kith_fs *fs, const char *path); /* mode 0700; KITH_EEXIST when it is there */
    int (*rename)(struct kith_fs *fs, const char *from, const char *to); /* replaces `to` in one step */
    int (*unlink)(struct kith_fs *fs, const char *path);
    int (*sync_folder)(struct kith_fs *fs,
                       const char *path); /* names made, renamed, unlinked before are durable */

    /* Reads up to `length` bytes at `offset`; *got < length only at the end of the file. */
    int (*read)(struct kith_file *file, void *out, size_t length, uint64_t offset, size_t *got);
    /* Writes all pieces, one behind the other, from `offset` on. After a failure any part may have been
     * written. */
    int (*write)(struct kith_file *file, const struct kith_slice *pieces, size_t count, uint64_t offset);
    int (*sync)(struct kith_file *file, enum kith_fs_sync how);
    int (*size)(struct kith_file *file, uint64_t *out);
    int (*truncate)(struct kith_file *file, uint64_t size);
    /* Takes the disk space for bytes [0, size) and makes the file at least that long; new bytes read as zero.
     */
    int (*preallocate)(struct kith_file *file, uint64_t size);
    /* Takes the file for this open file alone, until it is closed or the process ends; KITH_EBUSY when taken.
     */
    int (*lock)(struct kith_file *file);
    /* Tells the system that what was read or synced so far will not be needed from its cache. A hint. */
    void (*drop_cache)(struct kith_file *file);
    void (*close)(struct kith_file *file);
};

/* The real thing. One shared constant object without state. */
struct kith_fs *kith_fs_posix(void);

/* close(NULL) is safe. */
static inline void kith_file_close(struct kith_file *file)
{
    if (file)
        file->fs->close(file);
}

#endif
