/* Files through zlib: gzread() reads plain files as they are, so there is one path for both. */
#include "prog/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    ZLIB_BUFFER = 1 << 18,
    READ_MAX = 1 << 30, /* gzread takes an unsigned int */
};

struct kith_source {
    const char *path;
    gzFile file;
    uint64_t disk_bytes; /* 0: unknown */
    uint64_t offset;
    bool is_compressed;
    char ahead[4096]; /* of lines: bytes [ahead_used, ahead_length) are not handed out yet */
    size_t ahead_used, ahead_length;
};

int kith_source_open(struct kith_source **out, const char *path, struct kith_error *error)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kith_error_set(error, kith_status_from_errno(errno), "%s: %s", path, strerror(errno));
    struct kith_source *source = calloc(1, sizeof *source);
    struct stat info = {0};
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        free(source);
        return kith_error_set(error, KITH_EINVAL, "%s: is a folder, not a file", path);
    }
    if (source)
        source->disk_bytes = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
    gzFile file = source ? gzdopen(fd, "rb") : NULL;
    if (!file) {
        close(fd);
        free(source);
        return kith_error_set(error, KITH_ENOMEM, "%s: out of memory", path);
    }
    (void)gzbuffer(file, ZLIB_BUFFER); /* a smaller buffer works too */
    source->path = is_stdin ? "standard input" : path;
    source->file = file;
    source->is_compressed = !gzdirect(file);
    *out = source;
    return KITH_OK;
}

void kith_source_close(struct kith_source *source)
{
    if (!source)
        return;
    gzclose(source->file);
    free(source);
}

static int read_failed(struct kith_source *source, struct kith_error *error)
{
    int code;
    const char *text = gzerror(source->file, &code);
    unsigned long long at = source->offset;
    if (code == Z_ERRNO)
        return kith_error_set(error, KITH_EIO, "%s: cannot read at byte %llu: %s", source->path, at,
                              strerror(errno));
    if (code == Z_MEM_ERROR)
        return kith_error_set(error, KITH_ENOMEM, "%s: out of memory", source->path);
    if (code == Z_BUF_ERROR)
        return kith_error_set(
            error, KITH_ECORRUPT,
            "%s: the gzip file is cut off after %llu bytes of content (byte %llu of the file): copy "
            "or download it again",
            source->path, at, (unsigned long long)gzoffset(source->file));
    return kith_error_set(
        error, KITH_ECORRUPT,
        "%s: the gzip file is damaged after %llu bytes of content (about byte %llu of the file): %s",
        source->path, at, (unsigned long long)gzoffset(source->file), text);
}

static int read_some(struct kith_source *source, void *out, size_t length, size_t *got,
                     struct kith_error *error)
{
    int n = gzread(source->file, out, (unsigned)(length < READ_MAX ? length : READ_MAX));
    int code = Z_OK;
    /* A stream that ends too early gives what there is first; the failure is in the state, not in the count. */
    if (n >= 0)
        (void)gzerror(source->file, &code);
    if (n < 0 || (n == 0 && code != Z_OK && code != Z_STREAM_END))
        return read_failed(source, error);
    *got = (size_t)n;
    return KITH_OK;
}

int kith_source_read(struct kith_source *source, void *out, size_t length, size_t *got,
                     struct kith_error *error)
{
    size_t have = 0;
    while (have < length) {
        size_t n = source->ahead_length - source->ahead_used;
        if (n) {
            n = n < length - have ? n : length - have;
            memcpy((char *)out + have, source->ahead + source->ahead_used, n);
            source->ahead_used += n;
        } else {
            int status = read_some(source, (char *)out + have, length - have, &n, error);
            if (status)
                return status;
        }
        if (!n)
            break;
        have += n;
        source->offset += n;
    }
    *got = have;
    return KITH_OK;
}

int kith_source_read_all(struct kith_source *source, void *out, size_t length, const char *what,
                         struct kith_error *error)
{
    size_t got = 0;
    int status = kith_source_read(source, out, length, &got, error);
    if (!status && got < length)
        status = kith_error_set(error, KITH_ECORRUPT, "%s: ends at byte %llu, %zu bytes before the end of %s",
                                source->path, (unsigned long long)source->offset, length - got, what);
    return status;
}

int kith_source_read_line(struct kith_source *source, struct kith_buf *line, size_t line_max,
                          struct kith_error *error)
{
    kith_buf_clear(line);
    for (;;) {
        if (source->ahead_used == source->ahead_length) {
            size_t got = 0;
            int status = read_some(source, source->ahead, sizeof source->ahead, &got, error);
            if (status)
                return status;
            source->ahead_used = 0;
            source->ahead_length = got;
            if (!got)
                return line->length > 0;
        }
        const char *start = source->ahead + source->ahead_used;
        size_t left = source->ahead_length - source->ahead_used;
        const char *newline = memchr(start, '\n', left);
        size_t used = newline ? (size_t)(newline - start) + 1 : left;
        source->ahead_used += used;
        source->offset += used;
        if (line->length + used > line_max)
            return kith_error_set(error, KITH_ETOOBIG,
                                  "%s: the line that ends near byte %llu is longer than %zu bytes",
                                  source->path, (unsigned long long)source->offset, line_max);
        kith_buf_append(line, start, used - (newline != NULL));
        if (line->failed)
            return kith_error_set(error, KITH_ENOMEM, "%s: out of memory", source->path);
        if (newline) {
            if (line->length && line->data[line->length - 1] == '\r')
                line->length--;
            return 1;
        }
    }
}

const char *kith_source_path(const struct kith_source *source)
{
    return source->path;
}

bool kith_source_is_compressed(const struct kith_source *source)
{
    return source->is_compressed;
}

uint64_t kith_source_offset(const struct kith_source *source)
{
    return source->offset;
}

uint64_t kith_source_size(const struct kith_source *source)
{
    return source->is_compressed ? 0 : source->disk_bytes;
}

double kith_source_fraction(const struct kith_source *source)
{
    if (!source->disk_bytes)
        return 0;
    double done = source->is_compressed ? (double)gzoffset(source->file) : (double)source->offset;
    double fraction = done / (double)source->disk_bytes;
    return fraction < 1 ? fraction : 1;
}
