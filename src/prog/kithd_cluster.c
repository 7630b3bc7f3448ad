/* kithd as one node of a group: the peer port, the secret, TLS, and joining. What can be wrong with them is found before
 * the data folder is touched, and said in a sentence with its cure. */
#include "base/log.h"
#include "base/os.h"
#include "prog/app.h"
#include "store/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_BYTES_MAX = 4096 };

/* The content but for line ends at its end. */
static int read_secret_file(const char *path, struct kith_buf *out, struct kith_error *error)
{
    char bytes[SECRET_BYTES_MAX + 1];
    FILE *file = fopen(path, "rb");
    size_t length = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    bool failed = !file || ferror(file);
    int cause = errno;
    if (file)
        fclose(file);
    if (failed)
        return kith_error_set(error, kith_status_from_errno(cause), "cannot read cluster-secret-file %s: %s",
                              path, strerror(cause));
    while (length && (bytes[length - 1] == '\n' || bytes[length - 1] == '\r'))
        length--;
    if (!length || length > SECRET_BYTES_MAX)
        return kith_error_set(error, KITH_EINVAL, "cluster-secret-file %s %s", path,
                              length ? "holds more than 4096 bytes" : "is empty");
    kith_buf_append(out, bytes, length);
    return out->failed ? kith_error_set(error, KITH_ENOMEM, "out of memory") : KITH_OK;
}

static int read_secret(const struct kith_config *config, struct kith_buf *out, struct kith_error *error)
{
    if (*config->cluster_secret_file)
        return read_secret_file(config->cluster_secret_file, out, error);
    kith_buf_append_text(out, config->cluster_secret);
    return out->failed ? kith_error_set(error, KITH_ENOMEM, "out of memory") : KITH_OK;
}

/* What others are told must mean something to them. */
static int check_address(const char *key, const char *address, struct kith_error *error)
{
    char host[KITH_PEER_HOST_BYTES];
    uint16_t port;
    if (kith_peer_parse_address(address, host, &port) != KITH_OK || !port)
        return kith_error_set(error, KITH_EINVAL,
                              "%s '%s' is no address: it should be host:port, or [::1]:port for IPv6", key,
                              address);
    if (strcmp(key, "cluster-bind") != 0 && (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0))
        return kith_error_set(error, KITH_EINVAL,
                              "%s %s is no address that others can connect to: name this machine there, "
                              "and set cluster-bind to listen on all addresses",
                              key, address);
    return KITH_OK;
}

static int check(const struct kith_config *config, bool has_secret, struct kith_error *error)
{
    char host[KITH_PEER_HOST_BYTES];
    uint16_t port;
    const char *bind = *config->cluster_bind ? config->cluster_bind : config->cluster_address;
    int status = check_address("cluster-address", config->cluster_address, error);
    if (!status && *config->cluster_bind)
        status = check_address("cluster-bind", config->cluster_bind, error);
    if (!status && *config->join)
        status = check_address("join", config->join, error);
    if (status)
        return status;
    if (!has_secret && kith_peer_parse_address(bind, host, &port) == KITH_OK && !kith_peer_is_loopback(host))
        return kith_error_set(error, KITH_EPERM,
                              "other machines can reach %s, and without a secret whoever does could change "
                              "all data: set cluster-secret-file (or cluster-secret) to the same on all "
                              "nodes",
                              bind);
    return KITH_OK;
}

/* A folder without a node joins; one with a node is a member of some group already. */
static int join(struct app *app, struct kith_slice secret, struct kith_error *error)
{
    const struct kith_config *config = &app->config;
    struct kith_state state;
    uint64_t group_id = 0;
    struct kith_peer_join_options options = {.target = config->join,
                                             .address = config->cluster_address,
                                             .secret = secret,
                                             .tls = app->peer_tls,
                                             .as_spare = config->cluster_role == KITH_CONFIG_SPARE};
    int status = kith_state_load(&state, kith_fs_posix(), config->dir, error);
    if (status == KITH_OK) {
        options.node_id = state.node_id;
        status = kith_peer_ask_group(&options, &group_id, error);
        if (status == KITH_OK && group_id != state.folder_id)
            return kith_error_set(error, KITH_EEXIST,
                                  "%s belongs to group %016llx, and %s to %016llx: start without --join, or "
                                  "with an empty dir",
                                  config->dir, (unsigned long long)state.folder_id, config->join,
                                  (unsigned long long)group_id);
        KITH_INFO("%s is a member of group %016llx already: --join is not needed", config->dir,
                  (unsigned long long)state.folder_id);
        return KITH_OK;
    }
    if (status != KITH_ENOENT)
        return status;
    kith_os_random(&options.node_id, sizeof options.node_id);
    options.node_id = options.node_id >> 1 | 1; /* as the store draws them */
    KITH_INFO("asking %s to let this node join its group", config->join);
    status = kith_peer_join_group(&options, &app->join_group, error);
    if (status)
        return status;
    app->join_node_id = options.node_id;
    KITH_INFO("joined group %016llx as node %016llx", (unsigned long long)app->join_group,
              (unsigned long long)app->join_node_id);
    return KITH_OK;
}

