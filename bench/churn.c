/* What replacing every element does to an index, and deleting every one: recall beside that of an index built anew from
 * the same rows, time a change, and memory, by the index's own count and as the system sees it.
 *
 *     bench/churn FOLDER SET [steps=10] [fresh=1] [rows=0] [queries=2000] [codes=i8|i4|bin|f16|bf16|f32]
 *                [keep=none|residual|f16|f32] [metric=cosine|ip|l2] [layout=compact|spread]
 *
 * The rows are shuffled and cut into steps + 1 parts. All but the last part are added. Each step deletes one of the
 * parts that were there at the start, settles, adds the part that is out (the first step the last part, then what the
 * step before deleted), and settles again: after all steps every element was deleted once, and as many were added, while
 * steps / (steps + 1) of all rows are in at any time. fresh=0 leaves out the index built anew, but for the last step. */
#include "data.h"

#include "base/os.h"
#include "vec/hnsw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* REST_S: until the allocator has given back what was freed, as it does in a server. */
enum { K = 10, SKIPPED = 77, EFFORTS = 3, REST_S = 12 };

static const uint32_t efforts[EFFORTS] = {32, 64, 128};

struct churn {
    struct matrix base, queries;
    float *bounds; /* of each query: how far its K-th nearest row is */
    bool *live;
    uint32_t *order, *slot_of_row;
    uint32_t part, steps;
    struct kith_hnsw_options options;
    enum bench_metric metric;
    struct kith_hnsw *h;
    double worst[EFFORTS]; /* recall lost against the fresh index, at most */
    size_t resident;       /* of all but the index */
};

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

static void add_row(struct kith_hnsw *h, const struct matrix *base, uint32_t row, uint32_t *slot)
{
    if (kith_hnsw_add(h, matrix_row(base, row), 0, row, slot) != KITH_OK) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    kith_hnsw_work(h, 1, 0);
}

static void add_part(struct churn *c, uint32_t part)
{
    for (uint32_t i = 0; i < c->part; i++) {
        uint32_t row = c->order[part * c->part + i];
        add_row(c->h, &c->base, row, &c->slot_of_row[row]);
        c->live[row] = true;
    }
}

static void remove_part(struct churn *c, uint32_t part)
{
    for (uint32_t i = 0; i < c->part; i++) {
        uint32_t row = c->order[part * c->part + i];
        kith_hnsw_remove(c->h, c->slot_of_row[row]);
        c->live[row] = false;
        kith_hnsw_work(c->h, 1, 0);
    }
}

static void settle(struct kith_hnsw *h)
{
    struct kith_error error;
    kith_hnsw_settle(h);
    if (kith_hnsw_check(h, &error) != KITH_OK)
        printf("CHECK FAILED: %s\n", error.text);
}

static void measure(const struct churn *c, struct kith_hnsw *h, double recall[EFFORTS])
{
    for (int e = 0; e < EFFORTS; e++) {
        uint64_t right = 0;
        for (uint32_t q = 0; q < c->queries.rows; q++) {
            struct kith_hnsw_hit hits[K];
            const float *vector = matrix_row(&c->queries, q);
            struct kith_hnsw_query query = {.vector = vector, .k = K, .ef = efforts[e]};
            int count = kith_hnsw_search(h, &query, hits, NULL);
            for (int i = 0; i < count; i++) {
                const float *row = matrix_row(&c->base, (uint32_t)kith_hnsw_user(h, hits[i].slot));
                right += bench_distance(c->metric, vector, row, c->base.dim) <=
                         c->bounds[q] + bench_slack(c->metric, c->bounds[q]);
            }
        }
        recall[e] = (double)right / (double)(K * c->queries.rows);
    }
}

static struct kith_hnsw *build_fresh(const struct churn *c)
{
    struct kith_hnsw *h;
    uint32_t slot;
    if (kith_hnsw_open(&h, &c->options) != KITH_OK)
        exit(1);
    for (uint32_t row = 0; row < c->base.rows; row++)
        if (c->live[row])
            add_row(h, &c->base, row, &slot);
    settle(h);
    return h;
}

