/* kith check: reads a data folder that no server uses, and says of each file whether it is sound. Changes nothing. */
#include "base/fs.h"
#include "prog/kith_options.h"
#include "prog/progress.h"
#include "store/store.h"

#include <stdio.h>

struct settings {
    struct kith_options *options;
    const char *dir;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct settings *s = state->input;
    switch (key) {
    case 'j':
        s->options->output = KITH_OUTPUT_JSON;
        break;
    case ARGP_KEY_ARG:
        if (s->dir)
            argp_error(state, "one folder at a time: '%s' is too many", arg);
        s->dir = arg;
        break;
    case ARGP_KEY_END:
        if (!s->dir)
            argp_error(state, "a folder is needed: the one that kithd's --dir names");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option option_table[] = {
    {"json", 'j', NULL, 0, "one JSON object a line", 0},
    {0},
};
static const struct argp argp = {
    option_table,
    parse_option,
    "DIR",
    "Verifies a data folder: checksums and order of every log record, every block of every checkpoint.\v"
    "Changes nothing. The server must be stopped. Exit code 0: sound; 1: there are problems, each told with "
    "file, offset "
    "and what to do; notes are harmless.",
    NULL,
    NULL,
    NULL};

static void report(void *context, enum kith_store_finding finding, const char *line)
{
    static const char *const words[] = {
        [KITH_STORE_FINE] = "fine", [KITH_STORE_NOTE] = "note", [KITH_STORE_PROBLEM] = "problem"};
    const struct settings *s = context;
    if (s->options->output != KITH_OUTPUT_JSON) {
        printf("%-8s %s\n", words[finding], line);
        return;
    }
    struct kith_buf text;
    kith_buf_init(&text);
    kith_value_print_json_text(kith_slice(line, strlen(line)), &text);
    if (!text.failed)
        printf("{\"finding\":\"%s\",\"text\":%.*s}\n", words[finding], (int)text.length, text.data);
    kith_buf_fini(&text);
}

int kith_check_main(int argc, char **argv, struct kith_options *options)
{
    struct settings settings = {.options = options};
    struct kith_store_check_result result;
    struct kith_error error;
    char name[] = "kith check", records[32], entry[32];
    argv[0] = name;
    if (argp_parse(&argp, argc, argv, 0, NULL, &settings))
        return KITH_EXIT_USAGE;
    int status = kith_store_check(kith_fs_posix(), settings.dir, report, &settings, &result);
    if (status && status != KITH_ECORRUPT) {
        kith_error_set(&error, status, "%s was not checked: %s", settings.dir, kith_status_text(status));
        return kith_complain(&error);
    }
    if (options->output == KITH_OUTPUT_JSON)
        printf("{\"sound\":%s,\"problems\":%llu,\"checkpoints\":%llu,\"segments\":%llu,\"records\":%llu,"
               "\"last_entry\":%llu,\"cut_bytes\":%llu}\n",
               status ? "false" : "true", (unsigned long long)result.problems,
               (unsigned long long)result.checkpoints, (unsigned long long)result.segments,
               (unsigned long long)result.records, (unsigned long long)result.last_index,
               (unsigned long long)result.cut_bytes);
    else if (status)
        printf("%llu %s\n", (unsigned long long)result.problems,
               result.problems == 1 ? "problem" : "problems");
    else
        printf("sound: %s log records, last entry %s\n", kith_progress_thousands(records, result.records),
               kith_progress_thousands(entry, result.last_index));
    return status ? KITH_EXIT_FAILURE : KITH_EXIT_OK;
}
