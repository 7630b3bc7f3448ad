/* Commands from standard input, one a line, quoted as in the interactive client. Lines that are there together go out
 * together; a line that comes alone is answered at once, so that a program may talk through two pipes. */
#include "prog/kith_options.h"
#include "wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PIPELINE_MAX = 256,
    READ_AT_ONCE = 65536,
    GOODBYE = 1, /* a status: the server has ended, as it was asked to */
};

struct pipe {
    struct kith_options *options;
    struct kith_client *client;
    struct kith_buf input, words;
    struct kith_slice *slices;
    size_t slice_capacity;
    unsigned long line_number;
    bool ends_server; /* the last command that was queued is SHUTDOWN */
    int code;
};

/* Prints the replies of all that was sent. GOODBYE when the last of them is the server's end. */
static int drain(struct pipe *pipe, struct kith_error *error)
{
    int status = KITH_OK;
    while (!status && kith_client_pending(pipe->client)) {
        struct kith_value reply;
        status = kith_client_reply(pipe->client, &reply, error);
        if (!status) {
            if (kith_options_print(pipe->options, &reply))
                pipe->code = KITH_EXIT_FAILURE;
            kith_value_fini(&reply);
        }
    }
    fflush(stdout);
    bool is_last = pipe->ends_server && kith_client_pending(pipe->client) == 1;
    return is_last && kith_is_goodbye(KITH_SLICE("SHUTDOWN"), status) ? GOODBYE : status;
}

/* Queues one line. Empty lines and lines that start with '#' are passed over. */
static int put_line(struct pipe *pipe, struct kith_slice line, struct kith_error *error)
{
    size_t count = 0;
    pipe->line_number++;
    kith_buf_clear(&pipe->words);
    if (line.length && line.data[0] == '#')
        return KITH_OK;
    int status = kith_request_split_line(line, &pipe->words, &pipe->slices, &count, &pipe->slice_capacity);
    if (status == KITH_EINVAL) {
        /* What came before it is answered first. */
        status = drain(pipe, error);
        if (!status)
            fprintf(stderr, "kith: line %lu: a quote is not closed, or a word goes on behind one\n",
                    pipe->line_number);
        pipe->code = KITH_EXIT_FAILURE;
        return status;
    }
    if (!status && count) {
        pipe->ends_server = kith_slice_is(pipe->slices[0], "SHUTDOWN");
        status = kith_client_put(pipe->client, pipe->slices, count);
    }
    if (status)
        return kith_error_set(error, status, "out of memory");
    return kith_client_pending(pipe->client) >= PIPELINE_MAX ? drain(pipe, error) : KITH_OK;
}

/* Queues the whole lines of the input. */
static int put_lines(struct pipe *pipe, struct kith_error *error)
{
    size_t start = 0;
    int status = KITH_OK;
    while (!status) {
        const char *at = pipe->input.data + start;
        const char *newline = memchr(at, '\n', pipe->input.length - start);
        if (!newline)
            break;
        status = put_line(pipe, kith_slice(at, (size_t)(newline - at)), error);
        start += (size_t)(newline - at) + 1;
    }
    kith_buf_consume(&pipe->input, start);
    return status;
}

static int run(struct pipe *pipe, struct kith_error *error)
{
    for (;;) {
        char *room = kith_buf_reserve(&pipe->input, READ_AT_ONCE);
        if (!room)
            return kith_error_set(error, KITH_ENOMEM, "out of memory");
        ssize_t got = read(STDIN_FILENO, room, READ_AT_ONCE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return kith_error_set(error, KITH_EIO, "standard input: %s", strerror(errno));
        /* The end of the input ends its last line. */
        if (got == 0 && pipe->input.length)
            *room = '\n';
        pipe->input.length += got ? (size_t)got : pipe->input.length > 0;
        int status = pipe->input.length ? put_lines(pipe, error) : KITH_OK;
        if (!status)
            status = drain(pipe, error);
        if (status || got == 0)
            return status;
    }
}

int kith_pipe_main(struct kith_options *options)
{
    struct pipe pipe = {.options = options};
    struct kith_error error;
    if (kith_options_connect(options, &pipe.client))
        return KITH_EXIT_FAILURE;
    int status = run(&pipe, &error);
    if (status < 0)
        pipe.code = kith_complain(&error);
    kith_client_close(pipe.client);
    kith_buf_fini(&pipe.input);
    kith_buf_fini(&pipe.words);
    free(pipe.slices);
    return pipe.code;
}
