/* The file table for POSIX systems: each call is the system call of that name, done until it is done. */
#include "base/fs.h"

#include "base/assert.h"
#include "base/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct posix_file {
    struct kith_file base;
    int fd;
};

static_assert(sizeof(struct kith_slice) == sizeof(struct iovec), "pieces are handed to pwritev as they are");
static_assert(offsetof(struct kith_slice, data) == offsetof(struct iovec, iov_base), "same order");

static int fd_of(struct kith_file *file)
{
    return ((struct posix_file *)file)->fd;
}

static int last_error(void)
{
    return kith_status_from_errno(errno);
}

static int posix_open(struct kith_fs *fs, const char *path, unsigned flags, struct kith_file **out)
{
    struct posix_file *file = malloc(sizeof *file);
    if (!file)
        return KITH_ENOMEM;
    int how = O_CLOEXEC | (flags & KITH_FS_WRITE ? O_RDWR : O_RDONLY);
    how |= (flags & KITH_FS_CREATE ? O_CREAT : 0) | (flags & KITH_FS_EXCLUSIVE ? O_EXCL : 0);
    how |= flags & KITH_FS_EMPTY ? O_TRUNC : 0;
    do
        file->fd = open(path, how, 0600);
    while (file->fd < 0 && errno == EINTR);
    if (file->fd < 0) {
        int status = last_error();
        free(file);
        return status;
    }
    file->base.fs = fs;
    *out = &file->base;
    return KITH_OK;
}

static void posix_close(struct kith_file *file)
{
    close(fd_of(file)); /* what must be on the disk was synced before; nothing is left to learn here */
    free(file);
}

static int posix_list(struct kith_fs *fs, const char *path, int (*visit)(void *, const char *), void *context)
{
    DIR *folder = opendir(path);
    if (!folder)
        return last_error();
    int status = KITH_OK;
    while (status == KITH_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            status = errno ? last_error() : KITH_OK;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = visit(context, entry->d_name);
    }
    closedir(folder);
    return status;
}

static int posix_make_folder(struct kith_fs *fs, const char *path)
{
    return mkdir(path, 0700) == 0 ? KITH_OK : last_error();
}

static int posix_rename(struct kith_fs *fs, const char *from, const char *to)
{
    return rename(from, to) == 0 ? KITH_OK : last_error();
}

static int posix_unlink(struct kith_fs *fs, const char *path)
{
    return unlink(path) == 0 ? KITH_OK : last_error();
}

static int posix_sync_folder(struct kith_fs *fs, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return last_error();
    int status = fsync(fd) == 0 ? KITH_OK : last_error();
    close(fd); /* opened to read */
    return status;
}

static int posix_read(struct kith_file *file, void *out, size_t length, uint64_t offset, size_t *got)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = pread(fd_of(file), (char *)out + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return last_error();
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return KITH_OK;
}

/* Writes the pieces left in v[0..count); they are used up. */
static int write_all(int fd, struct iovec *v, size_t count, uint64_t offset)
{
    while (count) {
        ssize_t n = pwritev(fd, v, count > 1024 ? 1024 : (int)count, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return last_error();
        offset += (uint64_t)n;
        size_t left = (size_t)n;
        for (; count && left >= v->iov_len; v++, count--)
            left -= v->iov_len;
        if (count) {
            v->iov_base = (char *)v->iov_base + left;
            v->iov_len -= left;
            if (n == 0)
                return KITH_EIO; /* a file that takes nothing and names no reason */
        }
    }
    return KITH_OK;
}

static int posix_write(struct kith_file *file, const struct kith_slice *pieces, size_t count, uint64_t offset)
{
    struct iovec some[64];
    for (size_t i = 0; i < count;) {
        size_t n = count - i < 64 ? count - i : 64;
        uint64_t bytes = 0;
        memcpy(some, pieces + i, n * sizeof *some);
        for (size_t k = 0; k < n; k++)
            bytes += some[k].iov_len;
        int status = write_all(fd_of(file), some, n, offset);
        if (status != KITH_OK)
            return status;
        offset += bytes;
        i += n;
    }
    return KITH_OK;
}

static int posix_sync(struct kith_file *file, enum kith_fs_sync how)
{
    int rc = how == KITH_FS_SYNC_DATA ? fdatasync(fd_of(file)) : fsync(fd_of(file));
    return rc == 0 ? KITH_OK
                   : last_error(); /* never again after a failure: the kernel may have dropped the pages */
}

static int posix_size(struct kith_file *file, uint64_t *out)
{
    struct stat info;
    if (fstat(fd_of(file), &info) != 0)
        return last_error();
    *out = (uint64_t)info.st_size;
    return KITH_OK;
}

static int posix_truncate(struct kith_file *file, uint64_t size)
{
    int rc;
    do
        rc = ftruncate(fd_of(file), (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? KITH_OK : last_error();
}

static int posix_preallocate(struct kith_file *file, uint64_t size)
{
    int error;
    do
        error = posix_fallocate(fd_of(file), 0, (off_t)size);
    while (error == EINTR);
    return error == 0 ? KITH_OK : kith_status_from_errno(error);
}

static int posix_lock(struct kith_file *file)
{
    if (flock(fd_of(file), LOCK_EX | LOCK_NB) == 0)
        return KITH_OK;
    return errno == EWOULDBLOCK ? KITH_EBUSY : last_error();
}

static void posix_drop_cache(struct kith_file *file)
{
    posix_fadvise(fd_of(file), 0, 0, POSIX_FADV_DONTNEED);
}

struct kith_fs *kith_fs_posix(void)
{
    /* Not const only because files point back to their table without it; nothing writes to it. */
    static struct kith_fs posix = {
        .open = posix_open,
        .list = posix_list,
        .make_folder = posix_make_folder,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .sync_folder = posix_sync_folder,
        .read = posix_read,
        .write = posix_write,
        .sync = posix_sync,
        .size = posix_size,
        .truncate = posix_truncate,
        .preallocate = posix_preallocate,
        .lock = posix_lock,
        .drop_cache = posix_drop_cache,
        .close = posix_close,
    };
    return &posix;
}
