/* The list of the groups of commands, and the index from names to rows that each engine builds from it. To
 * add a group: one line in `groups`. */
#include "base/assert.h"
#include "engine/commands/groups.h"
#include "engine/state.h"

#include <stdlib.h>

/* clang-format off */
static const struct kith_command *const groups[] = {
    kith_connection_commands,
    kith_host_commands,
    kith_server_commands,
    kith_command_commands,
    kith_request_commands,
    kith_upstream_commands,
    kith_keys_commands,
    kith_expire_commands,
    kith_string_commands,
    kith_bitmap_commands,
    kith_hash_commands,
    kith_zset_commands, kith_vset_commands,
};
/* clang-format on */

const struct kith_command *kith_command_at(size_t n)
{
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++)
        for (const struct kith_command *row = groups[g]; row->name; row++)
            if (n-- == 0)
                return row;
    return NULL;
}

/* A name as the index compares it: lower case, with its hash (FNV-1a: names are ours and few, no client can make
 * them collide). */
struct folded {
    char text[48];
    size_t length;
    uint64_t hash;
};

/* Appends `name`; false when it cannot be one of ours: too long, or with a NUL inside. */
static bool fold(struct folded *folded, struct kith_slice name)
{
    if (name.length >= sizeof folded->text - folded->length)
        return false;
    uint64_t hash = folded->hash;
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = (uint8_t)name.data[i];
        if (c == 0)
            return false;
        c = (uint8_t)(c - 'A') < 26 ? c | 0x20 : c;
        folded->text[folded->length + i] = (char)c;
        hash = (hash ^ c) * 0x100000001b3ull;
    }
    folded->length += name.length;
    folded->text[folded->length] = '\0';
    folded->hash = hash;
    return true;
}

static void fold_init(struct folded *folded)
{
    folded->length = 0;
    folded->hash = 0xcbf29ce484222325ull;
}

static size_t slot_of(const struct kith_command_index *index, uint64_t hash)
{
    return (size_t)(hash ^ hash >> 29) & (index->slot_count - 1);
}

static const struct kith_command *find(const struct kith_command_index *index, const struct folded *folded)
{
    size_t at = slot_of(index, folded->hash);
    for (; index->slots[at].row; at = (at + 1) & (index->slot_count - 1))
        if (index->slots[at].hash == folded->hash && strcmp(index->slots[at].row->name, folded->text) == 0)
            return index->slots[at].row;
    return NULL;
}

const struct kith_command *kith_command_find(const struct kith_command_index *index, struct kith_slice name)
{
    struct folded folded;
    fold_init(&folded);
    return fold(&folded, name) ? find(index, &folded) : NULL;
}

const struct kith_command *kith_command_find_sub(const struct kith_command_index *index,
                                                 const struct kith_command *parent, struct kith_slice name)
{
    struct folded folded;
    fold_init(&folded);
    bool folds = fold(&folded, kith_slice(parent->name, strlen(parent->name))) &&
                 fold(&folded, KITH_SLICE("|")) && fold(&folded, name);
    return folds ? find(index, &folded) : NULL;
}

static void add_row(struct kith_command_index *index, const struct kith_command *row)
{
    struct folded folded;
    fold_init(&folded);
    bool folds = fold(&folded, kith_slice(row->name, strlen(row->name)));
    KITH_ASSERT(folds && !find(index, &folded));
    size_t at = slot_of(index, folded.hash);
    while (index->slots[at].row)
        at = (at + 1) & (index->slot_count - 1);
    index->slots[at] = (struct kith_command_slot){row, folded.hash};
}

int kith_command_index_open(struct kith_command_index *index)
{
    size_t count = 0, slot_count = 64, group_count = sizeof groups / sizeof groups[0];
    for (size_t g = 0; g < group_count; g++)
        for (const struct kith_command *row = groups[g]; row->name; row++)
            count++;
    while (slot_count < 2 * count)
        slot_count *= 2;
    *index = (struct kith_command_index){.slot_count = slot_count, .command_count = count};
    index->slots = calloc(slot_count, sizeof *index->slots);
    if (!index->slots)
        return KITH_ENOMEM;
    for (size_t g = 0; g < group_count; g++)
        for (const struct kith_command *row = groups[g]; row->name; row++)
            add_row(index, row);
    return KITH_OK;
}

void kith_command_index_close(struct kith_command_index *index)
{
    free(index->slots);
    *index = (struct kith_command_index){0};
}
