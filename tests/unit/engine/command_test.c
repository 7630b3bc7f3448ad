/* The table of commands as clients see it: every row makes sense, and its documentation has the shape that
 * redis-cli's hints are made of. */
#include "fixture.h"

#include "base/status.h"
#include "engine/keyspec.h"
#include "engine/state.h"
#include "engine/syntax.h"

#include <ctype.h>
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

static void every_row_is_whole(void **state)
{
    const struct kith_command *row;
    struct kith_syntax syntax;
    struct kith_keyspec specs[KITH_KEYSPECS_MAX];
    for (size_t n = 0; (row = kith_command_at(n)); n++) {
        bool whole = row->arity && row->since && row->complexity && row->summary && row->syntax &&
                     row->group && kith_syntax_parse(&syntax, row->syntax) == KITH_OK &&
                     (row->handler || row->flags & (KITH_CMD_HOST | KITH_CMD_SUBCOMMANDS)) &&
                     !(row->flags & KITH_CMD_WRITE && row->flags & (KITH_CMD_READONLY | KITH_CMD_HOST)) &&
                     (row->keys.first == 0 || kith_keyspecs(row, specs) > 0) &&
                     row->summary[strlen(row->summary) - 1] == '.';
        for (const char *p = row->name; *p; p++)
            whole = whole && !isupper((unsigned char)*p);
        if (!whole)
            print_message("%s is not whole\n", row->name);
        assert_true(whole);
    }
}

static void assert_parses_to(const char *text, const char *names)
{
    struct kith_syntax syntax;
    char all[256] = "", name[64];
    assert_int_equal(kith_syntax_parse(&syntax, text), KITH_OK);
    for (uint8_t i = syntax.first; i != KITH_SYNTAX_NONE; i = syntax.nodes[i].next) {
        const struct kith_syntax_node *node = &syntax.nodes[i];
        kith_syntax_name(&syntax, i, name, sizeof name);
        if (node->token.data && node->kind != KITH_SYNTAX_TOKEN)
            strncat(strncat(all, node->token.data, node->token.length), "=", 2);
        strncat(all, name, sizeof all - strlen(all) - 1);
        strcat(all, &"v\0t\0o\0b"[2 * node->kind]);
        strcat(all, node->optional ? node->multiple ? "?+ " : "? " : node->multiple ? "+ " : " ");
    }
    assert_string_equal(all, names);
}

static void syntax_becomes_a_tree(void **state)
{
    assert_parses_to("", "");
    assert_parses_to("key value", "keyv valuev ");
    assert_parses_to("key [key ...]", "keyv+ ");
    assert_parses_to("field value [field value ...]", "field-valueb+ ");
    assert_parses_to("[NX | XX] [GET]", "nx-xxo? gett? ");
    assert_parses_to("[LIMIT offset count]", "LIMIT=limitb? ");
    assert_parses_to("[COUNT count:integer]", "COUNT=countv? ");
    assert_parses_to("[EX seconds | KEEPTTL]", "seconds-keepttlo? ");
    assert_parses_to("[WEIGHTS weight [weight ...]]", "WEIGHTS=weightv?+ ");
    assert_parses_to("[AGGREGATE (SUM | MIN)]", "AGGREGATE=aggregateo? ");
    assert_parses_to("(FP32 vector | VALUES num value [value ...]) element", "vector-valueso elementv ");
    assert_parses_to("key [(GET offset | SET value) ...]", "keyv offset-valueo?+ ");
    assert_parses_to("key [GET encoding offset ...]", "keyv GET=getb?+ ");
    assert_parses_to("GET encoding offset [GET encoding offset ...]", "encoding-offsetb+ ");
    assert_parses_to("[command [command ...]]", "commandv?+ ");
    struct kith_syntax syntax;
    assert_int_equal(kith_syntax_parse(&syntax, "key [value"), KITH_EINVAL);
    assert_int_equal(kith_syntax_parse(&syntax, "[a [b ...] | ]"), KITH_EINVAL);
    assert_int_equal(kith_syntax_parse(&syntax, "key)"), KITH_EINVAL);
    assert_int_equal(kith_syntax_parse(&syntax, "[...]"), KITH_EINVAL);
}

