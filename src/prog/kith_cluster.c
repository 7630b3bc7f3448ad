/* kith cluster: a group of nodes for people. It asks one node; for what only the leader knows it goes on to the leader,
 * at the address for clients that the group knows. */
#include "base/os.h"
#include "prog/kith_options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEMBERS_MAX = 64, WORDS_MAX = 5, LOOK_MS = 200 };

struct settings {
    struct kith_options *options;
    const char *action;
    const char *words[3]; /* behind the action */
    int word_count;
    bool spare;
    int wait_s;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        return 0;
    case 's':
        s->spare = true;
        return 0;
    case 'w':
        s->wait_s = atoi(arg);
        return 0;
    case ARGP_KEY_ARG:
        if (!s->action)
            s->action = arg;
        else if (s->word_count < 3)
            s->words[s->word_count++] = arg;
        else
            argp_error(state, "'%s' is too many", arg);
        return 0;
    case ARGP_KEY_END:
        if (!s->action)
            s->action = "status";
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    {"spare", 's', NULL, 0, "add: the node is only known, and gets no data yet", 0},
    {"wait", 'w', "SECONDS", 0, "restart: for each node to be back (300)", 0},
    {0},
};
static const struct argp_child children[] = {{&kith_options_argp, 0, "The server that is asked:", 1}, {0}};
static const struct argp argp = {option_table,
                                 parse_option,
                                 "[status]\nadd NODE-ID HOST:PORT\npromote MEMBER\ndemote MEMBER\nremove "
                                 "MEMBER\ntransfer [MEMBER]\nrestart",
                                 "Shows and changes a group of nodes. MEMBER is an id or an address that "
                                 "status shows; any node can be asked.\v"
                                 "restart ends one node after the other with SHUTDOWN, the leader last and "
                                 "after it has handed over, and waits each "
                                 "time until whoever watches over the server (systemd, a container's "
                                 "runtime, you) has started it again and it has "
                                 "caught up. A node joins with kithd --join HOST:PORT.",
                                 children,
                                 NULL,
                                 NULL};

/* --- asking --- */

struct member {
    char id[24], address[256], clients[128], role[16], version[32];
    bool leader, connected, self;
    int64_t heard_ms, match, behind_bytes, behind_ms, stream_done, stream_total;
};

struct group {
    char id[24], state[32], leader_id[24];
    int64_t term, last_index, applied_index, lag_ms, voters;
    struct member members[MEMBERS_MAX];
    size_t count;
};

static const struct kith_value *field(const struct kith_value *map, const char *name)
{
    for (size_t i = 0; map->type == KITH_VALUE_MAP && i + 1 < map->count; i += 2)
        if (map->items[i].type == KITH_VALUE_STRING && kith_slice_is(map->items[i].text, name))
            return &map->items[i + 1];
    return NULL;
}

static void take_text(const struct kith_value *map, const char *name, char *out, size_t size)
{
    const struct kith_value *value = field(map, name);
    bool is_text = value && value->type == KITH_VALUE_STRING;
    snprintf(out, size, "%.*s", is_text ? (int)value->text.length : 0, is_text ? value->text.data : "");
}

static int64_t take_int(const struct kith_value *map, const char *name)
{
    const struct kith_value *value = field(map, name);
    return value && value->type == KITH_VALUE_INT ? value->integer : 0;
}

static void take_member(const struct kith_value *map, struct member *m)
{
    take_text(map, "id", m->id, sizeof m->id);
    take_text(map, "address", m->address, sizeof m->address);
    take_text(map, "client-address", m->clients, sizeof m->clients);
    take_text(map, "role", m->role, sizeof m->role);
    take_text(map, "version", m->version, sizeof m->version);
    m->leader = take_int(map, "leader");
    m->self = take_int(map, "self");
    m->connected = take_int(map, "connected");
    m->heard_ms = take_int(map, "heard-ms-ago");
    m->match = take_int(map, "match-index");
    m->behind_bytes = take_int(map, "behind-bytes");
    m->behind_ms = take_int(map, "behind-ms");
    m->stream_done = take_int(map, "stream-done");
    m->stream_total = take_int(map, "stream-total");
}

