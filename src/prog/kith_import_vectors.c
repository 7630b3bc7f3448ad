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
    PIPELINE_DEFAULT = 16,
    BATCH_DEFAULT = 32,
    BATCH_BYTES_MAX = 1 << 20, /* a larger command would only wait longer for its first row */
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
    KEY_BATCH,
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
    {"quant", KEY_QUANT, "q8|noquant|bin|f16|bf16|q4", 0, "how vectors are kept (the server's default: q8)",
     0},
    {"m", KEY_M, "N", 0, "links of an element", 0},
    {"ef", KEY_EF, "N", 0, "candidates looked at when an element is linked", 0},
    {"pipeline", KEY_PIPELINE, "N", 0, "commands in flight (16)", 0},
    {"batch", KEY_BATCH, "N", 0, "rows a command (32; 1 uses VADD, which every vector-set server has)", 0},
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
    unsigned long long limit, pipeline, batch;
    bool normalize, wait;
};

static bool is_code(const char *word)
{
    static const char *const words[] = {"q8", "noquant", "bin", "f16", "bf16", "q4"};
    for (size_t n = 0; n < sizeof words / sizeof *words; n++)
        if (strcasecmp(word, words[n]) == 0)
            return true;
    return false;
}

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
        if (!is_code(arg))
            argp_error(state, "--quant '%s': q8, noquant, bin, f16, bf16 or q4", arg);
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
    case KEY_BATCH:
        if (!kith_import_parse_count(arg, 1, 10000, &s->batch))
            argp_error(state, "--batch '%s': a number from 1 to 10000", arg);
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
    uint64_t sent;         /* rows, those in the batch included */
    struct kith_buf batch; /* the rows of the next VMADD, written as arguments */
    size_t batch_argc;
    uint32_t batch_rows, batch_max;
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

/* [NOQUANT|Q8|BIN] [EF n] [M n], the options that VADD and VMADD share. Returns how many words. */
static size_t put_set_options(const struct settings *s, struct kith_slice *argv)
{
    size_t argc = 0;
    if (s->quant)
        argv[argc++] = text_slice(s->quant);
    if (s->ef) {
        argv[argc++] = KITH_SLICE("EF");
        argv[argc++] = text_slice(s->ef);
    }
    if (s->m) {
        argv[argc++] = KITH_SLICE("M");
        argv[argc++] = text_slice(s->m);
    }
    return argc;
}

/* FP32 blob name, the part of a row that both commands have. */
static size_t put_row(const struct job *job, struct kith_slice *argv)
{
    argv[0] = KITH_SLICE("FP32");
    argv[1] = kith_slice(job->row, kith_rows_dim(job->rows) * sizeof *job->row);
    argv[2] = kith_buf_slice(&job->name);
    return 3;
}

static size_t put_attribute(const struct job *job, struct kith_slice *argv)
{
    if (!job->attribute.length)
        return 0;
    argv[0] = KITH_SLICE("SETATTR");
    argv[1] = kith_buf_slice(&job->attribute);
    return 2;
}

/* VADD key FP32 blob name [option ...] [SETATTR json] */
static int send_single(struct job *job, struct kith_error *error)
{
    struct kith_slice argv[16] = {KITH_SLICE("VADD"), text_slice(job->settings->key)};
    size_t argc = 2;
    argc += put_row(job, argv + argc);
    argc += put_set_options(job->settings, argv + argc);
    argc += put_attribute(job, argv + argc);
    return kith_import_put(&job->import, argv, argc, (struct kith_import_unit){job->sent++, 1}, error);
}

