/* Requests with an id: carried out once, forgotten in order, and part of the state. */
#include "engine/requests.h"

#include "engine/state.h"
#include "failing_malloc.h"
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void a_repeat_is_answered_and_has_no_effect(void **state)
{
    struct fixture f;
    assert_true(fixture_open(&f, 1));
    assert_string_equal(fixture_do(&f, "KITH.REQUEST one INCR n"), ":1\r\n");
    assert_string_equal(fixture_do(&f, "KITH.REQUEST two INCR n"), ":2\r\n");
    assert_string_equal(fixture_do(&f, "KITH.REQUEST one INCR n"), ":1\r\n");
    assert_string_equal(fixture_do(&f, "KITH.REQUEST one SET n 7"), ":1\r\n"); /* the id counts */
    assert_string_equal(fixture_do(&f, "GET n"), "$1\r\n2\r\n");
    f.session.protocol = 3;
    assert_string_equal(fixture_do(&f, "KITH.REQUEST three ZADD z INCR 1.5 a"), "$3\r\n1.5\r\n");
    f.session.protocol = 2;
    assert_string_equal(fixture_do(&f, "KITH.REQUEST three ZADD z INCR 1.5 a"), "$3\r\n1.5\r\n");
    fixture_close(&f);
}

static void only_the_latest_are_known(void **state)
{
    struct fixture f;
    char line[64], expected[32];
    int more = 100;
    assert_true(fixture_open(&f, 1));
    for (int i = 0; i < KITH_REQUESTS_MAX + more; i++) {
        snprintf(line, sizeof line, "KITH.REQUEST id%d INCR n", i);
        fixture_do(&f, line);
    }
    assert_int_equal(f.engine->requests.count, KITH_REQUESTS_MAX);
    snprintf(line, sizeof line, "KITH.REQUEST id%d INCR n", more);
    snprintf(expected, sizeof expected, ":%d\r\n", more + 1);
    assert_string_equal(fixture_do(&f, line), expected);
    snprintf(expected, sizeof expected, ":%d\r\n", KITH_REQUESTS_MAX + more + 1);
    assert_string_equal(fixture_do(&f, "KITH.REQUEST id0 INCR n"), expected); /* forgotten */
    fixture_close(&f);
}

static void what_is_kept_has_a_bound(void **state)
{
    struct fixture f;
    struct kith_buf value = {0};
    char id[32];
    assert_true(fixture_open(&f, 1));
    for (int i = 0; i < KITH_REQUEST_REPLY_MAX - 64; i++)
        kith_buf_append_char(&value, 'x');
    struct kith_slice argv[] = {KITH_SLICE("KITH.REQUEST"), {0},
                                KITH_SLICE("SET"),          KITH_SLICE("k"),
                                kith_buf_slice(&value),     KITH_SLICE("GET")};
    for (int i = 0; i < 400; i++) {
        argv[1] = kith_slice(id, (size_t)snprintf(id, sizeof id, "id%d", i));
        assert_non_null(fixture_run(&f, argv, 6));
        assert_true(f.engine->requests.bytes <= KITH_REQUESTS_BYTES_MAX);
    }
    assert_true(f.engine->requests.count > 100 && f.engine->requests.count < 400);
    /* one whose reply is too long: known, and not carried out again */
    for (int i = 0; i < KITH_REQUEST_REPLY_MAX; i++)
        kith_buf_append_char(&value, 'y');
    argv[1] = KITH_SLICE("long");
    argv[4] = kith_buf_slice(&value);
    fixture_run(&f, argv, 6);
    argv[1] = KITH_SLICE("too long");
    assert_int_equal(fixture_run(&f, argv, 6)[0], '$');
    assert_string_equal(fixture_do(&f, "SET k new"), "+OK\r\n");
    assert_memory_equal(fixture_run(&f, argv, 6), "-REQUESTDONE", 12);
    assert_string_equal(fixture_do(&f, "GET k"), "$3\r\nnew\r\n");
    kith_buf_fini(&value);
    fixture_close(&f);
}

