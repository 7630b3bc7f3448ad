/* libkith: engine, pool and node behind include/kith.h, driven by the caller's thread. There is no loop: each call
 * first takes in what the threads finished, and a write waits on a condition until its entry is done. */
#include "base/assert.h"
#include "base/os.h"
#include "base/random.h"
#include "engine/engine.h"
#include "kith.h"
#include "prog/embed_answer.h"
#include "repl/engine_machine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static_assert((int)KITH_FAIL_MEMORY == KITH_ENOMEM && (int)KITH_FAIL_IO == KITH_EIO &&
                  (int)KITH_FAIL_ARGUMENT == KITH_EINVAL && (int)KITH_FAIL_CORRUPT == KITH_ECORRUPT &&
                  (int)KITH_FAIL_FULL == KITH_ENOSPC && (int)KITH_FAIL_ABSENT == KITH_ENOENT &&
                  (int)KITH_FAIL_BUSY == KITH_EBUSY && (int)KITH_FAIL_TOO_BIG == KITH_ETOOBIG &&
                  (int)KITH_FAIL_VERSION == KITH_EVERSION && (int)KITH_FAIL_PERMISSION == KITH_EPERM,
              "the public codes are the internal ones");

enum { ARGUMENTS_ON_STACK = 16 };

struct kith {
    struct kith_pool *pool;
    struct kith_engine *engine;
    struct kith_node *node;
    struct kith_session session;
    struct kith_buf reply_bytes; /* of the command that runs */
    struct kith_reply reply;
    int64_t now_ms;
    struct kith_rng rng;
    pthread_mutex_t mutex;
    pthread_cond_t woken;
    bool awake; /* under the mutex: a thread has something for us */
    char message[KITH_MESSAGE_BYTES];
};

/* --- the parts ----------------------------------------------------------------------------------------------- */

static void wake(void *context)
{
    struct kith *db = context;
    pthread_mutex_lock(&db->mutex);
    db->awake = true;
    pthread_cond_signal(&db->woken);
    pthread_mutex_unlock(&db->mutex);
}

/* Until a thread has something, or `milliseconds` have passed. */
static void wait_for_wake(struct kith *db, int64_t milliseconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += milliseconds % 1000 * 1000000;
    until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&db->mutex);
    while (!db->awake && pthread_cond_timedwait(&db->woken, &db->mutex, &until) == 0)
        continue;
    db->awake = false;
    pthread_mutex_unlock(&db->mutex);
}

static int64_t wall_ms(struct kith *db)
{
    int64_t now = kith_os_wall_ms();
    if (now > db->now_ms)
        db->now_ms = now;
    return db->now_ms;
}

static int fail(struct kith *db, int status, const char *text)
{
    snprintf(db->message, sizeof db->message, "%s", text && *text ? text : kith_status_text(status));
    return status;
}

static int open_engine(struct kith *db, const struct kith_options *options)
{
    unsigned workers = options->worker_count ? options->worker_count : kith_os_cpu_count();
    int status = kith_pool_open(&db->pool, workers, wake, db);
    if (status)
        return status;
    struct kith_engine_options engine_options = {
        .database_count = options->database_count,
        .executor = kith_pool_executor(db->pool),
        .worker_count = workers,
    };
    kith_os_random(&engine_options.hash_seed, sizeof engine_options.hash_seed);
    kith_os_random(&engine_options.read_seed, sizeof engine_options.read_seed);
    return kith_engine_open(&db->engine, &engine_options);
}

static int open_node(struct kith *db, const char *folder, const struct kith_options *options,
                     struct kith_error *error)
{
    static const enum kith_durability durabilities[] = {KITH_DURABILITY_ALWAYS, KITH_DURABILITY_EVERYSEC,
                                                        KITH_DURABILITY_NONE};
    struct kith_node_options node_options = {
        .dir = folder,
        .durability = durabilities[options->sync],
        .machine = kith_engine_machine(db->engine),
        .wake = wake,
        .wake_context = db,
    };
    return kith_node_open(&db->node, &node_options, error);
}

static void init_waiting(struct kith *db)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&db->mutex, NULL);
    pthread_cond_init(&db->woken, &attributes);
    pthread_condattr_destroy(&attributes);
}

