/* kithd, the server: configuration, the parts and their order of birth and death, signals. */
#include "base/log.h"
#include "base/os.h"
#include "prog/app.h"
#include "prog/watch.h"
#include "repl/engine_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FILES_BESIDE_CLIENTS = 64, HAND_OVER_MS = 1000, SETTLE_MS = 250 };

extern char **environ;

static void print_help(void)
{
    puts("kithd, the server of Kith\n\n"
         "  kithd [FILE] [--name value ...]   start, with the configuration of FILE if given\n"
         "  kithd --help | --version\n\n"
         "Every key can stand in FILE (name value), in the environment (KITH_NAME=value) and as a flag; a "
         "flag counts\n"
         "over the environment, the environment over the file.\n");
    for (size_t key = 0; key < kith_config_key_count(); key++) {
        if (!kith_config_key_help(key))
            continue;
        const char *initial = kith_config_key_initial(key);
        printf("  --%-27s %s\n  %29s default: %s\n", kith_config_key_name(key), kith_config_key_help(key), "",
               *initial ? initial : "empty");
    }
    puts("\nKeys of Redis that have no effect here (save, appendonly, ...) are accepted: see "
         "docs/compatibility.md.");
}

/* File, environment, flags, in this order. */
static int read_configuration(struct app *app, int argc, char **argv, struct kith_error *error)
{
    int first_flag = 1;
    int status = kith_config_init(&app->config);
    if (status)
        return kith_error_set(error, status, "out of memory");
    if (argc > 1 && strncmp(argv[1], "--", 2) != 0) {
        app->config_file = argv[1];
        first_flag = 2;
        status = kith_config_read_file(&app->config, argv[1], error);
    }
    if (!status)
        status = kith_config_read_environment(&app->config, (const char *const *)environ, error);
    if (!status)
        status = kith_config_read_flags(&app->config, (const char *const *)argv + first_flag,
                                        (size_t)(argc - first_flag), error);
    return status ? status : kith_config_check(&app->config, error);
}

struct kith_server_options app_server_options(const struct app *app)
{
    const struct kith_config *config = &app->config;
    return (struct kith_server_options){
        .bind = config->bind,
        .port = (uint16_t)config->port,
        .backlog = (int)config->tcp_backlog,
        .unixsocket = config->unixsocket,
        .unixsocket_mode = (unsigned)config->unixsocket_mode,
        .protected_mode = config->protected_mode,
        .password = config->requirepass,
        .limits = {.client_max = (uint32_t)config->client_max,
                   .query_bytes = (size_t)config->query_buffer_bytes,
                   .bulk_bytes = (size_t)config->bulk_bytes,
                   .argument_max = (size_t)config->argument_max,
                   .output_hard_bytes = (size_t)config->output_hard_bytes,
                   .output_soft_bytes = (size_t)config->output_soft_bytes,
                   .output_soft_s = (uint32_t)config->output_soft_s,
                   .timeout_s = (uint32_t)config->timeout_s,
                   .keepalive_s = (uint32_t)config->tcp_keepalive_s},
        .shutdown_timeout_ms = (uint32_t)config->shutdown_timeout_s * 1000,
        .forward = (enum kith_forward)config->cluster_forward,
        .version = KITHD_HELLO_VERSION,
    };
}

static int start_logging(const struct kith_config *config, struct kith_error *error)
{
    static const enum kith_log_level levels[] = {KITH_LOG_DEBUG, KITH_LOG_INFO, KITH_LOG_INFO,
                                                 KITH_LOG_WARNING};
    kith_log_set_level(levels[config->log_level]);
    if (!*config->logfile)
        return KITH_OK;
    int fd = open(config->logfile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0) {
        int cause = errno;
        if (fd >= 0)
            close(fd);
        return kith_error_set(error, kith_status_from_errno(cause), "cannot write the logfile %s: %s",
                              config->logfile, strerror(cause));
    }
    close(fd);
    return KITH_OK;
}

/* Every client takes a file descriptor. What the system does not give, maxclients does without. */
static void fit_file_limit(struct kith_config *config)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)config->client_max + FILES_BESIDE_CLIENTS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return;
    raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_cur >= wanted)
        return;
    int64_t possible = (int64_t)limit.rlim_cur - FILES_BESIDE_CLIENTS;
    possible = possible < 1 ? 1 : possible;
    KITH_WARN("maxclients is %lld instead of %lld: the system allows %llu open files (ulimit -n)",
              (long long)possible, (long long)config->client_max, (unsigned long long)limit.rlim_cur);
    config->client_max = possible;
}

