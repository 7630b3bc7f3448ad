#!/usr/bin/env python3
"""tests/net/run.py [NAME ...]: kithd through real sockets: order, limits, protection, life and death of connections.

Each test is a function whose name is a sentence; it gets a server (with the options of its decorator) and asserts."""
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import servers  # noqa: E402
from resp import Client, Closed, Error, encode  # noqa: E402

TESTS = []
PATIENCE_S = 30


def test(*options, durability="none"):
    def add(function):
        TESTS.append((function.__name__.replace("_", " "), list(options), durability, function))
        return function
    return add


def info(client, field):
    for line in client.call("INFO", "everything").decode().split("\r\n"):
        if line.startswith(field + ":"):
            return line.split(":", 1)[1]
    raise AssertionError("INFO has no " + field)


def eventually(condition, what):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never happened: " + what)


def raw(server):
    s = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def send_until_closed(s, data):
    try:
        while True:
            s.sendall(data)
    except OSError:
        pass


def read_all(s):
    got = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece
    except ConnectionResetError:
        return got


@test()
def many_keys_of_one_moment_go_soon_and_untouched(server):
    c, count = server.client(), 120000
    at = str(int(time.time() * 1000) + 2000)
    for first in range(0, count, 1000):
        c.send(*[["SET", "k%d" % n, "v", "PXAT", at] for n in range(first, first + 1000)])
        for _ in range(1000):
            c.read()
    eventually(lambda: c.call("DBSIZE") == 0, "120,000 keys past their time are removed")
    assert int(info(c, "expired_keys")) == count
    done = int(info(c, "expiry_ticks"))
    time.sleep(0.5)
    assert int(info(c, "expiry_ticks")) == done, "ticks without a key that is due"


@test()
def a_browser_cannot_be_made_to_give_commands(server):
    c = server.client()
    for text in (b"POST / HTTP/1.1\r\nContent-Type: text/plain\r\n\r\nSET evil 1\r\n",
                 b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nX: y\r\n\r\nSET evil 1\r\n",
                 encode(["post", "/"]) + encode(["SET", "evil", "1"])):
        s = raw(server)
        s.sendall(text)
        assert b"OK" not in read_all(s), text
        s.close()
    assert c.call("EXISTS", "evil") == 0
    assert server.log().count("sends HTTP") == 1
    assert c.call("SET", "post", "1") == b"OK" and c.call("GET", "post") == b"1"


STALL_C = """#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd)
{
    while (access(getenv("KITH_TEST_STALL"), F_OK) == 0)
        usleep(1000);
    return (int)syscall(SYS_fdatasync, fd);
}
"""


def with_disk_that_stalls(folder):
    """A kithd whose fdatasync waits while the file `stall` is there; None where that cannot be."""
    import shutil
    import subprocess
    with open(servers.kithd_path(), "rb") as f:
        program = f.read()
    if b"__asan_init" in program or b"__tsan_init" in program or not shutil.which("cc"):
        return None  # a sanitizer's runtime has to be the first library
    source, library, stall = (os.path.join(folder, n) for n in ("stall.c", "stall.so", "stall"))
    with open(source, "w", encoding="ascii") as f:
        f.write(STALL_C)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    os.environ["LD_PRELOAD"], os.environ["KITH_TEST_STALL"] = library, stall
    try:
        return servers.start_kithd(durability="always"), stall
    finally:
        del os.environ["LD_PRELOAD"], os.environ["KITH_TEST_STALL"]


@test()
def a_disk_that_stalls_holds_writers_back_and_serves_readers(server):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        made = with_disk_that_stalls(folder)
        if not made:
            return
        slow, stall = made
        c = slow.client()
        assert c.call("SET", "read", "me") == b"OK"
        open(stall, "w", encoding="ascii").close()
        block, count, sent, replies = encode(["SET", "k", b"x" * 1000000]), 400, [0], []

        def write():
            s = raw(slow)
            for n in range(count):
                s.sendall(block)
                sent[0] = n + 1
            while len(replies) < count and s.recv(5) == b"+OK\r\n":
                replies.append(1)

        writer = threading.Thread(target=write)
        writer.start()
        eventually(lambda: int(info(c, "log_waiting_bytes")) > 64 << 20, "the log waits for its disk")
        last = -1
        while sent[0] != last:
            last = sent[0]
            for _ in range(50):
                assert c.call("GET", "read") == b"me"
                time.sleep(0.01)
        assert last < count and int(info(c, "log_waiting_bytes")) < 128 << 20, (last, info(c, "log_waiting_bytes"))
        os.unlink(stall)
        writer.join(PATIENCE_S)
        assert len(replies) == count, len(replies)
        assert slow.stop() == 0
        slow.close()


