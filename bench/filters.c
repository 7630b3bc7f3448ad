/* Searches with a filter, at four selectivities and three ways in which a filter may go with the query:
 *
 *     random    passing elements are anywhere
 *     near      they are the nearest to a pivot, and the queries are near that pivot
 *     far       they are the farthest from it
 *
 * Each element has attributes as a server keeps them, and the filter is an expression over these, so that what
 * reading them costs is in the figures. Prints what the search chose by itself, then each way as the only one.
 *
 *     bench/filters FOLDER SET [key=value ...]        files as bench/vectors reads them
 *     keys   groups=12 (pivots) queries=16 (each pivot's) rows=0 (all) ef=0 (the default) filter=0|1|2 (how
 * much the expression reads) codes=2 (an enum kith_hnsw_codes) ways=4 (1: only what is chosen) file=PATH (a built index, kept)
 */
#include "data.h"

#include "base/os.h"
#include "engine/attributes.h"
#include "engine/filter.h"
#include "vec/hnsw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { K = 10, ROUNDS = 2, SKIPPED = 77, SELECTIVITIES = 4, CELLS = 3 * SELECTIVITIES, WAYS = 4 };

static const double selectivities[SELECTIVITIES] = {0.5, 0.1, 0.01, 0.001};
static const char *const correlations[] = {"random", "near", "far"};
static const char *const way_names[WAYS] = {"chosen", "graph", "two-hop", "scan"};

struct figures {
    double recall, seconds, evaluations, calls, short_answers;
    unsigned strategies[3]; /* by enum of the profile */
};

