/* A number for the whole content, so that two engines can be compared without shipping their data. Sums make
 * it independent of order: tables of different seeds hold the same keys in different places. */
#include "base/varint.h"
#include "engine/state.h"

uint64_t kith_digest_bytes(uint64_t seed, struct kith_slice bytes)
{
    /* Fixed keys: this is for comparing, not for tables that clients fill. */
    struct kith_hash_seed keys = {0x6b6974682e646967ull ^ seed, 0x6573742e76312e30ull + seed};
    return kith_hash(keys, bytes.data, bytes.length);
}

struct digest {
    uint32_t db_index;
    uint64_t sum;
};

static void add_entry(void *arg, void *entry)
{
    struct digest *digest = arg;
    enum kith_type type = kith_keyspace_type(entry);
    uint64_t value = type == KITH_STRING ? kith_digest_bytes(0, kith_keyspace_string(entry))
                                         : kith_type_ops(type)->digest(kith_keyspace_object(entry));
    char header[21] = {(char)type};
    kith_put_u32(header + 1, digest->db_index);
    kith_put_u64(header + 5, (uint64_t)kith_keyspace_expiry(entry));
    kith_put_u64(header + 13, value);
    uint64_t name = kith_digest_bytes(1, kith_entry_key(entry));
    digest->sum += kith_digest_bytes(name, kith_slice(header, sizeof header));
}

uint64_t kith_engine_digest(struct kith_engine *engine)
{
    struct digest digest = {0};
    for (; digest.db_index < engine->db_count; digest.db_index++) {
        uint64_t cursor = 0;
        do
            cursor = kith_table_scan(engine->dbs[digest.db_index].table, cursor, add_entry, &digest);
        while (cursor);
    }
    return digest.sum + kith_requests_digest(&engine->requests) + kith_upstream_digest(&engine->upstream);
}
