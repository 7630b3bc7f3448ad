/* Exact nearest rows by a scan of a whole file: the truth that an approximate index is measured against. */
#ifndef KITH_PROG_EXACT_H
#define KITH_PROG_EXACT_H

#include "base/status.h"
#include "prog/rows.h"

#include <stdint.h>

enum kith_exact_metric {
    KITH_EXACT_COSINE,
    KITH_EXACT_L2,
};

struct kith_exact_options {
    enum kith_exact_metric metric;
    uint32_t k;            /* neighbours a query, at least 1 */
    unsigned thread_count; /* 0: as many as cores */
    /* Called between blocks of rows; may be NULL. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/* Finds the k nearest rows of `base` for each query, nearest first, ties by the smaller row number.
 *   base      read from where it is to its end, once, in blocks: memory does not grow with it
 *   queries   borrowed, query_count rows of the base's dimension
 *   truth     out: query_count * k row numbers
 *   KITH_EINVAL when the base has fewer than k rows, what rows say, KITH_ENOMEM, KITH_EAGAIN (no threads) */
int kith_exact_nearest(struct kith_rows *base, const float *queries, size_t query_count,
                       const struct kith_exact_options *options, int32_t *truth, struct kith_error *error);

#endif
