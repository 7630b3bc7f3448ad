/* The list of value types. A new type is one line in `types`. */
#include "engine/hash.h"
#include "engine/keyspace.h"
#include "engine/zset.h"

static const struct kith_type_ops *const types[] = {
    [KITH_STRING] = NULL,
    [KITH_HASH] = &kith_hash_ops,
    [KITH_ZSET] = &kith_zset_ops,
};

const struct kith_type_ops *kith_type_ops(enum kith_type type)
{
    return (size_t)type < sizeof types / sizeof types[0] ? types[type] : NULL;
}