static void compare(struct churn *c, unsigned step, bool fresh)
{
    double recall[EFFORTS], other[EFFORTS];
    bench_bounds(c->metric, &c->base, &c->queries, K, c->live, c->bounds);
    measure(c, c->h, recall);
    struct kith_hnsw *h = fresh ? build_fresh(c) : NULL;
    if (h)
        measure(c, h, other);
    kith_hnsw_close(h);
    printf("step %2u  recall@10", step);
    for (int e = 0; e < EFFORTS; e++) {
        printf("  ef %u: %.4f", efforts[e], recall[e]);
        if (!h)
            continue;
        printf(" (fresh %.4f)", other[e]);
        if (other[e] - recall[e] > c->worst[e])
            c->worst[e] = other[e] - recall[e];
    }
    putchar('\n');
    fflush(stdout);
}

static void print_memory(const struct churn *c, const char *when, double *resident)
{
    struct kith_hnsw_stats stats;
    kith_hnsw_get_stats(c->h, &stats);
    sleep(REST_S);
    *resident = (double)kith_os_resident_bytes() - (double)c->resident;
    double n = stats.elements ? (double)stats.elements : 1;
    printf("memory %s: %.2f MB by its own count, %.2f MB resident", when, (double)stats.bytes / 1e6,
           *resident / 1e6);
    if (stats.elements)
        printf("; an element: %.1f and %.1f bytes (codes %.1f, links %.1f, rest %.1f)",
               (double)stats.bytes / n, *resident / n, (double)stats.code_bytes / n,
               (double)stats.link_bytes / n, (double)stats.element_bytes / n);
    putchar('\n');
}

static void run(struct churn *c, bool fresh)
{
    double start, now, end;
    kith_os_return_memory();
    sleep(REST_S);
    c->resident = kith_os_resident_bytes();
    if (kith_hnsw_open(&c->h, &c->options) != KITH_OK)
        exit(1);
    for (uint32_t part = 0; part < c->steps; part++)
        add_part(c, part);
    settle(c->h);
    print_memory(c, "at the start", &start);
    compare(c, 0, false);
    for (uint32_t step = 1; step <= c->steps; step++) {
        double cpu = cpu_seconds();
        remove_part(c, step - 1);
        kith_hnsw_settle(c->h);
        double removed = cpu_seconds();
        add_part(c, step == 1 ? c->steps : step - 2);
        kith_hnsw_settle(c->h);
        double added = cpu_seconds();
        settle(c->h);
        printf("step %2u  %.1f us a delete, %.1f us an insert\n", step, (removed - cpu) / c->part * 1e6,
               (added - removed) / c->part * 1e6);
        compare(c, step, fresh || step == c->steps);
    }
    print_memory(c, "at the end", &end);
    for (uint32_t row = 0; row < c->base.rows; row++) {
        if (c->live[row])
            kith_hnsw_remove(c->h, c->slot_of_row[row]);
        kith_hnsw_work(c->h, 1, 0);
    }
    settle(c->h);
    print_memory(c, "when all is deleted", &now);
    printf("recall lost against a fresh index, at most: %.4f at ef 64, %.4f at ef 128; memory at the end "
           "%.3f of the "
           "start; deleting all returns %.1f %%\n",
           c->worst[1], c->worst[2], end / start, 100 * (1 - now / end));
    kith_hnsw_close(c->h);
}

static void shuffle(struct churn *c)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    for (uint32_t i = 0; i < c->base.rows; i++) {
        uint32_t k = (uint32_t)kith_rng_below(&rng, i + 1);
        c->order[i] = c->order[k];
        c->order[k] = i;
    }
}

/* Words that an option may have, and what they stand for. */
struct word {
    const char *word;
    int number;
};

static const struct word codes[] = {{"codes=f32", KITH_HNSW_F32},
                                    {"codes=f16", KITH_HNSW_F16},
                                    {"codes=bf16", KITH_HNSW_BF16},
                                    {"codes=i8", KITH_HNSW_I8},
                                    {"codes=i4", KITH_HNSW_I4},
                                    {"codes=bin", KITH_HNSW_BIN},
                                    {0}};
