/* The reply reader: every type, every split, every limit, every allocation failure; and the three ways to
 * print. */
#include "base/random.h"
#include "base/status.h"
#include "failing_malloc.h"
#include "wire/reply.h"
#include "wire/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct kith_value_limits default_limits = KITH_VALUE_LIMITS_DEFAULT;

/* Reads all values of `input`, cut at the given offsets, as JSON lines; then "!" and the error, or "..." */
static void feed(struct kith_buf *text, struct kith_slice input, const size_t *cuts, size_t cut_count,
                 struct kith_value_limits limits)
{
    struct kith_value_reader reader;
    kith_value_reader_init(&reader, limits);
    size_t start = 0;
    int status = 0;
    for (size_t c = 0; c <= cut_count && status >= 0; c++) {
        size_t end = c == cut_count ? input.length : cuts[c], used = 0, consumed = 0;
        char *data = malloc(end - start + 1);
        if (end > start)
            memcpy(data, input.data + start, end - start);
        do {
            struct kith_value value;
            status = kith_value_read(&reader, data + used, end - start - used, &value, &consumed);
            used += consumed;
            if (status == 1) {
                kith_value_print_json(&value, text);
                kith_buf_append_char(text, '\n');
                kith_value_fini(&value);
            }
        } while (status == 1);
        if (status == 0)
            assert_int_equal(used, end - start);
        start = end;
        free(data);
    }
    if (status < 0)
        kith_buf_append_format(text, "!%s", reader.error);
    else if (kith_value_reader_is_partial(&reader))
        kith_buf_append_text(text, "...");
    kith_value_reader_fini(&reader);
}

static const struct {
    struct kith_slice input;
    const char *result;
} goldens[] = {
    {KITH_SLICE("+OK\r\n-ERR no\r\n:42\r\n:-1\r\n:+7\r\n"), "\"OK\"\n{\"error\":\"ERR no\"}\n42\n-1\n7\n"},
    {KITH_SLICE("$5\r\nhello\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n"), "\"hello\"\n\"\"\nnull\nnull\nnull\n"},
    {KITH_SLICE("$4\r\na\r\nb\r\n$2\r\n\xff\x01\r\n"), "\"a\\r\\nb\"\n\"\\u00ff\\u0001\"\n"},
    {KITH_SLICE("*0\r\n*2\r\n:1\r\n*1\r\n$1\r\na\r\n:3\r\n"), "[]\n[1,[\"a\"]]\n3\n"},
    {KITH_SLICE("%2\r\n+a\r\n:1\r\n:2\r\n*0\r\n~2\r\n#t\r\n#f\r\n"), "{\"a\":1,\"2\":[]}\n[true,false]\n"},
    {KITH_SLICE(",1.5\r\n,inf\r\n,-inf\r\n,nan\r\n,3\r\n"), "1.5\n\"inf\"\n\"-inf\"\n\"nan\"\n3\n"},
    {KITH_SLICE("(123456789012345678901\r\n(x\r\n=6\r\ntxt:hi\r\n!7\r\nERR a\nb\r\n"),
     "123456789012345678901\n\"x\"\n\"hi\"\n{\"error\":\"ERR a\\nb\"}\n"},
    {KITH_SLICE(">2\r\n+message\r\n$1\r\nx\r\n"), "[\"message\",\"x\"]\n"},
    {KITH_SLICE("|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n"), "\"x\"\n"},
    {KITH_SLICE("*2\r\n|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n*1\r\n:9\r\n|0\r\n:8\r\n:7\r\n"), "[[9],8]\n7\n"},
    {KITH_SLICE("|1\r\n+ttl\r\n:5\r\n"), "..."},
    {KITH_SLICE("*2\r\n:1\r\n"), "..."},
    {KITH_SLICE("$5\r\nhello\r"), "..."},
    {KITH_SLICE("+O"), "..."},
    {KITH_SLICE("$3\r\nhello\r\n"), "!a string is longer than its length says: ''"},
    {KITH_SLICE("+OK\n"), "!a line without CR LF: '+OK'"},
    {KITH_SLICE("\r\n"), "!not a reply of the Redis protocol: ''"},
    {KITH_SLICE("HTTP/1.1 400 Bad Request\r\n"),
     "!not a reply of the Redis protocol: 'HTTP/1.1 400 Bad Request'"},
    {KITH_SLICE(":1x\r\n"), "!not a number: ':1x'"},
    {KITH_SLICE(",\r\n"), "!not a number: ','"},
    {KITH_SLICE("$x\r\n"), "!not a length: '$x'"},
    {KITH_SLICE("%-1\r\n"), "!not a length: '%-1'"},
    {KITH_SLICE("*-2\r\n"), "!not a length: '*-2'"},
    {KITH_SLICE("#x\r\n"), "!not a boolean: '#x'"},
    {KITH_SLICE("_x\r\n"), "!not a null: '_x'"},
    {KITH_SLICE("=2\r\nhi\r\n"), "!a verbatim string without its format: 'hi'"},
    {KITH_SLICE("|0\r\n|0\r\n:1\r\n"), "!two attributes before one value: ''"},
};

