/* kith import: chooses what is imported. */
#include "prog/kith_import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int kith_import_main(int argc, char **argv, struct kith_options *options)
{
    char name[] = "kith import vectors";
    if (argc > 1 && (strcmp(argv[1], "vectors") == 0 || strcmp(argv[1], "keys") == 0)) {
        snprintf(name, sizeof name, "kith import %s", argv[1]);
        bool is_vectors = strcmp(argv[1], "vectors") == 0;
        argv[1] = name;
        return is_vectors ? kith_import_vectors(argc - 1, argv + 1, options)
                          : kith_import_keys(argc - 1, argv + 1, options);
    }
    bool is_help = argc > 1 && strcmp(argv[1], "--help") == 0;
    fputs("Usage: kith import vectors FILE --into KEY [OPTION...]\n"
          "  or:  kith import keys FILE [OPTION...]\n"
          "Try 'kith import vectors --help' or 'kith import keys --help'.\n",
          is_help ? stdout : stderr);
    return is_help ? KITH_EXIT_OK : KITH_EXIT_USAGE;
}

int kith_import_open(struct kith_import *import, const struct kith_options *options, const char *unit,
                     size_t pipeline, struct kith_error *error)
{
    *import = (struct kith_import){.unit = unit, .pipeline = pipeline};
    import->numbers = calloc(pipeline, sizeof *import->numbers);
    if (!import->numbers)
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    return kith_client_open(&import->client, &options->client, error);
}

void kith_import_close(struct kith_import *import)
{
    kith_client_close(import->client);
    free(import->numbers);
    *import = (struct kith_import){0};
}

int kith_import_put(struct kith_import *import, const struct kith_slice *argv, size_t argc, uint64_t number,
                    struct kith_error *error)
{
    if (kith_client_put(import->client, argv, argc))
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    import->numbers[import->sent++ % import->pipeline] = number;
    if (kith_client_pending(import->client) >= import->pipeline)
        return kith_import_settle(import, import->pipeline / 2, error);
    return KITH_OK;
}

int kith_import_settle(struct kith_import *import, size_t pending_max, struct kith_error *error)
{
    int status = KITH_OK;
    while (!status && kith_client_pending(import->client) > pending_max) {
        struct kith_value reply;
        status = kith_client_reply(import->client, &reply, error);
        if (status)
            break;
        if (reply.type == KITH_VALUE_ERROR)
            status = kith_error_set(error, KITH_EPERM, "%s %llu: the server says: %s", import->unit,
                                    (unsigned long long)import->numbers[import->answered % import->pipeline],
                                    reply.text.data);
        else if (reply.type == KITH_VALUE_INT)
            import->sum += (uint64_t)reply.integer;
        import->answered += !status && reply.type != KITH_VALUE_PUSH;
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
