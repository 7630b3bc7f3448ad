/* Clients: each asks one thing after the other of nodes taken at random, and what it saw is kept. At the end every key's
 * history must be explained (linear.h), with a last read of every key as its last word. Keys are used for a while and
 * then left, so that histories stay short. */
#include "base/varint.h"
#include "linear.h"
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

enum { WINDOW_US = 1500000, KEYS_EACH = 2, ARGS = 12, CHECK_BUDGET = 400000, LATE_US = 9000000 };

/* What a key is used for. */
enum use { USE_REGISTER, USE_COUNTER, USE_LIST, USE_LOCK, USE_VECTOR, USES, USE_BALLAST };

struct record {
    uint64_t key; /* use, window, number */
    struct linear_op op;
};

struct request {
    struct world *world;
    uint32_t client;
    struct sim_node *node; /* NULL: it is not waiting */
    uint32_t life;
    enum use use;
    enum linear_kind kind;
    bool read;
    uint64_t key, window, number, operation, called, began_us;
    char argument[32];
    char name[40];
    struct kith_slice argv[ARGS];
    size_t argc;
    char *ballast; /* owned */
    struct kith_session session;
    struct kith_buf bytes;
    struct kith_reply reply;
    struct kith_apply_hooks hooks;
};

struct sim_history {
    struct record *records;
    size_t count, capacity;
    uint64_t clock, operation;
    struct request requests[SIM_CLIENTS];
};

static void ask(struct world *w, uint64_t client);

/* --- the history --- */

static struct kith_slice copy_of(struct kith_slice bytes)
{
    char *copy = malloc(bytes.length + 1);
    if (!copy)
        abort();
    if (bytes.length)
        memcpy(copy, bytes.data, bytes.length);
    return kith_slice(copy, bytes.length);
}

static struct record *add_record(struct sim_history *h)
{
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? h->capacity * 2 : 1024;
        h->records = realloc(h->records, h->capacity * sizeof *h->records);
        if (!h->records)
            abort();
    }
    return &h->records[h->count++];
}

/* A reply of RESP2, as far as the operations here give one. */
static bool read_reply(const struct request *r, struct linear_op *op)
{
    const char *at = r->bytes.data;
    size_t length = r->bytes.length;
    if (!length || at[0] == '-')
        return false;
    char text[24] = "";
    memcpy(text, at + 1, length - 1 < sizeof text - 1 ? length - 1 : sizeof text - 1);
    op->number = strtoll(text, NULL, 10);
    op->nil = (at[0] == '$' && at[1] == '-') || (at[0] == '*' && at[1] != '0' && at[1] == '-') ||
              (r->use == USE_VECTOR && at[0] == '*' && at[1] == '0');
    if (op->nil || (at[0] != '$' && at[0] != '*'))
        return true;
    if (r->use ==
        USE_VECTOR) { /* a vector, or the element that was found: there or not there is what counts */
        const char *found = memchr(at, '\n', length);
        bool search = r->argv[0].length == 4 && memcmp(r->argv[0].data, "VSIM", 4) == 0;
        const char *name =
            search && found ? memchr(found + 1, '\n', length - (size_t)(found + 1 - at)) : NULL;
        char want[8];
        int n = snprintf(want, sizeof want, "e%" PRIu64, r->number);
        op->result = KITH_SLICE("x");
        op->nil = search && (!name || (size_t)(at + length - name) < (size_t)n + 1 ||
                             memcmp(name + 1, want, (size_t)n) != 0);
        return true;
    }
    const char *line = memchr(at, '\n', length);
    if (!line)
        return false;
    op->result = kith_slice(line + 1, (size_t)op->number);
    return true;
}

static void record(struct request *r, bool known)
{
    struct world *w = r->world;
    struct sim_history *h = w->history;
    struct linear_op op = {.kind = r->kind,
                           .client = r->client,
                           .called = r->called,
                           .returned = known ? ++h->clock : LINEAR_NEVER,
                           .argument = r->use == USE_VECTOR ? KITH_SLICE("x")
                                                            : kith_slice(r->argument, strlen(r->argument))};
    if (known && !read_reply(r, &op)) {
        world_fail(w, "client %u: node %d answers %s with %.*s", r->client, r->node ? r->node->machine : 0,
                   r->name, (int)(r->bytes.length < 200 ? r->bytes.length : 200),
                   r->bytes.data ? r->bytes.data : "nothing");
        return;
    }
    if (w->options.verbose) {
        char line[200];
        linear_print(&op, line, sizeof line);
        world_trace(w, 1, "client %u, node %d: %s %s (operation %" PRIu64 ")", r->client, r->node->machine,
                    r->name, line, r->operation);
    }
    if (r->use == USE_BALLAST)
        return;
    op.argument = copy_of(op.argument);
    op.result = copy_of(op.result);
    *add_record(h) = (struct record){r->key, op};
}