/* VMADD key [option ...] ELEMENTS count, then the rows: FP32 blob name [SETATTR json] */
static int send_batch(struct job *job, struct kith_error *error)
{
    struct kith_slice argv[16] = {KITH_SLICE("VMADD"), text_slice(job->settings->key)};
    struct kith_buf written;
    char count_text[24];
    size_t argc = 2;
    if (!job->batch_rows)
        return KITH_OK;
    argc += put_set_options(job->settings, argv + argc);
    argv[argc++] = KITH_SLICE("ELEMENTS");
    argv[argc++] =
        kith_slice(count_text, (size_t)snprintf(count_text, sizeof count_text, "%u", job->batch_rows));
    kith_buf_init(&written);
    for (size_t i = 0; i < argc; i++)
        kith_request_put_argument(&written, argv[i]);
    kith_buf_append(&written, job->batch.data, job->batch.length);
    const struct kith_import_unit unit = {job->sent - job->batch_rows, job->batch_rows};
    int status = written.failed || job->batch.failed
                     ? kith_error_set(error, KITH_ENOMEM, "out of memory")
                     : kith_import_put_written(&job->import, argc + job->batch_argc, kith_buf_slice(&written),
                                               unit, error);
    kith_buf_fini(&written);
    kith_buf_clear(&job->batch);
    job->batch_rows = 0;
    job->batch_argc = 0;
    return status;
}

static int send_row(struct job *job, struct kith_error *error)
{
    struct kith_slice argv[8];
    if (job->batch_max == 1)
        return send_single(job, error);
    size_t argc = put_row(job, argv);
    argc += put_attribute(job, argv + argc);
    for (size_t i = 0; i < argc; i++)
        kith_request_put_argument(&job->batch, argv[i]);
    job->batch_argc += argc;
    job->batch_rows++;
    job->sent++;
    if (job->batch_rows == job->batch_max || job->batch.length >= BATCH_BYTES_MAX)
        return send_batch(job, error);
    return KITH_OK;
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
    int last = send_batch(job, status ? &later : error);
    status = status ? status : last;
    last = kith_import_settle(&job->import, 0, status ? &later : error);
    return status ? status : last;
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
        const struct kith_value *unlinked = kith_value_get(&reply, "unlinked");
        int64_t left = unlinked && unlinked->type == KITH_VALUE_INT ? unlinked->integer : 0;
        kith_value_fini(&reply);
        if (left <= 0)
            return KITH_OK;
        uint64_t linked = job->sent > (uint64_t)left ? job->sent - (uint64_t)left : 0;
        kith_progress_update(&job->progress, linked, job->sent, 0);
        nanosleep(&(struct timespec){.tv_nsec = WAIT_EVERY_MS * 1000000L}, NULL);
    }
}

/* A server without VMADD gets VADD. */
static int choose_command(struct job *job, struct kith_error *error)
{
    struct kith_value reply;
    job->batch_max = (uint32_t)job->settings->batch;
    if (job->batch_max == 1)
        return KITH_OK;
    int status =
        kith_client_call_words(job->import.client, &reply, error, "COMMAND", "INFO", "VMADD", (char *)NULL);
    if (status)
        return status;
    if (reply.type != KITH_VALUE_ARRAY || reply.count != 1 || reply.items[0].type == KITH_VALUE_NULL)
        job->batch_max = 1;
    kith_value_fini(&reply);
    return KITH_OK;
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
    if (!status)
        status = choose_command(job, error);
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
    kith_buf_fini(&job->batch);
    free(job->row);
}

int kith_import_vectors(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options, .pipeline = PIPELINE_DEFAULT, .batch = BATCH_DEFAULT};
    struct kith_error error;
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    struct job job = {.settings = &settings};
    int status = open_job(&job, &error);
    kith_progress_init(&job.progress, "vectors");
    if (!status) {
        status = send_rows(&job, &error);
        kith_progress_clear(&job.progress);
        kith_import_summary(&job.progress, job.import.done,
                            status ? "vectors (stopped by a failure)" : "vectors");
        if (!status && job.import.sum < job.import.done)
            printf("%llu of them replaced elements of the same name\n",
                   (unsigned long long)(job.import.done - job.import.sum));
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