static const struct word keeps[] = {{"keep=none", KITH_HNSW_KEEP_NONE},
                                    {"keep=residual", KITH_HNSW_KEEP_RESIDUAL},
                                    {"keep=f16", KITH_HNSW_KEEP_F16},
                                    {"keep=f32", KITH_HNSW_KEEP_F32},
                                    {0}};
static const struct word metrics[] = {
    {"metric=cosine", BENCH_COSINE}, {"metric=ip", BENCH_INNER_PRODUCT}, {"metric=l2", BENCH_L2}, {0}};
static const struct word layouts[] = {
    {"layout=compact", KITH_HNSW_COMPACT}, {"layout=spread", KITH_HNSW_SPREAD}, {0}};

static bool is_one_of(const struct word *words, const char *argument, int *number)
{
    for (; words->word; words++) {
        if (strcmp(words->word, argument) == 0) {
            *number = words->number;
            return true;
        }
    }
    return false;
}

static bool read_option(struct churn *c, const char *argument)
{
    int number;
    if (is_one_of(codes, argument, &number))
        c->options.codes = (enum kith_hnsw_codes)number;
    else if (is_one_of(keeps, argument, &number))
        c->options.keep = (enum kith_hnsw_keep)number;
    else if (is_one_of(layouts, argument, &number))
        c->options.layout = (enum kith_hnsw_layout)number;
    else if (is_one_of(metrics, argument, &number))
        c->metric = (enum bench_metric)number;
    else
        return false;
    static const enum kith_hnsw_metric of[] = {KITH_HNSW_COSINE, KITH_HNSW_INNER_PRODUCT, KITH_HNSW_L2SQ};
    c->options.metric = of[c->metric];
    return true;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s FOLDER SET [steps=10] [fresh=1] [rows=0] [queries=2000] [codes=] [keep=] [metric=] "
            "[layout=]\n",
            program);
    return SKIPPED;
}

int main(int argc, char **argv)
{
    struct churn c = {.steps = 10,
                      .metric = BENCH_COSINE,
                      .options = {.codes = KITH_HNSW_I8, .metric = KITH_HNSW_COSINE, .seed = 42}};
    uint32_t rows = 0, queries = 2000, number;
    bool fresh = true;
    if (argc < 3)
        return usage(argv[0]);
    for (int i = 3; i < argc; i++) {
        if (sscanf(argv[i], "steps=%u", &number) == 1)
            c.steps = number ? number : 1;
        else if (sscanf(argv[i], "fresh=%u", &number) == 1)
            fresh = number;
        else if (sscanf(argv[i], "rows=%u", &rows) != 1 && sscanf(argv[i], "queries=%u", &queries) != 1 &&
                 !read_option(&c, argv[i]))
            return usage(argv[0]);
    }
    if (!matrix_load(&c.base, argv[1], argv[2], "base", rows) ||
        !matrix_load(&c.queries, argv[1], argv[2], "query", queries)) {
        fprintf(stderr, "no data: %s/%s.*.u8bin.gz\n", argv[1], argv[2]);
        return SKIPPED;
    }
    if (c.metric == BENCH_COSINE) {
        matrix_normalise(&c.base);
        matrix_normalise(&c.queries);
    }
    c.options.dim = c.base.dim;
    c.part = c.base.rows / (c.steps + 1);
    c.bounds = calloc(c.queries.rows, sizeof *c.bounds);
    c.live = calloc(c.base.rows, 1);
    c.order = malloc(c.base.rows * sizeof *c.order);
    c.slot_of_row = malloc(c.base.rows * sizeof *c.slot_of_row);
    if (!c.bounds || !c.live || !c.order || !c.slot_of_row)
        return 1;
    memset(c.slot_of_row, 0xff, c.base.rows * sizeof *c.slot_of_row); /* resident from the start */
    shuffle(&c);
    run(&c, fresh);
    matrix_fini(&c.base);
    matrix_fini(&c.queries);
    free(c.bounds);
    free(c.live);
    free(c.order);
    free(c.slot_of_row);
    return 0;
}
