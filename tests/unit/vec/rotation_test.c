/* A rotation keeps lengths and products, comes back, spreads what is spiky, and is the same everywhere. */
#include "base/random.h"
#include "base/status.h"
#include "failing_malloc.h"
#include "vec/rotation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEED = 11 };

static const uint32_t dims[] = {1,    2,    3,    4,    5,    7,    8,     15,    16,    17,
                                31,   33,   63,   64,   65,   100,  127,   128,   129,   200,
                                255,  384,  768,  784,  960,  1000, 1023,  1024,  1025,  1536,
                                2047, 2048, 2049, 3072, 4095, 4097, 10000, 32767, 65535, 65536};
enum { DIMS = sizeof dims / sizeof *dims };

static struct kith_rotation *rotation_of(uint32_t dim, uint64_t seed)
{
    struct kith_rotation *r;
    assert_int_equal(kith_rotation_open(&r, dim, seed, kith_kernels_pick(KITH_KERNEL_BEST)), KITH_OK);
    return r;
}

static float *random_vector(struct kith_rng *rng, uint32_t dim)
{
    float *v = malloc(dim * sizeof *v);
    assert_non_null(v);
    for (uint32_t i = 0; i < dim; i++)
        v[i] = (float)(kith_rng_unit(rng) * 2 - 1);
    return v;
}

static double product(const float *a, const float *b, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static void lengths_and_products_stay(void **state)
{
    struct kith_rng rng;
    printf("seed %d\n", SEED);
    kith_rng_seed(&rng, SEED);
    for (size_t i = 0; i < DIMS; i++) {
        uint32_t dim = dims[i];
        struct kith_rotation *r = rotation_of(dim, i);
        float *a = random_vector(&rng, dim), *b = random_vector(&rng, dim);
        double length = sqrt(product(a, a, dim)), other = sqrt(product(b, b, dim)),
               before = product(a, b, dim);
        kith_rotation_apply(r, a, a);
        kith_rotation_apply(r, b, b);
        assert_true(fabs(sqrt(product(a, a, dim)) / length - 1) < 1e-5);
        assert_true(fabs(product(a, b, dim) - before) < 1e-5 * length * other);
        free(a);
        free(b);
        kith_rotation_close(r);
    }
}

static void what_is_rotated_comes_back(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, SEED);
    for (size_t i = 0; i < DIMS; i++) {
        uint32_t dim = dims[i];
        struct kith_rotation *r = rotation_of(dim, i);
        float *a = random_vector(&rng, dim), *b = random_vector(&rng, dim);
        kith_rotation_apply(r, a, b);
        kith_rotation_undo(r, b, b);
        for (uint32_t d = 0; d < dim; d++)
            assert_true(fabsf(a[d] - b[d]) < 1e-5f);
        free(a);
        free(b);
        kith_rotation_close(r);
    }
}

/* One dimension alone becomes all of them: none keeps much, each half gets its part. */
static void a_spike_is_spread_over_all_dimensions(void **state)
{
    for (size_t i = 0; i < DIMS; i++) {
        uint32_t dim = dims[i];
        if (dim < 64)
            continue;
        struct kith_rotation *r = rotation_of(dim, i);
        float *v = malloc(dim * sizeof *v);
        assert_non_null(v);
        uint32_t spikes[] = {0, 1, dim / 3, dim / 2 - 1, dim / 2, dim - 2, dim - 1};
        for (size_t s = 0; s < sizeof spikes / sizeof *spikes; s++) {
            memset(v, 0, dim * sizeof *v);
            v[spikes[s]] = 1;
            kith_rotation_apply(r, v, v);
            float most = 0;
            for (uint32_t d = 0; d < dim; d++)
                most = fmaxf(most, fabsf(v[d]));
            if (most > 7 / sqrtf((float)dim))
                fail_msg("%u dimensions, spike at %u: %g remains", dim, spikes[s], (double)most);
            double low = product(v, v, dim / 2);
            if (low < 0.2 || low > 0.8)
                fail_msg("%u dimensions, spike at %u: %g in the lower half", dim, spikes[s], low);
        }
        free(v);
        kith_rotation_close(r);
    }
}

/* What two spikes become has no likeness left: products are near 0, and so are those with another seed's. */
static void seeds_give_rotations_of_their_own(void **state)
{
    enum { DIM = 784 };
    struct kith_rotation *r = rotation_of(DIM, 1), *again = rotation_of(DIM, 1), *other = rotation_of(DIM, 2);
    float in[DIM] = {[5] = 1}, out[DIM], same[DIM], different[DIM];
    kith_rotation_apply(r, in, out);
    kith_rotation_apply(again, in, same);
    kith_rotation_apply(other, in, different);
    assert_memory_equal(out, same, sizeof out);
    assert_true(fabs(product(out, different, DIM)) < 0.2);
    kith_rotation_close(r);
    kith_rotation_close(again);
    kith_rotation_close(other);
}

static void every_kernel_level_rotates_to_the_same_bits(void **state)
{
    struct kith_rng rng;
    kith_rng_seed(&rng, SEED);
    for (size_t i = 0; i < DIMS; i++) {
        uint32_t dim = dims[i];
        float *in = random_vector(&rng, dim), *out = malloc(dim * sizeof *out),
              *first = malloc(dim * sizeof *out);
        assert_true(out && first);
        for (enum kith_kernel_level level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512_BF16; level++) {
            const struct kith_kernels *kernels = kith_kernels_at(level);
            struct kith_rotation *r;
            if (!kernels)
                continue;
            assert_int_equal(kith_rotation_open(&r, dim, SEED, kernels), KITH_OK);
            kith_rotation_apply(r, in, out);
            if (level == KITH_KERNEL_SCALAR)
                memcpy(first, out, dim * sizeof *out);
            assert_memory_equal(out, first, dim * sizeof *out);
            kith_rotation_close(r);
        }
        free(in);
        free(out);
        free(first);
    }
}

static void bad_dimensions_and_no_memory_are_refused(void **state)
{
    struct kith_rotation *r = NULL;
    const struct kith_kernels *kernels = kith_kernels_pick(KITH_KERNEL_BEST);
    assert_int_equal(kith_rotation_open(&r, 0, 1, kernels), KITH_EINVAL);
    assert_int_equal(kith_rotation_open(&r, KITH_ROTATION_DIM_MAX + 1, 1, kernels), KITH_EINVAL);
    failing_malloc_arm(0);
    int rc = kith_rotation_open(&r, 100, 1, kernels);
    assert_true(failing_malloc_disarm());
    assert_int_equal(rc, KITH_ENOMEM);
    assert_null(r);
    kith_rotation_close(NULL);
    r = rotation_of(100, 1);
    assert_true(kith_rotation_bytes(r) >= 4 * 100 / 8);
    kith_rotation_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_and_products_stay),
        cmocka_unit_test(what_is_rotated_comes_back),
        cmocka_unit_test(a_spike_is_spread_over_all_dimensions),
        cmocka_unit_test(seeds_give_rotations_of_their_own),
        cmocka_unit_test(every_kernel_level_rotates_to_the_same_bits),
        cmocka_unit_test(bad_dimensions_and_no_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
