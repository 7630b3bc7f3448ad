/* A file read from front to back, gzip or plain, with the place of every failure. What it is is seen by its first
 * bytes, not by its name. "-" is standard input. */
#ifndef KITH_PROG_SOURCE_H
#define KITH_PROG_SOURCE_H

#include "base/buf.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kith_source;

/* `path` is borrowed for the source's life. KITH_ENOENT, KITH_EPERM, KITH_EIO, KITH_ENOMEM. */
int kith_source_open(struct kith_source **out, const char *path, struct kith_error *error);
/* close(NULL) is safe. */
void kith_source_close(struct kith_source *source);

/* Reads `length` bytes, or fewer at the end of the file: *got. A damaged or cut gzip stream is KITH_ECORRUPT, with
 * file and offset in error->text. */
int kith_source_read(struct kith_source *source, void *out, size_t length, size_t *got,
                     struct kith_error *error);
/* Reads exactly `length` bytes; fewer is KITH_ECORRUPT, and error->text says what of it is missing: `what`, "row 17". */
int kith_source_read_all(struct kith_source *source, void *out, size_t length, const char *what,
                         struct kith_error *error);
/* The next line without its line end, into `line` (cleared first). Returns 1, 0 at the end, or a failure;
 * KITH_ETOOBIG past line_max bytes. */
int kith_source_read_line(struct kith_source *source, struct kith_buf *line, size_t line_max,
                          struct kith_error *error);

const char *kith_source_path(const struct kith_source *source);
bool kith_source_is_compressed(const struct kith_source *source);
/* Bytes handed out so far (after decompression). */
uint64_t kith_source_offset(const struct kith_source *source);
/* Size of the content where it is known without reading (a plain file), else 0. */
uint64_t kith_source_size(const struct kith_source *source);
/* How far we are in the file on disk, in [0, 1]; 0 where its size is not known. */
double kith_source_fraction(const struct kith_source *source);

#endif