/* --- an operation --- */

static void take_apart(struct request *r)
{
    free(r->ballast);
    r->ballast = NULL;
    r->node = NULL;
    kith_buf_fini(&r->bytes);
}

/* The request has come to its end, one way or the other. */
static void finish(struct request *r, int status)
{
    struct world *w = r->world;
    struct sim_node *n = r->node;
    if (!n) {
        world_fail(w, "client %u: its operation is answered twice", r->client);
        return;
    }
    bool gone = n->dying || n->life != r->life;
    world_mix(w, (uint64_t)(status + 100) << 32 | r->operation);
    if (status == KITH_OK && !gone)
        record(r, true);
    else if (!r->read && (status != KITH_EAGAIN || gone)) {
        w->result->unknown++;
        record(r, false);
    } else if (!r->read) {
        w->result->refused++;
        canon_refuse(w, r->operation);
    }
    if (status != KITH_OK)
        world_trace(w, 1, "client %u, node %d: %s operation %" PRIu64 ": %s", r->client, n->machine, r->name,
                    r->operation, kith_status_text(status));
    take_apart(r);
    world_later(w, status == KITH_OK ? 200 + world_below(w, w->think_us) : 20000 + world_below(w, 100000),
                ask, r->client);
}

static void written(void *context, int status)
{
    struct request *r = context;
    if (status == KITH_OK && r->node && !r->bytes.length && !r->node->dying)
        world_fail(r->world, "client %u: operation %" PRIu64 " is done, and has no reply", r->client,
                   r->operation);
    finish(r, status);
}

static void execute(struct request *r)
{
    struct kith_engine *engine = r->node->engine.engine;
    const struct kith_command *command = kith_engine_admit(engine, r->argv, r->argc, &r->reply);
    if (!command)
        return;
    struct kith_admitted request = {
        .session = &r->session, .command = command, .argv = r->argv, .argc = r->argc};
    kith_engine_execute(engine, &request, 0, &r->reply, NULL);
}

static void may_read(void *context, int status)
{
    struct request *r = context;
    if (status == KITH_OK && r->node && !r->node->dying)
        execute(r);
    finish(r, status);
}

static void begin_reply(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    struct request *r = context;
    *session = &r->session;
    *reply = &r->reply;
}

static void submit(struct request *r)
{
    struct kith_buf payload = {0};
    struct world *w = r->world;
    kith_entry_begin(&payload, 1000000000 + r->node->wall_offset_ms + (int64_t)(w->events.now_us / 1000),
                     r->operation);
    kith_entry_append(&payload, 0, r->argv, r->argc);
    r->hooks = (struct kith_apply_hooks){.context = r, .begin = begin_reply};
    int status = kith_node_submit(r->node->node, &payload, &r->hooks, written, r);
    kith_buf_fini(&payload);
    if (status == KITH_OK)
        return;
    canon_refuse(w, r->operation);
    w->result->refused++;
    take_apart(r);
    world_later(w, 20000 + world_below(w, 100000), ask, r->client);
}

static void read_state(struct request *r)
{
    if (r->world->options.control == SIM_CONTROL_READ_AT_ONCE && r->node->role == KITH_CORE_LEADER) {
        may_read(r, KITH_OK);
        return;
    }
    int status = kith_node_read(r->node->node, may_read, r);
    if (status > 0)
        may_read(r, KITH_OK);
    else if (status < 0)
        may_read(r, KITH_EAGAIN);
}

/* --- which operation --- */

static void argue(struct request *r, const char *word)
{
    r->argv[r->argc++] = kith_slice(word, strlen(word));
}

/* Four corners far from each other; number 0 to 3. */
static void argue_vector(struct request *r, uint64_t number)
{
    argue(r, "VALUES");
    argue(r, "4");
    for (uint64_t i = 0; i < 4; i++)
        argue(r, i == number ? "1" : "0.05");
}

static const char *const elements[] = {"e0", "e1", "e2", "e3"};

static void choose_vector(struct request *r)
{
    static const char *const names[] = {"VADD", "VADD", "VREM", "VEMB", "VSIM"};
    static const enum linear_kind kinds[] = {LINEAR_SETNX, LINEAR_SETNX, LINEAR_DEL, LINEAR_GET, LINEAR_GET};
    uint64_t what = world_below(r->world, 5);
    snprintf(r->name, sizeof r->name, "v%" PRIu64, r->window);
    r->number = world_below(r->world, 4);
    r->kind = kinds[what];
    r->read = what >= 3;
    argue(r, names[what]);
    argue(r, r->name);
    if (what < 2)
        argue_vector(r, r->number);
    if (what == 4) {
        argue_vector(r, r->number);
        argue(r, "COUNT");
        argue(r, "1");
    } else
        argue(r, elements[r->number]);
}