struct bench {
    struct matrix base, queries;
    struct kith_hnsw *h;
    struct kith_hnsw_options options;
    const char *path;
    uint32_t groups, group_size, ef, expression, codes, ways;
    float *distances; /* group_size * base.rows */
    float *rank;      /* of each row: its place by distance from the pivot, in [0, 1) */
    float *chance;    /* of each row, in [0, 1) */
    struct kith_attributes **attributes;
    uint32_t *slot_of_row, *row_of_slot;
    struct figures figures[CELLS][WAYS];
    uint32_t queries_done;
};

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *must(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

/* ---- the index ---- */

static void map_rows(struct bench *b)
{
    uint32_t end = kith_hnsw_slot_end(b->h);
    b->slot_of_row = must(malloc(b->base.rows * sizeof *b->slot_of_row));
    b->row_of_slot = must(malloc(end * sizeof *b->row_of_slot));
    for (uint32_t slot = 0; slot < end; slot++) {
        uint64_t row = kith_hnsw_is_live(b->h, slot) ? kith_hnsw_user(b->h, slot) : b->base.rows;
        if (row >= b->base.rows)
            continue;
        b->row_of_slot[slot] = (uint32_t)row;
        b->slot_of_row[row] = slot;
    }
}

static void build(struct bench *b)
{
    if (b->path && bench_index_load(&b->h, b->path, &b->options)) {
        map_rows(b);
        return;
    }
    for (uint32_t row = 0; row < b->base.rows; row++) {
        uint32_t slot;
        if (kith_hnsw_add(b->h, matrix_row(&b->base, row), 0, row, &slot) != KITH_OK) {
            fprintf(stderr, "could not add row %u\n", row);
            exit(1);
        }
        kith_hnsw_work(b->h, 2, 0);
    }
    kith_hnsw_settle(b->h);
    map_rows(b);
    if (b->path && !bench_index_store(b->h, b->path))
        fprintf(stderr, "could not write %s\n", b->path);
}

/* ---- attributes ---- */

struct ranked {
    float distance;
    uint32_t row;
};

static int by_distance(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

static void rank_rows(struct bench *b, uint32_t pivot)
{
    struct ranked *order = must(malloc(b->base.rows * sizeof *order));
    for (uint32_t row = 0; row < b->base.rows; row++)
        order[row] = (struct ranked){
            bench_distance(BENCH_COSINE, matrix_row(&b->base, pivot), matrix_row(&b->base, row), b->base.dim),
            row};
    qsort(order, b->base.rows, sizeof *order, by_distance);
    for (uint32_t i = 0; i < b->base.rows; i++)
        b->rank[order[i].row] = (float)i / (float)b->base.rows;
    free(order);
}

static void set_attributes(struct bench *b)
{
    for (uint32_t row = 0; row < b->base.rows; row++)
        kith_attributes_close(b->attributes[row]);
    for (uint32_t row = 0; row < b->base.rows; row++) {
        char text[160];
        int length =
            snprintf(text, sizeof text,
                     "{\"title\":\"element %u\",\"rank\":%.6f,\"chance\":%.6f,\"kind\":\"%s\",\"year\":%u}",
                     row, (double)b->rank[row], (double)b->chance[row], "book", 1950 + row % 75);
        b->attributes[row] = must(kith_attributes_open(kith_slice(text, (size_t)length)));
        kith_hnsw_set_user(b->h, b->slot_of_row[row], (uint64_t)(uintptr_t)b->attributes[row]);
    }
}

static struct kith_filter *open_filter(const struct bench *b, unsigned cell)
{
    double share = selectivities[cell % SELECTIVITIES];
    char text[160];
    struct kith_error error;
    struct kith_filter *filter = NULL;
    const char *more[] = {"", " and .kind == \"book\"",
                          " and .kind in [\"film\", \"book\"] and .year >= 1900 and not (.year > 2 ** 11)"};
    if (cell / SELECTIVITIES == 0)
        snprintf(text, sizeof text, ".chance < %.6f%s", share, more[b->expression]);
    else if (cell / SELECTIVITIES == 1)
        snprintf(text, sizeof text, ".rank < %.6f%s", share, more[b->expression]);
    else
        snprintf(text, sizeof text, ".rank >= %.6f%s", 1 - share, more[b->expression]);
    if (kith_filter_open(&filter, kith_slice(text, strlen(text)), &error) != KITH_OK) {
        fprintf(stderr, "%s: %s\n", text, error.text);
        exit(1);
    }
    return filter;
}

static bool match(void *context, uint32_t slot, uint64_t user)
{
    (void)slot;
    return kith_filter_match(context, (const struct kith_attributes *)(uintptr_t)user);
}

/* ---- one group of queries, near one pivot ---- */

static void choose_queries(struct bench *b, uint32_t pivot, uint32_t *chosen)
{
    struct ranked *order = must(malloc(b->queries.rows * sizeof *order));
    for (uint32_t q = 0; q < b->queries.rows; q++)
        order[q] = (struct ranked){bench_distance(BENCH_COSINE, matrix_row(&b->base, pivot),
                                                  matrix_row(&b->queries, q), b->base.dim),
                                   q};
    qsort(order, b->queries.rows, sizeof *order, by_distance);
    for (uint32_t i = 0; i < b->group_size; i++) {
        chosen[i] = order[i].row;
        for (uint32_t row = 0; row < b->base.rows; row++)
            b->distances[(size_t)i * b->base.rows + row] = bench_distance(
                BENCH_COSINE, matrix_row(&b->queries, order[i].row), matrix_row(&b->base, row), b->base.dim);
    }
    free(order);
}

/* The K-th smallest distance of the passing rows; how many there are, at most K, in *count. */
static float bound_of(const float *distances, const bool *passing, uint32_t rows, uint32_t *count)
{
    float best[K];
    *count = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (!passing[row] || (*count == K && distances[row] >= best[K - 1]))
            continue;
        uint32_t at = *count < K ? (*count)++ : K - 1;
        for (; at > 0 && best[at - 1] > distances[row]; at--)
            best[at] = best[at - 1];
        best[at] = distances[row];
    }
    return *count ? best[*count - 1] : 0;
}

static void measure(struct bench *b, const uint32_t *chosen, const float *bounds, const uint32_t *counts,
                    const struct kith_filter *filter, enum kith_hnsw_way way, struct figures *f)
{
    double best = 1e9;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct kith_hnsw_hit hits[64][K];
        struct kith_hnsw_profile profiles[64];
        int found[64];
        double start = cpu_seconds();
        for (uint32_t i = 0; i < b->group_size; i++) {
            struct kith_hnsw_query query = {.vector = matrix_row(&b->queries, chosen[i]),
                                            .k = K,
                                            .ef = b->ef,
                                            .filter = match,
                                            .filter_context = (void *)(uintptr_t)filter,
                                            .way = way};
            found[i] = kith_hnsw_search(b->h, &query, hits[i], &profiles[i]);
        }
        double time = cpu_seconds() - start;
        best = time < best ? time : best;
        for (uint32_t i = 0; round == 0 && i < b->group_size; i++) {
            uint32_t right = 0;
            for (int k = 0; k < found[i]; k++) {
                uint32_t row = b->row_of_slot[hits[i][k].slot];
                right += b->distances[(size_t)i * b->base.rows + row] <=
                         bounds[i] + bench_slack(BENCH_COSINE, bounds[i]);
            }
            f->recall += counts[i] ? (double)right / counts[i] : 1;
            f->short_answers += (uint32_t)found[i] < counts[i];
            f->evaluations += profiles[i].evaluations;
            f->calls += profiles[i].filter_calls;
            f->strategies[profiles[i].strategy]++;
        }
    }
    f->seconds += best;
}

