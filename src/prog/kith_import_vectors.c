/* kith import vectors: a file of vectors into a vector set, pipelined. The server normalises, quantises and links; here
 * rows are read, named and sent. */
#include "prog/kith_import.h"
#include "prog/rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    PIPELINE_DEFAULT = 64,
    NAME_MAX_BYTES = 1 << 16,
    ATTRIBUTE_MAX_BYTES = 1 << 20,
    WAIT_EVERY_MS = 100,
};

enum {
    KEY_INTO = 256,
    KEY_NAMES,
    KEY_ATTRIBUTES,
    KEY_LIMIT,
    KEY_NORMALIZE,
    KEY_QUANT,
    KEY_M,
    KEY_EF,
    KEY_PIPELINE,
    KEY_FORMAT,
    KEY_WAIT
};

static const struct argp_option option_table[] = {
    {"into", KEY_INTO, "KEY", 0, "the vector set; it is made when it is not there", 0},
    {"names", KEY_NAMES, "PREFIX|FILE", 0,
     "element names: a file with one a line, or else a prefix for the row number (default: the row number, "
     "from 0)",
     0},
    {"attributes", KEY_ATTRIBUTES, "FILE", 0, "JSON attributes, one object a line, one line a row", 0},
    {"limit", KEY_LIMIT, "N", 0, "only the first N rows", 0},
    {"normalize", KEY_NORMALIZE, NULL, 0, "scale each row to length 1 before it is sent", 0},
    {"quant", KEY_QUANT, "q8|noquant|bin", 0, "how vectors are kept (the server's default: q8)", 0},
    {"m", KEY_M, "N", 0, "links of an element", 0},
    {"ef", KEY_EF, "N", 0, "candidates looked at when an element is linked", 0},
    {"pipeline", KEY_PIPELINE, "N", 0, "commands in flight (64)", 0},
    {"format", KEY_FORMAT, "NAME", 0,
     "u8bin, i8bin, fbin, i32bin, fvecs, bvecs, ivecs, npy: when the name does not "
     "tell",
     0},
    {"wait", KEY_WAIT, NULL, 0, "return when the last vector is linked into the graph", 0},
    {0},
};

struct settings {
    struct kith_options *options;
    const char *path, *key, *names, *attributes, *format, *quant, *m, *ef;
    unsigned long long limit, pipeline;
    bool normalize, wait;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    unsigned long long number;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        break;
    case KEY_INTO:
        s->key = arg;
        break;
    case KEY_NAMES:
        s->names = arg;
        break;
    case KEY_ATTRIBUTES:
        s->attributes = arg;
        break;
    case KEY_LIMIT:
        if (!kith_import_parse_count(arg, 1, 1ull << 40, &s->limit))
            argp_error(state, "--limit '%s': a number of rows from 1 on", arg);
        break;
    case KEY_NORMALIZE:
        s->normalize = true;
        break;
    case KEY_QUANT:
        if (strcasecmp(arg, "q8") && strcasecmp(arg, "noquant") && strcasecmp(arg, "bin"))
            argp_error(state, "--quant '%s': q8, noquant or bin", arg);
        s->quant = arg;
        break;
    case KEY_M:
        if (!kith_import_parse_count(arg, 4, 4096, &number))
            argp_error(state, "--m '%s': a number from 4 to 4096", arg);
        s->m = arg;
        break;
    case KEY_EF:
        if (!kith_import_parse_count(arg, 1, 1000000, &number))
            argp_error(state, "--ef '%s': a number from 1 to 1000000", arg);
        s->ef = arg;
        break;
    case KEY_PIPELINE:
        if (!kith_import_parse_count(arg, 1, 100000, &s->pipeline))
            argp_error(state, "--pipeline '%s': a number from 1 to 100000", arg);
        break;
    case KEY_FORMAT:
        s->format = arg;
        break;
    case KEY_WAIT:
        s->wait = true;
        break;
    case ARGP_KEY_ARG:
        if (s->path)
            argp_error(state, "one file at a time: '%s' is too many", arg);
        s->path = arg;
        break;
    case ARGP_KEY_END:
        if (!s->path || !s->key)
            argp_error(state, "a FILE and --into KEY are needed");
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
    "FILE --into KEY",
    "Loads a file of vectors into a vector set, one element a row.\v"
    "u8bin, i8bin, fbin: two little-endian uint32 (rows, columns), then the rows. fvecs, bvecs: each row "
    "behind its "
    "int32 column count. npy: two-dimensional f4, f8, u1, i1, i4 in C order. Each plain or gzip.",
    children,
    NULL,
    NULL};

