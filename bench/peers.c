/* Kith's index beside other libraries', in one process and one thread: build time, resident bytes an element, recall
 * and queries a CPU second at several efforts, and the ratios to hnswlib at recall 0.95 and 0.99. The libraries take
 * turns at every effort and round, so that a slow spell of the machine hits all of them.
 *
 *     bench/peers FOLDER SET [metric=cosine|l2] [codes=i8|f32|f16|bf16|i4|bin] [keep=default|none|residual|f16|f32]
 *         [layout=compact|spread] [m=16] [efc=200] [rounds=5] [rows=0] [others=hnswlib[,faiss]] */
#include "data.h"
#include "peer.h"

#include "base/os.h"
#include "vec/hnsw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { K = 10, SKIPPED = 77, PEERS_MAX = 4, EFFORTS = 20 };

static const uint32_t efforts[EFFORTS] = {10, 12, 14, 16, 20,  24,  28,  32,  40,  48,
                                          56, 64, 80, 96, 128, 160, 200, 256, 400, 800};

struct result {
    double recall[EFFORTS], rate[EFFORTS]; /* queries a CPU second */
    double build_s, bytes;
};

struct comparison {
    struct matrix base, queries;
    float *bounds;
    enum bench_metric metric;
    struct kith_hnsw_options kith;
    unsigned rounds;
    bool with_hnswlib, with_faiss;
    const struct peer *peers[PEERS_MAX];
    void *indexes[PEERS_MAX];
    struct result results[PEERS_MAX];
    unsigned count;
};

/* ---- Kith as one of them ---- */

static struct kith_hnsw_options kith_options;

static void *kith_open(const struct peer_options *options)
{
    struct kith_hnsw *h;
    kith_options.dim = options->dim;
    kith_options.m = options->m;
    kith_options.ef_construction = options->ef_construction;
    kith_options.metric = options->l2 ? KITH_HNSW_L2SQ : KITH_HNSW_COSINE;
    return kith_hnsw_open(&h, &kith_options) == KITH_OK ? h : NULL;
}

static void kith_add(void *index, uint32_t row, const float *vector)
{
    uint32_t slot;
    if (kith_hnsw_add(index, vector, 0, row, &slot) != KITH_OK) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    kith_hnsw_work(index, 1, 0);
}

static void kith_finish(void *index)
{
    kith_hnsw_settle(index);
}

static uint32_t kith_search(void *index, const float *query, uint32_t ef, uint32_t k, uint32_t *rows)
{
    struct kith_hnsw_hit hits[K];
    struct kith_hnsw_query q = {.vector = query, .k = k, .ef = ef};
    int count = kith_hnsw_search(index, &q, hits, NULL);
    for (int i = 0; i < count; i++)
        rows[i] = (uint32_t)kith_hnsw_user(index, hits[i].slot);
    return count > 0 ? (uint32_t)count : 0;
}

static void kith_close(void *index)
{
    kith_hnsw_close(index);
}

static const struct peer peer_kith = {"kith",      kith_open,  kith_add, kith_finish,
                                      kith_search, kith_close, NULL};

/* ---- measuring ---- */

static double cpu_seconds(void)
{
    double user, system;
    kith_os_cpu_seconds(&user, &system);
    return user + system;
}

static double resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void build(struct comparison *c, unsigned i)
{
    const struct peer *peer = c->peers[i];
    struct peer_options options = {c->base.dim,           c->base.rows, c->kith.m, c->kith.ef_construction,
                                   c->metric == BENCH_L2, false};
    double bytes = resident_bytes(), cpu = cpu_seconds();
    void *index = c->indexes[i] = peer->open(&options);
    if (!index) {
        fprintf(stderr, "%s cannot be opened with these options\n", peer->name);
        exit(1);
    }
    for (uint32_t row = 0; row < c->base.rows; row++)
        peer->add(index, row, matrix_row(&c->base, row));
    if (peer->finish)
        peer->finish(index);
    c->results[i].build_s = cpu_seconds() - cpu;
    c->results[i].bytes = (resident_bytes() - bytes) / c->base.rows;
}

static void measure(struct comparison *c, unsigned i, unsigned effort)
{
    uint32_t right = 0;
    double cpu = cpu_seconds();
    static uint32_t rows[100000][K];
    static uint32_t counts[100000];
    for (uint32_t q = 0; q < c->queries.rows; q++)
        counts[q] =
            c->peers[i]->search(c->indexes[i], matrix_row(&c->queries, q), efforts[effort], K, rows[q]);
    cpu = cpu_seconds() - cpu;
    for (uint32_t q = 0; q < c->queries.rows; q++) {
        float bound = c->bounds[q] + bench_slack(c->metric, c->bounds[q]);
        for (uint32_t k = 0; k < counts[q]; k++)
            right += bench_distance(c->metric, matrix_row(&c->queries, q), matrix_row(&c->base, rows[q][k]),
                                    c->base.dim) <= bound;
    }
    double rate = c->queries.rows / cpu;
    c->results[i].recall[effort] = (double)right / K / c->queries.rows;
    if (rate > c->results[i].rate[effort])
        c->results[i].rate[effort] = rate;
}

/* On the straight line between two efforts, in the logarithm of the rate; 0: not reached. */
static double rate_at(const struct result *r, double recall)
{
    for (unsigned e = 0; e < EFFORTS; e++) {
        if (r->recall[e] < recall)
            continue;
        if (e == 0)
            return r->rate[0];
        double part = (recall - r->recall[e - 1]) / (r->recall[e] - r->recall[e - 1]);
        return exp(log(r->rate[e - 1]) + part * (log(r->rate[e]) - log(r->rate[e - 1])));
    }
    return 0;
}

