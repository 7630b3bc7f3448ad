/* Sorted sets: a packed run while small; a table and an AVL tree over the same entries beyond. */
#include "engine/zset.h"

#include "base/assert.h"
#include "base/status.h"
#include "base/varint.h"
#include "ds/avl.h"
#include "ds/table.h"
#include "engine/limits.h"
#include "engine/table_save.h"
#include "engine/zset_internal.h"

#include <stdlib.h>

/* ---- entries of the table ---- */

double kith_zset_entry_score(const void *entry)
{
    double score;
    memcpy(&score, kith_entry_payload_const(entry), sizeof score);
    return score;
}

static void set_entry_score(void *entry, double score)
{
    memcpy(kith_entry_payload(entry), &score, sizeof score);
}

static int order_entries(const void *a, const void *b, void *arg)
{
    return kith_slice_compare(kith_entry_key(a), kith_entry_key(b));
}

void kith_zset_write_entry(struct kith_buf *part, const void *entry)
{
    double score = kith_zset_entry_score(entry);
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    kith_buf_append_u64(part, bits);
    kith_buf_append_slice(part, kith_entry_key(entry));
}

struct kith_zset *kith_zset_open(const struct kith_hash_seed *seed)
{
    struct kith_zset *zset = calloc(1, sizeof *zset);
    if (zset)
        zset->seed = seed;
    return zset;
}

void kith_zset_close(struct kith_zset *zset)
{
    if (!zset)
        return;
    kith_avl_close(zset->tree);
    kith_table_close(zset->table, NULL, NULL);
    free(zset->packed);
    free(zset);
}

size_t kith_zset_count(const struct kith_zset *zset)
{
    return zset->table ? kith_table_count(zset->table) : zset->packed_count;
}

bool kith_zset_is_packed(const struct kith_zset *zset)
{
    return !zset->table;
}

/* ---- packed ---- */

struct item {
    double score;
    struct kith_slice member;
    size_t offset, bytes; /* where it lies in the run */
    size_t rank;
};

static bool packed_next(const struct kith_zset *zset, size_t *at, struct item *item)
{
    if (*at >= zset->packed_bytes)
        return false;
    item->offset = *at;
    memcpy(&item->score, zset->packed + *at, sizeof item->score);
    *at += sizeof item->score;
    uint64_t length = 0;
    *at += kith_varint_get(zset->packed + *at, zset->packed_bytes - *at, &length);
    item->member = kith_slice(zset->packed + *at, (size_t)length);
    *at += (size_t)length;
    item->bytes = *at - item->offset;
    return true;
}

static bool packed_find(const struct kith_zset *zset, struct kith_slice member, struct item *item)
{
    size_t rank = 0;
    for (size_t at = 0; packed_next(zset, &at, item); rank++) {
        item->rank = rank;
        if (kith_slice_equal(item->member, member))
            return true;
    }
    return false;
}

static void packed_cut(struct kith_zset *zset, size_t offset, size_t bytes, size_t count)
{
    memmove(zset->packed + offset, zset->packed + offset + bytes, zset->packed_bytes - offset - bytes);
    zset->packed_bytes -= (uint32_t)bytes;
    zset->packed_count -= (uint32_t)count;
    if (!zset->packed_bytes) {
        free(zset->packed);
        zset->packed = NULL;
        return;
    }
    char *smaller = realloc(zset->packed, zset->packed_bytes);
    if (smaller)
        zset->packed = smaller;
}

/* Where (score, member) belongs. */
static size_t packed_place(const struct kith_zset *zset, struct kith_slice member, double score)
{
    struct item item;
    for (size_t at = 0; packed_next(zset, &at, &item);)
        if (item.score > score || (item.score == score && kith_slice_compare(item.member, member) > 0))
            return item.offset;
    return zset->packed_bytes;
}

