/* How the cost of a search grows with the set: one index that grows, measured at each size on the way. At each size and
 * effort: distances computed a query (those above level 0 apart), nodes expanded, CPU microseconds (best of the rounds),
 * and recall@10 against an exact scan. At the end the same at equal recall, on the straight line between two EFs, and
 * each beside its value at the first size, as log n would have it.
 *
 *     bench/growth FOLDER SET [sizes=10000,100000,1000000] [efforts=10,64,400] [queries=300] [rounds=3] [metric=cosine|l2]
 *         [codes=i8|f32] [layout=compact|spread] [m=16] [efc=200] [file=PATH] [peer=hnswlib]
 *
 * efforts: EF, or, below 1, a recall: those searches go by the index's own calibration (not the peer's).
 * file: each size's index is read from PATH.ROWS, or else built and written there.
 * The queries are the set's own, the same at every size; the set's first n rows are the set of n. */
#include "data.h"
#include "peer.h"

#include "base/os.h"
#include "vec/calibrate.h"
#include "vec/hnsw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, SKIPPED = 77, SIZES_MAX = 16, EFS_MAX = 16 };

struct cost {
    double recall, evaluations, estimates, above, hops, us;
};

struct growth {
    struct matrix base, queries;
    enum bench_metric metric;
    float *bounds;
    struct kith_hnsw_options options;
    struct kith_hnsw *h;
    const struct peer *peer; /* NULL: Kith */
    void *index;
    const char *path;                          /* of saved indexes, or NULL */
    double sizes[SIZES_MAX], efforts[EFS_MAX]; /* below 1: a recall */
    uint32_t size_count, effort_count, rounds;
    bool by_recall;
    struct cost costs[SIZES_MAX][EFS_MAX];
};

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

static void add(struct growth *g, uint32_t row)
{
    uint32_t slot;
    if (g->peer) {
        g->peer->add(g->index, row, matrix_row(&g->base, row));
        return;
    }
    if (kith_hnsw_add(g->h, matrix_row(&g->base, row), 0, row, &slot) != KITH_OK) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    kith_hnsw_work(g->h, 1, 0);
}

/* An effort below 1 is a recall: the index finds out how far to go. */
static uint32_t search(struct growth *g, uint32_t q, double effort, uint32_t *rows, struct cost *cost)
{
    struct kith_hnsw_hit hits[K];
    struct kith_hnsw_profile profile;
    struct kith_hnsw_query query = {.vector = matrix_row(&g->queries, q), .k = K};
    if (effort < 1)
        query.recall = (float)effort;
    else
        query.ef = (uint32_t)effort;
    if (g->peer) {
        uint64_t before = g->peer->evaluations(g->index);
        uint32_t count = g->peer->search(g->index, query.vector, query.ef, K, rows);
        cost->evaluations += (double)(g->peer->evaluations(g->index) - before);
        return count;
    }
    int count = kith_hnsw_search(g->h, &query, hits, &profile);
    for (int i = 0; i < count; i++)
        rows[i] = (uint32_t)kith_hnsw_user(g->h, hits[i].slot);
    cost->evaluations += profile.evaluations;
    cost->estimates += profile.estimates;
    cost->above += profile.descend_evaluations;
    cost->hops += profile.hops - profile.descend_hops;
    return count > 0 ? (uint32_t)count : 0;
}

static uint32_t count_right(const struct growth *g, uint32_t q, const uint32_t *rows, uint32_t count)
{
    float bound = g->bounds[q] + bench_slack(g->metric, g->bounds[q]);
    uint32_t right = 0;
    for (uint32_t i = 0; i < count; i++)
        right += bench_distance(g->metric, matrix_row(&g->queries, q), matrix_row(&g->base, rows[i]),
                                g->base.dim) <= bound;
    return right;
}

static struct cost measure(struct growth *g, double effort)
{
    struct cost best = {.us = INFINITY};
    uint32_t(*rows)[K] = malloc(g->queries.rows * sizeof *rows);
    uint32_t *counts = malloc(g->queries.rows * sizeof *counts);
    for (uint32_t round = 0; rows && counts && round < g->rounds; round++) {
        struct cost cost = {0};
        double start = cpu_seconds();
        for (uint32_t q = 0; q < g->queries.rows; q++)
            counts[q] = search(g, q, effort, rows[q], &cost);
        cost.us = (cpu_seconds() - start) * 1e6;
        for (uint32_t q = 0; q < g->queries.rows; q++)
            cost.recall += (double)count_right(g, q, rows[q], counts[q]) / K;
        if (cost.us < best.us)
            best = cost;
    }
    free(rows);
    free(counts);
    double n = g->queries.rows;
    return (struct cost){best.recall / n, best.evaluations / n, best.estimates / n,
                         best.above / n,  best.hops / n,        best.us / n};
}

