/* Pairs of elements that are near each other (near-duplicate detection, similarity join), from the graph.
 *
 * Each pair belongs to one of its two elements, its owner. The owner's partners are looked for from its own
 * links, over whatever lies within reach of it: elements that are near each other are linked, or linked to
 * something that is nearer to both, because that is how links are chosen. So most elements cost a look at
 * their links, and only those that have something near cost more. The work is cut into steps; between two of
 * them nothing is pinned and the set may change.
 *
 * A pair whose two elements stay in their slots from the first page to the last is reported at most once, and
 * once if the graph leads from its owner to it; which part of them it does, `sample` measures. Pairs of
 * elements that come or go meanwhile may be reported or not. */
#ifndef KITH_VEC_PAIRS_H
#define KITH_VEC_PAIRS_H

#include "vec/hnsw.h"

#define KITH_HNSW_PAIRS_MAX        100000 /* of a page, or of the nearest */
#define KITH_HNSW_PAIRS_SAMPLE_MAX 100000

struct kith_hnsw_pairs;

struct kith_hnsw_pairs_options {
    float max_distance; /* what is farther is left out; not looked at with `top` */
    uint32_t count;     /* pairs of a page, 1 to KITH_HNSW_PAIRS_MAX */
    uint64_t cursor;    /* of the page before; 0: the first page */
    uint32_t top;       /* instead of pages: the nearest so many, up to KITH_HNSW_PAIRS_MAX; 0: pages */
    uint32_t sample;    /* instead of pages: so many random elements, up to KITH_HNSW_PAIRS_SAMPLE_MAX, are
                           compared with all others, and the pairs they own are counted; 0: pages */
    uint64_t seed;      /* of the sample */
    kith_hnsw_filter *filter; /* both must pass; NULL: all */
    void *filter_context;
};

struct kith_hnsw_pair {
    float distance;
    uint32_t a, b;                       /* slots; a is the owner */
    uint32_t generation_a, generation_b; /* kith_hnsw_generation() when found */
};

/* Of pages: what goes on behind this pair of one. */
static inline uint64_t kith_hnsw_pairs_cursor(const struct kith_hnsw_pair *pair)
{
    return (uint64_t)pair->a << 31 | (pair->b + 1);
}

struct kith_hnsw_pairs_result {
    const struct kith_hnsw_pair *pairs; /* with top: the nearest first, and a few to spare */
    uint32_t count;                     /* may be below the page's, even 0, before the last page */
    uint64_t cursor;                    /* of the next page; 0: there is none */
    uint64_t evaluations;               /* distances computed by code */
    uint64_t hops;                      /* nodes whose links were read */
    /* With sample: */
    uint64_t sampled;       /* elements */
    uint64_t near, found;   /* pairs that they own, and those of them that the graph leads to */
    double effective_count; /* pairs of so many independent ones would say as much (Kish 1965): the pairs of
                               one element are found, or not, together */
};

/* KITH_EINVAL (an option out of range), KITH_ENOMEM. h must outlive it. */
int kith_hnsw_pairs_open(struct kith_hnsw_pairs **out, struct kith_hnsw *h,
                         const struct kith_hnsw_pairs_options *options);
void kith_hnsw_pairs_close(struct kith_hnsw_pairs *pairs); /* NULL is safe */
/* Goes on for about half a millisecond [any thread, one at a time]. 1: there is more to do, 0: done,
 * KITH_ENOMEM: given up. */
int kith_hnsw_pairs_step(struct kith_hnsw_pairs *pairs);
/* After the last step. The pairs live as long as `pairs`. */
struct kith_hnsw_pairs_result kith_hnsw_pairs_get(const struct kith_hnsw_pairs *pairs);

#endif
