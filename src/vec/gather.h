/* The unseen among a row of links: the inner step of every walk, with the wide registers where there are some. */
#ifndef KITH_VEC_GATHER_H
#define KITH_VEC_GATHER_H

#include "vec/kernels.h"
#include "vec/links.h"

/* Appends to out those slots of links[0..count) that are below `end` and not marked in the map, and marks them;
 * returns how many. A link that is being changed counts as none.
 *   visited   a bit a slot, for all below end
 *   out       has room for links.room and GATHER_SPARE more */
typedef uint32_t hnsw_gather(struct links links, uint64_t *visited, uint32_t end, uint32_t *out);

#define GATHER_SPARE 16

/* The best form for kernels of that level. */
hnsw_gather *hnsw_gather_pick(enum kith_kernel_level level);
hnsw_gather hnsw_gather_scalar;

#endif
