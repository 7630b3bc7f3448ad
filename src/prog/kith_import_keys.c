/* kith import keys: csv and jsonl into strings and hashes, pipelined. A row becomes one command, or two where a hash has
 * a time to live. */
#include "base/num.h"
#include "prog/csv.h"
#include "prog/kith_import.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIPELINE_DEFAULT = 256,
    LINE_MAX_BYTES = 64 << 20,
};

enum { KEY_HASH = 256, KEY_PREFIX, KEY_LIMIT, KEY_PIPELINE, KEY_FORMAT };

static const struct argp_option option_table[] = {
    {"hash", KEY_HASH, NULL, 0,
     "csv: each row becomes a hash whose fields are the columns other than key and ttl", 0},
    {"prefix", KEY_PREFIX, "TEXT", 0, "put in front of every key", 0},
    {"limit", KEY_LIMIT, "N", 0, "only the first N rows", 0},
    {"pipeline", KEY_PIPELINE, "N", 0, "commands in flight (256)", 0},
    {"format", KEY_FORMAT, "csv|jsonl", 0, "when the name does not tell", 0},
    {0},
};

struct settings {
    struct kith_options *options;
    const char *path, *prefix, *format;
    unsigned long long limit, pipeline;
    bool hash;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        break;
    case KEY_HASH:
        s->hash = true;
        break;
    case KEY_PREFIX:
        s->prefix = arg;
        break;
    case KEY_LIMIT:
        if (!kith_import_parse_count(arg, 1, 1ull << 40, &s->limit))
            argp_error(state, "--limit '%s': a number of rows from 1 on", arg);
        break;
    case KEY_PIPELINE:
        if (!kith_import_parse_count(arg, 2, 100000, &s->pipeline))
            argp_error(state, "--pipeline '%s': a number from 2 to 100000", arg);
        break;
    case KEY_FORMAT:
        if (strcasecmp(arg, "csv") != 0 && strcasecmp(arg, "jsonl") != 0)
            argp_error(state, "--format '%s': csv or jsonl", arg);
        s->format = arg;
        break;
    case ARGP_KEY_ARG:
        if (s->path)
            argp_error(state, "one file at a time: '%s' is too many", arg);
        s->path = arg;
        break;
    case ARGP_KEY_END:
        if (!s->path)
            argp_error(state, "a FILE is needed");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&kith_options_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {option_table,
                                 parse_option,
                                 "FILE",
                                 "Loads keys from a file.\v"
                                 "csv: the first line names the columns: key and value, and ttl (seconds) "
                                 "where there is one; with --hash any "
                                 "columns besides key. jsonl: one object a line with \"key\", \"value\" and "
                                 "perhaps \"ttl\"; a value that is a text, "
                                 "a number or a boolean becomes a string, an object becomes a hash (its null "
                                 "fields are left out, nested ones are "
                                 "kept as JSON). Plain or gzip; - is standard input.",
                                 children,
                                 NULL,
                                 NULL};

/* What one run holds. */
struct job {
    const struct settings *settings;
    struct kith_import import;
    struct kith_source *source;
    struct kith_progress progress;
    struct kith_buf key, scratch; /* the key with its prefix; texts made of numbers */
    struct kith_slice *argv;
    size_t argc, argv_capacity;
    uint64_t rows, line;
};

static int out_of_memory(struct kith_error *error)
{
    return kith_error_set(error, KITH_ENOMEM, "out of memory");
}

static int bad_line(const struct job *job, struct kith_error *error, const char *what)
{
    return kith_error_set(error, KITH_ECORRUPT, "%s: line %llu: %s", kith_source_path(job->source),
                          (unsigned long long)job->line, what);
}

static int add_word(struct job *job, struct kith_slice word, struct kith_error *error)
{
    if (job->argc == job->argv_capacity) {
        size_t grown = job->argv_capacity ? job->argv_capacity * 2 : 32;
        struct kith_slice *argv = realloc(job->argv, grown * sizeof *argv);
        if (!argv)
            return out_of_memory(error);
        job->argv = argv;
        job->argv_capacity = grown;
    }
    job->argv[job->argc++] = word;
    return KITH_OK;
}

/* A time to live in seconds; 0 in *ttl for an empty text: none. */
static int parse_ttl(const struct job *job, struct kith_slice text, int64_t *ttl, struct kith_error *error)
{
    *ttl = 0;
    if (!text.length)
        return KITH_OK;
    if (kith_num_parse_int64(text, ttl) || *ttl <= 0)
        return bad_line(job, error, "the ttl is not a whole number of seconds from 1 on");
    return KITH_OK;
}

/* "SET key" or "HSET key", the start of a row's command. */
static int begin_row(struct job *job, const char *command, struct kith_slice key, struct kith_error *error)
{
    if (!key.length)
        return bad_line(job, error, "the key is empty");
    kith_buf_clear(&job->key);
    if (job->settings->prefix)
        kith_buf_append_text(&job->key, job->settings->prefix);
    kith_buf_append(&job->key, key.data, key.length);
    if (job->key.failed)
        return out_of_memory(error);
    job->argc = 0;
    int status = add_word(job, kith_slice(command, strlen(command)), error);
    return status ? status : add_word(job, kith_buf_slice(&job->key), error);
}

/* Sends what begin_row and add_word made, with its time to live. */
static int end_row(struct job *job, bool is_hash, int64_t ttl, struct kith_error *error)
{
    char digits[KITH_NUM_INT64_CHARS];
    struct kith_slice seconds = kith_slice(digits, kith_num_format_int64(digits, ttl));
    int status = KITH_OK;
    if (ttl && !is_hash) {
        status = add_word(job, KITH_SLICE("EX"), error);
        if (!status)
            status = add_word(job, seconds, error);
    }
    if (!status)
        /* argv belongs to job, which kith_import_keys frees: the analyzer loses sight of it.
         * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        status = kith_import_put(&job->import, job->argv, job->argc, (struct kith_import_unit){job->line, 1},
                                 error);
    if (!status && ttl && is_hash) {
        const struct kith_slice expire[] = {KITH_SLICE("EXPIRE"), kith_buf_slice(&job->key), seconds};
        status = kith_import_put(&job->import, expire, 3, (struct kith_import_unit){job->line, 0}, error);
    }
    job->rows += !status;
    kith_progress_update(&job->progress, job->rows, 0, kith_source_fraction(job->source));
    return status;
}

static bool is_enough(const struct job *job)
{
    return job->settings->limit && job->rows == job->settings->limit;
}

/* ---- csv ---- */

struct columns {
    size_t key, value, ttl; /* SIZE_MAX: there is none */
    size_t count;
    struct kith_slice *names; /* of all columns; point into text */
    struct kith_buf text;
};

static int find_columns(struct job *job, struct kith_csv *csv, struct columns *columns,
                        struct kith_error *error)
{
    *columns =
        (struct columns){.key = SIZE_MAX, .value = SIZE_MAX, .ttl = SIZE_MAX, .count = csv->field_count};
    job->line = csv->line;
    struct kith_slice *first = &csv->fields[0];
    if (first->length >= 3 && memcmp(first->data, "\xef\xbb\xbf", 3) == 0)
        *first = kith_slice(first->data + 3, first->length - 3); /* a byte order mark */
    columns->names = calloc(columns->count, sizeof *columns->names);
    char *room = kith_buf_reserve(&columns->text, csv->text.length + 1);
    if (!columns->names || !room)
        return out_of_memory(error);
    for (size_t i = 0; i < columns->count; i++) {
        struct kith_slice name = csv->fields[i];
        size_t *place = kith_slice_is(name, "key")     ? &columns->key
                        : kith_slice_is(name, "value") ? &columns->value
                        : kith_slice_is(name, "ttl")   ? &columns->ttl
                                                       : NULL;
        if (place)
            *place = i;
        columns->names[i] = kith_slice(columns->text.data + columns->text.length, name.length);
        kith_buf_append(&columns->text, name.data, name.length);
    }
    if (columns->key == SIZE_MAX)
        return bad_line(job, error, "no column is named 'key'");
    if (!job->settings->hash && columns->value == SIZE_MAX)
        return bad_line(job, error,
                        "no column is named 'value': with --hash the other columns become fields");
    if (job->settings->hash && columns->count < 2 + (size_t)(columns->ttl != SIZE_MAX))
        return bad_line(job, error, "no column is left for the hash's fields");
    return KITH_OK;
}

static int put_record(struct job *job, const struct kith_csv *csv, const struct columns *columns,
                      struct kith_error *error)
{
    bool is_hash = job->settings->hash;
    int64_t ttl = 0;
    job->line = csv->line;
    if (csv->field_count != columns->count) {
        char text[100];
        snprintf(text, sizeof text, "%zu fields, but the header names %zu columns", csv->field_count,
                 columns->count);
        return bad_line(job, error, text);
    }
    int status = columns->ttl == SIZE_MAX ? KITH_OK : parse_ttl(job, csv->fields[columns->ttl], &ttl, error);
    if (!status)
        status = begin_row(job, is_hash ? "HSET" : "SET", csv->fields[columns->key], error);
    if (!status && !is_hash)
        status = add_word(job, csv->fields[columns->value], error);
    for (size_t i = 0; !status && is_hash && i < columns->count; i++) {
        if (i == columns->key || i == columns->ttl)
            continue;
        status = add_word(job, columns->names[i], error);
        if (!status)
            status = add_word(job, csv->fields[i], error);
    }
    return status ? status : end_row(job, is_hash, ttl, error);
}

static int import_csv(struct job *job, struct kith_error *error)
{
    struct kith_csv csv;
    struct columns columns = {0};
    kith_csv_init(&csv, job->source);
    int status = kith_csv_next(&csv, error);
    if (status == 0)
        status = kith_error_set(error, KITH_ECORRUPT, "%s: is empty, a header line is needed",
                                kith_source_path(job->source));
    else if (status == 1)
        status = find_columns(job, &csv, &columns, error);
    while (!status && !is_enough(job)) {
        status = kith_csv_next(&csv, error);
        if (status <= 0)
            break;
        status = put_record(job, &csv, &columns, error);
    }
    free(columns.names);
    kith_buf_fini(&columns.text);
    kith_csv_fini(&csv);
    return status;
}

/* ---- jsonl ---- */

/* A JSON value's text as a value of Kith's. Made texts go to job->scratch, which has room already. *is_absent for null. */
static int scalar_text(struct job *job, const json_t *value, struct kith_slice *out, struct kith_error *error)
{
    char number[KITH_NUM_DOUBLE_CHARS];
    size_t before = job->scratch.length;
    switch (json_typeof(value)) {
    case JSON_STRING:
        *out = kith_slice(json_string_value(value), json_string_length(value));
        return KITH_OK;
    case JSON_TRUE:
        *out = KITH_SLICE("true");
        return KITH_OK;
    case JSON_FALSE:
        *out = KITH_SLICE("false");
        return KITH_OK;
    case JSON_INTEGER:
        kith_buf_append(&job->scratch, number, kith_num_format_int64(number, json_integer_value(value)));
        break;
    case JSON_REAL:
        kith_buf_append(&job->scratch, number, kith_num_format_double(number, json_real_value(value)));
        break;
    default: {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!text)
            return out_of_memory(error);
        kith_buf_append_text(&job->scratch, text);
        free(text);
    }
    }
    if (job->scratch.failed)
        return out_of_memory(error);
    *out = kith_slice(job->scratch.data + before, job->scratch.length - before);
    return KITH_OK;
}

/* What scratch may have to hold for one line: reserved before slices point into it. A number's text may be longer than
 * it was in the file (1e20), nested values never get longer than their line allows. */
static int reserve_scratch(struct job *job, size_t line_length, struct kith_error *error)
{
    kith_buf_clear(&job->scratch);
    return kith_buf_reserve(&job->scratch, line_length * 16 + 64) ? KITH_OK : out_of_memory(error);
}

static int put_fields(struct job *job, json_t *object, struct kith_error *error)
{
    const char *name;
    json_t *field;
    int status = KITH_OK;
    json_object_foreach(object, name, field)
    {
        struct kith_slice text;
        if (json_is_null(field))
            continue;
        status = scalar_text(job, field, &text, error);
        if (!status)
            status = add_word(job, kith_slice(name, strlen(name)), error);
        if (!status)
            status = add_word(job, text, error);
        if (status)
            return status;
    }
    if (job->argc == 2)
        return bad_line(job, error, "the object has no fields: a hash cannot be empty");
    return KITH_OK;
}

static int put_object(struct job *job, const json_t *object, struct kith_error *error)
{
    json_t *key = json_object_get(object, "key"), *value = json_object_get(object, "value"),
           *ttl_value = json_object_get(object, "ttl");
    struct kith_slice text = {0};
    int64_t ttl = 0;
    if (!json_is_string(key) || !value)
        return bad_line(job, error, "an object with \"key\" (a text) and \"value\" is needed");
    if (json_is_null(value) || json_is_array(value))
        return bad_line(job, error, "the value must be a text, a number, a boolean or an object");
    if (ttl_value && !json_is_null(ttl_value)) {
        int status = scalar_text(job, ttl_value, &text, error);
        if (!status)
            status =
                text.length ? parse_ttl(job, text, &ttl, error) : bad_line(job, error, "the ttl is empty");
        if (status)
            return status;
    }
    bool is_hash = json_is_object(value);
    int status = begin_row(job, is_hash ? "HSET" : "SET",
                           kith_slice(json_string_value(key), json_string_length(key)), error);
    if (!status && is_hash) {
        status = put_fields(job, value, error);
    } else if (!status) {
        status = scalar_text(job, value, &text, error);
        if (!status)
            status = add_word(job, text, error);
    }
    return status ? status : end_row(job, is_hash, ttl, error);
}

static int put_line(struct job *job, struct kith_slice line, struct kith_error *error)
{
    json_error_t parse_error;
    json_t *object =
        json_loadb(line.data, line.length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &parse_error);
    if (!object)
        return kith_error_set(error, KITH_ECORRUPT, "%s: line %llu, byte %d: %s",
                              kith_source_path(job->source), (unsigned long long)job->line,
                              parse_error.position, parse_error.text);
    int status = reserve_scratch(job, line.length, error);
    if (!status)
        status = put_object(job, object, error);
    json_decref(object);
    return status;
}

static bool is_blank(struct kith_slice line)
{
    for (size_t i = 0; i < line.length; i++) {
        if (line.data[i] != ' ' && line.data[i] != '\t')
            return false;
    }
    return true;
}

static int import_jsonl(struct job *job, struct kith_error *error)
{
    struct kith_buf line;
    int status = KITH_OK;
    kith_buf_init(&line);
    while (!status && !is_enough(job)) {
        status = kith_source_read_line(job->source, &line, LINE_MAX_BYTES, error);
        if (status <= 0)
            break;
        job->line++;
        status = is_blank(kith_buf_slice(&line)) ? KITH_OK : put_line(job, kith_buf_slice(&line), error);
    }
    kith_buf_fini(&line);
    return status;
}

/* ---- */

static const char *find_format(const struct settings *settings)
{
    static const char *const formats[] = {"csv", "jsonl", "ndjson"};
    size_t length = strlen(settings->path);
    if (settings->format)
        return settings->format;
    if (length > 3 && strcasecmp(settings->path + length - 3, ".gz") == 0)
        length -= 3;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        size_t n = strlen(formats[i]);
        if (length > n && settings->path[length - n - 1] == '.' &&
            strncasecmp(settings->path + length - n, formats[i], n) == 0)
            return formats[i];
    }
    return NULL;
}

