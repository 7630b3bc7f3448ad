/* The engine's share of INFO. */
#include "engine/state.h"

static bool wants(const char *section, const char *name)
{
    return !section || strcasecmp(section, name) == 0;
}

static void keyspace_section(const struct kith_engine *engine, struct kith_buf *out)
{
    kith_buf_append_text(out, "# Keyspace\r\n");
    for (uint32_t i = 0; i < engine->db_count; i++) {
        const struct kith_db *db = &engine->dbs[i];
        if (kith_db_count(db) == 0)
            continue;
        int64_t total_ms = 0;
        size_t expiring = kith_db_expiry_count(db);
        if (expiring) {
            /* The middle key stands for the average: exact would be a walk. */
            struct kith_avl_cursor middle = kith_avl_select(db->expiries, expiring / 2);
            total_ms = kith_avl_key_to_int64(kith_avl_item(db->expiries, middle).key) - engine->now_ms;
        }
        kith_buf_append_format(out, "db%u:keys=%zu,expires=%zu,avg_ttl=%lld\r\n", i, kith_db_count(db),
                               expiring, (long long)(total_ms > 0 ? total_ms : 0));
    }
}

static void stats_section(const struct kith_engine *engine, struct kith_buf *out)
{
    kith_buf_append_format(out, "keyspace_hits:%llu\r\nkeyspace_misses:%llu\r\nexpired_keys:%llu\r\n",
                           (unsigned long long)engine->hit_count, (unsigned long long)engine->miss_count,
                           (unsigned long long)engine->expired_count);
}

static void vectors_section(const struct kith_engine *engine, struct kith_buf *out)
{
    const struct kith_background *background = &engine->background;
    kith_buf_append_format(out,
                           "# Vectors\r\nvector_tasks_running:%zu\r\nvectors_unlinked:%zu\r\n"
                           "vectors_linked_since_checkpoint:%llu\r\n",
                           background->busy_count, background->unlinked_count,
                           (unsigned long long)background->links_unsaved);
}

void kith_engine_info(struct kith_engine *engine, const char *section, struct kith_buf *out)
{
    if (wants(section, "stats"))
        stats_section(engine, out);
    if (wants(section, "keyspace"))
        keyspace_section(engine, out);
    if (wants(section, "vectors"))
        vectors_section(engine, out);
}
