/* A running kithd: its parts, and the commands that concern the server as a whole. Private to kithd's files.
 */
#ifndef KITH_PROG_APP_H
#define KITH_PROG_APP_H

#include "net/server.h"
#include "prog/config.h"

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
    int64_t started_ms; /* wall clock */
    unsigned worker_count;
    bool signalled;
    char run_id[41];
    size_t memory_peak_bytes;
};

/* The configuration as the server takes it; borrows the texts. */
struct kith_server_options app_server_options(const struct app *app);

/* kith_host.command: connection commands, then the ones below. */
void app_command(void *context, struct kith_call *call);

typedef void (*app_command_function)(struct app *app, struct kith_call *call);
/* One function a file; NULL when the name is not theirs. */
app_command_function app_config_command(const char *name);
app_command_function app_debug_command(const char *name);
app_command_function app_save_command(const char *name);
void app_info(struct app *app, struct kith_call *call);

#endif
