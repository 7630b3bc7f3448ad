/* kith recall and kith bench vectors: ask the server every query of a file, for several EF, and compare the answers with
 * the exact ones. They differ in their defaults: bench asks over several connections, and shows the server's CPU. */
#include "prog/kith_recall.h"
#include "base/os.h"
#include "prog/exact.h"
#include "prog/kith_import.h"
#include "prog/rows.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    K_DEFAULT = 10,
    K_MAX = 1000,
    CONNECTIONS_MAX = 64,
    CONNECTIONS_BENCH = 4,
};

enum {
    KEY_QUERIES = 256,
    KEY_TRUTH,
    KEY_EXACT,
    KEY_K,
    KEY_EF,
    KEY_METRIC,
    KEY_NAMES,
    KEY_LIMIT,
    KEY_PIPELINE,
    KEY_THREADS,
    KEY_MIN,
    KEY_SVG,
    KEY_CSV,
    KEY_AGAINST,
    KEY_CONNECTIONS,
    KEY_LOAD
};

static const struct argp_option option_table[] = {
    {"queries", KEY_QUERIES, "FILE", 0, "the queries: a vector file", 0},
    {"truth", KEY_TRUTH, "FILE", 0,
     "row numbers of each query's nearest rows, nearest first (i32bin, ivecs, npy)", 0},
    {"exact", KEY_EXACT, "FILE", 0, "make the truth by a scan of this file, the rows that were imported", 0},
    {"metric", KEY_METRIC, "cosine|l2", 0, "of --exact (cosine: what a vector set answers by)", 0},
    {"k", KEY_K, "N", 0, "neighbours compared (10)", 0},
    {"ef", KEY_EF, "N,N,...", 0, "candidates looked at, for each line of the table (50,100,200,400)", 0},
    {"names", KEY_NAMES, "PREFIX", 0,
     "elements are called PREFIX and the row number (default: the row number)", 0},
    {"limit", KEY_LIMIT, "N", 0, "only the first N queries", 0},
    {"pipeline", KEY_PIPELINE, "N", 0, "queries in flight (1)", 0},
    {"threads", KEY_THREADS, "N", 0, "threads of the exact scan (as many as cores)", 0},
    {"min", KEY_MIN, "RECALL", 0, "exit with 1 when the best line's recall is below this", 0},
    {"svg", KEY_SVG, "FILE", 0, "write recall against queries a second as a picture", 0},
    {"csv", KEY_CSV, "FILE", 0, "write the table as comma-separated values", 0},
    {"connections", KEY_CONNECTIONS, "N", 0, "connections that share the queries (1; bench: 4)", 0},
    {"load", KEY_LOAD, "FILE", 0, "import this vector file into KEY first; the truth is made from it", 0},
    {"against", KEY_AGAINST, "HOST:PORT", 0,
     "ask another server, which holds the same elements under the same key, beside this one", 0},
    {0},
};

