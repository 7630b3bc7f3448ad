/* Packing and unpacking of values of a few bits, block by block. */
#include "vec/kernels_pack.h"

#include <string.h>

static inline size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void kith_pack_u4(const uint8_t *values, size_t dim, uint8_t *out)
{
    for (size_t at = 0; at < dim; at += 128) {
        size_t count = least(dim - at, 128), share = kith_u4_bytes(count);
        for (size_t j = 0; j < share; j++) {
            unsigned high = share + j < count ? values[at + share + j] : 8;
            out[at / 2 + j] = (uint8_t)(values[at + j] | high << 4);
        }
    }
}

void kith_unpack_u4(const uint8_t *packed, size_t dim, uint8_t *out)
{
    for (size_t at = 0; at < dim; at += 128) {
        size_t count = least(dim - at, 128), share = kith_u4_bytes(count);
        for (size_t j = 0; j < share; j++)
            out[at + j] = packed[at / 2 + j] & 15;
        for (size_t j = share; j < count; j++)
            out[at + j] = packed[at / 2 + j - share] >> 4;
    }
}

void kith_pack_u2(const uint8_t *values, size_t dim, uint8_t *out)
{
    memset(out, 0, kith_u2_bytes(dim));
    for (size_t at = 0; at < dim; at += 256) {
        size_t count = least(dim - at, 256), share = kith_u2_bytes(count);
        for (size_t j = 0; j < count; j++)
            out[at / 4 + j % share] |= (uint8_t)(values[at + j] << j / share * 2);
    }
}

void kith_unpack_u2(const uint8_t *packed, size_t dim, uint8_t *out)
{
    for (size_t at = 0; at < dim; at += 256) {
        size_t count = least(dim - at, 256), share = kith_u2_bytes(count);
        for (size_t j = 0; j < count; j++)
            out[at + j] = packed[at / 4 + j % share] >> j / share * 2 & 3;
    }
}

/* Bit 0 of each of the 8 bytes of x, as one byte: the product moves bit 8 i to bit 56 + i. */
static inline uint8_t gather_bits(uint64_t x)
{
    return (uint8_t)((x & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
}

void kith_pack_planes(const uint8_t *values, size_t dim, uint8_t *out)
{
    memset(out, 0, kith_planes_bytes(dim));
    for (size_t at = 0; at < dim; at += 8) {
        uint8_t eight[8] = {0};
        uint64_t word = 0;
        memcpy(eight, values + at, least(dim - at, 8));
        for (unsigned i = 0; i < 8; i++)
            word |= (uint64_t)eight[i] << 8 * i;
        for (unsigned plane = 0; plane < 4; plane++)
            out[at / 128 * 64 + plane * 16 + at / 8 % 16] = gather_bits(word >> plane);
    }
}
