/* A library of vector search, as bench/peers drives it: one index, one thread, rows numbered from 0. */
#ifndef KITH_BENCH_PEER_H
#define KITH_BENCH_PEER_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stdint.h>

struct peer_options {
    uint32_t dim, rows, m, ef_construction;
    bool l2;       /* squared Euclidean distance; else inner product of what is normalised already */
    bool counting; /* evaluations() counts, which costs a call more a distance */
};

struct peer {
    const char *name;
    void *(*open)(const struct peer_options *options);
    void (*add)(void *index, uint32_t row, const float *vector);
    /* What is left to do before searches are fast; may be NULL. */
    void (*finish)(void *index);
    /* rows[0..k): returns how many were found. */
    uint32_t (*search)(void *index, const float *query, uint32_t ef, uint32_t k, uint32_t *rows);
    void (*close)(void *index);
    /* Distances computed since it was opened, while building, too; NULL where that is not counted. */
    uint64_t (*evaluations)(void *index);
};

/* NULL where the library was not there when this was built. */
const struct peer *peer_hnswlib(void);
const struct peer *peer_faiss_flat(void);
const struct peer *peer_faiss_sq8(void);

#ifdef __cplusplus
}
#endif

#endif
