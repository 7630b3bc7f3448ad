"""Writers for a redis-server that is moved away from, and the comparison of what it holds with what Kith holds."""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from resp import Client, Closed, Error  # noqa: E402

DATABASES = (0, 1, 3)
THERE = {b"string", b"hash", b"zset"}  # types that Kith has


def key(rng, kind=None):
    """Names are few, so that commands meet; a name belongs to no type for good."""
    return "%s%d" % (kind or rng.choice("shzlt"), rng.randrange(40))


def value(rng):
    return "v" * rng.choice((0, 1, 3, 10, 50, 500)) + str(rng.randrange(1000))


def commands(rng):
    """One command, or several that go into one MULTI."""
    s, h, z = key(rng, "s"), key(rng, "h"), key(rng, "z")
    one = rng.choice((
        lambda: ["SET", key(rng), value(rng)],
        lambda: ["SET", s, value(rng)],
        lambda: ["SET", s, value(rng), "PX", rng.randrange(1, 3000)],
        lambda: ["SET", s, value(rng), "NX", "EX", rng.randrange(1, 100)],
        lambda: ["SET", s, value(rng), "KEEPTTL"],
        lambda: ["SETEX", s, rng.randrange(1, 4), value(rng)],
        lambda: ["GETEX", s, "PX", rng.randrange(1, 2000)],
        lambda: ["GETDEL", s],
        lambda: ["INCR", "n%d" % rng.randrange(10)],
        lambda: ["INCRBYFLOAT", "f%d" % rng.randrange(5), "0.1"],
        lambda: ["APPEND", "a%d" % rng.randrange(20), value(rng)],
        lambda: ["SETRANGE", s, rng.randrange(50), "xy"],
        lambda: ["SETBIT", s, rng.randrange(300), 1],
        lambda: ["MSET", key(rng, "s"), value(rng), key(rng, "s"), value(rng)],
        lambda: ["DEL", key(rng), key(rng)],
        lambda: ["UNLINK", key(rng)],
        lambda: ["EXPIRE", key(rng), rng.randrange(1, 60)],
        lambda: ["PEXPIRE", key(rng), rng.randrange(1, 500)],
        lambda: ["PEXPIRE", key(rng), 1],
        lambda: ["EXPIREAT", key(rng), int(time.time()) + rng.randrange(-2, 30)],
        lambda: ["PERSIST", key(rng)],
        lambda: ["HSET", h, "f%d" % rng.randrange(50), value(rng), "g", value(rng)],
        lambda: ["HINCRBY", h, "n", rng.randrange(100)],
        lambda: ["HINCRBYFLOAT", h, "x", "0.25"],
        lambda: ["HDEL", h, "f%d" % rng.randrange(50), "g"],
        lambda: ["ZADD", z, rng.randrange(1000) / 8, "m%d" % rng.randrange(60)],
        lambda: ["ZINCRBY", z, "1.5", "m%d" % rng.randrange(60)],
        lambda: ["ZREM", z, "m%d" % rng.randrange(60)],
        lambda: ["ZPOPMIN", z],
        lambda: ["ZREMRANGEBYRANK", z, 0, 0],
        lambda: ["ZUNIONSTORE", key(rng, "z"), 2, key(rng, "z"), key(rng, "t")],
        lambda: ["RENAME", key(rng), key(rng)],
        lambda: ["COPY", key(rng), key(rng), "REPLACE"],
        lambda: ["COPY", key(rng), key(rng), "DB", rng.choice(DATABASES), "REPLACE"],
        lambda: ["MOVE", key(rng), rng.choice(DATABASES)],
        lambda: ["LPUSH", key(rng, "l"), "x"],
        lambda: ["RPOPLPUSH", key(rng, "l"), key(rng, "l")],
        lambda: ["SADD", key(rng, "t"), value(rng)],
        lambda: ["SUNIONSTORE", key(rng), key(rng, "t"), key(rng, "t")],
        lambda: ["SORT", key(rng, "l"), "ALPHA", "STORE", key(rng)],
        lambda: ["PUBLISH", "channel", "message"],
    ))
    if rng.random() < 0.001:
        return [["SELECT", 3], ["FLUSHDB"], ["SELECT", 0]]
    if rng.random() < 0.1:
        return [["MULTI"], one(), ["INCR", "multi"], ["HSET", "hmulti", "n", rng.randrange(1000)], ["EXEC"]]
    return [one()]


