/* CONFIG GET, SET, RESETSTAT, REWRITE. SET is all or nothing: it works on a copy, which becomes the
 * configuration when every pair was accepted. */
#include "base/glob.h"
#include "base/log.h"
#include "net/server.h"
#include "prog/app.h"

#include <stdio.h>
#include <string.h>

static bool asked_for(const struct kith_call *call, const char *name)
{
    for (size_t i = 2; i < call->argc; i++)
        if (kith_glob_match(call->argv[i], kith_slice(name, strlen(name)), true))
            return true;
    return false;
}

static void config_get(struct app *app, struct kith_call *call)
{
    struct kith_reply_mark mark = kith_reply_map_begin(call->reply);
    size_t pairs = 0;
    struct kith_buf value;
    kith_buf_init(&value);
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        if (!asked_for(call, kith_config_key_name(key)))
            continue;
        kith_buf_clear(&value);
        kith_config_key_value(&app->config, key, &value);
        kith_reply_bulk_text(call->reply, kith_config_key_name(key));
        kith_reply_bulk(call->reply, kith_buf_slice(&value));
        pairs++;
    }
    kith_buf_fini(&value);
    kith_reply_map_end(call->reply, mark, pairs);
}

static void refuse(struct kith_call *call, struct kith_slice name, int status, const struct kith_error *error)
{
    int length = (int)(name.length < 128 ? name.length : 128);
    if (status == KITH_ENOENT)
        kith_reply_error_format(call->reply,
                                "ERR Unknown option or number of arguments for CONFIG SET - '%.*s' (%s)",
                                length, name.data, error->text);
    else
        kith_reply_error_format(call->reply,
                                "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s", length,
                                name.data, error->text);
}

static bool is_repeated(const struct kith_call *call, size_t at)
{
    for (size_t i = 2; i < at; i += 2)
        if (call->argv[i].length == call->argv[at].length &&
            strncasecmp(call->argv[i].data, call->argv[at].data, call->argv[at].length) == 0)
            return true;
    return false;
}

static void take_effect(struct app *app)
{
    static const enum kith_log_level levels[] = {KITH_LOG_DEBUG, KITH_LOG_INFO, KITH_LOG_INFO,
                                                 KITH_LOG_WARNING};
    static const enum kith_durability durabilities[] = {KITH_DURABILITY_ALWAYS, KITH_DURABILITY_EVERYSEC,
                                                        KITH_DURABILITY_NONE};
    struct kith_server_options options = app_server_options(app);
    kith_server_configure(app->server, &options);
    kith_node_set_durability(app->node, durabilities[app->config.durability]);
    kith_log_set_level(levels[app->config.log_level]);
    struct kith_node_limits limits = app_node_limits(app);
    kith_node_set_limits(app->node, &limits);
    app_cluster_configure(app);
    app_follow_configure(app);
}

static void config_set(struct app *app, struct kith_call *call)
{
    struct kith_config changed;
    struct kith_error error = {""};
    if (call->argc % 2 != 0) {
        kith_call_wrong_arity(call);
        return;
    }
    if (kith_config_copy(&changed, &app->config) != KITH_OK) {
        kith_call_no_memory(call);
        return;
    }
    int status = KITH_OK;
    size_t at = 2;
    for (; at < call->argc && !status; at += 2) {
        if (is_repeated(call, at))
            status = kith_error_set(&error, KITH_EINVAL, "duplicate parameter");
        else
            status = kith_config_set(&changed, call->argv[at], &call->argv[at + 1], 1, true, &error);
    }
    if (!status)
        status = kith_config_check(&changed, &error);
    if (status) {
        refuse(call, call->argv[at - 2], status, &error);
        kith_config_fini(&changed);
        return;
    }
    struct kith_config old = app->config;
    app->config = changed;
    take_effect(app);
    kith_config_fini(&old);
    kith_reply_ok(call->reply);
}

static void config_resetstat(struct app *app, struct kith_call *call)
{
    kith_server_reset_stats(app->server);
    kith_reply_ok(call->reply);
}

/* The file is the operator's, comments and order included: we say what to write instead of writing over it.
 */
static void config_rewrite(struct app *app, struct kith_call *call)
{
    if (!app->config_file)
        kith_reply_error(call->reply, "ERR The server is running without a config file");
    else
        kith_reply_error_format(call->reply,
                                "ERR Kith does not write over %s: put the line '<name> <value>' there "
                                "yourself; CONFIG GET * shows what is in effect",
                                app->config_file);
}

app_command_function app_config_command(const char *name)
{
    static const struct {
        const char *name;
        app_command_function run;
    } commands[] = {{"config|get", config_get},
                    {"config|set", config_set},
                    {"config|resetstat", config_resetstat},
                    {"config|rewrite", config_rewrite}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run;
    return NULL;
}