# --- order -----------------------------------------------------------------------------------------------------


@test()
def requests_split_at_every_byte_are_whole(server):
    bytes_ = encode(["SET", "k", "v\r\n*1"]) + encode(["GET", "k"]) + b"PING\r\n" + encode(["ECHO", ""])
    expected = b"+OK\r\n$5\r\nv\r\n*1\r\n+PONG\r\n$0\r\n\r\n"
    s = raw(server)
    for cut in range(1, len(bytes_)):
        s.sendall(bytes_[:cut])
        time.sleep(0.0005)
        s.sendall(bytes_[cut:])
        got = b""
        while len(got) < len(expected):
            got += s.recv(4096)
        assert got == expected, (cut, got)


def random_pipeline(server, durability_seed):
    """Mixed writes, reads, errors and session commands in one pipeline, against a model."""
    rng = random.Random(durability_seed)
    print("    seed %d" % durability_seed)
    clients = [server.client() for _ in range(4)]
    models = [{} for _ in clients]
    for _ in range(60):
        for n, c in enumerate(clients):
            model, commands, expected = models[n], [], []
            for _ in range(rng.randrange(1, 150)):
                key = "c%d:%d" % (n, rng.randrange(20))
                kind = rng.randrange(100)
                if kind < 35:
                    value = b"x" * rng.choice([0, 1, 10, 100, 5000])
                    commands.append(["SET", key, value])
                    model[key] = value
                    expected.append(b"OK")
                elif kind < 75:
                    commands.append(["GET", key])
                    expected.append(model.get(key))
                elif kind < 85:
                    commands.append(["DEL", key])
                    expected.append(1 if model.pop(key, None) is not None else 0)
                elif kind < 90:
                    commands.append(["ECHO", key])
                    expected.append(key.encode())
                elif kind < 94:
                    commands.append(["NOSUCH"])
                    expected.append(Error)
                elif kind < 96:
                    commands.append(["GET"])
                    expected.append(Error)
                elif kind < 98:
                    commands.append(["CLIENT", "SETNAME", key])
                    expected.append(b"OK")
                else:
                    commands.append(["SELECT", "0"])
                    expected.append(b"OK")
            c.send(*commands)
            for command, want in zip(commands, expected):
                got = c.read()
                if want is Error:
                    assert isinstance(got, Error), (command, got)
                else:
                    assert got == want, (command, got, want)


@test(durability="none")
def replies_keep_the_order_of_a_mixed_pipeline(server):
    random_pipeline(server, 7001)


@test(durability="always")
def replies_keep_the_order_while_writes_wait_for_the_disk(server):
    random_pipeline(server, 7002)


@test(durability="always")
def a_client_sees_what_it_wrote_and_never_what_is_not_there_yet(server):
    a, b = server.client(), server.client()
    for i in range(200):
        a.send(["SET", "n", str(i)], ["GET", "n"])
        seen = b.call("GET", "n")
        assert a.read() == b"OK" and a.read() == str(i).encode()
        assert seen in (None, str(i).encode(), str(i - 1).encode()), (i, seen)


@test(durability="always")
def a_command_that_changes_the_connection_waits_for_the_writes_before_it(server):
    c = server.client()
    c.send(["SET", "k", "zero"], ["SELECT", "1"], ["SET", "k", "one"], ["GET", "k"], ["SELECT", "0"], ["GET", "k"],
           ["HELLO", "3"], ["GET", "nothing"], ["HELLO", "2"], ["GET", "nothing"])
    got = [c.read() for _ in range(10)]
    assert got[:6] == [b"OK", b"OK", b"OK", b"one", b"OK", b"zero"], got
    assert got[7] is None and got[9] is None


@test()
def what_was_sent_before_a_half_close_is_answered(server):
    s = raw(server)
    s.sendall(encode(["SET", "a", "1"]) + encode(["GET", "a"]) + b"PING\r\n")
    s.shutdown(socket.SHUT_WR)
    assert read_all(s) == b"+OK\r\n$1\r\n1\r\n+PONG\r\n"


@test()
def QUIT_answers_and_closes_and_ignores_what_follows(server):
    s = raw(server)
    s.sendall(b"PING\r\nQUIT\r\nPING\r\n")
    assert read_all(s) == b"+PONG\r\n+OK\r\n"


