/* WAIT and WAITAOF. What was acknowledged is on a majority's disks already, so that WAIT mostly answers at once; to
 * wait for more nodes than that is what it is for. On the leader it counts what is known of each voter; a follower
 * knows of the majority only. */
#include "net/server.h"
#include "prog/app.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 2 };

struct waiter {
    struct waiter *next;
    struct kith_connection *connection;
    uint64_t index; /* everything that this client was answered is at or below it */
    int64_t local, replicas;
    uint64_t deadline_ms; /* uv_now; 0: none */
    bool with_local;
};

struct waits {
    struct app *app;
    uv_timer_t timer;
    struct waiter *first;
};

/* Other voters that have the log up to `index` on their disks. */
static int64_t count_replicas(const struct app *app, uint64_t index)
{
    size_t count;
    struct kith_node_member *members = app_members(app, &count);
    int64_t known = 0, voters = 0;
    for (size_t i = 0; i < count; i++) {
        if (members[i].role != KITH_CORE_VOTER)
            continue;
        voters++;
        known += !members[i].self && members[i].match_index >= index;
    }
    free(members);
    return known > voters / 2 ? known : voters / 2;
}

static int64_t count_local(const struct app *app, uint64_t index)
{
    struct kith_node_status status;
    kith_node_get_status(app->node, &status);
    return !status.in_memory && status.synced_index >= index;
}

struct counts {
    int64_t local, replicas;
    bool with_local;
};

static struct counts count_for(const struct app *app, const struct waiter *waiter)
{
    return (struct counts){.local = waiter->with_local ? count_local(app, waiter->index) : 0,
                           .replicas = count_replicas(app, waiter->index),
                           .with_local = waiter->with_local};
}

static void write_counts(void *context, struct kith_reply *reply)
{
    const struct counts *counts = context;
    if (counts->with_local) {
        kith_reply_array(reply, 2);
        kith_reply_int(reply, counts->local);
    }
    kith_reply_int(reply, counts->replicas);
}

static bool is_satisfied(const struct counts *counts, const struct waiter *waiter)
{
    return counts->local >= waiter->local && counts->replicas >= waiter->replicas;
}

static void look(uv_timer_t *timer)
{
    struct waits *waits = timer->data;
    uint64_t now_ms = uv_now(timer->loop);
    for (struct waiter **at = &waits->first; *at;) {
        struct waiter *waiter = *at;
        struct counts counts = count_for(waits->app, waiter);
        if (!is_satisfied(&counts, waiter) && (!waiter->deadline_ms || now_ms < waiter->deadline_ms) &&
            !kith_server_is_gone(waiter->connection)) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        kith_server_release(waiter->connection, write_counts, &counts);
        free(waiter);
    }
    if (!waits->first)
        uv_timer_stop(timer);
}

static struct waits *open_waits(struct app *app)
{
    if (!app->waits && (app->waits = calloc(1, sizeof *app->waits))) {
        app->waits->app = app;
        uv_timer_init(kith_server_loop(app->server), &app->waits->timer);
        app->waits->timer.data = app->waits;
    }
    return app->waits;
}

static void free_waits(uv_handle_t *handle)
{
    free(handle->data);
}

void app_waits_close(struct app *app)
{
    if (!app->waits)
        return;
    for (struct waiter *waiter = app->waits->first; waiter; waiter = waiter->next)
        waiter->deadline_ms = 1;
    look(&app->waits->timer);
    uv_close((uv_handle_t *)&app->waits->timer, free_waits);
    app->waits = NULL;
}

static void begin(struct app *app, struct kith_call *call, struct waiter wanted, int64_t timeout_ms)
{
    struct kith_node_status status;
    kith_node_get_status(app->node, &status);
    wanted.index = status.applied_index;
    struct counts counts = count_for(app, &wanted);
    if (is_satisfied(&counts, &wanted)) {
        write_counts(&counts, call->reply);
        return;
    }
    struct waits *waits = open_waits(app);
    struct waiter *waiter = waits ? malloc(sizeof *waiter) : NULL;
    if (!waiter) {
        kith_call_no_memory(call);
        return;
    }
    *waiter = wanted;
    waiter->deadline_ms = timeout_ms ? uv_now(kith_server_loop(app->server)) + (uint64_t)timeout_ms : 0;
    waiter->connection = kith_server_hold(call);
    waiter->next = waits->first;
    waits->first = waiter;
    uv_timer_start(&waits->timer, look, LOOK_MS, LOOK_MS);
}

static bool take_numbers(struct kith_call *call, size_t index, int64_t *replicas, int64_t *timeout_ms)
{
    return kith_call_int(call, index, replicas, NULL) &&
           kith_call_int(call, index + 1, timeout_ms, "ERR timeout is not an integer or out of range") &&
           (*timeout_ms >= 0 || (kith_reply_error(call->reply, "ERR timeout is negative"), false));
}

static void wait_for(struct app *app, struct kith_call *call)
{
    struct waiter wanted = {0};
    int64_t timeout_ms;
    if (take_numbers(call, 1, &wanted.replicas, &timeout_ms))
        begin(app, call, wanted, timeout_ms);
}

static void wait_for_disks(struct app *app, struct kith_call *call)
{
    struct waiter wanted = {.with_local = true};
    int64_t timeout_ms;
    if (kith_call_int_in(call, 1, 0, 1, &wanted.local, "ERR numlocal is 0 or 1") &&
        take_numbers(call, 2, &wanted.replicas, &timeout_ms))
        begin(app, call, wanted, timeout_ms);
}

app_command_function app_wait_command(const char *name)
{
    return strcmp(name, "wait") == 0 ? wait_for : strcmp(name, "waitaof") == 0 ? wait_for_disks : NULL;
}
