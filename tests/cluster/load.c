/* load [--clients N] [--pause US] [--seed N] [--readonly 1] HISTORY HOST:PORT ...: clients of a group of kithd.
 *
 * Each client is a thread that asks one thing after the other of nodes taken at random: registers, counters, counters by
 * request id (repeated until they are answered), lists, locks, and vectors. What it asked, what came back, and when, goes
 * to HISTORY (tests/sim/history.h). A write whose answer never came, or says so, has an unknown outcome; one that was
 * refused for certain is not written down, so that its value comes from nowhere should anybody ever read it. Keys are
 * used for a second and then left, so that histories stay short.
 *
 * With --readonly they read what is near, and may be old: a check of the histories must find it.
 *
 * The end of standard input ends it: every key that was used is read once more, which makes a lost write a bad history.
 * The last line is "N operations, U unknown, R refused, E unexpected"; an answer that none of this explains is told
 * on standard error, and the status is then 1. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NODES_MAX = 16, KEYS_EACH = 3, ELEMENTS = 4, ARGS = 40, POINT_DIMENSIONS = 16, READS_MAX = 600 };

#define SECOND_NS UINT64_C(1000000000)
#define ANSWER_US 1500000 /* without an answer for so long, the connection is given up */

enum use { USE_REGISTER, USE_COUNTER, USE_ID_COUNTER, USE_LIST, USE_LOCK, USE_CORNER, USE_POINT, USES };

static const char *const prefixes[USES] = {"r", "c", "i", "l", "k", "v", "p"};

struct load {
    char hosts[NODES_MAX][64];
    int ports[NODES_MAX];
    int nodes;
    FILE *history;
    pthread_mutex_t lock; /* of history, used */
    uint64_t began_ns;
    unsigned pause_us;
    bool readonly;
    atomic_bool stopping;
    atomic_uint_fast64_t operations, unknown, refused, unexpected, number, points;
};

struct client {
    struct load *load;
    pthread_t thread;
    uint32_t number;
    unsigned seed;
    int node;
    redisContext *redis; /* NULL: not connected */
};

/* One operation: what is sent, and what the history says of it. */
struct request {
    enum use use;
    const char *kind; /* as history.h has it */
    bool read, search, repeat;
    char key[64]; /* of the history */
    char set[24], element[24], argument[32], id[48];
    char numbers[POINT_DIMENSIONS][16];
    const char *argv[ARGS];
    int argc;
};

enum outcome { DONE, UNKNOWN, REFUSED };

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static unsigned below(struct client *c, unsigned n)
{
    return (unsigned)rand_r(&c->seed) % n;
}

/* --- connections --- */

static void drop(struct client *c)
{
    if (c->redis)
        redisFree(c->redis);
    c->redis = NULL;
}

static bool say_readonly(struct client *c)
{
    redisReply *reply = redisCommand(c->redis, "READONLY");
    bool good = reply && reply->type == REDIS_REPLY_STATUS;
    freeReplyObject(reply);
    return good;
}

/* To any node that takes it; a short rest when one does not. */
static bool connect_somewhere(struct client *c)
{
    c->node = (int)below(c, (unsigned)c->load->nodes);
    c->redis = redisConnectWithTimeout(c->load->hosts[c->node], c->load->ports[c->node],
                                       (struct timeval){.tv_usec = 300000});
    if (c->redis && !c->redis->err &&
        redisSetTimeout(c->redis, (struct timeval){ANSWER_US / 1000000, ANSWER_US % 1000000}) == REDIS_OK &&
        (!c->load->readonly || say_readonly(c)))
        return true;
    drop(c);
    usleep(2000 + below(c, 8000));
    return false;
}

/* --- requests --- */

static void argue(struct request *r, const char *word)
{
    r->argv[r->argc++] = word;
}

/* Four corners far from each other. */
static void argue_corner(struct request *r, unsigned corner)
{
    argue(r, "VALUES");
    argue(r, "4");
    for (unsigned i = 0; i < ELEMENTS; i++)
        argue(r, i == corner ? "1" : "0.05");
}

