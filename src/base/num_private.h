/* Inside of base/num*.c: the table that both directions multiply with. */
#ifndef KITH_BASE_NUM_PRIVATE_H
#define KITH_BASE_NUM_PRIVATE_H

#include <stdint.h>

#define KITH_NUM_POW10_FIRST (-342)
#define KITH_NUM_POW10_LAST  324

/* 10^k lies in [g, g + 1) * 2^(floor(log2 10^k) - 127) with g = [k - first][0] * 2^64 + [k - first][1]. */
extern const uint64_t kith_num_pow10[KITH_NUM_POW10_LAST - KITH_NUM_POW10_FIRST + 1][2];

/* floor(log2 10^k), for every k of the table (script/make-pow10 proves it). */
static inline int kith_num_log2_pow10(int k)
{
    return (k * 1741647) >> 19;
}

#endif