/* One command of up to WORDS_MAX words, NULL behind them; the reply is the caller's. An error reply is a failure with its text. */
static int call(struct kith_client *client, struct kith_value *reply, struct kith_error *error,
                const char *const *words)
{
    struct kith_slice argv[WORDS_MAX];
    size_t argc = 0;
    for (; argc < WORDS_MAX && words[argc]; argc++)
        argv[argc] = kith_slice(words[argc], strlen(words[argc]));
    int status = kith_client_call(client, argv, argc, reply, error);
    if (status != KITH_OK || reply->type != KITH_VALUE_ERROR)
        return status;
    kith_error_set(error, KITH_EINVAL, "%.*s", (int)reply->text.length, reply->text.data);
    kith_value_fini(reply);
    return KITH_EINVAL;
}

static int ask(struct kith_client *client, struct group *g, struct kith_error *error)
{
    struct kith_value reply;
    *g = (struct group){0};
    int status = call(client, &reply, error, (const char *const[]){"KITH.CLUSTER", "INFO", NULL});
    if (status != KITH_OK)
        return status;
    take_text(&reply, "group", g->id, sizeof g->id);
    take_text(&reply, "state", g->state, sizeof g->state);
    take_text(&reply, "leader", g->leader_id, sizeof g->leader_id);
    g->term = take_int(&reply, "term");
    g->last_index = take_int(&reply, "last-index");
    g->applied_index = take_int(&reply, "applied-index");
    g->lag_ms = take_int(&reply, "lag-ms");
    g->voters = take_int(&reply, "voters");
    kith_value_fini(&reply);
    status = call(client, &reply, error, (const char *const[]){"KITH.CLUSTER", "NODES", NULL});
    if (status != KITH_OK)
        return status;
    for (size_t i = 0; reply.type == KITH_VALUE_ARRAY && i < reply.count && i < MEMBERS_MAX; i++)
        take_member(&reply.items[i], &g->members[g->count++]);
    kith_value_fini(&reply);
    return KITH_OK;
}

/* A connection to a member, at its address for clients. */
static int connect_to(const struct settings *s, const char *clients, struct kith_client **out,
                      struct kith_error *error)
{
    struct kith_client_options options = s->options->client;
    char text[128];
    snprintf(text, sizeof text, "%s", clients);
    char *colon = strrchr(text, ':'), *host = text;
    if (!colon)
        return kith_error_set(error, KITH_EINVAL, "'%s' is no address", clients);
    *colon = '\0';
    if (*host == '[' && colon[-1] == ']') {
        host++;
        colon[-1] = '\0';
    }
    options.host = host;
    options.port = colon + 1;
    options.socket_path = NULL;
    options.protocol = 3;
    return kith_client_open(out, &options, error);
}

static const struct member *leader_of(const struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->members[i].leader)
            return &g->members[i];
    return NULL;
}

static int open_asked(const struct settings *s, struct kith_client **out, struct kith_error *error)
{
    struct kith_client_options options = s->options->client;
    options.protocol = 3;
    return kith_client_open(out, &options, error);
}

/* What the asked node knows, or better what the leader does. */
static int look(const struct settings *s, struct group *g, struct kith_error *error)
{
    struct kith_client *client;
    struct kith_error ignored;
    int status = open_asked(s, &client, error);
    if (status != KITH_OK)
        return status;
    status = ask(client, g, error);
    kith_client_close(client);
    const struct member *leader = status == KITH_OK ? leader_of(g) : NULL;
    if (!leader || leader->self || !leader->clients[0])
        return status;
    struct group *better = malloc(sizeof *better);
    if (better && connect_to(s, leader->clients, &client, &ignored) == KITH_OK) {
        if (ask(client, better, &ignored) == KITH_OK)
            *g = *better;
        kith_client_close(client);
    }
    free(better);
    return KITH_OK;
}

/* The group as it is now; *out is malloc'ed. */
static int open_group(struct settings *s, struct group **out, struct kith_error *error)
{
    struct group *g = malloc(sizeof *g);
    if (!g) {
        kith_error_set(error, KITH_ENOMEM, "out of memory");
        return KITH_ENOMEM;
    }
    int status = look(s, g, error);
    if (status == KITH_OK)
        *out = g;
    else
        free(g);
    return status;
}

/* --- status --- */

static void print_bytes(char *out, size_t size, int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 10240 && unit < sizeof units / sizeof units[0] - 1; unit++)
        bytes >>= 10;
    snprintf(out, size, "%" PRId64 " %s", bytes, units[unit]);
}