static void expect_feed(struct kith_slice input, const size_t *cuts, size_t cut_count,
                        struct kith_value_limits limits, const char *result)
{
    struct kith_buf text;
    kith_buf_init(&text);
    feed(&text, input, cuts, cut_count, limits);
    kith_buf_append_char(&text, '\0');
    if (strcmp(text.data, result) != 0)
        fail_msg("'%.*s' with %zu cuts: %s", (int)input.length, input.data, cut_count, text.data);
    kith_buf_fini(&text);
}

static void every_type_is_read_whole_and_in_any_split(void **state)
{
    for (size_t g = 0; g < sizeof goldens / sizeof *goldens; g++) {
        size_t length = goldens[g].input.length, cuts[128];
        expect_feed(goldens[g].input, NULL, 0, default_limits, goldens[g].result);
        for (size_t a = 0; a <= length; a++) {
            for (size_t b = a; b <= length; b++)
                expect_feed(goldens[g].input, (size_t[]){a, b}, 2, default_limits, goldens[g].result);
            cuts[a] = a;
        }
        expect_feed(goldens[g].input, cuts, length, default_limits, goldens[g].result);
    }
}

static void every_limit_has_its_error(void **state)
{
    struct kith_value_limits limits = {.depth_max = 2, .bytes_max = 1000, .line_max = 10};
    expect_feed(KITH_SLICE("*1\r\n*1\r\n:1\r\n"), NULL, 0, limits, "[[1]]\n");
    expect_feed(KITH_SLICE("*1\r\n*1\r\n*1\r\n"), NULL, 0, limits, "!the reply nests deeper than 2");
    expect_feed(KITH_SLICE("$1001\r\n"), NULL, 0, limits, "!the reply is larger than 1000 bytes");
    expect_feed(KITH_SLICE("*1000\r\n"), NULL, 0, limits, "!the reply is larger than 1000 bytes");
    expect_feed(KITH_SLICE("%1001\r\n"), NULL, 0, limits, "!too many items: '%1001'");
    expect_feed(KITH_SLICE("*9999999999999999999\r\n"), NULL, 0, limits,
                "!a line that does not end: '*9999999999999999999\r\n'");
    expect_feed(KITH_SLICE("*9223372036854775807\r\n"), NULL, 0, default_limits,
                "!too many items: '*9223372036854775807'");
    expect_feed(KITH_SLICE("%9223372036854775807\r\n"), NULL, 0, default_limits,
                "!too many items: '%9223372036854775807'");
    expect_feed(KITH_SLICE("+0123456789"), NULL, 0, limits, "...");
    expect_feed(KITH_SLICE("+012345678901"), NULL, 0, limits, "!a line that does not end: '+012345678901'");
    /* The allowance is per reply: it is enough for one of these, not for two. */
    limits.bytes_max = 15 * sizeof(struct kith_value);
    expect_feed(KITH_SLICE("*10\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
                           "*10\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n"),
                NULL, 0, limits, "[[],[],[],[],[],[],[],[],[],[]]\n[[],[],[],[],[],[],[],[],[],[]]\n");
}

