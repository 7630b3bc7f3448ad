/* Random signs and Walsh-Hadamard transforms in turn: see rotation.h for the drawing. */
#include "vec/rotation.h"

#include "base/random.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WHOLE_STEPS = 3, PAIRED_STEPS = 4 };

struct kith_rotation {
    const struct kith_kernels *kernels;
    uint32_t dim, window, steps, words; /* window: 2^log2_window; words: of signs, a step */
    unsigned log2_window;
    float factor;
    uint32_t signs[];
};

int kith_rotation_open(struct kith_rotation **out, uint32_t dim, uint64_t seed,
                       const struct kith_kernels *kernels)
{
    if (dim == 0 || dim > KITH_ROTATION_DIM_MAX)
        return KITH_EINVAL;
    unsigned log2_window = 31u - (unsigned)__builtin_clz(dim);
    uint32_t steps = 1u << log2_window == dim ? WHOLE_STEPS : PAIRED_STEPS, words = (dim + 31) / 32;
    struct kith_rotation *r = malloc(sizeof *r + sizeof *r->signs * steps * words);
    if (!r)
        return KITH_ENOMEM;
    *r = (struct kith_rotation){.kernels = kernels,
                                .dim = dim,
                                .window = 1u << log2_window,
                                .steps = steps,
                                .words = words,
                                .log2_window = log2_window,
                                .factor = (float)(1 / sqrt((double)(1u << log2_window)))};
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    for (uint32_t i = 0; i < steps * words; i++)
        r->signs[i] = (uint32_t)(kith_rng_next(&rng) >> 32);
    *out = r;
    return KITH_OK;
}

void kith_rotation_close(struct kith_rotation *r)
{
    free(r);
}

size_t kith_rotation_bytes(const struct kith_rotation *r)
{
    return sizeof *r + sizeof *r->signs * r->steps * r->words;
}

static void flip(const struct kith_rotation *r, uint32_t step, float *x)
{
    r->kernels->flip_signs(x, r->signs + (size_t)step * r->words, r->dim);
}

/* Even steps take the first dimensions, odd ones the last. */
static void transform(const struct kith_rotation *r, uint32_t step, float *x)
{
    r->kernels->hadamard(x + (step % 2 ? r->dim - r->window : 0), r->log2_window, r->factor);
}

/* With an odd dimension the one in the middle stays. */
static void turn_halves(const struct kith_rotation *r, uint32_t step, float *x)
{
    if (step % 2 && r->window != r->dim)
        r->kernels->butterfly(x, x + (r->dim + 1) / 2, r->dim / 2);
}

void kith_rotation_apply(const struct kith_rotation *r, const float *in, float *out)
{
    if (in != out)
        memcpy(out, in, r->dim * sizeof *out);
    for (uint32_t step = 0; step < r->steps; step++) {
        flip(r, step, out);
        transform(r, step, out);
        turn_halves(r, step, out);
    }
}

/* Each part is its own inverse. */
void kith_rotation_undo(const struct kith_rotation *r, const float *in, float *out)
{
    if (in != out)
        memcpy(out, in, r->dim * sizeof *out);
    for (uint32_t step = r->steps; step-- > 0;) {
        turn_halves(r, step, out);
        transform(r, step, out);
        flip(r, step, out);
    }
}