static void run_cell(struct bench *b, unsigned cell, const uint32_t *chosen)
{
    struct kith_filter *filter = open_filter(b, cell);
    bool *passing = must(malloc(b->base.rows * sizeof *passing));
    float bounds[64];
    uint32_t counts[64];
    for (uint32_t row = 0; row < b->base.rows; row++)
        passing[row] = kith_filter_match(filter, b->attributes[row]);
    for (uint32_t i = 0; i < b->group_size; i++)
        bounds[i] = bound_of(b->distances + (size_t)i * b->base.rows, passing, b->base.rows, &counts[i]);
    for (unsigned way = 0; way < b->ways; way++)
        measure(b, chosen, bounds, counts, filter, (enum kith_hnsw_way)way, &b->figures[cell][way]);
    free(passing);
    kith_filter_close(filter);
}

static void run_group(struct bench *b, uint32_t pivot)
{
    uint32_t chosen[64];
    rank_rows(b, pivot);
    set_attributes(b);
    choose_queries(b, pivot, chosen);
    for (unsigned cell = 0; cell < CELLS; cell++)
        run_cell(b, cell, chosen);
    b->queries_done += b->group_size;
}

/* ---- the table ---- */

/* The cheapest way alone that reaches what was asked of the cell. */
static unsigned best_way(const struct figures *ways, double queries)
{
    unsigned best = 0;
    double wanted = ways[0].recall / queries < 0.95 ? ways[0].recall / queries : 0.95;
    for (unsigned way = 1; way < WAYS; way++)
        if (ways[way].seconds > 0 && ways[way].recall / queries >= wanted && ways[way].short_answers == 0 &&
            (!best || ways[way].seconds < ways[best].seconds))
            best = way;
    return best;
}

static void print_cells(const struct bench *b)
{
    double queries = b->queries_done;
    printf("%-7s %6s  %-8s %8s %9s %9s %9s %6s  %s\n", "filter", "share", "way", "recall", "us", "evals",
           "calls", "short", "graph/scan/two-hop");
    for (unsigned cell = 0; cell < CELLS; cell++) {
        unsigned best = best_way(b->figures[cell], queries);
        for (unsigned way = 0; way < b->ways; way++) {
            const struct figures *f = &b->figures[cell][way];
            printf("%-7s %5.1f%%  %-8s %8.4f %9.1f %9.0f %9.0f %6.0f  %u/%u/%u",
                   correlations[cell / SELECTIVITIES], selectivities[cell % SELECTIVITIES] * 100,
                   way_names[way], f->recall / queries, f->seconds / queries * 1e6, f->evaluations / queries,
                   f->calls / queries, f->short_answers, f->strategies[0], f->strategies[1],
                   f->strategies[2]);
            if (way == 0 && best)
                printf("  %.2f x %s", f->seconds / b->figures[cell][best].seconds, way_names[best]);
            printf("\n");
        }
    }
}

