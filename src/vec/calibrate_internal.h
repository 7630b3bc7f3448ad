/* What is kept of a set's calibration, and what searches want of it: calibrate.c takes samples, calibrate_table.c makes
 * of them what searches go by. */
#ifndef KITH_VEC_CALIBRATE_INTERNAL_H
#define KITH_VEC_CALIBRATE_INTERNAL_H

#include "vec/calibrate.h"
#include "vec/sample.h"

struct search;

enum { BINS = 128, GATE_BINS = 256, LEVELS = 13, PENDING = 4 };
/* FROM_BETWEEN: vectors between two elements, unlike any, as users' queries may be. */
enum { FROM_ELEMENTS, FROM_QUERIES, FROM_BETWEEN, SOURCES };
enum { PENDING_EMPTY, PENDING_FILLING, PENDING_READY };
enum {
    NARROW,
    WIDE,
    WIDTHS
}; /* one node in view on the way down, or WIDE_VIEW of them (hnsw_descend_wide) */
enum {
    WIDE_VIEW = 2048,
    SAMPLES = 512,    /* elements sampled, when no queries are */
    BETWEEN_EACH = 8, /* for so many elements, one vector between two */
    QUERIES = 512,    /* from so many on only queries count */
    OFFERS_EACH = 256 /* with QUERIES sampled: of more, one in so many */
};
/* Of the sums over samples, for each width and k, by slack: */
enum {
    FOUND,       /* shares of the k nearest that this slack is enough for, and less is not */
    SQUARES,     /* of the share that is found with this slack or less: how much samples differ */
    EVALUATIONS, /* distances computed with this slack */
    SUMS
};
/* And for each k, by the distance of the k-th best that the narrow walk finds: */
enum {
    THERE,  /* samples */
    MISSED, /* shares of the k nearest that only the wide walk finds */
    GATE_SUMS
};

extern const uint32_t hnsw_calibration_ks[KITH_CALIBRATION_KS];

struct learned {
    float samples;
    float sums[WIDTHS * KITH_CALIBRATION_KS * SUMS * BINS];
    float gates[KITH_CALIBRATION_KS * GATE_SUMS * GATE_BINS];
};

static inline uint32_t learned_at(unsigned width, unsigned k, unsigned sum)
{
    return ((width * KITH_CALIBRATION_KS + k) * SUMS + sum) * BINS;
}

static inline uint32_t gate_at(unsigned k, unsigned sum)
{
    return (k * GATE_SUMS + sum) * GATE_BINS;
}

/* What searches with one k go by, for each level of recall. */
struct calibration_row {
    _Atomic float slack[LEVELS], cost[LEVELS]; /* of a level that is not reached: those of what is */
    _Atomic float gate[LEVELS]; /* a walk whose k-th best is farther may be lost; INFINITY: none is */
    _Atomic float reach;        /* the recall of a walk as far as the table goes */
};

struct pending_query {
    _Atomic unsigned state;
    float *vector;
};

struct hnsw_calibration {
    /* Read by searches: */
    struct calibration_row rows[KITH_CALIBRATION_KS];
    _Atomic float scale;
    _Atomic uint32_t sampled[SOURCES];
    /* A few queries on their way to be samples, and how many there were. */
    struct pending_query pending[PENDING];
    _Atomic uint32_t offers;

    _Atomic bool busy; /* whoever set it has what is below */
    _Atomic bool under_way;
    _Atomic unsigned agings; /* to be made */
    bool by_difference;      /* for the inner product */
    int gate_octave;         /* gate bin 0 is up to 2^gate_octave */
    float least;
    struct sample sample;
    struct kith_rng rng;
    float edges[BINS];
    pthread_mutex_t lock; /* held for microseconds: */
    float sample_scale;
    struct learned sources[SOURCES];

    /* The writer's: how the set was when it last aged. */
    uint64_t added, elements;
};

/* ---- calibrate.c ---- */

void hnsw_calibration_close(struct hnsw_calibration *c);

/* ---- calibrate_table.c ---- */

/* The slack of each bin, and the bin of a slack. */
float hnsw_calibration_edge(uint32_t bin);
uint32_t hnsw_calibration_bin(float slack);
/* The same of GATE_BINS, for distances. */
uint32_t hnsw_calibration_gate_bin(const struct hnsw_calibration *c, float distance);
/* The least distance that a share can be taken of. */
float hnsw_calibration_least(const struct kith_hnsw *h);
/* Makes the table of what was learned. Under the lock, or before others can see c. */
void hnsw_calibration_publish(struct hnsw_calibration *c);
/* The most candidates that a search by recall keeps. */
uint32_t hnsw_recall_ef(const struct kith_hnsw *h, uint32_t k);
/* Sets the search's ef, width, gate and stop for its query's recall. False: scan, which costs no more or reaches what a
 * walk does not. */
bool hnsw_search_by_recall(struct search *search);

#endif
