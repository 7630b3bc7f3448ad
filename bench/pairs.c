/* Near pairs from the graph beside an exact join: CPU seconds of both, and which part of the true pairs is found.
 *
 *     bench/pairs FOLDER SET [key=value ...]
 *     keys     pairs=10000 (true ones, which the bound is chosen for) rows=0 (all) codes=i8|f32 m=16 efc=200
 *              sample=2000 file=PATH (of the exact pairs, kept between runs) exact=1 (0: without the exact join)
 *
 * The exact join compares blocks of int8 codes with the fastest kernel there is, and decides what they say is near
 * by the float32 rows; one thread, as the join from the graph. */
#include "data.h"

#include "base/os.h"
#include "vec/kernels.h"
#include "vec/pairs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 128, SKIPPED = 77, PAGE = 10000 };

struct pair {
    float distance;
    uint32_t a, b; /* rows, b < a */
};

struct pairs {
    struct pair *items;
    size_t count, room;
};

struct bench {
    struct matrix base;
    struct kith_hnsw_options options;
    struct kith_hnsw *h;
    const struct kith_kernels *kernels;
    int8_t *codes;
    float *scales;
    uint32_t *row_of_slot;
    uint32_t wanted, sample;
    bool
        by_graph; /* no exact join: the bound is where the graph's pairs end, and the sample says what is missing */
    const char *path;
};

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

static void add_pair(struct pairs *pairs, float distance, uint32_t a, uint32_t b)
{
    if (pairs->count == pairs->room) {
        pairs->room = 2 * pairs->room + 1024;
        pairs->items = realloc(pairs->items, pairs->room * sizeof *pairs->items);
        if (!pairs->items)
            exit(1);
    }
    pairs->items[pairs->count++] = (struct pair){distance, a > b ? a : b, a > b ? b : a};
}

static int by_distance(const void *x, const void *y)
{
    const struct pair *a = x, *b = y;
    return (a->distance > b->distance) - (a->distance < b->distance);
}

static int by_rows(const void *x, const void *y)
{
    const struct pair *a = x, *b = y;
    return a->a != b->a ? (a->a > b->a) - (a->a < b->a) : (a->b > b->b) - (a->b < b->b);
}

static void sort_pairs(struct pairs *pairs, int (*order)(const void *, const void *))
{
    if (pairs->count)
        qsort(pairs->items, pairs->count, sizeof *pairs->items, order);
}

/* ---- the exact join ---- */

/* In double: near 0 a float says nothing. Rows have length 1. */
static float true_distance(const struct bench *b, uint32_t x, uint32_t y)
{
    const float *v = matrix_row(&b->base, x), *w = matrix_row(&b->base, y);
    double sum = 0;
    for (uint32_t d = 0; d < b->base.dim; d++)
        sum += ((double)v[d] - w[d]) * ((double)v[d] - w[d]);
    return (float)(sum / 2);
}

static void encode(struct bench *b)
{
    uint32_t dim = b->base.dim;
    b->codes = aligned_alloc(64, ((size_t)b->base.rows * dim + 63) & ~(size_t)63);
    b->scales = malloc(b->base.rows * sizeof *b->scales);
    for (uint32_t i = 0; i < b->base.rows; i++) {
        const float *row = matrix_row(&b->base, i);
        int8_t *code = b->codes + (size_t)i * dim;
        float most = 0;
        for (uint32_t d = 0; d < dim; d++)
            most = fabsf(row[d]) > most ? fabsf(row[d]) : most;
        for (uint32_t d = 0; d < dim; d++)
            code[d] = (int8_t)lrintf(most > 0 ? row[d] * 127 / most : 0);
        int32_t square = b->kernels->dot_i8(code, code, dim);
        b->scales[i] = square > 0 ? 1 / sqrtf((float)square) : 0;
    }
}

