/* Checkpoints against the only truth there is: the digest of the state at the moment when one began. */
#include "fixture.h"

#include "base/random.h"
#include "base/status.h"
#include "failing_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
/* cmocka wants those first */
#include <cmocka.h>

/* How the sets v0 to v7 keep their vectors; a set that was renamed refuses another's. */
static const char *const kinds[] = {
    "q4 keep residual layout spread",
    "noquant metric l2",
    "bin metric ip",
    "",
    "bin keep none metric l2",
    "bf16 keep none metric l2",
    "q4 keep none metric ip",
    "f16 layout spread metric ip",
};

/* One random command over few keys, so that everything happens to every key. */
static const char *random_command(struct fixture *fixture, struct kith_rng *rng)
{
    char line[512], filler[301];
    unsigned key = (unsigned)kith_rng_below(rng, 200), field = (unsigned)kith_rng_below(rng, 400);
    unsigned long long number = kith_rng_next(rng);
    size_t length = kith_rng_below(rng, 8) ? kith_rng_below(rng, 20) : kith_rng_below(rng, 300);
    memset(filler, 'x', length);
    filler[length] = '\0';
    switch (kith_rng_below(rng, 30)) {
    case 0:
    case 1:
    case 2:
    case 3:
        snprintf(line, sizeof line, "set s%u %llu%s", key, number, filler);
        break;
    case 4:
        snprintf(line, sizeof line, "set s%u %llu px %llu", key, number, 1 + number % 3000);
        break;
    case 5:
        snprintf(line, sizeof line, "append s%u y%s", key, filler);
        break;
    case 6:
        snprintf(line, sizeof line, "del s%u h%u z%u", key, field % 8, key % 8);
        break;
    case 7:
        snprintf(line, sizeof line, "pexpire %c%u %llu", "shzv"[number % 4], key % 8, 1 + number / 4 % 3000);
        break;
    case 8:
        snprintf(line, sizeof line, "persist s%u", key);
        break;
    case 9:
        snprintf(line, sizeof line, "rename %c%u %c%u", "shzv"[number % 4], key % 8, "shzv"[number / 4 % 4],
                 field % 8);
        break;
    case 10:
        snprintf(line, sizeof line, "copy %c%u %c%u replace", "shzv"[number % 4], key % 8, "shzv"[number % 4],
                 field % 8);
        break;
    case 11:
        snprintf(line, sizeof line, number % 40 == 0 ? "flushall" : number % 40 < 3 ? "flushdb" : "ping");
        break;
    case 12:
        snprintf(line, sizeof line, "select %llu", number % 3);
        break;
    case 13:
        snprintf(line, sizeof line, "move s%u %llu", key, number % 3);
        break;
    case 14:
        snprintf(line, sizeof line, "hdel h%u f%u", key % 8, field);
        break;
    case 15:
        snprintf(line, sizeof line, "zrem z%u m%u", key % 8, field);
        break;
    case 16:
    case 17:
    case 18:
    case 19:
        snprintf(line, sizeof line, "zadd z%u %llu m%u", key % 8, number % 1000, field);
        break;
    case 20:
    case 21:
    case 22:
        snprintf(line, sizeof line, "vadd v%u values 4 %llu.37 -%u 3 %u e%u %s", key % 8, number % 100, key,
                 field, field, kinds[key % 8]);
        break;
    case 23:
        snprintf(line, sizeof line, "vrem v%u e%u", key % 8, field);
        break;
    case 24:
        snprintf(line, sizeof line, "vsetattr v%u e%u {\"a\":%u}", key % 8, field, key);
        break;
    default:
        snprintf(line, sizeof line, "hset h%u f%u %llu", key % 8, field, number);
    }
    return fixture_do(fixture, line);
}

static void random_commands(struct fixture *fixture, struct kith_rng *rng, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_non_null(random_command(fixture, rng));
        fixture->now_ms += (int64_t)kith_rng_below(rng, 3);
        if (kith_rng_below(rng, 50) == 0)
            kith_engine_idle_work(fixture->engine);
    }
}

