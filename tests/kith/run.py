#!/usr/bin/env python3
"""tests/kith/run.py [--redis]: the command-line tool kith through a socket: one command, pipes, JSON, the interactive
client in a pseudo terminal, the loaders, the recall table, and what each says when something is wrong.

  --redis   against Debian's redis-server, to see that kith is a client for it too; cases with vectors are skipped

One case a function."""
import csv
import fcntl
import gzip
import json
import os
import pty
import random
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import servers  # noqa: E402

SERVER = None
FOLDER = tempfile.mkdtemp(prefix="kith-cli-")


class Skip(Exception):
    pass


def kith(*argv, text="", code=0, env=None, port=None):
    """Runs kith; gives (standard output, standard error) as text."""
    environment = dict(os.environ, KITH_PORT=str(port or SERVER.port), HOME=FOLDER, **(env or {}))
    for name in ("KITH_AUTH", "REDISCLI_AUTH", "KITH_HOST", "KITH_USER", "KITH_SOCKET"):
        if name not in (env or {}):
            environment.pop(name, None)
    done = subprocess.run([servers.kith_path(), *argv], input=text.encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment, timeout=120)
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    if done.returncode != code:
        raise AssertionError("kith %s: exit code %d, not %d\n%s%s" % (" ".join(argv), done.returncode, code, out, err))
    return out, err


def equal(got, wanted):
    if got != wanted:
        raise AssertionError("got %r, wanted %r" % (got, wanted))


def contains(text, *wanted):
    for w in wanted:
        if w not in text:
            raise AssertionError("%r is not in %r" % (w, text))


def path(name, content=None):
    p = os.path.join(FOLDER, name)
    if content is not None:
        with (gzip.open if name.endswith(".gz") else open)(p, "wb") as f:
            f.write(content)
    return p


def needs_vectors():
    client = SERVER.client()
    reply = client.call("COMMAND", "INFO", "VADD")
    client.close()
    if not reply or reply[0] is None:
        raise Skip("the server has no vector sets")


def start():
    kith("FLUSHALL")


# One command, pipes.


def one_command_prints_its_reply():
    start()
    equal(kith("SET", "k", "a b\n"), ("OK\n", ""))
    equal(kith("GET", "k"), ("a b\n\n", ""))
    equal(kith("--no-raw", "GET", "k")[0], '"a b\\n"\n')
    equal(kith("--no-raw", "GET", "none")[0], "(nil)\n")
    equal(kith("GET", "none")[0], "\n")
    equal(kith("--no-raw", "STRLEN", "k")[0], "(integer) 4\n")
    kith("HSET", "h", "f", "1")
    equal(kith("--no-raw", "HGETALL", "h")[0], '1) "f"\n2) "1"\n')
    equal(kith("--no-raw", "-3", "HGETALL", "h")[0], '1# "f" => "1"\n')


def an_error_reply_is_exit_code_1():
    out, _ = kith("NOSUCH", "x", code=1)
    contains(out, "ERR unknown command 'NOSUCH'")
    contains(kith("--no-raw", "GET", code=1)[0], "(error) ERR wrong number of arguments")


def json_is_json():
    start()
    kith("HSET", "h", "f", "1", 'q"', "ä")
    equal(json.loads(kith("--json", "HGETALL", "h")[0]), {"f": "1", 'q"': "ä"})
    equal(json.loads(kith("HGETALL", "h", "--json")[0]), {"f": "1", 'q"': "ä"})
    equal(json.loads(kith("GET", "none", "--json")[0]), None)
    equal(json.loads(kith("NOSUCH", "--json", code=1)[0])["error"][:3], "ERR")
    lines = kith("--json", text="SET b \"\\xff\\x00\"\nGET b\nEXISTS b h\n")[0].splitlines()
    equal([json.loads(line) for line in lines], ["OK", "\u00ff\u0000", 2])


def standard_input_is_one_command_a_line():
    start()
    out, err = kith(text='# a comment\nSET k "x y"\n\nGET k\nBAD "q\nGET k', code=1)
    equal(out, "OK\nx y\nx y\n")
    contains(err, "line 5: a quote is not closed")
    many = "".join("SET k%d %d\n" % (i, i) for i in range(5000)) + "DBSIZE\n"
    equal(kith(text=many)[0].splitlines()[-1], "5001")


def a_large_value_goes_both_ways():
    start()
    value = "0123456789abcdef" * (1 << 18)
    equal(kith("-x", "SET", "big", text=value)[0], "OK\n")
    equal(kith("GET", "big")[0], value + "\n")


