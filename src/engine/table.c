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

/* FNV-1a over the name with the case bit set: names are ours and few, no client can make them collide. */
static uint64_t name_hash(uint64_t hash, struct kith_slice name)
{
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (uint8_t)(name.data[i] | 0x20)) * 0x100000001b3ull;
    return hash;
}

static uint64_t name_hash_start(void)
{
    return 0xcbf29ce484222325ull;
}

static size_t slot_of(const struct kith_command_index *index, uint64_t hash)
{
    return (size_t)(hash ^ hash >> 29) & (index->slot_count - 1);
}

static void add_row(struct kith_command_index *index, const struct kith_command *row)
{
    size_t at = slot_of(index, name_hash(name_hash_start(), kith_slice(row->name, strlen(row->name))));
    while (index->slots[at]) {
        KITH_ASSERT(strcmp(index->slots[at]->name, row->name) != 0);
        at = (at + 1) & (index->slot_count - 1);
    }
    index->slots[at] = row;
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

const struct kith_command *kith_command_find(const struct kith_command_index *index, struct kith_slice name)
{
    size_t at = slot_of(index, name_hash(name_hash_start(), name));
    for (; index->slots[at]; at = (at + 1) & (index->slot_count - 1))
        if (kith_slice_is(name, index->slots[at]->name))
            return index->slots[at];
    return NULL;
}

const struct kith_command *kith_command_find_sub(const struct kith_command_index *index,
                                                 const struct kith_command *parent, struct kith_slice name)
{
    size_t prefix = strlen(parent->name);
    uint64_t hash = name_hash(name_hash_start(), kith_slice(parent->name, prefix));
    size_t at = slot_of(index, name_hash(name_hash(hash, KITH_SLICE("|")), name));
    for (; index->slots[at]; at = (at + 1) & (index->slot_count - 1)) {
        const char *row_name = index->slots[at]->name;
        if (strncmp(row_name, parent->name, prefix) == 0 && row_name[prefix] == '|' &&
            kith_slice_is(name, row_name + prefix + 1))
            return index->slots[at];
    }
    return NULL;
}
