/* Whether VSIM ... RECALL keeps its word: for r = 0.90, 0.95 and 0.99 the recall measured on a set's own queries, which
 * the index has not seen, and the effort beside that of the best fixed EF (the least that has recall r on these very
 * queries, which nobody can know beforehand).
 *
 *     bench/recall FOLDER SET [key=value ...]
 *     FOLDER   as for bench/vectors
 *     keys     codes=i8|f32|i4|... keep=default|none|... metric=cosine|ip|l2 layout=compact|spread rows=0 (all)
 *              queries=0 (all) k=1,10,100 (one of them; 0: all) file=PATH
 *
 * The first half of the queries stands for those that users send while the set is calibrated, the second half is what
 * is measured: once calibrated from elements alone, and once more after the first half was sent. */
#include "data.h"

#include "base/os.h"
#include "vec/calibrate.h"
#include "vec/hnsw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77, K_MAX = 100, ROUNDS = 5, STEP = 1 << 30, EF_MOST = 4096 };

struct bench {
    struct matrix base, queries;
    enum bench_metric metric;
    struct kith_hnsw_options options;
    struct kith_hnsw *h;
    uint32_t k, first; /* measured: the queries from there on */
    float *bounds;
    const char *path;
};

struct result {
    double recall, evaluations, cpu_us;
    float expected;
    double seeds;
    uint32_t scans;
};

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

static double recall_of(const struct bench *b, uint32_t q, const struct kith_hnsw_hit *hits, int count)
{
    float bound = b->bounds[q] + bench_slack(b->metric, b->bounds[q]);
    uint32_t right = 0;
    for (int i = 0; i < count; i++) {
        const float *row = matrix_row(&b->base, kith_hnsw_user(b->h, hits[i].slot));
        right += bench_distance(b->metric, matrix_row(&b->queries, q), row, b->base.dim) <= bound;
    }
    return (double)(right < b->k ? right : b->k) / b->k;
}

static void search(const struct bench *b, uint32_t q, uint32_t ef, float recall, struct kith_hnsw_hit *hits,
                   int *count, struct kith_hnsw_profile *profile)
{
    struct kith_hnsw_query query = {.vector = matrix_row(&b->queries, q),
                                    .k = b->k,
                                    .ef = ef,
                                    .recall = recall,
                                    .exact = !ef && recall <= 0};
    *count = kith_hnsw_search(b->h, &query, hits, profile);
}

/* Least CPU time of the rounds so far. */
static void time_round(const struct bench *b, uint32_t ef, float recall, struct result *result)
{
    struct kith_hnsw_hit hits[K_MAX];
    struct kith_hnsw_profile profile;
    int count;
    double start = cpu_seconds();
    for (uint32_t q = b->first; q < b->queries.rows; q++)
        search(b, q, ef, recall, hits, &count, &profile);
    double cpu_us = (cpu_seconds() - start) * 1e6 / (b->queries.rows - b->first);
    if (result->cpu_us <= 0 || cpu_us < result->cpu_us)
        result->cpu_us = cpu_us;
}

static struct result measure(const struct bench *b, uint32_t ef, float recall)
{
    struct kith_hnsw_hit hits[K_MAX];
    struct kith_hnsw_profile profile = {0};
    struct result result = {0};
    int count;
    double queries = b->queries.rows - b->first;
    for (uint32_t q = b->first; q < b->queries.rows; q++) {
        search(b, q, ef, recall, hits, &count, &profile);
        result.recall += recall_of(b, q, hits, count) / queries;
        result.evaluations += profile.evaluations / queries;
        result.seeds += profile.seeds / queries;
        result.expected = profile.recall;
        result.scans += profile.strategy == KITH_HNSW_SCAN;
    }
    return result;
}

/* The least EF with that recall; 0: there is none. */
static uint32_t best_fixed(const struct bench *b, float recall)
{
    uint32_t low = b->k - 1, high = b->k;
    while (measure(b, high, 0).recall < recall) {
        low = high;
        high *= 2;
        if (low >= EF_MOST)
            return 0;
        high = high < EF_MOST ? high : EF_MOST;
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (measure(b, middle, 0).recall < recall)
            low = middle;
        else
            high = middle;
    }
    return high;
}

