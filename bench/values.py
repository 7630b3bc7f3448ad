#!/usr/bin/env python3
"""bench/values.py [--quick]: memory a key and the sorted set, kithd beside Debian's redis-server in one run.

A million keys of 16 bytes with values of 32: resident bytes a key. A million ZADDs of random members and 50,000 ZRANGEs of
100, pipelined through one connection: operations per CPU second of the server. The last lines are what was wanted."""
import os
import random
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
import server as bench  # noqa: E402
import servers  # noqa: E402


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def play(server, commands):
    """CPU seconds of the server for all of the commands, sent as one stream while the replies are read."""
    client, before = server.client(), bench.cpu_seconds(server)
    data, tail = b"".join(commands) + encode(b"ECHO", b"the last reply"), b""
    sender = threading.Thread(target=client.sock.sendall, args=(data,))
    sender.start()
    while b"the last reply" not in tail:
        tail = tail[-32:] + client.sock.recv(1 << 20)
    sender.join()
    client.close()
    return bench.cpu_seconds(server) - before


def resident(server):
    with open("/proc/%d/statm" % server.process.pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(server, count):
    """(bytes a key, ZADDs per CPU second, ZRANGEs per CPU second)"""
    rng, before = random.Random(1), resident(server)
    play(server, [encode(b"SET", b"key:%012d" % i, b"v" * 32) for i in range(count)])
    size = (resident(server) - before) / count
    adds = play(server, [encode(b"ZADD", b"z", b"%d" % rng.randrange(10**9), b"member:%d" % rng.randrange(10**9))
                         for _ in range(count)])
    firsts, ranges = [rng.randrange(count - 200) for _ in range(count // 20)], []
    for first in firsts:
        ranges.append(encode(b"ZRANGE", b"z", b"%d" % first, b"%d" % (first + 99)))
    return size, count / adds, len(ranges) / play(server, ranges)


def main():
    count = 100000 if "--quick" in sys.argv else 1000000
    found = {}
    for name, start in (("redis", servers.start_redis), ("kithd", lambda: servers.start_kithd(durability="none"))):
        server = start()
        found[name] = measure(server, count)
        server.close()
        print("%-6s %6.1f bytes a key  %9.0f ZADD/CPU s  %9.0f ZRANGE of 100/CPU s" % ((name,) + found[name]), flush=True)
    redis, kithd = found["redis"], found["kithd"]
    print("\nkithd: %.1f bytes a key (wanted: at most 85; redis-server %.1f)" % (kithd[0], redis[0]))
    print("ZADD ratio %.2f (wanted 2.0), ZRANGE of 100 ratio %.2f (wanted 3.0)" % (kithd[1] / redis[1], kithd[2] / redis[2]))


if __name__ == "__main__":
    main()
