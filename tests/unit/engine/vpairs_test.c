/* VPAIRS by its replies: pages, changes between them, memory that runs out. */
#include "failing_malloc.h"
#include "fixture.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants those first */
#include <cmocka.h>

enum { STAYING = 300, COMING = 300, DIM = 4, ROUNDS_MAX = 100000 };

static const char *add(struct fixture *fixture, struct kith_rng *rng, const char *prefix, unsigned n)
{
    char line[256];
    int v[DIM];
    for (int i = 0; i < DIM; i++)
        v[i] = (int)kith_rng_below(rng, 40) - 20;
    snprintf(line, sizeof line, "VADD k VALUES 4 %d %d %d %d %s%u SETATTR {\"n\":%u}", v[0], v[1], v[2], v[3],
             prefix, n, n % 3);
    return fixture_do(fixture, line);
}

/* How often each pair of the elements s0 .. was reported. */
struct seen {
    unsigned char times[STAYING][STAYING];
    size_t others, pages;
};

/* Reads one bulk string; the element's number, or -1 when it is not one that stays. */
static int read_name(const char **at)
{
    long length = strtol(*at + 1, NULL, 10);
    const char *text = strchr(*at, '\n') + 1;
    *at = text + length + 2;
    return text[0] == 's' ? atoi(text + 1) : -1;
}

/* A page's reply; returns its cursor. */
static unsigned long long read_page(const char *reply, struct seen *seen)
{
    assert_true(strncmp(reply, "*2\r\n$", 5) == 0);
    const char *at = strchr(reply + 4, '\n') + 1;
    unsigned long long cursor = strtoull(at, NULL, 10);
    at = strchr(at, '\n') + 1;
    assert_int_equal(*at, '*');
    long count = strtol(at + 1, NULL, 10);
    at = strchr(at, '\n') + 1;
    for (long i = 0; i < count; i++) {
        assert_true(strncmp(at, "*2\r\n", 4) == 0);
        at += 4;
        int a = read_name(&at), b = read_name(&at);
        if (a >= 0 && b >= 0)
            seen->times[a > b ? a : b][a > b ? b : a]++;
        else
            seen->others++;
    }
    seen->pages++;
    return cursor;
}

static void run_pages(struct fixture *fixture, const char *options, struct kith_rng *rng, struct seen *seen)
{
    unsigned long long cursor = 0;
    char line[256];
    memset(seen, 0, sizeof *seen);
    do {
        snprintf(line, sizeof line, "VPAIRS k %s CURSOR %llu", options, cursor);
        cursor = read_page(fixture_do(fixture, line), seen);
        for (unsigned i = 0; rng && i < 5; i++) {
            unsigned n = (unsigned)kith_rng_below(rng, COMING);
            snprintf(line, sizeof line, "VREM k c%u", n);
            assert_non_null(fixture_do(fixture, line));
            assert_non_null(add(fixture, rng, "c", (unsigned)kith_rng_below(rng, COMING)));
        }
        assert_true(seen->pages < ROUNDS_MAX);
    } while (cursor);
}

static void pairs_that_stay_come_once_while_others_come_and_go(void **state)
{
    static struct seen all, paged, filtered;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct fixture fixture;
        struct kith_rng rng;
        print_message("seed %llu\n", (unsigned long long)seed);
        kith_rng_seed(&rng, seed);
        assert_true(fixture_open(&fixture, seed));
        for (unsigned i = 0; i < STAYING; i++) {
            assert_non_null(add(&fixture, &rng, "s", i));
            assert_non_null(add(&fixture, &rng, "c", i));
        }
        run_pages(&fixture, "MINSCORE 0.95 COUNT 5000", NULL, &all);
        run_pages(&fixture, "MINSCORE 0.95 COUNT 7", &rng, &paged);
        run_pages(&fixture, "MINSCORE 0.95 COUNT 50 FILTER .n==1", &rng, &filtered);
        assert_true(paged.pages > 50 && all.pages < paged.pages);
        size_t near = 0, missed = 0;
        for (unsigned a = 0; a < STAYING; a++) {
            for (unsigned b = 0; b < a; b++) {
                bool match = a % 3 == 1 && b % 3 == 1;
                near += all.times[a][b];
                assert_true(all.times[a][b] <= 1 && paged.times[a][b] <= 1);
                missed += all.times[a][b] != paged.times[a][b];
                missed += filtered.times[a][b] != (match ? all.times[a][b] : 0);
            }
        }
        assert_true(near > 500);
        assert_true(missed <= near / 200);
        fixture_close(&fixture);
    }
}