static void a_large_string_comes_back_whole(void **state)
{
    struct kith_buf wire;
    struct kith_reply reply;
    kith_buf_init(&wire);
    kith_reply_init(&reply, &wire, 3);
    size_t length = 1000003;
    char *bytes = malloc(length);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(i * 31 >> 3);
    kith_reply_bulk(&reply, kith_slice(bytes, length));
    struct kith_value_reader reader;
    struct kith_value value = {0};
    kith_value_reader_init(&reader, default_limits);
    size_t consumed, used = 0;
    int status = 0;
    while (status == 0 && used < wire.length) {
        size_t piece = wire.length - used < 7919 ? wire.length - used : 7919;
        status = kith_value_read(&reader, wire.data + used, piece, &value, &consumed);
        used += consumed;
    }
    assert_int_equal(status, 1);
    assert_int_equal(value.text.length, length);
    assert_memory_equal(value.text.data, bytes, length);
    kith_value_fini(&value);
    kith_value_reader_fini(&reader);
    kith_buf_fini(&wire);
    free(bytes);
}

static void attributes_stay_with_their_value(void **state)
{
    struct kith_value_reader reader;
    struct kith_value value;
    size_t consumed;
    const char text[] = "*2\r\n:1\r\n|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n";
    kith_value_reader_init(&reader, default_limits);
    assert_int_equal(kith_value_read(&reader, text, sizeof text - 1, &value, &consumed), 1);
    assert_null(value.items[0].attributes);
    assert_int_equal(kith_value_get(value.items[1].attributes, "ttl")->integer, 5);
    assert_null(kith_value_get(value.items[1].attributes, "no"));
    assert_null(kith_value_get(&value.items[0], "no"));
    kith_value_fini(&value);
    kith_value_reader_fini(&reader);
}

static void print(const char *wire, void (*printer)(const struct kith_value *, struct kith_buf *),
                  const char *result)
{
    struct kith_value_reader reader;
    struct kith_value value;
    size_t consumed;
    struct kith_buf text;
    kith_buf_init(&text);
    kith_value_reader_init(&reader, default_limits);
    assert_int_equal(kith_value_read(&reader, wire, strlen(wire), &value, &consumed), 1);
    printer(&value, &text);
    kith_buf_append_char(&text, '\0');
    assert_string_equal(text.data, result);
    kith_buf_fini(&text);
    kith_value_fini(&value);
    kith_value_reader_fini(&reader);
}

static void the_terminal_form_is_that_of_redis_cli(void **state)
{
    print("+OK\r\n", kith_value_print, "OK\n");
    print(":5\r\n", kith_value_print, "(integer) 5\n");
    print("$6\r\na\"b\\\n\x01\r\n", kith_value_print, "\"a\\\"b\\\\\\n\\x01\"\n");
    print("-ERR x\r\n", kith_value_print, "(error) ERR x\n");
    print("_\r\n", kith_value_print, "(nil)\n");
    print(",2.5\r\n", kith_value_print, "(double) 2.5\n");
    print("#t\r\n", kith_value_print, "(true)\n");
    print("=6\r\ntxt:hi\r\n", kith_value_print, "hi\n");
    print("*0\r\n", kith_value_print, "(empty array)\n");
    print("%0\r\n", kith_value_print, "(empty hash)\n");
    print("~0\r\n", kith_value_print, "(empty set)\n");
    print("*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n*1\r\n+x\r\n", kith_value_print,
          "1) 1) (integer) 1\n   2) (integer) 2\n2) 1) 1) x\n");
    print("%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n", kith_value_print, "1# a => 1) (integer) 1\n   2) (integer) 2\n");
    print("~1\r\n+a\r\n", kith_value_print, "1~ a\n");
    print("*10\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n_\r\n", kith_value_print,
          " 1) (integer) 1\n 2) (integer) 2\n 3) (integer) 3\n 4) (integer) 4\n 5) (integer) 5\n 6) "
          "(integer) 6\n"
          " 7) (integer) 7\n 8) (integer) 8\n 9) (integer) 9\n10) (nil)\n");
}

