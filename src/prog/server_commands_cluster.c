/* KITH.CLUSTER and ROLE: what this node knows about its group, and changes of it. A change is answered when it is
 * committed; until then its client waits, and nobody else does. */
#include "base/log.h"
#include "net/server.h"
#include "prog/app.h"
#include "prog/watch.h"
#include "repl/members.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct kith_node_member *app_members(const struct app *app, size_t *count)
{
    struct kith_node_member *members = calloc(KITH_MEMBERS_MAX, sizeof *members);
    *count = members ? kith_node_get_members(app->node, members, KITH_MEMBERS_MAX) : 0;
    if (*count > KITH_MEMBERS_MAX)
        *count = KITH_MEMBERS_MAX;
    return members;
}

unsigned app_split_address(const char *address, char *host, size_t size)
{
    const char *colon = strrchr(address, ':');
    size_t length = colon ? (size_t)(colon - address) : strlen(address);
    if (length >= 2 && address[0] == '[' && address[length - 1] == ']') {
        address++;
        length -= 2;
    }
    snprintf(host, size, "%.*s", (int)length, address);
    return colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

/* --- lists --- */

const char *app_role_name(enum kith_core_member_role role)
{
    return role == KITH_CORE_VOTER ? "voter" : role == KITH_CORE_STANDBY ? "standby" : "spare";
}

static const char *state_name(const struct app *app)
{
    const char *address;
    if (kith_node_role(app->node) == KITH_CORE_LEADER)
        return "leader";
    return kith_node_leader(app->node, &address) ? "follower" : "looking for a leader";
}

static void text_field(struct kith_reply *reply, const char *name, const char *value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_bulk_text(reply, value);
}

static void int_field(struct kith_reply *reply, const char *name, int64_t value)
{
    kith_reply_bulk_text(reply, name);
    kith_reply_int(reply, value);
}

static void id_field(struct kith_reply *reply, const char *name, uint64_t id)
{
    kith_reply_bulk_text(reply, name);
    if (id)
        kith_reply_bulk_format(reply, "%016" PRIx64, id);
    else
        kith_reply_bulk_text(reply, "");
}

/* This node's own line of the list; zeroed when it is no member. */
static struct kith_node_member own_member(const struct app *app, size_t *voters, size_t *count)
{
    struct kith_node_member own = {0}, *members = app_members(app, count);
    *voters = 0;
    for (size_t i = 0; i < *count; i++) {
        *voters += members[i].role == KITH_CORE_VOTER;
        if (members[i].self)
            own = members[i];
    }
    free(members);
    return own;
}

static void cluster_info(struct app *app, struct kith_call *call)
{
    struct kith_reply *reply = call->reply;
    struct kith_node_status status;
    size_t voters, count;
    const char *leader_address;
    struct kith_node_member own = own_member(app, &voters, &count);
    kith_node_get_status(app->node, &status);
    uint64_t leader = kith_node_leader(app->node, &leader_address);
    kith_reply_map(reply, 24);
    id_field(reply, "id", kith_node_id(app->node));
    id_field(reply, "group", kith_node_group_id(app->node));
    text_field(reply, "role", own.id ? app_role_name(own.role) : "none");
    text_field(reply, "state", state_name(app));
    text_field(reply, "address", own.address);
    text_field(reply, "client-address", app->client_address);
    id_field(reply, "leader", leader);
    text_field(reply, "leader-address", leader ? leader_address : "");
    int_field(reply, "members", (int64_t)count);
    int_field(reply, "voters", (int64_t)voters);
    int_field(reply, "term", (int64_t)status.term);
    int_field(reply, "last-index", (int64_t)status.last_index);
    int_field(reply, "commit-index", (int64_t)status.commit_index);
    int_field(reply, "applied-index", (int64_t)status.applied_index);
    int_field(reply, "lag-ms", kith_node_lag_ms(app->node));
    int_field(reply, "elections", (int64_t)status.elections);
    int_field(reply, "leader-changes", (int64_t)status.leader_changes);
    int_field(reply, "forwarded", (int64_t)status.forwarded);
    int_field(reply, "forwarded-unknown", (int64_t)status.forwarded_unknown);
    int_field(reply, "streams-sent", (int64_t)status.streams_sent);
    int_field(reply, "streams-received", (int64_t)status.streams_received);
    int_field(reply, "stream-bytes-sent", (int64_t)status.stream_bytes_sent);
    int_field(reply, "stream-bytes-received", (int64_t)status.stream_bytes_received);
    text_field(reply, "error", status.error);
}

static void cluster_health(struct app *app, struct kith_call *call)
{
    struct kith_error why;
    if (app_is_healthy(app, &why))
        kith_reply_ok(call->reply);
    else
        kith_reply_error_format(call->reply, "UNHEALTHY %s", why.text);
}

static void cluster_ready(struct app *app, struct kith_call *call)
{
    struct kith_error why;
    if (app_is_ready(app, &why))
        kith_reply_ok(call->reply);
    else
        kith_reply_error_format(call->reply, "NOTREADY %s", why.text);
}

static void describe_member(struct kith_reply *reply, const struct kith_node_member *m)
{
    kith_reply_map(reply, 15);
    id_field(reply, "id", m->id);
    text_field(reply, "address", m->address);
    text_field(reply, "client-address", m->client_address);
    text_field(reply, "role", app_role_name(m->role));
    int_field(reply, "leader", m->leader);
    int_field(reply, "self", m->self);
    int_field(reply, "connected", m->self || m->peer.connected);
    int_field(reply, "heard-ms-ago", m->self ? 0 : m->heard_ms_ago);
    int_field(reply, "match-index", (int64_t)m->match_index);
    int_field(reply, "behind-bytes", (int64_t)m->behind_bytes);
    int_field(reply, "behind-ms", m->behind_ms);
    int_field(reply, "stream-done", (int64_t)m->stream_done);
    int_field(reply, "stream-total", (int64_t)m->stream_total);
    int_field(reply, "queued-bytes", (int64_t)m->peer.queued_bytes);
    text_field(reply, "version", m->version);
}

static void cluster_nodes(struct app *app, struct kith_call *call)
{
    size_t count;
    struct kith_node_member *members = app_members(app, &count);
    if (!members) {
        kith_call_no_memory(call);
        return;
    }
    kith_reply_array(call->reply, count);
    for (size_t i = 0; i < count; i++)
        describe_member(call->reply, &members[i]);
    free(members);
}

/* --- changes --- */

struct change_result {
    int status;
    const char *text;
};

static void write_changed(void *context, struct kith_reply *reply)
{
    const struct change_result *result = context;
    if (result->status == KITH_OK)
        kith_reply_ok(reply);
    else if (result->status == KITH_EUNKNOWN)
        kith_reply_error_format(reply, "UNKNOWN %s", result->text);
    else if (result->status == KITH_EAGAIN || result->status == KITH_EBUSY)
        kith_reply_error_format(reply, "TRYAGAIN %s", result->text);
    else
        kith_reply_error_format(reply, "ERR %s", result->text);
}

static void on_changed(void *context, int status, const char *text)
{
    struct change_result result = {status, text};
    kith_server_release(context, write_changed, &result);
}

static void change(struct app *app, struct kith_call *call, enum kith_change_kind kind, uint64_t id,
                   const char *address)
{
    struct kith_connection *connection = kith_server_hold(call);
    int status = kith_node_change(app->node, kind, id, address, on_changed, connection);
    if (status == KITH_OK)
        return;
    struct change_result result = {status, kith_status_text(status)};
    kith_server_unhold(connection);
    write_changed(&result, call->reply);
}

static bool parse_id(struct kith_slice text, uint64_t *id)
{
    *id = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = (char)(text.data[i] | 0x20);
        int digit = text.data[i] >= '0' && text.data[i] <= '9' ? text.data[i] - '0'
                    : c >= 'a' && c <= 'f'                     ? c - 'a' + 10
                                                               : -1;
        if (digit < 0)
            return false;
        *id = *id << 4 | (unsigned)digit;
    }
    return text.length > 0 && text.length <= 16 && *id;
}

