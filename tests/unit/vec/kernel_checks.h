/* What the tests of kernels share: vectors that end where a page does that may not be read, at every length and many
 * addresses, for every form that runs here. */
#ifndef TESTS_VEC_KERNEL_CHECKS_H
#define TESTS_VEC_KERNEL_CHECKS_H

#include "base/random.h"
#include "vec/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { LONGEST = 2049, MOST = 65536, PAGE = 65536, ROOM = 4 * MOST + PAGE, SEED = 7 };

/* q and the four v: memory whose end may not be passed. */
struct set {
    uint8_t *q, *v[4];
    struct kith_rng rng;
    const struct kith_kernels *forms[KITH_KERNEL_AVX512_BF16], *reference;
    size_t form_count;
};

static inline uint8_t *fenced_open(void)
{
    uint8_t *p = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + ROOM, PAGE, PROT_NONE), 0);
    return p;
}

static inline int set_open(void **state)
{
    static struct set set;
    set.q = fenced_open();
    for (int k = 0; k < 4; k++)
        set.v[k] = fenced_open();
    printf("seed %d\n", SEED);
    kith_rng_seed(&set.rng, SEED);
    set.reference = kith_kernels_at(KITH_KERNEL_SCALAR);
    for (enum kith_kernel_level level = KITH_KERNEL_SCALAR; level <= KITH_KERNEL_AVX512_BF16; level++) {
        const struct kith_kernels *form = kith_kernels_at(level);
        if (form) {
            printf("kernels here: %s\n", form->name);
            set.forms[set.form_count++] = form;
        }
    }
    *state = &set;
    return 0;
}

static inline int set_close(void **state)
{
    struct set *set = *state;
    munmap(set->q, ROOM + PAGE);
    for (int k = 0; k < 4; k++)
        munmap(set->v[k], ROOM + PAGE);
    return 0;
}

/* One comparison of a form with the reference. */
typedef void check(struct set *set, const struct kith_kernels *form, const void *q, const void *const v[4],
                   size_t dim);

/* How many bytes so many dimensions have, and what the address must be a multiple of. */
struct shape {
    size_t (*bytes)(size_t dim);
    size_t alignment;
};

static inline void check_length(struct set *set, struct shape q, struct shape v, size_t dim, size_t step,
                                check *compare)
{
    for (size_t before = 0; before < 64; before += step) {
        const uint8_t *at_q = set->q + ROOM - q.bytes(dim) - before / 2 / q.alignment * q.alignment;
        const void *at_v[4];
        for (size_t k = 0; k < 4; k++)
            at_v[k] = set->v[k] + ROOM - v.bytes(dim) - (k ? before / v.alignment * v.alignment : 0);
        for (size_t f = 0; f < set->form_count; f++)
            compare(set, set->forms[f], at_q, at_v, dim);
    }
}

/* Every length from 0 to LONGEST, and some up to MOST, at many addresses; short ones at all 64. */
static inline void check_all(struct set *set, struct shape q, struct shape v, check *compare)
{
    static const size_t more[] = {4095, 10001, 65535, 65536};
    for (size_t dim = 0; dim <= LONGEST; dim++)
        check_length(set, q, v, dim, dim < 66 ? 1 : dim < 300 ? 7 : 31, compare);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        check_length(set, q, v, more[i], 37, compare);
}

/* ---- contents ---- */

static inline void fill_floats(struct set *set, uint8_t *memory)
{
    float *p = (float *)memory;
    for (size_t i = 0; i < ROOM / sizeof *p; i++)
        p[i] = (float)(kith_rng_unit(&set->rng) * 2 - 1);
}

static inline void fill_i8(struct set *set, uint8_t *memory)
{
    for (size_t i = 0; i < ROOM; i++)
        memory[i] = (uint8_t)((int)kith_rng_below(&set->rng, 255) - 127);
}

static inline void fill_bytes(struct set *set, uint8_t *memory)
{
    for (size_t i = 0; i < ROOM; i++)
        memory[i] = (uint8_t)kith_rng_below(&set->rng, 256);
}

static inline void fill_all(struct set *set, void (*fill_q)(struct set *, uint8_t *),
                            void (*fill_v)(struct set *, uint8_t *))
{
    fill_q(set, set->q);
    for (int k = 0; k < 4; k++)
        fill_v(set, set->v[k]);
}

/* ---- shapes ---- */

static inline size_t bytes_of_floats(size_t dim)
{
    return 4 * dim;
}

static inline size_t bytes_of_halves(size_t dim)
{
    return 2 * dim;
}

static inline size_t bytes_of_bytes(size_t dim)
{
    return dim;
}

#define FLOATS ((struct shape){bytes_of_floats, 4})
#define HALVES ((struct shape){bytes_of_halves, 2})
#define BYTES  ((struct shape){bytes_of_bytes, 1})

/* Sums of terms up to `term` in another order differ by no more than their rounding. */
static inline void assert_close(float a, float b, size_t dim, float term, const char *form)
{
    if (!(fabsf(a - b) <= 1e-6f * term * (float)(dim + 8)))
        fail_msg("%s, %zu dimensions: %g is not %g", form, dim, (double)a, (double)b);
}

static inline void assert_same(int64_t a, int64_t b, size_t dim, const char *form)
{
    if (a != b)
        fail_msg("%s, %zu dimensions: %lld is not %lld", form, dim, (long long)a, (long long)b);
}

#endif