static void assert_loads_as(struct kith_slice stream, size_t piece, uint64_t digest, struct fixture *loaded)
{
    struct kith_error error = {""};
    assert_true(fixture_open(loaded, 99));
    int status = fixture_load(loaded->engine, stream, piece, &error);
    if (status)
        print_message("%s\n", error.text);
    assert_int_equal(status, KITH_OK);
    assert_true(kith_engine_digest(loaded->engine) == digest);
}

static void a_checkpoint_holds_the_state_at_its_beginning_whatever_happens_meanwhile(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct fixture fixture, loaded;
        struct kith_rng rng;
        print_message("seed %llu\n", (unsigned long long)seed);
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&fixture, seed));
        for (int round = 0; round < 3; round++) {
            random_commands(&fixture, &rng, 3000);
            struct kith_buf stream;
            kith_buf_init(&stream);
            assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
            assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_EBUSY);
            uint64_t digest = kith_engine_digest(fixture.engine);
            int status;
            while ((status =
                        kith_engine_checkpoint_step(fixture.engine, &stream, kith_rng_below(&rng, 2000))) > 0)
                random_commands(&fixture, &rng, kith_rng_below(&rng, 60));
            assert_int_equal(status, 0);
            assert_loads_as(kith_buf_slice(&stream), 1 + kith_rng_below(&rng, 5000), digest, &loaded);
            fixture_close(&loaded);
            kith_buf_fini(&stream);
        }
        fixture_close(&fixture);
    }
}

/* Under KITH_DEBUG strings of a few bytes go in parts already; in release these lengths are whole records. */
static void a_long_string_may_change_or_go_while_it_is_being_saved(void **state)
{
    static const char *const changes[] = {
        "append l%u tail", "del l%u",      "rename l%u other", "pexpire l%u 100000",
        "set l%u short",   "incrby n%u 5", "copy l%u copied",  "setrange l%u 700 end"};
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture fixture, loaded;
        struct kith_rng rng;
        char line[80];
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&fixture, seed));
        for (unsigned i = 0; i < 30; i++) {
            snprintf(line, sizeof line, "setrange l%u %u x", i, 200 + 20 * i);
            fixture_do(&fixture, line);
        }
        struct kith_buf stream;
        kith_buf_init(&stream);
        assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
        uint64_t digest = kith_engine_digest(fixture.engine);
        int status;
        while ((status = kith_engine_checkpoint_step(fixture.engine, &stream, 60)) > 0) {
            snprintf(line, sizeof line, changes[kith_rng_below(&rng, 8)], (unsigned)kith_rng_below(&rng, 30));
            fixture_do(&fixture, kith_rng_below(&rng, 40 + seed) ? line : "flushall");
            kith_engine_idle_work(fixture.engine);
        }
        assert_int_equal(status, 0);
        assert_loads_as(kith_buf_slice(&stream), 100, digest, &loaded);
        fixture_close(&loaded);
        kith_engine_checkpoint_begin(fixture.engine);
        kith_buf_clear(&stream);
        kith_engine_checkpoint_step(fixture.engine, &stream, 60);
        kith_engine_checkpoint_abort(fixture.engine);
        while (kith_engine_idle_work(fixture.engine))
            ;
        kith_buf_clear(&stream);
        assert_int_equal(fixture_save(fixture.engine, &stream, 300), KITH_OK);
        assert_loads_as(kith_buf_slice(&stream), 1000, kith_engine_digest(fixture.engine), &loaded);
        fixture_close(&loaded);
        kith_buf_fini(&stream);
        fixture_close(&fixture);
    }
}

