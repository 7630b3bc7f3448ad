/* The table of types. The sources are the writers themselves: rdb.c and t_stream.c of Redis 2.4 to 8.0 and of Valkey 9;
 * a program holds a type's grammar and nothing else. */
#include "wire/rdb_types.h"

#define KEY(type, kind_, ops)                                                                                \
    {                                                                                                        \
        .name = (type), .program = (ops), .kind = (kind_)                                                    \
    }
#define PACKED(type, kind_, ops, form_, items)                                                               \
    {                                                                                                        \
        .name = (type), .program = (ops), .kind = (kind_), .form = (form_), .item_count = (items)            \
    }
#define HASH(ops)                      KEY("hash", KITH_RDB_HASH, ops)
#define ZSET(ops)                      KEY("zset", KITH_RDB_ZSET, ops)
#define OTHER(type, ops)               KEY(type, KITH_RDB_OTHER, ops)
#define HASH_PACKED(ops, form_, items) PACKED("hash", KITH_RDB_HASH, ops, form_, items)
#define ZSET_PACKED(ops, form_)        PACKED("zset", KITH_RDB_ZSET, ops, form_, 2)
#define MARK(ops)                                                                                            \
    {                                                                                                        \
        .program = (ops)                                                                                     \
    }

static const struct kith_rdb_type types[256] = {
    [0] = KEY("string", KITH_RDB_STRING, "Sv"),
    [1] = OTHER("list", "(s)X"),
    [2] = OTHER("set", "(s)X"),
    [3] = ZSET("B(SDCz)E"),
    [4] = HASH("B(SSf)E"),
    [5] = ZSET("B(Sdz)E"),
    [7] = OTHER("module", "li"),
    [9] = HASH_PACKED("SBpE", KITH_RDB_ZIPMAP, 2),
    [10] = OTHER("list", "sX"),
    [11] = OTHER("set", "sX"),
    [12] = ZSET_PACKED("SBpE", KITH_RDB_ZIPLIST),
    [13] = HASH_PACKED("SBpE", KITH_RDB_ZIPLIST, 2),
    [14] = OTHER("list", "(s)X"),
    [15] = OTHER("stream", "(ss)LLL(sLL(T8L)(s8(T)))X"),
    [16] = HASH_PACKED("SBpE", KITH_RDB_LISTPACK, 2),
    [17] = ZSET_PACKED("SBpE", KITH_RDB_LISTPACK),
    [18] = OTHER("list", "(Ls)X"),
    [19] = OTHER("stream", "(ss)LLLLLLLL(sLLL(T8L)(s8(T)))X"),
    [20] = OTHER("set", "sX"),
    [21] = OTHER("stream", "(ss)LLLLLLLL(sLLL(T8L)(s88(T)))X"),
    /* Hashes whose fields may have a time: before it (24: after the earliest of all), or as a third item. */
    [22] = HASH("B(lSSf)E"),
    [23] = HASH_PACKED("SBpE", KITH_RDB_LISTPACK, 3),
    [24] = HASH("8B(lSSf)E"),
    [25] = HASH_PACKED("8SBpE", KITH_RDB_LISTPACK, 3),

    [244] = MARK("LLL"),   /* a slot of a cluster: number, keys, keys that expire */
    [245] = MARK("So"),    /* a library of functions */
    [247] = MARK("lmLLM"), /* a module's own data: id, mark, when */
    [248] = MARK("L"),     /* seconds since the next key was used */
    [249] = MARK("1"),     /* how often it was */
    [250] = MARK("SSa"),
    [251] = MARK("LL"), /* keys of the database, and those that expire */
    [252] = MARK("x"),
    [253] = MARK("w"),
    [254] = MARK("lb"),
    [255] = MARK("Z"),
};

static const struct kith_rdb_type valkey_hash_2 = HASH("B(SStf)E");

const struct kith_rdb_type *kith_rdb_type_get(uint8_t byte, bool is_valkey)
{
    if (byte == 22 && is_valkey)
        return &valkey_hash_2;
    return types[byte].program ? &types[byte] : NULL;
}

void kith_rdb_module_name(uint64_t id, char name[KITH_RDB_TYPE_NAME])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (int i = 0; i < KITH_RDB_TYPE_NAME - 1; i++)
        name[i] = letters[id >> (58 - 6 * i) & 63];
    name[KITH_RDB_TYPE_NAME - 1] = '\0';
}
