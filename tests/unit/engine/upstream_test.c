/* Following a Redis, as the engine sees it: entries of its stream fit or are skipped, everybody else's change nothing, and
 * what is left out is removed and listed. */
#include "engine/upstream.h"

#include "base/varint.h"
#include "engine/state.h"
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define REPLID "0123456789abcdef0123456789abcdef01234567"

/* One entry; commands are separated by ';', words by blanks. */
static void apply(struct fixture *f, const char *text)
{
    struct kith_buf payload = {0};
    char copy[512], *commands = copy, *command, *word;
    snprintf(copy, sizeof copy, "%s", text);
    kith_entry_begin(&payload, f->now_ms, 1);
    while ((command = strsep(&commands, ";"))) {
        struct kith_slice argv[16];
        size_t argc = 0;
        while ((word = strsep(&command, " ")))
            argv[argc++] = kith_slice(word, strlen(word));
        kith_entry_append(&payload, 0, argv, argc);
    }
    assert_int_equal(kith_engine_apply(f->engine, kith_buf_slice(&payload), NULL), KITH_OK);
    kith_buf_fini(&payload);
}

/* Following, with the copy of a Redis that has a = 1, at byte 100. */
static void begin(struct fixture *f)
{
    assert_true(fixture_open(f, 1));
    apply(f, "SET old x;REPLICAOF redis 6379");
    apply(f, "KITH.UPSTREAM SYNC 1 7");
    apply(f, "KITH.UPSTREAM LOAD 1 7;SET a 1;KITH.UPSTREAM LEAVE 0 list l");
    apply(f, "KITH.UPSTREAM LOADED 1 7 100 0 " REPLID);
    assert_int_equal(kith_engine_upstream(f->engine)->phase, KITH_UPSTREAM_LIVE);
}

static void a_part_of_the_stream_is_applied_once_and_in_its_place(void **state)
{
    struct fixture f;
    begin(&f);
    assert_string_equal(fixture_do(&f, "GET old"), "$-1\r\n");
    apply(&f, "KITH.UPSTREAM APPLY 1 100 150 0 " REPLID ";INCR a");
    apply(&f, "KITH.UPSTREAM APPLY 1 100 150 0 " REPLID ";INCR a"); /* again */
    apply(&f, "KITH.UPSTREAM APPLY 1 160 170 0 " REPLID ";INCR a"); /* not next */
    apply(&f, "KITH.UPSTREAM APPLY 2 150 170 0 " REPLID ";INCR a"); /* of another link */
    apply(&f, "KITH.UPSTREAM LOAD 1 7;SET a 9");                    /* the copy is over */
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n2\r\n");
    assert_int_equal(kith_engine_upstream(f.engine)->offset, 150);
    fixture_close(&f);
}

static void other_writes_change_nothing_until_it_ends(void **state)
{
    struct fixture f;
    begin(&f);
    apply(&f, "SET a 5;DEL a");
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n1\r\n");
    apply(&f, "REPLICAOF NO ONE;SET a 5");
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n5\r\n");
    apply(&f, "KITH.UPSTREAM APPLY 1 100 150 0 " REPLID ";SET a 6");
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n5\r\n");
    fixture_close(&f);
}

static void keys_end_when_the_upstream_says_so(void **state)
{
    struct fixture f;
    begin(&f);
    apply(&f, "KITH.UPSTREAM APPLY 1 100 150 0 " REPLID ";PEXPIREAT a 5"); /* long past */
    assert_int_equal(fixture_tick(&f), KITH_OK);
    assert_string_equal(fixture_do(&f, "GET a"), "$-1\r\n");
    apply(&f, "KITH.UPSTREAM APPLY 1 150 160 0 " REPLID ";INCR a;PERSIST a");
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n2\r\n");
    assert_int_equal(kith_engine_next_expiry_ms(f.engine), -1);
    fixture_close(&f);
}

static void what_comes_of_a_key_that_is_left_out_is_left_out(void **state)
{
    struct fixture f;
    begin(&f);
    apply(&f, "KITH.UPSTREAM APPLY 1 100 110 0 " REPLID ";RENAME l m;COPY m a REPLACE;APPEND a x");
    assert_string_equal(fixture_do(&f, "GET a"), "$-1\r\n");
    assert_int_equal(kith_upstream_left_out_count(kith_engine_upstream(f.engine)), 2); /* m, a */
    apply(&f, "KITH.UPSTREAM APPLY 1 110 120 0 " REPLID ";SET a 1;DEL m");
    assert_string_equal(fixture_do(&f, "GET a"), "$1\r\n1\r\n");
    assert_int_equal(kith_upstream_left_out_count(kith_engine_upstream(f.engine)), 0);
    fixture_close(&f);
}

static void a_checkpoint_holds_all_of_it(void **state)
{
    struct fixture f, g;
    struct kith_buf stream = {0};
    struct kith_error error;
    begin(&f);
    assert_true(fixture_open(&g, 2));
    assert_int_equal(fixture_save(f.engine, &stream, 64), KITH_OK);
    assert_int_equal(fixture_load(g.engine, kith_buf_slice(&stream), 7, &error), KITH_OK);
    assert_true(kith_engine_digest(f.engine) == kith_engine_digest(g.engine));
    assert_string_equal(kith_engine_upstream(g.engine)->host, "redis");
    assert_int_equal(kith_upstream_left_out_count(kith_engine_upstream(g.engine)), 1);
    kith_buf_fini(&stream);
    fixture_close(&f);
    fixture_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_of_the_stream_is_applied_once_and_in_its_place),
        cmocka_unit_test(other_writes_change_nothing_until_it_ends),
        cmocka_unit_test(keys_end_when_the_upstream_says_so),
        cmocka_unit_test(what_comes_of_a_key_that_is_left_out_is_left_out),
        cmocka_unit_test(a_checkpoint_holds_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
