/* kith, the command-line tool: finds out which command is meant and hands over. Without one it is a client: for the
 * arguments as one command, for standard input, or interactive. */
#include "prog/kith_options.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *argp_program_version = "kith " KITH_VERSION;

static const char doc[] =
    "Client and tools for Kith.\v"
    "Without a command, kith is an interactive client; with standard input from a pipe it carries out one "
    "command a "
    "line; and words that are none of the commands below are sent to the server as they are:\n\n"
    "  kith SET greeting hello\n"
    "  kith VSIM docs ELE a COUNT 5 --json\n\n"
    "Commands:\n"
    "  kith import vectors FILE --into KEY    load u8bin, i8bin, fbin, fvecs, npy (and .gz)\n"
    "  kith import keys FILE                  load csv or jsonl\n"
    "  kith import FILE.rdb                   load the keys of a Redis or Valkey server\n"
    "  kith recall KEY --queries F            measure answers against exact ones\n"
    "  kith bench vectors KEY --queries F     the same over several connections, beside another server\n"
    "  kith check DIR                         verify a data folder\n"
    "  kith backup FILE|FOLDER                copy a running server's data\n"
    "  kith restore BACKUP FOLDER             make a data folder of a copy\n"
    "  kith recover FOLDER NEW-FOLDER         after a majority was lost: a new group of a survivor\n"
    "  kith cluster [status|add|remove|...]   show and change a group of nodes\n\n"
    "Each has its own --help. Exit codes: 0 all well, 1 an error reply or failure, 2 wrong usage.";

struct arguments {
    struct kith_options *options;
    int next;       /* of the first word that is no option */
    bool read_last; /* -x */
};

static const struct argp_option option_table[] = {
    {"stdin-argument", 'x', NULL, 0, "the last argument is read from standard input", 2},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = arguments->options;
        return 0;
    case 'x':
        arguments->read_last = true;
        return 0;
    case ARGP_KEY_ARG:
        /* From here on the words belong to the command. */
        arguments->next = state->next - 1;
        state->next = state->argc;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&kith_options_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {option_table, parse_option, "[COMMAND [ARGUMENT...]]", doc, children,
                                 NULL,         NULL};

static int read_standard_input(struct kith_buf *buf)
{
    for (;;) {
        char *room = kith_buf_reserve(buf, 65536);
        if (!room)
            return KITH_ENOMEM;
        ssize_t got = read(STDIN_FILENO, room, 65536);
        if (got <= 0)
            return got < 0 ? KITH_EIO : KITH_OK;
        buf->length += (size_t)got;
    }
}

/* Commands after which the server goes on talking. */
static bool is_endless(struct kith_slice name)
{
    return kith_slice_is(name, "MONITOR") || kith_slice_is(name, "SUBSCRIBE") ||
           kith_slice_is(name, "PSUBSCRIBE") || kith_slice_is(name, "SSUBSCRIBE");
}

static int run_once(const struct kith_options *options, const struct kith_slice *argv, size_t argc)
{
    struct kith_client *client;
    struct kith_value reply;
    struct kith_error error;
    bool is_error = false;
    if (kith_options_connect(options, &client))
        return KITH_EXIT_FAILURE;
    int status = kith_client_call(client, argv, argc, &reply, &error);
    while (!status) {
        is_error = kith_options_print(options, &reply);
        kith_value_fini(&reply);
        if (!is_endless(argv[0]) || is_error)
            break;
        fflush(stdout);
        status = kith_client_reply(client, &reply, &error);
    }
    kith_client_close(client);
    if (kith_is_goodbye(argv[0], status))
        return KITH_EXIT_OK;
    if (status)
        return kith_complain(&error);
    return is_error ? KITH_EXIT_FAILURE : KITH_EXIT_OK;
}

/* Options that follow the words ("kith GET k --json") count only when they are ours and long: words of commands do not
 * start with "--". */
static int take_trailing_options(int argc, char **argv, struct kith_options *options)
{
    while (argc > 1) {
        const char *last = argv[argc - 1];
        if (strcmp(last, "--json") == 0) {
            options->output = KITH_OUTPUT_JSON;
            options->client.protocol = 3;
        } else if (strcmp(last, "--raw") == 0) {
            options->output = KITH_OUTPUT_RAW;
        } else if (strcmp(last, "--no-raw") == 0) {
            options->output = KITH_OUTPUT_TERMINAL;
        } else {
            break;
        }
        argc--;
    }
    return argc;
}

static int send_words(int argc, char **argv, struct kith_options *options, bool read_last)
{
    struct kith_slice *slices = calloc((size_t)argc + 1, sizeof *slices);
    struct kith_buf last;
    int code = KITH_EXIT_FAILURE;
    kith_buf_init(&last);
    if (!read_last)
        argc = take_trailing_options(argc, argv, options);
    for (int i = 0; slices && i < argc; i++)
        slices[i] = kith_slice(argv[i], strlen(argv[i]));
    if (slices && read_last && read_standard_input(&last))
        fputs("kith: cannot read standard input\n", stderr);
    else if (slices) {
        slices[argc] = kith_buf_slice(&last);
        code = run_once(options, slices, (size_t)argc + read_last);
    }
    kith_buf_fini(&last);
    free(slices);
    return code;
}

int main(int argc, char **argv)
{
    struct kith_options options;
    struct arguments arguments = {.options = &options};
    setlocale(LC_CTYPE, "");
    argp_err_exit_status = KITH_EXIT_USAGE;
    kith_options_init(&options);
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &arguments))
        return KITH_EXIT_USAGE;
#ifdef KITH_HAVE_EDIT
    if (!arguments.next && isatty(STDIN_FILENO))
        return kith_shell_main(&options);
#endif
    if (!arguments.next)
        return kith_pipe_main(&options);

    argc -= arguments.next;
    argv += arguments.next;
    if (strcmp(argv[0], "import") == 0)
        return kith_import_main(argc, argv, &options);
    if (strcmp(argv[0], "recall") == 0)
        return kith_recall_main(argc, argv, &options);
    if (strcmp(argv[0], "bench") == 0)
        return kith_bench_main(argc, argv, &options);
    if (strcmp(argv[0], "check") == 0)
        return kith_check_main(argc, argv, &options);
    if (strcmp(argv[0], "backup") == 0)
        return kith_backup_main(argc, argv, &options);
    if (strcmp(argv[0], "restore") == 0)
        return kith_restore_main(argc, argv, &options);
    if (strcmp(argv[0], "recover") == 0)
        return kith_recover_main(argc, argv, &options);
    if (strcmp(argv[0], "cluster") == 0)
        return kith_cluster_main(argc, argv, &options);
    return send_words(argc, argv, &options, arguments.read_last);
}
