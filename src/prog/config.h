/* The server's configuration: redis.conf syntax in a file, KITH_NAME in the environment, --name value as
 * flags, and CONFIG SET while it runs. One table (config.c) gives each key its type, range and default;
 * everything else follows from it. Later sources win: file, environment, flags. */
#ifndef KITH_PROG_CONFIG_H
#define KITH_PROG_CONFIG_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys that Redis has and Kith accepts without an effect, so that tools which set them work; see
 * config_accepted.c. */
enum { KITH_CONFIG_ACCEPTED_MAX = 64 };

enum kith_config_durability { KITH_CONFIG_ALWAYS, KITH_CONFIG_EVERYSEC, KITH_CONFIG_NONE };
enum kith_config_role { KITH_CONFIG_VOTER, KITH_CONFIG_STANDBY, KITH_CONFIG_SPARE };
enum kith_config_debug { KITH_CONFIG_DEBUG_NO, KITH_CONFIG_DEBUG_YES, KITH_CONFIG_DEBUG_LOCAL };

/* Numbers are int64_t whatever their unit; texts are owned and never NULL. */
struct kith_config {
    char *bind; /* addresses, blanks between; a leading '-' makes one optional */
    int64_t port, tcp_backlog, tcp_keepalive_s, timeout_s;
    char *unixsocket;
    int64_t unixsocket_mode;
    int64_t protected_mode;
    char *requirepass;
    int64_t debug_command; /* enum kith_config_debug */

    int64_t client_max;
    int64_t query_buffer_bytes, bulk_bytes, argument_max;
    int64_t output_hard_bytes, output_soft_bytes, output_soft_s;

    int64_t database_count;
    int64_t worker_count; /* 0: as many as cores */

    char *dir;
    int64_t memory_only;
    int64_t durability; /* enum kith_config_durability */
    int64_t log_segment_bytes, checkpoint_log_bytes;

    char *cluster_address, *cluster_bind, *join;
    char *cluster_secret, *cluster_secret_file;
    char *cluster_tls_cert, *cluster_tls_key, *cluster_tls_ca;
    int64_t cluster_role; /* enum kith_config_role */
    int64_t cluster_election_ms, cluster_heartbeat_ms;
    int64_t cluster_keep_log_bytes, cluster_stream_rate_bytes; /* the latter a second */
    int64_t backup_keep_log_bytes;
    int64_t debug_peer_delay_ms, debug_peer_drop_percent;
    char *debug_peer_block;
    char *cluster_client_address;
    int64_t cluster_forward; /* enum kith_forward */

    char *metrics_bind;
    int64_t metrics_port, metrics_ready_lag_ms;
    char *masteruser, *masterauth;
    int64_t repl_timeout_s;

    int64_t log_level; /* enum kith_log_level */
    char *logfile, *pidfile;
    int64_t shutdown_timeout_s;

    char *accepted[KITH_CONFIG_ACCEPTED_MAX];
};

/* Every key at its default. KITH_ENOMEM (nothing to free then). */
int kith_config_init(struct kith_config *config);
void kith_config_fini(struct kith_config *config); /* safe twice */
/* A deep copy into uninitialised memory, for changes that must be all or nothing. */
int kith_config_copy(struct kith_config *to, const struct kith_config *from);

/* Sets one key from its words as a line of the file has them ("save", "900", "1" has two). `running` refuses
 * keys that are read only at the start. On failure nothing changes and error says what is wrong: KITH_ENOENT
 * no such key (the text names the nearest) KITH_EINVAL   the value KITH_EPERM    the key cannot change while
 * the server runs KITH_ENOMEM */
int kith_config_set(struct kith_config *config, struct kith_slice name, const struct kith_slice *words,
                    size_t count, bool running, struct kith_error *error);

/* All lines of a file's content; `origin` names it in errors ("kith.conf:12: ..."). */
int kith_config_read_text(struct kith_config *config, const char *origin, struct kith_slice text,
                          struct kith_error *error);
int kith_config_read_file(struct kith_config *config, const char *path, struct kith_error *error);
/* KITH_PORT=7000 and its like. A name that is no key is logged and left alone: an orchestrator may put names
 * there that were not meant for us. */
int kith_config_read_environment(struct kith_config *config, const char *const *environment,
                                 struct kith_error *error);
/* argv[0..argc): "--port 7000", "--port=7000", "--bind 127.0.0.1 ::1", "--memory-only". */
int kith_config_read_flags(struct kith_config *config, const char *const *argv, size_t argc,
                           struct kith_error *error);

/* What only all keys together show: KITH_EINVAL and what to change. */
int kith_config_check(const struct kith_config *config, struct kith_error *error);

/* The keys in order, for CONFIG GET, CONFIG REWRITE and --help. */
size_t kith_config_key_count(void);
const char *kith_config_key_name(size_t key);
/* One line for --help; NULL for keys that are accepted without an effect. */
const char *kith_config_key_help(size_t key);
/* The default as a user would write it: "64mb". */
const char *kith_config_key_initial(size_t key);
/* Appends the value as CONFIG GET shows it. */
void kith_config_key_value(const struct kith_config *config, size_t key, struct kith_buf *out);
bool kith_config_key_is_default(const struct kith_config *config, size_t key);
/* Whether CONFIG SET may change it. */
bool kith_config_key_is_live(size_t key);

#endif
