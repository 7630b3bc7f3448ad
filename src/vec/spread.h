/* The SPREAD layout: beside its links an element keeps small codes of those it links to, in one row, so that a walk
 * estimates the distances of all of them from one place, and goes only to those that seem near (as SymphonyQG does: Gou,
 * Gao, Xu & Long, "SymphonyQG: Towards Symphonious Integration of Quantization and Graph for Approximate Nearest
 * Neighbor Search", 2025).
 *
 * A code is of w = x - c, the way from the element c to its neighbour x, rotated, with 2 bits a dimension, or 1 where
 * there are many. For a query q whose distance to c is known, the code estimates <q, w> without bias (RaBitQ: Gao &
 * Long, 2024), with an error that shrinks with both |w| and |q - c|. With y the code as a vector, and r = |w|^2 / <y, w>:
 *
 *     <q - c, w>  ~  r * (<y, q> - <y, c>)
 *     COSINE, INNER_PRODUCT   d(q, x) = d(q, c) - <c, w> - <q - c, w>
 *     L2SQ                    d(q, x) = d(q, c) + |w|^2 - 2 <q - c, w>
 *
 * so that either metric is d(q, c) + a + b * <y, q>, with two numbers a and b that belong to the link.
 *
 * A row is a block (kernels_spread.h) for each 32 links; its lane i belongs to link i. Rows are written where links are
 * written, under the element's lock, as relaxed atomics, and read without: a reader may meet the lane of one neighbour
 * beside the link to another. That costs a wrong estimate, so at most a place in a pool; whatever becomes a result has
 * been compared by its own code. Lanes without a link have an a of infinity. */
#ifndef KITH_VEC_SPREAD_H
#define KITH_VEC_SPREAD_H

#include "vec/search.h"

/* [with h->options.layout known to be SPREAD] */

/* Sizes and the rotation; codes' side of h is there. KITH_ENOMEM. */
int hnsw_spread_init(struct kith_hnsw *h);
void hnsw_spread_fini(struct kith_hnsw *h);
/* A scratch's part. */
size_t hnsw_spread_scratch_bytes(const struct kith_hnsw *h);
int hnsw_spread_scratch_open(const struct kith_hnsw *h, struct scratch *s);

/* Writes link i's lane in the row of `slot`. Under its lock; hnsw_spread_begin comes before, and stands for as long
 * as the lock is held. */
void hnsw_spread_begin(const struct kith_hnsw *h, struct scratch *s, uint32_t slot);
void hnsw_spread_write(struct kith_hnsw *h, struct scratch *s, uint32_t slot, uint32_t i, uint32_t link);
/* The link is gone. */
void hnsw_spread_clear(struct kith_hnsw *h, uint32_t slot, uint32_t i);
/* No link is there yet. */
void hnsw_spread_reset(struct kith_hnsw *h, uint32_t slot);

/* [writer] All rows are to be written anew, by steps of work; until then searches do without. */
void hnsw_spread_rebuild(struct kith_hnsw *h);
/* 1 when done, 0 when there is nothing to do. */
int hnsw_spread_step(struct kith_hnsw *h, struct scratch *s);
bool hnsw_spread_is_ready(const struct kith_hnsw *h);

/* Whether the rows' lanes are those of their links, when nobody writes. KITH_ENOMEM, KITH_ECORRUPT. */
int hnsw_spread_check(const struct kith_hnsw *h, struct kith_error *error);

/* The walk over level 0 from what the pool holds; leaves what it expanded in found, by their codes' distances. The
 * target is the search's. */
void hnsw_spread_walk(struct search *search);
/* Node by node: the query as rows see it, in the scratch; and what the row of a node, at that distance, says of its
 * unseen neighbours goes to the pool. */
void hnsw_spread_prepare(struct search *search, struct spread_query *query);
void hnsw_spread_expand(struct search *search, const struct spread_query *query, uint32_t slot,
                        float distance);

#endif
