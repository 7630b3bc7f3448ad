/* Diverse results by maximal marginal relevance (Carbonell & Goldstein, "The Use of MMR, Diversity-Based Reranking
 * for Reordering Documents and Producing Summaries", 1998): one after the other, the candidate is taken whose
 *
 *     lambda * distance to the query - (1 - lambda) * distance to the nearest one taken before
 *
 * is least. With similarities in the place of distances that is their formula: each of our distances falls as its
 * similarity grows, and by the same measure for both. The distances to what was taken are kept as minima, so that a
 * choice of k among n costs k * n distances. */
#include "vec/search.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* The candidates that are left, in the order of their distance to the query. */
struct field {
    uint32_t count;
    struct kith_hnsw_hit *hits;
    uint32_t *slots;
    float *nearest; /* distance to the nearest one taken */
    float *fresh;   /* to the one taken last */
};

static uint32_t choose(const struct field *field, float lambda)
{
    uint32_t best = 0;
    float best_cost = FLT_MAX;
    for (uint32_t i = 0; i < field->count; i++) {
        float cost = lambda * field->hits[i].distance - (1 - lambda) * field->nearest[i];
        if (cost < best_cost) {
            best_cost = cost;
            best = i;
        }
    }
    return best;
}

/* The rest keeps its order, which decides between equals. */
static void take_out(struct field *field, uint32_t at)
{
    uint32_t behind = --field->count - at;
    memmove(field->hits + at, field->hits + at + 1, behind * sizeof *field->hits);
    memmove(field->slots + at, field->slots + at + 1, behind * sizeof *field->slots);
    memmove(field->nearest + at, field->nearest + at + 1, behind * sizeof *field->nearest);
}

static void compare_rest(struct search *search, struct field *field, uint32_t taken)
{
    struct kith_hnsw *h = search->h;
    hnsw_distances(h, hnsw_target(h, taken), field->slots, field->count, field->fresh);
    search->scratch->profile.mmr_evaluations += field->count;
    for (uint32_t i = 0; i < field->count; i++)
        field->nearest[i] = field->fresh[i] < field->nearest[i] ? field->fresh[i] : field->nearest[i];
}

int hnsw_search_diversify(struct search *search, struct kith_hnsw_hit *candidates, uint32_t count,
                          struct kith_hnsw_hit *hits, uint32_t k)
{
    float lambda = search->query->mmr_lambda;
    struct field field = {.count = count, .hits = candidates};
    field.slots = malloc((count + (size_t)1) * sizeof *field.slots);
    field.nearest = malloc((2 * (size_t)count + 1) * sizeof *field.nearest);
    if (!field.slots || !field.nearest) {
        free(field.slots);
        free(field.nearest);
        return KITH_ENOMEM;
    }
    field.fresh = field.nearest + count;
    for (uint32_t i = 0; i < count; i++) {
        field.slots[i] = candidates[i].slot;
        field.nearest[i] = FLT_MAX;
    }
    uint32_t taken = 0;
    while (taken < k && field.count > 0) {
        uint32_t at = taken ? choose(&field, lambda) : 0;
        hits[taken] = field.hits[at];
        take_out(&field, at);
        if (++taken < k && lambda < 1)
            compare_rest(search, &field, hits[taken - 1].slot);
    }
    free(field.slots);
    free(field.nearest);
    return (int)taken;
}
