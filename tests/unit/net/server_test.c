/* The server in one process with its clients: the loop is turned by hand, the node keeps everything in memory, and the
 * clients are plain sockets. What no test from outside can do: make each allocation fail in turn. */
#include "failing_malloc.h"
#include "net/server.h"
#include "repl/engine_machine.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct house {
    struct kith_server *server;
    struct kith_engine *engine;
    struct kith_node *node;
    char path[64];
};

static void host_command(void *context, struct kith_call *call)
{
    struct house *house = context;
    if (!kith_server_command(house->server, call))
        kith_reply_error(call->reply, "ERR not in this test");
}

static struct kith_server_options options_for(const struct house *house)
{
    return (struct kith_server_options){
        .bind = "",
        .backlog = 10,
        .unixsocket = house->path,
        .password = "",
        .limits = {.client_max = 5,
                   .query_bytes = 1 << 20,
                   .bulk_bytes = 1 << 20,
                   .argument_max = 1000,
                   .output_hard_bytes = 1 << 20},
        .shutdown_timeout_ms = 1000,
        .version = "7.4.0",
    };
}

static void close_house(struct house *house)
{
    (void)kith_node_close(house->node); /* in memory: nothing to lose */
    kith_server_close(house->server);
    kith_engine_close(house->engine);
    unlink(house->path);
}

static int open_house(struct house *house)
{
    static unsigned number;
    struct kith_error error;
    *house = (struct house){0};
    snprintf(house->path, sizeof house->path, "/tmp/kith-net-test-%d-%u", (int)getpid(), number++);
    struct kith_server_options options = options_for(house);
    struct kith_engine_options engine_options = {.database_count = 2,
                                                 .host = {.context = house, .command = host_command}};
    int status = kith_server_open(&house->server, &options);
    if (!status)
        status = kith_engine_open(&house->engine, &engine_options);
    if (!status) {
        struct kith_node_options node_options = {.machine = kith_engine_machine(house->engine),
                                                 .wake = kith_server_wake,
                                                 .wake_context = house->server};
        status = kith_node_open(&house->node, &node_options, &error);
    }
    if (!status)
        status = kith_server_start(house->server, house->engine, house->node, NULL, &error);
    if (status)
        close_house(house);
    return status;
}

static int connect_to(const struct house *house)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", house->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void turn(struct house *house)
{
    for (int i = 0; i < 4; i++)
        uv_run(kith_server_loop(house->server), UV_RUN_NOWAIT);
}

static const char last_reply[] = "$3\r\nend\r\n";

/* Sends and turns the loop until `reply` (zero-terminated) holds `expected` bytes or ends with last_reply, or the server hangs up. Returns the
 * bytes that came. */