/* A member by its id, its address, or the address for clients. False after an error. */
static bool find_member(struct app *app, struct kith_call *call, size_t index, uint64_t *id)
{
    struct kith_slice name = call->argv[index];
    size_t count;
    struct kith_node_member *members = app_members(app, &count);
    bool found = false, is_id = parse_id(name, id);
    for (size_t i = 0; i < count && !found; i++) {
        found = is_id ? members[i].id == *id
                      : kith_slice_is(name, members[i].address) ||
                            (members[i].client_address[0] && kith_slice_is(name, members[i].client_address));
        if (found)
            *id = members[i].id;
    }
    free(members);
    if (!found)
        kith_reply_error_format(
            call->reply, "ERR no member '%.*s': give the id or an address that KITH.CLUSTER NODES shows",
            (int)(name.length < 128 ? name.length : 128), name.data);
    return found;
}

static bool take_address(struct kith_call *call, size_t index, char out[KITH_MEMBER_ADDRESS_BYTES])
{
    struct kith_slice text = call->argv[index];
    bool good = text.length > 0 && text.length < KITH_MEMBER_ADDRESS_BYTES;
    for (size_t i = 0; i < text.length && good; i++)
        good = (unsigned char)text.data[i] > ' ' && (unsigned char)text.data[i] < 0x7f;
    if (good)
        memcpy(out, text.data, text.length);
    out[good ? text.length : 0] = '\0';
    char host[KITH_MEMBER_ADDRESS_BYTES];
    unsigned port = app_split_address(out, host, sizeof host);
    if (good && port > 0 && port <= UINT16_MAX && host[0])
        return true;
    kith_reply_error(call->reply,
                     "ERR an address is HOST:PORT, of the port where the other members reach the node");
    return false;
}

