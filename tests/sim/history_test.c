/* Histories as text: what is wrong in one of many keys is found, and a line that is none of ours is not taken. */
#include "history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct history_verdict check(const char *const *lines)
{
    struct history history = {0};
    struct history_verdict verdict;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    for (; *lines; lines++)
        assert_true(history_add(&history, *lines));
    history_check(&history, 100000, out, &verdict);
    fclose(out);
    assert_int_equal(length > 0, verdict.bad + verdict.undecided > 0); /* nothing is found in silence */
    free(text);
    history_fini(&history);
    return verdict;
}

#define CHECK(...) check((const char *const[]){__VA_ARGS__, NULL})

static void what_fits_is_good_in_whatever_order_it_was_written_down(void **state)
{
    struct history_verdict v = CHECK(
        "b 2 0 GET 30 40 - y\n", "a 1 0 SET 10 20 x -\n", "b 2 0 SET 10 20 y -\n", "a 1 1 GET 30 40 - x\n",
        "a 3 1 GETSET 50 60 z x\n", "c 3 0 INCR 1 2 - 1\n", "c 3 0 INCR 3 - - -\n", "c 3 0 INCR 5 6 - 3\n",
        "d 1 0 SETNX 1 2 q 1\n", "d 1 0 DEL 3 4 - 1\n", "d 1 0 GET 5 6 - nil\n", "e 1 0 APPEND 1 2 ab 2\n",
        "e 1 0 APPEND 3 4 cd 4", "e 1 0 GET 5 6 - abcd\n");
    assert_int_equal(v.keys, 5);
    assert_int_equal(v.bad + v.undecided, 0);
}

static void a_stale_read_is_found(void **state)
{
    struct history_verdict v =
        CHECK("a 1 0 SET 10 20 x -\n", "a 1 0 SET 30 40 y -\n", "a 2 1 GET 50 60 - x\n",
              "b 1 0 SET 10 20 x -\n", "b 2 1 GET 50 60 - x\n");
    assert_int_equal(v.keys, 2);
    assert_int_equal(v.bad, 1);
}

static void an_acknowledged_write_that_is_lost_is_found(void **state)
{
    assert_int_equal(CHECK("a 1 0 SET 10 20 x -\n", "a 9 2 GET 90 91 - nil\n").bad, 1);
    assert_int_equal(CHECK("a 1 0 SET 10 - x -\n", "a 9 2 GET 90 91 - nil\n").bad, 0); /* nobody was told */
    assert_int_equal(CHECK("a 1 0 INCR 10 20 - 1\n", "a 1 0 INCR 30 40 - 1\n").bad, 1);
}

static void what_was_refused_and_is_there_is_found(void **state)
{
    /* a refused write is in no history: its value comes from nowhere */
    assert_int_equal(CHECK("a 1 0 SET 10 20 x -\n", "a 1 0 GET 30 40 - y\n").bad, 1);
}

static void a_line_of_another_form_is_not_taken(void **state)
{
    static const char *const lines[] = {"",
                                        "\n",
                                        "a 1 0 SET 10 20 x",
                                        "a 1 0 SET 10 20 x - more",
                                        "a 1 0 PUSH 10 20 x -",
                                        "a x 0 SET 10 20 x -",
                                        "a 1 0 SET ten 20 x -",
                                        "a 1 0 SET 20 10 x -",
                                        "a 1 0 INCR 1 2 - -",
                                        "a 1 0 SET 10 20 x OK",
                                        "a 1 0 INCR 1 - - 5",
                                        "a  1 0 SET 10 20 x -"};
    struct history history = {0};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_false(history_add(&history, lines[i]));
    assert_int_equal(history.count, 0);
    history_fini(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_good_in_whatever_order_it_was_written_down),
        cmocka_unit_test(a_stale_read_is_found),
        cmocka_unit_test(an_acknowledged_write_that_is_lost_is_found),
        cmocka_unit_test(what_was_refused_and_is_there_is_found),
        cmocka_unit_test(a_line_of_another_form_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