static int packed_insert(struct kith_zset *zset, struct kith_slice member, double score)
{
    size_t bytes = sizeof score + kith_varint_size(member.length) + member.length;
    char *packed = realloc(zset->packed, zset->packed_bytes + bytes);
    if (!packed)
        return KITH_ENOMEM;
    zset->packed = packed;
    size_t offset = packed_place(zset, member, score);
    char *place = packed + offset;
    memmove(place + bytes, place, zset->packed_bytes - offset);
    memcpy(place, &score, sizeof score);
    place += sizeof score;
    place += kith_varint_put(place, member.length);
    if (member.length)
        memcpy(place, member.data, member.length);
    zset->packed_bytes += (uint32_t)bytes;
    zset->packed_count++;
    return KITH_OK;
}

static int packed_set(struct kith_zset *zset, struct kith_slice member, double score)
{
    struct item item;
    if (!packed_find(zset, member, &item))
        return packed_insert(zset, member, score) == KITH_OK ? 1 : KITH_ENOMEM;
    /* Insert the new one first: if that fails nothing has changed. The old one is then before or behind it.
     */
    if (packed_insert(zset, member, score) != KITH_OK)
        return KITH_ENOMEM;
    bool before = packed_find(zset, member, &item) && item.score == score;
    if (before) /* found the new one first: the old one is the next of this name */
        for (size_t at = item.offset + item.bytes; packed_next(zset, &at, &item);)
            if (kith_slice_equal(item.member, member))
                break;
    packed_cut(zset, item.offset, item.bytes, 1);
    return 0;
}

/* ---- table and tree ---- */

static int table_insert(struct kith_zset *zset, struct kith_slice member, double score, uint64_t hash)
{
    void *entry = kith_entry_open(zset->saving.epoch, member, sizeof score);
    if (!entry)
        return KITH_ENOMEM;
    set_entry_score(entry, score);
    if (kith_avl_insert(zset->tree, kith_avl_key_from_double(score), entry) != KITH_OK)
        goto fail;
    if (kith_table_insert(zset->table, entry, hash) != KITH_OK) {
        kith_avl_remove(zset->tree, kith_avl_key_from_double(score), entry);
        goto fail;
    }
    return 1;
fail:
    free(entry);
    return KITH_ENOMEM;
}

static int table_set(struct kith_zset *zset, struct kith_slice member, double score)
{
    uint64_t hash = kith_table_hash(zset->table, member);
    void *entry = kith_table_find(zset->table, member, hash);
    if (!entry)
        return table_insert(zset, member, score, hash);
    double old = kith_zset_entry_score(entry);
    if (memcmp(&old, &score, sizeof old) == 0)
        return 0;
    uint64_t old_key = kith_avl_key_from_double(old), new_key = kith_avl_key_from_double(score);
    if (old_key != new_key && kith_avl_rekey(zset->tree, old_key, new_key, entry) != KITH_OK)
        return KITH_ENOMEM;
    kith_table_save_before(&zset->saving, entry, kith_zset_write_entry);
    kith_entry_set_meta(entry, zset->saving.epoch);
    set_entry_score(entry, score);
    return 0;
}

static void *table_find(const struct kith_zset *zset, struct kith_slice member)
{
    return kith_table_find(zset->table, member, kith_table_hash(zset->table, member));
}

static void release_entry(uint64_t key, void *ref, void *arg)
{
    struct kith_zset *zset = arg;
    kith_table_remove_entry(zset->table, ref, kith_table_hash(zset->table, kith_entry_key(ref)));
    kith_table_save_before(&zset->saving, ref, kith_zset_write_entry);
    free(ref);
}

int kith_zset_make_table(struct kith_zset *zset)
{
    struct kith_zset big = {.seed = zset->seed};
    if (kith_table_open(&big.table, *zset->seed) != KITH_OK ||
        kith_avl_open(&big.tree, order_entries, NULL) != KITH_OK)
        goto fail;
    struct item item;
    for (size_t at = 0; packed_next(zset, &at, &item);)
        if (table_set(&big, item.member, item.score) < 0)
            goto fail;
    free(zset->packed);
    *zset = big;
    return KITH_OK;
fail:
    kith_avl_close(big.tree);
    kith_table_close(big.table, NULL, NULL);
    return KITH_ENOMEM;
}

/* ---- both ---- */