static void choose_ballast(struct request *r)
{
    size_t length = 100 + (size_t)world_below(r->world, world_chance(r->world, 0.05) ? 60000 : 6000);
    r->ballast = malloc(length);
    if (!r->ballast)
        abort();
    for (size_t i = 0; i < length; i++) /* does not compress */
        r->ballast[i] = (char)(kith_rng_next(&r->world->rng) >> 32);
    snprintf(r->name, sizeof r->name, "ballast%" PRIu64, world_below(r->world, 60));
    r->kind = LINEAR_SET;
    argue(r, "SET");
    argue(r, r->name);
    r->argv[r->argc++] = kith_slice(r->ballast, length);
    if (world_chance(r->world, 0.2)) {
        argue(r, "PX");
        argue(r, "700");
    }
}

struct choice {
    const char *command;
    enum linear_kind kind;
};

static void choose(struct request *r)
{
    static const struct choice choices[USES][4] = {
        [USE_REGISTER] = {{"GET", LINEAR_GET},
                          {"GET", LINEAR_GET},
                          {"SET", LINEAR_SET},
                          {"GETSET", LINEAR_GETSET}},
        [USE_COUNTER] = {{"GET", LINEAR_GET},
                         {"INCR", LINEAR_INCR},
                         {"INCR", LINEAR_INCR},
                         {"INCR", LINEAR_INCR}},
        [USE_LIST] = {{"GET", LINEAR_GET},
                      {"GET", LINEAR_GET},
                      {"APPEND", LINEAR_APPEND},
                      {"APPEND", LINEAR_APPEND}},
        [USE_LOCK] = {{"GET", LINEAR_GET},
                      {"SETNX", LINEAR_SETNX},
                      {"SETNX", LINEAR_SETNX},
                      {"DEL", LINEAR_DEL}},
    };
    static const char *const prefixes[USES] = {"r", "c", "l", "k", "v"};
    struct world *w = r->world;
    r->argc = 0;
    r->use = world_chance(w, 0.15) ? USE_BALLAST : (enum use)world_below(w, USES);
    if (r->use == USE_VECTOR && w->options.without[SIM_VECTORS])
        r->use = USE_REGISTER;
    r->window = w->events.now_us / WINDOW_US;
    r->number = world_below(w, KEYS_EACH);
    r->read = false;
    snprintf(r->argument, sizeof r->argument, "%" PRIu64, r->operation);
    if (r->use == USE_BALLAST)
        choose_ballast(r);
    else if (r->use == USE_VECTOR)
        choose_vector(r);
    else {
        const struct choice *c = &choices[r->use][world_below(w, 4)];
        snprintf(r->name, sizeof r->name, "%s%" PRIu64 ".%" PRIu64, prefixes[r->use], r->window, r->number);
        r->kind = c->kind;
        r->read = c->kind == LINEAR_GET;
        argue(r, c->command);
        argue(r, r->name);
        if (c->kind != LINEAR_GET && c->kind != LINEAR_DEL && c->kind != LINEAR_INCR)
            argue(r, r->argument);
    }
    r->key = (uint64_t)r->use << 56 | r->window << 8 | r->number;
}

static void ask(struct world *w, uint64_t client)
{
    struct sim_history *h = w->history;
    struct request *r = &h->requests[client];
    struct sim_node *n = world_random_node(w);
    if (w->stopped || r->node)
        return;
    if (!n) {
        world_later(w, 10000 + world_below(w, 50000), ask, client);
        return;
    }
    r->operation = ++h->operation;
    r->node = n;
    r->life = n->life;
    r->began_us = w->events.now_us;
    r->called = ++h->clock;
    choose(r);
    kith_buf_clear(&r->bytes);
    kith_reply_init(&r->reply, &r->bytes, 2);
    w->result->operations++;
    w->result->reads += r->read;
    if (world_chance(w, 0.2))
        claims_read_near(n);
    if (r->read)
        read_state(r);
    else
        submit(r);
    node_settle(n);
}

/* Nothing may wait for ever. */
static void watch(struct world *w, uint64_t unused)
{
    for (int i = 0; i < SIM_CLIENTS; i++) {
        struct request *r = &w->history->requests[i];
        if (!r->node)
            continue;
        if (!node_is_up(r->node))
            r->began_us = w->events.now_us;
        else if (w->events.now_us - r->began_us > LATE_US)
            world_fail(w, "client %d: node %d never answers operation %" PRIu64 ", %s", i, r->node->machine,
                       r->operation, r->name);
    }
    world_later(w, 500000, watch, 0);
}

void clients_start(struct world *w)
{
    w->history = calloc(1, sizeof *w->history);
    if (!w->history)
        abort();
    for (uint32_t i = 0; i < SIM_CLIENTS; i++) {
        struct request *r = &w->history->requests[i];
        r->world = w;
        r->client = i;
        kith_session_init(&r->session, i + 1);
        world_later(w, world_below(w, 50000), ask, i);
    }
    world_later(w, 500000, watch, 0);
}