static void print_rows(const struct bench *b, const char *when)
{
    static const float recalls[] = {0.9f, 0.95f, 0.99f};
    for (unsigned i = 0; i < sizeof recalls / sizeof *recalls; i++) {
        uint32_t ef = best_fixed(b, recalls[i]);
        struct result fixed = measure(b, ef ? ef : EF_MOST, 0), by_recall = measure(b, 0, recalls[i]);
        for (unsigned round = 0; round < ROUNDS; round++) { /* by turns: a slow spell hits both */
            time_round(b, ef ? ef : EF_MOST, 0, &fixed);
            time_round(b, 0, recalls[i], &by_recall);
        }
        printf("%-10s k %3u r %.2f: recall %.4f %s, %5.0f evaluations, %4.0f seeds, %6.1f us", when, b->k,
               (double)recalls[i], by_recall.recall,
               by_recall.recall >= (double)recalls[i] - 0.005 ? "kept" : "MISSED", by_recall.evaluations,
               by_recall.seeds, by_recall.cpu_us);
        if (ef)
            printf("; best fixed EF %4u: recall %.4f, %5.0f evaluations, %6.1f us; ratio %.2f, %.2f", ef,
                   fixed.recall, fixed.evaluations, fixed.cpu_us, by_recall.evaluations / fixed.evaluations,
                   by_recall.cpu_us / fixed.cpu_us);
        else
            printf("; EF %u: recall %.4f, %5.0f evaluations, %6.1f us", EF_MOST, fixed.recall,
                   fixed.evaluations, fixed.cpu_us);
        printf("%s\n", by_recall.scans ? " (scanned)" : "");
        fflush(stdout);
    }
}

static void calibrate(struct bench *b)
{
    while (kith_hnsw_calibrate_due(b->h))
        if (kith_hnsw_calibrate(b->h, STEP, NULL) < 0)
            exit(1);
}

static void print_calibration(const struct bench *b, double cpu_s)
{
    struct kith_calibration c;
    if (!kith_hnsw_get_calibration(b->h, &c))
        return;
    printf("calibrated from %u elements and %u queries in %.2f CPU s; reach %.4f, %.4f, %.4f\n",
           c.elements_sampled, c.queries_sampled, cpu_s, (double)c.ks[0].reach, (double)c.ks[1].reach,
           (double)c.ks[2].reach);
}

static void prepare(struct bench *b, uint32_t k)
{
    b->k = k;
    struct matrix measured = {matrix_row(&b->queries, b->first), b->queries.rows - b->first, b->queries.dim};
    bench_bounds(b->metric, &b->base, &measured, k, NULL, b->bounds + b->first);
    struct result exact = measure(b, 0, 0);
    printf("k %u: an exact scan by what is kept has recall %.4f\n", k, exact.recall);
}

static bool build(struct bench *b)
{
    for (uint32_t i = 0; i < b->base.rows; i++) {
        uint32_t slot;
        if (kith_hnsw_add(b->h, matrix_row(&b->base, i), 0, i, &slot) != KITH_OK)
            return false;
        kith_hnsw_work(b->h, 1, 0);
    }
    return kith_hnsw_settle(b->h) == KITH_OK;
}

static void each_k(struct bench *b, const char *when, uint32_t only)
{
    static const uint32_t ks[] = {10, 1, 100};
    for (unsigned i = 0; i < sizeof ks / sizeof *ks; i++) {
        if (only && only != ks[i])
            continue;
        prepare(b, ks[i]);
        print_rows(b, when);
    }
}

/* What is measured must not teach the set: those of the first half take the places of queries that wait. */
static void fill_places(struct bench *b)
{
    struct kith_hnsw_hit hits[K_MAX];
    struct kith_hnsw_profile profile;
    int count;
    for (uint32_t q = 0; q < b->first && q < 16; q++)
        search(b, q, 0, 0.5f, hits, &count, &profile);
}

static void send_first_half(struct bench *b)
{
    struct kith_hnsw_hit hits[K_MAX];
    struct kith_hnsw_profile profile;
    int count;
    for (uint32_t q = 0; q < b->first; q++) {
        search(b, q, 0, 0.95f, hits, &count, &profile);
        calibrate(b);
    }
}

