/* Replies that come later than their command (SAVE): the connection counts as having something in flight
 * until the host releases it. */
#include "net/internal.h"

struct kith_connection *kith_server_hold(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    connection->in_flight++;
    connection->flags |= CONNECTION_LATE_REPLY;
    return connection;
}

void kith_server_unhold(struct kith_connection *connection)
{
    KITH_ASSERT(connection->in_flight > 0);
    connection->in_flight--;
    connection->flags &= ~CONNECTION_LATE_REPLY;
}

void kith_server_release(struct kith_connection *connection,
                         void (*write)(void *context, struct kith_reply *reply), void *context)
{
    KITH_ASSERT(connection->in_flight > 0);
    connection->flags &= ~CONNECTION_LATE_REPLY;
    if (!(connection->flags & CONNECTION_CLOSING)) {
        struct kith_buf *out = connection_out(connection);
        struct kith_reply reply;
        size_t start = out->length;
        kith_reply_init(&reply, out, connection->session.protocol);
        write(context, &reply);
        if (reply.error_count && start < out->length)
            stats_count_error(&connection->server->stats, kith_slice(out->data + start, out->length - start));
        if (connection->session.reply_mode)
            out->length = start;
    }
    if (--connection->in_flight == 0) {
        if (connection->flags & CONNECTION_BLOCKED)
            connection_mark_resumed(connection);
        connection_release(connection);
    }
}

bool kith_server_is_gone(const struct kith_connection *connection)
{
    return connection->flags & CONNECTION_CLOSING;
}

bool kith_server_is_local(const struct kith_call *call)
{
    return connection_of(call)->flags & CONNECTION_LOCAL;
}