static int open_transport(struct app *app, struct kith_slice secret, struct kith_error *error)
{
    const struct kith_config *config = &app->config;
    int status = check(config, secret.length > 0, error);
    if (!status && *config->cluster_tls_cert)
        status = kith_peer_tls_open(&app->peer_tls, config->cluster_tls_cert, config->cluster_tls_key,
                                    config->cluster_tls_ca, error);
    struct kith_peers_options options = {.loop = kith_server_loop(app->server),
                                         .address = config->cluster_address,
                                         .bind = config->cluster_bind,
                                         .secret = secret,
                                         .tls = app->peer_tls};
    if (!status)
        status = kith_peers_open(&app->peers, &options, error);
    if (!status && *config->join)
        status = join(app, secret, error);
    return status;
}

int app_cluster_open(struct app *app, struct kith_error *error)
{
    struct kith_buf secret;
    kith_buf_init(&secret);
    if (!*app->config.cluster_address)
        return KITH_OK;
    int status = read_secret(&app->config, &secret, error);
    if (!status)
        status = open_transport(app, kith_buf_slice(&secret), error);
    kith_buf_fini(&secret);
    return status;
}

void app_cluster_node_options(struct app *app, struct kith_node_options *options)
{
    const struct kith_config *config = &app->config;
    if (!app->peers)
        return;
    options->address = config->cluster_address;
    options->join_group = app->join_group;
    options->node_id = app->join_node_id;
    options->wants_vote = config->cluster_role == KITH_CONFIG_VOTER;
    options->transport = kith_peers_transport(app->peers);
    options->election_ms = (unsigned)config->cluster_election_ms;
    options->heartbeat_ms = (unsigned)config->cluster_heartbeat_ms;
}

static int receive(void *context, uint64_t peer, const char *address, struct kith_slice frame)
{
    struct app *app = context;
    return kith_node_receive(app->node, peer, address, frame);
}

static void heard(void *context, uint64_t peer)
{
    struct app *app = context;
    kith_node_heard(app->node, peer);
}

static void lost(void *context, uint64_t peer)
{
    struct app *app = context;
    kith_node_lost(app->node, peer);
}

static void wake(void *context)
{
    struct app *app = context;
    kith_server_wake(app->server);
}

static void joined(void *context, int status, const char *text)
{
    kith_peer_join_answer(context, status, text ? text : "");
}

static void on_join(void *context, uint64_t node_id, const char *address, bool as_spare,
                    struct kith_peer_join *join)
{
    struct app *app = context;
    int status = kith_node_change(app->node, as_spare ? KITH_CHANGE_ADD_SPARE : KITH_CHANGE_ADD_STANDBY,
                                  node_id, address, joined, join);
    if (status != KITH_OK)
        kith_peer_join_answer(join, status, kith_status_text(status));
}

int app_cluster_start(struct app *app, struct kith_error *error)
{
    if (!app->peers)
        return KITH_OK;
    struct kith_peers_host host = {.context = app,
                                   .group_id = kith_node_group_id(app->node),
                                   .node_id = kith_node_id(app->node),
                                   .receive = receive,
                                   .heard = heard,
                                   .lost = lost,
                                   .wake = wake,
                                   .join = on_join};
    int status = kith_peers_start(app->peers, &host, error);
    if (status)
        return status;
    app_cluster_configure(app);
    KITH_INFO("node %016llx of group %016llx, for other nodes at %s%s", (unsigned long long)host.node_id,
              (unsigned long long)host.group_id, app->config.cluster_address,
              app->peer_tls ? " with TLS" : "");
    return KITH_OK;
}

void app_cluster_configure(struct app *app)
{
    struct kith_peers_faults faults = {.delay_ms = (unsigned)app->config.debug_peer_delay_ms,
                                       .drop_percent = (unsigned)app->config.debug_peer_drop_percent,
                                       .blocked = app->config.debug_peer_block};
    if (app->peers && kith_peers_set_faults(app->peers, &faults) != KITH_OK)
        KITH_WARN("out of memory: debug-peer-block has no effect");
}

void app_cluster_close(struct app *app)
{
    kith_peers_close(app->peers);
    app->peers = NULL;
}