static void print_behind(const struct group *g, const struct member *m, char *out, size_t size)
{
    const struct member *leader = leader_of(g);
    int64_t entries = g->last_index - m->match;
    char bytes[32];
    print_bytes(bytes, sizeof bytes, m->behind_bytes);
    if (m->stream_total)
        snprintf(out, size, "%" PRId64 "%% of a copy", 100 * m->stream_done / m->stream_total);
    else if (m->leader || strcmp(m->role, "spare") == 0 || !leader || !leader->self)
        snprintf(out, size, "-");
    else if (entries <= 0)
        snprintf(out, size, "0");
    else
        snprintf(out, size, "%" PRId64 " entries, %s, %" PRId64 " ms", entries, bytes, m->behind_ms);
}

static const char *state_of(const struct member *m)
{
    return m->leader ? "leader" : m->self || m->connected ? "up" : "not reached";
}

static void print_status(const struct group *g)
{
    char behind[96];
    printf("group %s: %zu member%s, %" PRId64 " voter%s, term %" PRId64 ", %s\n", g->id, g->count,
           g->count == 1 ? "" : "s", g->voters, g->voters == 1 ? "" : "s", g->term,
           leader_of(g) ? "led" : "WITHOUT A LEADER");
    printf("%-16s  %-21s  %-21s  %-7s  %-11s  %s\n", "id", "address", "clients", "role", "state", "behind");
    for (size_t i = 0; i < g->count; i++) {
        const struct member *m = &g->members[i];
        print_behind(g, m, behind, sizeof behind);
        printf("%-16s  %-21s  %-21s  %-7s  %-11s  %s\n", m->id, m->address, m->clients[0] ? m->clients : "?",
               m->role, state_of(m), behind);
    }
}

static int show_status(struct settings *s)
{
    struct kith_error error;
    struct group *g = NULL;
    int status = open_group(s, &g, &error);
    if (status != KITH_OK)
        return kith_complain(&error);
    print_status(g);
    bool led = leader_of(g);
    free(g);
    return led ? KITH_EXIT_OK : KITH_EXIT_FAILURE;
}

/* --- changes --- */

static int change(struct settings *s, const char *const *words, const char *done)
{
    struct kith_client *client = NULL;
    struct kith_value reply;
    struct kith_error error;
    int status = open_asked(s, &client, &error);
    if (status == KITH_OK)
        status = call(client, &reply, &error, words);
    if (status == KITH_OK)
        kith_value_fini(&reply);
    kith_client_close(client);
    if (status != KITH_OK)
        return kith_complain(&error);
    printf("%s\n", done);
    return KITH_EXIT_OK;
}

/* --- rolling restart --- */

static const struct member *find(const struct group *g, const char *id)
{
    for (size_t i = 0; i < g->count; i++)
        if (strcmp(g->members[i].id, id) == 0)
            return &g->members[i];
    return NULL;
}

/* The node answers again, follows or leads, and has what the leader had when it was asked. */
static bool is_back(const struct settings *s, const struct member *m, int64_t index)
{
    struct kith_client *client;
    struct kith_error ignored;
    struct group *g = malloc(sizeof *g);
    bool back = false;
    if (g && connect_to(s, m->clients, &client, &ignored) == KITH_OK) {
        back = ask(client, g, &ignored) == KITH_OK && leader_of(g) && g->applied_index >= index;
        kith_client_close(client);
    }
    free(g);
    return back;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
}

static int end_node(const struct settings *s, const struct member *m, struct kith_error *error)
{
    struct kith_client *client = NULL;
    struct kith_value reply;
    int status = connect_to(s, m->clients, &client, error);
    if (status != KITH_OK)
        return status;
    status = call(client, &reply, error, (const char *const[]){"SHUTDOWN", NULL});
    if (status == KITH_OK)
        kith_value_fini(&reply);
    kith_client_close(client);
    return status == KITH_EINVAL ? status : KITH_OK; /* the end of the connection is its answer */
}

static int restart_node(const struct settings *s, const struct member *m, int64_t index,
                        struct kith_error *error)
{
    int64_t until = kith_os_wall_ms() + 1000 * (int64_t)s->wait_s;
    printf("%s (%s): ending it\n", m->clients, m->id);
    fflush(stdout);
    int status = end_node(s, m, error);
    if (status != KITH_OK)
        return status;
    nap();
    while (!is_back(s, m, index)) {
        if (kith_os_wall_ms() > until)
            return kith_error_set(error, KITH_EAGAIN,
                                  "%s did not come back within %d s: see why, then run this again",
                                  m->clients, s->wait_s);
        nap();
    }
    printf("%s (%s): back and caught up\n", m->clients, m->id);
    return KITH_OK;
}

