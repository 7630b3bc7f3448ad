/* What the files of src/net share: the server, a connection, a batch. */
#ifndef KITH_NET_INTERNAL_H
#define KITH_NET_INTERNAL_H

#include "base/assert.h"
#include "base/random.h"
#include "net/server.h"
#include "net/stats.h"
#include "wire/request.h"

enum {
    READ_BUFFER_BYTES = 64 * 1024, /* one for all connections */
    REQUESTS_AT_ONCE = 64,         /* parsed, prefetched, then run */
    DEFERRED_MAX = 64,             /* searches in flight of one connection */
    SEARCHES_AT_ONCE = 32,         /* handed to the workers, in shares of not fewer than the next */
    SEARCHES_LEAST = 4,
    SPARE_MAX = 64, /* of each kind of thing kept for reuse */
    SPARE_BUFFER_BYTES = 64 * 1024,
    FLUSH_EARLY_BYTES = 256 * 1024, /* of replies, before the pass has ended */
    TURN_WORK = 128 * 1024,         /* of one client in a pass (turn.c): about a millisecond */
    WRITE_PRICE_FIRST = 1024,       /* while nothing is known */
    LISTENER_MAX = 16,
};

/* A search that runs on the pool, or a reply that waits for the ones before it. */
struct deferred_slot {
    struct kith_connection *connection;
    struct kith_deferred *deferred; /* NULL: the reply is ready in `reply` */
    struct kith_buf reply;
    bool finished, silent;
};

struct deferred_queue {
    struct deferred_slot slots[DEFERRED_MAX]; /* a ring */
    unsigned head, count;
    unsigned running; /* tasks that are not done; they point into slots */
};

struct kith_connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct kith_server *server;
    struct kith_connection *previous, *next; /* all connections */
    struct kith_connection *next_dirty;      /* has replies to send */
    struct kith_connection *next_resumed;    /* may parse again, now or in the next pass */
    struct kith_session session;

    struct kith_buf query;              /* bytes not yet parsed to the end */
    struct kith_request_parser *parser; /* of a request that is not whole; NULL: none */
    struct kith_buf out;                /* replies of this pass */
    struct kith_buf sending;            /* replies that the socket did not take at once */
    uv_write_t write;
    size_t sending_left;

    struct deferred_queue *deferred; /* NULL: none in flight */
    uint32_t in_flight;              /* commands in batches, and held replies */
    uint32_t searches_waiting; /* of them: searches that go to the pool once the batch's barrier is passed */
    struct batch *batch;       /* the one that its last command went to; valid while in_flight */
    int64_t lag_max_ms;        /* READONLY MAXLAG; 0: any */
    uint32_t flags;            /* enum connection_flag */
    uint64_t created_ms, active_ms; /* uv_now */
    uint64_t output_soft_since_ms;
    uint64_t held_until_ms;
    uint64_t turn_pass; /* the pass of ... */
    size_t turn_work;   /* what its turn has cost so far */
    size_t write_price; /* what one of its last writes cost */
};

enum connection_flag {
    CONNECTION_PIPE = 1 << 0,         /* a Unix socket */
    CONNECTION_DIRTY = 1 << 1,        /* in the dirty list */
    CONNECTION_RESUMED = 1 << 2,      /* in the resumed list */
    CONNECTION_BLOCKED = 1 << 3,      /* parsing waits for what is in flight */
    CONNECTION_HELD = 1 << 4,         /* parsing waits for the linkers */
    CONNECTION_STOPPED = 1 << 5,      /* not reading */
    CONNECTION_LAST_REPLY = 1 << 6,   /* close when everything is sent */
    CONNECTION_CLOSING = 1 << 7,      /* uv_close was called */
    CONNECTION_CLOSED = 1 << 8,       /* and has completed */
    CONNECTION_LOCAL = 1 << 9,        /* loopback or Unix socket */
    CONNECTION_NO_TOUCH = 1 << 10,    /* CLIENT NO-TOUCH */
    CONNECTION_IN_SHARED = 1 << 11,   /* libuv reads into the server's buffer */
    CONNECTION_END_OF_FILE = 1 << 12, /* the client sends nothing more */
    CONNECTION_LATE_REPLY = 1 << 13,  /* the host holds a reply back: everything waits */
    CONNECTION_READONLY = 1 << 14,    /* reads what this node has, without asking the group */
    CONNECTION_LATER = 1 << 15,       /* its turn is over: parsing waits for the next pass */
    CONNECTION_NOT_READ = 1 << 16,    /* its turn is over: libuv got no buffer */
};

