/* The request parser: golden requests, every split of them, every limit, every allocation failure. */
#include "base/random.h"
#include "base/status.h"
#include "failing_malloc.h"
#include "wire/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct kith_request_limits default_limits = KITH_REQUEST_LIMITS_DEFAULT;

/* Requests as text: arguments in brackets, one line each, then the error if there was one. */
static void describe(struct kith_buf *text, const struct kith_request *requests, int count)
{
    for (int i = 0; i < count; i++) {
        for (size_t a = 0; a < requests[i].argc; a++) {
            kith_buf_append_char(text, '[');
            kith_buf_append(text, requests[i].argv[a].data, requests[i].argv[a].length);
            kith_buf_append_char(text, ']');
        }
        kith_buf_append_char(text, '\n');
    }
}

/* Feeds `input` in pieces that end at the given offsets; every piece arrives in fresh memory, so that a slice
 * which still points at an old place is caught by ASan. */
static void feed(struct kith_buf *text, struct kith_slice input, const size_t *cuts, size_t cut_count,
                 size_t batch, const struct kith_request_limits *limits)
{
    struct kith_request_parser parser;
    struct kith_request *requests = calloc(batch, sizeof *requests);
    kith_request_parser_init(&parser, limits);
    size_t start = 0;
    int status = 0;
    for (size_t c = 0; c <= cut_count && status >= 0; c++) {
        size_t end = c == cut_count ? input.length : cuts[c];
        char *data = malloc(end - start + 1);
        if (end > start)
            memcpy(data, input.data + start, end - start);
        size_t used = 0, consumed = 0;
        do {
            status = kith_request_parse(&parser, data + used, end - start - used, requests, batch, &consumed);
            if (status > 0)
                describe(text, requests, status);
            used += consumed;
        } while (status > 0);
        if (status == 0)
            assert_true(kith_request_needed(&parser) >= 1);
        start += used;
        free(data);
    }
    if (status < 0)
        kith_buf_append_format(text, "!%s",
                               status == KITH_ECORRUPT ? parser.error : kith_status_text(status));
    else if (kith_request_is_partial(&parser))
        kith_buf_append_text(text, "...");
    kith_request_parser_fini(&parser);
    free(requests);
}

static const struct {
    struct kith_slice input;
    const char *result;
} goldens[] = {
    {{"", 0}, ""},
    {KITH_SLICE("*1\r\n$4\r\nPING\r\n"), "[PING]\n"},
    {KITH_SLICE("*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n"), "[GET][]\n[PING]\n"},
    {KITH_SLICE("*0\r\n*-1\r\n*1\r\n$1\r\na\r\n"), "[a]\n"},
    {KITH_SLICE("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nline\r\n*2\r\n$4\r\n"), "[SET][k][line\r\n*2\r\n$4]\n"},
    {KITH_SLICE("*2\r\n$3\r\nGET\r\n$3\r\nab"), "..."},
    {KITH_SLICE("*2\r\n$3\r\nGET\r\n$"), "..."},
    {KITH_SLICE("*"), "..."},
    {KITH_SLICE("PING\r\n"), "[PING]\n"},
    {KITH_SLICE("PING\n"), "[PING]\n"},
    {KITH_SLICE("\r\n\r\n  \r\nPING\r\n\r\n"), "[PING]\n"},
    {KITH_SLICE("set  k\t\"a b\" \r\n*1\r\n$4\r\nPING\r\nGET k\r\n"), "[set][k][a b]\n[PING]\n[GET][k]\n"},
    {KITH_SLICE("SET k \"\\x41\\n\\r\\t\\\"\\\\\\q\\xg\"\r\n"), "[SET][k][A\n\r\t\"\\qxg]\n"},
    {KITH_SLICE("SET k 'a\\'b\\n' '' \"\"\r\n"), "[SET][k][a'b\\n][][]\n"},
    {KITH_SLICE("SET foo\"bar\" x\r\n"), "[SET][foobar][x]\n"},
    {KITH_SLICE("SET k \"abc\r\n"), "!ERR Protocol error: unbalanced quotes in request"},
    {KITH_SLICE("SET k 'abc\\'\r\n"), "!ERR Protocol error: unbalanced quotes in request"},
    {KITH_SLICE("SET k \"a\"b\r\n"), "!ERR Protocol error: unbalanced quotes in request"},
    {KITH_SLICE("GET a\0b\r\n"), "[GET][a]\n"},
    {KITH_SLICE("*x\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*01\r\n$4\r\nPING\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*+1\r\n$4\r\nPING\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*-0\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*1048577\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*99999999999999999999\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*1\rx$4\r\nPING\r\n"), "!ERR Protocol error: invalid multibulk length"},
    {KITH_SLICE("*1\r\nxPING\r\n"), "!ERR Protocol error: expected '$', got 'x'"},
    {KITH_SLICE("*1\r\n$x\r\n"), "!ERR Protocol error: invalid bulk length"},
    {KITH_SLICE("*1\r\n$-1\r\n"), "!ERR Protocol error: invalid bulk length"},
    {KITH_SLICE("*1\r\n$536870913\r\n"), "!ERR Protocol error: invalid bulk length"},
    {KITH_SLICE("*1\r\n$04\r\nPING\r\n"), "!ERR Protocol error: invalid bulk length"},
    {KITH_SLICE("*1\r\n$3\r\nPING\r\n"), "!ERR Protocol error: expected CR LF after the argument"},
    {KITH_SLICE("*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n*1\r\n$4\r\nPING\r\n"),
     "[PING]\n!ERR Protocol error: invalid bulk length"},
};

