/* Every SIMD kernel against its scalar reference: every length from 0 to 2,049, at aligned and unaligned addresses,
 * with nothing read behind the end (the vectors end where a page does that may not be read). */
#include "base/random.h"
#include "vec/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { LONGEST = 2049, PAGE = 4096, ROOM = 3 * PAGE, SEED = 7 };

/* Memory whose end may not be passed. */
struct fenced {
    uint8_t *start;
};

static struct fenced fenced_open(void)
{
    uint8_t *p = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + ROOM, PAGE, PROT_NONE), 0);
    return (struct fenced){p};
}

static void fenced_close(struct fenced f)
{
    munmap(f.start, ROOM + PAGE);
}

/* The last `bytes` bytes, or so many before that. */
static void *fenced_at(struct fenced f, size_t bytes, size_t before)
{
    return f.start + ROOM - bytes - before;
}

struct set {
    struct fenced q, v[4];
    struct kith_rng rng;
};

static const struct kith_kernels *forms[KITH_KERNEL_AVX512_BF16];
static size_t form_count;

static int setup(void **state)
{
    static struct set set;
    set.q = fenced_open();
    for (int k = 0; k < 4; k++)
        set.v[k] = fenced_open();
    printf("seed %d\n", SEED);
    kith_rng_seed(&set.rng, SEED);
    for (enum kith_kernel_level level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512_BF16; level++) {
        const struct kith_kernels *form = kith_kernels_at(level);
        if (form) {
            printf("kernels here: %s\n", form->name);
            forms[form_count++] = form;
        }
    }
    *state = &set;
    return 0;
}

static int teardown(void **state)
{
    struct set *set = *state;
    fenced_close(set->q);
    for (int k = 0; k < 4; k++)
        fenced_close(set->v[k]);
    return 0;
}

static void fill_floats(struct set *set, struct fenced f)
{
    float *p = (float *)f.start;
    for (size_t i = 0; i < ROOM / sizeof *p; i++)
        p[i] = (float)(kith_rng_unit(&set->rng) * 2 - 1);
}

static void fill_codes(struct set *set, struct fenced f)
{
    int8_t *p = (int8_t *)f.start;
    for (size_t i = 0; i < ROOM; i++)
        p[i] = (int8_t)((int)kith_rng_below(&set->rng, 255) - 127);
}

/* Sums in another order differ by no more than their rounding. */
static void assert_close(float a, float b, size_t dim)
{
    if (fabsf(a - b) > 1e-6f * (float)(dim + 8))
        fail_msg("%zu dimensions: %g is not %g", dim, (double)a, (double)b);
}

static void float_products_equal_the_reference(void **state)
{
    struct set *set = *state;
    const struct kith_kernels *reference = kith_kernels_at(KITH_KERNEL_SCALAR);
    fill_floats(set, set->q);
    for (int k = 0; k < 4; k++)
        fill_floats(set, set->v[k]);
    for (size_t dim = 0; dim <= LONGEST; dim++) {
        for (size_t before = 0; before < 64; before += dim < 200 ? 4 : 20) {
            const float *q = fenced_at(set->q, dim * 4, 0), *v[4];
            float out[4];
            for (size_t k = 0; k < 4; k++)
                v[k] = fenced_at(set->v[k], dim * 4, k ? before : 0);
            for (size_t f = 0; f < form_count; f++) {
                forms[f]->dot_f32_4(q, v, dim, out);
                for (int k = 0; k < 4; k++) {
                    float expected = reference->dot_f32(q, v[k], dim);
                    assert_close(out[k], expected, dim);
                    assert_close(forms[f]->dot_f32(v[k], q, dim), expected, dim);
                }
            }
        }
    }
}

