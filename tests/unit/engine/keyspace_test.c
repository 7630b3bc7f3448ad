/* Keys against a plain array: values, times, and the promise that replicas stay equal. */
#include "fixture.h"

#include "base/random.h"
#include "base/status.h"
#include "base/varint.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants those first */
#include <cmocka.h>

enum { KEYS = 300, VALUE_MAX = 900 };

struct model_key {
    char value[VALUE_MAX];
    size_t length;
    int64_t expiry_ms; /* -1: none */
    bool exists;
};

struct model {
    struct fixture fixture;
    struct model_key keys[KEYS];
    struct kith_rng rng;
};

static bool live(const struct model *model, size_t i)
{
    const struct model_key *key = &model->keys[i];
    return key->exists && (key->expiry_ms < 0 || key->expiry_ms > model->fixture.now_ms);
}

static const char *run(struct model *model, const char *name, size_t key, struct kith_slice a,
                       struct kith_slice b)
{
    char key_name[32];
    int length = snprintf(key_name, sizeof key_name, "%zu:key", key);
    struct kith_slice argv[] = {kith_slice(name, strlen(name)), kith_slice(key_name, (size_t)length), a, b};
    size_t argc = a.data ? b.data ? 4 : 3 : 2;
    const char *reply = fixture_run(&model->fixture, argv, argc);
    assert_non_null(reply);
    return reply;
}

static struct kith_slice random_value(struct model *model, char *bytes)
{
    size_t length = kith_rng_below(&model->rng, kith_rng_below(&model->rng, 4) ? 60 : VALUE_MAX / 2);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)kith_rng_next(&model->rng);
    return kith_slice(bytes, length);
}

static void put(struct model_key *key, struct kith_slice value, int64_t expiry_ms)
{
    memcpy(key->value, value.data, value.length);
    key->length = value.length;
    key->expiry_ms = expiry_ms;
    key->exists = true;
}

static struct kith_slice number(char text[24], int64_t value)
{
    return kith_slice(text, (size_t)snprintf(text, 24, "%lld", (long long)value));
}

static void check_get(struct model *model, size_t i)
{
    const struct model_key *key = &model->keys[i];
    const char *reply = run(model, "get", i, kith_slice(NULL, 0), kith_slice(NULL, 0));
    if (!live(model, i)) {
        assert_string_equal(reply, "$-1\r\n");
        return;
    }
    char header[32];
    int length = snprintf(header, sizeof header, "$%zu\r\n", key->length);
    assert_memory_equal(reply, header, (size_t)length);
    assert_memory_equal(reply + length, key->value, key->length);
    reply = run(model, "pexpiretime", i, kith_slice(NULL, 0), kith_slice(NULL, 0));
    assert_int_equal(strtoll(reply + 1, NULL, 10), key->expiry_ms);
}

static void rename_key(struct model *model, size_t from, size_t to)
{
    char name[32];
    int length = snprintf(name, sizeof name, "%zu:key", to);
    bool exists = live(model, from);
    const char *reply = run(model, "rename", from, kith_slice(name, (size_t)length), kith_slice(NULL, 0));
    assert_string_equal(reply, exists ? "+OK\r\n" : "-ERR no such key\r\n");
    if (!exists || from == to)
        return;
    model->keys[to] = model->keys[from];
    model->keys[from].exists = false;
}

static void append(struct model *model, size_t i, struct kith_slice value)
{
    struct model_key *key = &model->keys[i];
    if (!live(model, i))
        *key = (struct model_key){.exists = true, .expiry_ms = -1};
    else if (key->length + value.length > VALUE_MAX)
        return;
    run(model, "append", i, value, kith_slice(NULL, 0));
    memcpy(key->value + key->length, value.data, value.length);
    key->length += value.length;
}

