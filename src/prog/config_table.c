/* Every key of the configuration: name, type, range, default, help. A new key is a field in struct
 * kith_config and a row here. Names and units are Redis's where the meaning is the same. */
#include "prog/config_table.h"

#define FIELD(name) offsetof(struct kith_config, name)
#define MIB         (1024LL * 1024)
#define GIB         (1024LL * MIB)

static const char *const debug_choices[] = {"no", "yes", "local", NULL};
static const char *const durability_choices[] = {"always", "everysec", "none", NULL};
static const char *const role_choices[] = {"voter", "standby", "spare", NULL};
static const char *const forward_choices[] = {"yes", "no", "moved", NULL}; /* enum kith_forward */
static const char *const level_choices[] = {"debug", "verbose", "notice", "warning", NULL};
/* For accepted keys where only one value would be true. */
static const char *const only_no[] = {"no", NULL};
static const char *const only_yes[] = {"yes", NULL};
static const char *const only_zero[] = {"0", NULL};
static const char *const only_empty[] = {"", NULL};

#define ACCEPT_ONE(n, text, only)                                                                            \
    {                                                                                                        \
        .name = n, .kind = CONFIG_ACCEPTED, .live = true, .initial = text, .choices = only                   \
    }
#define ACCEPT(n, text) ACCEPT_ONE(n, text, NULL)