struct op {
    struct kith_connection *connection;
    size_t read_offset; /* a read's arguments in batch->reads; SIZE_MAX: a write */
    size_t argc;
    const struct kith_command *command;
    bool silent;
};

/* The writes of one pass, one entry of the log, and the reads that come behind them. In a group also reads alone: they
 * wait for the group's word that nothing newer was acknowledged, which for reads beside writes the entry is. */
struct batch {
    struct batch *next, *previous; /* submitted batches in order; or next of spare ones */
    struct kith_server *server;
    struct kith_apply_hooks hooks;
    struct kith_buf payload;
    struct kith_buf reads; /* arguments of the reads: per argument a size_t, then its bytes */
    struct op *ops;
    size_t op_count, op_capacity;
    size_t done_count; /* ops that have their reply */
    size_t write_count;
    size_t seen_count; /* of the ops: at the end of the last pass */
    uint64_t began_gathering_ns;
    bool tick;         /* an entry without commands */
    bool grouped;      /* submitted in a group of several: the batches around it may end in another order */
    uint64_t begun_ms; /* uv_now, when it was submitted */
    struct kith_reply reply; /* of the op that is being applied */
    size_t reply_start;
    uint64_t run_ns;  /* when the run of writes of one connection began that is being applied */
    size_t run_count; /* of it, so far */
};

struct kith_server {
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_idle_t idle;
    uv_timer_t cron, node_timer, held_timer, stop_timer;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } listeners[LISTENER_MAX];
    size_t listener_count;
    bool idle_on, stopping, stopped;

    struct kith_server_options options;
    struct kith_request_limits limits, limits_before_auth;
    struct kith_engine *engine;
    struct kith_node *node;
    struct kith_pool *pool;
    struct kith_executor executor;

    struct kith_connection *connections, *connections_tail; /* in the order they came */
    uv_stream_t *stalled_listener;                          /* a connection could not be taken: no memory */
    struct kith_connection *dirty, *resumed;
    struct kith_connection *later; /* resumed in the next pass */
    uint64_t pass;                 /* counts them */
    uint64_t pass_ns,
        pass_idle_ns; /* when the last one ended, and what the loop had slept by then; 0: none yet */
    uint64_t turn_client,
        turn_client_since; /* whose turn was the last one, and from which pass on nobody else's was */
    uint32_t client_count;
    uint32_t held_count;
    uint64_t next_id;

    struct batch *batch; /* of this pass; NULL: no write yet */
    struct batch *submitted_head, *submitted_tail;
    size_t grouped_count; /* of them */
    struct batch *spare_batches;
    size_t payload_hint;
    int64_t now_ms; /* wall clock of this pass, never backwards */
    bool now_valid;
    struct kith_deferred *searches[SEARCHES_AT_ONCE]; /* of this pass, not handed over yet */
    unsigned search_count, worker_count;
    unsigned searches_running; /* tasks of the pool */
    struct kith_rng rng;
    bool tick_in_flight, ticks_off, expiry_due;
    bool log_behind;            /* as of the last look */
    uint64_t browser_warned_ms; /* when the log last told of one; 0: never */
    uint64_t links_seen, links_settled_ms;

    struct kith_request requests[REQUESTS_AT_ONCE];
    struct kith_admitted admitted[REQUESTS_AT_ONCE];
    struct kith_slice *arguments; /* of a read that is run from a batch */
    size_t argument_capacity;
    struct kith_buf refusals; /* errors of a pass's requests, in front of their turn */
    struct kith_buf discard;  /* replies that nobody wants */
    struct kith_request_parser *spare_parsers[SPARE_MAX];
    size_t spare_parser_count;
    struct kith_buf spare_buffers[SPARE_MAX];
    size_t spare_buffer_count;
    struct deferred_queue *spare_queues[SPARE_MAX];
    size_t spare_queue_count;

    struct stats stats;
    char *read_buffer; /* READ_BUFFER_BYTES */
};

/* server.c */
/* Where clients reach the leader; false: it is not known. */
bool server_leader_address(const struct kith_server *server, char *text, size_t size);
int64_t server_now(struct kith_server *server);
void server_may_stop(struct kith_server *server);
/* A writer of vectors waits because linking is behind. */
void server_hold_back(struct kith_connection *connection, unsigned delay_ms);

