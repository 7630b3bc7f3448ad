/* Kernels of the SPREAD layout: estimates of the distances from a query to 32 vectors at once, from a block of their
 * small codes (FastScan: André, Kermarrec & Le Scouarnec, "Cache locality is not enough: High-Performance Nearest
 * Neighbor Search with Product Quantization Fast Scan", 2015; for codes of bits: Gao & Long, "RaBitQ", 2024).
 *
 * A vector's code has 1 or 2 bits a dimension, x = sum over planes p of 2^p * (bit_p ? 1/2 : -1/2). Four dimensions are
 * a group; a query has for each group a table of the 16 sums that four bits can make, a byte each, so that one
 * shuffle of bytes looks up 16 vectors:
 *
 *     block   [ a: bf16 * 32 ][ b: bf16 * 32 ][ plane 0: groups * 16 bytes ][ plane 1 ]
 *     byte j of a group: four bits of vector j in its low nibble, of vector 16 + j in its high one
 *
 *     estimate = distance + a + b * (scale * (sum of entries) + bias)
 *
 * A block may be written to while it is read; see spread.h. Aligned to 64 bytes. */
#ifndef KITH_VEC_KERNELS_SPREAD_H
#define KITH_VEC_KERNELS_SPREAD_H

#include "vec/kernels.h"

enum {
    SPREAD_LANES = 32,
    SPREAD_FACTOR_BYTES = 128,
    SPREAD_GROUP_BYTES = 16,
    SPREAD_GROUP_DIMS = 4,
    SPREAD_FLUSH_GROUPS = 256, /* so many entries fit a sum of 16 bits */
};

struct spread_query {
    uint8_t *tables;   /* 16 bytes a group, aligned to 64 */
    size_t groups;     /* a multiple of 4 */
    unsigned planes;   /* 1 or 2 */
    float scale, bias; /* make a sum of entries an inner product of code and query */
};

struct spread_kernels {
    /* Makes query's tables, scale and bias from q[0..4 * groups), finite. */
    void (*make_tables)(const float *q, struct spread_query *query);
    /* Estimates to out[0..32); returns a bit for each that is below `bound` (NaN is not). */
    uint32_t (*estimate)(const struct spread_query *query, const uint8_t *block, float distance, float bound,
                         float out[SPREAD_LANES]);
};

/* The best at or below the level of a table that this machine runs. Static. */
const struct spread_kernels *spread_kernels_pick(enum kith_kernel_level level);
const struct spread_kernels *spread_kernels_scalar(void);
const struct spread_kernels *spread_kernels_avx2(void);   /* NULL elsewhere */
const struct spread_kernels *spread_kernels_avx512(void); /* NULL elsewhere */
const struct spread_kernels *spread_kernels_neon(void);   /* NULL elsewhere */

/* What the estimates of a block read is written by others meanwhile, without harm: ThreadSanitizer need not know. */
#define SPREAD_RACES __attribute__((no_sanitize("thread")))

#endif
