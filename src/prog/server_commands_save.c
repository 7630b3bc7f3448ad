/* SAVE, BGSAVE, LASTSAVE, SHUTDOWN. A save is a checkpoint; the keyspace thread goes on serving while it
 * runs, and the client of SAVE waits for its end. */
#include "base/log.h"
#include "net/server.h"
#include "prog/app.h"

#include <string.h>

/* No file, nothing to save: as good as saved. */
static bool is_memory_only(const struct app *app)
{
    struct kith_node_status status;
    kith_node_get_status(app->node, &status);
    return status.in_memory;
}

static void write_saved(void *context, struct kith_reply *reply)
{
    int status = *(const int *)context;
    if (status == KITH_OK)
        kith_reply_ok(reply);
    else
        kith_reply_error_format(reply,
                                "ERR the checkpoint failed: %s. The log still holds everything; see the "
                                "server's log lines for the cause",
                                kith_status_text(status));
}

static void on_saved(void *context, int status)
{
    kith_server_release(context, write_saved, &status);
}

static bool start_checkpoint(struct app *app, struct kith_call *call, void (*done)(void *context, int status),
                             void *context)
{
    int status = kith_node_checkpoint(app->node, done, context);
    if (status == KITH_EBUSY)
        kith_reply_error(call->reply, "ERR Background save already in progress");
    else if (status == KITH_EAGAIN)
        kith_reply_error(call->reply,
                         "TRYAGAIN a change of the group is not applied on this node yet: save again "
                         "in a moment; the log holds everything");
    else if (status)
        write_saved(&status, call->reply);
    return status == KITH_OK;
}

static void save(struct app *app, struct kith_call *call)
{
    if (is_memory_only(app)) {
        kith_reply_error(call->reply, "ERR this server keeps nothing on disk: start it with a --dir to save");
        return;
    }
    struct kith_connection *connection = kith_server_hold(call);
    if (!start_checkpoint(app, call, on_saved, connection))
        kith_server_unhold(connection);
}

static void bgsave(struct app *app, struct kith_call *call)
{
    if (call->argc > 2 || (call->argc == 2 && !kith_call_is(call, 1, "SCHEDULE"))) {
        kith_call_syntax_error(call);
        return;
    }
    if (is_memory_only(app)) {
        kith_reply_error(call->reply, "ERR this server keeps nothing on disk: start it with a --dir to save");
        return;
    }
    struct kith_node_status status;
    kith_node_get_status(app->node, &status);
    if (call->argc == 2 && status.checkpoint_running)
        kith_reply_simple(call->reply, "Background saving scheduled");
    else if (start_checkpoint(app, call, NULL, NULL))
        kith_reply_simple(call->reply, "Background saving started");
}

static void lastsave(struct app *app, struct kith_call *call)
{
    struct kith_node_status status;
    kith_node_get_status(app->node, &status);
    kith_reply_int(call->reply, status.last_save_ms / 1000);
}

static void shutdown_server(struct app *app, struct kith_call *call)
{
    bool nosave = false;
    for (size_t i = 1; i < call->argc; i++) {
        if (kith_call_is(call, i, "NOSAVE")) {
            nosave = true;
        } else if (kith_call_is(call, i, "ABORT")) {
            kith_reply_error(call->reply, "ERR No shutdown in progress.");
            return;
        } else if (!kith_call_is(call, i, "SAVE") && !kith_call_is(call, i, "NOW") &&
                   !kith_call_is(call, i, "FORCE")) {
            kith_call_syntax_error(call);
            return;
        }
    }
    KITH_INFO("client %llu asked for the shutdown", (unsigned long long)call->session->id);
    if (nosave)
        kith_node_skip_final_checkpoint(app->node);
    app_stop(app);
}

app_command_function app_save_command(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {
        {"save", save}, {"bgsave", bgsave}, {"lastsave", lastsave}, {"shutdown", shutdown_server}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