@test()
def CLIENT_REPLY_switches_replies_off_skips_one_and_on(server):
    s = raw(server)
    s.sendall(b"CLIENT REPLY OFF\r\nPING\r\nSET a 1\r\nGET a\r\nCLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nPING\r\n"
              b"ECHO two\r\nCLIENT REPLY SKIP\r\nSET a 2\r\nGET a\r\nQUIT\r\n")
    assert read_all(s) == b"+OK\r\n$3\r\ntwo\r\n$1\r\n2\r\n+OK\r\n"


# --- large things ----------------------------------------------------------------------------------------------


@test()
def a_large_value_goes_in_and_out_unchanged(server):
    c = server.client()
    value = random.Random(1).randbytes(40 * 1024 * 1024)
    assert c.call("SET", "big", value) == b"OK"
    assert c.call("GET", "big") == value
    c.send(["SET", "small", "1"], ["SET", "big", value[:3000000]], ["GET", "big"], ["GET", "small"])
    assert [c.read() for _ in range(4)] == [b"OK", b"OK", value[:3000000], b"1"]


@test()
def a_pipeline_larger_than_every_buffer_is_answered(server):
    c = server.client()
    c.call("SET", "k", b"v" * 1000)
    sender = threading.Thread(target=lambda: c.sock.sendall(encode(["GET", "k"]) * 100000))
    sender.start()
    for _ in range(100000):
        assert len(c.read()) == 1000
    sender.join()


@test()
def a_slow_reader_gets_everything(server):
    s = raw(server)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # less, and the kernel itself is slow
    Client(server.port).call("SET", "k", b"v" * 100000)
    s.sendall(encode(["GET", "k"]) * 50)
    got, whole = 0, 50 * (len(b"$100000\r\n") + 100002)
    while got < whole:
        got += len(s.recv(20000))
        if got < 1000000:
            time.sleep(0.002)
    s.sendall(b"PING\r\n")
    assert s.recv(100) == b"+PONG\r\n"


# --- limits ----------------------------------------------------------------------------------------------------