static void step(struct model *model)
{
    char bytes[VALUE_MAX], text[24];
    size_t i = kith_rng_below(&model->rng, KEYS);
    struct model_key *key = &model->keys[i];
    struct kith_slice none = kith_slice(NULL, 0), value = random_value(model, bytes);
    int64_t ttl = 1 + (int64_t)kith_rng_below(&model->rng, 500), now = model->fixture.now_ms;
    bool was_live = live(model, i);
    switch (kith_rng_below(&model->rng, 12)) {
    case 0:
    case 1:
    case 2:
        run(model, "set", i, value, none);
        put(key, value, -1);
        break;
    case 3:
        run(model, "psetex", i, number(text, ttl), value);
        put(key, value, now + ttl);
        break;
    case 4:
        run(model, "del", i, none, none);
        key->exists = false;
        break;
    case 5:
        run(model, "pexpire", i, number(text, ttl), none);
        if (was_live)
            key->expiry_ms = now + ttl;
        break;
    case 6:
        run(model, "persist", i, none, none);
        if (was_live)
            key->expiry_ms = -1;
        break;
    case 7:
        rename_key(model, i, kith_rng_below(&model->rng, KEYS));
        break;
    case 8:
        if (value.length)
            append(model, i, value);
        break;
    case 9:
        run(model, "set", i, value, KITH_SLICE("keepttl"));
        put(key, value, was_live ? key->expiry_ms : -1);
        break;
    default:
        check_get(model, i);
    }
    model->fixture.now_ms += (int64_t)kith_rng_below(&model->rng, 3);
}

static void keys_behave_like_an_array_with_times(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        memset(model->keys, 0, sizeof model->keys);
        kith_rng_seed(&model->rng, seed);
        assert_true(fixture_open(&model->fixture, seed));
        for (int n = 0; n < 20000; n++)
            step(model);
        size_t expected = 0;
        for (size_t i = 0; i < KEYS; i++) {
            check_get(model, i);
            expected += live(model, i);
        }
        while (kith_engine_next_expiry_ms(model->fixture.engine) >= 0 &&
               kith_engine_next_expiry_ms(model->fixture.engine) <= model->fixture.now_ms)
            assert_int_equal(fixture_tick(&model->fixture), KITH_OK);
        assert_int_equal(kith_db_count(kith_engine_db(model->fixture.engine, 0)), expected);
        fixture_close(&model->fixture);
    }
    free(model);
}

static void time_takes_keys_away_without_anyone_touching_them(void **state)
{
    struct fixture fixture;
    char line[64];
    assert_true(fixture_open(&fixture, 1));
    struct kith_db *db = kith_engine_db(fixture.engine, 0);
    for (int i = 0; i < 3000; i++) {
        snprintf(line, sizeof line, "set k%d v px %d", i, 1000 + i % 100);
        fixture_do(&fixture, line);
    }
    assert_true(kith_engine_next_expiry_ms(fixture.engine) == fixture.now_ms + 1000);
    fixture.now_ms += 999;
    assert_int_equal(fixture_tick(&fixture), KITH_OK);
    assert_int_equal(kith_db_count(db), 3000);
    assert_string_equal(fixture_do(&fixture, "pttl k0"), ":1\r\n");
    fixture.now_ms += 1;
    assert_string_equal(fixture_do(&fixture, "get k0"), "$-1\r\n");
    assert_string_equal(fixture_do(&fixture, "get k1"), "$1\r\nv\r\n");
    assert_int_equal(kith_db_count(db), 3000); /* a read changes nothing */
    fixture.now_ms += 200;
    int ticks = 0;
    while (kith_engine_next_expiry_ms(fixture.engine) >= 0) {
        assert_int_equal(fixture_tick(&fixture), KITH_OK);
        ticks++;
    }
    assert_true(ticks > 1); /* no single entry takes them all */
    assert_int_equal(kith_db_count(db), 0);
    fixture_close(&fixture);
}