static void parse_ef_list(struct kith_recall_settings *s, char *arg, struct argp_state *state)
{
    char *rest = NULL;
    s->ef_count = 0;
    for (char *word = strtok_r(arg, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (s->ef_count == KITH_RECALL_EF_LIST_MAX ||
            !kith_import_parse_count(word, 1, 1000000, &s->ef[s->ef_count]))
            argp_error(state, "--ef: '%s': up to %d numbers from 1 to 1000000, with commas", word,
                       KITH_RECALL_EF_LIST_MAX);
        s->ef_count++;
    }
    if (!s->ef_count)
        argp_error(state, "--ef needs at least one number");
}

/* HOST:PORT, where the host may hold colons itself. */
static void parse_against(struct kith_recall_settings *s, const char *arg, struct argp_state *state)
{
    const char *colon = strrchr(arg, ':');
    bool plain = strcspn(arg, "\"\\,<>& \t\r\n") == strlen(arg);
    if (!plain || !colon || colon == arg || !colon[1] || (size_t)(colon - arg) >= sizeof s->against_host)
        argp_error(state, "--against '%s': HOST:PORT is needed", arg);
    else
        snprintf(s->against_host, sizeof s->against_host, "%.*s", (int)(colon - arg), arg);
    s->against = arg;
    s->against_port = colon ? colon + 1 : NULL;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct kith_recall_settings *s = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        break;
    case KEY_QUERIES:
        s->queries = arg;
        break;
    case KEY_TRUTH:
        s->truth = arg;
        break;
    case KEY_EXACT:
        s->exact = arg;
        break;
    case KEY_METRIC:
        if (strcasecmp(arg, "cosine") != 0 && strcasecmp(arg, "l2") != 0)
            argp_error(state, "--metric '%s': cosine or l2", arg);
        s->metric = strcasecmp(arg, "l2") == 0 ? KITH_EXACT_L2 : KITH_EXACT_COSINE;
        break;
    case KEY_K:
        if (!kith_import_parse_count(arg, 1, K_MAX, &s->k))
            argp_error(state, "--k '%s': a number from 1 to %d", arg, K_MAX);
        break;
    case KEY_EF:
        parse_ef_list(s, arg, state);
        break;
    case KEY_NAMES:
        s->names = arg;
        break;
    case KEY_LIMIT:
        if (!kith_import_parse_count(arg, 1, 1ull << 31, &s->limit))
            argp_error(state, "--limit '%s': a number from 1 on", arg);
        break;
    case KEY_PIPELINE:
        if (!kith_import_parse_count(arg, 1, 10000, &s->pipeline))
            argp_error(state, "--pipeline '%s': a number from 1 to 10000", arg);
        break;
    case KEY_THREADS:
        if (!kith_import_parse_count(arg, 1, 256, &s->threads))
            argp_error(state, "--threads '%s': a number from 1 to 256", arg);
        break;
    case KEY_MIN:
        s->min = atof(arg);
        if (!(s->min > 0 && s->min <= 1))
            argp_error(state, "--min '%s': a number above 0, up to 1", arg);
        break;
    case KEY_SVG:
        s->svg = arg;
        break;
    case KEY_CSV:
        s->csv = arg;
        break;
    case KEY_CONNECTIONS:
        if (!kith_import_parse_count(arg, 1, CONNECTIONS_MAX, &s->connections))
            argp_error(state, "--connections '%s': a number from 1 to %d", arg, CONNECTIONS_MAX);
        break;
    case KEY_LOAD:
        s->load = arg;
        break;
    case KEY_AGAINST:
        parse_against(s, arg, state);
        break;
    case ARGP_KEY_ARG:
        if (s->key)
            argp_error(state, "one key at a time: '%s' is too many", arg);
        s->key = arg;
        break;
    case ARGP_KEY_END:
        s->exact = s->load && !s->truth && !s->exact ? s->load : s->exact;
        if (!s->key || !s->queries || !(s->truth || s->exact))
            argp_error(state, "a KEY, --queries FILE, and --truth FILE or --exact FILE are needed");
        if (s->truth && s->exact)
            argp_error(state, "--truth or --exact, not both");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&kith_options_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
    option_table,
    parse_option,
    "KEY --queries FILE (--truth FILE | --exact FILE)",
    "Measures how many of the exact nearest neighbours VSIM finds.\v"
    "recall@k is the part of the k exact neighbours that are among the k answers, on average over the "
    "queries. Elements "
    "must be named as kith import names them: by their row number. A truth file must be for the set's "
    "metric, cosine; "
    "where it is for another, --exact makes the truth anew from the imported file.",
    children,
    NULL,
    NULL};

/* What one run holds. */
struct job {
    const struct kith_recall_settings *settings;
    struct kith_client *clients[CONNECTIONS_MAX];
    uint32_t dim;
    size_t query_count;
    float *queries;
    int32_t *truth; /* k a query, nearest first */
    struct kith_progress progress;
    const char *server; /* whose lines these are */
};

static int out_of_memory(struct kith_error *error)
{
    return kith_error_set(error, KITH_ENOMEM, "out of memory");
}

static int read_queries(struct job *job, struct kith_error *error)
{
    const struct kith_recall_settings *s = job->settings;
    struct kith_rows *rows;
    int status = kith_rows_open(&rows, s->queries, NULL, error);
    if (status)
        return status;
    job->dim = kith_rows_dim(rows);
    size_t capacity = 0;
    while (!status && !(s->limit && job->query_count == s->limit)) {
        if (job->query_count == capacity) {
            capacity = capacity ? capacity * 2 : 256;
            float *grown = realloc(job->queries, capacity * job->dim * sizeof *grown);
            if (!grown) {
                status = out_of_memory(error);
                break;
            }
            job->queries = grown;
        }
        status = kith_rows_next(rows, job->queries + job->query_count * job->dim, error);
        if (status <= 0)
            break;
        status = KITH_OK;
        job->query_count++;
    }
    kith_rows_close(rows);
    if (!status && !job->query_count)
        status = kith_error_set(error, KITH_EINVAL, "%s: has no queries", s->queries);
    return status;
}

static int read_truth(struct job *job, struct kith_error *error)
{
    const struct kith_recall_settings *s = job->settings;
    struct kith_rows *rows;
    int status = kith_rows_open(&rows, s->truth, NULL, error);
    if (status)
        return status;
    uint32_t columns = kith_rows_dim(rows);
    int32_t *row = malloc(columns * sizeof *row);
    if (!row) {
        kith_rows_close(rows);
        return out_of_memory(error);
    }
    if (columns < s->k)
        status = kith_error_set(error, KITH_EINVAL, "%s: has %u neighbours a query, --k asks for %llu",
                                s->truth, columns, s->k);
    for (size_t q = 0; !status && q < job->query_count; q++) {
        int got = kith_rows_next_int(rows, row, error);
        if (got == 1)
            memcpy(job->truth + q * s->k, row, s->k * sizeof *row);
        else
            status = got ? got
                         : kith_error_set(error, KITH_EINVAL, "%s: has %zu rows, there are %zu queries",
                                          s->truth, q, job->query_count);
    }
    free(row);
    kith_rows_close(rows);
    return status;
}

static void show_scan(void *context, uint64_t done, uint64_t total)
{
    kith_progress_update(context, done, total, 0);
}

static int scan_truth(struct job *job, struct kith_error *error)
{
    const struct kith_recall_settings *s = job->settings;
    struct kith_rows *base;
    int status = kith_rows_open(&base, s->exact, NULL, error);
    if (status)
        return status;
    if (kith_rows_dim(base) != job->dim)
        status = kith_error_set(error, KITH_EINVAL, "%s has %u columns, %s has %u", s->exact,
                                kith_rows_dim(base), s->queries, job->dim);
    if (!status) {
        kith_progress_init(&job->progress, "rows compared exactly");
        const struct kith_exact_options exact = {.metric = s->metric,
                                                 .k = (uint32_t)s->k,
                                                 .thread_count = (unsigned)s->threads,
                                                 .progress = show_scan,
                                                 .context = &job->progress};
        status = kith_exact_nearest(base, job->queries, job->query_count, &exact, job->truth, error);
        kith_progress_clear(&job->progress);
        if (!status)
            printf("exact neighbours of %zu queries by a scan of %llu rows in %.1f s\n", job->query_count,
                   (unsigned long long)kith_rows_done(base), kith_progress_seconds(&job->progress));
    }
    kith_rows_close(base);
    return status;
}

static int put_query(const struct job *job, struct kith_client *client, size_t q, unsigned long long ef,
                     struct kith_error *error)
{
    char count_text[24], ef_text[24];
    int count_length = snprintf(count_text, sizeof count_text, "%llu", job->settings->k);
    int ef_length = snprintf(ef_text, sizeof ef_text, "%llu", ef);
    const struct kith_slice argv[] = {
        KITH_SLICE("VSIM"),  kith_slice(job->settings->key, strlen(job->settings->key)),
        KITH_SLICE("FP32"),  kith_slice(job->queries + q * job->dim, job->dim * sizeof(float)),
        KITH_SLICE("COUNT"), kith_slice(count_text, (size_t)count_length),
        KITH_SLICE("EF"),    kith_slice(ef_text, (size_t)ef_length),
    };
    return kith_client_put(client, argv, sizeof argv / sizeof *argv) ? out_of_memory(error) : KITH_OK;
}

/* The row number in an element's name, or -1. */
static int64_t row_of(const struct job *job, struct kith_slice name)
{
    const char *prefix = job->settings->names ? job->settings->names : "";
    size_t length = strlen(prefix);
    unsigned long long row;
    if (name.length < length || memcmp(name.data, prefix, length) != 0 ||
        !kith_import_parse_count(name.data + length, 0, INT32_MAX, &row))
        return -1;
    return (int64_t)row;
}

/* How many of query q's exact neighbours are in the answer. */
static int count_hits(const struct job *job, size_t q, const struct kith_value *answer, size_t *hits,
                      struct kith_error *error)
{
    const int32_t *truth = job->truth + q * job->settings->k;
    if (answer->type == KITH_VALUE_ERROR)
        return kith_error_set(error, KITH_EPERM, "query %zu: the server says: %s", q, answer->text.data);
    if (answer->type < KITH_VALUE_ARRAY)
        return kith_error_set(error, KITH_ECORRUPT, "query %zu: the answer is not a list", q);
    if (!answer->count)
        return kith_error_set(error, KITH_ENOENT, "'%s' has no elements: kith import vectors FILE --into %s",
                              job->settings->key, job->settings->key);
    *hits = 0;
    for (size_t i = 0; i < answer->count; i++) {
        if (answer->items[i].type != KITH_VALUE_STRING && answer->items[i].type != KITH_VALUE_SIMPLE)
            return kith_error_set(error, KITH_ECORRUPT, "query %zu: the answer is not a list of names", q);
        int64_t row = row_of(job, answer->items[i].text);
        if (row < 0)
            return kith_error_set(error, KITH_EINVAL, "element '%s' is not named after a row: see --names",
                                  answer->items[i].text.data);
        for (size_t t = 0; t < job->settings->k; t++)
            *hits += truth[t] == row;
    }
    return KITH_OK;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What the server's process has used so far, by its INFO; 0: it does not say. */
static double server_cpu_seconds(struct kith_client *client)
{
    struct kith_value answer;
    struct kith_error error;
    double seconds = 0;
    if (kith_client_call_words(client, &answer, &error, "INFO", "cpu", (char *)NULL))
        return 0;
    if (answer.type == KITH_VALUE_STRING || answer.type == KITH_VALUE_VERBATIM) {
        const char *user = strstr(answer.text.data, "used_cpu_user:"),
                   *system = strstr(answer.text.data, "used_cpu_sys:");
        if (user && system)
            seconds = atof(user + strlen("used_cpu_user:")) + atof(system + strlen("used_cpu_sys:"));
    }
    kith_value_fini(&answer);
    return seconds;
}

/* One connection's part of the queries: every connections-th from the first on. */
struct worker {
    struct job *job;
    struct kith_client *client;
    pthread_t thread;
    size_t first, step;
    unsigned long long ef;
    double *times_ms; /* of all queries; between question and answer: when it was asked */
    double recall, worst;
    int status;
    struct kith_error error;
};

static double now_ms(void)
{
    return (double)kith_os_monotonic_ns() / 1e6;
}

static int take_answer(struct worker *worker, size_t q)
{
    struct job *job = worker->job;
    struct kith_value answer;
    size_t hits = 0;
    int status = kith_client_reply(worker->client, &answer, &worker->error);
    if (status)
        return status;
    worker->times_ms[q] = now_ms() - worker->times_ms[q];
    status = count_hits(job, q, &answer, &hits, &worker->error);
    kith_value_fini(&answer);
    double recall = (double)hits / (double)job->settings->k;
    worker->recall += recall;
    worker->worst = recall < worker->worst ? recall : worker->worst;
    return status;
}

static void *ask_part(void *arg)
{
    struct worker *worker = arg;
    struct job *job = worker->job;
    size_t put = worker->first, flying = 0;
    for (size_t q = worker->first; !worker->status && q < job->query_count; q += worker->step) {
        for (; !worker->status && put < job->query_count && flying < job->settings->pipeline;
             put += worker->step) {
            worker->times_ms[put] = now_ms();
            worker->status = put_query(job, worker->client, put, worker->ef, &worker->error);
            flying++;
        }
        if (!worker->status)
            worker->status = take_answer(worker, q);
        flying--;
        if (worker->first == 0)
            kith_progress_update(&job->progress, q, job->query_count, 0);
    }
    return NULL;
}

/* All on threads of their own but the first, which is asked here. */
static int ask_all(struct worker *workers, size_t count, struct kith_error *error)
{
    size_t started = 1;
    int status = KITH_OK;
    while (started < count && !pthread_create(&workers[started].thread, NULL, ask_part, &workers[started]))
        started++;
    if (started < count)
        status = kith_error_set(error, KITH_EAGAIN, "no more threads for %zu connections", count);
    else
        ask_part(&workers[0]);
    for (size_t i = 1; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    for (size_t i = 0; i < count && !status; i++) {
        status = workers[i].status;
        if (status)
            *error = workers[i].error;
    }
    return status;
}

/* All queries with one EF. times_ms[] has room for each. */
static int measure(struct job *job, unsigned long long ef, double *times_ms, struct kith_recall_line *line,
                   struct kith_error *error)
{
    struct worker workers[CONNECTIONS_MAX] = {{0}};
    size_t count =
        job->settings->connections < job->query_count ? job->settings->connections : job->query_count;
    int status = KITH_OK;
    for (size_t i = 0; i < count; i++)
        workers[i] = (struct worker){.job = job,
                                     .client = job->clients[i],
                                     .first = i,
                                     .step = count,
                                     .ef = ef,
                                     .times_ms = times_ms,
                                     .worst = 1};
    kith_progress_init(&job->progress, "queries");
    *line = (struct kith_recall_line){.worst = 1, .server = job->server, .ef = ef};
    double cpu = server_cpu_seconds(job->clients[0]);
    uint64_t start = kith_os_monotonic_ns();
    status = ask_all(workers, count, error);
    line->seconds = (double)(kith_os_monotonic_ns() - start) / 1e9;
    kith_progress_clear(&job->progress);
    if (status)
        return status;
    double cpu_used = server_cpu_seconds(job->clients[0]) - cpu;
    for (size_t i = 0; i < count; i++) {
        line->recall += workers[i].recall / (double)job->query_count;
        line->worst = workers[i].worst < line->worst ? workers[i].worst : line->worst;
    }
    line->rate = (double)job->query_count / line->seconds;
    line->cpu_rate = cpu_used > 0 ? (double)job->query_count / cpu_used : 0;
    qsort(times_ms, job->query_count, sizeof *times_ms, compare_doubles);
    line->p50_ms = times_ms[job->query_count / 2];
    line->p99_ms = times_ms[job->query_count * 99 / 100];
    return KITH_OK;
}

static int print_table(struct job *job, struct kith_recall_table *table, struct kith_error *error)
{
    const struct kith_recall_settings *s = job->settings;
    double *times_ms = calloc(job->query_count + 1, sizeof *times_ms);
    if (!times_ms)
        return out_of_memory(error);
    if (s->against_port && s->options->output != KITH_OUTPUT_JSON)
        printf("%s:\n", job->server);
    kith_recall_print_head(s);
    int status = KITH_OK;
    for (size_t e = 0; !status && e < s->ef_count; e++) {
        status = measure(job, s->ef[e], times_ms, &table->lines[table->count], error);
        if (!status)
            kith_recall_print_line(s, &table->lines[table->count++]);
    }
    free(times_ms);
    return status;
}

static void disconnect(struct job *job)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        kith_client_close(job->clients[i]);
        job->clients[i] = NULL;
    }
}

static int connect_all(struct job *job, const struct kith_client_options *options, struct kith_error *error)
{
    int status = KITH_OK;
    for (size_t i = 0; !status && i < job->settings->connections; i++)
        status = kith_client_open(&job->clients[i], options, error);
    return status;
}

/* The same questions to the other server. */
static int measure_other(struct job *job, struct kith_recall_table *table, struct kith_error *error)
{
    struct kith_client_options other = {.host = job->settings->against_host,
                                        .port = job->settings->against_port};
    disconnect(job);
    job->server = job->settings->against;
    int status = connect_all(job, &other, error);
    return status ? status : print_table(job, table, error);
}

static int load(const struct kith_recall_settings *s)
{
    char words[][8] = {"import", "vectors", "--into", "--wait"};
    char *argv[] = {words[0], words[1], (char *)(uintptr_t)s->load, words[2], (char *)(uintptr_t)s->key,
                    words[3], NULL};
    return kith_import_main(6, argv, s->options);
}

static int run(int argc, char **argv, struct kith_options *options, bool is_bench)
{
    struct kith_recall_settings settings = {.options = options,
                                            .k = K_DEFAULT,
                                            .ef = {50, 100, 200, 400},
                                            .ef_count = 4,
                                            .pipeline = 1,
                                            .is_bench = is_bench,
                                            .connections = is_bench ? CONNECTIONS_BENCH : 1};
    struct kith_error error;
    char names[][24] = {"kith recall", "kith bench vectors"};
    double best = 0;
    char address[300];
    struct kith_recall_line lines[2 * KITH_RECALL_EF_LIST_MAX];
    struct kith_recall_table table = {.lines = lines};
    argv[0] = names[is_bench];
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    if (settings.load && load(&settings) != KITH_EXIT_OK)
        return KITH_EXIT_FAILURE;
    kith_client_address(&options->client, address, sizeof address);
    struct job job = {.settings = &settings, .server = address};
    int status = read_queries(&job, &error);
    if (!status && !(job.truth = calloc(job.query_count * settings.k, sizeof *job.truth)))
        status = out_of_memory(&error);
    /* The server is asked for first: a typing error in its address should not cost an exact scan. */
    if (!status)
        status = connect_all(&job, &options->client, &error);
    if (!status)
        status = settings.exact ? scan_truth(&job, &error) : read_truth(&job, &error);
    if (!status)
        status = print_table(&job, &table, &error);
    for (size_t i = 0; i < table.count; i++)
        best = lines[i].recall > best ? lines[i].recall : best;
    if (!status && settings.against_port)
        status = measure_other(&job, &table, &error);
    if (!status && settings.against_port && options->output != KITH_OUTPUT_JSON)
        kith_recall_print_ratios(&settings, &table);
    if (!status)
        status = kith_recall_draw(&settings, &table, &error);
    disconnect(&job);
    free(job.queries);
    free(job.truth);
    if (status)
        return kith_complain(&error);
    if (best < settings.min) {
        snprintf(error.text, sizeof error.text, "the best recall, %.4f, is below %.4f", best, settings.min);
        return kith_complain(&error);
    }
    return KITH_EXIT_OK;
}

int kith_recall_main(int argc, char **argv, struct kith_options *options)
{
    return run(argc, argv, options, false);
}

int kith_bench_main(int argc, char **argv, struct kith_options *options)
{
    if (argc > 1 && strcmp(argv[1], "vectors") == 0)
        return run(argc - 1, argv + 1, options, true);
    bool is_help = argc > 1 && strcmp(argv[1], "--help") == 0;
    fputs("Usage: kith bench vectors KEY --queries FILE (--load FILE | --truth FILE | --exact FILE) "
          "[OPTION...]\n"
          "Try 'kith bench vectors --help'.\n",
          is_help ? stdout : stderr);
    return is_help ? KITH_EXIT_OK : KITH_EXIT_USAGE;
}