static void print_results(const struct comparison *c)
{
    printf("%-12s %9s %7s  %8s", "", "build s", "ratio", "bytes");
    printf("  %9s %6s  %9s %6s  %9s %6s\n", "at 0.90", "ratio", "at 0.95", "ratio", "at 0.99", "ratio");
    for (unsigned i = 0; i < c->count; i++) {
        const struct result *r = &c->results[i], *one = &c->results[0];
        printf("%-12s %9.1f %7.2f  %8.0f", c->peers[i]->name, r->build_s, r->build_s / one->build_s,
               r->bytes);
        for (int k = 0; k < 3; k++) {
            double at = k == 0 ? 0.90 : k == 1 ? 0.95 : 0.99, rate = rate_at(r, at);
            printf("  %9.0f %6.2f", rate, rate / rate_at(one, at));
        }
        putchar('\n');
    }
    for (unsigned e = 0; e < EFFORTS; e++) {
        printf("ef %4u", efforts[e]);
        for (unsigned i = 0; i < c->count; i++)
            printf("   %s %.4f %8.0f", c->peers[i]->name, c->results[i].recall[e], c->results[i].rate[e]);
        putchar('\n');
    }
}

/* ---- options ---- */

static int choice(const char *value, const char *const *names, const int *numbers)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(value, names[i]))
            return numbers[i];
    fprintf(stderr, "unknown value %s\n", value);
    exit(1);
}

static void take_option(struct comparison *c, const char *arg, uint32_t *rows)
{
    const char *value = strchr(arg, '=');
    size_t length = value ? (size_t)(value++ - arg) : 0;
#define IS(name) (length == strlen(name) && !strncmp(arg, name, length))
    if (IS("metric"))
        c->metric =
            choice(value, (const char *const[]){"cosine", "l2", NULL}, (int[]){BENCH_COSINE, BENCH_L2});
    else if (IS("codes"))
        c->kith.codes = choice(
            value, (const char *const[]){"f32", "i8", "bin", "f16", "bf16", "i4", NULL},
            (int[]){KITH_HNSW_F32, KITH_HNSW_I8, KITH_HNSW_BIN, KITH_HNSW_F16, KITH_HNSW_BF16, KITH_HNSW_I4});
    else if (IS("keep"))
        c->kith.keep = choice(value, (const char *const[]){"default", "none", "residual", "f16", "f32", NULL},
                              (int[]){KITH_HNSW_KEEP_DEFAULT, KITH_HNSW_KEEP_NONE, KITH_HNSW_KEEP_RESIDUAL,
                                      KITH_HNSW_KEEP_F16, KITH_HNSW_KEEP_F32});
    else if (IS("layout"))
        c->kith.layout = choice(value, (const char *const[]){"compact", "spread", NULL},
                                (int[]){KITH_HNSW_COMPACT, KITH_HNSW_SPREAD});
    else if (IS("m"))
        c->kith.m = (uint32_t)atol(value);
    else if (IS("efc"))
        c->kith.ef_construction = (uint32_t)atol(value);
    else if (IS("rounds"))
        c->rounds = (unsigned)atol(value);
    else if (IS("rows"))
        *rows = (uint32_t)atol(value);
    else if (IS("others")) {
        c->with_hnswlib = strstr(value, "hnswlib");
        c->with_faiss = strstr(value, "faiss");
    } else
        fprintf(stderr, "unknown option %s\n", arg);
#undef IS
}

static void choose_peers(struct comparison *c)
{
    const struct peer *all[] = {c->with_hnswlib ? peer_hnswlib() : NULL, &peer_kith,
                                c->with_faiss ? peer_faiss_flat() : NULL,
                                c->with_faiss ? peer_faiss_sq8() : NULL};
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (all[i])
            c->peers[c->count++] = all[i];
}

int main(int argc, char **argv)
{
    static struct comparison c = {
        .kith = {.codes = KITH_HNSW_I8, .m = 16, .ef_construction = 200, .seed = 42},
        .rounds = 5,
        .with_hnswlib = true};
    uint32_t rows = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: %s FOLDER SET [key=value ...]\n", argv[0]);
        return SKIPPED;
    }
    for (int i = 3; i < argc; i++)
        take_option(&c, argv[i], &rows);
    if (!matrix_load(&c.base, argv[1], argv[2], "base", rows) ||
        !matrix_load(&c.queries, argv[1], argv[2], "query", 100000)) {
        fprintf(stderr, "no data: %s/%s.*\n", argv[1], argv[2]);
        return SKIPPED;
    }
    if (c.metric == BENCH_COSINE) {
        matrix_normalise(&c.base);
        matrix_normalise(&c.queries);
    }
    c.bounds = malloc(c.queries.rows * sizeof *c.bounds);
    bench_bounds(c.metric, &c.base, &c.queries, K, NULL, c.bounds);
    kith_options = c.kith;
    choose_peers(&c);
    for (unsigned i = 0; i < c.count; i++)
        build(&c, i);
    for (unsigned round = 0; round < c.rounds; round++)
        for (unsigned e = 0; e < EFFORTS; e++)
            for (unsigned i = 0; i < c.count; i++)
                measure(&c, i, e);
    print_results(&c);
    for (unsigned i = 0; i < c.count; i++)
        c.peers[i]->close(c.indexes[i]);
    matrix_fini(&c.base);
    matrix_fini(&c.queries);
    free(c.bounds);
    return 0;
}
