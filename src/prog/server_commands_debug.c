/* DEBUG: what tests of clients and of this server need, for whom `enable-debug-command` says. */
#include "base/num.h"
#include "prog/app.h"

#include <math.h>
#include <string.h>
#include <time.h>

static bool is_allowed(struct app *app, struct kith_call *call)
{
    int64_t who = app->config.debug_command;
    if (who == KITH_CONFIG_DEBUG_YES || (who == KITH_CONFIG_DEBUG_LOCAL && kith_server_is_local(call)))
        return true;
    kith_reply_error(call->reply,
                     "ERR DEBUG command not allowed. If the enable-debug-command option is set to "
                     "\"local\", you can run it from a local connection, otherwise you need to set "
                     "this option in the configuration file, and then restart the server.");
    return false;
}

/* Stops the whole server, as clients' tests of time-outs expect. */
static void debug_sleep(struct app *app, struct kith_call *call)
{
    double seconds;
    if (!is_allowed(app, call) || !kith_call_double(call, 2, &seconds, NULL))
        return;
    if (!(seconds >= 0 && seconds <= 3600)) {
        kith_reply_error(call->reply, "ERR DEBUG SLEEP takes 0 to 3600 seconds");
        return;
    }
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1.0) * 1e9)};
    while (nanosleep(&left, &left) != 0)
        continue;
    kith_reply_ok(call->reply);
}

/* A key past its time is never returned either way; this only says whether its memory comes back by itself.
 */
static void debug_set_active_expire(struct app *app, struct kith_call *call)
{
    int64_t on;
    if (!is_allowed(app, call) || !kith_call_int_in(call, 2, 0, 1, &on, NULL))
        return;
    kith_server_set_ticks(app->server, on);
    kith_reply_ok(call->reply);
}

/* One reply of each kind, for tests of clients. */
static void debug_protocol(struct app *app, struct kith_call *call)
{
    struct kith_reply *reply = call->reply;
    if (!is_allowed(app, call))
        return;
    if (kith_call_is(call, 2, "string"))
        kith_reply_bulk_text(reply, "Hello World");
    else if (kith_call_is(call, 2, "integer"))
        kith_reply_int(reply, 12345);
    else if (kith_call_is(call, 2, "double"))
        kith_reply_double(reply, 3.141);
    else if (kith_call_is(call, 2, "null"))
        kith_reply_null(reply);
    else if (kith_call_is(call, 2, "array") || kith_call_is(call, 2, "set")) {
        if (kith_call_is(call, 2, "array"))
            kith_reply_array(reply, 3);
        else
            kith_reply_set(reply, 3);
        for (int i = 0; i < 3; i++)
            kith_reply_int(reply, i);
    } else if (kith_call_is(call, 2, "map")) {
        kith_reply_map(reply, 3);
        for (int i = 0; i < 3; i++) {
            kith_reply_int(reply, i);
            kith_reply_bool(reply, i == 1);
        }
    } else if (kith_call_is(call, 2, "bignum"))
        kith_reply_big_number(reply, KITH_SLICE("1234567999999999999999999999999999999"));
    else if (kith_call_is(call, 2, "true"))
        kith_reply_bool(reply, true);
    else if (kith_call_is(call, 2, "false"))
        kith_reply_bool(reply, false);
    else if (kith_call_is(call, 2, "verbatim"))
        kith_reply_verbatim(reply, "txt", KITH_SLICE("This is a verbatim\nstring"));
    else
        kith_reply_error(reply, "ERR Wrong protocol type name. Please use one of the following: "
                                "string|integer|double|null|array|set|map|bignum|verbatim|true|false");
}

app_command_function app_debug_command(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {{"debug|sleep", debug_sleep},
                    {"debug|set-active-expire", debug_set_active_expire},
                    {"debug|protocol", debug_protocol}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