static void write_pidfile(const struct kith_config *config)
{
    FILE *file = *config->pidfile ? fopen(config->pidfile, "w") : NULL;
    if (*config->pidfile && !file)
        KITH_WARN("cannot write the pidfile %s: %s", config->pidfile, strerror(errno));
    if (!file)
        return;
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
}

static void make_run_id(char id[41])
{
    unsigned char bytes[20];
    kith_os_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

static int open_engine(struct app *app)
{
    struct kith_engine_options options = {
        .database_count = (uint32_t)app->config.database_count,
        .executor = kith_pool_executor(app->pool),
        .worker_count = app->worker_count,
        .host = {.context = app, .command = app_command},
    };
    kith_os_random(&options.hash_seed, sizeof options.hash_seed);
    kith_os_random(&options.read_seed, sizeof options.read_seed);
    return kith_engine_open(&app->engine, &options);
}

/* Where clients reach this node: as told, or the host that peers use with the port for clients. */
static void find_client_address(struct app *app)
{
    const struct kith_config *config = &app->config;
    char host[128] = "127.0.0.1";
    if (*config->cluster_address)
        app_split_address(config->cluster_address, host, sizeof host);
    if (*config->cluster_client_address) {
        snprintf(app->client_address, sizeof app->client_address, "%s", config->cluster_client_address);
        return;
    }
    snprintf(app->client_address, sizeof app->client_address, strchr(host, ':') ? "[%.100s]:%d" : "%.100s:%d",
             host, (int)config->port);
}

static int open_node(struct app *app, struct kith_error *error)
{
    static const enum kith_durability durabilities[] = {KITH_DURABILITY_ALWAYS, KITH_DURABILITY_EVERYSEC,
                                                        KITH_DURABILITY_NONE};
    const struct kith_config *config = &app->config;
    struct kith_node_options options = {
        .dir = config->memory_only ? "" : config->dir,
        .durability = durabilities[config->durability],
        .machine = kith_engine_machine(app->engine),
        .wake = kith_server_wake,
        .wake_context = app->server,
        .segment_bytes = (uint64_t)config->log_segment_bytes,
        .checkpoint_log_bytes = (uint64_t)config->checkpoint_log_bytes,
        .client_address = app->client_address,
        .version = KITHD_VERSION,
    };
    struct kith_node_limits limits = app_node_limits(app);
    options.keep_log_bytes = limits.keep_log_bytes;
    options.keep_always_bytes = limits.keep_always_bytes;
    options.stream_bytes_per_s = limits.stream_bytes_per_s;
    app_cluster_node_options(app, &options);
    if (*options.dir)
        KITH_INFO("reading %s", options.dir);
    int status = kith_node_open(&app->node, &options, error);
    if (status)
        return status;
    struct kith_node_status about;
    kith_node_get_status(app->node, &about);
    if (about.in_memory)
        KITH_WARN("keeping everything in memory only: nothing survives the end of this process");
    else
        KITH_INFO("recovered in %lld ms: %llu bytes of checkpoint, %llu entries of the log",
                  (long long)about.recovery.took_ms, (unsigned long long)about.recovery.checkpoint_bytes,
                  (unsigned long long)about.recovery.entries);
    return KITH_OK;
}

static int open_parts(struct app *app, struct kith_error *error)
{
    struct kith_server_options options = app_server_options(app);
    int status = kith_server_open(&app->server, &options);
    if (status)
        return kith_error_set(error, status, "cannot make an event loop: %s", kith_status_text(status));
    app->worker_count = app->config.worker_count ? (unsigned)app->config.worker_count : kith_os_cpu_count();
    status = kith_pool_open(&app->pool, app->worker_count, kith_server_wake, app->server);
    if (status)
        return kith_error_set(error, status, "cannot start %u worker threads", app->worker_count);
    status = open_engine(app);
    if (status)
        return kith_error_set(error, status, "cannot make the engine: %s", kith_status_text(status));
    find_client_address(app);
    status = app_cluster_open(app, error);
    if (!status)
        status = open_node(app, error);
    if (!status)
        status = app_cluster_start(app, error);
    if (!status && (status = app_follow_open(app)))
        return kith_error_set(error, status, "out of memory");
    if (!status)
        status = kith_server_start(app->server, app->engine, app->node, app->pool, error);
    return status ? status : app_watch_open(app, error);
}

/* Searches and links that run still use the engine; entries that wait still have clients. So: the pool runs
 * dry, the node writes what it has, then everything goes. */
static int close_parts(struct app *app)
{
    int status = KITH_OK;
    kith_follow_stop(app->follow);
    if (app->engine) {
        kith_engine_stop_background(app->engine);
        while (kith_pool_wait(app->pool) > 0 || kith_engine_busy(app->engine) > 0)
            continue;
    }
    app_waits_close(app);
    app_watch_close(app);
    if (app->stop_timer && app->stop_timer->data)
        uv_close((uv_handle_t *)app->stop_timer, NULL);
    if (app->node)
        status = kith_node_close(app->node);
    app_cluster_close(app);
    kith_server_close(app->server);
    kith_follow_close(app->follow);
    free(app->stop_timer);
    kith_peer_tls_close(app->peer_tls);
    kith_engine_close(app->engine);
    kith_pool_close(app->pool);
    return status;
}

static bool leads_others(const struct app *app)
{
    return kith_node_role(app->node) == KITH_CORE_LEADER && !kith_node_is_alone(app->node);
}

static void on_stop_timer(uv_timer_t *timer)
{
    struct app *app = timer->data;
    if (leads_others(app))
        KITH_WARN(
            "leadership was not handed over in time: the others elect a leader when they miss this one");
    kith_server_stop(app->server);
}

/* The others learn of the new leader within a heartbeat; what they still forward to this node until then it sends back. */
static void on_handed_over(void *context, int status, const char *text)
{
    struct app *app = context;
    if (status == KITH_ECLOSED)
        return;
    if (status != KITH_OK)
        KITH_INFO("handing over leadership: %s", text);
    if (app->stop_timer->data)
        uv_timer_start(app->stop_timer, on_stop_timer, SETTLE_MS, 0);
}

void app_stop(struct app *app)
{
    app->is_ending = true;
    if (!leads_others(app) || app->stop_timer || !(app->stop_timer = calloc(1, sizeof *app->stop_timer)) ||
        kith_node_change(app->node, KITH_CHANGE_TRANSFER, 0, NULL, on_handed_over, app) != KITH_OK) {
        kith_server_stop(app->server);
        return;
    }
    uv_timer_init(kith_server_loop(app->server), app->stop_timer);
    app->stop_timer->data = app;
    uv_timer_start(app->stop_timer, on_stop_timer, HAND_OVER_MS, 0);
}

/* The first signal asks, the second one insists. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;
    if (app->signalled) {
        KITH_WARN("second signal: ending at once; the log is replayed at the next start");
        _exit(1);
    }
    app->signalled = true;
    KITH_INFO("%s: finishing what is in flight", number == SIGINT ? "SIGINT" : "SIGTERM");
    app_stop(app);
}

static void watch_signals(struct app *app, uv_signal_t handles[2])
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(kith_server_loop(app->server), &handles[i]);
        handles[i].data = app;
        uv_signal_start(&handles[i], on_signal, numbers[i]);
        uv_unref((uv_handle_t *)&handles[i]);
    }
}

static int serve(struct app *app)
{
    struct kith_error error = {""};
    uv_signal_t signals[2];
    int status = open_parts(app, &error);
    if (status) {
        KITH_ERROR("%s", error.text);
        close_parts(app);
        return EXIT_FAILURE;
    }
    watch_signals(app, signals);
    write_pidfile(&app->config);
    KITH_INFO("kithd %s ready on %s port %lld, process %d", KITHD_VERSION, app->config.bind,
              (long long)app->config.port, (int)getpid());
    kith_server_run(app->server);
    status = close_parts(app);
    if (status)
        KITH_ERROR("the end was not clean: %s", kith_status_text(status));
    else
        KITH_INFO("everything is written: bye");
    if (*app->config.pidfile)
        unlink(app->config.pidfile);
    return status ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help();
            return EXIT_SUCCESS;
        }
        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-v") == 0) {
            puts("kithd " KITHD_VERSION);
            return EXIT_SUCCESS;
        }
    }
    struct app app = {.started_ms = kith_os_wall_ms()};
    struct kith_error error = {""};
    if (read_configuration(&app, argc, argv, &error) != KITH_OK ||
        start_logging(&app.config, &error) != KITH_OK) {
        fprintf(stderr, "kithd: %s\n", error.text);
        kith_config_fini(&app.config);
        return EXIT_FAILURE;
    }
    kith_os_return_memory();
    fit_file_limit(&app.config);
    make_run_id(app.run_id);
    int result = serve(&app);
    kith_config_fini(&app.config);
    return result;
}
