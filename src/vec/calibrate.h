/* Effort by recall: how far a search must go for a named recall (kith_hnsw_query.recall), learned from sample queries.
 *
 * A search for k that is given a recall stops when the next candidate is farther than (1 + slack) times the k-th best
 * that it has (for the inner product, whose distances have no zero: farther by slack times the set's scale). A query in
 * a sparse region, with many candidates at nearly one distance, goes on for longer than one in a tight cluster; a fixed
 * EF gives both the same. (The rule is that of Al-Jazzazi et al., "Distance Adaptive Beam Search for Provably Accurate
 * Graph-Based Nearest Neighbor Search", 2025; Li et al., "Improving Approximate Nearest Neighbor Search through Learned
 * Adaptive Early Termination", 2020, is on the same question.)
 *
 * One sample is one exact scan and one long walk. The walk tells of each true neighbour with which slack a search would
 * have come as far: so the distribution of these is the recall by slack, and one sample serves all recalls. Samples are
 * elements, each left out of the set, and queries that users sent, which take their place as they come.
 *
 * A walk may end in a cluster that no slack leads out of. Whoever seems to be lost so, because its k-th best is farther
 * than a gate, goes down again with a wide view (calibrate_table.c); samples tell who is lost, some of them vectors
 * between two elements.
 *
 * A recall is that of the finest that the set keeps; what its codes lost for good (KEEP NONE) nobody can know. */
#ifndef KITH_VEC_CALIBRATE_H
#define KITH_VEC_CALIBRATE_H

#include "vec/hnsw.h"

enum { KITH_CALIBRATION_KS = 3, KITH_CALIBRATION_ELEMENTS_MIN = 1000 };

/* [writer] From now on the set is calibrated and queries with a recall are sampled; until there are samples enough they
 * go by a cautious guess. KITH_ENOMEM: nothing has changed. */
int kith_hnsw_calibrate_begin(struct kith_hnsw *h);
/* [writer] Whether a step would do something: it was begun, the set has the elements, and samples are missing or have
 * aged. Each quarter of the set that changes ages them by half. */
bool kith_hnsw_calibrate_due(struct kith_hnsw *h);
/* [any thread] Works on one sample until it is done or `codes` elements were looked at; *give_way (may be NULL) ends it
 * sooner when it is not 0. 1: more to do, 0: this sample is done, or another thread is at it. KITH_ENOMEM. */
int kith_hnsw_calibrate(struct kith_hnsw *h, uint32_t codes, const _Atomic unsigned *give_way);

struct kith_calibration {
    uint32_t elements_sampled, queries_sampled; /* as they count now, aged */
    bool usable;                                /* enough of them: searches go by the table */
    struct {
        uint32_t k;
        float reach; /* the recall that a walk as far as the table goes has */
        struct {
            float recall, slack, evaluations;
        } rows[5]; /* for 0.90, 0.95, 0.98, 0.99, 0.995 */
    } ks[KITH_CALIBRATION_KS];
};

/* [any thread] False: never begun. */
bool kith_hnsw_get_calibration(const struct kith_hnsw *h, struct kith_calibration *out);

/* [writer] Appends what was learned; nothing when there is nothing. */
void kith_hnsw_save_calibration(const struct kith_hnsw *h, struct kith_buf *out);
/* [writer] The bytes are not trusted: KITH_ECORRUPT, KITH_ENOMEM. */
int kith_hnsw_restore_calibration(struct kith_hnsw *h, struct kith_slice bytes);

#endif