/* What was calibrated at one size is kept up to date at the next. */
static void calibrate(struct growth *g)
{
    int rc = kith_hnsw_calibrate_begin(g->h);
    while (rc >= 0 && kith_hnsw_calibrate_due(g->h))
        rc = kith_hnsw_calibrate(g->h, UINT32_MAX, NULL);
}

static void measure_size(struct growth *g, uint32_t at, double build_s)
{
    struct matrix base = g->base;
    struct kith_hnsw_stats stats = {0};
    base.rows = (uint32_t)g->sizes[at];
    bench_bounds(g->metric, &base, &g->queries, K, NULL, g->bounds);
    if (!g->peer) {
        kith_hnsw_settle(g->h);
        kith_hnsw_get_stats(g->h, &stats);
    }
    if (g->by_recall)
        calibrate(g);
    printf("%u rows, %.1f CPU s since the last, mean degree %.2f\n", base.rows, build_s, stats.mean_degree);
    for (uint32_t e = 0; e < g->effort_count; e++) {
        struct cost cost = g->costs[at][e] = measure(g, g->efforts[e]);
        printf("  %-6g recall@10 %.4f  %8.1f evaluations (%.1f above level 0)  %7.1f hops  %8.2f us",
               g->efforts[e], cost.recall, cost.evaluations, cost.above, cost.hops, cost.us);
        if (cost.estimates > 0)
            printf("  %.1f estimates", cost.estimates);
        putchar('\n');
    }
    fflush(stdout);
}

/* ---- growth ---- */

static double part(double from, double to, double share)
{
    return exp(log(from) + share * (log(to) - log(from)));
}

/* The evaluations and time at that recall, between two EFs; NAN where none has it. */
static struct cost at_recall(const struct growth *g, uint32_t size, double recall)
{
    const struct cost *costs = g->costs[size];
    for (uint32_t e = 1; e < g->effort_count; e++) {
        if (g->efforts[e] < 1 || costs[e].recall < recall || costs[e - 1].recall >= recall)
            continue;
        double share = (recall - costs[e - 1].recall) / (costs[e].recall - costs[e - 1].recall);
        return (struct cost){.recall = recall,
                             .evaluations = part(costs[e - 1].evaluations, costs[e].evaluations, share),
                             .us = part(costs[e - 1].us, costs[e].us, share)};
    }
    return (struct cost){.recall = recall, .evaluations = NAN, .us = NAN};
}

static void print_growth(const struct growth *g)
{
    printf("beside %.0f rows: log n, then evaluations (us)\n%10s %6s", g->sizes[0], "rows", "log n");
    for (uint32_t e = 0; e < g->effort_count; e++)
        printf("        %-6g ", g->efforts[e]);
    static const double recalls[] = {0.90, 0.95};
    printf("  at recall 0.90  at recall 0.95\n");
    for (uint32_t s = 0; s < g->size_count; s++) {
        printf("%10.0f %6.3f", g->sizes[s], log(g->sizes[s]) / log(g->sizes[0]));
        for (uint32_t e = 0; e < g->effort_count; e++)
            printf("  %5.3f (%5.3f)", g->costs[s][e].evaluations / g->costs[0][e].evaluations,
                   g->costs[s][e].us / g->costs[0][e].us);
        for (int r = 0; r < 2; r++) {
            struct cost cost = at_recall(g, s, recalls[r]);
            printf("  %6.0f (%6.1f)", cost.evaluations, cost.us);
        }
        putchar('\n');
    }
}

/* ---- options ---- */

static uint32_t numbers(const char *value, double *out, uint32_t max)
{
    uint32_t count = 0;
    for (char *end; count < max && *value; value = *end ? end + 1 : end)
        out[count++] = strtod(value, &end);
    return count;
}

