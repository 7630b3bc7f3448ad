/* Vector-set commands with hostile arguments. The input chooses commands, and their arguments from words that mean
 * something (options, numbers at and past every bound, vectors with NaN, names) or bytes of its own. Every reply must be
 * one whole value; in the end each set must be sound, and the keyspace the same after a save and a load. Somewhere on the
 * way a second engine loads what the first has saved, and applies the same writes from there on, as a node does that comes
 * late: it must answer the same, and have the same state in the end. */
#include "base/assert.h"
#include "base/status.h"
#include "engine/checkpoint.h"
#include "engine/engine.h"
#include "engine/keyspace.h"
#include "engine/vset.h"
#include "wire/value.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGUMENTS_MAX = 48, COMMANDS_MAX = 64, SPELLED_MAX = 1 << 12, KEYS = 3 };

static const char *const verbs[] = {"VADD",     "VADD",      "VADD", "VMADD",    "VMADD",   "VREM",
                                    "VSETATTR", "VSIM",      "VSIM", "VSIM",     "VSIM",    "VEMB",
                                    "VINFO",    "VCARD",     "VDIM", "VGETATTR", "VLINKS",  "VRANDMEMBER",
                                    "VRANGE",   "VISMEMBER", "DEL",  "VPAIRS",   "VRECALL", "COPY"};

static const char *const keys[KEYS] = {"k0", "k1", "k2"};

static const char *const words[] = {"a",
                                    "b",
                                    "c",
                                    "d",
                                    "",
                                    "FP32",
                                    "VALUES",
                                    "ELE",
                                    "QUERIES",
                                    "ELEMENTS",
                                    "REDUCE",
                                    "CAS",
                                    "NOQUANT",
                                    "Q8",
                                    "BIN",
                                    "F16",
                                    "BF16",
                                    "Q4",
                                    "KEEP",
                                    "F32",
                                    "RESIDUAL",
                                    "NONE",
                                    "METRIC",
                                    "COSINE",
                                    "IP",
                                    "L2",
                                    "LAYOUT",
                                    "COMPACT",
                                    "SPREAD",
                                    "EF",
                                    "M",
                                    "SETATTR",
                                    "WITHSCORES",
                                    "WITHDISTANCES",
                                    "WITHATTRIBS",
                                    "COUNT",
                                    "EPSILON",
                                    "FILTER",
                                    "FILTER-EF",
                                    "TRUTH",
                                    "NOTHREAD",
                                    "PROFILE",
                                    "MMR",
                                    "POOL",
                                    "RECALL",
                                    "SAMPLE",
                                    "TOP",
                                    "MINSCORE",
                                    "CURSOR",
                                    "RAW",
                                    "-",
                                    "+",
                                    "[a",
                                    "(b",
                                    "0",
                                    "1",
                                    "2",
                                    "3",
                                    "4",
                                    "5",
                                    "16",
                                    "-1",
                                    "64",
                                    "100",
                                    "1000",
                                    "4096",
                                    "65536",
                                    "65537",
                                    "1000000",
                                    "1000001",
                                    "1000000000",
                                    "4294967295",
                                    "4294967296",
                                    "9223372036854775807",
                                    "99999999999999999999",
                                    "0.5",
                                    "0.99",
                                    "1.5",
                                    "-0.5",
                                    "nan",
                                    "inf",
                                    "-inf",
                                    "1e39",
                                    "1e-300",
                                    "1e999",
                                    "0x10",
                                    ".x > 1",
                                    ".x > 1 and .y in [1, 2]",
                                    "not .x",
                                    "((((((",
                                    "1",
                                    "{\"x\":2,\"y\":1}",
                                    "{\"x\":",
                                    "{}"};

static const float components[] = {0,     1,      -1,    0.5f,   2, -3, 1e-30f, 1e-45f,
                                   1e19f, -1e19f, 3e38f, -3e38f, 0, 0,  1,      7};

struct input {
    const uint8_t *data;
    size_t length;
};

static unsigned next_byte(struct input *input)
{
    if (!input->length)
        return 0;
    input->length--;
    return *input->data++;
}