bool clients_are_idle(struct world *w)
{
    for (int i = 0; w->history && i < SIM_CLIENTS; i++)
        if (w->history->requests[i].node)
            return false;
    return true;
}

void clients_node_gone(struct sim_node *n)
{
    for (int i = 0; n->world->history && i < SIM_CLIENTS; i++)
        if (n->world->history->requests[i].node == n)
            world_fail(n->world, "client %d: node %d was closed and never called back", i, n->machine);
}

/* --- the verdict --- */

static int compare_records(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->op.called < y->op.called ? -1 : x->op.called > y->op.called;
}

/* What the key holds in the end, asked of the first member. */
static void add_last_read(struct world *w, uint64_t key)
{
    static const char *const prefixes[USES] = {"r", "c", "l", "k", "v"};
    struct sim_history *h = w->history;
    struct request r = {
        .world = w, .client = SIM_CLIENTS, .use = (enum use)(key >> 56), .kind = LINEAR_GET, .read = true};
    r.window = key >> 8 & UINT64_C(0xffffffffffff);
    r.number = key & 0xff;
    r.key = key;
    for (int i = SIM_MACHINES; i >= 1; i--)
        if (w->nodes[i].node && w->admin.wanted[i])
            r.node = &w->nodes[i];
    if (!r.node)
        return;
    kith_session_init(&r.session, 99);
    kith_reply_init(&r.reply, &r.bytes, 2);
    if (r.use == USE_VECTOR) {
        snprintf(r.name, sizeof r.name, "v%" PRIu64, r.window);
        argue(&r, "VEMB");
        argue(&r, r.name);
        argue(&r, elements[r.number]);
    } else {
        snprintf(r.name, sizeof r.name, "%s%" PRIu64 ".%" PRIu64, prefixes[r.use], r.window, r.number);
        argue(&r, "GET");
        argue(&r, r.name);
    }
    r.called = ++h->clock;
    execute(&r);
    record(&r, true);
    kith_buf_fini(&r.bytes);
    kith_session_fini(&r.session);
}

static size_t end_of_key(const struct sim_history *h, size_t from)
{
    size_t to = from;
    while (to < h->count && h->records[to].key == h->records[from].key)
        to++;
    return to;
}

static void check_key(struct world *w, struct linear_op *ops, const struct record *records, size_t count)
{
    static const char prefixes[] = "rclkv";
    struct linear_report report;
    for (size_t i = 0; i < count; i++)
        ops[i] = records[i].op;
    linear_check(ops, count, CHECK_BUDGET, &report);
    w->result->keys++;
    w->result->steps += report.steps;
    w->result->undecided += report.verdict == LINEAR_UNDECIDED;
    if (report.verdict != LINEAR_BAD)
        return;
    char line[200];
    linear_print(&ops[report.stuck], line, sizeof line);
    world_fail(w, "key %c%" PRIu64 ".%" PRIu64 ": %zu operations cannot be explained; stuck at %s",
               prefixes[records->key >> 56], records->key >> 8 & UINT64_C(0xffffffffffff),
               records->key & 0xff, count, line);
    for (size_t i = 0; i < count && w->options.verbose; i++) {
        linear_print(&ops[i], line, sizeof line);
        world_trace(w, 1, "    %s", line);
    }
}

void clients_check(struct world *w)
{
    struct sim_history *h = w->history;
    if (!h || world_has_failed(w))
        return;
    for (int i = 0; i < SIM_CLIENTS; i++)
        if (h->requests[i].node)
            world_fail(w, "client %d still waits for node %d", i, h->requests[i].node->machine);
    qsort(h->records, h->count, sizeof *h->records, compare_records);
    for (size_t from = 0, count = h->count; from < count; from = end_of_key(h, from))
        add_last_read(w, h->records[from].key);
    qsort(h->records, h->count, sizeof *h->records, compare_records);
    struct linear_op *ops = malloc((h->count + 1) * sizeof *ops);
    if (!ops)
        abort();
    for (size_t from = 0; from < h->count; from = end_of_key(h, from))
        check_key(w, ops, h->records + from, end_of_key(h, from) - from);
    free(ops);
}

void clients_free(struct world *w)
{
    struct sim_history *h = w->history;
    if (!h)
        return;
    for (size_t i = 0; i < h->count; i++) {
        free((char *)h->records[i].op.argument.data);
        free((char *)h->records[i].op.result.data);
    }
    for (int i = 0; i < SIM_CLIENTS; i++) {
        take_apart(&h->requests[i]);
        kith_session_fini(&h->requests[i].session);
    }
    free(h->records);
    free(h);
}
