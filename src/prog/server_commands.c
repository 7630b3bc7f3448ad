/* Commands that concern the server as a whole: which function runs which name, and the small ones. */
#include "prog/app.h"

#include <string.h>

static void module_list(struct app *app, struct kith_call *call)
{
    kith_reply_array(call->reply, 0);
}

/* There are no functions to flush: the state that is asked for is the state that is. */
static void function_flush(struct app *app, struct kith_call *call)
{
    if (call->argc > 3 ||
        (call->argc == 3 && !kith_call_is(call, 2, "SYNC") && !kith_call_is(call, 2, "ASYNC")))
        kith_reply_error(call->reply, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
    else
        kith_reply_ok(call->reply);
}

static app_command_function find(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {{"info", app_info}, {"module|list", module_list}, {"function|flush", function_flush}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    app_command_function run = app_config_command(name);
    if (!run)
        run = app_backup_command(name);
    if (!run)
        run = app_save_command(name);
    if (!run)
        run = app_cluster_command(name);
    if (!run)
        run = app_wait_command(name);
    return run ? run : app_debug_command(name);
}

void app_command(void *context, struct kith_call *call)
{
    struct app *app = context;
    if (kith_server_command(app->server, call))
        return;
    app_command_function run = find(call->command->name);
    if (run)
        run(app, call);
    else
        kith_reply_error_format(call->reply, "ERR '%s' is not part of this server", call->command->name);
}