struct command {
    struct kith_slice argv[ARGUMENTS_MAX];
    size_t argc;
    char spelled[SPELLED_MAX]; /* what is not a constant */
    size_t used;
};

static void put(struct command *command, const char *bytes, size_t length)
{
    if (command->argc < ARGUMENTS_MAX)
        command->argv[command->argc++] = kith_slice(bytes, length);
}

static void put_word(struct command *command, const char *word)
{
    put(command, word, strlen(word));
}

static char *spell(struct command *command, size_t length)
{
    if (length > SPELLED_MAX - command->used)
        return NULL;
    command->used += length;
    return command->spelled + command->used - length;
}

/* A dimension of 1 to 8, mostly 3; NaN and infinity now and then. */
static void put_vector(struct command *command, struct input *input)
{
    unsigned choice = next_byte(input), dim = choice & 7 ? 3 : 1 + (choice >> 3) % 8;
    char *blob = spell(command, dim * sizeof(float));
    if (!blob)
        return;
    for (unsigned i = 0; i < dim; i++) {
        unsigned byte = next_byte(input);
        uint32_t bits = byte == 255 ? 0x7fc00000u : 0x7f800000u;
        if (byte >= 254)
            memcpy(blob + i * sizeof(float), &bits, sizeof bits);
        else
            memcpy(blob + i * sizeof(float), &components[byte % 16], sizeof(float));
    }
    put_word(command, "FP32");
    put(command, blob, dim * sizeof(float));
}

static void read_command(struct command *command, struct input *input)
{
    command->argc = command->used = 0;
    put_word(command, verbs[next_byte(input) % (sizeof verbs / sizeof *verbs)]);
    put_word(command, keys[next_byte(input) % KEYS]);
    while (input->length && command->argc < ARGUMENTS_MAX) {
        unsigned op = next_byte(input);
        if (op < 16)
            return;
        if (op < 80) {
            put_vector(command, input);
        } else if (op < 88) {
            size_t length = next_byte(input) % 64;
            char *bytes = spell(command, length);
            for (size_t i = 0; bytes && i < length; i++)
                bytes[i] = (char)next_byte(input);
            if (bytes)
                put(command, bytes, length);
        } else {
            put_word(
                command,
                words[(op - 88 + 256 * (op & 1) * (next_byte(input) & 1)) % (sizeof words / sizeof *words)]);
        }
    }
}

static struct kith_engine *open_engine(uint64_t seed)
{
    struct kith_engine *engine = NULL;
    struct kith_engine_options options = {.hash_seed = {seed, 1}};
    KITH_ASSERT(kith_engine_open(&engine, &options) == KITH_OK);
    return engine;
}

/* ---- running ---- */

static struct kith_reply *apply_to;

static void begin(void *context, size_t n, struct kith_session **session, struct kith_reply **reply)
{
    *session = context;
    *reply = apply_to;
}

static void apply(struct kith_engine *engine, struct kith_session *session, const struct command *command,
                  uint64_t n, struct kith_reply *reply)
{
    struct kith_buf payload;
    struct kith_apply_hooks hooks = {.context = session, .begin = begin};
    kith_buf_init(&payload);
    kith_entry_begin(&payload, 1000, n);
    kith_entry_append(&payload, 0, command->argv, command->argc);
    apply_to = reply;
    KITH_ASSERT(kith_engine_apply(engine, kith_buf_slice(&payload), &hooks) == KITH_OK);
    kith_buf_fini(&payload);
}

/* Whether it was a write. */
static bool run(struct kith_engine *engine, struct kith_session *session, const struct command *command,
                uint64_t n, struct kith_reply *reply)
{
    const struct kith_command *row = kith_engine_admit(engine, command->argv, command->argc, reply);
    if (!row)
        return false;
    if (row->flags & KITH_CMD_WRITE) {
        apply(engine, session, command, n, reply);
        return true;
    }
    struct kith_admitted request = {
        .session = session, .command = row, .argv = command->argv, .argc = command->argc};
    kith_engine_execute(engine, &request, 1000, reply, NULL);
    return false;
}

