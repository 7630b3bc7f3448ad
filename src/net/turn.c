/* A client's turn: what it may have done in one pass of the loop before everybody else is served. A turn is counted in
 * units of work: a byte of requests is one, about eight nanoseconds whatever the command; a read that is not O(1) or
 * O(log n) costs what it took; and a write, which runs when all of the pass have been taken in, what the client's last
 * writes took each. A client whose turn is over is read no further, and what it has sent is taken up in the next pass. */
#include "net/internal.h"

#include "base/os.h"

enum { NS_PER_UNIT = 8 };

static void begin_in_this_pass(struct kith_connection *connection)
{
    uint64_t pass = connection->server->pass;
    if (connection->turn_pass == pass)
        return;
    connection->turn_pass = pass;
    connection->turn_work = 0;
    if (connection->server->turn_client != connection->session.id) {
        connection->server->turn_client = connection->session.id;
        connection->server->turn_client_since = pass;
    }
}

bool turn_is_lone(const struct kith_connection *connection)
{
    const struct kith_server *server = connection->server;
    return server->turn_client == connection->session.id && server->turn_client_since < server->pass;
}

void turn_spend(struct kith_connection *connection, size_t work)
{
    begin_in_this_pass(connection);
    connection->turn_work += work;
}

bool turn_is_over(struct kith_connection *connection)
{
    begin_in_this_pass(connection);
    return connection->turn_work >= TURN_WORK;
}

bool turn_takes_a_read(struct kith_connection *connection)
{
    begin_in_this_pass(connection);
    return !(connection->flags & CONNECTION_LATER) && connection->turn_work < TURN_WORK / 2;
}

uint64_t turn_watch_read(const struct kith_command *command)
{
    return command->flags & KITH_CMD_FAST ? 0 : kith_os_monotonic_ns();
}

void turn_spend_read(struct kith_connection *connection, uint64_t since_ns)
{
    if (since_ns)
        turn_spend(connection, (size_t)((kith_os_monotonic_ns() - since_ns) / NS_PER_UNIT));
}

void turn_spend_write(struct kith_connection *connection)
{
    turn_spend(connection, connection->write_price);
}

void turn_set_price(struct kith_connection *connection, uint64_t ns, size_t count)
{
    connection->write_price = (size_t)(ns / NS_PER_UNIT / count);
}

void turn_end(struct kith_connection *connection)
{
    struct kith_server *server = connection->server;
    if (connection->flags & (CONNECTION_LATER | CONNECTION_RESUMED | CONNECTION_CLOSED))
        return;
    server->stats.total.turns_ended++;
    connection->flags |= CONNECTION_LATER;
    connection->next_resumed = server->later;
    server->later = connection;
}

void turn_next_pass(struct kith_server *server)
{
    struct kith_connection *connection = server->later;
    server->later = NULL;
    while (connection) {
        struct kith_connection *next = connection->next_resumed;
        connection->flags &= ~CONNECTION_LATER;
        connection_mark_resumed(connection);
        connection_release(connection); /* one that was closed since: this list was the last to hold it */
        connection = next;
    }
}