static void choose_corner(struct client *c, struct request *r, uint64_t window)
{
    static const char *const commands[] = {"VADD", "VADD", "VREM", "VEMB", "VSIM"};
    static const char *const kinds[] = {"SETNX", "SETNX", "DEL", "GET", "GET"};
    unsigned what = below(c, 5), corner = below(c, ELEMENTS);
    snprintf(r->set, sizeof r->set, "v%" PRIu64, window);
    snprintf(r->element, sizeof r->element, "e%u", corner);
    snprintf(r->key, sizeof r->key, "%s/%s", r->set, r->element);
    snprintf(r->argument, sizeof r->argument, "x");
    r->kind = kinds[what];
    r->read = what >= 3;
    r->search = what == 4;
    argue(r, commands[what]);
    argue(r, r->set);
    if (what < 2 || r->search)
        argue_corner(r, corner);
    if (r->search) {
        argue(r, "COUNT");
        argue(r, "1");
    } else
        argue(r, r->element);
}

/* Many vectors in one set, each added once: the graph that the others are linked into. */
static void choose_point(struct client *c, struct request *r)
{
    snprintf(r->set, sizeof r->set, "points");
    snprintf(r->element, sizeof r->element, "p%" PRIu64, (uint64_t)atomic_fetch_add(&c->load->points, 1));
    snprintf(r->key, sizeof r->key, "%s/%s", r->set, r->element);
    snprintf(r->argument, sizeof r->argument, "x");
    r->kind = "SETNX";
    argue(r, "VADD");
    argue(r, r->set);
    argue(r, "VALUES");
    argue(r, "16");
    for (int i = 0; i < POINT_DIMENSIONS; i++) {
        snprintf(r->numbers[i], sizeof r->numbers[i], "%.3f", (double)below(c, 2001) / 1000 - 1);
        argue(r, r->numbers[i]);
    }
    argue(r, r->element);
}

static void choose_string(struct client *c, struct request *r, uint64_t window)
{
    static const char *const commands[USES][4] = {[USE_REGISTER] = {"GET", "GET", "SET", "GETSET"},
                                                  [USE_COUNTER] = {"GET", "INCR", "INCR", "INCR"},
                                                  [USE_ID_COUNTER] = {"GET", "INCR", "INCR", "INCR"},
                                                  [USE_LIST] = {"GET", "GET", "APPEND", "APPEND"},
                                                  [USE_LOCK] = {"GET", "SETNX", "SETNX", "DEL"}};
    uint64_t number = atomic_fetch_add(&c->load->number, 1);
    snprintf(r->key, sizeof r->key, "%s%" PRIu64 ".%u", prefixes[r->use], window, below(c, KEYS_EACH));
    r->kind = commands[r->use][below(c, 4)];
    r->read = strcmp(r->kind, "GET") == 0;
    r->repeat = r->use == USE_ID_COUNTER && !r->read;
    if (r->repeat) {
        snprintf(r->id, sizeof r->id, "id-%u-%" PRIu64, c->number, number);
        argue(r, "KITH.REQUEST");
        argue(r, r->id);
    }
    argue(r, r->kind);
    argue(r, r->key);
    if (r->read || strcmp(r->kind, "INCR") == 0 || strcmp(r->kind, "DEL") == 0)
        return;
    snprintf(r->argument, sizeof r->argument, "%" PRIu64 ",", number);
    argue(r, r->argument);
}

static void choose(struct client *c, struct request *r)
{
    uint64_t window = (now_ns() - c->load->began_ns) / SECOND_NS;
    *r = (struct request){.use = (enum use)below(c, USES)};
    if (r->use == USE_CORNER)
        choose_corner(c, r, window);
    else if (r->use == USE_POINT)
        choose_point(c, r);
    else
        choose_string(c, r, window);
}

/* --- answers --- */

