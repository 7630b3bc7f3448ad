#!/usr/bin/env python3
"""tests/upstream/run.py [NAME ...]: REPLICAOF from a real redis-server that is written to meanwhile: whole copies, links
that break, processes that are killed; after promotion every key, value and time is compared."""
import atexit
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import servers  # noqa: E402
from group import Group  # noqa: E402
from load import Writers, compare  # noqa: E402
from resp import Client, Closed, Error  # noqa: E402

TESTS = []
PATIENCE_S = 60


def test(function):
    TESTS.append((function.__name__.replace("_", " "), function))
    return function


def eventually(condition, what, seconds=PATIENCE_S):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if condition():
                return
        except (OSError, Closed):
            pass
        time.sleep(0.02)
    raise AssertionError("never happened: " + what)


class Process:
    """A server whose port and folder stay over restarts."""

    def __init__(self, name, argv):
        self.name, self.port, self.folder = name, servers.free_port(), tempfile.mkdtemp(prefix="kith-upstream-")
        self.argv = [a % {"port": self.port, "dir": self.folder} for a in argv]
        self.log_path = os.path.join(self.folder, name + ".log")
        self.process = None
        atexit.register(self.close)
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        eventually(lambda: self.alive() and self.call("PING") in (b"PONG", b"NOAUTH Authentication required."),
                   self.name + " answers: " + self.log()[-2000:])

    def alive(self):
        if self.process.poll() is not None:
            raise AssertionError("%s ended: %s" % (self.name, self.log()[-3000:]))
        return True

    def client(self):
        return Client(self.port)

    def call(self, *args):
        client = self.client()
        try:
            return client.call(*args)
        finally:
            client.close()

    def info(self, section="replication"):
        text = self.call("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_redis(*options):
    return Process("redis", ["redis-server", "--port", "%(port)d", "--bind", "127.0.0.1", "--dir", "%(dir)s", "--save",
                             "", "--repl-diskless-sync", "no", "--repl-diskless-sync-delay", "0", "--repl-backlog-size",
                             "64mb"] + list(options))


def start_kith(*options, durability="none"):
    return Process("kithd", [servers.kithd_path(), "--port", "%(port)d", "--dir", "%(dir)s/data", "--durability",
                             durability] + list(options))


def follow(kith, redis):
    answer = kith.call("REPLICAOF", "127.0.0.1", redis.port)
    assert answer == b"OK", answer


def is_up(kith):
    return kith.info()["master_link_status"] == "up"


def wait_equal(kith, redis):
    """Both are at the same byte of the stream."""
    def equal():
        return is_up(kith) and int(kith.info()["slave_repl_offset"]) >= int(redis.info()["master_repl_offset"])
    eventually(equal, "kith has all that redis has sent: %s" % kith.info())


def promote_and_compare(kith, redis, least=50):
    wait_equal(kith, redis)
    assert kith.call("REPLICAOF", "NO", "ONE") == b"OK"
    assert kith.info()["role"] == "master"
    same, left_out = compare(redis.client(), kith.client())
    assert same >= least, "only %d keys were compared" % same
    assert kith.call("SET", "mine", "1") == b"OK"
    return same, left_out


def fill(redis, count=20000):
    client = redis.client()
    rng = random.Random(7)
    for first in range(0, count, 500):
        batch = [["SET", "fill%d" % n, "x" * rng.randrange(200)] for n in range(first, first + 500)]
        client.send(*batch)
        for _ in batch:
            client.read()
    client.call("HSET", "big:hash", *[str(n) for n in range(6000)])
    client.call("ZADD", "big:zset", *sum(([str(n / 4), "m%d" % n] for n in range(3000)), []))
    client.call("ZADD", "inf", "inf", "a", "-inf", "b", "0.1", "c")
    client.call("SET", "large", b"\x00\r\n" * 1000000)
    client.call("SET", "ends", "x", "PXAT", int(time.time() * 1000) + 3600000)
    client.call("HSET", "hends", "a", "b")
    client.call("PEXPIRE", "hends", 3600000)
    client.call("XADD", "stream", "*", "a", "b")
    client.call("RPUSH", "list", "a")
    client.close()


def moved_under_load(kith, redis, between=None, seconds=1.0, writers=4):
    """The whole move; `between` runs while all write."""
    fill(redis)
    load = Writers(redis.port, writers)
    try:
        time.sleep(0.2)
        follow(kith, redis)
        eventually(lambda: is_up(kith), "the link is up: %s" % kith.info())
        if between:
            between()
        time.sleep(seconds)
    finally:
        written = load.stop()
    assert written > 200, "the writers wrote %d commands" % written
    return promote_and_compare(kith, redis)


@test
def a_move_with_a_copy_from_disk_loses_and_invents_nothing():
    redis, kith = start_redis(), start_kith()
    kith.call("SET", "old", "gone after the copy")
    same, left_out = moved_under_load(kith, redis)
    assert left_out > 0
    assert kith.call("GET", "old") is None
    info = kith.info()
    assert info["upstream_full_syncs"] == "1" and int(info["upstream_left_out_commands"]) > 0, info
    assert "'lpush' is left out" in kith.log().lower(), "commands that are not there are named in the log"
    return "%d keys, %d left out and named" % (same, left_out)


@test
def a_move_with_a_copy_that_is_streamed_does_so_too():
    redis, kith = start_redis("--repl-diskless-sync", "yes"), start_kith(durability="always")
    moved_under_load(kith, redis)


@test
def links_that_are_cut_go_on_where_they_were():
    redis, kith = start_redis(), start_kith()

    def cut():
        for n in range(4):
            before = int(kith.info()["upstream_partial_syncs"])
            redis.call("CLIENT", "KILL", "TYPE", "replica")
            eventually(lambda: int(kith.info()["upstream_partial_syncs"]) > before and is_up(kith), "cut %d heals" % n)
            time.sleep(0.1)
    moved_under_load(kith, redis, cut)
    assert kith.info()["upstream_full_syncs"] == "1", kith.info()


@test
def what_the_backlog_has_lost_comes_as_a_whole_copy():
    redis, kith = start_redis("--repl-backlog-size", "16kb"), start_kith()

    def starve():
        kith.signal(signal.SIGSTOP)
        redis.call("CLIENT", "KILL", "TYPE", "replica")
        for n in range(20):
            redis.call("SET", "filler", "y" * 20000)
        kith.signal(signal.SIGCONT)
        eventually(lambda: kith.info()["upstream_full_syncs"] == "2" and is_up(kith), "a second copy")
    moved_under_load(kith, redis, starve)


@test
def a_kith_that_is_killed_goes_on_behind_what_it_had_applied():
    redis, kith = start_redis(), start_kith()

    def kill():
        for n in range(4):
            time.sleep(random.Random(n).random() * 0.4)
            kith.kill()
            kith.start()
            eventually(lambda: is_up(kith), "start %d: the link is up" % n)
    moved_under_load(kith, redis, kill)
    info = kith.info()
    assert info["upstream_full_syncs"] == "0" and int(info["upstream_partial_syncs"]) >= 1, info


@test
def a_kith_that_is_killed_in_the_middle_of_a_copy_begins_it_anew():
    redis, kith = start_redis("--repl-diskless-sync", "yes", "--rdb-key-save-delay", "100"), start_kith()
    fill(redis, 8000)
    follow(kith, redis)
    eventually(lambda: kith.info()["upstream_state"] == "loading", "a copy is under way")
    refused = kith.call("GET", "fill1")
    assert isinstance(refused, Error) and refused.startswith(b"LOADING"), refused
    kith.kill()
    redis.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    kith.start()
    promote_and_compare(kith, redis)


@test
def a_redis_that_restarts_is_followed_again():
    redis, kith = start_redis(), start_kith()

    def restart():
        try:
            redis.call("SHUTDOWN", "SAVE")
        except (OSError, Closed):
            pass
        redis.process.wait()
        time.sleep(0.3)
        assert kith.info()["master_link_status"] == "down"
        redis.start()
        eventually(lambda: is_up(kith), "the link is up again: %s" % kith.info())
    moved_under_load(kith, redis, restart)


@test
def passwords_are_given_and_asked_for_clearly():
    redis, kith = start_redis("--requirepass", "secret"), start_kith()
    follow(kith, redis)
    eventually(lambda: "masterauth" in kith.info()["upstream_last_error"], "INFO says what is missing")
    kith.call("CONFIG", "SET", "masterauth", "wrong")
    eventually(lambda: "refuses masteruser" in kith.info()["upstream_last_error"], "INFO says that it is wrong")
    assert kith.call("CONFIG", "GET", "masterauth")[1] == b"(set)"
    kith.call("CONFIG", "SET", "masterauth", "secret")
    eventually(lambda: is_up(kith), "the link is up")
    redis.kill()
    eventually(lambda: "refused" in kith.info()["upstream_last_error"], "INFO says that nobody listens")


@test
def a_kith_that_is_named_as_upstream_is_refused_clearly():
    first, second = start_kith(), start_kith()
    follow(second, first)
    eventually(lambda: "--join" in second.info()["upstream_last_error"], "INFO tells of --join")
    assert second.call("REPLICAOF", "NO", "ONE") == b"OK"
    assert second.call("SET", "a", "1") == b"OK"


@test
def a_replica_answers_as_one():
    redis, kith = start_redis(), start_kith(durability="always")
    redis.call("SET", "a", "1")
    follow(kith, redis)
    assert kith.call("REPLICAOF", "127.0.0.1", redis.port) == b"OK Already connected to specified master"
    eventually(lambda: is_up(kith), "the link is up")
    redis.call("SET", "short", "x", "PX", 100)
    wait_equal(kith, redis)
    assert kith.call("ROLE") == [b"slave", b"127.0.0.1", redis.port, b"connected",
                                 int(kith.info()["slave_repl_offset"])]
    info = kith.info()
    assert info["role"] == "slave" and info["master_host"] == "127.0.0.1" and info["master_port"] == str(redis.port)
    assert info["master_sync_in_progress"] == "0" and info["slave_read_only"] == "1"
    for write in (["SET", "b", "1"], ["DEL", "a"], ["FLUSHALL"], ["KITH.REQUEST", "1", "SET", "b", "1"]):
        answer = kith.call(*write)
        assert isinstance(answer, Error) and answer.startswith(b"READONLY"), answer
    for inner in (["APPLY", 1, 0, 0, 0, "0" * 40], ["SYNC", 1, 1], ["LEAVE", 0, "x", "a"]):
        answer = kith.call("KITH.UPSTREAM", *inner)
        assert isinstance(answer, Error) and b"log alone" in answer, answer
    assert isinstance(kith.call("REPLICAOF", "host", "70000"), Error)
    assert kith.call("GET", "a") == b"1"
    # WAIT on the upstream counts what Kith has applied.
    client = redis.client()
    client.call("SET", "c", "2")
    assert client.call("WAIT", 1, 5000) == 1
    assert kith.call("GET", "c") == b"2"
    slave = redis.info()["slave0"]
    assert "port=%d,state=online" % kith.port in slave, slave
    eventually(lambda: kith.call("GET", "short") is None, "a key past its time is not served")
    # Another history, then none.
    assert kith.call("SLAVEOF", "NO", "ONE") == b"OK"
    assert kith.call("SET", "b", "1") == b"OK"
    assert kith.call("ROLE")[0] == b"master"
    kith.kill()
    kith.start()
    assert (kith.call("ROLE")[0], kith.call("GET", "c")) == (b"master", b"2"), kith.log()


@test
def databases_that_change_places_come_as_a_copy():
    redis, kith = start_redis(), start_kith()
    redis.call("SET", "a", "1")
    follow(kith, redis)
    eventually(lambda: is_up(kith), "the link is up")
    redis.call("SWAPDB", "0", "1")
    redis.call("SET", "b", "2")
    eventually(lambda: kith.info()["upstream_full_syncs"] == "2" and is_up(kith), "a second copy")
    promote_and_compare(kith, redis, least=2)


def leader_of(group):
    """The one that leads, which says that it is a replica while it follows."""
    def find():
        for node in group.running():
            reply = node.call("KITH.CLUSTER", "INFO")
            if dict(zip(reply[::2], reply[1::2]))[b"state"] == b"leader":
                return node
        return None
    return group.until("somebody leads", find)


@test
def a_group_goes_on_when_its_leader_is_killed():
    redis, group = start_redis(), Group(3, ["--durability", "none"])
    try:
        fill(redis, 4000)
        load = Writers(redis.port, 3)
        try:
            leader = leader_of(group)
            leader.call("REPLICAOF", "127.0.0.1", redis.port)
            eventually(lambda: leader.info()["master_link_status"] == "up", "the link is up")
            for _ in range(2):
                time.sleep(0.5)
                old = leader_of(group)
                old.kill()
                leader = leader_of(group)
                eventually(lambda: leader.info().get("upstream_state") == "live" and
                           leader.info()["master_link_status"] == "up", "the next leader follows: %s" % leader.info())
                old.start()
                eventually(lambda: len([n for n in group.nodes if n.alive()]) == 3, "all run")
            time.sleep(0.3)
        finally:
            load.stop()
        leader = leader_of(group)
        eventually(lambda: int(leader.info()["slave_repl_offset"]) >= int(redis.info()["master_repl_offset"]),
                   "the group has all that redis has sent: %s" % leader.info())
        assert next(n for n in group.nodes if n is not leader).call("REPLICAOF", "NO", "ONE") == b"OK"
        compare(redis.client(), Client(leader.port))
        group.wait_same()
    finally:
        group.close()


def main():
    names = sys.argv[1:]
    passed = failed = 0
    for name, function in TESTS:
        if names and not any(n in name for n in names):
            continue
        began = time.monotonic()
        try:
            said = function()
            passed += 1
            print("ok   %s%s (%.1f s)" % (name, ": " + said if said else "", time.monotonic() - began))
        except Exception as e:  # noqa: BLE001 - every failure is reported, the next test runs
            failed += 1
            print("FAIL %s: %s: %s" % (name, type(e).__name__, e))
            print("".join("       " + line + "\n" for line in traceback.format_exc().splitlines()[-6:]), end="")
        sys.stdout.flush()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
