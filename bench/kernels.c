/* Times every kernel at every level that runs here: ns a vector, and GB/s of what is read of the vectors. The vectors
 * lie in the second-level cache (512 KB of them), so that the kernel is what is timed; the CPU's clock counts, and the
 * best of several rounds.
 *
 *     bench/kernels [dims=128,768,784,1536] [level=0 (all)] [only=NAME]
 */
#include "vec/kernels.h"
#include "base/random.h"
#include "vec/kernels_pack.h"
#include "vec/rotation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROOM = 512 * 1024, DIM_MAX = 65536, ROUNDS = 7, LEVELS = KITH_KERNEL_AVX512_BF16 + 1, DIMS_MAX = 16 };

static const double round_seconds = 0.004;

struct task {
    const struct kith_kernels *kernels;
    const void *q, *v[4];
    void *work; /* DIM_MAX floats that may be written */
    size_t dim;
    const struct kith_rotation *rotation;
    union {
        float f[4];
        int32_t i[4];
        uint32_t u[4];
    } out;
};

/* Each does the work of four vectors. */
#define ONE(kernel, field, type, count)                                                                      \
    static void run_##kernel(struct task *t)                                                                 \
    {                                                                                                        \
        for (int k = 0; k < 4; k++)                                                                          \
            t->out.field[k] = t->kernels->kernel(t->q, t->v[k], count);                                      \
    }
#define FOUR(kernel, field, type, count)                                                                     \
    static void run_##kernel(struct task *t)                                                                 \
    {                                                                                                        \
        t->kernels->kernel(t->q, (const type *const *)t->v, count, t->out.field);                            \
    }

ONE(dot_f32, f, float, t->dim)
FOUR(dot_f32_4, f, float, t->dim)
ONE(l2sq_f32, f, float, t->dim)
FOUR(l2sq_f32_4, f, float, t->dim)
ONE(dot_f32_i8, f, int8_t, t->dim)
FOUR(dot_f32_i8_4, f, int8_t, t->dim)
ONE(dot_f32_f16, f, uint16_t, t->dim)
FOUR(dot_f32_f16_4, f, uint16_t, t->dim)
ONE(dot_f32_bf16, f, uint16_t, t->dim)
FOUR(dot_f32_bf16_4, f, uint16_t, t->dim)
ONE(dot_f16, f, uint16_t, t->dim)
FOUR(dot_f16_4, f, uint16_t, t->dim)
ONE(dot_bf16, f, uint16_t, t->dim)
FOUR(dot_bf16_4, f, uint16_t, t->dim)
ONE(dot_i8, i, int8_t, t->dim)
FOUR(dot_i8_4, i, int8_t, t->dim)
ONE(dot_i8_u4, i, uint8_t, t->dim)
FOUR(dot_i8_u4_4, i, uint8_t, t->dim)
ONE(dot_i8_u2, i, uint8_t, t->dim)
ONE(dot_u4, i, uint8_t, t->dim)
FOUR(dot_u4_4, i, uint8_t, t->dim)
ONE(hamming, u, uint8_t, (t->dim + 7) / 8)
FOUR(hamming_4, u, uint8_t, (t->dim + 7) / 8)
ONE(dot_planes, u, uint8_t, (t->dim + 7) / 8)
FOUR(dot_planes_4, u, uint8_t, (t->dim + 7) / 8)

#define CONVERT(kernel)                                                                                      \
    static void run_##kernel(struct task *t)                                                                 \
    {                                                                                                        \
        for (int k = 0; k < 4; k++)                                                                          \
            t->kernels->kernel(t->v[k], t->work, t->dim);                                                    \
    }

CONVERT(to_f16)
CONVERT(from_f16)
CONVERT(to_bf16)
CONVERT(from_bf16)

static void run_rotation(struct task *t)
{
    for (int k = 0; k < 4; k++)
        kith_rotation_apply(t->rotation, t->v[k], t->work);
}

