/* Expiry, exact and in order of time: a tree per database whose items are (time, entry). Readers look at the
 * entry alone; the tree is for finding what has to go, and when the next one is due. */
#include "base/assert.h"
#include "engine/state.h"

/* Names, not addresses: keys of the same millisecond must leave in the same order on every replica. */
static int by_name(const void *a, const void *b, void *arg)
{
    (void)arg;
    return kith_slice_compare(kith_entry_key(a), kith_entry_key(b));
}

int kith_expiry_add(struct kith_db *db, int64_t when_ms, void *entry)
{
    if (!db->expiries) {
        int status = kith_avl_open(&db->expiries, by_name, NULL);
        if (status)
            return status;
    }
    return kith_avl_insert(db->expiries, kith_avl_key_from_int64(when_ms), entry);
}

void kith_expiry_drop(struct kith_db *db, int64_t when_ms, void *entry)
{
    int status = kith_avl_remove(db->expiries, kith_avl_key_from_int64(when_ms), entry);
    KITH_ASSERT(status == KITH_OK);
}

static size_t run_db(struct kith_db *db, int64_t now_ms, size_t budget)
{
    size_t removed = 0;
    while (removed < budget && kith_avl_count(db->expiries) > 0) {
        struct kith_avl_item item = kith_avl_item(db->expiries, kith_avl_first(db->expiries));
        if (kith_avl_key_to_int64(item.key) > now_ms)
            break;
        /* The finder removes it, and a running checkpoint gets it first. The name is read from the entry that
         * goes away: nothing uses it afterwards. */
        struct kith_key key;
        kith_db_find_for_write(db, kith_entry_key(item.ref), now_ms, &key);
        removed++;
    }
    return removed;
}

size_t kith_expiry_run(struct kith_engine *engine, int64_t now_ms, size_t budget)
{
    size_t removed = 0;
    for (uint32_t i = 0; i < engine->db_count && removed < budget; i++)
        if (engine->dbs[i].expiries)
            removed += run_db(&engine->dbs[i], now_ms, budget - removed);
    return removed;
}
