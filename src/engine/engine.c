/* The engine's front: from names and arguments to handlers. Everything a handler may depend on is in the call
 * it gets: for a write the time and the random seed come from the entry, so that every replica and every
 * replay does the same. */
#include "engine/engine.h"
#include "engine/vset_calibrate.h"

#include "base/assert.h"
#include "engine/state.h"
#include "engine/vset.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>

enum {
    DEFAULT_DATABASES = 16,
    DISCARDED_KEEP_BYTES = 1 << 20,
    EXPIRE_PER_TICK = 256,  /* about a quarter of a millisecond with every key a cache miss */
    EXPIRE_PER_COMMAND = 2, /* so that writes pay off old keys faster than they make new ones */
    FREE_PER_ENTRY = 256,   /* elements of dead objects, when the driver never idles */
    FREE_PER_IDLE = 1024,
    PREFETCH_BATCH = 64,
    EXCESS_PER_MS = 64, /* unlinked elements past the bound, for each millisecond that a writer waits */
    BACK_PRESSURE_MAX_MS = 200,
};

static int open_dbs(struct kith_engine *engine)
{
    engine->dbs = calloc(engine->db_count, sizeof *engine->dbs);
    if (!engine->dbs)
        return KITH_ENOMEM;
    for (uint32_t i = 0; i < engine->db_count; i++) {
        struct kith_db *db = &engine->dbs[i];
        *db = (struct kith_db){.engine = engine, .index = i};
        int status = kith_table_open(&db->table, engine->options.hash_seed);
        if (status)
            return status;
    }
    return KITH_OK;
}

int kith_engine_open(struct kith_engine **out, const struct kith_engine_options *options)
{
    struct kith_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return KITH_ENOMEM;
    engine->options = *options;
    engine->db_count = options->database_count ? options->database_count : DEFAULT_DATABASES;
    kith_rng_seed(&engine->read_rng, options->read_seed);
    kith_session_init(&engine->replay, 0);
    kith_buf_init(&engine->discarded);
    int status = kith_command_index_open(&engine->commands);
    if (status == KITH_OK)
        status = open_dbs(engine);
    if (status) {
        kith_engine_close(engine);
        return status;
    }
    *out = engine;
    return KITH_OK;
}

void kith_engine_close(struct kith_engine *engine)
{
    if (!engine)
        return;
    atomic_store(&engine->background.stopping, true);
    kith_loader_close(engine);
    kith_checkpoint_close(engine);
    for (uint32_t i = 0; engine->dbs && i < engine->db_count; i++) {
        kith_avl_close(engine->dbs[i].expiries);
        kith_table_close(engine->dbs[i].table, kith_keyspace_free_entry, engine);
    }
    kith_lazy_finish(engine);
    kith_requests_fini(&engine->requests);
    kith_upstream_fini(&engine->upstream);
    kith_command_index_close(&engine->commands);
    kith_plan_fini(&engine->plan);
    kith_session_fini(&engine->replay);
    kith_buf_fini(&engine->discarded);
    free(engine->dbs);
    free(engine);
}

int kith_engine_reset(struct kith_engine *engine)
{
    struct kith_table **fresh = calloc(engine->db_count, sizeof *fresh);
    int status = fresh ? KITH_OK : KITH_ENOMEM;
    for (uint32_t i = 0; i < engine->db_count && status == KITH_OK; i++)
        status = kith_table_open(&fresh[i], engine->options.hash_seed);
    if (status != KITH_OK) {
        for (uint32_t i = 0; fresh && i < engine->db_count; i++)
            kith_table_close(fresh[i], NULL, NULL);
        free(fresh);
        return status;
    }
    kith_loader_close(engine);
    kith_checkpoint_close(engine);
    for (uint32_t i = 0; i < engine->db_count; i++) {
        struct kith_db *db = &engine->dbs[i];
        kith_lazy_release_table(engine, db->table, db->expiries);
        db->table = fresh[i];
        db->expiries = NULL;
    }
    free(fresh);
    kith_requests_fini(&engine->requests);
    kith_upstream_fini(&engine->upstream);
    engine->now_ms = 0;
    engine->background.links_unsaved = 0;
    return KITH_OK;
}