bool kith_zset_score(const struct kith_zset *zset, struct kith_slice member, double *score)
{
    if (zset->table) {
        void *entry = table_find(zset, member);
        if (entry)
            *score = kith_zset_entry_score(entry);
        return entry != NULL;
    }
    struct item item;
    if (!packed_find(zset, member, &item))
        return false;
    *score = item.score;
    return true;
}

int kith_zset_set(struct kith_zset *zset, struct kith_slice member, double score)
{
    struct item item;
    bool fits = !zset->table && member.length <= KITH_PACKED_VALUE_MAX &&
                (zset->packed_count < KITH_PACKED_ENTRIES_MAX || packed_find(zset, member, &item));
    if (fits)
        return packed_set(zset, member, score);
    if (!zset->table && kith_zset_make_table(zset) != KITH_OK)
        return KITH_ENOMEM;
    return table_set(zset, member, score);
}

bool kith_zset_remove(struct kith_zset *zset, struct kith_slice member)
{
    if (zset->table) {
        void *entry = table_find(zset, member);
        if (!entry)
            return false;
        kith_avl_remove(zset->tree, kith_avl_key_from_double(kith_zset_entry_score(entry)), entry);
        release_entry(0, entry, zset);
        return true;
    }
    struct item item;
    bool found = packed_find(zset, member, &item);
    if (found)
        packed_cut(zset, item.offset, item.bytes, 1);
    return found;
}

size_t kith_zset_remove_range(struct kith_zset *zset, size_t first, size_t count)
{
    if (zset->table)
        return kith_avl_remove_range(zset->tree, first, count, release_entry, zset);
    struct item item;
    size_t at = 0, rank = 0, removed = 0, start = 0, bytes = 0;
    for (; removed < count && packed_next(zset, &at, &item); rank++) {
        if (rank < first)
            continue;
        if (removed++ == 0)
            start = item.offset;
        bytes += item.bytes;
    }
    if (removed)
        packed_cut(zset, start, bytes, removed);
    return removed;
}

bool kith_zset_rank(const struct kith_zset *zset, struct kith_slice member, size_t *rank)
{
    if (zset->table) {
        void *entry = table_find(zset, member);
        if (!entry)
            return false;
        uint64_t key = kith_avl_key_from_double(kith_zset_entry_score(entry));
        *rank = kith_avl_rank(zset->tree, kith_avl_find(zset->tree, key, entry));
        return true;
    }
    struct item item;
    if (!packed_find(zset, member, &item))
        return false;
    *rank = item.rank;
    return true;
}

size_t kith_zset_rank_of_score(const struct kith_zset *zset, double score, bool inclusive)
{
    if (zset->table) {
        uint64_t key = kith_avl_key_from_double(score);
        return kith_avl_rank(zset->tree, inclusive ? kith_avl_upper_bound_key(zset->tree, key)
                                                   : kith_avl_lower_bound_key(zset->tree, key));
    }
    struct item item;
    size_t rank = 0;
    for (size_t at = 0; packed_next(zset, &at, &item); rank++)
        if (item.score > score || (item.score == score && !inclusive))
            break;
    return rank;
}

struct bound {
    struct kith_slice member;
    bool inclusive;
};

/* Negative while the entry is to be counted. */
static int probe_bound(const void *ref, void *arg)
{
    const struct bound *bound = arg;
    int order = kith_slice_compare(kith_entry_key(ref), bound->member);
    return order < 0 || (order == 0 && bound->inclusive) ? -1 : 1;
}

size_t kith_zset_rank_of_member(const struct kith_zset *zset, struct kith_slice member, bool inclusive)
{
    if (zset->table) {
        struct bound bound = {member, inclusive};
        uint64_t key = kith_avl_item(zset->tree, kith_avl_first(zset->tree)).key;
        return kith_avl_rank(zset->tree, kith_avl_seek(zset->tree, key, probe_bound, &bound));
    }
    struct item item;
    size_t rank = 0;
    for (size_t at = 0; packed_next(zset, &at, &item); rank++) {
        int order = kith_slice_compare(item.member, member);
        if (order > 0 || (order == 0 && !inclusive))
            break;
    }
    return rank;
}