int kith_open(struct kith **out, const char *folder, const struct kith_options *options, char *message)
{
    static const struct kith_options defaults;
    struct kith_error error = {""};
    options = options ? options : &defaults;
    int status = (unsigned)options->sync <= KITH_SYNC_NONE ? KITH_OK : KITH_EINVAL;
    struct kith *db = status ? NULL : calloc(1, sizeof *db);
    if (!status && !db)
        status = KITH_ENOMEM;
    if (db) {
        init_waiting(db);
        kith_session_init(&db->session, 1);
        db->session.protocol = 3;
        db->session.authenticated = true;
        uint64_t seed;
        kith_os_random(&seed, sizeof seed);
        kith_rng_seed(&db->rng, seed);
        status = open_engine(db, options);
        if (!status)
            status = open_node(db, folder ? folder : "", options, &error);
    }
    if (status) {
        if (message)
            snprintf(message, KITH_MESSAGE_BYTES, "%s", *error.text ? error.text : kith_status_text(status));
        (void)kith_close(db); /* nothing was written */
        return status;
    }
    *out = db;
    return KITH_OK;
}

int kith_close(struct kith *db)
{
    int status = KITH_OK;
    if (!db)
        return KITH_OK;
    if (db->engine) {
        kith_engine_stop_background(db->engine);
        while (kith_pool_wait(db->pool) > 0 || kith_engine_busy(db->engine) > 0)
            continue;
    }
    if (db->node)
        status = kith_node_close(db->node);
    kith_engine_close(db->engine);
    kith_pool_close(db->pool);
    kith_session_fini(&db->session);
    kith_buf_fini(&db->reply_bytes);
    pthread_cond_destroy(&db->woken);
    pthread_mutex_destroy(&db->mutex);
    free(db);
    return status;
}

const char *kith_message(const struct kith *db)
{
    return db->message;
}

void kith_free(void *memory)
{
    free(memory);
}

/* --- one command --------------------------------------------------------------------------------------------- */

static void on_begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    struct kith *db = context;
    *session = &db->session;
    *reply = &db->reply;
}

/* What the wait of a write shares with its end. */
struct pending {
    bool done;
    int status;
};

static void on_done(void *context, int status)
{
    struct pending *pending = context;
    pending->status = status;
    pending->done = true;
}

static int submit(struct kith *db, struct kith_buf *payload)
{
    struct pending pending = {false, KITH_OK};
    const struct kith_apply_hooks hooks = {db, on_begin, NULL};
    int status =
        payload->failed ? KITH_ENOMEM : kith_node_submit(db->node, payload, &hooks, on_done, &pending);
    if (status) {
        kith_buf_fini(payload);
        return status;
    }
    while (!pending.done) {
        int64_t timeout_ms = kith_node_timeout_ms(db->node);
        if (timeout_ms != 0)
            wait_for_wake(db, timeout_ms < 0 ? 1000 : timeout_ms);
        kith_node_poll(db->node);
    }
    return pending.status;
}

/* Takes in what the threads finished, and removes keys past their time. */
static int catch_up(struct kith *db)
{
    kith_pool_drain(db->pool);
    kith_node_poll(db->node);
    int64_t expiry_ms = kith_engine_next_expiry_ms(db->engine);
    if (expiry_ms < 0 || expiry_ms >= wall_ms(db))
        return KITH_OK;
    struct kith_buf payload;
    kith_buf_init(&payload);
    kith_entry_begin(&payload, wall_ms(db), kith_rng_next(&db->rng));
    return submit(db, &payload);
}

int kith_idle(struct kith *db, unsigned milliseconds)
{
    uint64_t until = kith_os_monotonic_ns() + milliseconds * 1000000ull;
    db->message[0] = '\0';
    for (;;) {
        int status = catch_up(db);
        if (status < 0)
            return fail(db, status, kith_node_error(db->node));
        bool more = kith_engine_idle_work(db->engine) || kith_node_wants_poll(db->node);
        bool waits = kith_engine_busy(db->engine) > 0;
        uint64_t now = kith_os_monotonic_ns();
        if ((!more && !waits) || now >= until)
            return more || waits;
        if (!more)
            wait_for_wake(db, (int64_t)((until - now) / 1000000 + 1));
    }
}

static int run_write(struct kith *db, const struct kith_slice *argv, size_t argc)
{
    struct kith_buf payload;
    kith_buf_init(&payload);
    kith_entry_begin(&payload, wall_ms(db), kith_rng_next(&db->rng));
    kith_entry_append(&payload, db->session.db_index, argv, argc);
    return submit(db, &payload);
}

