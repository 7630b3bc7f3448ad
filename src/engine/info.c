/* The engine's share of INFO. */
#include "engine/state.h"

enum { SET_LINES = 16 }; /* the newest sets have a line each: INFO stays short */

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
    const struct kith_vset_totals *totals = kith_vset_get_totals(engine);
    kith_buf_append_format(out,
                           "# Vectors\r\nvector_sets:%llu\r\nvector_elements:%llu\r\nvector_bytes:%llu\r\n"
                           "vectors_unlinked:%llu\r\nvectors_deleted_awaiting_repair:%llu\r\n",
                           (unsigned long long)totals->sets, (unsigned long long)totals->elements,
                           (unsigned long long)totals->bytes, (unsigned long long)totals->unlinked,
                           (unsigned long long)totals->deleted);
    kith_buf_append_format(
        out,
        "vector_sets_with_work:%llu\r\nvector_sets_crowded:%llu\r\nvector_tasks_running:%zu\r\n"
        "vectors_linked_since_checkpoint:%llu\r\nvector_writers_held_ms:%u\r\n",
        (unsigned long long)totals->pending, (unsigned long long)totals->crowded, background->busy_count,
        (unsigned long long)background->links_unsaved, kith_engine_back_pressure_ms(engine));
    kith_vset_append_lines(engine, SET_LINES, out);
}

void kith_engine_get_counts(const struct kith_engine *engine, struct kith_engine_counts *out)
{
    const struct kith_vset_totals *totals = kith_vset_get_totals(engine);
    *out = (struct kith_engine_counts){
        .hits = engine->hit_count,
        .misses = engine->miss_count,
        .expired = engine->expired_count,
        .vector_sets = totals->sets,
        .vector_elements = totals->elements,
        .vector_bytes = totals->bytes,
        .vectors_unlinked = totals->unlinked,
        .vectors_deleted = totals->deleted,
        .vector_sets_pending = totals->pending,
        .vector_sets_crowded = totals->crowded,
        .vector_tasks = engine->background.busy_count,
        .links_unsaved = engine->background.links_unsaved,
        .writers_held_ms = kith_engine_back_pressure_ms(engine),
    };
}

bool kith_engine_get_keys(const struct kith_engine *engine, uint32_t db, size_t *keys, size_t *expiring)
{
    if (db >= engine->db_count)
        return false;
    *keys = kith_db_count(&engine->dbs[db]);
    *expiring = kith_db_expiry_count(&engine->dbs[db]);
    return true;
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
