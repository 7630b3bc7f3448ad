/* CLIENT: what the server knows of its connections, and what a client may say about itself. */
#include "base/num.h"
#include "net/internal.h"
#include "net/session_name.h"

enum { ADDRESS_BYTES = 128 };

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

/* One line of CLIENT LIST, in the field order that tools parse. */
static void describe(const struct kith_connection *c, const struct kith_connection *asking,
                     struct kith_buf *out)
{
    char peer[ADDRESS_BYTES], own[ADDRESS_BYTES];
    uv_os_fd_t fd = -1;
    uint64_t now_ms = uv_now(&c->server->loop);
    connection_address(c, true, peer, sizeof peer);
    connection_address(c, false, own, sizeof own);
    uv_fileno(&c->handle, &fd);
    size_t memory = connection_memory(c);
    kith_buf_append_format(
        out,
        "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=%u sub=0 psub=0 ssub=0 "
        "multi=-1 "
        "watch=0 qbuf=%zu qbuf-free=%zu argv-mem=0 multi-mem=0 rbs=%zu rbp=0 obl=%zu oll=%d omem=%zu "
        "tot-mem=%zu "
        "events=%s cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s",
        (unsigned long long)c->session.id, peer, own, (int)fd, text_or_empty(c->session.name),
        (unsigned long long)(now_ms - c->created_ms) / 1000,
        (unsigned long long)(now_ms - c->active_ms) / 1000, c->flags & CONNECTION_PIPE ? "U" : "N",
        c->session.db_index, c->query.length, c->query.capacity - c->query.length, c->out.capacity,
        c == asking ? 0 : c->out.length, c->sending_left > 0, c->sending_left, memory,
        c->sending_left ? "rw" : "r", c->session.last_command ? c->session.last_command->name : "NULL",
        c->session.protocol, text_or_empty(c->session.library_name),
        text_or_empty(c->session.library_version));
}

static void client_id(struct kith_call *call)
{
    kith_reply_int(call->reply, (int64_t)call->session->id);
}

static void client_info(struct kith_call *call)
{
    struct kith_buf text;
    kith_buf_init(&text);
    call->session->last_command = call->command;
    describe(connection_of(call), connection_of(call), &text);
    kith_buf_append_char(&text, '\n');
    if (text.failed)
        kith_call_no_memory(call);
    else
        kith_reply_verbatim(call->reply, "txt", kith_buf_slice(&text));
    kith_buf_fini(&text);
}

/* --- which clients
 * ------------------------------------------------------------------------------------------- */

struct filter {
    const struct kith_slice *ids; /* borrowed; NULL: any */
    size_t id_count;
    struct kith_slice peer, own, user; /* empty: any */
    bool nobody;                       /* a type that no connection has */
    bool skip_me;
    int64_t age_least_s;
};

static bool filter_matches(const struct filter *filter, const struct kith_connection *c,
                           const struct kith_connection *asking)
{
    char address[ADDRESS_BYTES];
    if ((c->flags & CONNECTION_CLOSING) || filter->nobody || (filter->skip_me && c == asking))
        return false;
    bool listed = !filter->ids;
    for (size_t i = 0; i < filter->id_count && !listed; i++) {
        int64_t id;
        listed = kith_num_parse_int64(filter->ids[i], &id) == KITH_OK && (uint64_t)id == c->session.id;
    }
    if (!listed)
        return false;
    connection_address(c, true, address, sizeof address);
    if (filter->peer.length && !kith_slice_is(filter->peer, address))
        return false;
    connection_address(c, false, address, sizeof address);
    if (filter->own.length && !kith_slice_is(filter->own, address))
        return false;
    if (filter->user.length && !kith_slice_equal(filter->user, KITH_SLICE("default")))
        return false;
    return uv_now(&c->server->loop) - c->created_ms >= (uint64_t)filter->age_least_s * 1000;
}