static void byte_products_equal_the_reference(void **state)
{
    struct set *set = *state;
    const struct kith_kernels *reference = kith_kernels_at(KITH_KERNEL_SCALAR);
    fill_codes(set, set->q);
    for (int k = 0; k < 4; k++)
        fill_codes(set, set->v[k]);
    for (size_t dim = 0; dim <= LONGEST; dim++) {
        for (size_t before = 0; before < 64; before += dim < 200 ? 1 : 13) {
            const int8_t *q = fenced_at(set->q, dim, before / 2), *v[4];
            int32_t out[4];
            for (size_t k = 0; k < 4; k++)
                v[k] = fenced_at(set->v[k], dim, k ? before : 0);
            for (size_t f = 0; f < form_count; f++) {
                forms[f]->dot_i8_4(q, v, dim, out);
                for (int k = 0; k < 4; k++) {
                    int32_t expected = reference->dot_i8(q, v[k], dim);
                    assert_int_equal(out[k], expected);
                    assert_int_equal(forms[f]->dot_i8(v[k], q, dim), expected);
                }
            }
        }
    }
}

static void the_largest_byte_products_do_not_overflow(void **state)
{
    enum { DIM = 65536 };
    static int8_t low[DIM], high[DIM];
    memset(low, -127, sizeof low);
    memset(high, 127, sizeof high);
    const int8_t *v[4] = {low, high, low, high};
    for (size_t f = 0; f < form_count; f++) {
        int32_t out[4];
        forms[f]->dot_i8_4(high, v, DIM, out);
        assert_int_equal(out[0], -127 * 127 * DIM);
        assert_int_equal(out[1], 127 * 127 * DIM);
        assert_int_equal(forms[f]->dot_i8(low, low, DIM), 127 * 127 * DIM);
    }
}

static void products_of_floats_and_bytes_equal_the_reference(void **state)
{
    struct set *set = *state;
    const struct kith_kernels *reference = kith_kernels_at(KITH_KERNEL_SCALAR);
    fill_floats(set, set->q);
    fill_codes(set, set->v[0]);
    for (size_t dim = 0; dim <= LONGEST; dim++) {
        for (size_t before = 0; before < 64; before += dim < 200 ? 3 : 17) {
            const float *q = fenced_at(set->q, dim * 4, before / 4 * 4);
            const int8_t *v = fenced_at(set->v[0], dim, before);
            float expected = reference->dot_f32_i8(q, v, dim);
            for (size_t f = 0; f < form_count; f++)
                assert_close(forms[f]->dot_f32_i8(q, v, dim) / 127, expected / 127, dim);
        }
    }
}

static void bit_counts_equal_the_reference(void **state)
{
    struct set *set = *state;
    const struct kith_kernels *reference = kith_kernels_at(KITH_KERNEL_SCALAR);
    fill_codes(set, set->q);
    for (int k = 0; k < 4; k++)
        fill_codes(set, set->v[k]);
    for (size_t bytes = 0; bytes <= LONGEST; bytes++) {
        for (size_t before = 0; before < 64; before += bytes < 200 ? 1 : 13) {
            const uint8_t *q = fenced_at(set->q, bytes, before / 2), *v[4];
            uint32_t out[4];
            for (size_t k = 0; k < 4; k++)
                v[k] = fenced_at(set->v[k], bytes, k ? before : 0);
            for (size_t f = 0; f < form_count; f++) {
                forms[f]->hamming_4(q, v, bytes, out);
                for (int k = 0; k < 4; k++) {
                    uint32_t expected = reference->hamming(q, v[k], bytes);
                    assert_int_equal(out[k], expected);
                    assert_int_equal(forms[f]->hamming(v[k], q, bytes), expected);
                }
            }
        }
    }
}

static void any_form_can_be_asked_for(void **state)
{
    assert_string_equal(kith_kernels_pick(KITH_KERNEL_SCALAR)->name, "scalar");
    assert_int_equal(kith_kernels_pick(KITH_KERNEL_BEST)->level, forms[form_count - 1]->level);
    for (size_t f = 0; f < form_count; f++)
        assert_ptr_equal(kith_kernels_pick(forms[f]->level), forms[f]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_products_equal_the_reference),
        cmocka_unit_test(byte_products_equal_the_reference),
        cmocka_unit_test(the_largest_byte_products_do_not_overflow),
        cmocka_unit_test(products_of_floats_and_bytes_equal_the_reference),
        cmocka_unit_test(bit_counts_equal_the_reference),
        cmocka_unit_test(any_form_can_be_asked_for),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
