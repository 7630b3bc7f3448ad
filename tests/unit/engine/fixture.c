#include "fixture.h"

#include "base/status.h"
#include "base/varint.h"

bool fixture_open(struct fixture *fixture, uint64_t hash_seed)
{
    struct kith_engine_options options = {.hash_seed = {hash_seed, ~hash_seed}, .read_seed = hash_seed};
    *fixture = (struct fixture){.now_ms = 1000000};
    kith_session_init(&fixture->session, 1);
    kith_buf_init(&fixture->reply);
    return kith_engine_open(&fixture->engine, &options) == KITH_OK;
}

void fixture_close(struct fixture *fixture)
{
    kith_engine_close(fixture->engine);
    kith_session_fini(&fixture->session);
    kith_buf_fini(&fixture->reply);
}

struct capture {
    struct fixture *fixture;
    struct kith_reply *reply;
};

static void begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    struct capture *capture = context;
    *session = &capture->fixture->session;
    *reply = capture->reply;
}

static int apply(struct fixture *fixture, const struct kith_slice *argv, size_t argc,
                 struct kith_reply *reply)
{
    struct kith_buf payload;
    kith_buf_init(&payload);
    kith_entry_begin(&payload, fixture->now_ms, ++fixture->seed);
    if (argc)
        kith_entry_append(&payload, fixture->session.db_index, argv, argc);
    struct capture capture = {fixture, reply};
    struct kith_apply_hooks hooks = {.context = &capture, .begin = begin};
    int status =
        payload.failed ? KITH_ENOMEM : kith_engine_apply(fixture->engine, kith_buf_slice(&payload), &hooks);
    if (status == KITH_OK && fixture->log)
        kith_buf_append_slice(fixture->log, kith_buf_slice(&payload));
    kith_buf_fini(&payload);
    return status;
}

const char *fixture_run(struct fixture *fixture, const struct kith_slice *argv, size_t argc)
{
    struct kith_reply reply;
    kith_buf_clear(&fixture->reply);
    kith_reply_init(&reply, &fixture->reply, fixture->session.protocol);
    const struct kith_command *command = kith_engine_admit(fixture->engine, argv, argc, &reply);
    int status = KITH_OK;
    if (command && command->flags & KITH_CMD_WRITE) {
        status = apply(fixture, argv, argc, &reply);
    } else if (command) {
        struct kith_admitted request = {
            .session = &fixture->session, .command = command, .argv = argv, .argc = argc};
        kith_engine_execute(fixture->engine, &request, fixture->now_ms, &reply, NULL);
    }
    kith_buf_append_char(&fixture->reply, '\0');
    return status || fixture->reply.failed ? NULL : fixture->reply.data;
}

const char *fixture_do(struct fixture *fixture, const char *line)
{
    struct kith_slice argv[64];
    size_t argc = 0;
    while (*line && argc < 64) {
        char end = ' ';
        if (*line == '\'') {
            end = '\'';
            line++;
        }
        size_t length = 0;
        while (line[length] && line[length] != end)
            length++;
        argv[argc++] = kith_slice(line, length);
        line += length + (line[length] == end);
        if (end == '\'' && *line == ' ')
            line++;
    }
    return fixture_run(fixture, argv, argc);
}

int fixture_tick(struct fixture *fixture)
{
    return apply(fixture, NULL, 0, NULL);
}

int fixture_save(struct kith_engine *from, struct kith_buf *out, size_t budget_bytes)
{
    int status = kith_engine_checkpoint_begin(from);
    if (status)
        return status;
    do
        status = kith_engine_checkpoint_step(from, out, budget_bytes);
    while (status > 0);
    return status;
}

int fixture_load(struct kith_engine *to, struct kith_slice stream, size_t piece, struct kith_error *error)
{
    for (size_t at = 0; at < stream.length; at += piece) {
        size_t length = stream.length - at < piece ? stream.length - at : piece;
        int status = kith_engine_load(to, kith_slice(stream.data + at, length), error);
        if (status)
            return status;
    }
    return kith_engine_load_finish(to, error);
}
