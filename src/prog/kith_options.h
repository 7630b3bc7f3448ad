/* What every kith command shares: how the server is reached and how replies are printed. */
#ifndef KITH_PROG_KITH_OPTIONS_H
#define KITH_PROG_KITH_OPTIONS_H

#include "prog/client.h"

#include <argp.h>

enum kith_output {
    KITH_OUTPUT_AUTO, /* numbered and quoted on a terminal, plain into a pipe */
    KITH_OUTPUT_RAW,
    KITH_OUTPUT_TERMINAL,
    KITH_OUTPUT_JSON,
};

struct kith_options {
    struct kith_client_options client;
    enum kith_output output;
};

/* Exit codes of kith. */
enum {
    KITH_EXIT_OK = 0,
    KITH_EXIT_FAILURE = 1, /* the server answered with an error, or cannot be reached, or a file is bad */
    KITH_EXIT_USAGE = 2,
};

/* Options of this machine's environment: KITH_HOST, KITH_PORT, KITH_SOCKET, KITH_USER, KITH_AUTH (or REDISCLI_AUTH). */
void kith_options_init(struct kith_options *options);

/* The shared options, for use as an argp child; its input is a struct kith_options. */
extern const struct argp kith_options_argp;

/* Connects, or prints why not. */
int kith_options_connect(const struct kith_options *options, struct kith_client **out);

/* Prints one reply to standard output in the chosen form. Returns whether it is an error. */
bool kith_options_print(const struct kith_options *options, const struct kith_value *value);

/* The commands. argv[0] is the command's name for messages; they return an exit code. */
int kith_import_main(int argc, char **argv, struct kith_options *options);
int kith_recall_main(int argc, char **argv, struct kith_options *options);
int kith_bench_main(int argc, char **argv, struct kith_options *options);
int kith_cluster_main(int argc, char **argv, struct kith_options *options);
int kith_backup_main(int argc, char **argv, struct kith_options *options);
int kith_restore_main(int argc, char **argv, struct kith_options *options);
int kith_recover_main(int argc, char **argv, struct kith_options *options);
int kith_check_main(int argc, char **argv, struct kith_options *options);
/* Commands from standard input, one a line. */
int kith_pipe_main(struct kith_options *options);
/* The interactive client. */
int kith_shell_main(struct kith_options *options);

/* Whether a command that got `status` instead of a reply was carried out: SHUTDOWN's answer is the end of the
 * connection. */
bool kith_is_goodbye(struct kith_slice command, int status);

/* "kith: " and the error's text, to standard error. Returns KITH_EXIT_FAILURE. */
int kith_complain(const struct kith_error *error);

#endif
