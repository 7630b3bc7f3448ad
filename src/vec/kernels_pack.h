/* Values of a few bits to bytes and back, in the order that the kernels want (see kernels.h for the drawing). The two
 * directions are each other's inverse; nothing here is in a search's inner loop. */
#ifndef KITH_VEC_KERNELS_PACK_H
#define KITH_VEC_KERNELS_PACK_H

#include <stddef.h>
#include <stdint.h>

static inline size_t kith_u4_bytes(size_t dim)
{
    return (dim + 1) / 2;
}

static inline size_t kith_u2_bytes(size_t dim)
{
    return (dim + 3) / 4;
}

/* For the 4 planes of `dim` values. */
static inline size_t kith_planes_bytes(size_t dim)
{
    return (dim + 127) / 128 * 64;
}

/* values[0..dim), each 0 to 15, to out[0..kith_u4_bytes(dim)). What is left over in the last byte is 8, which is 0 in
 * dot_u4. */
void kith_pack_u4(const uint8_t *values, size_t dim, uint8_t *out);
void kith_unpack_u4(const uint8_t *packed, size_t dim, uint8_t *out);

/* values[0..dim), each 0 to 3, to out[0..kith_u2_bytes(dim)). What is left over is 0. */
void kith_pack_u2(const uint8_t *values, size_t dim, uint8_t *out);
void kith_unpack_u2(const uint8_t *packed, size_t dim, uint8_t *out);

/* values[0..dim), each 0 to 15, to out[0..kith_planes_bytes(dim)) for dot_planes; bit i of a plane (the lowest of
 * byte 0 first) is of dimension i, as in a code of bits. */
void kith_pack_planes(const uint8_t *values, size_t dim, uint8_t *out);

#endif