static bool option(struct bench *b, uint32_t *rows, const char *arg)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
    const struct {
        const char *name;
        uint32_t *number, most;
    } numbers[] = {{"groups", &b->groups, 10000}, {"queries", &b->group_size, 64},
                   {"rows", rows, UINT32_MAX},    {"ef", &b->ef, KITH_HNSW_EF_MAX},
                   {"filter", &b->expression, 2}, {"ways", &b->ways, WAYS},
                   {"codes", &b->codes, 6}};
    if (length == 4 && strncmp(arg, "file", 4) == 0) {
        b->path = value;
        return true;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (length != strlen(numbers[i].name) || strncmp(arg, numbers[i].name, length) != 0)
            continue;
        unsigned long number = strtoul(value, NULL, 10);
        *numbers[i].number = number > numbers[i].most ? numbers[i].most : (uint32_t)number;
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct bench *b = must(calloc(1, sizeof *b));
    uint32_t rows = 0;
    b->options = (struct kith_hnsw_options){.metric = KITH_HNSW_COSINE, .seed = 42};
    b->groups = 12;
    b->group_size = 16;
    b->expression = 1;
    b->codes = KITH_HNSW_I8;
    b->ways = WAYS;
    bool good = argc >= 3;
    for (int i = 3; good && i < argc; i++)
        good = option(b, &rows, argv[i]);
    if (!good) {
        fprintf(stderr,
                "usage: %s FOLDER SET [groups=12] [queries=16] [rows=0] [ef=0] [filter=1] [codes=2] [ways=4] "
                "[file=PATH]\n",
                argv[0]);
        return SKIPPED;
    }
    if (!matrix_load(&b->base, argv[1], argv[2], "base", rows) ||
        !matrix_load(&b->queries, argv[1], argv[2], "query", 0)) {
        fprintf(stderr, "no data: %s/%s.*.u8bin.gz\n", argv[1], argv[2]);
        return SKIPPED;
    }
    matrix_normalise(&b->base);
    matrix_normalise(&b->queries);
    b->options.dim = b->base.dim;
    b->options.codes = (enum kith_hnsw_codes)b->codes;
    b->group_size = b->group_size < b->queries.rows ? b->group_size : b->queries.rows;
    if (kith_hnsw_open(&b->h, &b->options) != KITH_OK)
        return 1;
    build(b);
    b->distances = must(malloc((size_t)b->group_size * b->base.rows * sizeof *b->distances));
    b->rank = must(malloc(b->base.rows * sizeof *b->rank));
    b->chance = must(malloc(b->base.rows * sizeof *b->chance));
    b->attributes = must(calloc(b->base.rows, sizeof(struct kith_attributes *)));
    struct kith_rng rng;
    kith_rng_seed(&rng, 7);
    for (uint32_t row = 0; row < b->base.rows; row++)
        b->chance[row] = (float)kith_rng_below(&rng, 1000000) / 1e6f;
    for (uint32_t i = 0; i < b->groups; i++)
        run_group(b, (uint32_t)kith_rng_below(&rng, b->base.rows));
    print_cells(b);
    kith_hnsw_close(b->h);
    for (uint32_t row = 0; row < b->base.rows; row++)
        kith_attributes_close(b->attributes[row]);
    free(b->attributes);
    free(b->slot_of_row);
    free(b->row_of_slot);
    free(b->distances);
    free(b->rank);
    free(b->chance);
    matrix_fini(&b->base);
    matrix_fini(&b->queries);
    free(b);
    return 0;
}
