/* The engine as the state machine of a node: entries go to kith_engine_apply, checkpoints to the engine's
 * own. */
#ifndef KITH_REPL_ENGINE_MACHINE_H
#define KITH_REPL_ENGINE_MACHINE_H

#include "engine/engine.h"
#include "repl/node.h"

/* `engine` is borrowed and must outlive the node. */
struct kith_node_machine kith_engine_machine(struct kith_engine *engine);

#endif