const struct kith_hash_seed *kith_engine_hash_seed(const struct kith_engine *engine)
{
    return &engine->options.hash_seed;
}

size_t kith_engine_busy(const struct kith_engine *engine)
{
    return engine->background.busy_count;
}

void kith_engine_stop_background(struct kith_engine *engine)
{
    atomic_store(&engine->background.stopping, true);
}

uint64_t kith_engine_links_unsaved(const struct kith_engine *engine, bool *pending)
{
    *pending = engine->background.totals.pending > 0;
    return engine->background.links_unsaved;
}

/* The further the tails are past their bounds, the longer: where that settles depends on how much a write
 * brings and how fast links are made. */
unsigned kith_engine_back_pressure_ms(const struct kith_engine *engine)
{
    uint64_t excess = engine->background.totals.excess;
    if (!excess)
        return 0;
    return excess < BACK_PRESSURE_MAX_MS * EXCESS_PER_MS ? 1 + (unsigned)(excess / EXCESS_PER_MS)
                                                         : BACK_PRESSURE_MAX_MS;
}

/* --- From a name to a row. --- */

const struct kith_command *kith_engine_lookup(const struct kith_engine *engine, const struct kith_slice *argv,
                                              size_t argc)
{
    if (argc == 0)
        return NULL;
    const struct kith_command *command = kith_command_find(&engine->commands, argv[0]);
    if (command && memchr(argv[0].data, '|', argv[0].length))
        return NULL; /* "client|list" is a name for COMMAND INFO, not something to call */
    if (command && command->flags & KITH_CMD_SUBCOMMANDS && argc > 1)
        return kith_command_find_sub(&engine->commands, command, argv[1]);
    return command;
}

/* Quoted arguments as Redis lists them: together at most 128 bytes, a NUL ends one. */
static void unknown_command(const struct kith_slice *argv, size_t argc, struct kith_reply *reply)
{
    char text[512];
    size_t length = 0, name_length = strnlen(argv[0].data, argv[0].length);
    for (size_t i = 1; i < argc && length < 128; i++) {
        size_t most = 128 - length, shown = strnlen(argv[i].data, argv[i].length);
        shown = shown < most ? shown : most;
        text[length] = '\'';
        memcpy(text + length + 1, argv[i].data, shown);
        memcpy(text + length + 1 + shown, "' ", 2);
        length += shown + 3;
    }
    kith_reply_error_format(reply, "ERR unknown command '%.*s', with args beginning with: %.*s",
                            (int)(name_length < 128 ? name_length : 128), argv[0].data, (int)length, text);
}

static void unknown_subcommand(const struct kith_slice *argv, struct kith_reply *reply)
{
    char parent[64];
    size_t length = argv[0].length < sizeof parent ? argv[0].length : sizeof parent;
    for (size_t i = 0; i < length; i++)
        parent[i] = (char)toupper((unsigned char)argv[0].data[i]);
    size_t name_length = strnlen(argv[1].data, argv[1].length);
    kith_reply_error_format(reply, "ERR unknown subcommand '%.*s'. Try %.*s HELP.",
                            (int)(name_length < 128 ? name_length : 128), argv[1].data, (int)length, parent);
}

const struct kith_command *kith_engine_admit(const struct kith_engine *engine, const struct kith_slice *argv,
                                             size_t argc, struct kith_reply *reply)
{
    const struct kith_command *command = kith_engine_lookup(engine, argv, argc);
    if (!command) {
        if (argc > 1 && kith_command_find(&engine->commands, argv[0]))
            unknown_subcommand(argv, reply);
        else if (argc > 0)
            unknown_command(argv, argc, reply);
        else
            kith_reply_error(reply, "ERR Protocol error: empty command");
        return NULL;
    }
    if (!kith_command_arity_fits(command, argc)) {
        kith_reply_error_format(reply, "ERR wrong number of arguments for '%s' command", command->name);
        return NULL;
    }
    if (command->flags & KITH_CMD_LOG_ONLY) {
        kith_reply_error_format(reply, "ERR '%s' stands in the log alone: it is not for clients",
                                command->name);
        return NULL;
    }
    if (command->flags & KITH_CMD_ANY_ROLE && !engine->options.host.command &&
        !kith_slice_is(argv[1], "no")) {
        kith_reply_error_format(reply, "ERR '%s' needs a server: there is none around this engine",
                                command->name);
        return NULL;
    }
    /* Before it goes into the log: members of another version might know other commands. */
    if (strcmp(command->name, "kith.request") == 0 && !kith_request_inner(engine, argv, argc, reply))
        return NULL;
    return command;
}