static void take_option(struct growth *g, const char *arg, uint32_t *queries)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
#define IS(name) (length == strlen(name) && !strncmp(arg, name, length))
    if (IS("sizes"))
        g->size_count = numbers(value, g->sizes, SIZES_MAX);
    else if (IS("efforts")) {
        g->effort_count = numbers(value, g->efforts, EFS_MAX);
        for (uint32_t e = 0; e < g->effort_count; e++)
            g->by_recall |= g->efforts[e] < 1;
    } else if (IS("queries"))
        *queries = (uint32_t)atol(value);
    else if (IS("rounds"))
        g->rounds = (uint32_t)atol(value);
    else if (IS("metric"))
        g->metric = !strcmp(value, "l2") ? BENCH_L2 : BENCH_COSINE;
    else if (IS("codes"))
        g->options.codes = !strcmp(value, "f32") ? KITH_HNSW_F32 : KITH_HNSW_I8;
    else if (IS("layout"))
        g->options.layout = !strcmp(value, "spread") ? KITH_HNSW_SPREAD : KITH_HNSW_COMPACT;
    else if (IS("m"))
        g->options.m = (uint32_t)atol(value);
    else if (IS("efc"))
        g->options.ef_construction = (uint32_t)atol(value);
    else if (IS("file"))
        g->path = value;
    else if (IS("peer"))
        g->peer = peer_hnswlib();
    else
        fprintf(stderr, "unknown option %s\n", arg);
#undef IS
}

static bool open_index(struct growth *g)
{
    g->options.dim = g->base.dim;
    g->options.metric = g->metric == BENCH_L2 ? KITH_HNSW_L2SQ : KITH_HNSW_COSINE;
    if (!g->peer)
        return kith_hnsw_open(&g->h, &g->options) == KITH_OK;
    struct peer_options options = {
        g->base.dim, g->base.rows, g->options.m, g->options.ef_construction, g->metric == BENCH_L2, true};
    return (g->index = g->peer->open(&options)) != NULL;
}

static bool load_vectors(struct growth *g, const char *folder, const char *set, uint32_t queries)
{
    if (!matrix_load(&g->base, folder, set, "base", (uint32_t)g->sizes[g->size_count - 1]) ||
        !matrix_load(&g->queries, folder, set, "query", queries))
        return false;
    while (g->size_count > 1 && g->sizes[g->size_count - 2] >= g->base.rows)
        g->size_count--;
    g->sizes[g->size_count - 1] = g->base.rows;
    if (g->metric == BENCH_COSINE) {
        matrix_normalise(&g->base);
        matrix_normalise(&g->queries);
    }
    g->bounds = malloc(g->queries.rows * sizeof *g->bounds);
    return g->bounds;
}

static bool load_index(struct growth *g, uint32_t rows)
{
    char path[1024];
    snprintf(path, sizeof path, "%s.%u", g->path ? g->path : "", rows);
    return g->path && !g->peer && bench_index_load(&g->h, path, &g->options);
}

static void store_index(const struct growth *g, uint32_t rows)
{
    char path[1024];
    snprintf(path, sizeof path, "%s.%u", g->path ? g->path : "", rows);
    if (g->path && !g->peer && !bench_index_store(g->h, path))
        fprintf(stderr, "could not write %s\n", path);
}

int main(int argc, char **argv)
{
    static struct growth g = {
        .sizes = {10000, 100000, 1000000},
        .size_count = 3,
        .efforts = {10, 64, 400},
        .effort_count = 3,
        .rounds = 3,
        .options = {.codes = KITH_HNSW_I8, .m = 16, .ef_construction = 200, .seed = 42}};
    uint32_t queries = 300;
    if (argc < 3) {
        fprintf(stderr, "usage: %s FOLDER SET [key=value ...]\n", argv[0]);
        return SKIPPED;
    }
    for (int i = 3; i < argc; i++)
        take_option(&g, argv[i], &queries);
    if (g.peer && g.by_recall) {
        fprintf(stderr, "a recall is no effort for %s\n", g.peer->name);
        return SKIPPED;
    }
    if (!g.size_count || !load_vectors(&g, argv[1], argv[2], queries)) {
        fprintf(stderr, "no data: %s/%s.*\n", argv[1], argv[2]);
        return SKIPPED;
    }
    if (!open_index(&g))
        return 1;
    for (uint32_t at = 0, row = 0; at < g.size_count; at++) {
        double cpu = cpu_seconds();
        uint32_t size = (uint32_t)g.sizes[at];
        bool loaded = load_index(&g, size);
        if (loaded)
            row = size;
        for (; row < size; row++)
            add(&g, row);
        measure_size(&g, at, cpu_seconds() - cpu);
        if (!loaded)
            store_index(&g, size);
    }
    print_growth(&g);
    if (g.peer)
        g.peer->close(g.index);
    kith_hnsw_close(g.h);
    matrix_fini(&g.base);
    matrix_fini(&g.queries);
    free(g.bounds);
    return 0;
}