/* normal, master, replica, slave, pubsub; false after an error. */
static bool filter_type(struct kith_call *call, size_t at, struct filter *filter)
{
    static const char *const types[] = {"normal", "master", "replica", "slave", "pubsub"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!kith_call_is(call, at, types[i]))
            continue;
        filter->nobody = i > 0;
        return true;
    }
    kith_reply_error_format(call->reply, "ERR Unknown client type '%.*s'",
                            (int)(call->argv[at].length < 64 ? call->argv[at].length : 64),
                            call->argv[at].data);
    return false;
}

static bool ids_are_valid(struct kith_call *call, size_t first, size_t count, const char *error)
{
    for (size_t i = 0; i < count; i++) {
        int64_t id;
        if (!kith_call_int_in(call, first + i, 1, INT64_MAX, &id, error))
            return false;
    }
    return true;
}

static void client_list(struct kith_call *call)
{
    struct kith_connection *asking = connection_of(call);
    struct filter filter = {0};
    if (call->argc == 4 && kith_call_is(call, 2, "TYPE")) {
        if (!filter_type(call, 3, &filter))
            return;
    } else if (call->argc > 3 && kith_call_is(call, 2, "ID")) {
        filter.ids = call->argv + 3;
        filter.id_count = call->argc - 3;
        if (!ids_are_valid(call, 3, filter.id_count, "ERR Invalid client ID"))
            return;
    } else if (call->argc != 2) {
        kith_call_syntax_error(call);
        return;
    }
    struct kith_buf text;
    kith_buf_init(&text);
    call->session->last_command = call->command;
    for (const struct kith_connection *c = asking->server->connections; c; c = c->next) {
        if (!filter_matches(&filter, c, asking))
            continue;
        describe(c, asking, &text);
        kith_buf_append_char(&text, '\n');
    }
    if (text.failed)
        kith_call_no_memory(call);
    else
        kith_reply_verbatim(call->reply, "txt", kith_buf_slice(&text));
    kith_buf_fini(&text);
}

/* --- KILL
 * ---------------------------------------------------------------------------------------------------- */

static bool kill_option(struct kith_call *call, size_t at, struct filter *filter)
{
    if (kith_call_is(call, at, "ID")) {
        filter->ids = call->argv + at + 1;
        filter->id_count = 1;
        return ids_are_valid(call, at + 1, 1, "ERR client-id should be greater than 0");
    }
    if (kith_call_is(call, at, "TYPE"))
        return filter_type(call, at + 1, filter);
    if (kith_call_is(call, at, "ADDR")) {
        filter->peer = call->argv[at + 1];
        return true;
    }
    if (kith_call_is(call, at, "LADDR")) {
        filter->own = call->argv[at + 1];
        return true;
    }
    if (kith_call_is(call, at, "USER")) {
        filter->user = call->argv[at + 1];
        if (kith_slice_equal(filter->user, KITH_SLICE("default")))
            return true;
        kith_reply_error_format(call->reply, "ERR No such user '%.*s'",
                                (int)(filter->user.length < 64 ? filter->user.length : 64),
                                filter->user.data);
        return false;
    }
    if (kith_call_is(call, at, "MAXAGE"))
        return kith_call_int_in(call, at + 1, 1, INT32_MAX, &filter->age_least_s,
                                "ERR maxage is not an integer or out of range");
    if (kith_call_is(call, at, "SKIPME") &&
        (kith_call_is(call, at + 1, "yes") || kith_call_is(call, at + 1, "no"))) {
        filter->skip_me = kith_call_is(call, at + 1, "yes");
        return true;
    }
    kith_call_syntax_error(call);
    return false;
}

static int64_t kill_matching(struct kith_call *call, const struct filter *filter)
{
    struct kith_connection *asking = connection_of(call);
    int64_t killed = 0;
    for (struct kith_connection *c = asking->server->connections; c; c = c->next) {
        if (!filter_matches(filter, c, asking))
            continue;
        killed++;
        if (c == asking)
            c->flags |= CONNECTION_LAST_REPLY;
        else
            connection_close(c);
    }
    return killed;
}

