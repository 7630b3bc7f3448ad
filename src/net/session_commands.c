/* Commands that change what a connection is: HELLO, AUTH, READONLY, READWRITE, RESET, QUIT. They run only when nothing of
 * the connection is in flight. Texts are those that clients look for. */
#include "base/num.h"
#include "net/internal.h"
#include "net/session_name.h"

#include <stdlib.h>

bool session_needs_password(const struct kith_server *server)
{
    return *server->options.password != '\0';
}

/* The time does not depend on how much of a guess is right. */
static bool same_secret(struct kith_slice given, const char *secret)
{
    size_t length = strlen(secret);
    unsigned difference = given.length != length;
    for (size_t i = 0; i < given.length; i++)
        difference |= (unsigned char)given.data[i] ^ (unsigned char)(length ? secret[i % length] : 1);
    return difference == 0;
}

/* The one user is `default`; without a password anything is right, as for a nopass user. */
static bool authenticate(struct kith_connection *connection, struct kith_slice user,
                         struct kith_slice password)
{
    struct kith_server *server = connection->server;
    bool right = kith_slice_equal(user, KITH_SLICE("default")) &&
                 (!session_needs_password(server) || same_secret(password, server->options.password));
    if (right)
        connection->session.authenticated = true;
    else
        server->stats.total.auth_failed++;
    return right;
}

static void wrong_password(struct kith_call *call)
{
    kith_reply_error(call->reply, "WRONGPASS invalid username-password pair or user is disabled.");
}

static void auth(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    if (call->argc > 3) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc == 2 && !session_needs_password(connection->server)) {
        kith_reply_error(call->reply,
                         "ERR AUTH <password> called without any password configured for the default "
                         "user. Are you sure your configuration is correct?");
        return;
    }
    struct kith_slice user = call->argc == 3 ? call->argv[1] : KITH_SLICE("default");
    if (authenticate(connection, user, call->argv[call->argc - 1]))
        kith_reply_ok(call->reply);
    else
        wrong_password(call);
}

static void describe_server(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    struct kith_reply *reply = call->reply;
    kith_reply_map(reply, 7);
    kith_reply_bulk_text(reply, "server");
    kith_reply_bulk_text(reply, "redis");
    kith_reply_bulk_text(reply, "version");
    kith_reply_bulk_text(reply, connection->server->options.version);
    kith_reply_bulk_text(reply, "proto");
    kith_reply_int(reply, connection->session.protocol);
    kith_reply_bulk_text(reply, "id");
    kith_reply_int(reply, (int64_t)connection->session.id);
    kith_reply_bulk_text(reply, "mode");
    kith_reply_bulk_text(reply, "standalone");
    kith_reply_bulk_text(reply, "role");
    kith_reply_bulk_text(reply,
                         kith_node_role(connection->server->node) == KITH_CORE_LEADER ? "master" : "replica");
    kith_reply_bulk_text(reply, "modules");
    kith_reply_array(reply, 0);
}

/* Reads HELLO's options; false after an error. Nothing is changed yet. */
static bool hello_options(struct kith_call *call, size_t *auth_at, size_t *name_at)
{
    for (size_t i = 2; i < call->argc;) {
        if (kith_call_is(call, i, "AUTH") && i + 2 < call->argc) {
            *auth_at = i;
            i += 3;
        } else if (kith_call_is(call, i, "SETNAME") && i + 1 < call->argc) {
            *name_at = i + 1;
            i += 2;
            if (!session_name_is_valid(call->argv[*name_at])) {
                kith_reply_error(call->reply,
                                 "ERR Client names cannot contain spaces, newlines or special characters.");
                return false;
            }
        } else {
            kith_reply_error_format(call->reply, "ERR Syntax error in HELLO option '%.*s'",
                                    (int)(call->argv[i].length < 128 ? call->argv[i].length : 128),
                                    call->argv[i].data);
            return false;
        }
    }
    return true;
}

static void hello(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    size_t auth_at = 0, name_at = 0;
    int64_t protocol = connection->session.protocol;
    if (call->argc > 1) {
        if (!kith_call_int(call, 1, &protocol, "ERR Protocol version is not an integer or out of range"))
            return;
        if (protocol < 2 || protocol > 3) {
            kith_reply_error(call->reply, "NOPROTO unsupported protocol version");
            return;
        }
    }
    if (!hello_options(call, &auth_at, &name_at))
        return;
    if (auth_at && !authenticate(connection, call->argv[auth_at + 1], call->argv[auth_at + 2])) {
        wrong_password(call);
        return;
    }
    if (!connection->session.authenticated && session_needs_password(connection->server)) {
        kith_reply_error(
            call->reply,
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
            "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
            "RESP protocol version at the same time");
        return;
    }
    if (name_at && session_set_text(&connection->session.name, call->argv[name_at]) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    connection->session.protocol = (uint8_t)protocol;
    call->reply->protocol = (uint8_t)protocol;
    describe_server(call);
}

static void quit(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    kith_reply_ok(call->reply);
    connection->flags |= CONNECTION_LAST_REPLY;
}

static void readonly(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    int64_t lag_max_ms = 0;
    if (call->argc != 1 && !(call->argc == 3 && kith_call_is(call, 1, "MAXLAG"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (call->argc == 3 && !kith_call_int_in(call, 2, 1, INT32_MAX, &lag_max_ms,
                                             "ERR MAXLAG is a number of milliseconds, at least 1"))
        return;
    connection->flags |= CONNECTION_READONLY;
    connection->lag_max_ms = lag_max_ms;
    kith_reply_ok(call->reply);
}

static void readwrite(struct kith_call *call)
{
    connection_of(call)->flags &= ~CONNECTION_READONLY;
    kith_reply_ok(call->reply);
}

static void reset(struct kith_call *call)
{
    struct kith_session *session = call->session;
    struct kith_connection *connection = connection_of(call);
    free(session->name);
    session->name = NULL;
    session->db_index = 0;
    session->protocol = call->reply->protocol = 2;
    session->reply_mode = 0;
    session->no_evict = false;
    session->authenticated = !session_needs_password(connection->server);
    connection->flags &= ~(CONNECTION_NO_TOUCH | CONNECTION_READONLY);
    kith_reply_simple(call->reply, "RESET");
}

connection_command session_command_find(const char *name)
{
    static const struct {
        const char *name;
        connection_command run;
    } commands[] = {{"hello", hello}, {"auth", auth},         {"quit", quit},
                    {"reset", reset}, {"readonly", readonly}, {"readwrite", readwrite}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}

bool kith_server_command(struct kith_server *server, struct kith_call *call)
{
    connection_command run = session_command_find(call->command->name);
    if (!run)
        run = client_command_find(call->command->name);
    if (!run)
        return false;
    KITH_ASSERT(call->session->owner);
    run(call);
    return true;
}