bool kith_engine_is_entry_command(const struct kith_command *command, size_t argc)
{
    return command && command->flags & KITH_CMD_WRITE && command->handler &&
           !(command->flags & KITH_CMD_ANY_ROLE) && kith_command_arity_fits(command, argc);
}

/* --- Execution. --- */

static void run(struct kith_engine *engine, struct kith_call *call)
{
    const struct kith_command *command = call->command;
    engine->command_count++;
    call->session->last_command = command;
    if (command->handler)
        command->handler(call);
    else if (engine->options.host.command)
        engine->options.host.command(engine->options.host.context, call);
    else
        kith_reply_error_format(call->reply, "ERR '%s' needs a server: there is none around this engine",
                                command->name);
}

void kith_engine_execute(struct kith_engine *engine, const struct kith_admitted *request, int64_t now_ms,
                         struct kith_reply *reply, struct kith_deferred **deferred)
{
    KITH_ASSERT(!(request->command->flags & KITH_CMD_WRITE));
    struct kith_call call = {
        .engine = engine,
        .session = request->session,
        .command = request->command,
        .argv = request->argv,
        .argc = request->argc,
        .db = &engine->dbs[request->session->db_index],
        .now_ms = now_ms > engine->now_ms ? now_ms : engine->now_ms,
        .rng = &engine->read_rng,
        .reply = reply,
        .key_hash = request->key_hash,
        .hashed = request->hashed,
    };
    run(engine, &call);
    if (deferred) {
        *deferred = call.deferred;
    } else if (call.deferred) {
        do {
            call.deferred->again = false;
            call.deferred->task.run(&call.deferred->task);
        } while (call.deferred->again);
        call.deferred->finish(call.deferred, reply);
        call.deferred->close(call.deferred);
    }
}

/* Whether the command's first key is at a fixed place; *at receives it. */
static bool first_key(const struct kith_command *command, size_t argc, size_t *at)
{
    *at = (size_t)command->keys.first;
    return command->keys.first > 0 && *at < argc;
}

void kith_engine_prefetch(const struct kith_engine *engine, struct kith_admitted *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct kith_admitted *request = &requests[i];
        const struct kith_table *table = engine->dbs[request->session->db_index].table;
        size_t at;
        request->hashed = first_key(request->command, request->argc, &at);
        if (!request->hashed)
            continue;
        request->key_hash = kith_table_hash(table, request->argv[at]);
        kith_table_prefetch(table, request->key_hash);
    }
    for (size_t i = 0; i < count; i++)
        if (requests[i].hashed)
            kith_table_prefetch_entry(engine->dbs[requests[i].session->db_index].table, requests[i].key_hash);
}

/* --- Entries. --- */

static void prefetch_plan(struct kith_engine *engine, size_t first, size_t count)
{
    struct kith_plan *plan = &engine->plan;
    size_t at, end = first + count < plan->command_count ? first + count : plan->command_count;
    for (size_t i = first; i < end; i++) {
        struct kith_planned *planned = &plan->commands[i];
        const struct kith_table *table = engine->dbs[planned->db_index].table;
        planned->hashed = first_key(planned->command, planned->argc, &at);
        if (!planned->hashed)
            continue;
        planned->key_hash = kith_table_hash(table, plan->argv[planned->first_argument + at]);
        kith_table_prefetch(table, planned->key_hash);
    }
    for (size_t i = first; i < end; i++)
        if (plan->commands[i].hashed)
            kith_table_prefetch_entry(engine->dbs[plan->commands[i].db_index].table,
                                      plan->commands[i].key_hash);
}

