/* The engine's own limits. What the configuration can change is in net and prog; these are part of the data
 * model and the same on every node, because they decide what an entry of the log does. */
#ifndef KITH_ENGINE_LIMITS_H
#define KITH_ENGINE_LIMITS_H

#include <stdint.h>

/* Bytes of one string: Redis's default of proto-max-bulk-len. */
#define KITH_STRING_BYTES_MAX (UINT64_C(512) << 20)

/* A small hash or sorted set is one packed run of bytes up to these, and a table (and tree) beyond. */
#define KITH_PACKED_ENTRIES_MAX 128 /* hash-max-listpack-entries, zset-max-listpack-entries */
#define KITH_PACKED_VALUE_MAX   64  /* bytes of one field, value or member */

/* How many random elements, with repetition, one command returns at most (HRANDFIELD, ZRANDMEMBER,
 * VRANDMEMBER with a negative count): the reply is built in memory. */
#define KITH_RANDOM_REPEATS_MAX (INT64_C(16) << 20)

#endif
