/* KITH.REQUEST id command ...: a write that may be repeated when nobody knows whether it came through. The first one is
 * carried out and its reply kept; a repeat gets that reply. The reply is in RESP2's form for every client, since it is
 * state: it cannot depend on who asks. */
#include "base/status.h"
#include "engine/commands/groups.h"
#include "engine/engine.h"
#include "engine/state.h"

#include <stdlib.h>

const struct kith_command *kith_request_inner(const struct kith_engine *engine, const struct kith_slice *argv,
                                              size_t argc, struct kith_reply *reply)
{
    if (argv[1].length == 0 || argv[1].length > KITH_REQUEST_ID_MAX) {
        kith_reply_error_format(reply, "ERR a request's id has 1 to %d bytes", KITH_REQUEST_ID_MAX);
        return NULL;
    }
    const struct kith_command *inner = kith_engine_admit(engine, argv + 2, argc - 2, reply);
    if (inner &&
        (!(inner->flags & KITH_CMD_WRITE) || !inner->handler || strcmp(inner->name, "kith.request") == 0)) {
        kith_reply_error_format(reply, "ERR '%s' is no write: repeat it without an id", inner->name);
        return NULL;
    }
    return inner;
}

static void answer(struct kith_call *call, const struct kith_request_entry *entry)
{
    struct kith_slice reply = kith_request_reply(entry);
    if (!entry->kept)
        kith_reply_error(call->reply,
                         "REQUESTDONE this request was carried out before, and its reply was too long to "
                         "keep: read what it wrote");
    else if (reply.length && reply.data[0] == '-')
        kith_reply_error_slice(call->reply, kith_slice(reply.data + 1, reply.length - 3));
    else
        kith_reply_raw(call->reply, reply.data, reply.length);
}

static void request_command(struct kith_call *call)
{
    struct kith_requests *requests = &call->engine->requests;
    struct kith_request_entry *room;
    const struct kith_command *inner = kith_request_inner(call->engine, call->argv, call->argc, call->reply);
    if (!inner)
        return;
    const struct kith_request_entry *known = kith_requests_find(requests, call->argv[1]);
    if (known) {
        answer(call, known);
        return;
    }
    if (kith_requests_reserve(requests, call->argv[1], &room) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    struct kith_buf bytes = {0};
    struct kith_reply reply;
    kith_reply_init(&reply, &bytes, 2);
    struct kith_call sub = *call;
    sub.command = inner;
    sub.argv += 2;
    sub.argc -= 2;
    sub.reply = &reply;
    sub.hashed = false;
    inner->handler(&sub);
    kith_requests_add(requests, room, kith_buf_slice(&bytes), !bytes.failed);
    if (reply.error_count && bytes.length > 3 && bytes.data[0] == '-')
        kith_reply_error_slice(call->reply, kith_slice(bytes.data + 1, bytes.length - 3));
    else
        kith_reply_raw(call->reply, bytes.data, bytes.length);
    kith_buf_fini(&bytes);
}

/* clang-format off */
const struct kith_command kith_request_commands[] = {
    {.name = "kith.request", .arity = -3, .flags = KITH_CMD_WRITE | KITH_CMD_NOSCRIPT,
     .group = "generic", .since = "kith 0.1", .complexity = "That of the command, and O(1)",
     .summary = "Carries a write out unless it was carried out under this id before; either way the first reply is returned, in RESP2's form.",
     .syntax = "request-id command [argument ...]", .handler = request_command},
    {0},
};
/* clang-format on */