static void apply_command(struct kith_engine *engine, const struct kith_planned *planned, size_t n,
                          const struct kith_apply_hooks *hooks)
{
    struct kith_reply discard;
    kith_reply_init(&discard, &engine->discarded, 2);
    struct kith_session *session = &engine->replay;
    struct kith_reply *reply = &discard;
    if (hooks && hooks->begin)
        hooks->begin(hooks->context, n, &session, &reply);
    struct kith_call call = {
        .engine = engine,
        .session = session ? session : &engine->replay,
        .command = planned->command,
        .argv = engine->plan.argv + planned->first_argument,
        .argc = planned->argc,
        .db = &engine->dbs[planned->db_index],
        .now_ms = engine->now_ms,
        .rng = &engine->apply_rng,
        .reply = reply ? reply : &discard,
        .key_hash = planned->key_hash,
        .hashed = planned->hashed,
    };
    const char *refusal = kith_upstream_refusal(&engine->upstream, planned->command);
    if (refusal)
        kith_reply_error(call.reply, refusal);
    else
        run(engine, &call);
    if (engine->upstream.applying && !(planned->command->flags & KITH_CMD_ANY_ROLE))
        kith_upstream_after(engine, planned->db_index, planned->command, call.argv, call.argc,
                            call.reply->error_count > 0);
    if (hooks && hooks->end)
        hooks->end(hooks->context, n);
    if (engine->discarded.length > DISCARDED_KEEP_BYTES || engine->discarded.failed)
        kith_buf_fini(&engine->discarded);
    kith_buf_clear(&engine->discarded);
}

int kith_engine_apply(struct kith_engine *engine, struct kith_slice payload,
                      const struct kith_apply_hooks *hooks)
{
    struct kith_plan *plan = &engine->plan;
    int status = kith_plan_decode(plan, engine, payload);
    if (status)
        return status;
    if (plan->time_ms > engine->now_ms)
        engine->now_ms = plan->time_ms;
    kith_rng_seed(&engine->apply_rng, plan->seed);
    size_t expire_budget = EXPIRE_PER_COMMAND * plan->command_count;
    if (expire_budget == 0 || expire_budget > EXPIRE_PER_TICK)
        expire_budget = EXPIRE_PER_TICK;
    /* While an upstream is followed, keys end when it says so. */
    if (!kith_upstream_follows(&engine->upstream))
        kith_expiry_run(engine, engine->now_ms, expire_budget);
    kith_upstream_begin_entry(&engine->upstream);
    for (size_t n = 0; n < plan->command_count; n++) {
        if (n % PREFETCH_BATCH == 0 && plan->command_count > 1)
            prefetch_plan(engine, n, PREFETCH_BATCH);
        apply_command(engine, &plan->commands[n], n, hooks);
    }
    kith_upstream_begin_entry(&engine->upstream);
    if (engine->graves)
        kith_lazy_step(engine, FREE_PER_ENTRY);
    return KITH_OK;
}

int64_t kith_engine_next_expiry_ms(const struct kith_engine *engine)
{
    int64_t earliest = -1;
    if (kith_upstream_follows(&engine->upstream))
        return -1;
    for (uint32_t i = 0; i < engine->db_count; i++) {
        const struct kith_avl *tree = engine->dbs[i].expiries;
        if (!tree || kith_avl_count(tree) == 0)
            continue;
        int64_t when = kith_avl_key_to_int64(kith_avl_item(tree, kith_avl_first(tree)).key);
        if (earliest < 0 || when < earliest)
            earliest = when;
    }
    return earliest;
}

bool kith_engine_idle_work(struct kith_engine *engine)
{
    bool more = kith_lazy_step(engine, FREE_PER_IDLE);
    kith_vset_idle(engine);
    kith_vset_calibrate_idle(engine);
    return kith_checkpoint_idle(engine, FREE_PER_IDLE) || more;
}
