/* What is too large for a transcript: names of a megabyte, too many dimensions, filters ten thousand deep. */
#include "fixture.h"

#include "base/status.h"
#include "engine/vset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct kith_slice word(const char *text)
{
    return kith_slice(text, strlen(text));
}

static void assert_begins(const char *reply, const char *with)
{
    assert_non_null(reply);
    if (strncmp(reply, with, strlen(with)) != 0)
        fail_msg("%.200s", reply);
}

static void more_than_65536_dimensions_are_refused(void **state)
{
    enum { MOST = 65536 };
    struct fixture f;
    assert_true(fixture_open(&f, 1));
    float *vector = calloc(MOST + 1, sizeof *vector);
    vector[0] = 1;
    struct kith_slice argv[MOST + 8] = {word("VADD"), word("k"), word("FP32")};
    argv[3] = kith_slice((char *)vector, (MOST + 1) * sizeof *vector);
    argv[4] = word("e");
    assert_begins(fixture_run(&f, argv, 5), "-ERR invalid vector specification: more than 65536 dimensions");
    argv[3].length = MOST * sizeof *vector;
    assert_begins(fixture_run(&f, argv, 5), ":1");
    argv[0] = word("VSIM");
    assert_begins(fixture_run(&f, argv, 4), "*1\r\n$1\r\ne");
    argv[2] = word("VALUES");
    argv[3] = word("65537");
    for (size_t i = 0; i <= MOST; i++)
        argv[4 + i] = word("1");
    assert_begins(fixture_run(&f, argv, 4 + MOST + 1),
                  "-ERR invalid vector specification: more than 65536 dimensions");
    argv[3] = word("65536");
    assert_begins(fixture_run(&f, argv, 4 + MOST), "*1\r\n$1\r\ne");
    assert_begins(fixture_do(&f, "VADD k REDUCE 65537 VALUES 1 1 e"),
                  "-ERR invalid vector specification: REDUCE");
    free(vector);
    fixture_close(&f);
}

static void a_name_may_be_empty_or_a_megabyte(void **state)
{
    enum { LONG = 1 << 20 };
    struct fixture f;
    assert_true(fixture_open(&f, 1));
    char *name = malloc(LONG);
    memset(name, 'n', LONG);
    struct kith_slice add[] = {word("VADD"), word("k"), word("VALUES"),
                               word("1"),    word("1"), kith_slice(name, LONG)};
    assert_begins(fixture_run(&f, add, 6), ":1");
    assert_begins(fixture_run(&f, add, 6), ":0");
    add[4] = word("-1");
    add[5] = word("");
    assert_begins(fixture_run(&f, add, 6), ":1");
    struct kith_slice search[] = {word("VSIM"),           word("k"),     word("ELE"),
                                  kith_slice(name, LONG), word("COUNT"), word("1")};
    const char *reply = fixture_run(&f, search, 6);
    assert_begins(reply, "*1\r\n$1048576\r\nnnn");
    assert_int_equal(strlen(reply), LONG + 4 + 10 + 2);
    struct kith_slice remove[] = {word("VREM"), word("k"), kith_slice(name, LONG)};
    assert_begins(fixture_run(&f, remove, 3), ":1");
    remove[2] = word("");
    assert_begins(fixture_run(&f, remove, 3), ":1");
    assert_begins(fixture_do(&f, "EXISTS k"), ":0");
    free(name);
    fixture_close(&f);
}

static void a_deep_filter_is_refused(void **state)
{
    enum { DEEP = 10000 };
    struct fixture f;
    char *text = malloc(2 * DEEP + 8), *negated = malloc(4 * DEEP + 8);
    assert_true(fixture_open(&f, 1));
    assert_begins(fixture_do(&f, "VADD k VALUES 1 1 e SETATTR {\"x\":1}"), ":1");
    memset(text, '(', DEEP);
    memcpy(text + DEEP, ".x", 2);
    memset(text + DEEP + 2, ')', DEEP);
    struct kith_slice argv[] = {word("VSIM"), word("k"),      word("ELE"),
                                word("e"),    word("FILTER"), kith_slice(text, 2 * DEEP + 2)};
    assert_begins(fixture_run(&f, argv, 6), "-ERR");
    for (int i = 0; i < DEEP; i++)
        memcpy(negated + 4 * (size_t)i, "not ", 4);
    memcpy(negated + 4 * (size_t)DEEP, ".x", 2);
    argv[5] = kith_slice(negated, 4 * DEEP + 2);
    assert_begins(fixture_run(&f, argv, 6), "-ERR");
    argv[5] = kith_slice(text + DEEP - 200, 402);
    assert_begins(fixture_run(&f, argv, 6), "*1\r\n$1\r\ne");
    memset(text, ' ', 2 * DEEP);
    argv[5] = kith_slice(text, 2 * DEEP);
    assert_begins(fixture_run(&f, argv, 6), "-ERR");
    free(text);
    free(negated);
    fixture_close(&f);
}

static void queries_and_results_of_one_call_are_bounded(void **state)
{
    struct fixture f;
    char line[128];
    assert_true(fixture_open(&f, 1));
    for (int i = 0; i < 1200; i++) {
        snprintf(line, sizeof line, "VADD k VALUES 2 1 %d e%d", i, i);
        assert_begins(fixture_do(&f, line), ":1");
    }
    struct kith_slice argv[4 + 2 * 1024 + 2] = {word("VSIM"), word("k"), word("QUERIES"), word("1024")};
    for (int i = 0; i < 1024; i++) {
        argv[4 + 2 * i] = word("ELE");
        argv[5 + 2 * i] = word("e7");
    }
    argv[2052] = word("COUNT");
    argv[2053] = word("1000");
    assert_begins(fixture_run(&f, argv, 2054), "-ERR too many results");
    argv[2053] = word("1");
    assert_begins(fixture_run(&f, argv, 2054), "*1024\r\n*1\r\n$2\r\ne7");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_65536_dimensions_are_refused),
        cmocka_unit_test(a_name_may_be_empty_or_a_megabyte),
        cmocka_unit_test(a_deep_filter_is_refused),
        cmocka_unit_test(queries_and_results_of_one_call_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
