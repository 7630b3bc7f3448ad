/* Random projection, see projection.h. */
#include "engine/projection.h"

#include "base/assert.h"
#include "base/random.h"
#include "base/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kith_projection {
    uint32_t input_dim, dim;
    uint32_t width; /* of the transform: input_dim up to the next power of two */
    float scale;
    uint64_t *signs; /* width bits: set where the component's sign is flipped */
    uint32_t rows[]; /* dim of them: which components of the transform are kept */
};

/* The first `dim` of a random permutation of all components. */
static int choose_rows(struct kith_projection *p, struct kith_rng *rng)
{
    uint32_t *all = malloc(p->width * sizeof *all);
    if (!all)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < p->width; i++)
        all[i] = i;
    for (uint32_t i = 0; i < p->dim; i++) {
        uint32_t j = i + (uint32_t)kith_rng_below(rng, p->width - i);
        p->rows[i] = all[j];
        all[j] = all[i];
    }
    free(all);
    return KITH_OK;
}

int kith_projection_open(struct kith_projection **out, uint32_t input_dim, uint32_t dim, uint64_t seed)
{
    KITH_ASSERT(dim >= 1 && dim <= input_dim);
    struct kith_projection *p = calloc(1, sizeof *p + dim * sizeof p->rows[0]);
    if (!p)
        return KITH_ENOMEM;
    p->input_dim = input_dim;
    p->dim = dim;
    for (p->width = 1; p->width < input_dim;)
        p->width *= 2;
    p->scale = 1 / sqrtf((float)dim);
    struct kith_rng rng;
    kith_rng_seed(&rng, seed);
    p->signs = malloc((p->width / 64 + 1) * sizeof *p->signs);
    if (!p->signs || choose_rows(p, &rng) != KITH_OK) {
        kith_projection_close(p);
        return KITH_ENOMEM;
    }
    for (uint32_t i = 0; i < p->width / 64 + 1; i++)
        p->signs[i] = kith_rng_next(&rng);
    *out = p;
    return KITH_OK;
}

void kith_projection_close(struct kith_projection *p)
{
    if (!p)
        return;
    free(p->signs);
    free(p);
}

/* The fast Walsh-Hadamard transform, in place. */
static void transform(float *v, uint32_t width)
{
    for (uint32_t half = 1; half < width; half *= 2)
        for (uint32_t block = 0; block < width; block += 2 * half)
            for (uint32_t i = block; i < block + half; i++) {
                float a = v[i], b = v[i + half];
                v[i] = a + b;
                v[i + half] = a - b;
            }
}

int kith_projection_apply(const struct kith_projection *p, const float *in, float *out)
{
    float *v = malloc(p->width * sizeof *v);
    if (!v)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < p->input_dim; i++)
        v[i] = p->signs[i / 64] >> i % 64 & 1 ? -in[i] : in[i];
    memset(v + p->input_dim, 0, (p->width - p->input_dim) * sizeof *v);
    transform(v, p->width);
    for (uint32_t i = 0; i < p->dim; i++)
        out[i] = v[p->rows[i]] * p->scale;
    free(v);
    return KITH_OK;
}

size_t kith_projection_bytes(const struct kith_projection *p)
{
    return p ? sizeof *p + p->dim * sizeof p->rows[0] + (p->width / 64 + 1) * sizeof *p->signs : 0;
}
