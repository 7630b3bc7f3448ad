/* Following a Redis or Valkey, as the server's parts see it: the link's options out of the configuration, ROLE, and the
 * lines of INFO replication that clients know from a replica. */
#include "engine/upstream.h"
#include "prog/app.h"

#include <inttypes.h>
#include <string.h>

static struct kith_follow_options options_of(const struct app *app)
{
    const struct kith_config *config = &app->config;
    return (struct kith_follow_options){.user = config->masteruser,
                                        .password = config->masterauth,
                                        .timeout_s = (unsigned)config->repl_timeout_s,
                                        .port = (unsigned)config->port,
                                        .announce = ""};
}

int app_follow_open(struct app *app)
{
    struct kith_follow_options options = options_of(app);
    return kith_follow_open(&app->follow, kith_server_loop(app->server), app->engine, app->node, &options);
}

void app_follow_configure(struct app *app)
{
    struct kith_follow_options options = options_of(app);
    kith_follow_configure(app->follow, &options);
}

bool app_is_replica(const struct app *app)
{
    return kith_upstream_follows(kith_engine_upstream(app->engine)) &&
           kith_node_role(app->node) == KITH_CORE_LEADER;
}

/* As ROLE names them. */
static const char *state_name(enum kith_follow_state state)
{
    static const char *const names[] = {[KITH_FOLLOW_NONE] = "none",
                                        [KITH_FOLLOW_CONNECT] = "connect",
                                        [KITH_FOLLOW_CONNECTING] = "connecting",
                                        [KITH_FOLLOW_SYNC] = "sync",
                                        [KITH_FOLLOW_CONNECTED] = "connected"};
    return names[state];
}

void app_follow_role(struct app *app, struct kith_call *call)
{
    const struct kith_upstream *upstream = kith_engine_upstream(app->engine);
    struct kith_follow_status status;
    kith_follow_get_status(app->follow, &status);
    kith_reply_array(call->reply, 5);
    kith_reply_bulk_text(call->reply, "slave");
    kith_reply_bulk_text(call->reply, upstream->host);
    kith_reply_int(call->reply, upstream->port);
    kith_reply_bulk_text(call->reply, state_name(status.state));
    kith_reply_int(call->reply, upstream->phase == KITH_UPSTREAM_LIVE ? upstream->offset : -1);
}

static void copy_lines(struct kith_buf *out, const struct kith_follow_status *status)
{
    kith_buf_append_format(out,
                           "master_sync_total_bytes:%" PRId64 "\r\nmaster_sync_read_bytes:%" PRId64
                           "\r\nmaster_sync_left_bytes:%" PRId64 "\r\n",
                           status->copy_total, status->copy_done,
                           status->copy_total < 0 ? -1 : status->copy_total - status->copy_done);
}

void app_follow_info(struct app *app, struct kith_buf *out)
{
    const struct kith_upstream *upstream = kith_engine_upstream(app->engine);
    struct kith_follow_status status;
    kith_follow_get_status(app->follow, &status);
    bool syncs = status.state == KITH_FOLLOW_SYNC;
    int64_t offset = upstream->phase == KITH_UPSTREAM_LIVE ? upstream->offset : 0;
    kith_buf_append_format(out,
                           "master_host:%s\r\nmaster_port:%u\r\nmaster_link_status:%s\r\n"
                           "master_last_io_seconds_ago:%" PRId64 "\r\nmaster_sync_in_progress:%d\r\n"
                           "slave_read_repl_offset:%" PRId64 "\r\nslave_repl_offset:%" PRId64 "\r\n",
                           upstream->host, upstream->port,
                           status.state == KITH_FOLLOW_CONNECTED ? "up" : "down",
                           status.io_ms_ago < 0 ? -1 : status.io_ms_ago / 1000, syncs, offset, offset);
    if (syncs)
        copy_lines(out, &status);
    if (status.state != KITH_FOLLOW_CONNECTED)
        kith_buf_append_format(out, "master_link_down_since_seconds:%" PRId64 "\r\n", status.down_ms / 1000);
    kith_buf_append_text(out, "slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n");
}

void app_upstream_info(struct app *app, struct kith_buf *out)
{
    static const char *const phases[] = {[KITH_UPSTREAM_OFF] = "off",
                                         [KITH_UPSTREAM_WAITING] = "waiting",
                                         [KITH_UPSTREAM_LOADING] = "loading",
                                         [KITH_UPSTREAM_LIVE] = "live"};
    const struct kith_upstream *upstream = kith_engine_upstream(app->engine);
    struct kith_follow_status status;
    kith_follow_get_status(app->follow, &status);
    if (!upstream->link)
        return;
    kith_buf_append_format(out,
                           "upstream_state:%s\r\nupstream_address:%s:%u\r\nupstream_offset:%" PRId64
                           "\r\nupstream_left_out_keys:%" PRIu64 "\r\nupstream_left_out_commands:%" PRIu64
                           "\r\nupstream_full_syncs:%" PRIu64 "\r\nupstream_partial_syncs:%" PRIu64
                           "\r\nupstream_link_failures:%" PRIu64 "\r\nupstream_last_error:%s\r\n",
                           phases[upstream->phase], upstream->host, upstream->port, upstream->offset,
                           kith_upstream_left_out_count(upstream), upstream->left_out_commands,
                           status.full_syncs, status.partial_syncs, status.failures, status.error);
}