static void packed_range(const struct kith_zset *zset, size_t first, size_t count, bool reverse,
                         kith_zset_fn *report, void *arg)
{
    struct item items[KITH_PACKED_ENTRIES_MAX];
    size_t found = 0, rank = 0;
    for (size_t at = 0; found < count && packed_next(zset, &at, &items[found]); rank++)
        found += rank >= first;
    for (size_t i = 0; i < found; i++) {
        const struct item *item = &items[reverse ? found - 1 - i : i];
        report(arg, item->member, item->score);
    }
}

enum { PREFETCH_AHEAD = 8 };

/* References of one block: the entries are anywhere in memory, so the misses are overlapped. */
static void report_run(void *const *refs, size_t count, bool reverse, kith_zset_fn *report, void *arg)
{
    for (size_t i = 0; i < count + PREFETCH_AHEAD; i++) {
        if (i < count)
            __builtin_prefetch(refs[reverse ? count - 1 - i : i]);
        if (i < PREFETCH_AHEAD)
            continue;
        size_t n = i - PREFETCH_AHEAD;
        const void *entry = refs[reverse ? count - 1 - n : n];
        report(arg, kith_entry_key(entry), kith_zset_entry_score(entry));
    }
}

void kith_zset_range(const struct kith_zset *zset, size_t first, size_t count, bool reverse,
                     kith_zset_fn *report, void *arg)
{
    size_t total = kith_zset_count(zset);
    if (first >= total)
        return;
    if (count > total - first)
        count = total - first;
    if (!zset->table) {
        packed_range(zset, first, count, reverse, report, arg);
        return;
    }
    struct kith_avl_cursor cursor = kith_avl_select(zset->tree, reverse ? first + count : first);
    struct kith_avl_run run;
    while (count) {
        bool more = reverse ? kith_avl_prev_run(zset->tree, &cursor, &run)
                            : kith_avl_next_run(zset->tree, &cursor, &run);
        KITH_ASSERT(more);
        size_t n = run.count < count ? run.count : count;
        report_run(reverse ? run.refs + (run.count - n) : run.refs, n, reverse, report, arg);
        count -= n;
    }
}

void kith_zset_at(const struct kith_zset *zset, size_t rank, struct kith_slice *member, double *score)
{
    if (zset->table) {
        const void *entry = kith_avl_item(zset->tree, kith_avl_select(zset->tree, rank)).ref;
        *member = kith_entry_key(entry);
        *score = kith_zset_entry_score(entry);
        return;
    }
    struct item item = {0};
    size_t at = 0;
    do
        KITH_ASSERT(packed_next(zset, &at, &item));
    while (rank--);
    *member = item.member;
    *score = item.score;
}

struct each {
    kith_zset_fn *report;
    void *arg;
};

static void each_entry(void *arg, void *entry)
{
    struct each *each = arg;
    each->report(each->arg, kith_entry_key(entry), kith_zset_entry_score(entry));
}

uint64_t kith_zset_scan(const struct kith_zset *zset, uint64_t cursor, kith_zset_fn *report, void *arg)
{
    if (zset->table) {
        struct each each = {report, arg};
        return kith_table_scan(zset->table, cursor, each_entry, &each);
    }
    packed_range(zset, 0, SIZE_MAX, false, report, arg);
    return 0;
}

int kith_zset_check(const struct kith_zset *zset)
{
    struct kith_error error;
    if (!zset->table)
        return KITH_OK;
    if (kith_table_check(zset->table) != KITH_OK || kith_avl_check(zset->tree, &error) != KITH_OK ||
        kith_avl_count(zset->tree) != kith_table_count(zset->table))
        return KITH_ECORRUPT;
    struct kith_avl_cursor cursor = kith_avl_first(zset->tree);
    for (bool more = !kith_avl_at_end(cursor); more; more = kith_avl_next(zset->tree, &cursor)) {
        struct kith_avl_item item = kith_avl_item(zset->tree, cursor);
        if (table_find(zset, kith_entry_key(item.ref)) != item.ref ||
            kith_avl_key_from_double(kith_zset_entry_score(item.ref)) != item.key)
            return KITH_ECORRUPT;
    }
    return KITH_OK;
}
