/* Builds an index from a vector file, and prints build time, bytes an element, and recall and queries a
 * second for several efforts. The truth is an exact scan of the float32 vectors, made here.
 *
 *     bench/vectors FOLDER SET [key=value ...]
 *     FOLDER   holds SET.base.u8bin.gz and SET.query.u8bin.gz (two little-endian uint32: rows, columns; then
 *              bytes)
 *     keys     threads=1 layout=compact|spread codes=i8|f32|f16|bf16|i4|bin keep=default|none|residual|f16|f32
 *              metric=cosine|ip|l2 m=16 efc=200 rows=0 (all) queries=0 (all) kernels=0 (the best) file=PATH
 */
#include "data.h"

#include "base/os.h"
#include "base/task.h"
#include "vec/hnsw.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, SKIPPED = 77 };

struct bench {
    struct matrix base, queries;
    enum bench_metric metric;
    float *bounds; /* of each query: how far its K-th nearest row is */
    unsigned threads;
    struct kith_hnsw_options options;
    struct kith_hnsw *h;
    uint32_t *slot_of_row, *row_of_slot;
    const char *path; /* of a saved index, or NULL */
    _Atomic bool stop;
};

static double seconds(void)
{
    return (double)kith_os_monotonic_ns() / 1e9;
}

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

/* ---- building ---- */

static void *work_until_stopped(void *arg)
{
    struct bench *b = arg;
    while (!b->stop) {
        if (kith_hnsw_work(b->h, 64, 0) == 0)
            sched_yield();
    }
    return NULL;
}

static void add_row(struct bench *b, uint32_t row)
{
    uint32_t slot;
    if (kith_hnsw_add(b->h, b->base.values + (size_t)row * b->base.dim, 0, row, &slot) != KITH_OK) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    b->slot_of_row[row] = slot;
    b->row_of_slot[slot] = row;
}

/* The caller is one of the threads: it links when the tail is crowded. */
static void link_all(struct bench *b)
{
    while (kith_hnsw_get_backlog(b->h).tail)
        kith_hnsw_work(b->h, 64, 0);
    kith_hnsw_reclaim(b->h);
}

static void build(struct bench *b)
{
    pthread_t threads[64];
    unsigned helpers = b->threads > 1 ? b->threads - 1 : 0;
    double start = seconds(), cpu = cpu_seconds();
    b->stop = false;
    for (unsigned i = 0; i < helpers; i++)
        pthread_create(&threads[i], NULL, work_until_stopped, b);
    for (uint32_t i = 0; i < b->base.rows; i++) {
        add_row(b, i);
        while (kith_hnsw_get_backlog(b->h).tail > 512)
            kith_hnsw_work(b->h, 16, 0);
    }
    link_all(b);
    b->stop = true;
    for (unsigned i = 0; i < helpers; i++)
        pthread_join(threads[i], NULL);
    printf("build: %.2f s, %.2f CPU s, %u thread(s)\n", seconds() - start, cpu_seconds() - cpu, b->threads);
    start = seconds();
    kith_hnsw_settle(b->h);
    printf("settle: %.2f s\n", seconds() - start);
}

/* ---- measuring ---- */

static double recall_of(const struct bench *b, uint32_t q, const struct kith_hnsw_hit *hits, int count)
{
    float bound = b->bounds[q] + bench_slack(b->metric, b->bounds[q]);
    int right = 0;
    for (int i = 0; i < count; i++) {
        const float *row = matrix_row(&b->base, b->row_of_slot[hits[i].slot]);
        right += bench_distance(b->metric, matrix_row(&b->queries, q), row, b->base.dim) <= bound;
    }
    return (double)right / K;
}

/* by_codes: an exact scan by codes, of which the ef nearest are ranked. */
static void measure(struct bench *b, uint32_t ef, bool exact, bool by_codes)
{
    double recall = 0, best = 1e9;
    struct kith_hnsw_profile profile, sum = {0};
    for (int round = 0; round < (exact ? 1 : 3); round++) {
        double start = cpu_seconds();
        recall = 0;
        for (uint32_t q = 0; q < b->queries.rows; q++) {
            struct kith_hnsw_hit hits[K];
            struct kith_hnsw_query query = {.vector = b->queries.values + (size_t)q * b->base.dim,
                                            .k = K,
                                            .ef = ef,
                                            .exact = exact,
                                            .by_codes = by_codes};
            int count = kith_hnsw_search(b->h, &query, hits, &profile);
            recall += recall_of(b, q, hits, count);
            sum.hops += profile.hops;
            sum.evaluations += profile.evaluations;
            sum.refined += profile.refined;
        }
        double time = cpu_seconds() - start;
        best = time < best ? time : best;
        if (round < 2 && !exact)
            sum = (struct kith_hnsw_profile){0};
    }
    printf("%-6s %5u  recall@10 %.4f  %8.0f queries/CPU s  %6.0f evaluations  %5.0f hops  %4.0f refined\n",
           by_codes ? "codes"
           : exact  ? "exact"
                    : "ef",
           ef, recall / b->queries.rows, b->queries.rows / best, (double)sum.evaluations / b->queries.rows,
           (double)sum.hops / b->queries.rows, (double)sum.refined / b->queries.rows);
    fflush(stdout);
}