int kith_import_keys(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options, .pipeline = PIPELINE_DEFAULT};
    struct kith_error error;
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    struct job job = {.settings = &settings};
    const char *format = find_format(&settings);
    int status =
        format ? KITH_OK
               : kith_error_set(&error, KITH_EINVAL, "%s: csv or jsonl? say it with --format", settings.path);
    if (!status)
        status = kith_source_open(&job.source, settings.path, &error);
    if (!status)
        status = kith_import_open(&job.import, options, "line", settings.pipeline, &error);
    if (!status) {
        kith_progress_init(&job.progress, "keys");
        status = strcasecmp(format, "csv") == 0 ? import_csv(&job, &error) : import_jsonl(&job, &error);
        /* The first failure is the one that is told, but what was sent is waited for. */
        struct kith_error later;
        int settled = kith_import_settle(&job.import, 0, status ? &later : &error);
        status = status ? status : settled;
        kith_progress_clear(&job.progress);
        kith_import_summary(&job.progress, job.import.done, status ? "keys (stopped by a failure)" : "keys");
    }
    kith_import_close(&job.import);
    kith_source_close(job.source);
    kith_buf_fini(&job.key);
    kith_buf_fini(&job.scratch);
    free(job.argv);
    return status ? kith_complain(&error) : KITH_EXIT_OK;
}
