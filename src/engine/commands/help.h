/* The reply of a container's HELP subcommand, made from the rows themselves. */
#ifndef KITH_ENGINE_COMMANDS_HELP_H
#define KITH_ENGINE_COMMANDS_HELP_H

#include "engine/command.h"

/* "<NAME> <subcommand> [<arg> ...]. Subcommands are:", then for each row of the container its syntax and its
 * summary. The handler of "object|help", "memory|help" and so on. */
void kith_help_command(struct kith_call *call);

#endif
