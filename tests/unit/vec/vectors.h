/* Vectors to test with: clusters of fixed seeds, and the truth by brute force. */
#ifndef TESTS_VEC_VECTORS_H
#define TESTS_VEC_VECTORS_H

#include "base/random.h"
#include "vec/hnsw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Roughly normal: the sum of twelve uniform numbers, less six. */
static inline float test_normal(struct kith_rng *rng)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += kith_rng_unit(rng);
    return (float)sum;
}

/* count rows of dim, around `clusters` centres; the caller frees. */
static inline float *test_clusters(uint32_t count, uint32_t dim, uint32_t clusters, uint64_t seed)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 1234);
    float *centres = malloc((size_t)clusters * dim * sizeof *centres);
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centres[i] = test_normal(&rng);
    kith_rng_seed(&rng, seed);
    float *rows = malloc((size_t)count * dim * sizeof *rows);
    for (uint32_t i = 0; i < count; i++) {
        const float *centre = centres + kith_rng_below(&rng, clusters) * dim;
        for (uint32_t d = 0; d < dim; d++)
            rows[(size_t)i * dim + d] = centre[d] + 0.6f * test_normal(&rng);
    }
    free(centres);
    return rows;
}

static inline float test_cosine_distance(const float *a, const float *b, uint32_t dim)
{
    double dot = 0, aa = 0, bb = 0;
    for (uint32_t d = 0; d < dim; d++) {
        dot += (double)a[d] * b[d];
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
    }
    return aa > 0 && bb > 0 ? (float)(1 - dot / sqrt(aa * bb)) : 1;
}

#endif
