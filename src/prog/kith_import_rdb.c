/* kith import FILE.rdb: the keys of an RDB file into a running server, and an account of what became of each. */
#include "prog/kith_import_rdb.h"
#include "base/num.h"
#include "base/os.h"
#include "prog/kith_import.h"
#include "prog/source.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    PIPELINE_DEFAULT = 256,
    PIPELINE_MAX = 1 << 16,
    PIECE_BYTES = 1 << 18,
};

enum { KEY_PREFIX = 256, KEY_PIPELINE, KEY_QUIET };

static const struct argp_option option_table[] = {
    {"prefix", KEY_PREFIX, "TEXT", 0, "put in front of every key", 0},
    {"pipeline", KEY_PIPELINE, "N", 0, "commands in flight (256)", 0},
    {"quiet", KEY_QUIET, NULL, 0, "only how many keys of each type were left out, not a line for each", 0},
    {0},
};

struct settings {
    struct kith_options *options;
    const char *path, *prefix;
    unsigned long long pipeline;
    bool is_quiet;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = s->options;
        break;
    case KEY_PREFIX:
        s->prefix = arg;
        break;
    case KEY_PIPELINE:
        if (!kith_import_parse_count(arg, 1, PIPELINE_MAX, &s->pipeline))
            argp_error(state, "--pipeline '%s': a number from 1 to %d", arg, PIPELINE_MAX);
        break;
    case KEY_QUIET:
        s->is_quiet = true;
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
static const struct argp argp = {
    option_table,
    parse_option,
    "FILE",
    "Loads the keys of an RDB file, as Redis up to 8.2 and Valkey up to 9 save it: strings, "
    "hashes, sorted sets and vector sets.\v"
    "Each key replaces what the server has under its name, in the same database. Keys "
    "whose time has passed are not sent. What is left out is told, a line for each key; "
    "then the exit code is 1. Plain or gzip; - is standard input.",
    children,
    NULL,
    NULL};

void kith_tally_add(struct kith_tally *tally, const char *type)
{
    size_t at = 0;
    tally->count++;
    while (at < KITH_TALLY_TYPES - 1 && tally->types[at].count && strcmp(tally->types[at].type, type) != 0)
        at++;
    if (!tally->types[at].count)
        snprintf(tally->types[at].type, sizeof tally->types[at].type, "%s",
                 at < KITH_TALLY_TYPES - 1 ? type : "of other types");
    tally->types[at].count++;
}

/* In single quotes, with what is not printable as \xNN. */
static void print_quoted(struct kith_slice text)
{
    putchar('\'');
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\'' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ' || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('\'');
}

void kith_rdb_job_left_out(struct kith_rdb_job *job, uint32_t db, const char *type, struct kith_slice key,
                           const char *why, bool is_part)
{
    if (is_part)
        job->parts++;
    else
        kith_tally_add(&job->left_out, type);
    if (job->is_quiet)
        return;
    kith_progress_clear(&job->progress);
    printf("left out%s: %s ", is_part ? " in part" : "", type);
    print_quoted(key);
    if (db != UINT32_MAX && db != 0)
        printf(" of database %u", db);
    printf("%s%s\n", why ? ": " : "", why ? why : "");
}

static int open_job(struct kith_rdb_job *job, const struct settings *settings)
{
    *job = (struct kith_rdb_job){.prefix = settings->prefix,
                                 .pipeline = settings->pipeline,
                                 .is_quiet = settings->is_quiet,
                                 .now_ms = kith_os_wall_ms()};
    job->sent = calloc(job->pipeline, sizeof *job->sent);
    if (!job->sent)
        return kith_error_set(&job->error, KITH_ENOMEM, "out of memory");
    return kith_client_open(&job->client, &settings->options->client, &job->error);
}

static void close_job(struct kith_rdb_job *job)
{
    kith_client_close(job->client);
    for (size_t i = 0; job->sent && i < job->pipeline; i++)
        kith_buf_fini(&job->sent[i].key);
    free(job->sent);
    kith_buf_fini(&job->key);
    kith_buf_fini(&job->arguments);
}

/* Reads the file to its end. A failure of the file itself comes with its name and place; one of the server stands in
 * job->error already. */
static int feed_file(struct kith_rdb_job *job, struct kith_source *source, struct kith_rdb *rdb, char *piece)
{
    int status = KITH_OK;
    while (!status) {
        size_t got = 0, used = 0;
        status = kith_source_read(source, piece, PIECE_BYTES, &got, &job->error);
        if (status)
            return status;
        job->error.text[0] = '\0';
        status = got ? kith_rdb_feed(rdb, piece, got, &used) : kith_rdb_cut_short(rdb);
        kith_progress_update(&job->progress, job->number, 0, kith_source_fraction(source));
    }
    if (status < 0 && !job->error.text[0])
        return kith_error_set(&job->error, status, "%s: %s", kith_source_path(source), kith_rdb_error(rdb));
    return status < 0 ? status : KITH_OK;
}

static int import_file(struct kith_rdb_job *job, struct kith_source *source)
{
    struct kith_rdb *rdb = NULL;
    char *piece = malloc(PIECE_BYTES);
    int status = piece ? kith_rdb_open(&rdb, NULL, &kith_rdb_job_events, job) : KITH_ENOMEM;
    if (status)
        status = kith_error_set(&job->error, status, "out of memory");
    else
        status = feed_file(job, source, rdb, piece);
    /* The first failure is the one that is told, but what was sent is waited for. */
    struct kith_error first = job->error;
    int settled = status == KITH_EIO || status == KITH_ECLOSED ? KITH_OK : kith_rdb_job_settle(job, 0);
    if (status)
        job->error = first;
    kith_rdb_close(rdb);
    free(piece);
    return status ? status : settled;
}

static void print_tally(const struct kith_tally *tally)
{
    char count[32];
    for (size_t i = 0; i < KITH_TALLY_TYPES && tally->types[i].count; i++)
        printf("%s%s %s", i ? ", " : ": ", kith_progress_thousands(count, tally->types[i].count),
               tally->types[i].type);
    putchar('\n');
}

static void print_account(const struct kith_rdb_job *job, bool is_failed)
{
    char count[32];
    kith_import_summary(&job->progress, job->taken.count, is_failed ? "keys (stopped by a failure)" : "keys");
    if (job->taken.count) {
        printf("taken");
        print_tally(&job->taken);
    }
    if (job->expired)
        printf("past their time: %s\n", kith_progress_thousands(count, job->expired));
    if (job->left_out.count) {
        printf("left out");
        print_tally(&job->left_out);
    }
    if (job->parts)
        printf("left out in part: %s\n", kith_progress_thousands(count, job->parts));
}

int kith_import_rdb(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options, .pipeline = PIPELINE_DEFAULT};
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    struct kith_rdb_job job = {0};
    struct kith_source *source = NULL;
    int status = kith_source_open(&source, settings.path, &job.error);
    if (status)
        return kith_complain(&job.error);
    status = open_job(&job, &settings);
    if (!status) {
        kith_progress_init(&job.progress, "keys");
        status = import_file(&job, source);
        kith_progress_clear(&job.progress);
        print_account(&job, status != 0);
    }
    bool is_whole = !job.left_out.count && !job.parts;
    struct kith_error error = job.error;
    close_job(&job);
    kith_source_close(source);
    if (status)
        return kith_complain(&error);
    return is_whole ? KITH_EXIT_OK : KITH_EXIT_FAILURE;
}
