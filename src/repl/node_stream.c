/* What the parts of streaming share: the peers it knows, the thread that touches files, and the node's hooks. */
#include "repl/node_stream.h"

#include <stdio.h>
#include <stdlib.h>

struct node_streams *node_streams_need(struct kith_node *node)
{
    if (node->streams || !node->log)
        return node->streams;
    struct node_streams *streams = calloc(1, sizeof *streams);
    if (!streams)
        return NULL;
    if (kith_pool_open(&streams->reader, !node->options.manual, node->options.wake,
                       node->options.wake_context) != KITH_OK) {
        free(streams);
        return NULL;
    }
    streams->in.node = streams->load.node = node;
    node->streams = streams;
    return streams;
}

struct stream_peer *node_stream_peer(struct kith_node *node, uint64_t id, const char *address, bool make)
{
    struct node_streams *streams = make ? node_streams_need(node) : node->streams;
    struct stream_peer *peer = streams ? streams->peers : NULL;
    while (peer && peer->id != id)
        peer = peer->next;
    if (!peer && make && streams && (peer = calloc(1, sizeof *peer))) {
        peer->node = node;
        peer->id = id;
        peer->next = streams->peers;
        streams->peers = peer;
    }
    if (peer && address)
        snprintf(peer->address, sizeof peer->address, "%s", address);
    return peer;
}

void node_stream_submit(struct kith_node *node, struct kith_task *task, void (*run)(struct kith_task *),
                        void (*done)(struct kith_task *))
{
    struct kith_executor reader = kith_pool_executor(node->streams->reader);
    task->run = run;
    task->done = done;
    node->streams->tasks++;
    kith_executor_submit(&reader, task);
}

void node_stream_task_done(struct kith_node *node)
{
    node->streams->tasks--;
}

bool node_stream_room(struct kith_node *node, uint64_t peer, size_t bytes)
{
    const struct kith_transport *transport = &node->options.transport;
    return !transport->room || transport->room(transport->context, peer, KITH_LANE_STREAM) >= bytes;
}

bool node_stream_is_connected(struct kith_node *node, uint64_t peer)
{
    const struct kith_transport *transport = &node->options.transport;
    struct kith_peer_status status = {.connected = true};
    if (transport->status)
        transport->status(transport->context, peer, &status);
    return status.connected;
}

bool node_stream_leads(struct kith_node *node, uint64_t term)
{
    return node->failure == KITH_OK && !node->closing && kith_core_get_role(node->core) == KITH_CORE_LEADER &&
           kith_core_term(node->core) == term;
}

/* --- the node's hooks --- */

int node_stream_receive(struct kith_node *node, uint64_t peer, const char *address,
                        const struct kith_frame *frame)
{
    switch (frame->kind) {
    case KITH_FRAME_STREAM_OFFER:
    case KITH_FRAME_STREAM_DATA:
        node_in_receive(node, peer, address, frame);
        break;
    case KITH_FRAME_STREAM_WANT:
    case KITH_FRAME_STREAM_END:
        node_out_receive(node, peer, frame);
        break;
    default: /* an INSTALL says nothing that the stream has not said */
        break;
    }
    return KITH_OK;
}

void node_stream_poll(struct kith_node *node)
{
    struct node_streams *streams = node->streams;
    if (!streams)
        return;
    kith_pool_drain(streams->reader);
    for (struct stream_peer *peer = streams->peers; peer; peer = peer->next) {
        node_behind_poll(peer);
        node_out_poll(peer);
    }
    node_in_poll(node);
    node_load_poll(node);
}

uint64_t node_stream_due_ms(const struct kith_node *node)
{
    const struct node_streams *streams = node->streams;
    uint64_t at = UINT64_MAX;
    if (!streams || node->failure != KITH_OK)
        return at;
    if (node_load_is_ready(&streams->load))
        return 0;
    for (const struct stream_peer *peer = streams->peers; peer; peer = peer->next) {
        uint64_t due = node_out_due_ms(peer);
        if (due < at)
            at = due;
        if (node_behind_due_ms(peer) < at)
            at = node_behind_due_ms(peer);
    }
    if (streams->in.state != IN_NONE && streams->in.heard_ms + 1000 < at)
        at = node->now_ms + 1000; /* it may have been given up */
    return at;
}

bool node_stream_run(struct kith_node *node)
{
    return node->streams && kith_pool_run(node->streams->reader);
}

bool node_stream_is_loading(const struct kith_node *node)
{
    return node->streams && node->streams->load.state != LOAD_NONE;
}

void node_stream_get_progress(const struct kith_node *node, uint64_t peer, uint64_t *done, uint64_t *total)
{
    const struct stream_peer *p = node->streams ? node->streams->peers : NULL;
    while (p && p->id != peer)
        p = p->next;
    bool runs = p && (p->out.state == OUT_OFFERED || p->out.state == OUT_SENDING);
    *done = runs ? p->out.acknowledged : 0;
    *total = runs ? p->out.file_bytes : 0;
}

void node_stream_close(struct kith_node *node)
{
    struct node_streams *streams = node->streams;
    if (!streams)
        return;
    node->closing = true;
    while (streams->tasks)
        kith_pool_wait(streams->reader);
    kith_pool_close(streams->reader);
    while (streams->peers) {
        struct stream_peer *peer = streams->peers;
        streams->peers = peer->next;
        node_behind_close(&peer->behind);
        node_out_close(&peer->out);
        free(peer);
    }
    node_in_close(&streams->in);
    node_load_close(&streams->load);
    free(streams);
    node->streams = NULL;
}
