/* The thin thread: names to rows, entries, replies. */
#include "fixture.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants those first */
#include <cmocka.h>

static int open_fixture(void **state)
{
    static struct fixture fixture;
    *state = &fixture;
    return fixture_open(&fixture, 7) ? 0 : -1;
}

static int close_fixture(void **state)
{
    fixture_close(*state);
    return 0;
}

static void what_was_set_is_got(void **state)
{
    assert_string_equal(fixture_do(*state, "SET a hello"), "+OK\r\n");
    assert_string_equal(fixture_do(*state, "get a"), "$5\r\nhello\r\n");
    assert_string_equal(fixture_do(*state, "get b"), "$-1\r\n");
    assert_string_equal(fixture_do(*state, "set a 'a longer value that does not fit where the old one was'"),
                        "+OK\r\n");
    assert_string_equal(fixture_do(*state, "get a"),
                        "$54\r\na longer value that does not fit where the old one was\r\n");
    assert_string_equal(fixture_do(*state, "del a b"), ":1\r\n");
    assert_string_equal(fixture_do(*state, "get a"), "$-1\r\n");
}

static void errors_have_the_words_that_clients_look_for(void **state)
{
    assert_string_equal(fixture_do(*state, "NOSUCH"),
                        "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    assert_string_equal(fixture_do(*state, "NoSuch a b"),
                        "-ERR unknown command 'NoSuch', with args beginning with: 'a' 'b' \r\n");
    assert_string_equal(fixture_do(*state, "get"), "-ERR wrong number of arguments for 'get' command\r\n");
    assert_string_equal(fixture_do(*state, "hset h f v"), ":1\r\n");
    assert_string_equal(fixture_do(*state, "get h"),
                        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
}

static void a_database_is_chosen_by_its_number(void **state)
{
    assert_string_equal(fixture_do(*state, "set a 0"), "+OK\r\n");
    assert_string_equal(fixture_do(*state, "select 1"), "+OK\r\n");
    assert_string_equal(fixture_do(*state, "get a"), "$-1\r\n");
    assert_string_equal(fixture_do(*state, "select 16"), "-ERR DB index is out of range\r\n");
    assert_string_equal(fixture_do(*state, "select 0"), "+OK\r\n");
    assert_string_equal(fixture_do(*state, "get a"), "$1\r\n0\r\n");
}

static void a_damaged_entry_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct kith_buf payload;
    kith_buf_init(&payload);
    kith_entry_begin(&payload, 5, 6);
    struct kith_slice set[] = {KITH_SLICE("set"), KITH_SLICE("k"), KITH_SLICE("v")};
    kith_entry_append(&payload, 0, set, 3);
    kith_entry_append(&payload, 0, set, 3);
    uint64_t before = kith_engine_digest(fixture->engine);
    for (size_t length = 18; length < payload.length; length++) {
        if (length == 17 + (payload.length - 17) / 2)
            continue; /* whole commands: a shorter entry, not a damaged one */
        assert_int_equal(kith_engine_apply(fixture->engine, kith_slice(payload.data, length), NULL),
                         KITH_ECORRUPT);
        assert_true(kith_engine_digest(fixture->engine) == before);
    }
    payload.data[0] = 99;
    assert_int_equal(kith_engine_apply(fixture->engine, kith_buf_slice(&payload), NULL), KITH_EVERSION);
    payload.data[0] = 1;
    assert_int_equal(kith_engine_apply(fixture->engine, kith_buf_slice(&payload), NULL), KITH_OK);
    assert_true(kith_engine_digest(fixture->engine) != before);
    kith_buf_fini(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_set_is_got, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(errors_have_the_words_that_clients_look_for, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(a_database_is_chosen_by_its_number, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(a_damaged_entry_changes_nothing, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