static void tell_unexpected(struct client *c, const struct request *r, const redisReply *reply)
{
    atomic_fetch_add(&c->load->unexpected, 1);
    fprintf(stderr, "load: %s:%d answers %s %s with type %d, %s\n", c->load->hosts[c->node],
            c->load->ports[c->node], r->argv[0], r->key, reply->type, reply->str ? reply->str : "");
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static enum outcome judge_error(struct client *c, const struct request *r, const redisReply *reply)
{
    if (starts(reply->str, "UNKNOWN") || starts(reply->str, "MISCONF the outcome"))
        return UNKNOWN;
    if (starts(reply->str, "CLUSTERDOWN") || starts(reply->str, "LOADING") ||
        starts(reply->str, "MISCONF this write was not taken") ||
        starts(reply->str, "MISCONF this read was not served"))
        return REFUSED;
    tell_unexpected(c, r, reply);
    return UNKNOWN;
}

/* The RESULT of the history, from an answer that is no error; false if it is of no type that the command may give. */
static bool read_result(const struct request *r, const redisReply *reply, char *out, size_t size)
{
    bool is_vector = r->use == USE_CORNER || r->use == USE_POINT;
    if (strcmp(r->kind, "SET") == 0) {
        snprintf(out, size, "-");
        return reply->type == REDIS_REPLY_STATUS;
    }
    if (!r->read && strcmp(r->kind, "GETSET") != 0) {
        snprintf(out, size, "%lld", reply->integer);
        return reply->type == REDIS_REPLY_INTEGER;
    }
    if (reply->type == REDIS_REPLY_NIL ||
        (is_vector && reply->type == REDIS_REPLY_ARRAY && !reply->elements)) {
        snprintf(out, size, "nil");
        return true;
    }
    if (is_vector) {
        bool found = !r->search || strcmp(reply->element[0]->str, r->element) == 0;
        snprintf(out, size, "%s", found ? "x" : "nil");
        return reply->type == REDIS_REPLY_ARRAY;
    }
    snprintf(out, size, "%s", reply->str);
    return reply->type == REDIS_REPLY_STRING && reply->len + 1 < size;
}

static enum outcome ask_once(struct client *c, const struct request *r, char *result, size_t size)
{
    redisReply *reply = redisCommandArgv(c->redis, r->argc, (const char **)r->argv, NULL);
    enum outcome outcome = DONE;
    if (!reply) {
        drop(c);
        return UNKNOWN;
    }
    if (reply->type == REDIS_REPLY_ERROR)
        outcome = judge_error(c, r, reply);
    else if (!read_result(r, reply, result, size)) {
        tell_unexpected(c, r, reply);
        outcome = UNKNOWN;
    }
    freeReplyObject(reply);
    if (outcome == REFUSED && below(c, 4) == 0)
        drop(c); /* and asks another */
    return outcome;
}

static void write_down(struct client *c, const struct request *r, uint64_t called, uint64_t returned,
                       const char *result)
{
    struct load *load = c->load;
    char when[24] = "-";
    if (returned)
        snprintf(when, sizeof when, "%" PRIu64, returned);
    pthread_mutex_lock(&load->lock);
    fprintf(load->history, "%s %u %d %s %" PRIu64 " %s %s %s\n", r->key, c->number, c->node, r->kind, called,
            when, r->argument[0] ? r->argument : "-", returned ? result : "-");
    pthread_mutex_unlock(&load->lock);
}

/* Asks, and with an id asks again wherever it can until there is an answer or the end. */
static void perform(struct client *c, const struct request *r)
{
    static const size_t size = 1 << 16;
    char *result = malloc(size);
    uint64_t called = now_ns();
    bool asked = false; /* some time, with an outcome that is not a refusal */
    enum outcome outcome = REFUSED;
    if (!result)
        abort();
    do {
        if (!c->redis && !connect_somewhere(c))
            continue;
        outcome = ask_once(c, r, result, size);
        asked |= outcome != REFUSED;
    } while (r->repeat && outcome != DONE && (!c->load->stopping || now_ns() < called + 60 * SECOND_NS));
    atomic_fetch_add(&c->load->operations, 1);
    if (outcome == DONE)
        write_down(c, r, called, now_ns(), result);
    else if (asked && !r->read) {
        write_down(c, r, called, 0, NULL);
        atomic_fetch_add(&c->load->unknown, 1);
    } else
        atomic_fetch_add(&c->load->refused, 1);
    free(result);
}

static void *run_client(void *context)
{
    struct client *c = context;
    struct request r;
    while (!c->load->stopping) {
        if (!c->redis && !connect_somewhere(c))
            continue;
        choose(c, &r);
        perform(c, &r);
        if (below(c, 50) == 0)
            drop(c);
        if (c->load->pause_us)
            usleep(below(c, 2 * c->load->pause_us));
    }
    drop(c);
    return NULL;
}

/* --- the last reads --- */

static bool read_last(struct client *c, struct request *r)
{
    char *result = malloc(1 << 16);
    if (!result)
        abort();
    for (int tries = 0; tries < READS_MAX; tries++) {
        if (!c->redis && !connect_somewhere(c))
            continue;
        uint64_t called = now_ns();
        if (ask_once(c, r, result, 1 << 16) == DONE) {
            write_down(c, r, called, now_ns(), result);
            free(result);
            return true;
        }
        usleep(20000);
    }
    free(result);
    fprintf(stderr, "load: %s cannot be read in the end\n", r->key);
    return false;
}

static bool read_last_string(struct client *c, enum use use, uint64_t window, unsigned number)
{
    struct request r = {.use = use, .kind = "GET", .read = true};
    snprintf(r.key, sizeof r.key, "%s%" PRIu64 ".%u", prefixes[use], window, number);
    argue(&r, "GET");
    argue(&r, r.key);
    return read_last(c, &r);
}

static bool read_last_element(struct client *c, enum use use, const char *set, const char *element)
{
    struct request r = {.use = use, .kind = "GET", .read = true};
    snprintf(r.set, sizeof r.set, "%s", set);
    snprintf(r.element, sizeof r.element, "%s", element);
    snprintf(r.key, sizeof r.key, "%s/%s", set, element);
    argue(&r, "VEMB");
    argue(&r, r.set);
    argue(&r, r.element);
    return read_last(c, &r);
}

static bool read_all_once_more(struct load *load, uint32_t number)
{
    struct client c = {.load = load, .number = number, .seed = number};
    uint64_t windows = (now_ns() - load->began_ns) / SECOND_NS + 1;
    char set[24], element[24];
    bool good = true;
    for (uint64_t w = 0; good && w < windows; w++) {
        for (enum use use = USE_REGISTER; use <= USE_LOCK; use++)
            for (unsigned k = 0; good && k < KEYS_EACH; k++)
                good = read_last_string(&c, use, w, k);
        snprintf(set, sizeof set, "v%" PRIu64, w);
        for (unsigned e = 0; good && e < ELEMENTS; e++) {
            snprintf(element, sizeof element, "e%u", e);
            good = read_last_element(&c, USE_CORNER, set, element);
        }
    }
    for (uint64_t p = 0; good && p < load->points; p++) {
        snprintf(element, sizeof element, "p%" PRIu64, p);
        good = read_last_element(&c, USE_POINT, "points", element);
    }
    drop(&c);
    return good;
}

/* --- start and end --- */

static void add_node(struct load *load, const char *address)
{
    const char *colon = strrchr(address, ':');
    if (!colon || load->nodes == NODES_MAX || (size_t)(colon - address) >= sizeof load->hosts[0]) {
        fprintf(stderr, "load: %s is no HOST:PORT, or one too many\n", address);
        exit(2);
    }
    memcpy(load->hosts[load->nodes], address, (size_t)(colon - address));
    load->ports[load->nodes++] = atoi(colon + 1);
}

int main(int argc, char **argv)
{
    static struct load load = {.lock = PTHREAD_MUTEX_INITIALIZER, .pause_us = 4000};
    unsigned clients = 12, seed = 1;
    char byte;
    int at = 1;
    for (; at + 1 < argc && starts(argv[at], "--"); at += 2) {
        unsigned value = (unsigned)strtoul(argv[at + 1], NULL, 10);
        if (strcmp(argv[at], "--clients") == 0)
            clients = value;
        else if (strcmp(argv[at], "--pause") == 0)
            load.pause_us = value;
        else if (strcmp(argv[at], "--seed") == 0)
            seed = value;
        else if (strcmp(argv[at], "--readonly") == 0)
            load.readonly = value;
        else
            break;
    }
    if (at + 1 >= argc || starts(argv[at], "--") || !clients) {
        fprintf(stderr,
                "usage: load [--clients N] [--pause US] [--seed N] [--readonly 1] HISTORY HOST:PORT ...\n");
        return 2;
    }
    load.history = fopen(argv[at], "w");
    struct client *all = calloc(clients, sizeof *all);
    if (!load.history || !all) {
        fprintf(stderr, "load: %s cannot be written\n", argv[at]);
        free(all);
        return 2;
    }
    while (++at < argc)
        add_node(&load, argv[at]);
    load.began_ns = now_ns();
    for (unsigned i = 0; i < clients; i++) {
        all[i] = (struct client){.load = &load, .number = i, .seed = seed * 1000 + i};
        if (pthread_create(&all[i].thread, NULL, run_client, &all[i]) != 0)
            abort();
    }
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    load.stopping = true;
    for (unsigned i = 0; i < clients; i++)
        pthread_join(all[i].thread, NULL);
    load.readonly = false;
    bool good = read_all_once_more(&load, clients);
    good = fclose(load.history) == 0 && good && load.unexpected == 0;
    free(all);
    printf("%" PRIu64 " operations, %" PRIu64 " unknown, %" PRIu64 " refused, %" PRIu64 " unexpected\n",
           (uint64_t)load.operations, (uint64_t)load.unknown, (uint64_t)load.refused,
           (uint64_t)load.unexpected);
    return good ? 0 : 1;
}
