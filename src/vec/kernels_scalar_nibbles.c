/* The reference for values of 4 and of 2 bits. A block's `share` is how many of its dimensions stand side by side in the
 * low bits of its bytes: 64, or what a shorter last block has. */
#include "vec/kernels_forms.h"
#include "vec/kernels_pack.h"

static inline int32_t block_u4(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32_t sum = 0;
    size_t share = kith_u4_bytes(dim);
    for (size_t j = 0; j < share; j++)
        sum += q[j] * (v[j] & 15);
    for (size_t j = share; j < dim; j++)
        sum += q[j] * (v[j - share] >> 4);
    return sum;
}

int32_t scalar_dot_i8_u4(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32_t sum = 0;
    for (; dim > 128; dim -= 128, q += 128, v += 64)
        sum += block_u4(q, v, 128);
    return sum + block_u4(q, v, dim);
}

void scalar_dot_i8_u4_4(const int8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_i8_u4(q, v[k], dim);
}

static inline int32_t block_u2(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32_t sum = 0;
    size_t share = kith_u2_bytes(dim);
    for (size_t j = 0; j < dim; j++)
        sum += q[j] * (v[j % share] >> j / share * 2 & 3);
    return sum;
}

int32_t scalar_dot_i8_u2(const int8_t *q, const uint8_t *v, size_t dim)
{
    int32_t sum = 0;
    for (; dim > 256; dim -= 256, q += 256, v += 64)
        sum += block_u2(q, v, 256);
    return sum + block_u2(q, v, dim);
}

int32_t scalar_dot_u4(const uint8_t *a, const uint8_t *b, size_t dim)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dim / 2; i++)
        sum += ((a[i] & 15) - 8) * ((b[i] & 15) - 8) + ((a[i] >> 4) - 8) * ((b[i] >> 4) - 8);
    if (dim % 2)
        sum += ((a[dim / 2] & 15) - 8) * ((b[dim / 2] & 15) - 8);
    return sum;
}

void scalar_dot_u4_4(const uint8_t *q, const uint8_t *const v[4], size_t dim, int32_t out[4])
{
    for (int k = 0; k < 4; k++)
        out[k] = scalar_dot_u4(q, v[k], dim);
}
