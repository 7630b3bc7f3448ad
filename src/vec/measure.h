/* Recall measured: how many of the true nearest a search finds, on elements that are left out of the set one at a time
 * (sample.h), each put to an exact scan by the finest that is kept. What is lost is told apart: the codes, which a
 * search in a graph without faults would lose too (the ef nearest by code, ranked again), and the graph: the rest. */
#ifndef KITH_VEC_MEASURE_H
#define KITH_VEC_MEASURE_H

#include "vec/hnsw.h"

enum { KITH_MEASURE_K_MAX = 1000, KITH_MEASURE_EF_MAX = 16384, KITH_MEASURE_SAMPLES_MAX = 10000 };

struct kith_measure_options {
    uint32_t k;       /* 1 to K_MAX */
    uint32_t ef;      /* effort of the search, 1 to EF_MAX; with recall 0 */
    float recall;     /* > 0: the effort that a search by recall takes */
    uint32_t samples; /* 1 to SAMPLES_MAX */
    uint64_t seed;    /* of the sample */
};

struct kith_measured {
    uint32_t samples; /* fewer than asked for when the set has fewer linked elements */
    double recall;
    /* 95 %: Wilson's score interval for so many independent neighbours as the spread over the queries speaks for, at
     * least one a query. */
    double low, high;
    bool codes_known; /* false: nothing finer than the codes is kept, so that nobody knows their loss */
    double codes_lost, graph_lost; /* add up to 1 - recall; graph_lost may be below 0 by chance */
    double evaluations;            /* a query */
};

struct kith_measure;

/* KITH_EINVAL, KITH_ENOMEM. The index outlives it. */
int kith_measure_open(struct kith_measure **out, struct kith_hnsw *h,
                      const struct kith_measure_options *options);
void kith_measure_close(struct kith_measure *m);
/* [any thread, one at a time] Goes on until `codes` elements were looked at, or *give_way (may be NULL) is not 0. 1: more
 * to do, 0: done, KITH_ENOMEM. */
int kith_measure_step(struct kith_measure *m, uint32_t codes, const _Atomic unsigned *give_way);
/* When done. */
void kith_measure_get(const struct kith_measure *m, struct kith_measured *out);

#endif
