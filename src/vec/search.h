/* One search's state, shared by the files that carry it out. */
#ifndef KITH_VEC_SEARCH_H
#define KITH_VEC_SEARCH_H

#include "base/os.h"
#include "vec/index.h"

struct search {
    struct kith_hnsw *h;
    const struct kith_hnsw_query *query;
    struct scratch *scratch;
    struct target target;
    uint64_t n;           /* live elements when it began */
    uint64_t filter_left; /* calls of the filter that are still allowed */
    bool bounded;         /* filter_left is the caller's: no more than that, whatever is found */
    bool filter_spent;
    uint32_t k, ef;
    uint32_t width; /* nodes in view on the way down; 0 and 1: one (hnsw_descend_wide) */
    float gate; /* by the query's recall: with a k-th best farther than that, once more with the wide view */
    struct stop stop;  /* by the query's recall */
    uint32_t start;    /* where the walk began, when the tail has it too; else KITH_HNSW_NONE */
    uint64_t clock_ns; /* when the phase that runs began; only when the query is timed */
};

/* A phase is over: its time goes to *phase_ns. */
static inline void hnsw_search_lap(struct search *search, uint64_t *phase_ns)
{
    if (!search->query->timed)
        return;
    uint64_t now_ns = kith_os_monotonic_ns();
    *phase_ns += now_ns - search->clock_ns;
    search->clock_ns = now_ns;
}

/* Whether the slot is live and the filter, if any, passes it. */
bool hnsw_passes(struct search *search, uint32_t slot);
/* Looks through the tail, and puts the nearest nodes on the way down into the pool. KITH_ENOMEM. */
int hnsw_search_seed(struct search *search);
/* After the walk: what the tail had joins the results. */
void hnsw_search_add_tail(struct search *search, struct pool *result);
/* Ranks the pool's nearest by what is kept beside the codes; the others are dropped. */
void hnsw_refine(struct search *search, struct pool *pool);
/* Whether the walk by recall may have ended in the wrong place: *search is set for another, with the wide view. */
bool hnsw_search_is_lost(struct search *search, const struct pool *result);
/* Each way leaves what it found, nearest first, in *result. KITH_ENOMEM. */
int hnsw_search_scan(struct search *search, struct pool **result);
int hnsw_search_filtered(struct search *search, struct pool **result);
/* The pool that ef asks for. */
uint32_t hnsw_search_effort(const struct kith_hnsw *h, uint32_t ef);

/* Fills hits[0..k) from candidates[0..count), which it uses up, by maximal marginal relevance; returns how many.
 * KITH_ENOMEM. */
int hnsw_search_diversify(struct search *search, struct kith_hnsw_hit *candidates, uint32_t count,
                          struct kith_hnsw_hit *hits, uint32_t k);

#endif
