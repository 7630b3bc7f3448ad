/* CRC32C (Castagnoli), continued: kith_crc32c(kith_crc32c(s, a), b) is the sum of a and b seeded with s. A
 * seed other than 0 keeps a sum of zeros from being that of other zeros; callers seed with something of their
 * place. */
#ifndef KITH_STORE_CRC_H
#define KITH_STORE_CRC_H

#include <isa-l/crc.h>
#include <stddef.h>
#include <stdint.h>

static inline uint32_t kith_crc32c(uint32_t seed, const void *data, size_t length)
{
    uint32_t crc = ~seed;
    const char *p = data;
    for (; length > 1u << 30; p += 1u << 30, length -= 1u << 30) /* isa-l counts in int */
        crc = crc32_iscsi((unsigned char *)p, 1 << 30, crc);
    return ~crc32_iscsi((unsigned char *)p, (int)length, crc);
}

#endif
