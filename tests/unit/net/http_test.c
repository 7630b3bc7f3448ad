/* The port for those who watch, with real sockets on one loop that the test turns: what a request may look like, who is
 * closed when, and each allocation failed in turn. */
#include "failing_malloc.h"
#include "net/http.h"
#include "net/http_request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the head --- */

static void heads_are_taken_or_refused(void **state)
{
    static const struct {
        const char *bytes;
        int status;
        const char *path;
    } cases[] = {
        {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/metrics"},
        {"HEAD /ready?a=b HTTP/1.1\r\nhOST:x\r\n\r\n", 200, "/ready"},
        {"GET /health HTTP/1.0\r\n\r\n", 200, "/health"},
        {"\r\n\nGET / HTTP/1.1\nHost:\n\n", 200, "/"},
        {"GET HTTP://some.where:80/a/b HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/a/b"},
        {"GET http://some.where HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\t0 \r\n\r\n", 200, "/"},
        {"GET / HTTP/1.9\r\nHost: x\r\n\r\n", 200, "/"},
        {"GET / HTTP/1.1\r\nHost: x\r\n", 0, NULL},
        {"", 0, NULL},
        {"GET / HTTP/1.1\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: a\001\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL},
        {"GET  / HTTP/1.1\r\n", 400, NULL},
        {"GET / HTTP/1.1 \r\n", 400, NULL},
        {"GET /\r\n", 400, NULL},
        {"GET x HTTP/1.1\r\n", 400, NULL},
        {"GET /\t HTTP/1.1\r\n", 400, NULL},
        {"GET / HTTP/x.1\r\n", 400, NULL},
        {"GET / HTTP/2.0\r\n", 505, NULL},
        {"POST / HTTP/1.1\r\n", 405, NULL},
        {"get / HTTP/1.1\r\n", 405, NULL},
        {"*1\r\n", 400, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_request request = {0};
        int status = http_request_take(&request, cases[i].bytes, strlen(cases[i].bytes));
        if (status != cases[i].status)
            print_message("%s\n", cases[i].bytes);
        assert_int_equal(status, cases[i].status);
        if (cases[i].path)
            assert_true(kith_slice_equal(request.path, kith_slice(cases[i].path, strlen(cases[i].path))));
        assert_int_equal(http_request_take(&request, "\r", 1), status);
    }
}

static void a_head_ends_at_its_bound(void **state)
{
    struct http_request request = {0};
    char filler[100];
    int status = http_request_take(&request, "GET / HTTP/1.1\r\nHost: x\r\nA: ", 28);
    memset(filler, 'a', sizeof filler);
    for (size_t taken = 28; taken + sizeof filler <= HTTP_HEAD_BYTES; taken += sizeof filler) {
        assert_int_equal(status, 0);
        status = http_request_take(&request, filler, sizeof filler);
    }
    assert_int_equal(http_request_take(&request, filler, sizeof filler), 431);
}

/* --- sockets --- */

struct house {
    uv_loop_t loop;
    struct kith_http *http;
    uint16_t port;
    size_t questions;
};

static void say(void *context, const struct kith_http_question *question, struct kith_http_answer *answer)
{
    struct house *house = context;
    house->questions++;
    assert_true(question->is_local);
    kith_buf_append(answer->body, question->path.data, question->path.length);
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static int house_open(struct house *house, unsigned timeout_ms, size_t most)
{
    struct kith_error error;
    *house = (struct house){.port = free_port()};
    assert_int_equal(uv_loop_init(&house->loop), 0);
    struct kith_http_options options = {.loop = &house->loop,
                                        .bind = "127.0.0.1 -::1",
                                        .bind_name = "metrics-bind",
                                        .port = house->port,
                                        .timeout_ms = timeout_ms,
                                        .connections_max = most,
                                        .context = house,
                                        .answer = say};
    return kith_http_open(&house->http, &options, &error);
}

static void house_close(struct house *house)
{
    kith_http_close(house->http);
    uv_run(&house->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&house->loop), 0);
}

static int dial(const struct house *house, const char *bytes)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(house->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        assert_int_equal(errno, EINPROGRESS);
    (void)!send(fd, bytes, strlen(bytes), MSG_NOSIGNAL);
    return fd;
}

/* What comes until the other end closes; a reset is an end, too. */
static size_t hear(struct house *house, int fd, char *out, size_t size)
{
    size_t length = 0;
    for (int rounds = 0; rounds < 20000; rounds++) {
        ssize_t got = recv(fd, out + length, size - 1 - length, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            break;
        if (got > 0)
            length += (size_t)got;
        if (uv_run(&house->loop, UV_RUN_NOWAIT) == 0 || got < 0)
            usleep(500);
    }
    close(fd);
    out[length] = '\0';
    return length;
}

static void a_question_is_answered_and_the_connection_closed(void **state)
{
    struct house house;
    char text[1000];
    assert_int_equal(house_open(&house, 0, 0), KITH_OK);
    hear(&house,
         dial(&house, "GET /here?x HTTP/1.1\r\nHost: x\r\n\r\nGET /again HTTP/1.1\r\nHost: x\r\n\r\n"), text,
         sizeof text);
    assert_int_equal(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(text, "Content-Length: 5\r\n"));
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n/here");
    hear(&house, dial(&house, "HEAD /here HTTP/1.1\r\nHost: x\r\n\r\n"), text, sizeof text);
    assert_non_null(strstr(text, "Content-Length: 5\r\n"));
    assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
    assert_int_equal(house.questions, 2);
    house_close(&house);
}

static void who_says_nothing_is_closed(void **state)
{
    struct house house;
    char text[100];
    assert_int_equal(house_open(&house, 20, 0), KITH_OK);
    assert_int_equal(hear(&house, dial(&house, "GET /slo"), text, sizeof text), 0);
    assert_int_equal(house.questions, 0);
    house_close(&house);
}

static void the_oldest_make_room(void **state)
{
    struct house house;
    char text[1000];
    int silent[4];
    assert_int_equal(house_open(&house, 60000, 4), KITH_OK);
    for (int i = 0; i < 4; i++) {
        silent[i] = dial(&house, "");
        for (int turns = 0; turns < 5; turns++)
            uv_run(&house.loop, UV_RUN_NOWAIT);
    }
    hear(&house, dial(&house, "GET /here HTTP/1.1\r\nHost: x\r\n\r\n"), text, sizeof text);
    assert_int_equal(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_int_equal(hear(&house, silent[0], text, sizeof text), 0);
    for (int i = 1; i < 4; i++)
        close(silent[i]);
    house_close(&house);
}

static void an_end_in_the_middle_leaves_nothing(void **state)
{
    struct house house;
    assert_int_equal(house_open(&house, 0, 0), KITH_OK);
    int fds[3] = {dial(&house, "GET /a"), dial(&house, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
                  dial(&house, "")};
    for (int turns = 0; turns < 3; turns++)
        uv_run(&house.loop, UV_RUN_NOWAIT);
    house_close(&house);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void no_memory_costs_an_answer_and_no_more(void **state)
{
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct house house;
        char text[1000];
        int status = house_open(&house, 300, 0);
        if (status == KITH_OK)
            hear(&house, dial(&house, "GET /here HTTP/1.1\r\nHost: x\r\n\r\n"), text, sizeof text);
        else
            assert_int_equal(status, KITH_ENOMEM);
        (void)failing_malloc_disarm();
        if (status == KITH_OK) {
            hear(&house, dial(&house, "GET /here HTTP/1.1\r\nHost: x\r\n\r\n"), text, sizeof text);
            assert_int_equal(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
        }
        house_close(&house);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_taken_or_refused),
        cmocka_unit_test(a_head_ends_at_its_bound),
        cmocka_unit_test(a_question_is_answered_and_the_connection_closed),
        cmocka_unit_test(who_says_nothing_is_closed),
        cmocka_unit_test(the_oldest_make_room),
        cmocka_unit_test(an_end_in_the_middle_leaves_nothing),
        cmocka_unit_test(no_memory_costs_an_answer_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