/* What one run holds. */
struct job {
    const struct settings *settings;
    struct kith_import import;
    struct kith_rows *rows;
    struct kith_source *names, *attributes; /* NULL: not given */
    struct kith_buf name, attribute;
    float *row;
    struct kith_progress progress;
    uint64_t sent;
};

static int open_names(struct job *job, struct kith_error *error)
{
    const char *names = job->settings->names;
    if (!names || (strchr(names, '/') == NULL && access(names, R_OK) != 0))
        return KITH_OK; /* a prefix */
    return kith_source_open(&job->names, names, error);
}

static int next_name(struct job *job, struct kith_error *error)
{
    const char *prefix = job->settings->names;
    if (!job->names) {
        kith_buf_clear(&job->name);
        kith_buf_append_format(&job->name, "%s%llu", prefix ? prefix : "", (unsigned long long)job->sent);
        return job->name.failed ? kith_error_set(error, KITH_ENOMEM, "out of memory") : KITH_OK;
    }
    int status = kith_source_read_line(job->names, &job->name, NAME_MAX_BYTES, error);
    if (status == 0)
        return kith_error_set(error, KITH_ECORRUPT, "%s: has %llu names, but the vectors go on with row %llu",
                              kith_source_path(job->names), (unsigned long long)job->sent,
                              (unsigned long long)job->sent);
    return status < 0 ? status : KITH_OK;
}

static int next_attribute(struct job *job, struct kith_error *error)
{
    kith_buf_clear(&job->attribute);
    if (!job->attributes)
        return KITH_OK;
    int status = kith_source_read_line(job->attributes, &job->attribute, ATTRIBUTE_MAX_BYTES, error);
    if (status == 0)
        return kith_error_set(error, KITH_ECORRUPT, "%s: has %llu lines, but the vectors go on with row %llu",
                              kith_source_path(job->attributes), (unsigned long long)job->sent,
                              (unsigned long long)job->sent);
    return status < 0 ? status : KITH_OK;
}

static void normalize(float *row, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += (double)row[i] * row[i];
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < dim; i++)
        row[i] = (float)(row[i] * scale);
}

static struct kith_slice text_slice(const char *text)
{
    return kith_slice(text, strlen(text));
}

/* VADD key FP32 blob name [NOQUANT|Q8|BIN] [EF n] [SETATTR json] [M n], straight into the output buffer. */
static int send_row(struct job *job, struct kith_error *error)
{
    const struct settings *s = job->settings;
    struct kith_slice argv[16];
    size_t argc = 0;
    argv[argc++] = KITH_SLICE("VADD");
    argv[argc++] = text_slice(s->key);
    argv[argc++] = KITH_SLICE("FP32");
    argv[argc++] = kith_slice(job->row, kith_rows_dim(job->rows) * sizeof *job->row);
    argv[argc++] = kith_buf_slice(&job->name);
    if (s->quant)
        argv[argc++] = text_slice(s->quant);
    if (s->ef) {
        argv[argc++] = KITH_SLICE("EF");
        argv[argc++] = text_slice(s->ef);
    }
    if (job->attribute.length) {
        argv[argc++] = KITH_SLICE("SETATTR");
        argv[argc++] = kith_buf_slice(&job->attribute);
    }
    if (s->m) {
        argv[argc++] = KITH_SLICE("M");
        argv[argc++] = text_slice(s->m);
    }
    return kith_import_put(&job->import, argv, argc, job->sent++, error);
}

static uint64_t rows_wanted(const struct job *job)
{
    uint64_t total = kith_rows_total(job->rows), limit = job->settings->limit;
    return limit && (!total || limit < total) ? limit : total;
}