const struct config_row kith_config_rows[] = {
    {"bind", CONFIG_WORDS, false, FIELD(bind), .initial = "127.0.0.1 -::1",
     .help = "addresses to listen on; '-' before one: go on without it"},
    {"port", CONFIG_INT, false, FIELD(port), 0, 65535, .initial = "6379", .help = "TCP port; 0: no TCP"},
    {"tcp-backlog", CONFIG_INT, false, FIELD(tcp_backlog), 1, 65535, .initial = "511",
     .help = "connections that may wait to be accepted"},
    {"tcp-keepalive", CONFIG_INT, true, FIELD(tcp_keepalive_s), 0, 86400, .initial = "300",
     .help = "seconds of silence before the system probes a peer; 0: never"},
    {"timeout", CONFIG_INT, true, FIELD(timeout_s), 0, INT32_MAX, .initial = "0",
     .help = "seconds after which an idle client is closed; 0: never"},
    {"unixsocket", CONFIG_TEXT, false, FIELD(unixsocket), .initial = "",
     .help = "path of a Unix socket; empty: none"},
    {"unixsocketperm", CONFIG_OCTAL, false, FIELD(unixsocket_mode), 0, 0777, .initial = "0",
     .help = "its file mode, octal; 0: as the umask says"},
    {"protected-mode", CONFIG_BOOL, true, FIELD(protected_mode), .initial = "yes",
     .help = "without a password, serve this machine only"},
    {"requirepass", CONFIG_TEXT, true, FIELD(requirepass), .initial = "",
     .help = "password for AUTH; empty: none"},
    {"enable-debug-command", CONFIG_CHOICE, false, FIELD(debug_command), .choices = debug_choices,
     .initial = "local", .help = "who may call DEBUG: no, yes, local"},

    {"maxclients", CONFIG_INT, true, FIELD(client_max), 1, 1000000, .initial = "10000",
     .help = "connections served at once"},
    {"client-query-buffer-limit", CONFIG_BYTES, true, FIELD(query_buffer_bytes), 1 * MIB, 1024 * GIB,
     .initial = "1gb", .help = "bytes of one client's unfinished request"},
    {"proto-max-bulk-len", CONFIG_BYTES, true, FIELD(bulk_bytes), 1 * MIB, 4 * GIB - 1, .initial = "512mb",
     .help = "bytes of one argument"},
    {"proto-max-arguments", CONFIG_INT, true, FIELD(argument_max), 16, 16777216, .initial = "1048576",
     .help = "arguments of one request"},
    {"client-output-buffer-limit", CONFIG_OUTPUT_LIMIT, true, FIELD(output_hard_bytes),
     .initial = "normal 1gb 0 0",
     .help = "class hard soft seconds: bytes of replies that a client may leave unread"},

    {"databases", CONFIG_INT, false, FIELD(database_count), 1, 65536, .initial = "16",
     .help = "databases that SELECT knows"},
    {"workers", CONFIG_INT, false, FIELD(worker_count), 0, 1024, .initial = "0",
     .help = "threads that search and link vectors; 0: one a core"},

    {"dir", CONFIG_TEXT, false, FIELD(dir), .initial = "./kith-data",
     .help = "folder of log and checkpoints; empty: keep nothing"},
    {"memory-only", CONFIG_BOOL, false, FIELD(memory_only), .initial = "no", .help = "keep nothing on disk"},
    {"durability", CONFIG_CHOICE, true, FIELD(durability), .choices = durability_choices, .initial = "always",
     .help = "always: reply after the disk has it; everysec, none: may lose the last second, or more"},
    {"log-segment-size", CONFIG_BYTES, false, FIELD(log_segment_bytes), 1 * MIB, 1 * GIB, .initial = "64mb",
     .help = "bytes of one file of the log"},
    {"checkpoint-log-size", CONFIG_BYTES, false, FIELD(checkpoint_log_bytes), 1 * MIB, 1024 * GIB,
     .initial = "256mb", .help = "bytes of log after which a checkpoint is made"},

    {"backup-keep-log", CONFIG_BYTES, true, FIELD(backup_keep_log_bytes), 0, 1024 * GIB, .initial = "0",
     .help = "bytes of log kept behind a checkpoint, for kith backup --log to fetch them in time"},
    {"cluster-keep-log", CONFIG_BYTES, true, FIELD(cluster_keep_log_bytes), 1 * MIB, 1024 * GIB,
     .initial = "256mb",
     .help = "bytes of log kept behind a checkpoint in a group, for nodes that are behind"},
    {"cluster-stream-rate", CONFIG_BYTES, true, FIELD(cluster_stream_rate_bytes), 0, 1024 * GIB,
     .initial = "0", .help = "bytes a second of checkpoints on their way to other nodes; 0: no limit"},

    {"cluster-address", CONFIG_TEXT, false, FIELD(cluster_address), .initial = "",
     .help = "HOST:PORT where the other nodes of a group reach this one; empty: it stays alone"},
    {"cluster-bind", CONFIG_TEXT, false, FIELD(cluster_bind), .initial = "",
     .help = "HOST:PORT to listen on for other nodes; empty: cluster-address"},
    {"join", CONFIG_TEXT, false, FIELD(join), .initial = "",
     .help = "HOST:PORT, cluster-address of any member: a new folder joins its group"},
    {"cluster-role", CONFIG_CHOICE, false, FIELD(cluster_role), .choices = role_choices, .initial = "voter",
     .help = "what a node that joins becomes: voter (once it is caught up), standby, spare"},
    {"cluster-secret", CONFIG_SECRET, false, FIELD(cluster_secret), .initial = "",
     .help = "what the nodes of a group know and others do not"},
    {"cluster-secret-file", CONFIG_TEXT, false, FIELD(cluster_secret_file), .initial = "",
     .help = "a file with it, so that it stands in no command line"},
    {"cluster-tls-cert", CONFIG_TEXT, false, FIELD(cluster_tls_cert), .initial = "",
     .help = "PEM file with this node's certificate: nodes speak TLS; empty: they do not"},
    {"cluster-tls-key", CONFIG_TEXT, false, FIELD(cluster_tls_key), .initial = "",
     .help = "PEM file with its key"},
    {"cluster-tls-ca", CONFIG_TEXT, false, FIELD(cluster_tls_ca), .initial = "",
     .help = "PEM file with the CA that has signed the certificates of all nodes"},
    {"cluster-election-ms", CONFIG_INT, false, FIELD(cluster_election_ms), 30, 60000, .initial = "300",
     .help = "silence of the leader before another one is elected"},
    {"cluster-heartbeat-ms", CONFIG_INT, false, FIELD(cluster_heartbeat_ms), 10, 10000, .initial = "50",
     .help = "how often the leader is heard when there is nothing to say"},
    {"debug-peer-delay-ms", CONFIG_INT, true, FIELD(debug_peer_delay_ms), 0, 60000, .initial = "0",
     .help = "for tests: each message to a node waits so long"},
    {"debug-peer-drop-percent", CONFIG_INT, true, FIELD(debug_peer_drop_percent), 0, 100, .initial = "0",
     .help = "for tests: chance that a message to a node is lost"},
    {"debug-peer-block", CONFIG_WORDS, true, FIELD(debug_peer_block), .initial = "",
     .help = "for tests: nodes, by cluster-address, to and from which nothing gets through"},
    {"cluster-client-address", CONFIG_TEXT, false, FIELD(cluster_client_address), .initial = "",
     .help = "HOST:PORT where clients reach this node, as told to other members; empty: cluster-address's "
             "host, port"},
    {"cluster-forward", CONFIG_CHOICE, true, FIELD(cluster_forward), .choices = forward_choices,
     .initial = "yes",
     .help = "writes on a node that does not lead: yes: handed to the leader; no: refused; moved: refused "
             "with its address"},

    {"metrics-port", CONFIG_INT, false, FIELD(metrics_port), 0, 65535, .initial = "0",
     .help = "port for HTTP: GET /metrics, /health, /ready; 0: none"},
    {"metrics-bind", CONFIG_WORDS, false, FIELD(metrics_bind), .initial = "127.0.0.1 -::1",
     .help = "addresses to listen on for it"},
    {"metrics-ready-lag-ms", CONFIG_INT, true, FIELD(metrics_ready_lag_ms), 0, 86400000, .initial = "5000",
     .help = "how far behind its leader a node may be and still be called ready; 0: any"},
    {"masteruser", CONFIG_TEXT, true, FIELD(masteruser), .initial = "",
     .help = "user that REPLICAOF logs in as; empty: the default user"},
    {"masterauth", CONFIG_SECRET, true, FIELD(masterauth), .initial = "",
     .help = "password that REPLICAOF logs in with; empty: none"},
    {"repl-timeout", CONFIG_INT, true, FIELD(repl_timeout_s), 1, 86400, .initial = "60",
     .help = "seconds without a byte after which REPLICAOF's link is made anew"},

    {"loglevel", CONFIG_CHOICE, true, FIELD(log_level), .choices = level_choices, .initial = "notice",
     .help = "debug, verbose, notice, warning"},
    {"logfile", CONFIG_TEXT, false, FIELD(logfile), .initial = "",
     .help = "file for log lines; empty: stderr"},
    {"pidfile", CONFIG_TEXT, false, FIELD(pidfile), .initial = "",
     .help = "file for the process id; empty: none"},
    {"shutdown-timeout", CONFIG_INT, true, FIELD(shutdown_timeout_s), 0, 3600, .initial = "10",
     .help = "seconds to finish what is in flight when told to stop"},

    /* What would change what a client sees is accepted only at the value that is true. */
    ACCEPT_ONE("maxmemory", "0", only_zero),
    ACCEPT_ONE("notify-keyspace-events", "", only_empty),
    ACCEPT_ONE("daemonize", "no", only_no),
    ACCEPT_ONE("cluster-enabled", "no", only_no),
    ACCEPT_ONE("replica-read-only", "yes", only_yes),
    ACCEPT_ONE("slave-read-only", "yes", only_yes),
    ACCEPT_ONE("activedefrag", "no", only_no),
    /* Durability is `durability`; encodings, eviction and its like do not exist here. */
    ACCEPT("save", ""),
    ACCEPT("appendonly", "yes"),
    ACCEPT("appendfsync", "always"),
    ACCEPT("appendfilename", "appendonly.aof"),
    ACCEPT("appenddirname", "appendonlydir"),
    ACCEPT("no-appendfsync-on-rewrite", "no"),
    ACCEPT("auto-aof-rewrite-percentage", "100"),
    ACCEPT("auto-aof-rewrite-min-size", "67108864"),
    ACCEPT("aof-use-rdb-preamble", "yes"),
    ACCEPT("dbfilename", "dump.rdb"),
    ACCEPT("rdbcompression", "yes"),
    ACCEPT("rdbchecksum", "yes"),
    ACCEPT("stop-writes-on-bgsave-error", "yes"),
    ACCEPT("maxmemory-policy", "noeviction"),
    ACCEPT("maxmemory-samples", "5"),
    ACCEPT("hash-max-listpack-entries", "128"),
    ACCEPT("hash-max-listpack-value", "64"),
    ACCEPT("hash-max-ziplist-entries", "128"),
    ACCEPT("hash-max-ziplist-value", "64"),
    ACCEPT("zset-max-listpack-entries", "128"),
    ACCEPT("zset-max-listpack-value", "64"),
    ACCEPT("zset-max-ziplist-entries", "128"),
    ACCEPT("zset-max-ziplist-value", "64"),
    ACCEPT("set-max-intset-entries", "512"),
    ACCEPT("set-max-listpack-entries", "128"),
    ACCEPT("set-max-listpack-value", "64"),
    ACCEPT("list-max-listpack-size", "-2"),
    ACCEPT("list-max-ziplist-size", "-2"),
    ACCEPT("list-compress-depth", "0"),
    ACCEPT("slowlog-log-slower-than", "10000"),
    ACCEPT("slowlog-max-len", "128"),
    ACCEPT("latency-monitor-threshold", "0"),
    ACCEPT("latency-tracking", "yes"),
    ACCEPT("lazyfree-lazy-eviction", "no"),
    ACCEPT("lazyfree-lazy-expire", "no"),
    ACCEPT("lazyfree-lazy-server-del", "no"),
    ACCEPT("lazyfree-lazy-user-del", "no"),
    ACCEPT("lazyfree-lazy-user-flush", "no"),
    ACCEPT("hz", "10"),
    ACCEPT("dynamic-hz", "yes"),
    ACCEPT("active-expire-effort", "1"),
    ACCEPT("repl-diskless-load", "disabled"),
    ACCEPT("repl-diskless-sync", "yes"),
    ACCEPT("repl-diskless-sync-delay", "0"),
    ACCEPT("repl-ping-replica-period", "10"),
    ACCEPT("min-replicas-to-write", "0"),
    ACCEPT("lua-time-limit", "5000"),
    ACCEPT("busy-reply-threshold", "5000"),
    ACCEPT("io-threads", "1"),
    ACCEPT("always-show-logo", "no"),
    ACCEPT("set-proc-title", "yes"),
    ACCEPT("supervised", "no"),
    ACCEPT("crash-log-enabled", "yes"),
};

const size_t kith_config_row_count = sizeof kith_config_rows / sizeof kith_config_rows[0];
