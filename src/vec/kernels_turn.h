/* The steps of a rotation for one SIMD level, in the compiler's own vectors: included by each level's file after TARGET
 * and TURN_WIDTH (floats in a register: 4, 8, 16) are defined. Sums are taken as the scalar form takes them, so that
 * the result has the same bits. Transforms inside a register come first, then two stages at a time, so that each pass
 * over memory does the work of two. */
#include <stddef.h>
#include <stdint.h>

typedef float turn_floats __attribute__((vector_size(4 * TURN_WIDTH), aligned(4), may_alias));
typedef int32_t turn_ints __attribute__((vector_size(4 * TURN_WIDTH)));

#define TURN_SIGN INT32_MIN

/* Adds each float to the one that stands `a -> its place with one bit changed` in order; the upper of the two is
 * subtracted instead. */
#define TURN_STAGE(x, order, signs)                                                                          \
    ((turn_floats)((turn_ints)(x) ^ (turn_ints)signs) + __builtin_shufflevector(x, x, TURN_UNPACK order))
#define TURN_UNPACK(...) __VA_ARGS__
#define TURN_N           TURN_SIGN

/* All stages inside a register. */
TARGET static inline turn_floats turn_inside(turn_floats x)
{
#if TURN_WIDTH == 4
    x = TURN_STAGE(x, (1, 0, 3, 2), ((turn_ints){0, TURN_N, 0, TURN_N}));
    x = TURN_STAGE(x, (2, 3, 0, 1), ((turn_ints){0, 0, TURN_N, TURN_N}));
#elif TURN_WIDTH == 8
    x = TURN_STAGE(x, (1, 0, 3, 2, 5, 4, 7, 6), ((turn_ints){0, TURN_N, 0, TURN_N, 0, TURN_N, 0, TURN_N}));
    x = TURN_STAGE(x, (2, 3, 0, 1, 6, 7, 4, 5), ((turn_ints){0, 0, TURN_N, TURN_N, 0, 0, TURN_N, TURN_N}));
    x = TURN_STAGE(x, (4, 5, 6, 7, 0, 1, 2, 3), ((turn_ints){0, 0, 0, 0, TURN_N, TURN_N, TURN_N, TURN_N}));
#else
    x = TURN_STAGE(x, (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14),
                   ((turn_ints){0, TURN_N, 0, TURN_N, 0, TURN_N, 0, TURN_N, 0, TURN_N, 0, TURN_N, 0, TURN_N,
                                0, TURN_N}));
    x = TURN_STAGE(x, (2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13),
                   ((turn_ints){0, 0, TURN_N, TURN_N, 0, 0, TURN_N, TURN_N, 0, 0, TURN_N, TURN_N, 0, 0,
                                TURN_N, TURN_N}));
    x = TURN_STAGE(x, (4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11),
                   ((turn_ints){0, 0, 0, 0, TURN_N, TURN_N, TURN_N, TURN_N, 0, 0, 0, 0, TURN_N, TURN_N,
                                TURN_N, TURN_N}));
    x = TURN_STAGE(x, (8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7),
                   ((turn_ints){0, 0, 0, 0, 0, 0, 0, 0, TURN_N, TURN_N, TURN_N, TURN_N, TURN_N, TURN_N,
                                TURN_N, TURN_N}));
#endif
    return x;
}

/* One stage: pairs that stand `half` apart. */
TARGET static inline void turn_pass2(float *x, size_t dim, size_t half, float factor)
{
    for (size_t i = 0; i < dim; i += 2 * half) {
        for (size_t j = i; j < i + half; j += TURN_WIDTH) {
            turn_floats *p = (turn_floats *)(x + j), *q = (turn_floats *)(x + j + half);
            turn_floats a = *p, b = *q;
            *p = (a + b) * factor;
            *q = (a - b) * factor;
        }
    }
}

/* Two stages: half and 2 half. */
TARGET static inline void turn_pass4(float *x, size_t dim, size_t half, float factor)
{
    for (size_t i = 0; i < dim; i += 4 * half) {
        for (size_t j = i; j < i + half; j += TURN_WIDTH) {
            turn_floats *p = (turn_floats *)(x + j), *q = (turn_floats *)(x + j + half);
            turn_floats *r = (turn_floats *)(x + j + 2 * half), *s = (turn_floats *)(x + j + 3 * half);
            turn_floats a = *p + *q, b = *p - *q, c = *r + *s, d = *r - *s;
            *p = (a + c) * factor;
            *q = (b + d) * factor;
            *r = (a - c) * factor;
            *s = (b - d) * factor;
        }
    }
}

TARGET static void turn_hadamard(float *x, unsigned log2_dim, float factor)
{
    size_t dim = (size_t)1 << log2_dim, half = TURN_WIDTH;
    if (dim < TURN_WIDTH) {
        scalar_hadamard(x, log2_dim, factor);
        return;
    }
    for (size_t i = 0; i < dim; i += TURN_WIDTH)
        *(turn_floats *)(x + i) = turn_inside(*(turn_floats *)(x + i)) * (dim == TURN_WIDTH ? factor : 1);
    if (__builtin_ctzll(dim / TURN_WIDTH) % 2) {
        turn_pass2(x, dim, half, 2 * half == dim ? factor : 1);
        half *= 2;
    }
    for (; half < dim; half *= 4)
        turn_pass4(x, dim, half, 4 * half == dim ? factor : 1);
}

TARGET static void turn_butterfly(float *x, float *y, size_t dim)
{
    const float turn = 0.70710678118654752440f;
    size_t i = 0;
    for (; i + TURN_WIDTH <= dim; i += TURN_WIDTH) {
        turn_floats *p = (turn_floats *)(x + i), *q = (turn_floats *)(y + i);
        turn_floats a = *p * turn, b = *q * turn;
        *p = a + b;
        *q = a - b;
    }
    scalar_butterfly(x + i, y + i, dim - i);
}
