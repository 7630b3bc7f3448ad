/* The list of value types. A new type is one line in `types`. */
#include "base/num.h"
#include "base/status.h"
#include "engine/hash.h"
#include "engine/keyspace.h"
#include "engine/vset.h"
#include "engine/zset.h"

static const struct kith_type_ops *const types[] = {
    [KITH_STRING] = NULL,
    [KITH_HASH] = &kith_hash_ops,
    [KITH_ZSET] = &kith_zset_ops,
    [KITH_VSET] = &kith_vset_ops,
};

const struct kith_type_ops *kith_type_ops(enum kith_type type)
{
    return (size_t)type < sizeof types / sizeof types[0] ? types[type] : NULL;
}

const char *kith_type_name(enum kith_type type)
{
    const struct kith_type_ops *ops = kith_type_ops(type);
    return type == KITH_STRING ? "string" : ops ? ops->name : "unknown";
}

const char *kith_key_encoding(const struct kith_key *key)
{
    enum kith_type type = kith_key_type(key);
    if (type != KITH_STRING)
        return kith_type_ops(type)->encoding(kith_key_object(key));
    struct kith_slice value = kith_key_string(key);
    int64_t number;
    if (value.length <= 20 && kith_num_parse_int64(value, &number) == KITH_OK)
        return "int";
    return value.length <= 44 ? "embstr" : "raw";
}