static void they_come_back_from_a_checkpoint(void **state)
{
    for (size_t piece = 1; piece < 4000; piece = piece * 5 + 2) {
        struct fixture f, g;
        struct kith_buf stream = {0};
        struct kith_error error;
        char line[64];
        assert_true(fixture_open(&f, 1));
        assert_true(fixture_open(&g, 2));
        for (int i = 0; i < 300; i++) {
            snprintf(line, sizeof line, "KITH.REQUEST id%d INCRBY n%d %d", i, i % 7, i);
            fixture_do(&f, line);
        }
        uint64_t digest = kith_engine_digest(f.engine);
        assert_int_equal(fixture_save(f.engine, &stream, 64), KITH_OK);
        assert_int_equal(fixture_load(g.engine, kith_buf_slice(&stream), piece, &error), KITH_OK);
        assert_true(kith_engine_digest(g.engine) == digest);
        fixture_do(&f, "KITH.REQUEST id17 INCR n1");
        fixture_do(&g, "KITH.REQUEST id17 INCR n1");
        assert_true(kith_engine_digest(f.engine) == digest && kith_engine_digest(g.engine) == digest);
        fixture_do(&f, "KITH.REQUEST other SET k v");
        assert_true(kith_engine_digest(f.engine) != digest);
        assert_int_equal(kith_engine_reset(g.engine), KITH_OK);
        assert_int_equal(g.engine->requests.count, 0);
        kith_buf_fini(&stream);
        fixture_close(&f);
        fixture_close(&g);
    }
}

static void damaged_records_are_refused(void **state)
{
    struct fixture f;
    struct kith_buf stream = {0};
    assert_true(fixture_open(&f, 1));
    fixture_do(&f, "KITH.REQUEST an-id SET k v");
    assert_int_equal(fixture_save(f.engine, &stream, 64), KITH_OK);
    size_t at = 0;
    while (memcmp(stream.data + at, "an-id", 5) != 0)
        at++;
    stream.data[at + 5] = 2; /* whether the reply was kept: 0 or 1 */
    struct fixture g;
    struct kith_error error;
    assert_true(fixture_open(&g, 2));
    assert_int_equal(fixture_load(g.engine, kith_buf_slice(&stream), 100, &error), KITH_ECORRUPT);
    kith_buf_fini(&stream);
    fixture_close(&f);
    fixture_close(&g);
}

/* Order and bounds against a plain array. */
static void the_ring_agrees_with_a_plain_list(void **state)
{
    enum { STEPS = 30000 };
    struct kith_requests requests = {0};
    static char ids[STEPS][12];
    static size_t replies[STEPS];
    size_t first = 0, bytes = 0;
    char reply[2048] = {0};
    for (int i = 0; i < STEPS; i++) {
        struct kith_request_entry *room;
        size_t length = (size_t)(i * 7919) % (i % 1000 < 900 ? 64 : sizeof reply);
        struct kith_slice id = kith_slice(ids[i], (size_t)snprintf(ids[i], sizeof ids[i], "r%d", i));
        assert_int_equal(kith_requests_reserve(&requests, id, &room), KITH_OK);
        kith_requests_add(&requests, room, kith_slice(reply, length), true);
        replies[i] = length;
        while ((size_t)i - first >= KITH_REQUESTS_MAX ||
               (bytes + id.length + length > KITH_REQUESTS_BYTES_MAX && first < (size_t)i)) {
            bytes -= strlen(ids[first]) + replies[first];
            first++;
        }
        bytes += id.length + length;
        assert_int_equal(requests.bytes, bytes);
        assert_int_equal(requests.count, (size_t)i - first + 1);
    }
    for (size_t i = 0; i < STEPS; i++) {
        const struct kith_request_entry *entry =
            kith_requests_find(&requests, kith_slice(ids[i], strlen(ids[i])));
        assert_int_equal(entry != NULL, i >= first);
        if (entry)
            assert_int_equal(entry->reply_length, replies[i]);
    }
    kith_requests_fini(&requests);
}

static void without_memory_nothing_is_carried_out(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_requests requests = {0};
        struct kith_request_entry *room = NULL;
        int status = kith_requests_reserve(&requests, KITH_SLICE("id"), &room);
        assert_true(status == KITH_OK || status == KITH_ENOMEM);
        if (status == KITH_OK)
            kith_requests_add(&requests, room, KITH_SLICE("+OK\r\n"), true);
        assert_int_equal(requests.count, status == KITH_OK);
        kith_requests_fini(&requests);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_repeat_is_answered_and_has_no_effect),
        cmocka_unit_test(only_the_latest_are_known),
        cmocka_unit_test(what_is_kept_has_a_bound),
        cmocka_unit_test(they_come_back_from_a_checkpoint),
        cmocka_unit_test(damaged_records_are_refused),
        cmocka_unit_test(the_ring_agrees_with_a_plain_list),
        cmocka_unit_test(without_memory_nothing_is_carried_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