static size_t talk(struct house *house, int fd, const char *request, size_t length, char *reply,
                   size_t expected)
{
    size_t sent = 0, got = 0;
    for (int round = 0; round < 400 && (sent < length || got < expected); round++) {
        if (sent < length) {
            ssize_t n = send(fd, request + sent, length - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                break;
            sent += n > 0 ? (size_t)n : 0;
        }
        turn(house);
        ssize_t n = recv(fd, reply + got, expected - got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        got += n > 0 ? (size_t)n : 0;
        if (got >= sizeof last_reply - 1 &&
            memcmp(reply + got - (sizeof last_reply - 1), last_reply, sizeof last_reply - 1) == 0)
            break;
        if (n < 0 && round > 20)
            usleep(500); /* a connection that could not be taken is tried again a little later */
    }
    reply[got] = '\0';
    return got;
}

/* A bit of everything, in two pieces cut in the middle of a request, with a value that needs a buffer of its own. */
static const char first_half[] =
    "PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    "NOSUCH\r\nCLIENT SETNAME anna\r\nSELECT 1\r\nSET k other\r\nGET k\r\nHELLO 3 SETNAME b\r\n"
    "VADD v VALUES 2 1 0 east\r\nVADD v VALUES 2 0 1 north\r\nVSIM v ELE east COUNT 1\r\n"
    "VSIM v ELE north COUNT 1\r\nGET k\r\nCLIENT LIST\r\n*2\r\n$4\r\nEC";
static const char second_half[] = "HO\r\n$3\r\nend\r\n";

static bool play(struct house *house)
{
    static char reply[200000], large[70100];
    int fd = connect_to(house);
    size_t got = talk(house, fd, first_half, sizeof first_half - 1, reply, 1);
    if (got)
        got = talk(house, fd, second_half, sizeof second_half - 1, reply, sizeof reply - 1);
    bool whole = got > 9 && strcmp(reply + got - 9, last_reply) == 0;
    if (whole) {
        int header = snprintf(large, sizeof large, "*2\r\n$4\r\nECHO\r\n$70000\r\n");
        memset(large + header, 'x', 70000);
        memcpy(large + header + 70000, "\r\n", 3);
        size_t expected = strlen("$70000\r\n") + 70002;
        whole = talk(house, fd, large, (size_t)header + 70002, reply, expected) == expected;
    }
    close(fd);
    turn(house);
    return whole;
}

static void a_session_with_a_bit_of_everything_is_answered(void **state)
{
    struct house house;
    assert_int_equal(open_house(&house), KITH_OK);
    assert_true(play(&house));
    struct kith_server_stats stats;
    kith_server_get_stats(house.server, &stats);
    assert_int_equal(stats.clients, 0);
    assert_int_equal(stats.connections_received, 1);
    assert_int_equal(stats.error_replies, 1);
    struct kith_buf text;
    kith_buf_init(&text);
    kith_server_command_stats(house.server, &text);
    kith_server_error_stats(house.server, &text);
    kith_buf_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "cmdstat_get:calls=3,rejected_calls=0,failed_calls=0\r\n"));
    assert_non_null(strstr(text.data, "errorstat_ERR:count=1\r\n"));
    kith_buf_fini(&text);
    kith_server_reset_stats(house.server);
    kith_server_get_stats(house.server, &stats);
    assert_int_equal(stats.commands_processed, 0);
    close_house(&house);
}

static void every_allocation_failure_costs_at_most_a_connection(void **state)
{
    unsigned opened = 0, broken = 0;
    for (int n = 0; failing_malloc_sweep(&n);) {
        struct house house;
        if (open_house(&house) != KITH_OK)
            continue;
        opened++;
        bool whole = play(&house);
        bool failed = failing_malloc_disarm();
        if (!whole) {
            assert_true(failed);
            broken++;
        }
        /* Whatever broke, the next client is served as if nothing had been. */
        int fd = connect_to(&house);
        char reply[16];
        assert_int_equal(talk(&house, fd, "PING\r\n", 6, reply, 7), 7);
        close(fd);
        close_house(&house);
    }
    print_message("%u servers opened, %u sessions broken\n", opened, broken);
    assert_true(opened > 10 && broken > 0);
}

static void a_stopped_server_ends_its_run_and_refuses_new_clients(void **state)
{
    struct house house;
    char reply[16];
    assert_int_equal(open_house(&house), KITH_OK);
    int fd = connect_to(&house);
    assert_int_equal(talk(&house, fd, "SET a 1\r\n", 9, reply, 5), 5);
    kith_server_stop(house.server);
    kith_server_run(house.server);
    close_house(&house);
    assert_int_equal(recv(fd, reply, sizeof reply, 0), 0);
    close(fd);
}

/* Sends as much of text[0..length) as the socket holds, in whole lines. Returns how many commands that is. */
static size_t send_lines(int fd, const char *line, size_t count)
{
    size_t length = strlen(line), sent = 0;
    while (sent < count && send(fd, line, length, MSG_NOSIGNAL) == (ssize_t)length)
        sent++;
    return sent;
}

static uint64_t processed(const struct house *house)
{
    struct kith_server_stats stats;
    kith_server_get_stats(house->server, &stats);
    return stats.commands_processed;
}

/* One round of the loop: reads, and in front of them the end of the round before. */
static uint64_t one_pass(struct house *house)
{
    uint64_t before = processed(house);
    uv_run(kith_server_loop(house->server), UV_RUN_NOWAIT);
    return processed(house) - before;
}

