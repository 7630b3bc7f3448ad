/* Where the keys are that are written by commands of Redis and Valkey which Kith has not got. Most write their first
 * argument; this lists the others. A command that is not even here is taken to write its first argument, too: it is
 * better to name one key too many. */
#include "net/follow_internal.h"

struct place {
    const char *name;
    int first, last, step; /* arguments; last negative: from the end; first 0: no keys */
};

static const struct place places[] = {
    {"publish", 0, 0, 0},    {"spublish", 0, 0, 0},
    {"script", 0, 0, 0},     {"function", 0, 0, 0},
    {"eval", 0, 0, 0}, /* counted, below */
    {"evalsha", 0, 0, 0},    {"fcall", 0, 0, 0},
    {"acl", 0, 0, 0},        {"rpoplpush", 1, 2, 1},
    {"brpoplpush", 1, 2, 1}, {"lmove", 1, 2, 1},
    {"blmove", 1, 2, 1},     {"smove", 1, 2, 1},
    {"blpop", 1, -2, 1},     {"brpop", 1, -2, 1},
    {"del", 1, -1, 1},       {"unlink", 1, -1, 1},
    {"mset", 1, -1, 2},      {"msetnx", 1, -1, 2},
    {"bitop", 2, 2, 1},      {"xgroup", 2, 2, 1},
    {"rename", 1, 2, 1},     {"renamenx", 1, 2, 1},
    {"copy", 2, 2, 1},       {"sort", 0, 0, 0}, /* STORE, below */
    {"georadius", 0, 0, 0},  {"georadiusbymember", 0, 0, 0},
};

static const struct place *find(struct kith_slice name)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (kith_slice_is(name, places[i].name))
            return &places[i];
    return NULL;
}

static size_t counted(const struct kith_slice *argv, size_t argc, size_t keys[FOLLOW_KEYS_MAX])
{
    size_t count = 0, wanted = 0;
    for (size_t i = 0; argc > 2 && i < argv[2].length && i < 4; i++)
        wanted = wanted * 10 + (size_t)(argv[2].data[i] - '0');
    for (size_t i = 3; i < argc && count < wanted && count < FOLLOW_KEYS_MAX; i++)
        keys[count++] = i;
    return count;
}

static size_t stored(const struct kith_slice *argv, size_t argc, size_t keys[FOLLOW_KEYS_MAX])
{
    for (size_t i = 2; i + 1 < argc; i++)
        if (kith_slice_is(argv[i], "STORE") || kith_slice_is(argv[i], "STOREDIST")) {
            keys[0] = i + 1;
            return 1;
        }
    return 0;
}

size_t follow_foreign_keys(const struct kith_slice *argv, size_t argc, size_t keys[FOLLOW_KEYS_MAX])
{
    const struct place *place = find(argv[0]);
    size_t count = 0;
    if (!place) {
        keys[0] = 1;
        return argc > 1;
    }
    if (kith_slice_is(argv[0], "eval") || kith_slice_is(argv[0], "evalsha") ||
        kith_slice_is(argv[0], "fcall"))
        return counted(argv, argc, keys);
    if (place->first == 0)
        return stored(argv, argc, keys);
    int64_t last = place->last < 0 ? (int64_t)argc + place->last : place->last;
    for (int64_t at = place->first; at <= last && at < (int64_t)argc && count < FOLLOW_KEYS_MAX;
         at += place->step)
        keys[count++] = (size_t)at;
    return count;
}
