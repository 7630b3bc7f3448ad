/* A small deterministic generator: xoshiro256** (Blackman & Vigna 2018), seeded through splitmix64. Not for
 * secrets. */
#ifndef KITH_BASE_RANDOM_H
#define KITH_BASE_RANDOM_H

#include "base/hash.h"

struct kith_rng {
    uint64_t s[4];
};

static inline uint64_t kith_splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline void kith_rng_seed(struct kith_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        rng->s[i] = kith_splitmix64(&seed);
}

static inline uint64_t kith_rng_next(struct kith_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = kith_rotl64(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = kith_rotl64(s[3], 45);
    return result;
}

/* Uniform in [0, bound), bound > 0 (Lemire 2019, without the rejection: the bias is below 2^-32 for bounds
 * below 2^32). */
static inline uint64_t kith_rng_below(struct kith_rng *rng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)kith_rng_next(rng) * bound) >> 64);
}

/* Uniform in [0, 1). */
static inline double kith_rng_unit(struct kith_rng *rng)
{
    return (double)(kith_rng_next(rng) >> 11) * 0x1.0p-53;
}

#endif