/* Leaves the reply's bytes in db->reply_bytes. */
static int run(struct kith *db, const struct kith_slice *argv, size_t argc)
{
    db->message[0] = '\0';
    int status = catch_up(db);
    kith_buf_clear(&db->reply_bytes);
    kith_reply_init(&db->reply, &db->reply_bytes, 3);
    const struct kith_command *command =
        status ? NULL : kith_engine_admit(db->engine, argv, argc, &db->reply);
    if (command && command->flags & KITH_CMD_WRITE) {
        status = run_write(db, argv, argc);
    } else if (command) {
        struct kith_admitted request = {
            .session = &db->session, .command = command, .argv = argv, .argc = argc};
        kith_engine_execute(db->engine, &request, wall_ms(db), &db->reply, NULL);
    }
    if (status)
        return fail(db, status, kith_node_error(db->node));
    return db->reply_bytes.failed ? fail(db, KITH_ENOMEM, NULL) : KITH_OK;
}

/* `run`, with an error reply as a failure. */
static int run_strict(struct kith *db, const struct kith_slice *argv, size_t argc)
{
    int status = run(db, argv, argc);
    struct kith_buf *reply = &db->reply_bytes;
    if (status || !reply->length || reply->data[0] != '-')
        return status;
    snprintf(db->message, sizeof db->message, "%.*s", (int)(reply->length - 3), reply->data + 1);
    return KITH_FAIL_COMMAND;
}

int kith_command(struct kith *db, int argc, const char *const *argv, const size_t *lengths,
                 const struct kith_answer **out)
{
    struct kith_slice few[ARGUMENTS_ON_STACK], *slices = few;
    if (argc < 1)
        return fail(db, KITH_EINVAL, "a command has at least its name");
    if (argc > ARGUMENTS_ON_STACK && !(slices = malloc((size_t)argc * sizeof *slices)))
        return fail(db, KITH_ENOMEM, NULL);
    for (int i = 0; i < argc; i++)
        slices[i] = kith_slice(argv[i], lengths ? lengths[i] : strlen(argv[i]));
    int status = run(db, slices, (size_t)argc);
    if (slices != few)
        free(slices);
    if (!status) {
        status = embed_answer(kith_buf_slice(&db->reply_bytes), out);
        if (status)
            fail(db, status, NULL);
    }
    return status;
}

/* --- the short ways ------------------------------------------------------------------------------------------ */

static struct kith_slice text(const char *s)
{
    return kith_slice(s, strlen(s));
}

/* The integer, or the boolean, of a short reply. */
static int reply_number(const struct kith_buf *reply)
{
    if (reply->length && reply->data[0] == '#')
        return reply->data[1] == 't';
    return reply->length > 1 && reply->data[0] == ':' ? reply->data[1] - '0' : 0;
}

int kith_put(struct kith *db, const char *key, const void *value, size_t length)
{
    const struct kith_slice argv[] = {KITH_SLICE("SET"), text(key), kith_slice(value, length)};
    return run_strict(db, argv, 3);
}

int kith_get(struct kith *db, const char *key, char **out, size_t *length)
{
    const struct kith_slice argv[] = {KITH_SLICE("GET"), text(key)};
    int status = run_strict(db, argv, 2);
    if (status)
        return status;
    const char *bytes = db->reply_bytes.data;
    if (bytes[0] != '$')
        return fail(db, KITH_ENOENT, "there is no such key");
    char *start;
    size_t value_length = strtoull(bytes + 1, &start, 10);
    char *copy = malloc(value_length + 1);
    if (!copy)
        return fail(db, KITH_ENOMEM, NULL);
    memcpy(copy, start + 2, value_length);
    copy[value_length] = '\0';
    *out = copy;
    *length = value_length;
    return KITH_OK;
}

int kith_delete(struct kith *db, const char *key)
{
    const struct kith_slice argv[] = {KITH_SLICE("DEL"), text(key)};
    int status = run_strict(db, argv, 2);
    return status ? status : reply_number(&db->reply_bytes);
}

int kith_vector_add(struct kith *db, const char *set, const char *element, const float *vector,
                    size_t dim_count)
{
    const struct kith_slice argv[] = {KITH_SLICE("VADD"), text(set), KITH_SLICE("FP32"),
                                      kith_slice(vector, dim_count * sizeof *vector), text(element)};
    int status = run_strict(db, argv, 5);
    return status ? status : reply_number(&db->reply_bytes);
}

int kith_vector_search(struct kith *db, const char *set, const float *vector, size_t dim_count, size_t count,
                       struct kith_matches **out)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", count);
    const struct kith_slice argv[] = {KITH_SLICE("VSIM"),      text(set),
                                      KITH_SLICE("FP32"),      kith_slice(vector, dim_count * sizeof *vector),
                                      KITH_SLICE("COUNT"),     text(digits),
                                      KITH_SLICE("WITHSCORES")};
    int status = run_strict(db, argv, 7);
    if (!status)
        status = embed_matches(kith_buf_slice(&db->reply_bytes), out);
    return status < 0 && !*db->message ? fail(db, status, NULL) : status;
}