static void print_stats(const struct bench *b)
{
    struct kith_hnsw_stats stats;
    kith_hnsw_get_stats(b->h, &stats);
    double n = (double)stats.elements;
    printf("elements %llu, mean degree %.1f, bytes an element %.1f (codes %.0f, links %.0f, rows %.0f, rest "
           "%.0f), "
           "kernels %s\n",
           (unsigned long long)stats.elements, stats.mean_degree, (double)stats.bytes / n,
           (double)stats.code_bytes / n, (double)stats.link_bytes / n, (double)stats.spread_bytes / n,
           (double)stats.element_bytes / n, stats.kernels);
}

static void check(const struct bench *b)
{
    struct kith_error error;
    if (kith_hnsw_check(b->h, &error) != KITH_OK)
        printf("CHECK FAILED: %s\n", error.text);
}

static void save_and_restore(struct bench *b)
{
    struct kith_buf header, *records = calloc(kith_hnsw_slot_end(b->h), sizeof *records);
    uint32_t end = kith_hnsw_slot_end(b->h);
    kith_buf_init(&header);
    double start = seconds();
    kith_hnsw_save_header(b->h, &header);
    for (uint32_t slot = 0; slot < end; slot++)
        if (kith_hnsw_is_live(b->h, slot))
            kith_hnsw_save_element(b->h, slot, &records[slot]);
    printf("save: %.3f s\n", seconds() - start);
    kith_hnsw_close(b->h);
    start = seconds();
    int rc = kith_hnsw_restore_open(&b->h, kith_buf_slice(&header), &b->options);
    for (uint32_t slot = 0; slot < end && rc == KITH_OK; slot++)
        if (records[slot].length)
            rc = kith_hnsw_restore_element(b->h, slot, kith_buf_slice(&records[slot]), b->row_of_slot[slot]);
    if (rc == KITH_OK)
        rc = kith_hnsw_restore_finish(b->h);
    printf("restore: %.3f s (%s)\n", seconds() - start, kith_status_text(rc));
    start = seconds();
    if (rc == KITH_OK && b->options.layout == KITH_HNSW_SPREAD)
        rc = kith_hnsw_settle(b->h);
    if (b->options.layout == KITH_HNSW_SPREAD)
        printf("rows: %.3f s (%s)\n", seconds() - start, kith_status_text(rc));
    for (uint32_t slot = 0; slot < end; slot++)
        kith_buf_fini(&records[slot]);
    free(records);
    kith_buf_fini(&header);
}

static bool load_index(struct bench *b)
{
    if (!b->path || !bench_index_load(&b->h, b->path, &b->options) || kith_hnsw_settle(b->h) != KITH_OK)
        return false;
    for (uint32_t slot = 0; slot < kith_hnsw_slot_end(b->h); slot++) {
        if (kith_hnsw_is_live(b->h, slot)) {
            b->row_of_slot[slot] = (uint32_t)kith_hnsw_user(b->h, slot);
            b->slot_of_row[b->row_of_slot[slot]] = slot;
        }
    }
    return true;
}

static const char *const codes_words[] = {
    [KITH_HNSW_F32] = "f32",   [KITH_HNSW_I8] = "i8", [KITH_HNSW_BIN] = "bin",  [KITH_HNSW_F16] = "f16",
    [KITH_HNSW_BF16] = "bf16", [KITH_HNSW_I4] = "i4", [KITH_HNSW_I4 + 1] = NULL};
static const char *const keep_words[] = {"default", "none", "residual", "f16", "f32", NULL};
static const char *const metric_words[] = {"", "cosine", "ip", "l2", NULL};

static int word(const char *const *words, const char *value)
{
    for (int i = words[0] ? 0 : 1; words[i]; i++)
        if (!strcmp(words[i], value))
            return i;
    fprintf(stderr, "unknown value %s\n", value);
    exit(1);
}

