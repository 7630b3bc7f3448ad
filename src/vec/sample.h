/* Sample queries: what calibration and measuring share. A sample is a vector whose nearest elements are found by an
 * exact scan, in stretches, and then by a walk, node by node, so that it can be seen when the walk came upon each.
 *
 * An element may stand for a query. It must not find itself, nor use its own links: they lead to its neighbours as no
 * query's do. Taken out, it leaves a hole, and its neighbours, which had given a link for it, are harder to reach than
 * for a query; so, with `mended`, each of them steps over the hole to that neighbour of the element that is nearest, as
 * a repair after its removal would have linked them. */
#ifndef KITH_VEC_SAMPLE_H
#define KITH_VEC_SAMPLE_H

#include "vec/index.h"

struct sample {
    float *vector;  /* dim values; owned */
    uint32_t self;  /* the element that it is; KITH_HNSW_NONE: a query */
    uint32_t other; /* between self and this one; KITH_HNSW_NONE: not between any */
    bool mended;
    bool by_rows; /* SPREAD: the walk under way goes by rows, which `rows` is for */
    struct spread_query rows;
    uint32_t position;   /* the scan has looked at the slots below */
    struct pool nearest; /* by the finest that is kept, at most the k of init */
    struct pool
        by_code; /* what a graph without faults would find: the ef nearest by code; ef 0: not asked for */
};

/* KITH_ENOMEM; fini is safe in any case. */
int hnsw_sample_init(struct sample *sample, const struct kith_hnsw *h, uint32_t k, uint32_t ef);
void hnsw_sample_fini(struct sample *sample);
/* Begins with a random element of the graph, or with vector[0..dim). False: no element found. */
bool hnsw_sample_draw(struct sample *sample, const struct kith_hnsw *h, struct kith_rng *rng);
/* The same with a vector between two random elements, and so unlike any. */
bool hnsw_sample_draw_between(struct sample *sample, const struct kith_hnsw *h, struct kith_rng *rng);
void hnsw_sample_set(struct sample *sample, const struct kith_hnsw *h, const float *vector);
/* The target to compare with, made in the scratch: good until the scratch has another. */
struct target hnsw_sample_target(const struct sample *sample, const struct kith_hnsw *h, struct scratch *s);
/* Looks at `count` slots more; true when it has seen all. Pinned. */
bool hnsw_sample_scan(struct sample *sample, struct kith_hnsw *h, struct scratch *s, struct target target,
                      uint32_t count);

/* The walk, in s->pool. begin: at most `ef` candidates are kept, and `width` nodes in view on the way down (search.h).
 * KITH_ENOMEM. */
int hnsw_sample_walk(struct sample *sample, struct kith_hnsw *h, struct scratch *s, struct target target,
                     uint32_t ef, uint32_t width);
/* What the walk has found, by codes. By rows that is what it has expanded. */
static inline struct pool *hnsw_sample_found(const struct sample *sample, struct scratch *s)
{
    return sample->by_rows ? &s->found : &s->pool;
}
/* The nearest candidate that is not expanded yet; false when there is none. */
bool hnsw_sample_peek(struct scratch *s, float *distance);
/* Expands it. What is found with that is in s->gathered[0..returned). */
uint32_t hnsw_sample_expand(const struct sample *sample, struct kith_hnsw *h, struct scratch *s,
                            struct target target);
/* Whether it waits in the tail. The scan may have met it long ago: it may be gone since, its memory too. */
static inline bool hnsw_sample_is_unlinked(const struct kith_hnsw *h, uint32_t slot)
{
    return kith_hnsw_is_live(h, slot) && state_at(h, slot) != SLOT_LINKED;
}
/* After the walk: compares the nearest by code, as many as a search for k would, once more by the finest: sorts these,
 * drops the others. */
void hnsw_sample_refine(struct kith_hnsw *h, struct scratch *s, struct pool *pool, struct target target,
                        uint32_t k);

#endif