static int send_rows(struct job *job, struct kith_error *error)
{
    uint64_t wanted = rows_wanted(job);
    int status = KITH_OK;
    while (!status && !(job->settings->limit && job->sent == job->settings->limit)) {
        int got = kith_rows_next(job->rows, job->row, error);
        if (got <= 0) {
            status = got;
            break;
        }
        if (job->settings->normalize)
            normalize(job->row, kith_rows_dim(job->rows));
        status = next_name(job, error);
        if (!status)
            status = next_attribute(job, error);
        if (!status)
            status = send_row(job, error);
        kith_progress_update(&job->progress, job->sent, wanted,
                             kith_source_fraction(kith_rows_source(job->rows)));
    }
    /* What was sent is carried out also when the file turns out bad: its answers are waited for, so that the count is
     * true. The first failure is the one that is told. */
    struct kith_error later;
    int settled = kith_import_settle(&job->import, 0, status ? &later : error);
    return status ? status : settled;
}

/* Waits until VINFO says that no element waits for its links. */
static int wait_linked(struct job *job, struct kith_error *error)
{
    for (;;) {
        struct kith_value reply;
        int status = kith_client_call_words(job->import.client, &reply, error, "VINFO", job->settings->key,
                                            (char *)NULL);
        if (status)
            return status;
        const struct kith_value *unlinked = kith_value_get(&reply, "unlinked-elements");
        int64_t left = unlinked && unlinked->type == KITH_VALUE_INT ? unlinked->integer : 0;
        kith_value_fini(&reply);
        if (left <= 0)
            return KITH_OK;
        uint64_t linked = job->sent > (uint64_t)left ? job->sent - (uint64_t)left : 0;
        kith_progress_update(&job->progress, linked, job->sent, 0);
        nanosleep(&(struct timespec){.tv_nsec = WAIT_EVERY_MS * 1000000L}, NULL);
    }
}

static int open_job(struct job *job, struct kith_error *error)
{
    const struct settings *s = job->settings;
    int status = kith_rows_open(&job->rows, s->path, s->format, error);
    if (!status && kith_rows_total(job->rows) == 0 && kith_source_size(kith_rows_source(job->rows)))
        status = kith_error_set(error, KITH_EINVAL, "%s: has no rows", s->path);
    if (!status)
        status = open_names(job, error);
    if (!status && s->attributes)
        status = kith_source_open(&job->attributes, s->attributes, error);
    if (!status && !(job->row = malloc(kith_rows_dim(job->rows) * sizeof *job->row)))
        status = kith_error_set(error, KITH_ENOMEM, "out of memory");
    if (!status)
        status = kith_import_open(&job->import, s->options, "row", s->pipeline, error);
    return status;
}

static void close_job(struct job *job)
{
    kith_import_close(&job->import);
    kith_rows_close(job->rows);
    kith_source_close(job->names);
    kith_source_close(job->attributes);
    kith_buf_fini(&job->name);
    kith_buf_fini(&job->attribute);
    free(job->row);
}

int kith_import_vectors(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options, .pipeline = PIPELINE_DEFAULT};
    struct kith_error error;
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    struct job job = {.settings = &settings};
    int status = open_job(&job, &error);
    kith_progress_init(&job.progress, "vectors");
    if (!status) {
        status = send_rows(&job, &error);
        kith_progress_clear(&job.progress);
        kith_import_summary(&job.progress, job.import.answered,
                            status ? "vectors before the failure" : "vectors");
        if (!status && job.import.sum < job.import.answered)
            printf("%llu of them replaced elements of the same name\n",
                   (unsigned long long)(job.import.answered - job.import.sum));
    }
    if (!status && settings.wait) {
        kith_progress_init(&job.progress, "linked");
        status = wait_linked(&job, &error);
        kith_progress_clear(&job.progress);
        if (!status)
            printf("linked %.2f s later\n", kith_progress_seconds(&job.progress));
    }
    close_job(&job);
    return status ? kith_complain(&error) : KITH_EXIT_OK;
}