/* Takes what came, and returns how many lines that is. */
static size_t read_lines(int fd)
{
    static char reply[1 << 16];
    size_t lines = 0;
    for (ssize_t n; (n = recv(fd, reply, sizeof reply, 0)) > 0;)
        for (ssize_t i = 0; i < n; i++)
            lines += reply[i] == '\n';
    return lines;
}

/* A turn is 128 KiB of requests, read 64 KiB at once; another's PING comes in its own pass. */
static void a_pass_takes_no_more_than_a_turn_of_one_client(void **state)
{
    enum { VALUE = 1000, TURN = 128 * 1024 + VALUE };
    static char line[VALUE + 40];
    struct house house;
    assert_int_equal(open_house(&house), KITH_OK);
    int busy = connect_to(&house), other = connect_to(&house);
    turn(&house);
    memset(line, 'x', sizeof line);
    memcpy(line, "SET k ", 6);
    memcpy(line + VALUE - 2, "\r\n", 3);
    size_t sent = 0, answered = 0, pings = 0, in_passes = 0;
    for (int pass = 0; pass < 1000 && answered < 2000; pass++) {
        sent += send_lines(busy, line, 2000 - sent);
        assert_int_equal(send(other, "PING\r\n", 6, MSG_NOSIGNAL), 6);
        uint64_t commands = one_pass(&house) + one_pass(&house);
        assert_true(commands <= 2 * TURN / VALUE + 1);
        in_passes = commands > in_passes ? commands : in_passes;
        answered += read_lines(busy);
        pings += read_lines(other);
        assert_int_equal(pings, pass + 1);
    }
    assert_int_equal(answered, 2000);
    assert_true(in_passes > 64 * 1024 / VALUE); /* but no less than there is room for */
    close(busy);
    close(other);
    turn(&house);
    close_house(&house);
}

static void fill(struct house *house, int count)
{
    int fd = connect_to(house), answered = 0;
    for (int sent = 0; answered < count;) {
        char set[32];
        int n = snprintf(set, sizeof set, "SET k%d v\r\n", sent);
        if (sent < count && sent < answered + 100) {
            assert_int_equal(send(fd, set, (size_t)n, MSG_NOSIGNAL), n);
            sent++;
            continue;
        }
        turn(house);
        answered += (int)read_lines(fd);
    }
    close(fd);
    turn(house);
}

/* The first of a client's writes count as 1 KiB each and their bytes: no more than 128 of them are a turn. None is lost. */
static void slow_commands_take_turns_too(void **state)
{
    static const struct {
        const char *line;
        bool writes;
    } kinds[] = {{"SET k v\r\n", true}, {"KEYS nothing\r\n", false}};
    for (size_t i = 0; i < 2; i++) {
        struct house house;
        struct kith_server_stats stats;
        assert_int_equal(open_house(&house), KITH_OK);
        int busy = connect_to(&house);
        turn(&house);
        fill(&house, 5000); /* so that KEYS has something to do */
        char all[8192];
        size_t length = strlen(kinds[i].line);
        for (size_t k = 0; k < 400; k++)
            memcpy(all + k * length, kinds[i].line, length);
        assert_int_equal(send(busy, all, 400 * length, MSG_NOSIGNAL), 400 * length);
        uint64_t first = one_pass(&house) + one_pass(&house);
        assert_true(!kinds[i].writes || first <= 128);
        size_t answered = 0;
        for (int k = 0; k < 100000 && answered < 400;
             k++) { /* a sanitizer makes passes as slow as it likes */
            turn(&house);
            answered += read_lines(busy);
        }
        assert_int_equal(answered, 400);
        kith_server_get_stats(house.server, &stats);
        assert_int_equal(stats.commands_processed, 5400);
        assert_true(stats.turns_ended > 0);
        close(busy);
        turn(&house);
        close_house(&house);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_with_a_bit_of_everything_is_answered),
        cmocka_unit_test(every_allocation_failure_costs_at_most_a_connection),
        cmocka_unit_test(a_pass_takes_no_more_than_a_turn_of_one_client),
        cmocka_unit_test(slow_commands_take_turns_too),
        cmocka_unit_test(a_stopped_server_ends_its_run_and_refuses_new_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
