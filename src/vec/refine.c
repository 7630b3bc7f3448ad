/* Ranking what a walk found once more, by what is kept beside the codes. Only those are worth it that can still be
 * among the k nearest: the first few tell how far the two kinds of distance differ, and that tells when to stop. */
#include "vec/search.h"

#include <math.h>
#include <string.h>

/* FIRST: beyond k, refined in any case, for the differences to mean something. DEVIATIONS: what is left out would have
 * to differ from the mean by more than that many standard deviations. */
enum { FIRST = 6, AHEAD = 8, DEVIATIONS = 3 };

struct differences {
    float count, sum, squares;
};

/* How much nearer than by its code an element may well be. */
static float margin(const struct differences *d)
{
    float mean = d->sum / d->count, variance = d->squares / d->count - mean * mean;
    return DEVIATIONS * sqrtf(variance > 0 ? variance : 0) - mean;
}

/* Puts an item among items[0..count), sorted, in which there is room for it. */
static void insert(struct candidate *items, uint32_t count, struct candidate item)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        bool before = items[middle].distance < item.distance ||
                      (items[middle].distance == item.distance && items[middle].slot < item.slot);
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(items + low + 1, items + low, (count - low) * sizeof *items);
    items[low] = item;
}

void hnsw_refine(struct search *search, struct pool *pool)
{
    struct kith_hnsw *h = search->h;
    struct candidate *items = pool->items;
    struct differences d = {0};
    uint32_t kept = 0, first = search->k + FIRST;
    for (uint32_t i = 0; i < AHEAD && i < pool->count; i++)
        hnsw_prefetch_kept(h, items[i].slot);
    for (uint32_t i = 0; i < pool->count; i++) {
        struct candidate item = items[i];
        if (i >= first && kept >= search->k && item.distance - margin(&d) >= items[search->k - 1].distance)
            break;
        if (i + AHEAD < pool->count)
            hnsw_prefetch_kept(h, items[i + AHEAD].slot);
        if (!state_is_live(state_at(h, item.slot)))
            continue;
        float coarse = item.distance;
        hnsw_fine_distances(h, search->target, &item.slot, 1, &item.distance);
        float difference = item.distance - coarse;
        d.count++;
        d.sum += difference;
        d.squares += difference * difference;
        insert(items, kept++, item);
        search->scratch->profile.refined++;
    }
    pool->count = kept;
}