static void the_pipe_form_is_plain(void **state)
{
    print("$3\r\na b\r\n", kith_value_print_raw, "a b\n");
    print("_\r\n", kith_value_print_raw, "\n");
    print("*3\r\n:1\r\n*2\r\n+a\r\n+b\r\n$1\r\nc\r\n", kith_value_print_raw, "1\na\nb\nc\n");
    print("%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", kith_value_print_raw, "a 1\nb 2\n");
}

static void json_text_is_utf8_or_escaped(void **state)
{
    print("$5\r\n\xc3\xa9\"\\/\r\n", kith_value_print_json, "\"\xc3\xa9\\\"\\\\/\"");
    print("$2\r\n\xc0\x80\r\n", kith_value_print_json, "\"\\u00c0\\u0080\"");
    print("$3\r\n\xed\xa0\x80\r\n", kith_value_print_json, "\"\\u00ed\\u00a0\\u0080\"");
    print("$4\r\n\xf0\x9f\x98\x80\r\n", kith_value_print_json, "\"\xf0\x9f\x98\x80\"");
    print("$2\r\n\xe2\x82\r\n", kith_value_print_json, "\"\\u00e2\\u0082\"");
}

static void a_request_is_written_as_bulk_strings(void **state)
{
    struct kith_buf out;
    kith_buf_init(&out);
    kith_request_put(&out, (struct kith_slice[]){KITH_SLICE("SET"), KITH_SLICE("k"), KITH_SLICE("")}, 3);
    kith_buf_append_char(&out, '\0');
    assert_string_equal(out.data, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    kith_buf_fini(&out);
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    static const char text[] =
        "*4\r\n|1\r\n+a\r\n$1\r\nb\r\n%1\r\n+k\r\n*1\r\n$3\r\nxyz\r\n(12\r\n=5\r\ntxt:1\r\n:5\r\n";
    for (size_t cut = 0; cut < sizeof text; cut += 3) {
        for (int n = 0; failing_malloc_sweep(&n);) {
            struct kith_value_reader reader;
            struct kith_value value = {0};
            struct kith_buf printed;
            size_t consumed = 0;
            kith_buf_init(&printed);
            kith_value_reader_init(&reader, default_limits);
            int status = kith_value_read(&reader, text, cut, &value, &consumed);
            if (status == 0)
                status = kith_value_read(&reader, text + cut, sizeof text - 1 - cut, &value, &consumed);
            assert_true(status == 1 || status == KITH_ENOMEM);
            if (status == 1) {
                kith_value_print(&value, &printed);
                kith_value_print_json(&value, &printed);
                kith_value_fini(&value);
            }
            kith_buf_fini(&printed);
            kith_value_reader_fini(&reader);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read_whole_and_in_any_split),
        cmocka_unit_test(every_limit_has_its_error),
        cmocka_unit_test(a_large_string_comes_back_whole),
        cmocka_unit_test(attributes_stay_with_their_value),
        cmocka_unit_test(the_terminal_form_is_that_of_redis_cli),
        cmocka_unit_test(the_pipe_form_is_plain),
        cmocka_unit_test(json_text_is_utf8_or_escaped),
        cmocka_unit_test(a_request_is_written_as_bulk_strings),
        cmocka_unit_test(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
