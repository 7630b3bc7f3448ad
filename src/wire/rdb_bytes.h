/* Integers of one to eight bytes out of bytes, in either order, whatever the machine's is. */
#ifndef KITH_WIRE_RDB_BYTES_H
#define KITH_WIRE_RDB_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Lowest byte first. width: 1 to 8. */
static inline uint64_t kith_rdb_le(const uint8_t *bytes, size_t width)
{
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* The same with a sign: the top bit of the last byte. */
static inline int64_t kith_rdb_le_signed(const uint8_t *bytes, size_t width)
{
    uint64_t sign = UINT64_C(1) << (8 * width - 1);
    return (int64_t)((kith_rdb_le(bytes, width) ^ sign) - sign);
}

/* Highest byte first. */
static inline uint64_t kith_rdb_be(const uint8_t *bytes, size_t width)
{
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

#endif