static void client_kill(struct kith_call *call)
{
    struct filter filter = {.skip_me = true};
    if (call->argc == 3) {
        filter.skip_me = false;
        filter.peer = call->argv[2];
        if (filter.peer.length && kill_matching(call, &filter))
            kith_reply_ok(call->reply);
        else
            kith_reply_error(call->reply, "ERR No such client");
        return;
    }
    if (call->argc % 2 != 0) {
        kith_call_syntax_error(call);
        return;
    }
    for (size_t i = 2; i < call->argc; i += 2)
        if (!kill_option(call, i, &filter))
            return;
    kith_reply_int(call->reply, kill_matching(call, &filter));
}

/* --- what a client says of itself
 * ---------------------------------------------------------------------------- */

static void client_getname(struct kith_call *call)
{
    if (call->session->name)
        kith_reply_bulk_text(call->reply, call->session->name);
    else
        kith_reply_null(call->reply);
}

static void client_setname(struct kith_call *call)
{
    if (!session_name_is_valid(call->argv[2]))
        kith_reply_error(call->reply,
                         "ERR Client names cannot contain spaces, newlines or special characters.");
    else if (session_set_text(&call->session->name, call->argv[2]) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_ok(call->reply);
}

static void client_setinfo(struct kith_call *call)
{
    bool name = kith_call_is(call, 2, "LIB-NAME");
    if (!name && !kith_call_is(call, 2, "LIB-VER")) {
        kith_reply_error_format(call->reply, "ERR Unrecognized option '%.*s'",
                                (int)(call->argv[2].length < 64 ? call->argv[2].length : 64),
                                call->argv[2].data);
        return;
    }
    char **text = name ? &call->session->library_name : &call->session->library_version;
    if (!session_name_is_valid(call->argv[3]))
        kith_reply_error_format(call->reply, "ERR %s cannot contain spaces, newlines or special characters.",
                                name ? "lib-name" : "lib-ver");
    else if (session_set_text(text, call->argv[3]) != KITH_OK)
        kith_call_no_memory(call);
    else
        kith_reply_ok(call->reply);
}

/* Reads ON or OFF at argv[2]; false after an error. */
static bool on_or_off(struct kith_call *call, bool *on)
{
    *on = kith_call_is(call, 2, "ON");
    if (*on || kith_call_is(call, 2, "OFF"))
        return true;
    kith_call_syntax_error(call);
    return false;
}

static void client_no_evict(struct kith_call *call)
{
    if (!on_or_off(call, &call->session->no_evict))
        return;
    kith_reply_ok(call->reply);
}

static void client_no_touch(struct kith_call *call)
{
    struct kith_connection *connection = connection_of(call);
    bool on;
    if (!on_or_off(call, &on))
        return;
    connection->flags =
        on ? connection->flags | CONNECTION_NO_TOUCH : connection->flags & ~CONNECTION_NO_TOUCH;
    kith_reply_ok(call->reply);
}

/* The dispatcher drops this reply unless the mode is "on" afterwards. */
static void client_reply(struct kith_call *call)
{
    if (kith_call_is(call, 2, "ON"))
        call->session->reply_mode = 0;
    else if (kith_call_is(call, 2, "OFF"))
        call->session->reply_mode = 'o';
    else if (kith_call_is(call, 2, "SKIP"))
        call->session->reply_mode = call->session->reply_mode == 'o' ? 'o' : 's';
    else {
        kith_call_syntax_error(call);
        return;
    }
    kith_reply_ok(call->reply);
}

connection_command client_command_find(const char *name)
{
    static const struct {
        const char *name;
        connection_command run;
    } commands[] = {
        {"client|id", client_id},
        {"client|info", client_info},
        {"client|list", client_list},
        {"client|kill", client_kill},
        {"client|getname", client_getname},
        {"client|setname", client_setname},
        {"client|setinfo", client_setinfo},
        {"client|no-evict", client_no_evict},
        {"client|no-touch", client_no_touch},
        {"client|reply", client_reply},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