static void docs_have_the_shape_that_hints_are_made_of(void **state)
{
    assert_string_equal(
        fixture_do(*state, "command docs expiretime nosuch"),
        "*2\r\n$10\r\nexpiretime\r\n*10\r\n$7\r\nsummary\r\n$42\r\nReturns a key's end in seconds since "
        "1970.\r\n"
        "$5\r\nsince\r\n$5\r\n7.0.0\r\n$5\r\ngroup\r\n$7\r\ngeneric\r\n$10\r\ncomplexity\r\n"
        "$40\r\nO(1), O(log n) for n keys with an "
        "expiry\r\n$9\r\narguments\r\n*1\r\n*8\r\n$4\r\nname\r\n$3\r\nkey\r\n"
        "$4\r\ntype\r\n$3\r\nkey\r\n$12\r\ndisplay_text\r\n$3\r\nkey\r\n$14\r\nkey_spec_index\r\n:0\r\n");
    /* An optional choice of tokens, and a value with a token in front. */
    const char *docs = fixture_do(*state, "command docs pexpire");
    assert_non_null(
        strstr(docs, "$11\r\nnx-xx-gt-lt\r\n$4\r\ntype\r\n$5\r\noneof\r\n$5\r\nflags\r\n*1\r\n+optional\r\n"
                     "$9\r\narguments\r\n*4\r\n"));
    docs = fixture_do(*state, "command docs scan");
    assert_non_null(
        strstr(docs, "$5\r\ncount\r\n$4\r\ntype\r\n$7\r\ninteger\r\n$12\r\ndisplay_text\r\n$5\r\ncount\r\n"
                     "$5\r\ntoken\r\n$5\r\nCOUNT\r\n$5\r\nflags\r\n*1\r\n+optional\r\n"));
    docs = fixture_do(*state, "command docs object");
    assert_non_null(strstr(docs, "$11\r\nsubcommands\r\n*10\r\n$15\r\nobject|encoding\r\n"));
}

static void info_has_the_shape_of_redis(void **state)
{
    struct fixture *fixture = *state;
    assert_string_equal(fixture_do(fixture, "command info get"),
                        "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
                        "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n"
                        "*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$"
                        "4\r\ntype\r\n$5\r\nindex\r\n"
                        "$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$"
                        "5\r\nrange\r\n$4\r\nspec\r\n"
                        "*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n");
    assert_string_equal(fixture_do(fixture, "command info nosuch"), "*1\r\n*-1\r\n");
    fixture->session.protocol = 3;
    assert_string_equal(
        fixture_do(fixture, "command info zunion"),
        "*1\r\n*10\r\n$6\r\nzunion\r\n:-3\r\n~2\r\n+readonly\r\n+movablekeys\r\n:0\r\n:0\r\n:0\r\n"
        "~3\r\n+@read\r\n+@sortedset\r\n+@slow\r\n~0\r\n"
        "~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$"
        "5\r\nindex\r\n"
        "$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$6\r\nkeynum\r\n$"
        "4\r\nspec\r\n"
        "%3\r\n$9\r\nkeynumidx\r\n:0\r\n$8\r\nfirstkey\r\n:1\r\n$7\r\nkeystep\r\n:1\r\n~0\r\n");
    assert_string_equal(fixture_do(fixture, "command info nosuch"), "*1\r\n_\r\n");
}

static void keys_are_found_in_any_command(void **state)
{
    assert_string_equal(fixture_do(*state, "command getkeys get a"), "*1\r\n$1\r\na\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys mset a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys del a b"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys object encoding a"), "*1\r\n$1\r\na\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys zunionstore d 2 a b weights 1 2"),
                        "*3\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_string_equal(
        fixture_do(*state, "command getkeysandflags copy a b"),
        "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys foo bar"), "-ERR Invalid command specified\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys ping x"),
                        "-ERR The command has no key arguments\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys get"),
                        "-ERR Invalid number of arguments specified for command\r\n");
    assert_string_equal(fixture_do(*state, "command getkeys zunion 5 a"),
                        "-ERR Invalid arguments specified for command\r\n");
}

static void commands_are_listed_by_what_they_are(void **state)
{
    assert_string_equal(fixture_do(*state, "command list filterby pattern GETE*"), "*1\r\n$5\r\ngetex\r\n");
    assert_string_equal(fixture_do(*state, "command list filterby module any"), "*0\r\n");
    assert_string_equal(fixture_do(*state, "command list filterby aclcat nosuch"), "*0\r\n");
    assert_string_equal(fixture_do(*state, "command list nosuch"), "-ERR syntax error\r\n");
    assert_int_equal(fixture_do(*state, "command list filterby aclcat dangerous")[0], '*');
    assert_int_equal(fixture_do(*state, "command")[0], '*');
    assert_int_equal(fixture_do(*state, "command docs")[0], '*');
    assert_int_equal(fixture_do(*state, "command count")[0], ':');
    assert_string_equal(fixture_do(*state, "command nosuch"),
                        "-ERR unknown subcommand 'nosuch'. Try COMMAND HELP.\r\n");
    assert_string_equal(fixture_do(*state, "object"),
                        "-ERR wrong number of arguments for 'object' command\r\n");
    assert_string_equal(fixture_do(*state, "object freq"),
                        "-ERR wrong number of arguments for 'object|freq' command\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(syntax_becomes_a_tree),
        cmocka_unit_test_setup_teardown(docs_have_the_shape_that_hints_are_made_of, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(info_has_the_shape_of_redis, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(keys_are_found_in_any_command, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(commands_are_listed_by_what_they_are, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
