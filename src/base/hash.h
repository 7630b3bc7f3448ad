/* Keyed hash for tables whose keys clients choose: SipHash-1-3 (Aumasson & Bernstein 2012, one compression
 * and three finalisation rounds, as in Rust's and Python's tables). Inline, because the call would cost more
 * than the rounds for short keys. */
#ifndef KITH_BASE_HASH_H
#define KITH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* 128 secret bits. A table's seed is drawn once per process and never shown to clients. */
struct kith_hash_seed {
    uint64_t k0, k1;
};

static inline uint64_t kith_rotl64(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

#define KITH_SIP_ROUND(v0, v1, v2, v3)                                                                       \
    do {                                                                                                     \
        v0 += v1;                                                                                            \
        v1 = kith_rotl64(v1, 13) ^ v0;                                                                       \
        v0 = kith_rotl64(v0, 32);                                                                            \
        v2 += v3;                                                                                            \
        v3 = kith_rotl64(v3, 16) ^ v2;                                                                       \
        v0 += v3;                                                                                            \
        v3 = kith_rotl64(v3, 21) ^ v0;                                                                       \
        v2 += v1;                                                                                            \
        v1 = kith_rotl64(v1, 17) ^ v2;                                                                       \
        v2 = kith_rotl64(v2, 32);                                                                            \
    } while (0)

static inline uint64_t kith_hash(struct kith_hash_seed seed, const void *data, size_t length)
{
    const uint8_t *p = data;
    uint64_t v0 = seed.k0 ^ 0x736f6d6570736575ull, v1 = seed.k1 ^ 0x646f72616e646f6dull;
    uint64_t v2 = seed.k0 ^ 0x6c7967656e657261ull, v3 = seed.k1 ^ 0x7465646279746573ull;
    size_t left = length;
    uint64_t word;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        v3 ^= word;
        KITH_SIP_ROUND(v0, v1, v2, v3);
        v0 ^= word;
    }
    word = (uint64_t)length << 56;
    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)p[i] << (8 * i);
    v3 ^= word;
    KITH_SIP_ROUND(v0, v1, v2, v3);
    v0 ^= word;
    v2 ^= 0xff;
    KITH_SIP_ROUND(v0, v1, v2, v3);
    KITH_SIP_ROUND(v0, v1, v2, v3);
    KITH_SIP_ROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

#endif