static const struct test {
    const char *name;
    void (*run)(struct task *);
    unsigned bits; /* of a vector, a dimension */
} tests[] = {
    {"dot_f32", run_dot_f32, 32},
    {"dot_f32_4", run_dot_f32_4, 32},
    {"l2sq_f32", run_l2sq_f32, 32},
    {"l2sq_f32_4", run_l2sq_f32_4, 32},
    {"dot_f32_i8", run_dot_f32_i8, 8},
    {"dot_f32_i8_4", run_dot_f32_i8_4, 8},
    {"dot_f32_f16", run_dot_f32_f16, 16},
    {"dot_f32_f16_4", run_dot_f32_f16_4, 16},
    {"dot_f32_bf16", run_dot_f32_bf16, 16},
    {"dot_f32_bf16_4", run_dot_f32_bf16_4, 16},
    {"dot_f16", run_dot_f16, 16},
    {"dot_f16_4", run_dot_f16_4, 16},
    {"dot_bf16", run_dot_bf16, 16},
    {"dot_bf16_4", run_dot_bf16_4, 16},
    {"dot_i8", run_dot_i8, 8},
    {"dot_i8_4", run_dot_i8_4, 8},
    {"dot_i8_u4", run_dot_i8_u4, 4},
    {"dot_i8_u4_4", run_dot_i8_u4_4, 4},
    {"dot_i8_u2", run_dot_i8_u2, 2},
    {"dot_u4", run_dot_u4, 4},
    {"dot_u4_4", run_dot_u4_4, 4},
    {"hamming", run_hamming, 1},
    {"hamming_4", run_hamming_4, 1},
    {"dot_planes", run_dot_planes, 1},
    {"dot_planes_4", run_dot_planes_4, 1},
    {"to_f16", run_to_f16, 32},
    {"from_f16", run_from_f16, 16},
    {"to_bf16", run_to_bf16, 32},
    {"from_bf16", run_from_bf16, 16},
    {"rotation", run_rotation, 32},
};
enum { TESTS = sizeof tests / sizeof *tests };

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ns a vector in one round of about round_seconds. */
static double time_once(const struct test *test, struct task *t, const uint8_t *vectors, size_t stride)
{
    size_t count = ROOM / stride, calls = 0, at = 0;
    double start = cpu_seconds(), passed = 0;
    do {
        for (int batch = 0; batch < 64; batch++, calls++) {
            for (size_t k = 0; k < 4; k++) { /* not in order: the next line is not fetched by itself */
                t->v[k] = vectors + at * stride;
                at += 3;
                at -= at < count ? 0 : count;
            }
            test->run(t);
        }
    } while ((passed = cpu_seconds() - start) < round_seconds);
    return passed * 1e9 / (double)(calls * 4);
}

static void time_all(const char *only, int level_only, const size_t *dims, size_t dim_count)
{
    uint8_t *vectors = aligned_alloc(64, ROOM + 4 * DIM_MAX), *q = aligned_alloc(64, 4 * DIM_MAX);
    void *work = aligned_alloc(64, 4 * DIM_MAX);
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    if (!vectors || !q || !work)
        exit(1);
    /* Small floats in any form, and bytes in [-127, 127]. */
    for (size_t i = 0; i < ROOM + 4 * DIM_MAX; i++)
        vectors[i] = (uint8_t)(kith_rng_below(&rng, 60) + 1);
    for (size_t i = 0; i < 4 * DIM_MAX; i++)
        q[i] = (uint8_t)(kith_rng_below(&rng, 60) + 1);
    for (size_t i = 0; i < TESTS; i++) {
        if (only && strcmp(only, tests[i].name) != 0)
            continue;
        for (int level = 1; level < LEVELS; level++) {
            const struct kith_kernels *kernels = kith_kernels_at((enum kith_kernel_level)level);
            if (!kernels || (level_only && level_only != level))
                continue;
            printf("| %s | %s |", tests[i].name, kernels->name);
            for (size_t d = 0; d < dim_count; d++) {
                struct task t = {.kernels = kernels, .q = q, .work = work, .dim = dims[d]};
                struct kith_rotation *rotation;
                if (kith_rotation_open(&rotation, (uint32_t)dims[d], 1, kernels) != 0)
                    exit(1);
                t.rotation = rotation;
                size_t bytes = (dims[d] * tests[i].bits + 7) / 8, stride = (bytes + 63) / 64 * 64;
                double best = 1e18;
                for (int round = 0; round < ROUNDS; round++) {
                    double ns = time_once(&tests[i], &t, vectors, stride);
                    best = ns < best ? ns : best;
                }
                printf(" %.1f (%.0f) |", best, (double)bytes / best);
                kith_rotation_close(rotation);
            }
            printf("\n");
            fflush(stdout);
        }
    }
    free(vectors);
    free(q);
    free(work);
}

int main(int argc, char **argv)
{
    size_t dims[DIMS_MAX] = {128, 768, 784, 1536}, dim_count = 4;
    const char *only = NULL;
    int level = 0;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "dims=", 5)) {
            dim_count = 0;
            for (char *p = argv[i] + 5; *p && dim_count < DIMS_MAX; p += *p == ',')
                dims[dim_count++] = strtoul(p, &p, 10);
        } else if (!strncmp(argv[i], "level=", 6)) {
            level = atoi(argv[i] + 6);
        } else if (!strncmp(argv[i], "only=", 5)) {
            only = argv[i] + 5;
        } else {
            fprintf(stderr, "bench/kernels [dims=128,768,784,1536] [level=0] [only=NAME]\n");
            return 2;
        }
    }
    for (size_t d = 0; d < dim_count; d++) {
        if (dims[d] < 1 || dims[d] > DIM_MAX) {
            fprintf(stderr, "a vector has 1 to %d dimensions\n", DIM_MAX);
            return 2;
        }
    }
    printf("ns a vector (GB/s)\n\n| kernel | level |");
    for (size_t d = 0; d < dim_count; d++)
        printf(" %zu |", dims[d]);
    printf("\n|---|---|");
    for (size_t d = 0; d < dim_count; d++)
        printf("---|");
    printf("\n");
    time_all(only, level, dims, dim_count);
    return 0;
}