/* Rows first..end with all rows before them. */
static void join_block(const struct bench *b, uint32_t first, uint32_t end, float code_bound, float bound,
                       struct pairs *out)
{
    uint32_t dim = b->base.dim;
    for (uint32_t i = first; i < b->base.rows; i++) {
        uint32_t stop = end < i ? end : i;
        for (uint32_t k = first; k < stop; k += 4) {
            const int8_t *codes[4];
            int32_t dots[4];
            for (uint32_t j = 0; j < 4; j++)
                codes[j] = b->codes + (size_t)(k + j < stop ? k + j : k) * dim;
            b->kernels->dot_i8_4(b->codes + (size_t)i * dim, codes, dim, dots);
            for (uint32_t j = 0; j < 4 && k + j < stop; j++) {
                if (1 - (float)dots[j] * b->scales[i] * b->scales[k + j] > code_bound)
                    continue;
                float distance = true_distance(b, i, k + j);
                if (distance <= bound)
                    add_pair(out, distance, i, k + j);
            }
        }
    }
}

/* What codes may be wrong by: of pairs about as near as the bound, several times the most seen. */
static float code_error(const struct bench *b, const struct kith_hnsw_pair *pairs, uint32_t count)
{
    float most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = b->row_of_slot[pairs[i].a], y = b->row_of_slot[pairs[i].b];
        int32_t dot = b->kernels->dot_i8(b->codes + (size_t)x * b->base.dim,
                                         b->codes + (size_t)y * b->base.dim, b->base.dim);
        float error = fabsf(1 - (float)dot * b->scales[x] * b->scales[y] - true_distance(b, x, y));
        most = error > most ? error : most;
    }
    return 2 * most;
}

static void exact_join(const struct bench *b, float bound, float margin, struct pairs *out)
{
    double start = cpu_seconds();
    for (uint32_t first = 0; first < b->base.rows; first += BLOCK)
        join_block(b, first, first + BLOCK < b->base.rows ? first + BLOCK : b->base.rows, bound + margin,
                   bound, out);
    double time = cpu_seconds() - start, n = b->base.rows;
    printf("exact join: %.2f CPU s, %.2f ns a comparison, kernels %s\n", time, time * 2e9 / n / (n - 1),
           b->kernels->name);
    fflush(stdout);
}

/* ---- from the graph ---- */

static void build(struct bench *b)
{
    double start = cpu_seconds();
    uint32_t slot;
    for (uint32_t i = 0; i < b->base.rows; i++) {
        if (kith_hnsw_add(b->h, matrix_row(&b->base, i), 0, i, &slot) != KITH_OK)
            exit(1);
        b->row_of_slot[slot] = i;
        kith_hnsw_work(b->h, 1, 0);
    }
    kith_hnsw_settle(b->h);
    printf("%u elements of %u dimensions, built in %.1f CPU s\n", b->base.rows, b->base.dim,
           cpu_seconds() - start);
}

static struct kith_hnsw_pairs *run(const struct bench *b, const struct kith_hnsw_pairs_options *options)
{
    struct kith_hnsw_pairs *join;
    int rc = kith_hnsw_pairs_open(&join, b->h, options);
    while (rc == KITH_OK && (rc = kith_hnsw_pairs_step(join)) > 0)
        rc = KITH_OK;
    if (rc != KITH_OK)
        exit(1);
    return join;
}

static void collect(const struct bench *b, const struct kith_hnsw_pairs_result *result, struct pairs *out)
{
    for (uint32_t i = 0; i < result->count; i++)
        add_pair(out, result->pairs[i].distance, b->row_of_slot[result->pairs[i].a],
                 b->row_of_slot[result->pairs[i].b]);
}