@test("--proto-max-bulk-len", "1mb", "--client-query-buffer-limit", "2mb")
def an_argument_past_proto_max_bulk_len_is_refused(server):
    s = raw(server)
    s.sendall(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
    assert read_all(s) == b"-ERR Protocol error: invalid bulk length\r\n"
    assert info(server.client(), "protocol_errors") == "1"


@test("--proto-max-arguments", "100")
def arguments_past_proto_max_arguments_are_refused(server):
    s = raw(server)
    s.sendall(b"*101\r\n$4\r\nECHO\r\n")
    assert read_all(s) == b"-ERR Protocol error: invalid multibulk length\r\n"


@test("--proto-max-bulk-len", "1mb", "--client-query-buffer-limit", "2mb")
def a_request_past_client_query_buffer_limit_ends_its_connection(server):
    s = raw(server)
    argument = b"$1000000\r\n" + b"x" * 1000000 + b"\r\n"
    try:
        s.sendall(b"*9\r\n$4\r\nMSET\r\n" + argument * 8)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert read_all(s) == b""
    c = server.client()
    assert info(c, "client_query_buffer_limit_disconnections") == "1"


@test("--client-output-buffer-limit", "normal 2mb 0 0")
def a_client_that_does_not_read_is_closed_at_the_output_limit(server):
    c, s = server.client(), raw(server)
    c.call("SET", "k", b"v" * 100000)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        s.sendall(encode(["GET", "k"]) * 300)
    except (BrokenPipeError, ConnectionResetError):
        pass
    eventually(lambda: info(c, "client_output_buffer_limit_disconnections") == "1", "the slow client is closed")
    eventually(lambda: info(c, "connected_clients") == "1", "its connection is gone")
    assert c.call("PING") == b"PONG"


@test("--client-output-buffer-limit", "normal 0 1mb 1")
def a_client_above_the_soft_output_limit_is_closed_after_its_seconds(server):
    c, s = server.client(), raw(server)
    c.call("SET", "k", b"v" * 100000)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.sendall(encode(["GET", "k"]) * 150)
    eventually(lambda: info(c, "client_output_buffer_limit_disconnections") == "1", "the slow client is closed")


@test("--maxclients", "3")
def a_client_past_maxclients_is_told_and_closed(server):
    first = server.client()
    eventually(lambda: info(first, "connected_clients") == "1", "the client that looked for the start has gone")
    clients = [first] + [server.client() for _ in range(2)]
    assert all(c.call("PING") == b"PONG" for c in clients)
    assert read_all(raw(server)) == b"-ERR max number of clients reached\r\n"
    clients.pop().close()

    def is_served():
        s = raw(server)
        s.sendall(b"PING\r\n")
        try:
            return s.recv(100) == b"+PONG\r\n"
        except ConnectionResetError:
            return False
    eventually(is_served, "a place is free again")
    assert int(info(clients[0], "rejected_connections")) >= 1


@test("--timeout", "1")
def an_idle_client_is_closed_after_timeout(server):
    s, started = raw(server), time.monotonic()
    s.sendall(b"PING\r\n")
    assert read_all(s) == b"+PONG\r\n" and time.monotonic() - started >= 1
    assert info(server.client(), "client_timeout_disconnections") == "1"


@test()
def rubbish_ends_its_connection_and_no_other(server):
    c, rng = server.client(), random.Random(99)
    print("    seed 99")
    for _ in range(300):
        s = raw(server)
        try:
            s.sendall(rng.choice([b"*", b"*1\r\n$", b"*-5\r\n", b"*2\r\n$3\r\nGET\r\n:1\r\n", b"\x00\xff", b"$5\r\n",
                                  b"*1\r\n$-1\r\n"]) + rng.randbytes(rng.randrange(200)))
        except ConnectionError:
            pass
        s.close()
    assert c.call("PING") == b"PONG"


@test()
def thousands_of_connections_come_and_go(server):
    c = server.client()
    before = int(info(c, "used_memory"))
    crowd = [raw(server) for _ in range(800)]
    for s in crowd:
        s.sendall(encode(["SET", "k", "x" * 100]) + encode(["GET", "k"]))
    for s in crowd:
        got = b""
        while len(got) < 5 + 6 + 102:
            got += s.recv(4096)
    assert info(c, "connected_clients") == "801"
    idle = (int(info(c, "used_memory")) - before) / 800
    print("    %d bytes an idle connection" % idle)
    assert idle < 4096 or os.environ.get("KITH_BUILD"), idle
    for s in crowd:
        if random.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    eventually(lambda: info(c, "connected_clients") == "1", "all are gone")


# --- protection ------------------------------------------------------------------------------------------------


@test("--requirepass", "sesame")
def a_password_is_asked_for_and_taken_in_every_form(server):
    c = server.client()
    assert c.call("GET", "a") == b"NOAUTH Authentication required."
    assert c.call("NOSUCH").startswith(b"ERR unknown command")
    assert c.call("HELLO", "3").startswith(b"NOAUTH HELLO must be called")
    assert c.call("AUTH", "wrong") == b"WRONGPASS invalid username-password pair or user is disabled."
    assert c.call("AUTH", "other", "sesame").startswith(b"WRONGPASS")
    assert c.call("AUTH", "default", "sesame") == b"OK"
    assert c.call("GET", "a") is None
    assert c.call("RESET") == b"RESET"
    assert c.call("GET", "a") == b"NOAUTH Authentication required."
    d = server.client()
    hello = dict(d.call("HELLO", "3", "AUTH", "default", "sesame", "SETNAME", "me"))
    assert hello[b"server"] == b"redis" and hello[b"proto"] == 3 and hello[b"role"] == b"master"
    assert d.call("CLIENT", "GETNAME") == b"me"
    assert d.call("CONFIG", "SET", "requirepass", "") == b"OK"
    assert server.client().call("GET", "a") is None
    assert int(info(d, "auth_failures")) == 2


@test("--requirepass", "sesame")
def before_AUTH_a_client_may_not_make_the_server_hold_much(server):
    s = raw(server)
    s.sendall(b"*11\r\n$4\r\nMSET\r\n")
    assert b"unauthenticated multibulk length" in read_all(s)
    s = raw(server)
    s.sendall(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n")
    assert b"unauthenticated bulk length" in read_all(s)


def own_address():
    """An address of this machine that is not loopback, or None."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
            return None if address.startswith("127.") else address
    except OSError:
        return None


@test("--bind", "0.0.0.0")
def without_a_password_other_machines_are_refused_with_the_cure(server):
    address, c = own_address(), server.client()
    if not address:
        return
    s = socket.create_connection((address, server.port), PATIENCE_S)
    told = read_all(s)
    assert told.startswith(b"-DENIED ") and b"requirepass" in told and told.endswith(b"\r\n"), told
    assert info(c, "denied_connections") == "1"
    assert c.call("CONFIG", "SET", "requirepass", "sesame") == b"OK"
    assert Client(server.port, host=address).call("AUTH", "sesame") == b"OK"
    assert c.call("CONFIG", "SET", "requirepass", "", "protected-mode", "no") == b"OK"
    assert Client(server.port, host=address).call("PING") == b"PONG"


@test("--unixsocket", "%(dir)s/kith.sock", "--unixsocketperm", "700")
def a_unix_socket_serves_like_TCP(server):
    path = os.path.join(server.folder, "kith.sock")
    assert os.stat(path).st_mode & 0o777 == 0o700
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(encode(["CLIENT", "LIST"]) + b"QUIT\r\n")
    assert b"flags=U" in read_all(s)


# --- CLIENT ----------------------------------------------------------------------------------------------------


@test()
def CLIENT_LIST_and_INFO_say_who_is_there(server):
    a, b = server.client(), server.client()
    assert a.call("CLIENT", "SETNAME", "anna") == b"OK"
    assert a.call("CLIENT", "SETNAME", "an na").startswith(b"ERR Client names cannot contain spaces")
    assert a.call("CLIENT", "SETINFO", "LIB-NAME", "test") == b"OK"
    assert a.call("CLIENT", "SETINFO", "LIB-VER", "1.2") == b"OK"
    assert a.call("CLIENT", "SETINFO", "LIB-COLOR", "red").startswith(b"ERR Unrecognized option")
    lines = b.call("CLIENT", "LIST").decode().splitlines()
    assert len(lines) == 2 and "name=anna" in lines[0] and "lib-name=test lib-ver=1.2" in lines[0], lines
    assert "cmd=client|list" in lines[1]
    assert b.call("CLIENT", "INFO").decode().strip().split(" ")[0] == lines[1].split(" ")[0]
    ids = [line.split(" ")[0][3:] for line in lines]
    assert b.call("CLIENT", "LIST", "ID", ids[0], "9999").decode().startswith("id=%s " % ids[0])
    assert b.call("CLIENT", "LIST", "TYPE", "pubsub") == b""
    assert b.call("CLIENT", "LIST", "TYPE", "robot").startswith(b"ERR Unknown client type")
    assert b.call("CLIENT", "ID") == int(ids[1])
    assert b.call("CLIENT", "GETNAME") is None


@test()
def CLIENT_KILL_closes_those_that_match_all_filters(server):
    c = server.client()
    victims = [server.client() for _ in range(4)]
    ids = [v.call("CLIENT", "ID") for v in victims]
    address = c.call("CLIENT", "LIST", "ID", ids[0]).decode().split(" ")[1][5:]
    assert c.call("CLIENT", "KILL", "1.2.3.4:5") == b"ERR No such client"
    assert c.call("CLIENT", "KILL", address) == b"OK"
    assert c.call("CLIENT", "KILL", "ID", ids[1]) == 1
    assert c.call("CLIENT", "KILL", "ID", ids[1]) == 0
    assert c.call("CLIENT", "KILL", "ID", ids[2], "ADDR", "1.2.3.4:5") == 0
    assert c.call("CLIENT", "KILL", "ID", ids[2], "TYPE", "normal", "USER", "default") == 1
    assert c.call("CLIENT", "KILL", "ID", "0").startswith(b"ERR client-id")
    assert c.call("CLIENT", "KILL", "COLOR", "red") == b"ERR syntax error"
    assert c.call("CLIENT", "KILL", "LADDR", "127.0.0.1:%d" % server.port) == 1
    for v in victims:
        try:
            v.call("PING")
            raise AssertionError("a killed client is still served")
        except (Closed, ConnectionError):
            pass
    assert c.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no") == 1
    try:
        c.call("PING")
        raise AssertionError("it killed itself and lives")
    except (Closed, ConnectionError):
        pass


@test(durability="always")
def clients_that_vanish_with_writes_in_flight_harm_nobody(server):
    rng = random.Random(5)
    print("    seed 5")
    c = server.client()
    for _ in range(200):
        s = raw(server)
        s.sendall(b"".join(encode(["SET", "k%d" % i, b"v" * rng.randrange(3000)]) + encode(["GET", "k%d" % i])
                           for i in range(rng.randrange(1, 60))))
        if rng.random() < 0.7:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        if rng.random() < 0.1:
            assert c.call("PING") == b"PONG"
    eventually(lambda: info(c, "connected_clients") == "1", "all are gone")


@test()
def a_client_that_is_killed_between_two_turns_is_forgotten(server):
    c, request = server.client(), encode(["KEYS", "nothing"])
    c.call("MSET", *range(2000))
    for _ in range(20):
        s = raw(server)
        s.sendall(encode(["CLIENT", "REPLY", "OFF"]))
        flood = threading.Thread(target=send_until_closed, args=(s, request * 20000))
        flood.start()
        eventually(lambda: info(c, "connected_clients") == "2", "it is there")
        time.sleep(0.01)
        assert c.call("CLIENT", "KILL", "TYPE", "normal") == 1
        flood.join()
        s.close()
    assert int(info(c, "turns_ended")) > 20
    # That its memory went too is seen by the leak checker when the server ends.


# --- vectors ---------------------------------------------------------------------------------------------------


def vector_command(rng, name, dim=24):
    return ["VADD", "v", "FP32", struct.pack("<%df" % dim, *(rng.gauss(0, 1) for _ in range(dim))), name]


def add_vectors(c, count, seed):
    rng = random.Random(seed)
    print("    seed %d" % seed)
    for start in range(0, count, 100):
        c.send(*(vector_command(rng, "e%d" % i) for i in range(start, min(count, start + 100))))
        for _ in range(start, min(count, start + 100)):
            assert c.read() == 1


@test("--workers", "2")
def searches_run_side_by_side_and_answer_in_order(server):
    c, rng = server.client(), random.Random(3)
    add_vectors(c, 3000, 31)
    eventually(lambda: info(c, "vectors_unlinked") == "0" and info(c, "vector_tasks_running") == "0", "all are linked")
    for _ in range(20):
        commands, expected = [], []
        for _ in range(rng.randrange(1, 300)):
            kind = rng.randrange(20)
            name = "e%d" % rng.randrange(3000)
            if kind == 0:
                commands.append(["SET", "k", name])
                expected.append(b"OK")
            elif kind == 1:
                commands.append(["PING", name])
                expected.append(name.encode())
            elif kind == 2:
                commands.append(["VSIM", "v", "ELE", "nosuch"])
                expected.append(Error)
            elif kind == 3:
                commands.append(["VSIM", "nosuch", "ELE", "a"])
                expected.append([])
            elif kind == 4:
                commands.append(["CLIENT", "GETNAME"])
                expected.append(None)
            else:
                commands.append(["VSIM", "v", "ELE", name, "COUNT", "3"])
                expected.append(name.encode())
        c.send(*commands)
        for command, want in zip(commands, expected):
            got = c.read()
            if want is Error:
                assert isinstance(got, Error), (command, got)
            elif command[0] == "VSIM" and want:
                assert got[0] == want and len(got) == 3, (command, got)
            else:
                assert got == want, (command, got)
    assert int(info(c, "reads_on_workers")) > 0


@test("--workers", "2")
def a_few_short_searches_of_a_lone_client_run_at_once_and_no_others(server):
    def grown(field, *commands):
        before = int(info(a, field))
        for client, command in commands:
            assert isinstance(client.call("VSIM", "v", *command), list)
        return int(info(a, field)) - before

    a, b = server.client(), server.client()
    add_vectors(a, 3000, 57)
    eventually(lambda: info(a, "vectors_unlinked") == "0" and info(a, "vector_tasks_running") == "0", "all are linked")
    assert grown("searches_at_once", *[(a, ("ELE", "e%d" % i)) for i in range(50)]) == 50
    assert grown("reads_on_workers", *[(a, ("ELE", "e%d" % i)) for i in range(50)]) == 0
    assert grown("searches_at_once", *[((b, a)[i % 2], ("ELE", "e%d" % i)) for i in range(50)]) == 0
    for long in (("RECALL", "0.9"), ("FILTER", "1"), ("TRUTH",), ("MMR", "0.5"), ("EF", "1000")):  # no bound, or a high one
        assert grown("searches_at_once", (a, ("ELE", "e1", *long)), (a, ("ELE", "e2", *long))) == 0, long
    a.send(*(["VSIM", "v", "ELE", "e%d" % i, "EF", "100"] for i in range(30)))
    assert all(len(a.read()) == 10 for _ in range(30))
    before = int(info(a, "searches_at_once"))
    for i in range(100):
        a.call("VREM", "v", "e%d" % i)
    assert a.call("VSIM", "v", "ELE", "e200", "COUNT", "50", "EF", "100") and int(info(a, "searches_at_once")) <= before + 1


@test("--workers", "2")
def clients_that_vanish_with_searches_in_flight_harm_nobody(server):
    c, rng = server.client(), random.Random(8)
    add_vectors(c, 2000, 81)
    for _ in range(100):
        s = raw(server)
        s.sendall(b"".join(encode(["VSIM", "v", "ELE", "e%d" % rng.randrange(2000)]) for _ in range(rng.randrange(1, 150)))
                  + encode(["SET", "k", "v"]))
        if rng.random() < 0.7:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    eventually(lambda: info(c, "connected_clients") == "1", "all are gone")
    s = raw(server)
    s.sendall(encode(["VSIM", "v", "ELE", "e1"]) * 200 + b"QUIT\r\n")
    s.shutdown(socket.SHUT_WR)
    assert read_all(s).endswith(b"+OK\r\n")


@test("--workers", "2", durability="always")
def vectors_and_their_links_come_back_after_a_kill(server):
    c = server.client()
    add_vectors(c, 3000, 17)
    eventually(lambda: int(info(c, "checkpoints_after_linking")) > 0, "links are saved by themselves")
    eventually(lambda: info(c, "rdb_bgsave_in_progress") == "0", "the checkpoint ends")
    c.call("VADD", "v", "VALUES", 24, *([1] * 24), "late")
    server.kill()
    server.start()
    c = server.client()
    assert c.call("VCARD", "v") == 3001
    assert c.call("VSIM", "v", "VALUES", 24, *([1] * 24), "COUNT", 1) == [b"late"]
    assert int(info(c, "recovery_entries")) < 100


# --- configuration and the server ------------------------------------------------------------------------------


@test()
def CONFIG_SET_is_all_or_nothing(server):
    c = server.client()
    before = dict(zip(*[iter(c.call("CONFIG", "GET", "*"))] * 2))
    assert len(before) > 40
    assert c.call("CONFIG", "SET", "timeout", "5", "maxclients", "77") == b"OK"
    assert sorted(c.call("CONFIG", "GET", "timeout", "maxcl*")) == sorted([b"timeout", b"5", b"maxclients", b"77"])
    for bad in (["timeout", "6", "maxclients", "many"], ["timeout", "6", "port", "1"], ["timeout", "6", "timout", "7"],
                ["timeout", "6", "timeout", "7"], ["timeout", "6", "maxmemory", "100mb"]):
        assert isinstance(c.call("CONFIG", "SET", *bad), Error), bad
        assert c.call("CONFIG", "GET", "timeout") == [b"timeout", b"5"]
    assert b"'timeout'" in c.call("CONFIG", "SET", "timout", "7")
    assert c.call("CONFIG", "SET", "proto-max-bulk-len", "2mb") == b"OK"
    assert c.call("CONFIG", "GET", "proto-max-bulk-len") == [b"proto-max-bulk-len", b"2097152"]
    assert c.call("CONFIG", "SET", "save", "", "appendonly", "no", "maxmemory", "0") == b"OK"
    assert c.call("CONFIG", "RESETSTAT") == b"OK"
    assert c.call("CONFIG", "REWRITE").startswith(b"ERR The server is running without a config file")


@test()
def INFO_has_what_clients_and_dashboards_look_for(server):
    c = server.client()
    c.call("SET", "a", "1")
    c.call("NOSUCH")
    for field in ("loading", "redis_version", "kith_version", "role", "used_memory", "connected_clients", "maxclients",
                  "uptime_in_seconds", "tcp_port", "process_id", "rdb_last_save_time", "cluster_enabled"):
        info(c, field)
    assert info(c, "loading") == "0" and info(c, "role") == "master"
    assert info(c, "db0").startswith("keys=1,")
    assert info(c, "cmdstat_set").startswith("calls=1,")
    assert info(c, "errorstat_ERR") == "count=1"
    assert c.call("INFO", "server", "clients").count(b"# ") == 2
    assert c.call("INFO", "nosuch") == b""


@test()
def a_DEBUG_SLEEP_stops_the_server_for_its_time(server):
    c, started = server.client(), time.monotonic()
    assert c.call("DEBUG", "SLEEP", "0.3") == b"OK" and time.monotonic() - started >= 0.3
    assert isinstance(c.call("DEBUG", "SLEEP", "x"), Error)


@test("--enable-debug-command", "no")
def DEBUG_is_refused_where_it_is_not_enabled(server):
    assert server.client().call("DEBUG", "SLEEP", "0").startswith(b"ERR DEBUG command not allowed")


@test()
def keys_past_their_time_give_their_memory_back_untouched(server):
    c = server.client()
    for i in range(100):
        c.send(["SET", "k%d" % i, "v", "PX", "50"])
        c.read()
    eventually(lambda: "db0:" not in c.call("INFO", "keyspace").decode(), "all are removed")


# --- life and death --------------------------------------------------------------------------------------------


@test(durability="always")
def SIGTERM_finishes_what_is_in_flight_and_leaves_cleanly(server):
    c = server.client()
    for i in range(100):
        c.call("SET", "k%d" % i, str(i))
    idle = server.client()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0, server.log()
    assert read_all(idle.sock) == b""
    server.start()
    c = server.client()
    assert [c.call("GET", "k%d" % i) for i in range(100)] == [str(i).encode() for i in range(100)]


@test(durability="always")
def a_killed_server_comes_back_with_every_acknowledged_write(server):
    for round_ in range(3):
        acknowledged = {}

        def write(n):
            c = server.client()
            try:
                for i in range(100000):
                    if c.call("SET", "r%d:w%d:%d" % (round_, n, i), str(i)) == b"OK":
                        acknowledged["r%d:w%d:%d" % (round_, n, i)] = str(i).encode()
            except (Closed, ConnectionError, OSError):
                pass
        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for w in writers:
            w.start()
        time.sleep(0.5)
        server.kill()
        for w in writers:
            w.join()
        server.start()
        c = server.client()
        for key, value in acknowledged.items():
            assert c.call("GET", key) == value, key
        print("    %d writes acknowledged" % len(acknowledged))


@test(durability="everysec")
def SHUTDOWN_ends_the_server_and_keeps_the_data(server):
    c = server.client()
    c.call("SET", "a", "1")
    c.send(["SHUTDOWN"])
    assert server.process.wait(PATIENCE_S) == 0
    server.start()
    c = server.client()
    assert c.call("GET", "a") == b"1"
    c.send(["SHUTDOWN", "NOSAVE"])
    assert server.process.wait(PATIENCE_S) == 0
    server.start()
    assert server.client().call("GET", "a") == b"1"
    assert isinstance(server.client().call("SHUTDOWN", "LATER"), Error)


@test(durability="everysec")
def SAVE_answers_when_the_checkpoint_is_on_the_disk(server):
    c = server.client()
    for i in range(1000):
        c.send(["SET", "k%d" % i, "v" * 100])
        c.read()
    before = c.call("LASTSAVE")
    c.send(["SET", "last", "1"], ["SAVE"], ["GET", "last"])
    assert [c.read() for _ in range(3)] == [b"OK", b"OK", b"1"]
    assert c.call("LASTSAVE") >= before
    assert c.call("BGSAVE") in (b"Background saving started",)
    eventually(lambda: info(c, "rdb_bgsave_in_progress") == "0", "the checkpoint ends")
    server.kill()
    server.start()
    assert server.client().call("GET", "last") == b"1"


def fails_to_start(*arguments):
    import subprocess
    done = subprocess.run([servers.kithd_path()] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=PATIENCE_S)
    assert done.returncode not in (0, None) and done.returncode > 0, done
    return done.stdout.decode()


@test()
def a_start_that_cannot_be_says_why(server):
    assert "did you mean 'port'" in fails_to_start("--prot", "7000")
    assert "--timeout" in fails_to_start("--timeout", "soon")
    assert "memory value" in fails_to_start("--proto-max-bulk-len", "12parsec")
    assert "cannot read /nosuch.conf" in fails_to_start("/nosuch.conf")
    assert "in use" in fails_to_start("--port", str(server.port), "--memory-only")
    other = str(servers.free_port())
    assert server.folder in fails_to_start("--port", other, "--dir", server.folder)


@test()
def docs_name_every_key_and_its_default(server):
    import subprocess
    text = subprocess.run([servers.kithd_path(), "--help"], stdout=subprocess.PIPE, check=True).stdout.decode()
    with open(os.path.join(servers.TREE, "docs", "kithd.md"), encoding="utf-8") as f:
        rows = [line.split("|")[1:3] for line in f if line.startswith("| ")]
    documented = {}
    for names_, default in rows:
        for name in names_.split(","):
            documented[name.strip()] = default.strip()
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if line.startswith("  --") and "default: " in lines[n + 1]:
            name, default = line.split()[0][2:], lines[n + 1].split("default: ")[1].replace("empty", "")
            if name in ("unixsocketperm",):
                continue
            assert documented.get(name) == default, (name, default, documented.get(name))


def main():
    names = sys.argv[1:]
    passed = failed = 0
    for name, options, durability, function in TESTS:
        if names and not any(n in name for n in names):
            continue
        server = None
        try:
            server = servers.start_kithd(*options, durability=durability)
            function(server)
            if "SHUTDOWN" not in name:
                assert server.alive(), "the server died"
                status = server.stop()
                assert status == 0, "the server ended with %s" % status
            log = server.log()
            for word in ("AddressSanitizer", "ThreadSanitizer", "runtime error", "LeakSanitizer", "broken invariant"):
                assert word not in log, "a finding in the log"
            passed += 1
            print("ok   %s" % name)
        except Exception as e:  # noqa: BLE001 - every failure is reported, the next test runs
            failed += 1
            print("FAIL %s: %s: %s" % (name, type(e).__name__, e))
            if server:
                print("\n".join("       " + line for line in server.log()[-6000:].splitlines()))
        finally:
            if server:
                server.close()
        sys.stdout.flush()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