static void expect_feed(size_t golden, const size_t *cuts, size_t cut_count, size_t batch)
{
    struct kith_buf text;
    kith_buf_init(&text);
    feed(&text, goldens[golden].input, cuts, cut_count, batch, &default_limits);
    kith_buf_append_char(&text, '\0');
    if (strcmp(text.data, goldens[golden].result) != 0)
        fail_msg("golden %zu, %zu cuts, batch %zu: %s", golden, cut_count, batch, text.data);
    kith_buf_fini(&text);
}

static void requests_are_read_as_written(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        expect_feed(g, NULL, 0, 64);
        expect_feed(g, NULL, 0, 1);
        expect_feed(g, NULL, 0, 2);
    }
}

static void any_split_in_two_or_three_gives_the_same_requests(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        for (size_t a = 0; a <= goldens[g].input.length; a++) {
            for (size_t b = a; b <= goldens[g].input.length; b++)
                expect_feed(g, (size_t[]){a, b}, 2, 4);
        }
    }
}

static void byte_by_byte_gives_the_same_requests(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        size_t cuts[128];
        for (size_t i = 0; i < goldens[g].input.length; i++)
            cuts[i] = i;
        expect_feed(g, cuts, goldens[g].input.length, 4);
    }
}

static void random_pipelines_survive_random_splits(void **state)
{
    const uint64_t seed = 20261120;
    struct kith_rng random;
    kith_rng_seed(&random, seed);
    for (int round = 0; round < 300; round++) {
        struct kith_buf wire, expected, got;
        kith_buf_init(&wire);
        kith_buf_init(&expected);
        kith_buf_init(&got);
        for (int r = 0; r < 20; r++) {
            uint64_t argc = 1 + kith_rng_below(&random, 5);
            kith_buf_append_format(&wire, "*%d\r\n", (int)argc);
            for (uint64_t a = 0; a < argc; a++) {
                char bytes[300];
                size_t n = kith_rng_below(&random, kith_rng_below(&random, 4) ? 12 : sizeof bytes);
                for (size_t i = 0; i < n; i++)
                    bytes[i] = (char)('a' + kith_rng_below(&random, 26));
                kith_buf_append_format(&wire, "$%zu\r\n", n);
                kith_buf_append(&wire, bytes, n);
                kith_buf_append_text(&wire, "\r\n");
                kith_buf_append_char(&expected, '[');
                kith_buf_append(&expected, bytes, n);
                kith_buf_append_char(&expected, ']');
            }
            kith_buf_append_char(&expected, '\n');
        }
        size_t cuts[16], at = 0;
        for (int i = 0; i < 16; i++)
            cuts[i] = at += kith_rng_below(&random, (wire.length - at) / 3 + 1);
        feed(&got, kith_buf_slice(&wire), cuts, 16, 1 + kith_rng_below(&random, 8), &default_limits);
        if (!kith_slice_equal(kith_buf_slice(&got), kith_buf_slice(&expected)))
            fail_msg("seed %llu round %d", (unsigned long long)seed, round);
        kith_buf_fini(&wire);
        kith_buf_fini(&expected);
        kith_buf_fini(&got);
    }
}

static void expect_with_limits(struct kith_slice input, const struct kith_request_limits *limits,
                               const char *result)
{
    struct kith_buf text;
    kith_buf_init(&text);
    feed(&text, input, NULL, 0, 4, limits);
    kith_buf_append_char(&text, '\0');
    assert_string_equal(text.data, result);
    kith_buf_fini(&text);
}

