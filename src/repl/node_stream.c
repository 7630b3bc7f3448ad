/* What a member gets that is too far behind for the entries in memory. */
#include "repl/node_internal.h"

void node_stream_append(struct kith_node *node, const struct kith_core_message *message)
{
    (void)node;
    (void)message; /* as if it had been lost: raft asks again */
}

void node_stream_offer(struct kith_node *node, const struct kith_core_message *message)
{
    (void)node;
    (void)message;
}

int node_stream_receive(struct kith_node *node, uint64_t peer, const char *address,
                        const struct kith_frame *frame)
{
    (void)node;
    (void)peer;
    (void)address;
    (void)frame;
    return KITH_OK;
}

void node_stream_install(struct kith_node *node, const struct kith_core_snapshot *snapshot)
{
    (void)snapshot;
    node_fail(node, KITH_EVERSION, "a checkpoint of the leader cannot be installed");
}