/* connection.c */
void connection_accept(uv_stream_t *listener, int status);
void connection_close(struct kith_connection *connection);
/* Frees a closed connection when nothing refers to it any more. */
void connection_release(struct kith_connection *connection);
void connection_stop_reading(struct kith_connection *connection);
/* Queue it for the end of the pass: replies to send, or a parser that may go on. */
void connection_mark_dirty(struct kith_connection *connection);
void connection_mark_resumed(struct kith_connection *connection);
void connection_resume(struct kith_connection *connection);
/* Sends what there is; connection_flush also ends a connection that has nothing left to do. */
void connection_send(struct kith_connection *connection);
void connection_flush(struct kith_connection *connection);
/* Where replies go; makes the connection dirty. */
struct kith_buf *connection_out(struct kith_connection *connection);
/* Closes it when its replies are past the limits; returns whether. */
bool connection_over_output_limit(struct kith_connection *connection);
size_t connection_output_bytes(const struct kith_connection *connection);
size_t connection_memory(const struct kith_connection *connection);
struct kith_connection *connection_of(const struct kith_call *call);
/* "127.0.0.1:6379", "[::1]:6379", "/path:0"; peer or own side. */
void connection_address(const struct kith_connection *connection, bool peer, char *text, size_t size);

/* dispatch.c: runs what data[0..length) holds; returns how many bytes are done with. */
size_t dispatch_input(struct kith_connection *connection, const char *data, size_t length);
void dispatch_after_reply(struct kith_connection *connection, const struct kith_command *command,
                          const struct kith_reply *reply, size_t start, bool silent);

/* batch.c */
int batch_add_write(struct kith_connection *connection, const struct kith_admitted *request, bool silent);
int batch_add_read(struct kith_connection *connection, const struct kith_admitted *request, bool silent);
/* So much waits behind writes that no read should join it. */
bool batch_is_full_for_reads(const struct kith_server *server);
/* Batches may end in any order, so that all that a connection has in flight must be in one. False: this connection has
 * something in a batch that was submitted, or in one of this pass that took it as its own. */
bool batch_may_join(const struct kith_connection *connection);
/* Reads need the group's word first, or may still meet batches that did. */
bool batch_is_grouped(const struct kith_server *server);
void batch_submit(struct kith_server *server);
/* At the end of a pass: the open batch is to wait for what the next one brings, if that comes at once. */
bool batch_gathers(struct kith_server *server);
void batch_submit_tick(struct kith_server *server);
void batch_free_spares(struct kith_server *server);

/* turn.c */
/* Whether nobody else was served in the passes since before this one. */
bool turn_is_lone(const struct kith_connection *connection);
void turn_spend(struct kith_connection *connection, size_t work);
/* Around a read that runs now; 0 for one that is paid with its bytes. */
uint64_t turn_watch_read(const struct kith_command *command);
void turn_spend_read(struct kith_connection *connection, uint64_t since_ns);
/* For a command that runs behind the pass's writes, or is one; and what `count` of them took. */
void turn_spend_write(struct kith_connection *connection);
void turn_set_price(struct kith_connection *connection, uint64_t ns, size_t count);
bool turn_is_over(struct kith_connection *connection);
/* Whether another buffer full of requests fits in. */
bool turn_takes_a_read(struct kith_connection *connection);
/* What is left of its input is for the next pass. */
void turn_end(struct kith_connection *connection);
/* Those whose turn is over go on. */
void turn_next_pass(struct kith_server *server);

/* deferred.c */
bool deferred_is_full(const struct kith_connection *connection);
unsigned deferred_count(const struct kith_connection *connection);
void deferred_run(struct kith_connection *connection, const struct kith_admitted *request, bool silent);
/* Hands over what deferred_run gathered. */
void deferred_submit(struct kith_server *server);
/* At the end of a pass: the same, or runs it. */
void deferred_run_or_submit(struct kith_server *server);
/* The client has gone: forget the replies; running tasks end by themselves. */
void deferred_abandon(struct kith_connection *connection);

/* client_commands.c, session_commands.c: NULL when the name is not theirs. */
typedef void (*connection_command)(struct kith_call *call);
connection_command client_command_find(const char *name);
connection_command session_command_find(const char *name);
bool session_needs_password(const struct kith_server *server);

#endif