def a_program_may_talk_through_two_pipes():
    start()
    process = subprocess.Popen([servers.kith_path(), "-p", str(SERVER.port)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    for i in range(3):
        process.stdin.write(b"INCR n\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 20)[0]:
            raise AssertionError("no answer before the end of the input")
        equal(os.read(process.stdout.fileno(), 100), b"%d\n" % (i + 1))
    process.stdin.close()
    equal(process.wait(20), 0)
    process.stdout.close()


def a_server_that_is_not_there_is_told():
    port = servers.free_port()
    contains(kith("PING", code=1, port=port)[1], "cannot connect to 127.0.0.1:%d: Connection refused" % port)
    contains(kith("-h", "no.such.host.invalid", "PING", code=1)[1], "cannot find host 'no.such.host.invalid'")
    contains(kith("-s", "/nowhere/socket", "PING", code=1)[1], "cannot connect to /nowhere/socket")


def wrong_usage_is_exit_code_2():
    kith("--nosuch", code=2)
    kith("import", code=2)
    contains(kith("import", "vectors", "f.fbin", code=2)[1], "--into KEY")
    contains(kith("import", "vectors", "f.fbin", "--into", "k", "--quant", "q9", code=2)[1], "q8, noquant, bin, f16, bf16 or q4")
    contains(kith("recall", "k", code=2)[1], "--queries FILE")
    contains(kith("--help")[0], "kith import vectors", "kith recall")
    contains(kith("import", "vectors", "--help")[0], "--into", "--wait", "--port")


def a_password_is_sent():
    client = SERVER.client()
    client.call("CONFIG", "SET", "requirepass", "secret")
    try:
        contains(kith("PING", code=1)[0], "NOAUTH")
        equal(kith("-a", "secret", "PING")[0], "PONG\n")
        equal(kith("-a", "secret", "-3", "PING")[0], "PONG\n")
        equal(kith("PING", env={"KITH_AUTH": "secret"})[0], "PONG\n")
        equal(kith("--user", "default", "-a", "secret", "PING")[0], "PONG\n")
        contains(kith("-a", "wrong", "PING", code=1)[1], "AUTH: WRONGPASS")
    finally:
        client.call("AUTH", "secret")
        client.call("CONFIG", "SET", "requirepass", "")
        client.close()


def a_database_is_selected():
    start()
    kith("-n", "3", "SET", "k", "three")
    equal(kith("GET", "k")[0], "\n")
    equal(kith("-n", "3", "GET", "k")[0], "three\n")
    contains(kith("-n", "x", "GET", "k", code=1)[1], "SELECT: ERR")


# The interactive client.


class Terminal:
    def __init__(self, *argv, columns=140):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", HOME=FOLDER)
            os.execv(servers.kith_path(), ["kith", "-p", str(SERVER.port), *argv])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.seen = ""

    def wait(self, text, seconds=20):
        """Reads until `text` (escape sequences left out) has come; gives what came."""
        until = time.monotonic() + seconds
        got = b""
        while time.monotonic() < until:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    got += os.read(self.fd, 65536)
                except OSError:
                    break
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", got.decode("utf-8", "replace"))
            if text in plain:
                return plain
        raise AssertionError("%r did not come, but %r" % (text, got))

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        self.type("\x15quit\r")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if select.select([self.fd], [], [], 0.05)[0] and not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        equal(status, 0)


def the_interactive_client_answers_and_remembers():
    start()
    history = path("history-of-mine")
    os.environ["KITH_HISTORY"] = history
    t = Terminal()
    prompt = "127.0.0.1:%d> " % SERVER.port
    t.wait(prompt)
    t.type('SET k "a b"\r')
    t.wait("OK\n")
    t.type("LPUSH_ k\r")
    t.wait("(error) ERR unknown command")
    t.type("SELECT 2\r")
    t.wait("127.0.0.1:%d[2]> " % SERVER.port)
    t.type("SELECT 0\r")
    t.wait(prompt)
    t.type("AUTH topsecret\r")
    t.wait("(error)")
    t.type("\x10\x10\x10\r")  # three lines up: AUTH is not among them
    t.wait("(error) ERR unknown command")
    t.type('SET k "open\r')
    t.wait("A quote is not closed")
    t.close()
    os.environ.pop("KITH_HISTORY")
    equal(os.stat(history).st_mode & 0o777, 0o600)
    with open(history, encoding="utf-8") as f:
        kept = f.read()
    contains(kept, "SET")
    if "topsecret" in kept:
        raise AssertionError("a password is in the history")


def the_interactive_client_hints_completes_and_helps():
    t = Terminal()
    t.wait("> ")
    t.type("GETRANGE ")
    t.wait("key start end")
    t.type("k ")
    t.wait("start end")
    t.type("\x15getra\t")
    t.wait("getrange ")
    t.type("\x15CONFIG \t")
    t.wait("RESETSTAT")
    t.type("\x15SET k v kee\t")
    t.wait("keepttl")
    t.type("\x15help getrange\r")
    contains(t.wait("group: string"), "GETRANGE key start end", "summary: ", "since: ")
    t.type("help @connection\r")
    t.wait("HELLO")
    t.type("help nosuch\r")
    t.wait("nothing is known")
    t.close()


def the_interactive_client_connects_again():
    t = Terminal()
    prompt = "127.0.0.1:%d> " % SERVER.port
    t.wait(prompt)
    client = SERVER.client()
    client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    client.close()
    t.type("PING\r")
    t.wait("PONG\n" + prompt)
    t.close()


# Loading keys.


def csv_becomes_strings_and_hashes():
    start()
    out, _ = kith("import", "keys", path("a.csv", b'key,value,ttl\na,1,\n"b,c","x ""y""\nz",500\n'))
    contains(out, "2 keys in ")
    equal(kith("GET", "a")[0], "1\n")
    equal(kith("GET", "b,c")[0], 'x "y"\nz\n')
    equal(kith("TTL", "a")[0], "-1\n")
    assert 490 <= int(kith("TTL", "b,c")[0]) <= 500
    kith("import", "keys", path("h.csv.gz", b"\xef\xbb\xbfname,key,size,ttl\r\nAnn,u1,3,9\r\nBob,u2,,\r\n"), "--hash",
         "--prefix", "user:")
    equal(json.loads(kith("HGETALL", "user:u1", "--json")[0]), {"name": "Ann", "size": "3"})
    equal(json.loads(kith("HGETALL", "user:u2", "--json")[0]), {"name": "Bob", "size": ""})
    assert 0 < int(kith("TTL", "user:u1")[0]) <= 9
    many = b"key,value\n" + b"".join(b"m%d,%d\n" % (i, i * i) for i in range(20000))
    contains(kith("import", "keys", "-", "--format", "csv", text=many.decode())[0], "20,000 keys in ")
    equal(kith("GET", "m19999")[0], "399960001\n")
    contains(kith("import", "keys", path("a.csv"), "--limit", "1")[0], "1 keys in ")


def jsonl_becomes_strings_and_hashes():
    start()
    rows = [{"key": "s", "value": "text"}, {"key": "i", "value": 7}, {"key": "d", "value": 0.1, "ttl": 100},
            {"key": "b", "value": True}, {"key": "h", "value": {"f": "v", "n": 1.5, "x": None, "l": [1, {"a": "b"}]}}]
    text = "\n".join(json.dumps(r) for r in rows) + "\n\n"
    contains(kith("import", "keys", path("a.jsonl", text.encode()))[0], "5 keys in ")
    equal([kith("GET", k)[0] for k in "sidb"], ["text\n", "7\n", "0.1\n", "true\n"])
    equal(json.loads(kith("HGETALL", "h", "--json")[0]), {"f": "v", "n": "1.5", "l": '[1,{"a":"b"}]'})
    assert 0 < int(kith("TTL", "d")[0]) <= 100


def bad_key_files_say_where_and_why():
    def refused(name, content, *wanted, options=()):
        _, err = kith("import", "keys", path(name, content), *options, code=1)
        contains(err, *wanted)

    refused("b.csv", b"", "is empty, a header line is needed")
    refused("b.csv", b"k,value\na,1\n", "line 1: no column is named 'key'")
    refused("b.csv", b"key,v\na,1\n", "line 1: no column is named 'value': with --hash")
    refused("b.csv", b"key\na\n", "no column is left", options=["--hash"])
    refused("b.csv", b"key,value\na,1\nb\n", "line 3: 1 fields, but the header names 2 columns")
    refused("b.csv", b'key,value\na,"1\n', "line 2: a quote is opened and never closed")
    refused("b.csv", b"key,value,ttl\na,1,x\n", "line 2: the ttl is not a whole number of seconds")
    refused("b.csv", b"key,value\n,1\n", "line 2: the key is empty")
    refused("b.jsonl", b'{"key":"a","value":1}\n{"key":"a",\n', "line 2, byte ")
    refused("b.jsonl", b'{"key":"a"}\n', "line 1: an object with")
    refused("b.jsonl", b'{"key":"a","value":[1]}\n', "line 1: the value must be")
    refused("b.jsonl", b'{"key":"a","value":{"x":null}}\n', "line 1: the object has no fields")
    refused("b.txt", b"key,value\n", "say it with --format")
    kith("SET", "text", "x")
    refused("b.jsonl", b'{"key":"n","value":1}\n\n{"key":"text","value":{"a":1}}\n', "line 3: the server says: WRONGTYPE")
    whole = gzip.compress(b"key,value\n" + os.urandom(3000).hex().encode() + b",1\n")
    with open(path("cut.csv.gz"), "wb") as f:
        f.write(whole[:1000])
    contains(kith("import", "keys", path("cut.csv.gz"), code=1)[1], "the gzip file is cut off after")


# Moving over from Redis.


def rdb_sum(data):
    """CRC-64 of Jones, bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return struct.pack("<Q", crc)


def rdb(body, header=b"REDIS0012"):
    data = header + body + b"\xff"
    return data + rdb_sum(data)


def redis_fill(call, seed):
    """Keys of every type in every encoding. Gives the types of those that Kith has not: {key: type}."""
    chance = random.Random(seed)
    for i, value in enumerate([b"", b"text", b"-5", b"-3000", b"123456789", b"1099511627776", b"abc" * 5000,
                               chance.randbytes(70000), b"\x00\xff\r\n'\\"]):
        call("SET", b"string%d" % i, value)
        call("SET", b"later%d" % i, value, "PX", 10 ** 8 + i)
    call("SETBIT", "bits", 100000, 1)
    call("PFADD", "counted", *range(1000))
    call("SET", b"key \x00'\n", "odd")
    left_out = {}
    for packed in (0, 1, 2):  # nothing is packed, the default, everything is
        for name in ("hash-max-listpack-entries", "zset-max-listpack-entries", "set-max-intset-entries"):
            call("CONFIG", "SET", name, (0, 128, 100000)[packed])
        call("CONFIG", "SET", "list-max-listpack-size", (1, -2, -5)[packed])
        call("CONFIG", "SET", "hash-max-listpack-value", (0, 64, 100000)[packed])
        call("CONFIG", "SET", "zset-max-listpack-value", (0, 64, 100000)[packed])
        for count in (1, 7, 700):
            tag = b"-%d-%d" % (packed, count)
            texts = [chance.choice([b"%d" % chance.randint(-2 ** chance.randint(1, 63), 2 ** chance.randint(1, 63)),
                                    chance.randbytes(chance.randint(0, 80)), b"z" * chance.randint(60, 5000)])
                     for _ in range(count)]
            call("HSET", b"hash" + tag, *[w for i, t in enumerate(texts) for w in (b"f%d" % i if i % 2 else b"%d" % i, t)])
            call("ZADD", b"zset" + tag, *[w for t in texts for w in
                                          (chance.choice([repr(chance.uniform(-1e9, 1e9)), "inf", "-inf",
                                                          str(chance.randint(-70000, 70000)), "1e300", "-0"]), t)])
            call("RPUSH", b"list" + tag, *texts)
            call("SADD", b"set" + tag, *texts)
            call("SADD", b"integers" + tag, *range(-count, count))
            left_out.update({b"list" + tag: "list", b"set" + tag: "set", b"integers" + tag: "set"})
    call("PEXPIRE", "hash-1-7", 10 ** 8)
    call("PEXPIRE", "zset-1-700", 10 ** 8)
    call("RPUSH", "plain", "q" * 20000)
    for stream in ("stream", "lonely"):
        for i in range(300):
            call("XADD", stream, "*", "field", i, "other", "x" * i)
        left_out[stream.encode()] = "stream"
    for group, start in (("g", "0"), ("h", "$"), ("i", "0")):
        call("XGROUP", "CREATE", "stream", group, start)
    for consumer, count in (("a", 20), ("b", 3)):
        call("XREADGROUP", "GROUP", "g", consumer, "COUNT", count, "STREAMS", "stream", ">")
    call("XGROUP", "CREATECONSUMER", "stream", "i", "idle")
    call("XDEL", "stream", call("XRANGE", "stream", "-", "+", "COUNT", 1)[0][0])
    left_out[b"plain"] = "list"
    return left_out


def content(call, key):
    kind = call("TYPE", key)
    if kind == b"string":
        return call("GET", key), call("PEXPIRETIME", key)
    if kind == b"hash":
        words = call("HGETALL", key)
        return dict(zip(words[::2], words[1::2])), call("PEXPIRETIME", key)
    if kind == b"zset":
        words = call("ZRANGE", key, 0, -1, "WITHSCORES")  # versions write the same score with other digits
        return [(m, float(score)) for m, score in zip(words[::2], words[1::2])], call("PEXPIRETIME", key)
    return None


def a_file_of_redis_is_taken_over_and_the_rest_is_told_key_by_key():
    start()
    redis = servers.start_redis("--enable-debug-command", "yes")
    try:
        there, here = redis.client(), SERVER.client()
        left_out = redis_fill(there.call, 20261120)
        equal(there.call("SELECT", 3), b"OK")
        there.call("SET", "far", "away")
        there.call("SELECT", 0)
        there.call("FUNCTION", "LOAD", "#!lua name=mylib\nredis.register_function('f', function() return 1 end)")
        equal(there.call("DEBUG", "RELOAD"), b"OK")
        equal(there.call("SAVE"), b"OK")
        here.call("SELECT", 0)
        if "--redis" not in sys.argv:
            here.call("HSET", "string0", "in", "the way")
            here.call("ZADD", "zset-1-7", 5, "in the way")
        name = os.path.join(redis.folder, "dump.rdb")
        out, _ = kith("import", name, code=1)
        lines = [line for line in out.splitlines() if line.startswith("left out: ") and line.endswith("not there yet")]
        told = sorted(re.match("left out: ([a-z]+) '(.*)': ", line).groups() for line in lines)
        equal(told, sorted((kind, key.decode()) for key, kind in left_out.items()))
        contains(out, "left out: function library 'mylib'\n", "1 function library")
        keys = there.call("KEYS", "*")
        compared = 0
        for key in keys:
            wanted = None if key in left_out else content(there.call, key)
            if wanted is None:
                equal((key, here.call("EXISTS", key)), (key, 0))
                continue
            equal((key, content(here.call, key)), (key, wanted))
            compared += 1
        equal(here.call("DBSIZE"), compared)
        equal(compared + len(left_out), len(keys))
        contains(out, "%d keys in " % (compared + 1))
        here.call("SELECT", 3)
        equal(here.call("GET", "far"), b"away")
        quiet, _ = kith("import", "rdb", name, "--quiet", "--prefix", "again:", "--pipeline", "1", code=1)
        assert "'" not in quiet, quiet
        contains(quiet, "left out: ", " list", " set", " stream")
        here.call("SELECT", 0)
        equal(here.call("DBSIZE"), 2 * compared)
        equal(content(here.call, "again:hash-2-700"), content(there.call, "hash-2-700"))
        there.close()
        here.close()
    finally:
        redis.close()


def a_file_is_taken_over_whole_with_exit_code_0():
    start()
    body = (b"\xfa\x09redis-ver\x058.0.0\xfe\x00\xfb\x02\x01\x00\x01k\x01v\xfc" + struct.pack("<q", 1000) + b"\x00\x03old\x01v"
            b"\xfc" + struct.pack("<q", 4102444800000) + b"\x04\x01h\x01\x01f\x01w")
    out, _ = kith("import", path("whole.rdb.gz", rdb(body)))
    contains(out, "2 keys in ", "taken: 1 string, 1 hash\n", "past their time: 1\n")
    equal(kith("EXISTS", "k", "old", "h")[0], "2\n")
    equal(kith("PEXPIRETIME", "h")[0], "4102444800000\n")
    with open(path("whole.rdb"), "wb") as f:
        f.write(rdb(b"\x00\x01k\x01w", b"VALKEY080"))
    contains(kith("import", path("whole.rdb"))[0], "1 keys in ")
    equal(kith("GET", "k")[0], "w\n")
    contains(kith("import", "--help")[0], "kith import [rdb] FILE.rdb")


def what_a_key_loses_is_told():
    start()
    body = (b"\xfe\x41\xf4\x00\x01k\x01v"  # database 500
            b"\xfe\x00\x16\x01h\x02\x00\x01f\x01w\x05\x01g\x01x"  # one of two fields has a time
            b"\x16\x01i\x01\x05\x01g\x01x")
    out, _ = kith("import", path("part.rdb", rdb(body)), code=1)
    contains(out, "left out: string 'k' of database 500: the server has no such database",
             "left out in part: hash 'h': 1 of 2: fields with a time to live of their own are not there yet\n",
             "left out: hash 'i': 1 of 1: fields with a time", "1 keys in ", "left out: 1 string, 1 hash\n",
             "left out in part: 1\n")
    equal(json.loads(kith("HGETALL", "h", "--json")[0]), {"f": "w"})


def vector_sets_of_redis_8_are_taken_over():
    needs_vectors()
    start()

    def number(value):
        return b"\x02\x81" + struct.pack(">Q", value)

    def text(value):
        return b"\x05\x80" + struct.pack(">I", len(value)) + value

    def place(length, span):
        """Numbers of an element's place in a graph of one level without links; the last has length and range."""
        bits = struct.unpack("<II", struct.pack("<ff", length, span))
        return b"\x02\x06" + b"".join(number(n) for n in (9, 1 << 24, 0, 32, 0, bits[1] << 32 | bits[0]))

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    module = 0
    for c in "vectorset":
        module = module << 6 | letters.index(c)
    kind = b"\x81" + struct.pack(">Q", module << 10)
    plain = (b"\x07\x05plain" + kind + number(2) + number(2) + number(24 << 8) + number(2)
             + text(b"a") + text(b'{"n":1}') + text(struct.pack("<ff", 0.6, 0.8)) + place(5, 0)
             + text(b"b") + text(b"") + text(struct.pack("<ff", 1, 0)) + place(1, 0) + b"\x00")
    rounded = (b"\x07\x07rounded" + kind + number(2) + number(1) + number(16 << 8 | 1) + number(0)
               + text(b"a") + text(b"\x7f\x00") + place(2, 1) + b"\x00")
    bits = (b"\x07\x04bits" + kind + number(3) + number(1) + number(16 << 8 | 2) + number(0)
            + text(b"a") + text(b"\x05\0\0\0\0\0\0\0") + place(1, 0) + b"\x00")
    reduced = (b"\x07\x07reduced" + kind + number(2) + number(1) + number(16 << 8) + number(1) + number(2) + text(b"." * 16)
               + text(b"a") + text(b"12345678") + place(1, 0) + b"\x00")
    out, _ = kith("import", path("v.rdb", rdb(plain + rounded + bits + reduced + b"\x00\x01k\x01v")), code=1)
    contains(out, "left out: vectorset 'reduced': vector sets made with REDUCE cannot be taken over", "4 keys in ",
             "taken: 3 vectorset, 1 string\n", "left out: 1 vectorset\n")
    equal(kith("GET", "k")[0], "v\n")
    equal([round(float(x), 4) for x in json.loads(kith("VEMB", "plain", "a", "--json")[0])], [3.0, 4.0])
    equal(kith("VGETATTR", "plain", "a")[0], '{"n":1}\n')
    equal(kith("VGETATTR", "plain", "b")[0], "\n")
    equal(kith("VCARD", "plain")[0], "2\n")
    facts = json.loads(kith("VINFO", "plain", "--json")[0])
    equal((facts["hnsw-m"], facts["quant-type"], facts["vector-dim"]), (24, "f32", 2))
    equal(json.loads(kith("VINFO", "rounded", "--json")[0])["quant-type"], "int8")
    assert abs(json.loads(kith("VEMB", "rounded", "a", "--json")[0])[0] - 2) < 0.02
    equal(json.loads(kith("VINFO", "bits", "--json")[0])["quant-type"], "bin")
    equal(kith("VSIM", "plain", "VALUES", "2", "6", "8", "COUNT", "1")[0], "a\n")


def a_server_that_refuses_keys_is_told():
    redis = servers.start_redis()
    try:
        vectors = b"\x07\x01v\x81\xbd\xe7\x2d\xa2\xbb\x1e\xb4\x00\x02\x01\x02\x01\x02\x00\x02\x00" \
            b"\x05\x01a\x05\x04\x00\x00\x80\x3f\x02\x03\x02\x01\x02\x00\x02\x00\x00"
        name = path("refused.rdb", rdb(vectors + b"\x00\x01k\x01v"))
        out, _ = kith("import", name, code=1, port=redis.port)
        contains(out, "left out: vectorset 'v': the server says: ERR unknown command 'VADD'", "1 keys in ",
                 "left out: 1 vectorset\n")
        equal(out.count("vectorset 'v'"), 1)
        equal(kith("GET", "k", port=redis.port)[0], "v\n")
        client = redis.client()
        client.call("CONFIG", "SET", "maxmemory", "1")
        client.close()
        out, err = kith("import", name, code=1, port=redis.port)
        contains(out, "0 keys (stopped by a failure)")
        contains(err, "the server says: OOM")
    finally:
        redis.close()


def bad_rdb_files_say_where_and_why():
    start()
    good = rdb(b"\x00\x01k\x01v")

    def refused(content, *wanted, name="bad.rdb"):
        contains(kith("import", path(name, content), code=1)[1], *wanted)

    refused(b"", "bad.rdb: byte 0: the file ends before its end mark")
    refused(b"key,value\na,1\n", "bad.rdb: byte 0: this is no RDB file")
    refused(good[:-1], "the file ends before its end mark: it was cut off")
    refused(good[:-1] + bytes([good[-1] ^ 1]), "the checksum is ")
    refused(good.replace(b"0012", b"0099"), "version 99 of the format, and 12 is the newest that can be read")
    refused(rdb(b"\x00\x01k\x01v\x63"), "byte 14: type 99, which cannot be read")
    refused(rdb(b"\x0d\x01h\x03abc"), "in key 'h' of database 0 (hash): the packed value is damaged")
    kith("import", path("none.rdb"), code=1)
    contains(kith("import", "rdb", code=2)[1], "a FILE is needed")
    kith("import", path("good.rdb", good))
    equal(kith("GET", "k")[0], "v\n")


# Loading vectors, and the recall table.


def fbin(rows):
    return struct.pack("<II", len(rows), len(rows[0])) + b"".join(struct.pack("<%df" % len(r), *r) for r in rows)


def random_rows(count, dim, seed):
    rng = random.Random(seed)
    return [[rng.gauss(0, 1) for _ in range(dim)] for _ in range(count)]


def vectors_are_loaded_from_every_format():
    needs_vectors()
    start()
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 250.0], [7.0, 8.0, 9.0]]
    small = bytes(int(v) for r in rows for v in r)
    flat = struct.pack("<9f", *(v for r in rows for v in r))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }".ljust(117) + "\n"
    files = {"v.u8bin": struct.pack("<II", 3, 3) + small, "v.u8bin.gz": struct.pack("<II", 3, 3) + small,
             "v.fbin": fbin(rows), "v.fvecs": b"".join(struct.pack("<i3f", 3, *r) for r in rows),
             "v.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + flat}
    for name, content in files.items():
        for batch in ("1", "2", "32"):
            key = "%s-%s" % (name, batch)
            out, _ = kith("import", "vectors", path(name, content), "--into", key, "--quant", "noquant", "--batch", batch,
                          "--wait")
            contains(out, "3 vectors in ", "linked ")
            equal(kith("VCARD", key)[0], "3\n")
            equal([round(float(v), 3) for v in kith("VEMB", key, "1")[0].split()], rows[1])


def vectors_get_names_attributes_and_options():
    needs_vectors()
    start()
    file = path("n.fbin", fbin(random_rows(5, 8, 1)))
    names = path("names.txt", b"one\ntwo\nthree\nfour\nfive\n")
    attributes = path("attributes.jsonl", b"".join(b'{"n":%d}\n' % i for i in range(5)))
    for batch in ("1", "3"):
        key = "k" + batch
        kith("import", "vectors", file, "--into", key, "--names", names, "--attributes", attributes, "--m", "8", "--ef", "50",
             "--quant", "bin", "--batch", batch)
        equal(kith("VGETATTR", key, "four")[0], '{"n":3}\n')
        info = json.loads(kith("VINFO", key, "--json")[0])
        equal((info["hnsw-m"], info["quant-type"], info["size"]), (8, "bin", 5))
        contains(kith("import", "vectors", file, "--into", key, "--names", names, "--batch", batch)[0],
                 "5 of them replaced elements")
    kith("import", "vectors", file, "--into", "p", "--names", "img:", "--limit", "2")
    equal(kith("VISMEMBER", "p", "img:1")[0], "1\n")
    equal(kith("VCARD", "p")[0], "2\n")
    kith("import", "vectors", file, "--into", "unit", "--normalize", "--quant", "noquant")
    norm = sum(float(v) ** 2 for v in kith("VEMB", "unit", "0")[0].split())
    assert abs(norm - 1) < 1e-4, norm


def bad_vector_files_say_where_and_why():
    needs_vectors()
    start()
    good = fbin(random_rows(100, 4, 2))

    def refused(name, content, *wanted, options=(), into="bad"):
        _, err = kith("import", "vectors", path(name, content), "--into", into, *options, code=1)
        contains(err, *wanted)

    refused("c.fbin", good[:-1], "its header says 100 rows of 4 x float32", "it is cut off")
    whole = gzip.compress(good)
    with open(path("c.fbin.gz"), "wb") as f:
        f.write(whole[:-100])
    contains(kith("import", "vectors", path("c.fbin.gz"), "--into", "bad", code=1)[1], "the gzip file is cut off after")
    refused("c.bin", good, "not a known kind of vector file")
    contains(kith("import", "vectors", path("none.fbin"), "--into", "bad", code=1)[1], "No such file")
    refused("c.fbin", fbin([[1.0, float("nan")]]), "row 0, column 1 is not a number")
    refused("c.fbin", good, "has 2 names, but the vectors go on with row 2",
            options=["--names", path("two.txt", b"a\nb\n")])
    kith("import", "vectors", path("good.fbin", good), "--into", "set4")
    refused("d.fbin", fbin(random_rows(3, 5, 3)), "rows 0 to 2: the server says: ERR Vector dimension mismatch", into="set4")
    refused("d.fbin", fbin(random_rows(3, 5, 3)), "row 0: the server says: ERR Vector dimension mismatch",
            options=["--batch", "1"], into="set4")


def the_recall_table_is_right():
    needs_vectors()
    start()
    rows, queries = random_rows(1500, 12, 4), random_rows(40, 12, 5)
    base, asked = path("r.fbin", fbin(rows)), path("q.fbin.gz", fbin(queries))
    kith("import", "vectors", base, "--into", "r", "--wait")

    def unit(v):
        length = sum(x * x for x in v) ** 0.5
        return [x / length for x in v]

    rows, queries = [unit(r) for r in rows], [unit(q) for q in queries]
    truth = []
    for q in queries:
        near = sorted(range(len(rows)), key=lambda i: -sum(a * b for a, b in zip(q, rows[i])))
        truth.append(near[:10])
    truth_file = path("t.i32bin", struct.pack("<II", 40, 10) + b"".join(struct.pack("<10i", *t) for t in truth))
    for option in (["--exact", base], ["--truth", truth_file]):
        lines = kith("recall", "r", "--queries", asked, *option, "--ef", "20,300", "--json", "--min", "0.9")[0]
        table = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
        equal([line["ef"] for line in table], [20, 300])
        if not table[1]["recall"] >= 0.97:
            raise AssertionError("recall at EF 300: %r" % table[1])
    out, _ = kith("recall", "r", "--queries", asked, "--truth", truth_file, "--pipeline", "8")
    equal(out.splitlines()[0].split(), ["EF", "recall@10", "worst", "queries/s"])
    equal([line.split()[0] for line in out.splitlines()[1:5]], ["50", "100", "200", "400"])
    contains(out, "queries/s\n", "*", "   recall@10   ")
    # The picture stands alone and is XML; the table is CSV.
    svg, table = path("r.svg"), path("r.csv")
    kith("recall", "r", "--queries", asked, "--truth", truth_file, "--svg", svg, "--csv", table, "--ef", "20,50,100")
    root = xml.etree.ElementTree.parse(svg).getroot()
    equal(root.tag, "{http://www.w3.org/2000/svg}svg")
    equal(len(root.findall(".//{http://www.w3.org/2000/svg}circle")), 3)
    equal([e for e in root.iter() if any("href" in name or "src" in name for name in e.attrib)], [])
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    contains(" ".join(texts), "recall@10", "queries a second (log)")
    rows = list(csv.DictReader(open(table)))
    equal([row["ef"] for row in rows], ["20", "50", "100"])
    if not all(0 < float(row["recall"]) <= 1 and float(row["queries_per_s"]) > 0 for row in rows):
        raise AssertionError("csv: %r" % rows)
    contains(kith("recall", "r", "--queries", asked, "--truth", truth_file, "--csv", "/nowhere/x", code=1)[1],
             "/nowhere/x: cannot be written")
    # The bench: several connections, and another server beside (here the same one).
    here = "127.0.0.1:%d" % SERVER.port
    out, _ = kith("bench", "vectors", "b", "--load", base, "--queries", asked, "--ef", "20,300", "--connections", "3",
                  "--pipeline", "2", "--against", here)
    equal(len([line for line in out.splitlines() if line.split()[:1] in (["20"], ["300"])]), 4)
    contains(out, "per CPU s", here + ":\n", "times the queries a second of " + here, "o " + here)
    contains(kith("bench", "vectors", "b", "--queries", asked, "--truth", truth_file, "--against", "x", code=2)[1],
             "HOST:PORT is needed")
    contains(kith("bench", code=2)[1], "kith bench vectors KEY")
    # Truth that is nobody's: recall is low, and --min says so.
    wrong = path("w.i32bin", struct.pack("<II", 40, 10) + struct.pack("<400i", *([1499] * 400)))
    contains(kith("recall", "r", "--queries", asked, "--truth", wrong, "--min", "0.5", code=1)[1], "is below 0.5")
    contains(kith("recall", "none", "--queries", asked, "--truth", truth_file, code=1)[1], "'none' has no elements")
    contains(kith("recall", "r", "--queries", asked, "--truth", truth_file, "--k", "11", code=1)[1], "--k asks for 11")
    kith("import", "vectors", base, "--into", "named", "--names", "n:", "--limit", "200")
    contains(kith("recall", "named", "--queries", asked, "--truth", truth_file, code=1)[1], "not named after a row")
    kith("recall", "named", "--queries", asked, "--truth", truth_file, "--names", "n:")


# kith check.


def check_finds_a_folder_sound_or_says_where_not():
    if "--redis" in sys.argv:
        raise Skip("a folder of kithd's is needed")
    folder = path("data")
    os.mkdir(folder)
    server = servers.start_kithd(folder=folder, durability="always")
    kith("SET", "k", "x" * 3000, port=server.port)
    for i in range(5):
        kith("SET", "k%d" % i, "v%d" % i, port=server.port)
    contains(kith("check", folder, code=1)[1], "was not checked: in use")
    server.kill()
    contains(kith("check", folder)[0], "sound: ", "last entry")
    equal(json.loads(kith("check", folder, "--json")[0].splitlines()[-1])["sound"], True)
    # A byte in the middle of the first value, with good records behind it.
    log = sorted(n for n in os.listdir(folder) if n.startswith("log-"))[0]
    with open(os.path.join(folder, log), "r+b") as f:
        at = f.read().index(b"x" * 100)
        f.seek(at)
        f.write(b"y")
    contains(kith("check", folder, code=1)[0], "problem", log, "offset", "1 problem")
    equal(json.loads(kith("check", folder, "--json", code=1)[0].splitlines()[-1])["sound"], False)
    server.close()
    contains(kith("check", path("nowhere"), code=1)[1], "was not checked")
    kith("check", code=2)


def SHUTDOWN_that_is_carried_out_is_no_error():
    other = servers.start_kithd()
    equal(kith("SHUTDOWN", port=other.port), ("", ""))
    equal(other.process.wait(30), 0)
    other.start()
    equal(kith(text="SET a 1\nGET a\nSHUTDOWN\n", port=other.port), ("OK\n1\n", ""))
    equal(other.process.wait(30), 0)
    other.start()
    contains(kith("SHUTDOWN", "LATER", port=other.port, code=1)[0], "ERR")
    # A command behind it has no answer: that is an error.
    contains(kith(text="SHUTDOWN\nSET b 1\n", port=other.port, code=1)[1], "closed the connection")
    other.close()


CASES = [one_command_prints_its_reply, an_error_reply_is_exit_code_1, json_is_json, standard_input_is_one_command_a_line,
         a_large_value_goes_both_ways, a_program_may_talk_through_two_pipes, a_server_that_is_not_there_is_told,
         wrong_usage_is_exit_code_2, a_password_is_sent, a_database_is_selected,
         the_interactive_client_answers_and_remembers, the_interactive_client_hints_completes_and_helps,
         the_interactive_client_connects_again, csv_becomes_strings_and_hashes, jsonl_becomes_strings_and_hashes,
         bad_key_files_say_where_and_why,
         a_file_of_redis_is_taken_over_and_the_rest_is_told_key_by_key, a_file_is_taken_over_whole_with_exit_code_0,
         what_a_key_loses_is_told, vector_sets_of_redis_8_are_taken_over, a_server_that_refuses_keys_is_told,
         bad_rdb_files_say_where_and_why,
         vectors_are_loaded_from_every_format, vectors_get_names_attributes_and_options,
         bad_vector_files_say_where_and_why, the_recall_table_is_right, check_finds_a_folder_sound_or_says_where_not,
         SHUTDOWN_that_is_carried_out_is_no_error]


def main():
    global SERVER
    begin = servers.start_redis if "--redis" in sys.argv else servers.start_kithd
    only = [a for a in sys.argv[1:] if not a.startswith("-")]
    passed = failed = skipped = 0
    SERVER = begin()
    for case in CASES:
        name = case.__name__.replace("_", " ")
        if only and case.__name__ not in only:
            continue
        try:
            case()
            passed += 1
            print("ok   " + name)
        except Skip as e:
            skipped += 1
            print("skip %s: %s" % (name, e))
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL %s: %s" % (name, e))
        if not SERVER.alive():
            print("the server died:\n" + SERVER.log()[-2000:])
            SERVER = begin()
    SERVER.close()
    shutil.rmtree(FOLDER, ignore_errors=True)
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed else 0)


main()