static int hand_over(const struct settings *s, const struct member *leader, struct kith_error *error)
{
    struct kith_client *client = NULL;
    struct kith_value reply;
    int status = connect_to(s, leader->clients, &client, error);
    if (status != KITH_OK)
        return status;
    printf("%s (%s): handing leadership over\n", leader->clients, leader->id);
    status = call(client, &reply, error, (const char *const[]){"KITH.CLUSTER", "TRANSFER", NULL});
    if (status == KITH_OK)
        kith_value_fini(&reply);
    kith_client_close(client);
    return status;
}

static int check_restart(const struct group *g, struct kith_error *error)
{
    if (!leader_of(g))
        return kith_error_set(error, KITH_EAGAIN, "the group has no leader: start what is down first");
    for (size_t i = 0; i < g->count; i++) {
        const struct member *m = &g->members[i];
        if (strcmp(m->role, "voter") == 0 && !m->self && !m->connected)
            return kith_error_set(error, KITH_EAGAIN,
                                  "member %s at %s is not reached: start or remove it first", m->id,
                                  m->address);
        if (!m->clients[0])
            return kith_error_set(error, KITH_EAGAIN,
                                  "the client address of member %s is not known yet: try again", m->id);
    }
    return KITH_OK;
}

/* Followers first, then whoever led at the beginning. */
static int restart_all(struct settings *s, const struct group *g, struct kith_error *error)
{
    const struct member *leader = leader_of(g);
    for (size_t i = 0; i < g->count; i++) {
        if (g->members[i].leader)
            continue;
        int status = restart_node(s, &g->members[i], g->last_index, error);
        if (status != KITH_OK)
            return status;
    }
    int status = g->voters > 1 ? hand_over(s, leader, error) : KITH_OK;
    return status == KITH_OK ? restart_node(s, find(g, leader->id), g->last_index, error) : status;
}

static int restart(struct settings *s)
{
    struct kith_error error;
    struct group *g = NULL;
    int status = open_group(s, &g, &error);
    if (status == KITH_OK)
        status = check_restart(g, &error);
    if (status == KITH_OK)
        status = restart_all(s, g, &error);
    free(g);
    return status == KITH_OK ? KITH_EXIT_OK : kith_complain(&error);
}

int kith_cluster_main(int argc, char **argv, struct kith_options *options)
{
    struct settings s = {.options = options, .wait_s = 300};
    char name[] = "kith cluster";
    argv[0] = name;
    if (argp_parse(&argp, argc, argv, 0, NULL, &s))
        return KITH_EXIT_USAGE;
    const char *const *w = s.words;
    int words = s.word_count;
    if (strcmp(s.action, "status") == 0 && !words)
        return show_status(&s);
    if (strcmp(s.action, "restart") == 0 && !words)
        return restart(&s);
    if (strcmp(s.action, "add") == 0 && words == 2)
        return change(
            &s, (const char *const[]){"KITH.CLUSTER", "ADD", w[0], w[1], s.spare ? "SPARE" : "STANDBY", NULL},
            s.spare ? "added as a spare" : "added as a standby: it gets the data now");
    if (strcmp(s.action, "promote") == 0 && words == 1)
        return change(&s, (const char *const[]){"KITH.CLUSTER", "PROMOTE", w[0], NULL}, "a voter now");
    if (strcmp(s.action, "demote") == 0 && words == 1)
        return change(&s, (const char *const[]){"KITH.CLUSTER", "DEMOTE", w[0], NULL}, "a standby now");
    if (strcmp(s.action, "remove") == 0 && words == 1)
        return change(&s, (const char *const[]){"KITH.CLUSTER", "REMOVE", w[0], NULL}, "removed");
    if (strcmp(s.action, "transfer") == 0 && words <= 1)
        return change(&s, (const char *const[]){"KITH.CLUSTER", "TRANSFER", words ? w[0] : NULL, NULL},
                      "leadership handed over");
    fputs("kith: what is to be done? Try 'kith cluster --help'.\n", stderr);
    return KITH_EXIT_USAGE;
}
