/* As much of cmocka's interface as the kernels' tests use, for a machine that is only emulated here and has no cmocka:
 * a test that fails ends the program, and what passed is counted in TAP's lines. */
#ifndef TESTS_CROSS_CMOCKA_H
#define TESTS_CROSS_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};

#define cmocka_unit_test(test)                                                                               \
    {                                                                                                        \
#test, test                                                                                          \
    }

#define cross_fail(...)                                                                                      \
    do {                                                                                                     \
        printf("%s:%d: ", __FILE__, __LINE__);                                                               \
        printf(__VA_ARGS__);                                                                                 \
        printf("\n");                                                                                        \
        exit(1);                                                                                             \
    } while (0)

#define fail_msg(...) cross_fail(__VA_ARGS__)
#define assert_true(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            cross_fail("not so: %s", #condition);                                                            \
    } while (0)
#define assert_int_equal(a, b)       assert_true((uint64_t)(a) == (uint64_t)(b))
#define assert_ptr_equal(a, b)       assert_true((a) == (b))
#define assert_null(p)               assert_true(!(p))
#define assert_non_null(p)           assert_true(p)
#define assert_string_equal(a, b)    assert_true(strcmp(a, b) == 0)
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int cross_run(const struct CMUnitTest *tests, size_t count, int (*setup)(void **state),
                            int (*teardown)(void **state))
{
    void *state = NULL;
    if (setup && setup(&state) != 0)
        return 1;
    for (size_t i = 0; i < count; i++) {
        tests[i].test(&state);
        printf("ok %zu - %s\n", i + 1, tests[i].name);
        fflush(stdout);
    }
    return teardown ? teardown(&state) : 0;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                                       \
    cross_run(tests, sizeof(tests) / sizeof *(tests), setup, teardown)

#endif
