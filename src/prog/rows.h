/* Files of vectors, one row after the other, widened to float32.
 *
 *   .u8bin .i8bin .fbin .i32bin   two little-endian uint32 (rows, columns), then the rows
 *   .fvecs .bvecs .ivecs          each row preceded by its little-endian int32 column count (the TEXMEX sets)
 *   .npy                          NumPy 1.0 to 3.0: f4, f8, u1, i1, i4, little-endian, C order, two dimensions
 *
 * each plain or gzip (.gz behind the name, or not: the bytes decide). A bad file is refused with file, offset and what
 * is wrong; nothing is allocated by a count that the file merely claims, but one row. */
#ifndef KITH_PROG_ROWS_H
#define KITH_PROG_ROWS_H

#include "base/status.h"
#include "prog/source.h"

#include <stdint.h>

enum { KITH_ROWS_DIM_MAX = 65536 };

struct kith_rows;

/* `format` is one of the endings above without the dot, or NULL to go by the name. `path` is borrowed.
 * KITH_ENOENT, KITH_EINVAL (no such format), KITH_ECORRUPT, KITH_ENOMEM. */
int kith_rows_open(struct kith_rows **out, const char *path, const char *format, struct kith_error *error);
/* close(NULL) is safe. */
void kith_rows_close(struct kith_rows *rows);

uint32_t kith_rows_dim(const struct kith_rows *rows);
/* Rows in the file, 0 where it does not say (fvecs in gzip). */
uint64_t kith_rows_total(const struct kith_rows *rows);
uint64_t kith_rows_done(const struct kith_rows *rows);
struct kith_source *kith_rows_source(struct kith_rows *rows);

/* The next row into out[0..dim). Returns 1, 0 at the end, or a failure. Bytes behind the last row are KITH_ECORRUPT. */
int kith_rows_next(struct kith_rows *rows, float *out, struct kith_error *error);
/* The same as integers: only for files of integers (KITH_EINVAL for others). */
int kith_rows_next_int(struct kith_rows *rows, int32_t *out, struct kith_error *error);

#endif
