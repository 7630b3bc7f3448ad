/* The end of a block of nibbles or quarters that no register fills: bytes [from, share) of a block of `dim` dimensions.
 * For the forms that have no masked loads. */
#ifndef KITH_VEC_KERNELS_REST_H
#define KITH_VEC_KERNELS_REST_H

#include <stddef.h>
#include <stdint.h>

static inline int32_t rest_u4(const int8_t *q, const uint8_t *v, size_t from, size_t share, size_t dim)
{
    int32_t sum = 0;
    for (size_t j = from; j < share; j++)
        sum += q[j] * (v[j] & 15);
    for (size_t j = from; j < dim - share; j++)
        sum += q[share + j] * (v[j] >> 4);
    return sum;
}

static inline int32_t rest_u2(const int8_t *q, const uint8_t *v, size_t from, size_t share, size_t dim)
{
    int32_t sum = 0;
    for (size_t part = 0, start = 0; part < 4 && start < dim; part++, start += share) {
        size_t end = dim - start < share ? dim - start : share;
        for (size_t j = from; j < end; j++)
            sum += q[start + j] * (v[j] >> 2 * part & 3);
    }
    return sum;
}

#endif