static void every_limit_has_its_error(void **state)
{
    const struct kith_request_limits small = {.arguments_max = 2, .bulk_max = 5, .line_max = 8};
    expect_with_limits(KITH_SLICE("*2\r\n$5\r\nabcde\r\n$0\r\n\r\n"), &small, "[abcde][]\n");
    expect_with_limits(KITH_SLICE("*3\r\n"), &small, "!ERR Protocol error: invalid multibulk length");
    expect_with_limits(KITH_SLICE("*1\r\n$6\r\n"), &small, "!ERR Protocol error: invalid bulk length");
    expect_with_limits(KITH_SLICE("*11111111"), &small, "!ERR Protocol error: too big mbulk count string");
    expect_with_limits(KITH_SLICE("*11111111\r\n"), &small,
                       "!ERR Protocol error: too big mbulk count string");
    expect_with_limits(KITH_SLICE("*1\r\n$11111111"), &small,
                       "!ERR Protocol error: too big bulk count string");
    expect_with_limits(KITH_SLICE("123456789"), &small, "!ERR Protocol error: too big inline request");
    expect_with_limits(KITH_SLICE("123456789\r\n"), &small, "!ERR Protocol error: too big inline request");
    expect_with_limits(KITH_SLICE("a b c\r\n"), &small,
                       "!ERR Protocol error: too many arguments in inline request");
    const struct kith_request_limits stranger = KITH_REQUEST_LIMITS_UNAUTHENTICATED;
    expect_with_limits(KITH_SLICE("*10\r\n"), &stranger, "...");
    expect_with_limits(KITH_SLICE("*11\r\n"), &stranger,
                       "!ERR Protocol error: unauthenticated multibulk length");
    expect_with_limits(KITH_SLICE("*1\r\n$16384\r\n"), &stranger, "...");
    expect_with_limits(KITH_SLICE("*1\r\n$16385\r\n"), &stranger,
                       "!ERR Protocol error: unauthenticated bulk length");
    expect_with_limits(KITH_SLICE("*1\r\n$-1\r\n"), &stranger, "!ERR Protocol error: invalid bulk length");
}

static void a_large_argument_says_how_much_is_missing(void **state)
{
    struct kith_request_parser parser;
    struct kith_request request;
    size_t consumed;
    kith_request_parser_init(&parser, &default_limits);
    const char text[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nabc";
    assert_int_equal(kith_request_parse(&parser, text, sizeof text - 1, &request, 1, &consumed), 0);
    assert_int_equal(consumed, 0);
    assert_int_equal(kith_request_needed(&parser), 1000000 - 3 + 2);
    kith_request_parser_fini(&parser);

    kith_request_parser_init(&parser, &default_limits);
    const char more[] = "*3\r\n$3\r\nSET\r\n$100\r\n";
    assert_int_equal(kith_request_parse(&parser, more, sizeof more - 1, &request, 1, &consumed), 0);
    assert_int_equal(kith_request_needed(&parser), 102 + 6);
    kith_request_parser_fini(&parser);
}

static void a_claimed_argument_count_alone_takes_little_memory(void **state)
{
    struct kith_request_parser parser;
    struct kith_request request;
    size_t consumed;
    kith_request_parser_init(&parser, &default_limits);
    assert_int_equal(kith_request_parse(&parser, "*1048576\r\n", 10, &request, 1, &consumed), 0);
    assert_true(kith_request_parser_memory(&parser) <= 64 * 1024);
    kith_request_parser_trim(&parser);
    assert_true(kith_request_is_partial(&parser));
    kith_request_parser_fini(&parser);
}

static void a_protocol_error_is_for_good(void **state)
{
    struct kith_request_parser parser;
    struct kith_request request;
    size_t consumed;
    kith_request_parser_init(&parser, &default_limits);
    assert_int_equal(kith_request_parse(&parser, "*x\r\n", 4, &request, 1, &consumed), KITH_ECORRUPT);
    assert_int_equal(kith_request_parse(&parser, "PING\r\n", 6, &request, 1, &consumed), KITH_ECORRUPT);
    kith_request_parser_fini(&parser);
}

static void a_failed_allocation_can_be_tried_again(void **state)
{
    static char input[64 * 1024];
    size_t length = (size_t)snprintf(input, sizeof input, "SET \"a b\" c\r\n*2000\r\n");
    for (int i = 0; i < 2000; i++)
        length += (size_t)snprintf(input + length, sizeof input - length, "$4\r\n%04d\r\n", i);
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct kith_request_parser parser;
        struct kith_request requests[4];
        kith_request_parser_init(&parser, &default_limits);
        size_t used = 0, consumed, got = 0, failures = 0;
        while (got < 2 && failures < 2) {
            int count = kith_request_parse(&parser, input + used, length - used, requests, 4, &consumed);
            used += consumed;
            assert_true(count > 0 || count == KITH_ENOMEM);
            if (count < 0) {
                failures++;
                continue;
            }
            got += (size_t)count;
            if (got == 2) {
                assert_int_equal(requests[count - 1].argc, 2000);
                assert_memory_equal(requests[count - 1].argv[1999].data, "1999", 4);
            }
        }
        assert_int_equal(got, 2);
        assert_int_equal(used, length);
        kith_request_parser_trim(&parser);
        assert_true(kith_request_parser_memory(&parser) <= 8192);
        kith_request_parser_fini(&parser);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read_as_written),
        cmocka_unit_test(any_split_in_two_or_three_gives_the_same_requests),
        cmocka_unit_test(byte_by_byte_gives_the_same_requests),
        cmocka_unit_test(random_pipelines_survive_random_splits),
        cmocka_unit_test(every_limit_has_its_error),
        cmocka_unit_test(a_large_argument_says_how_much_is_missing),
        cmocka_unit_test(a_claimed_argument_count_alone_takes_little_memory),
        cmocka_unit_test(a_protocol_error_is_for_good),
        cmocka_unit_test(a_failed_allocation_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
