/* The hash table under hashes that an enemy, or chance, might choose. SipHash gives no such keys, so the
 * sources are included here with another hash, which the first byte of a key picks. */
#include "base/hash.h"

static uint64_t number_in(const char *digits, size_t length)
{
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++)
        number = 10 * number + (uint64_t)(digits[i] - '0');
    return number;
}

static uint64_t chosen_hash(struct kith_hash_seed seed, const void *data, size_t length)
{
    const char *key = data;
    uint64_t hash = kith_hash(seed, data, length);
    switch (length ? key[0] : 0) {
    case '=': /* all equal */
        return 0x123456789abcdef0;
    case '^': /* the first 30 bits equal */
        return hash >> 30 | 0xabcdefabull << 34;
    case '4': /* in the last quarter */
        return hash | 3ull << 62;
    case '|': /* at the very beginning of buckets: round positions */
        return number_in(key + 1, length - 1) << 54;
    default:
        return hash;
    }
}

#define kith_hash chosen_hash
#include "ds/segment.c"
#include "ds/table.c"
#include "ds/table_walk.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct kith_slice key_of(char text[16], char kind, int number)
{
    return kith_slice(text, (size_t)snprintf(text, 16, "%c%d", kind, number));
}

static void insert(struct kith_table *table, char kind, int number)
{
    char text[16];
    struct kith_slice key = key_of(text, kind, number);
    void *entry = kith_entry_open(0, key, 0);
    assert_non_null(entry);
    assert_int_equal(kith_table_insert(table, entry, kith_table_hash(table, key)), KITH_OK);
}

static bool find(const struct kith_table *table, char kind, int number)
{
    char text[16];
    struct kith_slice key = key_of(text, kind, number);
    void *entry = kith_table_find(table, key, kith_table_hash(table, key));
    return entry && kith_entry_key_is(entry, key);
}

static void take(struct kith_table *table, char kind, int number)
{
    char text[16];
    struct kith_slice key = key_of(text, kind, number);
    void *entry = kith_table_remove(table, key, kith_table_hash(table, key));
    assert_non_null(entry);
    free(entry);
}

static void count_entry(void *arg, void *entry)
{
    ++*(int *)arg;
}

static int scan_all(struct kith_table *table)
{
    int count = 0;
    uint64_t cursor = 0;
    do
        cursor = kith_table_scan(table, cursor, count_entry, &count);
    while (cursor);
    return count;
}

/* `enemies` of one kind among `others` with good hashes: in, found, scanned, out again, in bounded memory. */
static void withstand(char kind, int enemies, int others)
{
    struct kith_table *table = NULL;
    assert_int_equal(kith_table_open(&table, (struct kith_hash_seed){1, 2}), KITH_OK);
    for (int i = 0; i < others; i++)
        insert(table, '.', i);
    for (int i = 0; i < enemies; i++)
        insert(table, kind, i);
    assert_int_equal(kith_table_check(table), KITH_OK);
    assert_int_equal(kith_table_count(table), enemies + others);
    assert_in_range(kith_table_memory_bytes(table), 0, 4096 + 14 * (size_t)(enemies + others));
    assert_int_equal(scan_all(table), enemies + others);
    for (int i = 0; i < enemies; i++)
        assert_true(find(table, kind, i));
    assert_false(find(table, kind, enemies));
    for (int i = 0; i < others; i++)
        assert_true(find(table, '.', i));
    struct kith_rng rng;
    kith_rng_seed(&rng, 1);
    for (int i = 0; i < 100; i++)
        assert_non_null(kith_table_random(table, &rng));
    for (int i = 0; i < enemies; i++) {
        take(table, kind, i);
        if (i % 1000 == 0)
            assert_int_equal(kith_table_check(table), KITH_OK);
    }
    assert_int_equal(kith_table_check(table), KITH_OK);
    assert_in_range(kith_table_memory_bytes(table), 0, 4096 + 20 * (size_t)others);
    assert_int_equal(scan_all(table), others);
    for (int i = 0; i < others; i++)
        take(table, '.', i);
    assert_int_equal(kith_table_memory_bytes(table), 64);
    kith_table_close(table, NULL, NULL);
}

static void equal_hashes_work_in_bounded_memory(void **state)
{
    withstand('=', 9, 0);
    withstand('=', 10, 0);
    withstand('=', 100, 0);
    withstand('=', 1500, 0);
    withstand('=', 1500, 5000);
}

static void hashes_with_one_prefix_work_in_bounded_memory(void **state)
{
    withstand('^', 100, 0);
    withstand('^', 20000, 0);
    withstand('^', 20000, 20000);
}

static void entries_at_the_edges_of_buckets_are_scanned_once(void **state)
{
    for (int count = 1; count <= 1024; count *= 2) {
        struct kith_table *table = NULL;
        assert_int_equal(kith_table_open(&table, (struct kith_hash_seed){1, 2}), KITH_OK);
        for (int i = 0; i < count; i++)
            insert(table, '|', i * (1024 / count));
        assert_int_equal(kith_table_check(table), KITH_OK);
        assert_int_equal(scan_all(table), count);
        for (int i = 0; i < 300; i++)
            insert(table, '.', i);
        assert_int_equal(scan_all(table), count + 300);
        kith_table_close(table, NULL, NULL);
    }
}

/* A segment with few entries whose buddy was split further, and whose buddy's first part has few too. */
static void a_lopsided_directory_merges_only_equals(void **state)
{
    struct kith_table *table = NULL;
    assert_int_equal(kith_table_open(&table, (struct kith_hash_seed){1, 2}), KITH_OK);
    for (int i = 0; i < 400; i++)
        insert(table, '.', i);
    for (int i = 0; i < 5000; i++)
        insert(table, '4', i);
    for (int i = 0; i < 400; i++) {
        take(table, '.', i);
        assert_int_equal(kith_table_count(table), 5399 - i);
        if (i % 20 == 0)
            assert_int_equal(kith_table_check(table), KITH_OK);
    }
    for (int i = 0; i < 5000; i++)
        take(table, '4', i);
    assert_int_equal(kith_table_memory_bytes(table), 64);
    kith_table_close(table, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_hashes_work_in_bounded_memory),
        cmocka_unit_test(entries_at_the_edges_of_buckets_are_scanned_once),
        cmocka_unit_test(a_lopsided_directory_merges_only_equals),
        cmocka_unit_test(hashes_with_one_prefix_work_in_bounded_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
