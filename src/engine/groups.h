/* The groups of commands and the types of values: the two lists that a new file of src/engine must be added
 * to (table.c and types.c). */
#ifndef KITH_ENGINE_GROUPS_H
#define KITH_ENGINE_GROUPS_H

#include "engine/command.h"
#include "engine/keyspace.h"

/* What a commands/<group>.c file offers: its rows. */
struct kith_command_group {
    const struct kith_command *rows;
    size_t count;
};

#define KITH_COMMAND_GROUP(name, table)                                                                      \
    const struct kith_command_group name = {.rows = (table), .count = sizeof(table) / sizeof((table)[0])}

extern const struct kith_command_group kith_group_connection;
extern const struct kith_command_group kith_group_server;
extern const struct kith_command_group kith_group_introspection;
extern const struct kith_command_group kith_group_keys;
extern const struct kith_command_group kith_group_expire;
extern const struct kith_command_group kith_group_string;
extern const struct kith_command_group kith_group_bitmap;
extern const struct kith_command_group kith_group_hash;
extern const struct kith_command_group kith_group_zset;
extern const struct kith_command_group kith_group_vset;

extern const struct kith_type_ops kith_hash_ops;
extern const struct kith_type_ops kith_zset_ops;
extern const struct kith_type_ops kith_vset_ops;

#endif