static void time_never_runs_backwards(void **state)
{
    struct fixture fixture;
    assert_true(fixture_open(&fixture, 1));
    fixture_do(&fixture, "set k v px 1000");
    fixture.now_ms += 2000;
    assert_int_equal(fixture_tick(&fixture), KITH_OK);
    fixture.now_ms -= 2000;
    fixture_do(&fixture, "set l v px 500");
    assert_string_equal(fixture_do(&fixture, "pexpiretime l"), ":1002500\r\n");
    assert_string_equal(fixture_do(&fixture, "pttl l"), ":500\r\n");
    fixture_close(&fixture);
}

static void two_engines_that_applied_the_same_entries_are_equal(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    struct kith_buf log;
    struct kith_engine *other;
    struct kith_engine_options options = {.hash_seed = {1, 2}, .read_seed = 9};
    kith_buf_init(&log);
    kith_rng_seed(&model->rng, 77);
    assert_true(fixture_open(&model->fixture, 77));
    model->fixture.log = &log;
    for (int n = 0; n < 20000; n++)
        step(model);
    assert_int_equal(kith_engine_open(&other, &options), KITH_OK);
    struct kith_reader reader = kith_reader(kith_buf_slice(&log));
    while (reader.length)
        assert_int_equal(kith_engine_apply(other, kith_reader_slice(&reader), NULL), KITH_OK);
    assert_true(kith_engine_digest(other) == kith_engine_digest(model->fixture.engine));
    assert_int_equal(kith_db_count(kith_engine_db(other, 0)),
                     kith_db_count(kith_engine_db(model->fixture.engine, 0)));
    kith_engine_close(other);
    fixture_close(&model->fixture);
    kith_buf_fini(&log);
    free(model);
}

/* Each of these runs with each of its allocations failing once, before and after it the server is asked for what
 * it holds. */
static void no_command_breaks_anything_when_memory_is_out(void **state)
{
    static const char *const commands[] = {
        "set s1 v",
        "set s1 'a value that is so much longer that it cannot stay where it is, wherever that may be'",
        "set new v px 100",
        "psetex s1 100 v",
        "append s1 'and more of it, so that a larger piece of memory is needed for all of it together'",
        "setrange s1 200 x",
        "incr counter",
        "mset a 1 b 2 c 3",
        "rename s1 s2",
        "rename h1 h2",
        "copy h1 h3",
        "copy s1 s3",
        "move s1 1",
        "pexpire s1 1000",
        "persist s2",
        "hset h1 f1 v1 f2 v2",
        "hset new f v",
        "zadd z1 1 a 2 b 3 c",
        "zunionstore z2 1 z1",
        "flushall",
        "flushdb async",
        "del h1 s1",
        "scan 0 count 100",
        "keys *",
        "command docs",
    };
    for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
        bool failed = true;
        for (int n = 0; failed; n++) {
            struct fixture fixture;
            assert_true(fixture_open(&fixture, 3));
            fixture_do(&fixture, "set s1 value px 5000");
            fixture_do(&fixture, "set s2 other px 7000");
            for (int i = 0; i < 200; i++) {
                char line[64];
                snprintf(line, sizeof line, "hset h1 field%d value", i);
                fixture_do(&fixture, line);
            }
            fixture_do(&fixture, "zadd z1 1 x");
            failing_malloc_arm(n);
            fixture_do(&fixture, commands[c]);
            failed = failing_malloc_disarm();
            assert_non_null(fixture_do(&fixture, "keys *"));
            fixture.now_ms += 10000;
            assert_int_equal(fixture_tick(&fixture), KITH_OK);
            assert_non_null(fixture_do(&fixture, "get s1"));
            assert_string_equal(fixture_do(&fixture, "set s1 again"), "+OK\r\n");
            while (kith_engine_idle_work(fixture.engine))
                ;
            fixture_close(&fixture);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_behave_like_an_array_with_times),
        cmocka_unit_test(time_takes_keys_away_without_anyone_touching_them),
        cmocka_unit_test(time_never_runs_backwards),
        cmocka_unit_test(two_engines_that_applied_the_same_entries_are_equal),
        cmocka_unit_test(no_command_breaks_anything_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