static void after_an_abort_the_next_checkpoint_is_whole(void **state)
{
    struct fixture fixture, loaded;
    struct kith_rng rng;
    kith_rng_seed(&rng, 5);
    assert_true(fixture_open(&fixture, 5));
    for (int round = 0; round < 50; round++) {
        random_commands(&fixture, &rng, 500);
        struct kith_buf stream;
        kith_buf_init(&stream);
        assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
        size_t steps = kith_rng_below(&rng, 40);
        int status = 1;
        while (steps-- && status > 0) {
            status = kith_engine_checkpoint_step(fixture.engine, &stream, 300);
            random_commands(&fixture, &rng, 20);
        }
        kith_engine_checkpoint_abort(fixture.engine);
        random_commands(&fixture, &rng, 100);
        while (kith_engine_idle_work(fixture.engine))
            random_commands(&fixture, &rng, 1);
        kith_buf_clear(&stream);
        uint64_t digest = kith_engine_digest(fixture.engine);
        assert_int_equal(fixture_save(fixture.engine, &stream, 1000), KITH_OK);
        assert_loads_as(kith_buf_slice(&stream), 777, digest, &loaded);
        fixture_close(&loaded);
        kith_buf_fini(&stream);
    }
    fixture_close(&fixture);
}

static void an_engine_closes_in_the_middle_of_anything(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct fixture fixture, loaded;
        struct kith_rng rng;
        struct kith_buf stream;
        kith_buf_init(&stream);
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&fixture, seed));
        random_commands(&fixture, &rng, 2000);
        assert_int_equal(fixture_save(fixture.engine, &stream, 100000), KITH_OK);
        assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
        for (uint64_t i = 0; i < seed; i++) {
            random_commands(&fixture, &rng, 5);
            if (kith_engine_checkpoint_step(fixture.engine, &stream, 500) <= 0)
                break;
        }
        if (seed % 3 == 0)
            assert_string_equal(fixture_do(&fixture, "flushall"), "+OK\r\n");
        fixture_close(&fixture);
        assert_true(fixture_open(&loaded, 3));
        size_t length = kith_rng_below(&rng, stream.length);
        (void)fixture_load(loaded.engine, kith_slice(stream.data, length), 100, NULL);
        fixture_close(&loaded);
        kith_buf_fini(&stream);
    }
}

static void a_stream_cut_short_or_damaged_is_refused(void **state)
{
    struct fixture fixture, loaded;
    struct kith_rng rng;
    struct kith_buf stream;
    kith_buf_init(&stream);
    kith_rng_seed(&rng, 11);
    assert_true(fixture_open(&fixture, 11));
    random_commands(&fixture, &rng, 300);
    uint64_t digest = kith_engine_digest(fixture.engine);
    assert_int_equal(fixture_save(fixture.engine, &stream, 1000), KITH_OK);
    for (size_t length = 0; length < stream.length; length += 1 + length / 50) {
        assert_true(fixture_open(&loaded, 3));
        assert_int_not_equal(fixture_load(loaded.engine, kith_slice(stream.data, length), 64, NULL), KITH_OK);
        fixture_close(&loaded);
    }
    /* A flipped byte may hit a value, which the store's checksum guards; it must never crash. */
    for (int i = 0; i < 3000; i++) {
        size_t at = kith_rng_below(&rng, stream.length);
        char old = stream.data[at];
        stream.data[at] = (char)kith_rng_next(&rng);
        assert_true(fixture_open(&loaded, 3));
        (void)fixture_load(loaded.engine, kith_buf_slice(&stream), 1000, NULL);
        fixture_close(&loaded);
        stream.data[at] = old;
    }
    assert_loads_as(kith_buf_slice(&stream), 1, digest, &loaded);
    fixture_close(&loaded);
    kith_buf_fini(&stream);
    fixture_close(&fixture);
}

