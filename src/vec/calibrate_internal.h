/* What calibrate.c keeps for a set, and what searches want of it. */
#ifndef KITH_VEC_CALIBRATE_INTERNAL_H
#define KITH_VEC_CALIBRATE_INTERNAL_H

#include "vec/calibrate.h"
#include "vec/sample.h"

struct search;

enum { BINS = 256, LEVELS = 13, PENDING = 4 };
enum { FROM_ELEMENTS, FROM_QUERIES };
enum { PENDING_EMPTY, PENDING_FILLING, PENDING_READY };

/* Sums over samples. */
struct learned {
    float samples;
    struct {
        float found[BINS];       /* shares of the k nearest that this slack is enough for, and less is not */
        float evaluations[BINS]; /* distances computed with this slack */
    } ks[KITH_CALIBRATION_KS];
};

struct pending_query {
    _Atomic unsigned state;
    float *vector;
};

struct hnsw_calibration {
    /* Read by searches: */
    _Atomic float slack[KITH_CALIBRATION_KS][LEVELS], cost[KITH_CALIBRATION_KS][LEVELS];
    _Atomic float reach[KITH_CALIBRATION_KS];
    _Atomic float scale;
    _Atomic uint32_t sampled[2];
    /* A few queries on their way to be samples, and how many there were. */
    struct pending_query pending[PENDING];
    _Atomic uint32_t offers;

    _Atomic bool busy; /* whoever set it has what is below */
    _Atomic bool under_way;
    _Atomic unsigned agings; /* to be made */
    bool by_difference;      /* for the inner product */
    float least;
    struct sample sample;
    struct kith_rng rng;
    float edges[BINS];
    pthread_mutex_t lock; /* held for microseconds: */
    float sample_scale;
    struct learned sources[2];

    /* The writer's: how the set was when it last aged. */
    uint64_t added, elements;
};

void hnsw_calibration_close(struct hnsw_calibration *c);
/* The most candidates that a search by recall keeps. */
uint32_t hnsw_recall_ef(const struct kith_hnsw *h, uint32_t k);
/* Sets the search's ef and stop for its query's recall. False: scan, which costs no more or reaches what a walk does
 * not. */
bool hnsw_search_by_recall(struct search *search);

#endif
