/* GET /health, /ready and /metrics. Probes come from wherever an orchestrator runs, so whoever reaches the port learns
 * whether this node is well; reasons and figures follow protected mode, as clients do. */
#include "prog/watch.h"

#include "net/http.h"

#include <stdlib.h>

/* --- what is told --- */

bool app_is_healthy(const struct app *app, struct kith_error *why)
{
    const char *failed = kith_node_error(app->node);
    if (!*failed)
        return true;
    kith_error_set(why, KITH_EIO, "%s", failed);
    return false;
}

/* Of this node's own place in its group; false: it has none that serves. */
static bool is_serving_member(const struct app *app, struct kith_error *why)
{
    size_t count;
    bool found = false, is_spare = false;
    struct kith_node_member *members = app_members(app, &count);
    for (size_t i = 0; i < count; i++)
        if (members[i].self) {
            found = true;
            is_spare = members[i].role == KITH_CORE_SPARE;
        }
    free(members);
    if (found && !is_spare)
        return true;
    kith_error_set(why, KITH_EAGAIN, "%s",
                   is_spare ? "this node is a spare: it has no data"
                            : "this node is not a member of its group, or has not heard from it yet");
    return false;
}

static bool is_near(const struct app *app, struct kith_error *why)
{
    int64_t lag_ms = kith_node_lag_ms(app->node), most_ms = app->config.metrics_ready_lag_ms;
    if (!most_ms || (lag_ms >= 0 && lag_ms <= most_ms))
        return true;
    if (lag_ms < 0)
        kith_error_set(why, KITH_EAGAIN, "not caught up with the leader yet");
    else
        kith_error_set(why, KITH_EAGAIN, "%lld ms behind the leader: more than metrics-ready-lag-ms, %lld",
                       (long long)lag_ms, (long long)most_ms);
    return false;
}

bool app_is_ready(const struct app *app, struct kith_error *why)
{
    const char *address;
    if (!app_is_healthy(app, why))
        return false;
    if (app->is_ending || kith_server_is_stopping(app->server)) {
        kith_error_set(why, KITH_ECLOSED, "stopping");
        return false;
    }
    if (kith_node_is_loading(app->node)) {
        kith_error_set(why, KITH_EAGAIN, "loading a checkpoint of the leader");
        return false;
    }
    if (!is_serving_member(app, why))
        return false;
    if (!kith_node_leader(app->node, &address)) {
        kith_error_set(why, KITH_EAGAIN, "no leader is known: the group may have lost its majority");
        return false;
    }
    return is_near(app, why);
}

/* --- the port --- */

static bool may_see_all(const struct app *app, const struct kith_http_question *question)
{
    return question->is_local || !app->config.protected_mode || *app->config.requirepass;
}

static void answer_state(const struct app *app, const struct kith_http_question *question,
                         struct kith_http_answer *answer, bool is_ready_asked)
{
    struct kith_error why = {""};
    bool good = is_ready_asked ? app_is_ready(app, &why) : app_is_healthy(app, &why);
    answer->status = good ? 200 : 503;
    kith_buf_append_format(answer->body, "%s\n",
                           good                         ? "ok"
                           : may_see_all(app, question) ? why.text
                           : is_ready_asked             ? "not ready"
                                                        : "not healthy");
}

static void answer_metrics(struct app *app, const struct kith_http_question *question,
                           struct kith_http_answer *answer)
{
    if (may_see_all(app, question)) {
        answer->type = "text/plain; version=0.0.4; charset=utf-8";
        app_metrics(app, answer->body);
        return;
    }
    answer->status = 403;
    kith_buf_append_text(
        answer->body,
        "Kith runs in protected mode: as long as it has no password it tells its figures to this machine "
        "only. "
        "Set 'requirepass', or, in a network that you trust entirely, turn 'protected-mode' off.\n");
}

static void on_question(void *context, const struct kith_http_question *question,
                        struct kith_http_answer *answer)
{
    struct app *app = context;
    if (kith_slice_equal(question->path, KITH_SLICE("/metrics"))) {
        answer_metrics(app, question, answer);
    } else if (kith_slice_equal(question->path, KITH_SLICE("/health"))) {
        answer_state(app, question, answer, false);
    } else if (kith_slice_equal(question->path, KITH_SLICE("/ready"))) {
        answer_state(app, question, answer, true);
    } else {
        answer->status = 404;
        kith_buf_append_text(answer->body, "There are /metrics, /health and /ready.\n");
    }
}

int app_watch_open(struct app *app, struct kith_error *error)
{
    struct kith_http_options options = {.loop = kith_server_loop(app->server),
                                        .bind = app->config.metrics_bind,
                                        .bind_name = "metrics-bind",
                                        .port = (uint16_t)app->config.metrics_port,
                                        .context = app,
                                        .answer = on_question};
    return options.port ? kith_http_open(&app->http, &options, error) : KITH_OK;
}

void app_watch_close(struct app *app)
{
    kith_http_close(app->http);
    app->http = NULL;
}
