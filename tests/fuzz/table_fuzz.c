/* Any sequence of operations on the hash table against an array that knows what is in it. Three bytes an operation: a
 * kind and a key number; most kinds work on a run of 64 keys, so that a short input reaches splits and merges. */
#include "base/assert.h"
#include "base/status.h"
#include "ds/table.h"

#define KEY_COUNT 8192
#define RUN       64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct model {
    struct kith_table *table;
    void *entries[KEY_COUNT];
    size_t count;
    uint64_t cursor;
    bool removes;
};

static struct kith_slice key_of(const uint32_t *number)
{
    return kith_slice(number, sizeof *number);
}

static void insert(struct model *model, uint32_t number)
{
    uint64_t hash = kith_table_hash(model->table, key_of(&number));
    KITH_ASSERT(kith_table_find(model->table, key_of(&number), hash) == model->entries[number]);
    if (model->entries[number])
        return;
    void *entry = kith_entry_open(1, key_of(&number), 0);
    if (!entry || kith_table_insert(model->table, entry, hash) != KITH_OK) {
        free(entry);
        return;
    }
    model->entries[number] = entry;
    model->count++;
}

static void take(struct model *model, uint32_t number)
{
    uint64_t hash = kith_table_hash(model->table, key_of(&number));
    void *entry = kith_table_remove(model->table, key_of(&number), hash);
    KITH_ASSERT(entry == model->entries[number]);
    model->count -= entry != NULL;
    model->entries[number] = NULL;
    free(entry);
}

static void replace(struct model *model, uint32_t number)
{
    void *old = model->entries[number], *entry = old ? kith_entry_open(2, key_of(&number), 9) : NULL;
    if (!entry)
        return;
    kith_table_replace(model->table, old, entry, kith_table_hash(model->table, key_of(&number)));
    model->entries[number] = entry;
    free(old);
}

static void report(void *arg, void *entry)
{
    struct model *model = arg;
    uint32_t number;
    memcpy(&number, kith_entry_key(entry).data, sizeof number);
    KITH_ASSERT(number < KEY_COUNT && model->entries[number] == entry);
    if (model->removes)
        take(model, number);
    else if (number % 8 == 0)
        replace(model, number);
}

static void operate(struct model *model, unsigned kind, uint32_t number)
{
    struct kith_rng rng;
    switch (kind % 8) {
    case 0:
        insert(model, number);
        break;
    case 1:
        take(model, number);
        break;
    case 2:
        for (uint32_t i = 0; i < RUN; i++)
            insert(model, (number + i) % KEY_COUNT);
        break;
    case 3:
        for (uint32_t i = 0; i < RUN; i++)
            take(model, (number + i) % KEY_COUNT);
        break;
    case 4:
        for (uint32_t i = 0; i < RUN; i++)
            replace(model, (number + i) % KEY_COUNT);
        break;
    case 5:
    case 6:
        model->removes = kind % 8 == 6;
        model->cursor = kith_table_scan(model->table, model->cursor, report, model);
        break;
    default:
        kith_rng_seed(&rng, number);
        KITH_ASSERT((kith_table_random(model->table, &rng) != NULL) == (model->count != 0));
        KITH_ASSERT(kith_table_check(model->table) == KITH_OK);
    }
    KITH_ASSERT(kith_table_count(model->table) == model->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return 0;
    if (kith_table_open(&model->table, (struct kith_hash_seed){1, 2}) == KITH_OK) {
        for (; size >= 3; data += 3, size -= 3)
            operate(model, data[0], (data[1] | (uint32_t)data[2] << 8) % KEY_COUNT);
        KITH_ASSERT(kith_table_check(model->table) == KITH_OK);
        while (kith_table_drain(model->table, 100, NULL, NULL))
            ;
    }
    kith_table_close(model->table, NULL, NULL);
    free(model);
    return 0;
}