/* Every page; returns the CPU seconds. */
static double join(const struct bench *b, float bound, struct pairs *out, bool print)
{
    struct kith_hnsw_pairs_options options = {.max_distance = bound, .count = PAGE};
    uint64_t evaluations = 0, hops = 0, pages = 0;
    double start = cpu_seconds();
    do {
        struct kith_hnsw_pairs *pairs = run(b, &options);
        struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(pairs);
        collect(b, &result, out);
        options.cursor = result.cursor;
        evaluations += result.evaluations;
        hops += result.hops;
        pages++;
        kith_hnsw_pairs_close(pairs);
    } while (options.cursor);
    double time = cpu_seconds() - start;
    if (print)
        printf("from the graph: %.3f CPU s, %llu pages, %.1f evaluations and %.2f hops an element\n", time,
               (unsigned long long)pages, (double)evaluations / b->base.rows, (double)hops / b->base.rows);
    return time;
}

/* Of the first `count` true pairs, those among `found`; both sorted by rows. What is missing although the kept
 * vectors are as near as `bound`, the graph has missed. */
static void compare(const struct bench *b, const struct pairs *truth, const struct pairs *found, float bound,
                    const char *what)
{
    size_t at = 0, right = 0, by_graph = 0;
    for (size_t i = 0; i < truth->count; i++) {
        const struct pair *pair = &truth->items[i];
        while (at < found->count && by_rows(&found->items[at], pair) < 0)
            at++;
        if (at < found->count && by_rows(&found->items[at], pair) == 0)
            right++;
        else
            by_graph += kith_hnsw_distance(b->h, pair->a, pair->b) <= bound;
    }
    printf("%s: recall %.4f of %zu true pairs; %zu more reported; of %zu missed %zu by the graph\n", what,
           (double)right / (double)truth->count, truth->count, found->count - right, truth->count - right,
           by_graph);
}

static void measure(const struct bench *b, struct pairs *truth, float bound)
{
    struct pairs found = {0}, top = {0};
    double best = join(b, bound, &found, true);
    for (int round = 0; round < 4; round++) {
        struct pairs again = {0};
        double time = join(b, bound, &again, false);
        best = time < best ? time : best;
        free(again.items);
    }
    printf("best of five: %.3f CPU s\n", best);
    sort_pairs(&found, by_rows);
    sort_pairs(truth, by_rows);
    compare(b, truth, &found, bound, "MINSCORE");

    double start = cpu_seconds();
    struct kith_hnsw_pairs_options options = {.top = (uint32_t)truth->count};
    struct kith_hnsw_pairs *pairs = run(b, &options);
    struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(pairs);
    double time = cpu_seconds() - start;
    result.count = result.count < options.top ? result.count : options.top;
    collect(b, &result, &top);
    sort_pairs(&top, by_rows);
    printf("TOP %u: %.3f CPU s, %.1f evaluations an element\n", options.top, time,
           (double)result.evaluations / b->base.rows);
    compare(b, truth, &top, bound, "TOP");
    kith_hnsw_pairs_close(pairs);

    start = cpu_seconds();
    options =
        (struct kith_hnsw_pairs_options){.max_distance = bound, .sample = b->sample, .seed = 1, .count = 1};
    pairs = run(b, &options);
    result = kith_hnsw_pairs_get(pairs);
    printf("SAMPLE %u: %llu of %llu pairs found, %.2f CPU s\n", b->sample, (unsigned long long)result.found,
           (unsigned long long)result.near, cpu_seconds() - start);
    kith_hnsw_pairs_close(pairs);
    free(found.items);
    free(top.items);
}

/* ---- all of it ---- */

static bool load_pairs(const struct bench *b, struct pairs *pairs)
{
    FILE *file = b->path ? fopen(b->path, "rb") : NULL;
    struct pair pair;
    while (file && fread(&pair, sizeof pair, 1, file) == 1)
        add_pair(pairs, pair.distance, pair.a, pair.b);
    if (file)
        fclose(file);
    return file != NULL;
}

static void store_pairs(const struct bench *b, const struct pairs *pairs)
{
    FILE *file = b->path ? fopen(b->path, "wb") : NULL;
    if (file && fwrite(pairs->items, sizeof *pairs->items, pairs->count, file) != pairs->count)
        fprintf(stderr, "could not write the pairs\n");
    if (file)
        fclose(file);
}