static bool option(struct bench *b, uint32_t *rows, uint32_t *queries, uint32_t *k, const char *arg)
{
    static const struct {
        const char *word;
        int value;
    } words[] = {{"codes=i8", KITH_HNSW_I8},     {"codes=f32", KITH_HNSW_F32}, {"codes=f16", KITH_HNSW_F16},
                 {"codes=bf16", KITH_HNSW_BF16}, {"codes=i4", KITH_HNSW_I4},   {"codes=bin", KITH_HNSW_BIN}};
    static const struct {
        const char *word;
        enum kith_hnsw_keep value;
    } keeps[] = {{"keep=default", KITH_HNSW_KEEP_DEFAULT},
                 {"keep=none", KITH_HNSW_KEEP_NONE},
                 {"keep=residual", KITH_HNSW_KEEP_RESIDUAL},
                 {"keep=f16", KITH_HNSW_KEEP_F16},
                 {"keep=f32", KITH_HNSW_KEEP_F32}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(arg, words[i].word)) {
            b->options.codes = (enum kith_hnsw_codes)words[i].value;
            return true;
        }
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++)
        if (!strcmp(arg, keeps[i].word)) {
            b->options.keep = keeps[i].value;
            return true;
        }
    if (!strcmp(arg, "metric=cosine") || !strcmp(arg, "metric=ip") || !strcmp(arg, "metric=l2")) {
        b->options.metric = arg[7] == 'c'   ? KITH_HNSW_COSINE
                            : arg[7] == 'i' ? KITH_HNSW_INNER_PRODUCT
                                            : KITH_HNSW_L2SQ;
        b->metric = arg[7] == 'c' ? BENCH_COSINE : arg[7] == 'i' ? BENCH_INNER_PRODUCT : BENCH_L2;
    } else if (!strcmp(arg, "layout=compact") || !strcmp(arg, "layout=spread")) {
        b->options.layout = arg[7] == 'c' ? KITH_HNSW_COMPACT : KITH_HNSW_SPREAD;
    } else if (!strncmp(arg, "rows=", 5)) {
        *rows = (uint32_t)strtoul(arg + 5, NULL, 10);
    } else if (!strncmp(arg, "queries=", 8)) {
        *queries = (uint32_t)strtoul(arg + 8, NULL, 10);
    } else if (!strncmp(arg, "k=", 2)) {
        *k = (uint32_t)strtoul(arg + 2, NULL, 10);
    } else if (!strncmp(arg, "file=", 5)) {
        b->path = arg + 5;
    } else {
        fprintf(stderr, "unknown option: %s\n", arg);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {.options = {.codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 42}};
    uint32_t rows = 0, queries = 0, k = 0;
    for (int i = 3; i < argc; i++)
        if (!option(&b, &rows, &queries, &k, argv[i]))
            return 1;
    if (argc < 3 || !matrix_load(&b.base, argv[1], argv[2], "base", rows) ||
        !matrix_load(&b.queries, argv[1], argv[2], "query", queries)) {
        fprintf(stderr, "usage: %s FOLDER SET [key=value ...], with SET's files in FOLDER\n", argv[0]);
        return SKIPPED;
    }
    if (b.metric == BENCH_COSINE) {
        matrix_normalise(&b.base);
        matrix_normalise(&b.queries);
    }
    b.options.dim = b.base.dim;
    b.first = b.queries.rows / 2;
    b.bounds = malloc(b.queries.rows * sizeof *b.bounds);
    if (!b.bounds || kith_hnsw_open(&b.h, &b.options) != KITH_OK)
        return 1;
    if (!b.path || !bench_index_load(&b.h, b.path, &b.options)) {
        if (!build(&b))
            return 1;
        if (b.path && !bench_index_store(b.h, b.path))
            fprintf(stderr, "could not write %s\n", b.path);
    }
    if (kith_hnsw_settle(b.h) != KITH_OK) /* rows of SPREAD are not in the file */
        return 1;
    printf("%s: %u x %u, %u queries measured\n", argv[2], b.base.rows, b.base.dim, b.queries.rows - b.first);
    each_k(&b, "guessed", k);
    double start = cpu_seconds();
    if (kith_hnsw_calibrate_begin(b.h) != KITH_OK)
        return 1;
    calibrate(&b);
    print_calibration(&b, cpu_seconds() - start);
    fill_places(&b);
    each_k(&b, "elements", k);
    start = cpu_seconds();
    send_first_half(&b);
    print_calibration(&b, cpu_seconds() - start);
    fill_places(&b);
    each_k(&b, "queries", k);
    kith_hnsw_close(b.h);
    matrix_fini(&b.base);
    matrix_fini(&b.queries);
    free(b.bounds);
    return 0;
}
