/* kith recall: asks the server every query of a file, for several EF, and compares the answers with the exact ones. */
#include "base/os.h"
#include "prog/exact.h"
#include "prog/kith_import.h"
#include "prog/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EF_LIST_MAX = 32,
    K_DEFAULT = 10,
    K_MAX = 1000,
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
    KEY_MIN
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
    {0},
};

struct settings {
    struct kith_options *options;
    const char *key, *queries, *truth, *exact, *names;
    enum kith_exact_metric metric;
    unsigned long long k, limit, pipeline, threads;
    unsigned long long ef[EF_LIST_MAX];
    size_t ef_count;
    double min;
};

static void parse_ef_list(struct settings *s, char *arg, struct argp_state *state)
{
    char *rest = NULL;
    s->ef_count = 0;
    for (char *word = strtok_r(arg, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (s->ef_count == EF_LIST_MAX || !kith_import_parse_count(word, 1, 1000000, &s->ef[s->ef_count]))
            argp_error(state, "--ef: '%s': up to %d numbers from 1 to 1000000, with commas", word,
                       EF_LIST_MAX);
        s->ef_count++;
    }
    if (!s->ef_count)
        argp_error(state, "--ef needs at least one number");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
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
    case ARGP_KEY_ARG:
        if (s->key)
            argp_error(state, "one key at a time: '%s' is too many", arg);
        s->key = arg;
        break;
    case ARGP_KEY_END:
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
    const struct settings *settings;
    struct kith_client *client;
    uint32_t dim;
    size_t query_count;
    float *queries;
    int32_t *truth; /* k a query, nearest first */
    struct kith_progress progress;
};

struct line {
    double recall, worst, seconds;
    double p50_ms, p99_ms; /* at pipeline 1 */
};

static int out_of_memory(struct kith_error *error)
{
    return kith_error_set(error, KITH_ENOMEM, "out of memory");
}

static int read_queries(struct job *job, struct kith_error *error)
{
    const struct settings *s = job->settings;
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
    const struct settings *s = job->settings;
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
    const struct settings *s = job->settings;
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

static int put_query(struct job *job, size_t q, unsigned long long ef, struct kith_error *error)
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
    return kith_client_put(job->client, argv, sizeof argv / sizeof *argv) ? out_of_memory(error) : KITH_OK;
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

/* All queries with one EF. times_ms[] has room for each. */
static int measure(struct job *job, unsigned long long ef, double *times_ms, struct line *line,
                   struct kith_error *error)
{
    size_t put = 0, answered = 0, pipeline = job->settings->pipeline;
    double k = (double)job->settings->k;
    int status = KITH_OK;
    kith_progress_init(&job->progress, "queries");
    uint64_t start = kith_os_monotonic_ns(), sent = start;
    *line = (struct line){.worst = 1};
    while (!status && answered < job->query_count) {
        struct kith_value answer;
        while (!status && put < job->query_count && put - answered < pipeline)
            status = put_query(job, put++, ef, error);
        if (!status)
            status = kith_client_reply(job->client, &answer, error);
        if (status)
            break;
        uint64_t now = kith_os_monotonic_ns();
        times_ms[answered] = (double)(now - sent) / 1e6;
        size_t hits = 0;
        status = count_hits(job, answered, &answer, &hits, error);
        kith_value_fini(&answer);
        if (!status) {
            double recall = (double)hits / k;
            line->recall += recall;
            line->worst = recall < line->worst ? recall : line->worst;
        }
        answered++;
        kith_progress_update(&job->progress, answered, job->query_count, 0);
        sent = kith_os_monotonic_ns();
    }
    line->seconds = (double)(kith_os_monotonic_ns() - start) / 1e9;
    line->recall /= (double)job->query_count;
    kith_progress_clear(&job->progress);
    qsort(times_ms, answered, sizeof *times_ms, compare_doubles);
    line->p50_ms = answered ? times_ms[answered / 2] : 0;
    line->p99_ms = answered ? times_ms[answered * 99 / 100] : 0;
    return status;
}

/* A table for people, or one JSON object a line. */
static void print_line(const struct job *job, unsigned long long ef, const struct line *line)
{
    double rate = (double)job->query_count / line->seconds;
    bool has_times = job->settings->pipeline == 1;
    if (job->settings->options->output == KITH_OUTPUT_JSON) {
        printf("{\"ef\":%llu,\"k\":%llu,\"recall\":%.5f,\"worst\":%.3f,\"queries_per_s\":%.1f", ef,
               job->settings->k, line->recall, line->worst, rate);
        if (has_times)
            printf(",\"p50_ms\":%.3f,\"p99_ms\":%.3f", line->p50_ms, line->p99_ms);
        printf("}\n");
    } else {
        printf("%8llu %10.4f %10.3f %12.0f", ef, line->recall, line->worst, rate);
        if (has_times)
            printf(" %10.3f %10.3f", line->p50_ms, line->p99_ms);
        printf("\n");
    }
    fflush(stdout);
}

static int print_table(struct job *job, double *best, struct kith_error *error)
{
    const struct settings *s = job->settings;
    double *times_ms = calloc(job->query_count + 1, sizeof *times_ms);
    if (!times_ms)
        return out_of_memory(error);
    if (s->options->output != KITH_OUTPUT_JSON) {
        char name[32];
        snprintf(name, sizeof name, "recall@%llu", s->k);
        printf("%8s %10s %10s %12s", "EF", name, "worst", "queries/s");
        if (s->pipeline == 1)
            printf(" %10s %10s", "p50 ms", "p99 ms");
        printf("\n");
    }
    int status = KITH_OK;
    for (size_t e = 0; !status && e < s->ef_count; e++) {
        struct line line;
        status = measure(job, s->ef[e], times_ms, &line, error);
        if (!status)
            print_line(job, s->ef[e], &line);
        *best = !status && line.recall > *best ? line.recall : *best;
    }
    free(times_ms);
    return status;
}

int kith_recall_main(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {
        .options = options, .k = K_DEFAULT, .ef = {50, 100, 200, 400}, .ef_count = 4, .pipeline = 1};
    struct kith_error error;
    char name[] = "kith recall";
    double best = 0;
    argv[0] = name;
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    struct job job = {.settings = &settings};
    int status = read_queries(&job, &error);
    if (!status && !(job.truth = calloc(job.query_count * settings.k, sizeof *job.truth)))
        status = out_of_memory(&error);
    /* The server is asked for first: a typing error in its address should not cost an exact scan. */
    if (!status)
        status = kith_client_open(&job.client, &options->client, &error);
    if (!status)
        status = settings.exact ? scan_truth(&job, &error) : read_truth(&job, &error);
    if (!status)
        status = print_table(&job, &best, &error);
    kith_client_close(job.client);
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
