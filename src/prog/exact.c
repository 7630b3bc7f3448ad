/* Exact neighbours. The base is read in blocks by one thread; each block is compared with all queries by all threads,
 * every thread owning a stripe of the queries, so that nothing is shared but what is only read. */
#include "prog/exact.h"

#include "base/os.h"
#include "vec/kernels.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_BYTES = 8 << 20,
    THREADS_MAX = 256,
};

struct neighbour {
    float distance;
    int32_t row;
};

struct scan {
    const struct kith_exact_options *options;
    const struct kith_kernels *kernels;
    uint32_t dim;
    size_t query_count;
    float *queries; /* copies, of length 1 for cosine */
    float *block;   /* rows, of length 1 for cosine */
    float *query_squares, *block_squares;
    size_t block_rows;       /* in it now */
    uint64_t block_first;    /* number of its first row */
    struct neighbour *found; /* k a query, nearest first */
    size_t *found_count;
};

struct stripe {
    struct scan *scan;
    size_t from, to; /* queries */
    pthread_t thread;
};

static float square(const struct scan *scan, const float *v)
{
    return scan->kernels->dot_f32(v, v, scan->dim);
}

static void make_unit(const struct scan *scan, float *v)
{
    double sum = 0;
    for (uint32_t i = 0; i < scan->dim; i++)
        sum += (double)v[i] * v[i];
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < scan->dim; i++)
        v[i] = (float)(v[i] * scale);
}

/* Rows come in ascending order, so an equal distance never displaces what is there. */
static void offer(struct neighbour *found, size_t *count, size_t k, struct neighbour candidate)
{
    if (*count == k && !(candidate.distance < found[k - 1].distance))
        return;
    size_t at = *count < k ? (*count)++ : k - 1;
    while (at > 0 && candidate.distance < found[at - 1].distance) {
        found[at] = found[at - 1];
        at--;
    }
    found[at] = candidate;
}

static void compare_query(struct scan *scan, size_t q)
{
    const float *query = scan->queries + q * scan->dim;
    const uint32_t k = scan->options->k;
    bool is_l2 = scan->options->metric == KITH_EXACT_L2;
    for (size_t r = 0; r < scan->block_rows; r += 4) {
        const float *rows[4];
        float dots[4];
        for (size_t i = 0; i < 4; i++) /* past the end: the last row again, whose result is dropped */
            rows[i] = scan->block + (r + i < scan->block_rows ? r + i : scan->block_rows - 1) * scan->dim;
        scan->kernels->dot_f32_4(query, rows, scan->dim, dots);
        for (size_t i = 0; i < 4 && r + i < scan->block_rows; i++) {
            float distance =
                is_l2 ? scan->query_squares[q] + scan->block_squares[r + i] - 2 * dots[i] : 1 - dots[i];
            offer(scan->found + q * k, &scan->found_count[q], k,
                  (struct neighbour){distance, (int32_t)(scan->block_first + r + i)});
        }
    }
}

static void *run_stripe(void *argument)
{
    struct stripe *stripe = argument;
    for (size_t q = stripe->from; q < stripe->to; q++)
        compare_query(stripe->scan, q);
    return NULL;
}

/* All queries against the present block. */
static int compare_block(struct scan *scan, struct kith_error *error)
{
    struct stripe stripes[THREADS_MAX];
    unsigned count = scan->options->thread_count ? scan->options->thread_count : kith_os_cpu_count();
    count = count > THREADS_MAX ? THREADS_MAX : count;
    unsigned started = 0;
    int failure = 0;
    for (unsigned t = 0; t < count && !failure; t++) {
        stripes[t] = (struct stripe){
            .scan = scan, .from = scan->query_count * t / count, .to = scan->query_count * (t + 1) / count};
        failure = pthread_create(&stripes[t].thread, NULL, run_stripe, &stripes[t]);
        started += !failure;
    }
    for (unsigned t = 0; t < started; t++)
        pthread_join(stripes[t].thread, NULL);
    return failure ? kith_error_set(error, KITH_EAGAIN, "cannot start threads: %s", strerror(failure))
                   : KITH_OK;
}

/* The next rows into the block. Returns their number, or a failure. */
static int read_block(struct scan *scan, struct kith_rows *base, size_t rows_max, struct kith_error *error)
{
    scan->block_first += scan->block_rows;
    scan->block_rows = 0;
    while (scan->block_rows < rows_max) {
        float *row = scan->block + scan->block_rows * scan->dim;
        int status = kith_rows_next(base, row, error);
        if (status < 0)
            return status;
        if (status == 0)
            break;
        if (scan->options->metric == KITH_EXACT_COSINE)
            make_unit(scan, row);
        scan->block_squares[scan->block_rows++] = square(scan, row);
    }
    return (int)scan->block_rows;
}

static int prepare(struct scan *scan, const float *queries, size_t rows_max)
{
    size_t query_floats = scan->query_count * scan->dim;
    scan->queries = calloc(query_floats + 1, sizeof *scan->queries);
    scan->query_squares = calloc(scan->query_count + 1, sizeof *scan->query_squares);
    scan->block = malloc(rows_max * scan->dim * sizeof *scan->block);
    scan->block_squares = calloc(rows_max, sizeof *scan->block_squares);
    scan->found = calloc(scan->query_count * scan->options->k + 1, sizeof *scan->found);
    scan->found_count = calloc(scan->query_count + 1, sizeof *scan->found_count);
    if (!scan->queries || !scan->query_squares || !scan->block || !scan->block_squares || !scan->found ||
        !scan->found_count)
        return KITH_ENOMEM;
    if (query_floats)
        memcpy(scan->queries, queries, query_floats * sizeof *queries);
    for (size_t q = 0; q < scan->query_count; q++) {
        if (scan->options->metric == KITH_EXACT_COSINE)
            make_unit(scan, scan->queries + q * scan->dim);
        scan->query_squares[q] = square(scan, scan->queries + q * scan->dim);
    }
    return KITH_OK;
}

static int scan_base(struct scan *scan, struct kith_rows *base, size_t rows_max, struct kith_error *error)
{
    for (;;) {
        int got = read_block(scan, base, rows_max, error);
        if (got <= 0)
            return got;
        int status = compare_block(scan, error);
        if (status)
            return status;
        if (scan->options->progress)
            scan->options->progress(scan->options->context, kith_rows_done(base), kith_rows_total(base));
    }
}

int kith_exact_nearest(struct kith_rows *base, const float *queries, size_t query_count,
                       const struct kith_exact_options *options, int32_t *truth, struct kith_error *error)
{
    struct scan scan = {.options = options,
                        .kernels = kith_kernels_pick(KITH_KERNEL_BEST),
                        .dim = kith_rows_dim(base),
                        .query_count = query_count};
    size_t rows_max = BLOCK_BYTES / (scan.dim * sizeof(float)) + 1;
    int status = prepare(&scan, queries, rows_max);
    if (status)
        kith_error_set(error, status, "out of memory for %zu queries", query_count);
    else
        status = scan_base(&scan, base, rows_max, error);
    if (!status && kith_rows_done(base) < options->k)
        status = kith_error_set(error, KITH_EINVAL,
                                "the base has %llu rows, fewer than the %u neighbours asked for",
                                (unsigned long long)kith_rows_done(base), options->k);
    for (size_t i = 0; !status && i < query_count * options->k; i++)
        truth[i] = scan.found[i].row;
    free(scan.queries);
    free(scan.query_squares);
    free(scan.block);
    free(scan.block_squares);
    free(scan.found);
    free(scan.found_count);
    return status;
}
