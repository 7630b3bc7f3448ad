/* Entries of the log. The input is tried as a payload as it stands, which must be refused or applied whole; and then as
 * lines of commands, which go through entries into two engines of different seeds while one of them is being
 * saved: the two, and what was saved at the start, must come out equal. */
#include "base/assert.h"
#include "base/status.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"

#include <ctype.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGUMENTS_MAX = 32, LINES_MAX = 200 };

static struct kith_engine *open_engine(uint64_t seed)
{
    struct kith_engine *engine = NULL;
    struct kith_engine_options options = {.database_count = 2, .hash_seed = {seed, 1}};
    KITH_ASSERT(kith_engine_open(&engine, &options) == KITH_OK);
    return engine;
}

static void apply_raw(struct kith_slice payload)
{
    struct kith_engine *engine = open_engine(1);
    uint64_t before = kith_engine_digest(engine);
    if (kith_engine_apply(engine, payload, NULL) != KITH_OK)
        KITH_ASSERT(kith_engine_digest(engine) == before);
    kith_engine_close(engine);
}

/* Words of one line. None when a number is so large that the command could ask for hundreds of megabytes. */
static size_t split(struct kith_slice line, struct kith_slice argv[ARGUMENTS_MAX])
{
    size_t argc = 0, digits = 0;
    for (size_t at = 0; at < line.length && argc < ARGUMENTS_MAX;) {
        size_t start = at;
        while (at < line.length && line.data[at] != ' ') {
            digits = isdigit((unsigned char)line.data[at]) ? digits + 1 : 0;
            if (digits > 5)
                return 0;
            at++;
        }
        argv[argc++] = kith_slice(line.data + start, at - start);
        at++;
        digits = 0;
    }
    return argc;
}

struct pair {
    struct kith_engine *one, *two;
    struct kith_session session;
    struct kith_buf replies, payload, saved;
    int64_t now_ms;
    uint64_t seed;
    bool saving;
};

static void write_both(struct pair *pair, const struct kith_slice *argv, size_t argc)
{
    kith_buf_clear(&pair->payload);
    kith_entry_begin(&pair->payload, pair->now_ms, pair->seed++);
    if (argc)
        kith_entry_append(&pair->payload, pair->session.db_index, argv, argc);
    struct kith_slice payload = kith_buf_slice(&pair->payload);
    KITH_ASSERT(kith_engine_apply(pair->one, payload, NULL) == KITH_OK);
    KITH_ASSERT(kith_engine_apply(pair->two, payload, NULL) == KITH_OK);
}

static void run_line(struct pair *pair, struct kith_slice line)
{
    struct kith_slice argv[ARGUMENTS_MAX];
    struct kith_reply reply;
    size_t argc = split(line, argv);
    kith_buf_clear(&pair->replies);
    kith_reply_init(&reply, &pair->replies, pair->session.protocol);
    const struct kith_command *command = argc ? kith_engine_admit(pair->one, argv, argc, &reply) : NULL;
    pair->now_ms += (int64_t)line.length;
    if (!command) {
        write_both(pair, NULL, 0);
    } else if (command->flags & KITH_CMD_WRITE) {
        write_both(pair, argv, argc);
    } else {
        struct kith_admitted admitted = {
            .session = &pair->session, .command = command, .argv = argv, .argc = argc};
        kith_engine_execute(pair->one, &admitted, pair->now_ms, &reply, NULL);
    }
    if (pair->saving)
        pair->saving = kith_engine_checkpoint_step(pair->one, &pair->saved, 64) > 0;
}

static void check_saved(struct pair *pair, uint64_t digest)
{
    while (pair->saving)
        pair->saving = kith_engine_checkpoint_step(pair->one, &pair->saved, 1024) > 0;
    struct kith_engine *loaded = open_engine(3);
    KITH_ASSERT(kith_engine_load(loaded, kith_buf_slice(&pair->saved), NULL) == KITH_OK);
    KITH_ASSERT(kith_engine_load_finish(loaded, NULL) == KITH_OK);
    KITH_ASSERT(kith_engine_digest(loaded) == digest);
    kith_engine_close(loaded);
}

static void run_lines(struct kith_slice text)
{
    struct pair pair = {.one = open_engine(1), .two = open_engine(2), .now_ms = 1000};
    uint64_t digest_at_start = 0;
    size_t lines = 0;
    kith_session_init(&pair.session, 1);
    while (text.length && lines < LINES_MAX) {
        const char *end = memchr(text.data, '\n', text.length);
        size_t length = end ? (size_t)(end - text.data) : text.length;
        if (lines++ == 8) {
            digest_at_start = kith_engine_digest(pair.one);
            pair.saving = kith_engine_checkpoint_begin(pair.one) == KITH_OK;
        }
        run_line(&pair, kith_slice(text.data, length));
        length += end != NULL;
        text = kith_slice(text.data + length, text.length - length);
    }
    KITH_ASSERT(kith_engine_digest(pair.one) == kith_engine_digest(pair.two));
    if (lines > 8)
        check_saved(&pair, digest_at_start);
    kith_engine_close(pair.one);
    kith_engine_close(pair.two);
    kith_buf_fini(&pair.replies);
    kith_buf_fini(&pair.payload);
    kith_buf_fini(&pair.saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apply_raw(kith_slice(data, size));
    run_lines(kith_slice(data, size));
    return 0;
}
