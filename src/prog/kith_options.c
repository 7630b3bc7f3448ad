/* Options and output shared by all kith commands. */
#include "prog/kith_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_USER = 256, KEY_JSON, KEY_RAW, KEY_NO_RAW, KEY_TIMEOUT };

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "The server:", 1},
    {"host", 'h', "HOST", 0, "name or address (127.0.0.1, or $KITH_HOST)", 1},
    {"port", 'p', "PORT", 0, "port (6379, or $KITH_PORT)", 1},
    {"socket", 's', "PATH", 0, "Unix socket instead ($KITH_SOCKET)", 1},
    {"pass", 'a', "PASSWORD", 0, "password; others on this machine can see it, $KITH_AUTH they cannot", 1},
    {"user", KEY_USER, "NAME", 0, "user name ($KITH_USER)", 1},
    {"db", 'n', "NUMBER", 0, "database number", 1},
    {"resp3", '3', NULL, 0, "speak RESP3: maps, sets and doubles are shown as such", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "give up connecting after (5)", 1},
    {NULL, 0, NULL, 0, "Replies:", 2},
    {"json", KEY_JSON, NULL, 0, "print each reply as one line of JSON (speaks RESP3)", 2},
    {"raw", KEY_RAW, NULL, 0, "print plain text also on a terminal", 2},
    {"no-raw", KEY_NO_RAW, NULL, 0, "print as on a terminal also into a pipe", 2},
    {0},
};

/* NULL for variables that are set to nothing. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

void kith_options_init(struct kith_options *options)
{
    const char *host = environment("KITH_HOST"), *port = environment("KITH_PORT"),
               *password = environment("KITH_AUTH");
    *options =
        (struct kith_options){.client = {.host = host ? host : "127.0.0.1",
                                         .port = port ? port : "6379",
                                         .socket_path = environment("KITH_SOCKET"),
                                         .user = environment("KITH_USER"),
                                         .password = password ? password : environment("REDISCLI_AUTH"),
                                         .protocol = 2}};
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct kith_options *options = state->input;
    switch (key) {
    case 'h':
        options->client.host = arg;
        break;
    case 'p':
        options->client.port = arg;
        break;
    case 's':
        options->client.socket_path = arg;
        break;
    case 'a':
        options->client.password = arg;
        break;
    case KEY_USER:
        options->client.user = arg;
        break;
    case 'n':
        options->client.database = arg;
        break;
    case '3':
        options->client.protocol = 3;
        break;
    case KEY_TIMEOUT: {
        double seconds = atof(arg);
        if (!(seconds > 0 && seconds <= 86400))
            argp_error(state, "--timeout '%s': a number of seconds from 0.001 to 86400", arg);
        options->client.timeout_ms = (unsigned)(seconds * 1000) + 1;
        break;
    }
    case KEY_JSON:
        options->output = KITH_OUTPUT_JSON;
        options->client.protocol = 3;
        break;
    case KEY_RAW:
        options->output = KITH_OUTPUT_RAW;
        break;
    case KEY_NO_RAW:
        options->output = KITH_OUTPUT_TERMINAL;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp kith_options_argp = {.options = option_table, .parser = parse_option};

bool kith_is_goodbye(struct kith_slice command, int status)
{
    return status == KITH_ECLOSED && kith_slice_is(command, "SHUTDOWN");
}

int kith_complain(const struct kith_error *error)
{
    fflush(stdout);
    fprintf(stderr, "kith: %s\n", error->text);
    return KITH_EXIT_FAILURE;
}

int kith_options_connect(const struct kith_options *options, struct kith_client **out)
{
    struct kith_error error;
    int status = kith_client_open(out, &options->client, &error);
    if (status)
        kith_complain(&error);
    return status;
}

bool kith_options_print(const struct kith_options *options, const struct kith_value *value)
{
    struct kith_buf text;
    kith_buf_init(&text);
    enum kith_output output = options->output;
    if (output == KITH_OUTPUT_AUTO)
        output = isatty(STDOUT_FILENO) ? KITH_OUTPUT_TERMINAL : KITH_OUTPUT_RAW;
    if (output == KITH_OUTPUT_JSON) {
        kith_value_print_json(value, &text);
        kith_buf_append_char(&text, '\n');
    } else if (output == KITH_OUTPUT_RAW) {
        kith_value_print_raw(value, &text);
    } else {
        kith_value_print(value, &text);
    }
    if (text.failed)
        fputs("kith: out of memory while printing a reply\n", stderr);
    else
        fwrite(text.data, 1, text.length, stdout);
    kith_buf_fini(&text);
    return value->type == KITH_VALUE_ERROR;
}
