/* A running kithd: its parts, and the commands that concern the server as a whole. Private to kithd's files.
 */
#ifndef KITH_PROG_APP_H
#define KITH_PROG_APP_H

#include "net/follow.h"
#include "net/peer.h"
#include "net/server.h"
#include "prog/config.h"
#include "repl/backup.h"

#define KITHD_VERSION       KITH_VERSION
#define KITHD_REDIS_VERSION "7.2.4" /* what clients look at to know which commands and replies to expect */
#define KITHD_HELLO_VERSION "7.4.0"

struct app {
    struct kith_config config;
    const char *config_file; /* NULL: none */
    struct kith_server *server;
    struct kith_pool *pool;
    struct kith_engine *engine;
    struct kith_node *node;
    struct kith_peers *peers; /* NULL: the node stays alone */
    struct kith_peer_tls *peer_tls;
    struct kith_http *http;            /* NULL: nobody watches */
    bool is_ending;                    /* told to end: it may still hand leadership over */
    uint64_t join_group, join_node_id; /* what a member answered; 0: nothing was joined */
    int64_t started_ms;                /* wall clock */
    unsigned worker_count;
    bool signalled;
    char run_id[41];
    size_t memory_peak_bytes;
    char client_address[128];   /* where clients reach this node, as far as it is known */
    uv_timer_t *stop_timer;     /* while leadership is handed over before the end */
    struct kith_follow *follow; /* the link to a Redis, when one is followed */
    struct waits *waits;        /* clients of WAIT; NULL: there was none yet */
};

/* The group's members; *count of them, malloc'ed. NULL: no memory. */
struct kith_node_member *app_members(const struct app *app, size_t *count);
const char *app_role_name(enum kith_core_member_role role);
struct app_memory {
    size_t used, resident, allocated, pages, vectors;
};
/* Of the process; notes the peak. */
struct app_memory app_get_memory(struct app *app);
/* Splits "host:port" at its last colon: the host without brackets to `host`, the port returned (0: none). */
unsigned app_split_address(const char *address, char *host, size_t size);
/* Ends the server soon: a leader hands over first, so that no request of the group waits for an election. */
void app_stop(struct app *app);
/* Ends what waits, before the node goes. */
void app_waits_close(struct app *app);

/* The configuration as the server takes it; borrows the texts. */
struct kith_server_options app_server_options(const struct app *app);

/* Before the node is opened: the transport, and the join when there is one to make. */
int app_cluster_open(struct app *app, struct kith_error *error);
/* What the node is to know of it. */
void app_cluster_node_options(struct app *app, struct kith_node_options *options);
/* After: peers may come. */
int app_cluster_start(struct app *app, struct kith_error *error);
/* After the node was closed, before the server. */
void app_cluster_close(struct app *app);
/* What of the log is kept, and how fast checkpoints go out. */
struct kith_node_limits app_node_limits(const struct app *app);
/* Takes over what CONFIG SET may change. */
void app_cluster_configure(struct app *app);

/* The link to a Redis or Valkey (REPLICAOF). */
int app_follow_open(struct app *app);
void app_follow_configure(struct app *app);
/* This node is the one of its group that follows an upstream. */
bool app_is_replica(const struct app *app);
void app_follow_role(struct app *app, struct kith_call *call);
/* Lines of INFO replication: those that a replica has, and those of any node whose group follows or followed. */
void app_follow_info(struct app *app, struct kith_buf *out);
void app_upstream_info(struct app *app, struct kith_buf *out);

/* kith_host.command: connection commands, then the ones below. */
void app_command(void *context, struct kith_call *call);

typedef void (*app_command_function)(struct app *app, struct kith_call *call);
/* One function a file; NULL when the name is not theirs. */
app_command_function app_config_command(const char *name);
app_command_function app_debug_command(const char *name);
app_command_function app_backup_command(const char *name);
app_command_function app_save_command(const char *name);
app_command_function app_cluster_command(const char *name);
app_command_function app_wait_command(const char *name);
void app_info(struct app *app, struct kith_call *call);

#endif
