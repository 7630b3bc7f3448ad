/* The groups of commands, each ended by a row without a name; engine/table.c puts them together. */
#ifndef KITH_ENGINE_COMMANDS_GROUPS_H
#define KITH_ENGINE_COMMANDS_GROUPS_H

#include "engine/command.h"

extern const struct kith_command kith_connection_commands[];
extern const struct kith_command kith_server_commands[];
extern const struct kith_command kith_host_commands[];
extern const struct kith_command kith_command_commands[];
extern const struct kith_command kith_request_commands[];
extern const struct kith_command kith_upstream_commands[];
extern const struct kith_command kith_keys_commands[];
extern const struct kith_command kith_expire_commands[];
extern const struct kith_command kith_string_commands[];
extern const struct kith_command kith_bitmap_commands[];
extern const struct kith_command kith_hash_commands[];
extern const struct kith_command kith_zset_commands[];
extern const struct kith_command kith_vset_commands[];

/* Handlers that live in a file of their own. */
void kith_lcs_command(struct kith_call *call);

#endif
