/* One join's state, shared by the files that carry it out: pairs.c (what to look at, what to keep) and
 * partners.c (the partners of one element). */
#ifndef KITH_VEC_PAIRS_INTERNAL_H
#define KITH_VEC_PAIRS_INTERNAL_H

#include "vec/index.h"
#include "vec/pairs.h"

/* What a look at an element costs whatever its length, in bytes of codes. */
enum { PAIRS_LOOK_BYTES = 256 };

enum pairs_phase {
    PAIRS_CALIBRATE, /* how far codes are from what is kept beside them */
    PAIRS_ESTIMATE,  /* top: the nearest links bound what is looked for */
    PAIRS_LIST,      /* of elements that scans go over */
    PAIRS_JOIN,      /* one owner after the other */
    PAIRS_SAMPLE,    /* random owners, by a scan and from the graph */
    PAIRS_DONE,
};

/* The partners of one owner, as far as they were looked for. */
struct partners {
    uint32_t owner, generation;
    bool active;       /* begun, not at the end */
    bool scan;         /* over the list, else from the graph */
    uint32_t after;    /* only slots from here on are wanted, */
    uint32_t near_end; /* below here, */
    uint32_t most;     /* and of these the first so many */
    uint64_t *seen;    /* a bit a slot */
    uint32_t seen_words;
    uint32_t *touched; /* what is marked in `seen` */
    uint32_t touched_count, touched_room;
    uint32_t *queue; /* within reach, their links not read yet */
    uint32_t queue_count, queue_room;
    uint32_t scan_next;     /* in the list */
    struct candidate *near; /* what was found; not with top */
    uint32_t near_count, near_room;
};

struct kith_hnsw_pairs {
    struct kith_hnsw *h;
    struct kith_hnsw_pairs_options options;
    enum pairs_phase phase;
    struct scratch *scratch; /* of this step */
    struct target target;    /* of the owner, in this step */
    struct target fine;      /* the same from the finest that is kept, */
    bool fine_ready;         /* when it was asked for */
    float self;              /* how far that is from itself; what is as near is equal */
    int64_t left, page_left; /* bytes that this step, this page may still read */
    uint32_t next;           /* slot, or place in the list */
    bool scan;

    float bound;     /* what is farther is not wanted; with top it falls */
    float tolerance; /* for rounding, of this owner */
    /* Of a sample of links: distances, and what codes make of them (code - fine). */
    double distance_sum, distance_squares, error_sum, error_squares;
    uint32_t link_count, calibrated;
    float code_margin, link_distance, link_spread;

    uint32_t *list; /* ascending */
    uint32_t list_count, list_room;
    struct partners partners;
    struct kith_hnsw_pair *pairs; /* with top a heap, the farthest first */
    uint32_t count, room;
    uint64_t cursor;

    struct kith_rng rng;
    uint32_t sample_left;
    struct candidate *truth; /* what the scan found for the owner */
    uint32_t truth_count, truth_room;
    enum { SAMPLE_NEXT, SAMPLE_SCAN, SAMPLE_WALK } sample_stage;
    uint64_t evaluations, hops, sampled, near, found;
    double near_squares;
};

/* ---- partners.c ---- */

/* Whether b is looked for from a. For inner products from the shorter one: links lead to the long ones. */
static inline bool pairs_owns(const struct kith_hnsw *h, uint32_t a, uint32_t b)
{
    if (h->options.metric != KITH_HNSW_INNER_PRODUCT)
        return b < a;
    float norm_a = kith_hnsw_norm(h, a), norm_b = kith_hnsw_norm(h, b);
    return norm_a < norm_b || (norm_a == norm_b && b < a);
}

/* Live, and the filter passes it. */
bool pairs_passes(const struct kith_hnsw_pairs *p, uint32_t slot);
/* What a code may say of a pair that is as far as `bound`. */
float pairs_code_bound(const struct kith_hnsw_pairs *p, float bound);
/* p->target and all else that belongs to an owner. */
void pairs_set_owner(struct kith_hnsw_pairs *p, uint32_t owner);
/* By the finest that is kept of the owner and of them. */
void pairs_fine_distances(struct kith_hnsw_pairs *p, uint32_t owner, const uint32_t *slots, uint32_t count,
                          float *out);
/* Begins with an owner that is live; only partners in slots from `after` on, the first `most` of them by slot.
 * KITH_ENOMEM. */
int pairs_partners_begin(struct kith_hnsw_pairs *p, uint32_t owner, bool scan, uint32_t after, uint32_t most);
/* Goes on until p->left is used up. 0: complete, partners.near by slot; 1: there is more to do; KITH_ENOMEM. */
int pairs_partners_step(struct kith_hnsw_pairs *p);
void pairs_partners_fini(struct partners *partners);

/* ---- pairs.c ---- */

/* With top: the pair joins the nearest, if it is one of them. KITH_ENOMEM. */
int pairs_offer(struct kith_hnsw_pairs *p, uint32_t a, uint32_t b, float distance);
/* The items with room for `count` of them, at least one; NULL: no memory, and they are where they were. */
void *pairs_grow(void *items, size_t item_bytes, uint32_t *room, uint32_t count);

#endif