static void cluster_add(struct app *app, struct kith_call *call)
{
    char address[KITH_MEMBER_ADDRESS_BYTES];
    uint64_t id;
    bool spare = call->argc == 5 && kith_call_is(call, 4, "SPARE");
    if (call->argc > 5 || (call->argc == 5 && !spare && !kith_call_is(call, 4, "STANDBY"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (!parse_id(call->argv[2], &id)) {
        kith_reply_error(call->reply,
                         "ERR a node's id is its up to 16 hexadecimal digits: KITH.CLUSTER INFO on that "
                         "node shows it");
        return;
    }
    if (take_address(call, 3, address))
        change(app, call, spare ? KITH_CHANGE_ADD_SPARE : KITH_CHANGE_ADD_STANDBY, id, address);
}

static void change_member(struct app *app, struct kith_call *call, enum kith_change_kind kind)
{
    uint64_t id;
    if (find_member(app, call, 2, &id))
        change(app, call, kind, id, NULL);
}

static void cluster_promote(struct app *app, struct kith_call *call)
{
    change_member(app, call, KITH_CHANGE_PROMOTE);
}

static void cluster_demote(struct app *app, struct kith_call *call)
{
    change_member(app, call, KITH_CHANGE_DEMOTE);
}

static void cluster_remove(struct app *app, struct kith_call *call)
{
    change_member(app, call, KITH_CHANGE_REMOVE);
}

static void cluster_move(struct app *app, struct kith_call *call)
{
    char address[KITH_MEMBER_ADDRESS_BYTES];
    uint64_t id;
    if (find_member(app, call, 2, &id) && take_address(call, 3, address))
        change(app, call, KITH_CHANGE_MOVE, id, address);
}

static void cluster_transfer(struct app *app, struct kith_call *call)
{
    uint64_t id = 0;
    if (call->argc > 3)
        kith_call_syntax_error(call);
    else if (call->argc < 3 || find_member(app, call, 2, &id))
        change(app, call, KITH_CHANGE_TRANSFER, id, NULL);
}

/* --- ROLE --- */

static void client_side(const struct kith_node_member *member, char *host, size_t size, unsigned *port)
{
    *port =
        app_split_address(member->client_address[0] ? member->client_address : member->address, host, size);
}

static void role_of_leader(struct kith_call *call, const struct kith_node_member *members, size_t count,
                           uint64_t applied)
{
    struct kith_reply *reply = call->reply;
    char host[KITH_MEMBER_ADDRESS_BYTES];
    unsigned port;
    size_t others = 0;
    for (size_t i = 0; i < count; i++)
        others += !members[i].self && members[i].role != KITH_CORE_SPARE;
    kith_reply_array(reply, 3);
    kith_reply_bulk_text(reply, "master");
    kith_reply_int(reply, (int64_t)applied);
    kith_reply_array(reply, others);
    for (size_t i = 0; i < count; i++) {
        if (members[i].self || members[i].role == KITH_CORE_SPARE)
            continue;
        client_side(&members[i], host, sizeof host, &port);
        kith_reply_array(reply, 3);
        kith_reply_bulk_text(reply, host);
        kith_reply_bulk_format(reply, "%u", port);
        kith_reply_bulk_format(reply, "%" PRIu64, members[i].match_index);
    }
}

static void role_of_follower(struct kith_call *call, const struct kith_node_member *members, size_t count,
                             uint64_t applied)
{
    struct kith_reply *reply = call->reply;
    char host[KITH_MEMBER_ADDRESS_BYTES] = "";
    unsigned port = 0;
    bool known = false;
    for (size_t i = 0; i < count; i++)
        if (members[i].leader) {
            client_side(&members[i], host, sizeof host, &port);
            known = true;
        }
    kith_reply_array(reply, 5);
    kith_reply_bulk_text(reply, "slave");
    kith_reply_bulk_text(reply, host);
    kith_reply_int(reply, port);
    kith_reply_bulk_text(reply, known ? "connected" : "connect");
    kith_reply_int(reply, (int64_t)applied);
}

static void role(struct app *app, struct kith_call *call)
{
    size_t count;
    struct kith_node_status status;
    struct kith_node_member *members = app_members(app, &count);
    kith_node_get_status(app->node, &status);
    if (!members)
        kith_call_no_memory(call);
    else if (app_is_replica(app))
        app_follow_role(app, call);
    else if (status.role == KITH_CORE_LEADER)
        role_of_leader(call, members, count, status.applied_index);
    else
        role_of_follower(call, members, count, status.applied_index);
    free(members);
}

app_command_function app_cluster_command(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {{"kith.cluster|info", cluster_info},
                    {"kith.cluster|health", cluster_health},
                    {"kith.cluster|ready", cluster_ready},
                    {"kith.cluster|nodes", cluster_nodes},
                    {"kith.cluster|add", cluster_add},
                    {"kith.cluster|promote", cluster_promote},
                    {"kith.cluster|demote", cluster_demote},
                    {"kith.cluster|remove", cluster_remove},
                    {"kith.cluster|transfer", cluster_transfer},
                    {"kith.cluster|move", cluster_move},
                    {"role", role}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
