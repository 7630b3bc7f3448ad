/* The network side of a server: listeners, connections, limits, and the loop pass that carries commands to
 * the engine and the log.
 *
 *     sockets -> parse -> admit -> read: run at once            -> replies, one write a pass
 *                               -> write: into the pass's batch -> node -> apply -> replies
 *                               -> vector search: worker pool   -> replies in order
 *
 * One thread runs all of it and owns engine and node. All calls are for that thread, kith_server_wake
 * excepted. */
#ifndef KITH_NET_SERVER_H
#define KITH_NET_SERVER_H

#include "base/status.h"
#include "base/task.h"
#include "engine/engine.h"
#include "repl/node.h"

#include <stdint.h>
#include <uv.h>

struct kith_server;

/* What a client may make the server hold, and for how long; 0 in seconds and output bytes: no limit. */
struct kith_server_limits {
    uint32_t client_max;
    size_t query_bytes;       /* of one unfinished request */
    size_t bulk_bytes;        /* of one argument */
    size_t argument_max;      /* of one request */
    size_t output_hard_bytes; /* of replies that wait for a slow reader */
    size_t output_soft_bytes; /* the same, when it stays so for ... */
    uint32_t output_soft_s;
    uint32_t timeout_s;   /* idle time after which a client is closed */
    uint32_t keepalive_s; /* silence after which the system probes the peer */
};

/* What becomes of writes on a node of a group that does not lead it. */
enum kith_forward {
    KITH_FORWARD_YES,   /* handed to the leader, answered here */
    KITH_FORWARD_NO,    /* refused: -READONLY */
    KITH_FORWARD_MOVED, /* refused with the leader's address: -REDIRECT host:port */
};

/* Texts are borrowed while the server lives, or until the next kith_server_configure. */
struct kith_server_options {
    const char *bind; /* addresses, blanks between; '-' before one: it may be missing */
    uint16_t port;    /* 0: no TCP */
    int backlog;
    const char *unixsocket; /* "" none */
    unsigned unixsocket_mode;
    bool protected_mode;  /* refuse other machines while there is no password */
    const char *password; /* "" none */
    struct kith_server_limits limits;
    uint32_t shutdown_timeout_ms;
    enum kith_forward forward;
    const char *version; /* for HELLO */
};

/* A loop without sockets. KITH_ENOMEM, KITH_EIO. */
int kith_server_open(struct kith_server **out, const struct kith_server_options *options);
/* Closes what is open; the engine's and the node's work must be done. close(NULL) is safe. */
void kith_server_close(struct kith_server *server);
/* Something finished on another thread: the loop will look. Thread-safe; the argument is the server. */
void kith_server_wake(void *server);
uv_loop_t *kith_server_loop(struct kith_server *server);

/* Binds the listeners and serves engine and node (borrowed). Call after recovery. The error names the
 * address. */
int kith_server_start(struct kith_server *server, struct kith_engine *engine, struct kith_node *node,
                      struct kith_pool *pool, struct kith_error *error);
/* Runs passes until a stop has completed. */
void kith_server_run(struct kith_server *server);
/* Stops accepting and reading, finishes what is in flight (at most shutdown_timeout_ms), then ends the run.
 */
void kith_server_stop(struct kith_server *server);
bool kith_server_is_stopping(const struct kith_server *server);
/* Passwords, limits and protected mode for what comes from now on; addresses stay. */
void kith_server_configure(struct kith_server *server, const struct kith_server_options *options);
/* Whether keys past their time are removed without a write that does it (the default). */
void kith_server_set_ticks(struct kith_server *server, bool on);

/* Runs the commands that belong to connections (HELLO, AUTH, QUIT, RESET, SELECT, CLIENT ...). False: not one
 * of them. For kith_host.command. */
bool kith_server_command(struct kith_server *server, struct kith_call *call);

/* For a host command whose answer comes later (SAVE): the connection waits until `release`, which writes the
 * reply through `write` (not called when the client has gone). */
struct kith_connection;
struct kith_connection *kith_server_hold(struct kith_call *call);
void kith_server_release(struct kith_connection *connection,
                         void (*write)(void *context, struct kith_reply *reply), void *context);
/* The client of a hold has gone: nobody waits for the reply, which is to be released all the same. */
bool kith_server_is_gone(const struct kith_connection *connection);
/* Takes a hold back: the reply was written after all. */
void kith_server_unhold(struct kith_connection *connection);
/* The client is on this machine (loopback or Unix socket). */
bool kith_server_is_local(const struct kith_call *call);

/* Counters since the start or the last reset; the last group is of the moment. */
struct kith_server_stats {
    uint64_t connections_received, connections_rejected, connections_denied;
    uint64_t commands_processed, error_replies;
    uint64_t input_bytes, output_bytes;
    uint64_t query_limit_closed, output_limit_closed, timeout_closed; /* clients closed by a limit */
    uint64_t protocol_errors; /* bulk and argument limits among them */
    uint64_t entries_submitted, ticks_submitted, writes_submitted;
    uint64_t reads_deferred;
    uint64_t searches_at_once; /* not handed to the workers, being short */
    uint64_t checkpoints_after_linking;
    uint64_t held_back;   /* reads delayed because linking was behind */
    uint64_t turns_ended; /* a client had sent more than one pass takes of it */
    uint64_t auth_failed;
    uint64_t ops_per_s, input_bytes_per_s, output_bytes_per_s;
    uint64_t passes, busy_us,
        longest_pass_us; /* of the loop: rounds, and the time that it did not sleep in them */
    uint32_t clients, clients_peak, clients_blocked;
    size_t query_bytes, output_bytes_waiting; /* memory of all connections */
};

void kith_server_get_stats(struct kith_server *server, struct kith_server_stats *stats);
void kith_server_reset_stats(struct kith_server *server);
/* Of each command that was called or refused, and of each code word of error replies. */
typedef void kith_server_command_fn(void *context, const char *name, uint64_t calls, uint64_t rejected,
                                    uint64_t failed);
typedef void kith_server_error_fn(void *context, const char *code, uint64_t count);
void kith_server_each_command(const struct kith_server *server, kith_server_command_fn *each, void *context);
void kith_server_each_error(const struct kith_server *server, kith_server_error_fn *each, void *context);
/* "# Commandstats" and "# Errorstats" lines, each appended to `out`. */
void kith_server_command_stats(const struct kith_server *server, struct kith_buf *out);
void kith_server_error_stats(const struct kith_server *server, struct kith_buf *out);

#endif
