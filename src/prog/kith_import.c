/* kith import: chooses what is imported. */
#include "prog/kith_import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool names_rdb(const char *path)
{
    static const char *const ends[] = {".rdb", ".rdb.gz"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t n = strlen(ends[i]);
        if (path[0] != '-' && length > n && strcasecmp(path + length - n, ends[i]) == 0)
            return true;
    }
    return false;
}

int kith_import_main(int argc, char **argv, struct kith_options *options)
{
    static const struct {
        const char *word;
        int (*run)(int argc, char **argv, struct kith_options *options);
    } kinds[] = {{"vectors", kith_import_vectors}, {"keys", kith_import_keys}, {"rdb", kith_import_rdb}};
    char name[] = "kith import vectors";
    for (size_t i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(argv[1], kinds[i].word) != 0)
            continue;
        snprintf(name, sizeof name, "kith import %s", argv[1]);
        argv[1] = name;
        return kinds[i].run(argc - 1, argv + 1, options);
    }
    /* The name alone tells what it is. */
    for (int i = 1; i < argc; i++) {
        if (!names_rdb(argv[i]))
            continue;
        snprintf(name, sizeof name, "kith import");
        argv[0] = name;
        return kith_import_rdb(argc, argv, options);
    }
    bool is_help = argc > 1 && strcmp(argv[1], "--help") == 0;
    fputs("Usage: kith import vectors FILE --into KEY [OPTION...]\n"
          "  or:  kith import keys FILE [OPTION...]\n"
          "  or:  kith import [rdb] FILE.rdb [OPTION...]\n"
          "Try 'kith import vectors --help', 'kith import keys --help' or 'kith import rdb --help'.\n",
          is_help ? stdout : stderr);
    return is_help ? KITH_EXIT_OK : KITH_EXIT_USAGE;
}

int kith_import_open(struct kith_import *import, const struct kith_options *options, const char *unit,
                     size_t pipeline, struct kith_error *error)
{
    *import = (struct kith_import){.unit = unit, .pipeline = pipeline};
    import->units = calloc(pipeline, sizeof *import->units);
    if (!import->units)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    return kith_client_open(&import->client, &options->client, error);
}

void kith_import_close(struct kith_import *import)
{
    kith_client_close(import->client);
    free(import->units);
    *import = (struct kith_import){0};
}

/* After a command was written to the output buffer. */
static int account(struct kith_import *import, struct kith_import_unit unit, struct kith_error *error)
{
    if (kith_client_get_out(import->client)->failed)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    kith_client_queued(import->client);
    import->units[import->sent++ % import->pipeline] = unit;
    if (kith_client_pending(import->client) >= import->pipeline)
        return kith_import_settle(import, import->pipeline / 2, error);
    return KITH_OK;
}

int kith_import_put_written(struct kith_import *import, size_t argc, struct kith_slice arguments,
                            struct kith_import_unit unit, struct kith_error *error)
{
    struct kith_buf *out = kith_client_get_out(import->client);
    kith_request_put_count(out, argc);
    kith_buf_append(out, arguments.data, arguments.length);
    return account(import, unit, error);
}

int kith_import_put(struct kith_import *import, const struct kith_slice *argv, size_t argc,
                    struct kith_import_unit unit, struct kith_error *error)
{
    kith_request_put(kith_client_get_out(import->client), argv, argc);
    return account(import, unit, error);
}

/* An error reply as a sentence that names the rows. */
static int refused(const struct kith_import *import, struct kith_import_unit unit,
                   const struct kith_value *reply, struct kith_error *error)
{
    if (unit.count > 1)
        return kith_error_set(error, KITH_EPERM, "%ss %llu to %llu: the server says: %s", import->unit,
                              (unsigned long long)unit.first,
                              (unsigned long long)(unit.first + unit.count - 1), reply->text.data);
    return kith_error_set(error, KITH_EPERM, "%s %llu: the server says: %s", import->unit,
                          (unsigned long long)unit.first, reply->text.data);
}

int kith_import_settle(struct kith_import *import, size_t pending_max, struct kith_error *error)
{
    int status = KITH_OK;
    while (!status && kith_client_pending(import->client) > pending_max) {
        struct kith_value reply;
        status = kith_client_reply(import->client, &reply, error);
        if (status)
            break;
        if (reply.type == KITH_VALUE_PUSH) {
            kith_value_fini(&reply);
            continue;
        }
        struct kith_import_unit unit = import->units[import->answered++ % import->pipeline];
        if (reply.type == KITH_VALUE_ERROR)
            status = refused(import, unit, &reply, error);
        else if (reply.type == KITH_VALUE_INT || reply.type == KITH_VALUE_BOOL)
            import->sum += (uint64_t)reply.integer;
        import->done += status ? 0 : unit.count;
        kith_value_fini(&reply);
    }
    return status;
}

void kith_import_summary(const struct kith_progress *progress, uint64_t rows, const char *what)
{
    char count[32], rate[32];
    double seconds = kith_progress_seconds(progress);
    printf("%s %s in %.2f s, %s/s\n", kith_progress_thousands(count, rows), what, seconds,
           kith_progress_thousands(rate, (uint64_t)((double)rows / (seconds > 1e-6 ? seconds : 1e-6) + 0.5)));
}

bool kith_import_parse_count(const char *text, unsigned long long min, unsigned long long max,
                             unsigned long long *out)
{
    unsigned long long value = 0;
    if (!*text || strlen(text) > 18)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned long long)(*text - '0');
    }
    if (value < min || value > max)
        return false;
    *out = value;
    return true;
}