static void option(struct bench *b, uint32_t *rows, uint32_t *queries, const char *arg)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
    long number = value ? atol(value) : 0;
    if (length == 7 && !strncmp(arg, "threads", 7))
        b->threads = number < 1 ? 1 : number > 64 ? 64 : (unsigned)number;
    else if (length == 5 && !strncmp(arg, "codes", 5))
        b->options.codes = (enum kith_hnsw_codes)word(codes_words, value);
    else if (length == 6 && !strncmp(arg, "layout", 6))
        b->options.layout = !strcmp(value, "spread") ? KITH_HNSW_SPREAD : KITH_HNSW_COMPACT;
    else if (length == 4 && !strncmp(arg, "keep", 4))
        b->options.keep = (enum kith_hnsw_keep)word(keep_words, value);
    else if (length == 6 && !strncmp(arg, "metric", 6)) {
        b->options.metric = (enum kith_hnsw_metric)word(metric_words, value);
        b->metric = b->options.metric == KITH_HNSW_COSINE ? BENCH_COSINE
                    : b->options.metric == KITH_HNSW_L2SQ ? BENCH_L2
                                                          : BENCH_INNER_PRODUCT;
    } else if (length == 1 && *arg == 'm')
        b->options.m = (uint32_t)number;
    else if (length == 3 && !strncmp(arg, "efc", 3))
        b->options.ef_construction = (uint32_t)number;
    else if (length == 4 && !strncmp(arg, "rows", 4))
        *rows = (uint32_t)number;
    else if (length == 7 && !strncmp(arg, "queries", 7))
        *queries = (uint32_t)number;
    else if (length == 4 && !strncmp(arg, "file", 4))
        b->path = value;
    else if (length == 7 && !strncmp(arg, "kernels", 7))
        b->options.kernel_max = (int)number;
    else
        fprintf(stderr, "unknown option %s\n", arg);
}

int main(int argc, char **argv)
{
    struct bench b = {.threads = 1,
                      .options = {.codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 42}};
    uint32_t rows = 0, queries = 0;
    if (argc < 3) {
        fprintf(stderr,
                "usage: %s FOLDER SET [threads=1] [codes=i8|f32|f16|bf16|i4|bin] "
                "[layout=compact|spread] [keep=default|none|residual|f16|f32] [metric=cosine|ip|l2] [m=16]"
                " [efc=200] [rows=0] "
                "[queries=0] [kernels=0] [file=PATH]\n",
                argv[0]);
        return SKIPPED;
    }
    for (int i = 3; i < argc; i++)
        option(&b, &rows, &queries, argv[i]);
    if (!matrix_load(&b.base, argv[1], argv[2], "base", rows) ||
        !matrix_load(&b.queries, argv[1], argv[2], "query", queries)) {
        fprintf(stderr, "no data: %s/%s.*.u8bin.gz\n", argv[1], argv[2]);
        return SKIPPED;
    }
    if (b.metric == BENCH_COSINE) {
        matrix_normalise(&b.base);
        matrix_normalise(&b.queries);
    }
    b.options.dim = b.base.dim;
    b.bounds = malloc(b.queries.rows * sizeof *b.bounds);
    b.slot_of_row = malloc(b.base.rows * sizeof *b.slot_of_row);
    b.row_of_slot = malloc((size_t)b.base.rows * 2 * sizeof *b.row_of_slot);
    if (kith_hnsw_open(&b.h, &b.options) != KITH_OK)
        return 1;
    bench_bounds(b.metric, &b.base, &b.queries, K, NULL, b.bounds);
    if (!load_index(&b)) {
        build(&b);
        if (b.path && !bench_index_store(b.h, b.path))
            fprintf(stderr, "could not write %s\n", b.path);
    }
    check(&b);
    print_stats(&b);
    static const uint32_t efs[] = {10, 16, 24, 32, 48, 64, 96, 128, 200, 400};
    for (size_t i = 0; i < sizeof efs / sizeof *efs; i++)
        measure(&b, efs[i], false, false);
    measure(&b, 0, true, false);
    measure(&b, 100, true, true);
    save_and_restore(&b);
    check(&b);
    measure(&b, 200, false, false);
    kith_hnsw_close(b.h);
    matrix_fini(&b.base);
    matrix_fini(&b.queries);
    free(b.bounds);
    free(b.slot_of_row);
    free(b.row_of_slot);
    return 0;
}