/* In the middle of a checkpoint, a load, or both's ends, with large values: what comes after is as in a new engine. */
static void an_engine_that_was_reset_loads_another_state(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct fixture source, fixture, loaded;
        struct kith_buf stream = {0};
        struct kith_rng rng;
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&source, 5) && fixture_open(&fixture, 6));
        random_commands(&source, &rng, 300);
        uint64_t digest = kith_engine_digest(source.engine);
        assert_int_equal(fixture_save(source.engine, &stream, 2000), KITH_OK);
        fixture.now_ms += 1000000; /* its time was ahead */
        random_commands(&fixture, &rng, 100 + (size_t)kith_rng_below(&rng, 400));
        if (seed % 3) {
            struct kith_buf begun = {0};
            assert_int_equal(kith_engine_checkpoint_begin(fixture.engine), KITH_OK);
            for (uint64_t steps = kith_rng_below(&rng, 6); steps > 0; steps--)
                if (kith_engine_checkpoint_step(fixture.engine, &begun, 500) != 1)
                    break;
            if (seed % 2)
                random_commands(&fixture, &rng, 50);
            kith_buf_fini(&begun);
        }
        assert_int_equal(kith_engine_reset(fixture.engine), KITH_OK);
        if (seed % 4 == 0) { /* a load that is given up half-way */
            assert_int_equal(
                kith_engine_load(fixture.engine, kith_slice(stream.data, stream.length / 2), NULL), KITH_OK);
            assert_int_equal(kith_engine_reset(fixture.engine), KITH_OK);
        }
        assert_int_equal(fixture_load(fixture.engine, kith_buf_slice(&stream), 300, NULL), KITH_OK);
        assert_true(kith_engine_digest(fixture.engine) == digest);
        while (kith_engine_idle_work(fixture.engine)) {
        }
        assert_true(kith_engine_digest(fixture.engine) == digest);
        kith_buf_clear(&stream); /* and it goes on */
        assert_int_equal(fixture_save(fixture.engine, &stream, 2000), KITH_OK);
        assert_loads_as(kith_buf_slice(&stream), 100, digest, &loaded);
        fixture_close(&loaded);
        fixture_close(&fixture);
        fixture_close(&source);
        kith_buf_fini(&stream);
    }
}

static void without_memory_a_reset_changes_nothing(void **state)
{
    struct fixture fixture;
    assert_true(fixture_open(&fixture, 5));
    fixture_do(&fixture, "set a b");
    fixture_do(&fixture, "hset h f v");
    uint64_t digest = kith_engine_digest(fixture.engine);
    for (int n = 0; failing_malloc_sweep(&n);) {
        int status = kith_engine_reset(fixture.engine);
        assert_true(status == KITH_OK || kith_engine_digest(fixture.engine) == digest);
    }
    assert_string_equal(fixture_do(&fixture, "dbsize"), ":0\r\n");
    fixture_close(&fixture);
}

static void without_memory_a_checkpoint_fails_and_the_data_stays(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct fixture fixture, loaded;
        struct kith_buf stream;
        kith_buf_init(&stream);
        failing_malloc_disarm();
        assert_true(fixture_open(&fixture, 5));
        char line[64];
        for (int i = 0; i < 200; i++) {
            snprintf(line, sizeof line, "hset h%d f%d v", i % 2, i);
            fixture_do(&fixture, line);
            snprintf(line, sizeof line, "set s%d v px 100000", i);
            fixture_do(&fixture, line);
        }
        uint64_t digest = kith_engine_digest(fixture.engine);
        assert_true(fixture_open(&loaded, 6));
        failing_malloc_arm(n - 1);
        int status = fixture_save(fixture.engine, &stream, 500);
        if (status == KITH_OK)
            status = fixture_load(loaded.engine, kith_buf_slice(&stream), 300, NULL);
        bool failed = failing_malloc_disarm();
        assert_true(kith_engine_digest(fixture.engine) == digest);
        assert_true(failed ? status != KITH_OK || kith_engine_digest(loaded.engine) == digest
                           : status == KITH_OK && kith_engine_digest(loaded.engine) == digest);
        fixture_close(&fixture);
        fixture_close(&loaded);
        kith_buf_fini(&stream);
        if (!failed)
            break;
        failing_malloc_arm(-1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_holds_the_state_at_its_beginning_whatever_happens_meanwhile),
        cmocka_unit_test(a_long_string_may_change_or_go_while_it_is_being_saved),
        cmocka_unit_test(after_an_abort_the_next_checkpoint_is_whole),
        cmocka_unit_test(an_engine_closes_in_the_middle_of_anything),
        cmocka_unit_test(a_stream_cut_short_or_damaged_is_refused),
        cmocka_unit_test(an_engine_that_was_reset_loads_another_state),
        cmocka_unit_test(without_memory_a_reset_changes_nothing),
        cmocka_unit_test(without_memory_a_checkpoint_fails_and_the_data_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