/* The bound is where the wanted pairs end: a guess from the graph, then what the exact join says. */
static void find_truth(struct bench *b, struct pairs *truth)
{
    struct kith_hnsw_pairs_options options = {.top = b->wanted};
    struct kith_hnsw_pairs *pairs = run(b, &options);
    struct kith_hnsw_pairs_result result = kith_hnsw_pairs_get(pairs);
    float guess = result.count ? 1.1f * result.pairs[result.count - 1].distance + 1e-5f : 0;
    if (b->by_graph) {
        collect(b, &result, truth);
        sort_pairs(truth, by_distance);
    } else if (!load_pairs(b, truth)) {
        exact_join(b, guess, code_error(b, result.pairs, result.count), truth);
        sort_pairs(truth, by_distance);
        store_pairs(b, truth);
    }
    if (truth->count > b->wanted)
        truth->count = b->wanted;
    kith_hnsw_pairs_close(pairs);
}

static void option(struct bench *b, uint32_t *rows, const char *arg)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
    uint32_t number = value ? (uint32_t)strtoul(value, NULL, 10) : 0;
    if (length == 5 && !strncmp(arg, "pairs", 5))
        b->wanted = number;
    else if (length == 4 && !strncmp(arg, "rows", 4))
        *rows = number;
    else if (length == 5 && !strncmp(arg, "codes", 5))
        b->options.codes = !strcmp(value, "f32") ? KITH_HNSW_F32 : KITH_HNSW_I8;
    else if (length == 1 && *arg == 'm')
        b->options.m = number;
    else if (length == 3 && !strncmp(arg, "efc", 3))
        b->options.ef_construction = number;
    else if (length == 6 && !strncmp(arg, "sample", 6))
        b->sample = number;
    else if (length == 5 && !strncmp(arg, "exact", 5))
        b->by_graph = !number;
    else if (length == 4 && !strncmp(arg, "file", 4))
        b->path = value;
    else
        fprintf(stderr, "unknown option %s\n", arg);
}

int main(int argc, char **argv)
{
    struct bench b = {.wanted = 10000,
                      .sample = 2000,
                      .kernels = kith_kernels_pick(KITH_KERNEL_BEST),
                      .options = {.codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 42}};
    struct pairs truth = {0};
    uint32_t rows = 0;
    if (argc < 3) {
        fprintf(stderr,
                "usage: %s FOLDER SET [pairs=10000] [rows=0] [codes=i8|f32] [m=16] [efc=200] [sample=2000] "
                "[file=PATH]\n",
                argv[0]);
        return SKIPPED;
    }
    for (int i = 3; i < argc; i++)
        option(&b, &rows, argv[i]);
    if (!matrix_load(&b.base, argv[1], argv[2], "base", rows)) {
        fprintf(stderr, "no data: %s/%s.base.u8bin.gz\n", argv[1], argv[2]);
        return SKIPPED;
    }
    matrix_normalise(&b.base);
    b.options.dim = b.base.dim;
    b.row_of_slot = malloc((size_t)b.base.rows * 2 * sizeof *b.row_of_slot);
    if (!b.row_of_slot || kith_hnsw_open(&b.h, &b.options) != KITH_OK)
        return 1;
    encode(&b);
    build(&b);
    find_truth(&b, &truth);
    float bound = truth.count ? truth.items[truth.count - 1].distance : 0;
    printf("%zu true pairs within %.6f (score %.6f)\n", truth.count, (double)bound, 1 - (double)bound / 2);
    if (truth.count)
        measure(&b, &truth, bound);
    kith_hnsw_close(b.h);
    matrix_fini(&b.base);
    free(truth.items);
    free(b.codes);
    free(b.scales);
    free(b.row_of_slot);
    return 0;
}