static void a_page_of_long_names_ends_sooner(void **state)
{
    struct fixture fixture;
    struct seen seen = {.others = 0};
    char *line = malloc(70000), name[65536];
    unsigned long long cursor = 0;
    assert_non_null(line);
    assert_true(fixture_open(&fixture, 1));
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (unsigned i = 0; i < 40; i++) {
        snprintf(line, 70000, "VADD k VALUES 4 1 2 3 4 x%u%s", i, name);
        assert_non_null(fixture_do(&fixture, line));
    }
    do {
        snprintf(line, 70000, "VPAIRS k MINSCORE 1 COUNT 5000 CURSOR %llu", cursor);
        cursor = read_page(fixture_do(&fixture, line), &seen);
        assert_true(fixture.reply.length < (2 << 20));
    } while (cursor);
    assert_int_equal(seen.others, 40 * 39 / 2);
    assert_true(seen.pages > 40);
    fixture_close(&fixture);
    free(line);
}

static void a_join_without_memory_is_an_error_and_nothing_else(void **state)
{
    static const char *const lines[] = {
        "VPAIRS k MINSCORE 0.9 WITHSCORES FILTER .n==1",
        "VPAIRS k TOP 50 WITHSCORES",
        "VPAIRS k MINSCORE 0.99 SAMPLE 50",
        "VPAIRS none TOP 3",
        "VPAIRS k MINSCORE x",
    };
    struct fixture fixture;
    struct kith_rng rng;
    kith_rng_seed(&rng, 4);
    assert_true(fixture_open(&fixture, 4));
    for (unsigned i = 0; i < 600; i++)
        assert_non_null(add(&fixture, &rng, "s", i));
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        for (int n = 0; failing_malloc_sweep(&n);) {
            const char *reply = fixture_do(&fixture, lines[i]);
            assert_true(!reply || *reply == '*' || *reply == '%' || strncmp(reply, "-OOM", 4) == 0 ||
                        strncmp(reply, "-ERR", 4) == 0);
        }
    }
    fixture_close(&fixture);
}

static void any_arguments_are_answered(void **state)
{
    static const char *const words[] = {"MINSCORE",
                                        "TOP",
                                        "CURSOR",
                                        "COUNT",
                                        "SAMPLE",
                                        "FILTER",
                                        "0.9",
                                        "-1",
                                        "3",
                                        "nan",
                                        "1e400",
                                        ".n==1",
                                        "'.n =='",
                                        "inf",
                                        "0",
                                        "withscores",
                                        "-inf",
                                        "''",
                                        "18446744073709551616",
                                        "9223372036854775807"};
    struct fixture fixture;
    struct kith_rng rng;
    kith_rng_seed(&rng, 5);
    assert_true(fixture_open(&fixture, 5));
    for (unsigned i = 0; i < 80; i++)
        assert_non_null(add(&fixture, &rng, "s", i));
    for (unsigned round = 0; round < 20000; round++) {
        char line[512] = "VPAIRS k";
        for (unsigned i = (unsigned)kith_rng_below(&rng, 7); i > 0; i--) {
            strcat(line, " ");
            strcat(line, words[kith_rng_below(&rng, sizeof words / sizeof *words)]);
        }
        const char *reply = fixture_do(&fixture, line);
        assert_true(reply && (*reply == '*' || *reply == '%' || *reply == '-'));
    }
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_that_stay_come_once_while_others_come_and_go),
        cmocka_unit_test(a_page_of_long_names_ends_sooner),
        cmocka_unit_test(a_join_without_memory_is_an_error_and_nothing_else),
        cmocka_unit_test(any_arguments_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
