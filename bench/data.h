/* What the benchmarks of the vector index share: vector files, and exact answers to compare with. */
#ifndef KITH_BENCH_DATA_H
#define KITH_BENCH_DATA_H

#include "vec/hnsw.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_metric { BENCH_COSINE, BENCH_INNER_PRODUCT, BENCH_L2 };

struct matrix {
    float *values; /* rows * dim; owned */
    uint32_t rows, dim;
};

static inline float *matrix_row(const struct matrix *m, size_t row)
{
    return m->values + row * m->dim;
}

/* FOLDER/SET.PART.u8bin.gz: two little-endian uint32 (rows, columns), then bytes; or SET.PART.fbin: then floats
 * (make_vectors writes such). rows_max 0: all. */
bool matrix_load(struct matrix *m, const char *folder, const char *set, const char *part, uint32_t rows_max);
/* Each row to length 1. */
void matrix_normalise(struct matrix *m);
void matrix_fini(struct matrix *m);

/* Smaller is nearer: 1 - dot for cosine (of normalised rows) and inner product, else the squared distance. */
float bench_distance(enum bench_metric metric, const float *a, const float *b, uint32_t dim);
/* For each query the distance of its k-th nearest row: what is as near as that is a right answer, so that ties count.
 * live: rows to look at (NULL: all); out[queries->rows]. */
void bench_bounds(enum bench_metric metric, const struct matrix *base, const struct matrix *queries,
                  uint32_t k, const bool *live, float *out);
/* Room for rounding when a distance is compared with a bound. */
float bench_slack(enum bench_metric metric, float bound);

/* An index kept in a file between runs, so that searches can be tuned without building it each time. Its user
 * words are its rows. On success *h is replaced; false leaves it as it was. */
bool bench_index_load(struct kith_hnsw **h, const char *path, const struct kith_hnsw_options *options);
bool bench_index_store(const struct kith_hnsw *h, const char *path);

#endif