static void assert_one_value(const struct kith_buf *reply)
{
    struct kith_value_limits limits = KITH_VALUE_LIMITS_DEFAULT;
    struct kith_value_reader *reader = malloc(sizeof *reader);
    struct kith_value value = {0};
    size_t consumed = 0;
    KITH_ASSERT(reader && !reply->failed);
    kith_value_reader_init(reader, limits);
    KITH_ASSERT(kith_value_read(reader, reply->data, reply->length, &value, &consumed) == 1);
    KITH_ASSERT(consumed == reply->length);
    kith_value_fini(&value);
    kith_value_reader_fini(reader);
    free(reader);
}

static void assert_sets_are_sound(struct kith_engine *engine)
{
    struct kith_error error;
    struct kith_key key;
    for (int i = 0; i < KEYS; i++)
        if (kith_db_find(kith_engine_db(engine, 0), kith_slice(keys[i], 2), -1, &key)) {
            const struct kith_vset *vset = kith_key_object(&key);
            KITH_ASSERT(kith_vset_count(vset) > 0);
            KITH_ASSERT(kith_hnsw_settle(kith_vset_index(vset)) == KITH_OK);
            int status = kith_vset_check(vset, &error);
            if (status)
                fprintf(stderr, "%s\n", error.text);
            KITH_ASSERT(status == KITH_OK);
        }
}

static struct kith_engine *copy_of(struct kith_engine *engine)
{
    struct kith_error error;
    struct kith_buf stream;
    kith_buf_init(&stream);
    KITH_ASSERT(kith_engine_checkpoint_begin(engine) == KITH_OK);
    while (kith_engine_checkpoint_step(engine, &stream, 100) > 0)
        ;
    struct kith_engine *copy = open_engine(2);
    KITH_ASSERT(kith_engine_load(copy, kith_buf_slice(&stream), &error) == KITH_OK);
    KITH_ASSERT(kith_engine_load_finish(copy, &error) == KITH_OK);
    KITH_ASSERT(kith_engine_digest(copy) == kith_engine_digest(engine));
    kith_buf_fini(&stream);
    return copy;
}

struct fuzzed {
    struct kith_engine *engine;
    struct kith_session session;
    struct kith_buf out;
    struct kith_reply reply;
};

static void fuzzed_init(struct fuzzed *fuzzed, struct kith_engine *engine)
{
    fuzzed->engine = engine;
    kith_session_init(&fuzzed->session, 1);
    kith_buf_init(&fuzzed->out);
}

static void fuzzed_fini(struct fuzzed *fuzzed)
{
    kith_buf_fini(&fuzzed->out);
    kith_session_fini(&fuzzed->session);
    kith_engine_close(fuzzed->engine);
}

static void begin_reply(struct fuzzed *fuzzed, uint8_t protocol)
{
    kith_buf_clear(&fuzzed->out);
    kith_reply_init(&fuzzed->reply, &fuzzed->out, protocol);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct command *command = malloc(sizeof *command);
    struct fuzzed first, late = {0};
    KITH_ASSERT(command);
    fuzzed_init(&first, open_engine(1));
    unsigned choice = next_byte(&input);
    uint8_t protocol = 2 + choice % 2;
    for (unsigned n = 0; n < COMMANDS_MAX && input.length; n++) {
        if (n == choice / 2 % 32)
            fuzzed_init(&late, copy_of(first.engine));
        begin_reply(&first, protocol);
        read_command(command, &input);
        bool wrote = run(first.engine, &first.session, command, n + 1, &first.reply);
        assert_one_value(&first.out);
        if (!wrote || !late.engine)
            continue;
        begin_reply(&late, protocol);
        apply(late.engine, &late.session, command, n + 1, &late.reply);
        KITH_ASSERT(kith_slice_equal(kith_buf_slice(&late.out), kith_buf_slice(&first.out)));
    }
    assert_sets_are_sound(first.engine);
    if (!late.engine)
        fuzzed_init(&late, copy_of(first.engine));
    KITH_ASSERT(kith_engine_digest(late.engine) == kith_engine_digest(first.engine));
    assert_sets_are_sound(late.engine);
    fuzzed_fini(&late);
    fuzzed_fini(&first);
    free(command);
    return 0;
}