class Writers:
    """Threads that write until they are stopped; they outlive a redis-server that is away for a while."""

    def __init__(self, port, count=4, seed=1, pause=0.0005, password=None):
        self.port, self.pause, self.password = port, pause, password
        self.stopping = threading.Event()
        self.written = [0] * count
        self.threads = [threading.Thread(target=self.run, args=(n, seed * 100 + n), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def connect(self):
        while not self.stopping.is_set():
            try:
                client = Client(self.port, timeout=30)
                if self.password:
                    client.call("AUTH", self.password)
                if client.call("PING") == b"PONG":
                    return client
            except (OSError, Closed):
                pass
            time.sleep(0.02)
        return None

    def run(self, number, seed):
        rng = random.Random(seed)
        client = self.connect()
        db = None
        while client and not self.stopping.is_set():
            try:
                if db is None or rng.random() < 0.05:
                    db = rng.choice(DATABASES)
                    client.call("SELECT", db)
                batch = commands(rng)
                client.send(*batch)
                for _ in batch:
                    client.read()
                self.written[number] += len(batch)
            except (OSError, Closed):
                client, db = self.connect(), None
            time.sleep(self.pause)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(40)
        return sum(self.written)


READERS = {b"string": ["GET"], b"hash": ["HGETALL"], b"zset": ["ZRANGE", "", 0, -1, "WITHSCORES"]}


def all_of(client, requests):
    """Their replies, some hundred requests at a time."""
    replies = []
    for first in range(0, len(requests), 300):
        part = requests[first:first + 300]
        client.send(*part)
        replies += [client.read() for _ in part]
    return replies


def tidy(kind, reply):
    if kind == b"hash":
        return sorted(zip(reply[::2], reply[1::2]))
    if kind == b"zset":
        return [(member, float(score)) for member, score in zip(reply[::2], reply[1::2])]
    return reply


def content(client):
    """{(db, key): (type, value, time of its end)}"""
    found = {}
    for db in DATABASES:
        client.call("SELECT", db)
        names, cursor = [], None
        while cursor != b"0":
            cursor, part = client.call("SCAN", cursor or 0, "COUNT", 1000)
            names += part
        kinds = all_of(client, [["TYPE", n] for n in names])
        ends = all_of(client, [["PEXPIRETIME", n] for n in names])
        reads = [[(READERS.get(k) or ["TYPE"])[0], n] + READERS.get(k, [])[2:] for n, k in zip(names, kinds)]
        for name, kind, end, what in zip(names, kinds, ends, all_of(client, reads)):
            found[(db, name)] = (bytes(kind), tidy(kind, what) if kind in READERS else None, end)
    return found


def is_ending(entry, now_ms):
    """It went while it was read, or its time came before all was read."""
    return entry is not None and (entry[0] == b"none" or 0 <= entry[2] <= now_ms or entry[2] == -2)


def compare(redis, kith):
    """Nothing is missing and nothing too much: every key, value and time; and what Kith has not got is named. Returns how
    many keys were equal, and how many left out."""
    a, b = content(redis), content(kith)
    now_ms = time.time() * 1000 + 50
    listed = {(db, bytes(name)) for db, name, _ in kith.call("KITH.UPSTREAM", "LEFTOUT")}
    same = left_out = 0
    for place in sorted(set(a) | set(b)):
        theirs, ours = a.get(place), b.get(place)
        if is_ending(theirs, now_ms) or is_ending(ours, now_ms):
            continue
        if theirs and theirs[0] not in THERE:
            assert ours is None, "%r is a %r in redis and %r here" % (place, theirs[0], ours)
            assert place in listed, "%r, a %r, is missing and not named" % (place, theirs[0])
            left_out += 1
        elif place in listed:
            assert ours is None, "%r is named as left out, and is here: %r" % (place, ours)
            left_out += 1
        else:
            assert theirs == ours, "%r is %r in redis and %r here" % (place, theirs, ours)
            same += 1
    return same, left_out


__all__ = ["Writers", "compare", "content", "Error"]
