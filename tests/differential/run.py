#!/usr/bin/env python3
"""tests/differential/run.py [--commands N] [--seed S] [--against redis]: random commands to redis-server and to kithd,
replies compared.

The run is cut into epochs of 2,000 commands, each from FLUSHALL and a seed of its own, half of them over RESP3. Commands
go pipelined. Errors are compared to the letter; what has no order (HGETALL, KEYS, SCAN) is sorted; scores are compared
as numbers; a time to live may differ by the time between the two servers. After each epoch the whole keyspace is read
back and compared. A difference is shrunk to the fewest commands that still show it.

What docs/compatibility.md lists as different on purpose is listed in ALLOWED, with the same reason.
One case a command name: passed when no reply to it ever differed.

--seed S --commands 2000 replays the epoch that a failure names. --against redis compares redis-server with itself: it
must find nothing, whatever the seed."""
import argparse
import os
import random
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)
import servers  # noqa: E402
from commands import BITMAP, Maker  # noqa: E402
from resp import Closed, Double, Error, Map, Push, Set, Status, show  # noqa: E402

EPOCH = 2000
BATCH = 100
MAX_REPORTS = 12
UNORDERED = {"KEYS", "HKEYS", "HVALS"}
SCORED = {"ZSCORE", "ZMSCORE", "ZINCRBY", "ZADD", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZUNION",
          "ZINTER", "ZDIFF", "ZPOPMIN", "ZPOPMAX", "ZMPOP"}

# What may differ: (command names, an expression that our reply matches, one that the arguments match). The reasons are in
# docs/compatibility.md under the same words.
ALLOWED = [
    ("a zero byte in a cursor", r"SCAN|HSCAN|ZSCAN", r"ERR invalid cursor", r"\x00"),
    ("COMMAND GETKEYS", r"COMMAND", r"ERR The command has no key arguments", r"(?i)^GETKEYS \S+$"),
    ("OBJECT ENCODING", r"OBJECT", r"embstr|raw|int", r"(?i)^ENCODING"),
    ("random counts", r"@HRANDFIELD|@ZRANDMEMBER", r"ERR value is out of range, a count must be", r" -?922337203685477580[78]"),
    ("ZINCRBY takes no options", r"ZINCRBY", r"ERR value is not a valid float", r" (NX|XX|GT|LT|CH|INCR) "),
    ("ZRANK WITHSCORE", r"ZRANK|ZREVRANK", r"ERR syntax error", r""),
]


def text(a):
    return a if isinstance(a, bytes) else str(a).encode()


def name_of(command):
    return text(command[0]).decode("latin1").upper()


def number(reply):
    try:
        return float(reply)
    except (TypeError, ValueError):
        return None


def kind(reply):
    for t in (Error, Status, Double, Map, Set, Push, bool, int, bytes, list):
        if isinstance(reply, t):
            return t
    return type(None)


def same_scores(a, b):
    """Equal, where two texts of one number are equal too."""
    if kind(a) != kind(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same_scores(x, y) for x, y in zip(a, b))
    if isinstance(a, (Double, bytes)) and not isinstance(a, Error) and a != b:
        return number(a) is not None and number(a) == number(b)
    return a == b


def same_kinds(a, b):
    if kind(a) != kind(b):
        return False
    return not isinstance(a, (list, tuple)) or all(same_kinds(x, y) for x, y in zip(a, b))


def same(command, a, b):
    name = name_of(command)
    if isinstance(a, (Error, type(None))) or kind(a) != kind(b):
        return kind(a) == kind(b) and a == b
    if name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"):
        slack = 5000 if name[0] == "P" else 5
        return a == b or a > 0 and b > 0 and abs(a - b) <= slack
    if name in ("SCAN", "HSCAN", "ZSCAN"):
        return same_kinds(a[:1], b[:1])  # one page says little: @scan compares whole iterations
    if name in ("RANDOMKEY", "DBSIZE"):
        return True  # DBSIZE counts keys past their time until they are removed: see compare_keyspace
    if name in UNORDERED:
        return sorted(a) == sorted(b)
    if name == "HGETALL":
        pairs = [sorted(r) if isinstance(r, Map) else sorted(zip(r[::2], r[1::2])) for r in (a, b)]
        return pairs[0] == pairs[1]
    if name in SCORED:
        return same_scores(a, b)
    return a == b and same_kinds(a, b)


met = {}  # how often each allowed difference was seen


def allowed(command, a, b):
    arguments = b" ".join(text(x) for x in command[1:]).decode("latin1")
    words = repr(b) if isinstance(b, (tuple, str)) else show(b)
    for what, names, ours, given in ALLOWED:
        if re.fullmatch(names, name_of(command)) and re.search(ours, words) and re.search(given, arguments):
            met[what] = met.get(what, 0) + 1
            return True
    return False


# Questions that take several commands; each gives a value that must be equal on both servers.


def scan(client, command, key, options):
    """Every element that a full iteration gives, sorted; as a set, because an element may come twice."""
    cursor, seen, rounds = b"0", set(), 0
    while True:
        reply = client.call(*([command] + key + [cursor] + options))
        if isinstance(reply, Error):
            return reply
        cursor, page = reply
        seen.update(page if command == "SCAN" else zip(page[::2], page[1::2]))
        rounds += 1
        if cursor == b"0":
            return sorted(seen)
        if rounds > 100000:
            return "the iteration never ends"


def contents(client, key):
    kind_of = client.call("TYPE", key)
    if kind_of == b"hash":
        flat = client.call("HGETALL", key)
        return sorted(flat) if isinstance(flat, Map) else sorted(zip(flat[::2], flat[1::2]))
    if kind_of == b"zset":
        flat = client.call("ZRANGE", key, "0", "-1", "WITHSCORES")
        pairs = flat if flat and isinstance(flat[0], list) else list(zip(flat[::2], flat[1::2]))
        return [(m, float(s)) for m, s in pairs]
    return client.call("GET", key) if kind_of == b"string" else None


def random_pick(client, command, arguments):
    """What must be equal of a random pick: its shape, and that everything in it is there."""
    here = contents(client, arguments[0])
    reply = client.call(command, *arguments)
    if reply is None or isinstance(reply, Error):
        return reply
    members = {m for m, _ in here} if isinstance(here, list) else set()
    if not isinstance(reply, list):
        return ("one", reply in members)
    if len(arguments) < 3:
        picked = reply
    else:
        pairs = reply if reply and isinstance(reply[0], list) else list(zip(reply[::2], reply[1::2]))
        if command == "ZRANDMEMBER":
            pairs = [(m, float(s)) for m, s in pairs]
        if not all(tuple(p) in set(here) for p in pairs):
            return ("a pair that is not there", pairs)
        picked = [p[0] for p in pairs]
    repeated = len(set(picked)) < len(picked) and not text(arguments[1]).startswith(b"-")
    return ("many", len(reply), all(m in members for m in picked), "repeated" if repeated else "")


def ask(client, question):
    name, arguments = question[0], question[1:]
    if name == "@scan":
        match, type_name, count = arguments
        options = ["MATCH", match, "COUNT", count] + (["TYPE", type_name] if type_name else [])
        return scan(client, "SCAN", [], options)
    if name in ("@hscan", "@zscan"):
        key, match, count = arguments
        found = scan(client, name[1:].upper(), [key], ["COUNT", count] + (["MATCH", match] if match else []))
        if name == "@zscan" and isinstance(found, list):
            return sorted((m, float(s)) for m, s in found)
        return found
    if name == "@contents":
        return contents(client, arguments[0])
    if name == "@randomkey":
        reply = client.call("RANDOMKEY")
        return reply is None or client.call("EXISTS", reply)
    return random_pick(client, name[1:].upper(), arguments)


class Pair:
    """Two servers, a RESP2 and a RESP3 connection to each."""

    def __init__(self, redis, ours):
        self.redis, self.ours = redis, ours
        self.clients = {p: (redis.client(protocol=p), ours.client(protocol=p)) for p in (2, 3)}

    def reconnect(self):
        self.close()
        self.clients = {p: (self.redis.client(protocol=p), self.ours.client(protocol=p)) for p in (2, 3)}

    def close(self):
        for both in self.clients.values():
            for c in both:
                c.close()

    def reset(self):
        for both in self.clients.values():
            for c in both:
                c.call("SELECT", "0")
                c.call("CLIENT", "SETNAME", "")
        for c in self.clients[2]:
            c.call("FLUSHALL")

    def play(self, protocol, commands):
        """Sends the commands to both, yields (command, Redis's reply, ours)."""
        both = self.clients[protocol]
        for c in both:
            c.send(*commands)
        for command in commands:
            yield command, both[0].read(), both[1].read()

    def one(self, protocol, command):
        if text(command[0]).startswith(b"@"):
            return tuple(ask(c, command) for c in self.clients[protocol])
        for c in self.clients[protocol]:
            c.send(command)
        return tuple(c.read() for c in self.clients[protocol])


class Difference(Exception):
    def __init__(self, at, command, redis, ours):
        self.at, self.command, self.redis, self.ours = at, command, redis, ours


def make_epoch(seed, bitmaps):
    rng = random.Random(seed)
    maker = Maker(rng, bitmaps)
    return [(rng.choice((2, 3)) if i % 50 == 0 else None, maker.next()) for i in range(EPOCH)]


def with_protocols(epoch):
    """Commands come in runs over one protocol, so that they can be pipelined."""
    out, protocol = [], 2
    for p, command in epoch:
        protocol = p or protocol
        out.append((protocol, command))
    return out


def differ(command, a, b):
    if text(command[0]).startswith(b"@"):
        return a != b and not allowed(command, a, b)
    return not same(command, a, b) and not allowed(command, a, b)


def judge(at, command, a, b):
    if differ(command, a, b):
        raise Difference(at, command, a, b)


def play_epoch(pair, steps, seen):
    i = 0
    while i < len(steps):
        protocol, command = steps[i]
        if text(command[0]).startswith(b"@"):
            a, b = pair.one(protocol, command)
            seen.add(command[0])
            judge(i, command, a, b)
            i += 1
            continue
        j = i
        while j < len(steps) and j - i < BATCH and steps[j][0] == protocol and not text(steps[j][1][0]).startswith(b"@"):
            j += 1
        batch, found = [c for _, c in steps[i:j]], None
        for k, (command, a, b) in enumerate(pair.play(protocol, batch)):
            seen.add(name_of(command))
            if not found and differ(command, a, b):
                found = Difference(i + k, command, a, b)
        if found:
            raise found
        i = j
    for db in ("0", "1"):
        compare_keyspace(pair, db, len(steps))


def compare_keyspace(pair, db, at):
    for c in pair.clients[2]:
        c.call("SELECT", db)
    keys = [sorted(c.call("KEYS", "*")) for c in pair.clients[2]]
    if keys[0] != keys[1]:
        raise Difference(at, ["KEYS", "*"], keys[0], keys[1])
    for c, who in zip(pair.clients[2], ("redis-server", "kithd")):
        until = time.monotonic() + 5
        while c.call("DBSIZE") != len(keys[0]):
            if time.monotonic() > until:
                raise Difference(at, ["DBSIZE"], b"%d keys" % len(keys[0]), b"%s: %d" % (who.encode(), c.call("DBSIZE")))
            time.sleep(0.01)
    for key in keys[0]:
        judge(at, ["@contents", key], *pair.one(2, ["@contents", key]))
        judge(at, ["PEXPIRETIME", key], *pair.one(2, ["PEXPIRETIME", key]))


def differs(pair, steps, command):
    """Whether `command` after `steps` still gives two replies. A server that dies counts as different."""
    try:
        pair.reset()
        for protocol, c in steps[:-1]:
            pair.one(protocol, c)
        if steps[-1][1] is command:
            a, b = pair.one(steps[-1][0], command)
            return (a, b) if differ(command, a, b) else None
    except (Closed, OSError):
        pair.reconnect()
        return ("closed", "closed")
    return None


def shrink(pair, steps, found):
    """The fewest steps that still end in the difference."""
    if found.at < len(steps):
        steps, command = steps[:found.at + 1], steps[found.at][1]
    else:
        steps, command = steps + [(2, found.command)], found.command
    if not differs(pair, steps, command):
        return None
    chunk = max(1, (len(steps) - 1) // 2)
    while True:
        i, removed = 0, False
        while i < len(steps) - 1:
            fewer = steps[:i] + steps[min(i + chunk, len(steps) - 1):]
            if differs(pair, fewer, command):
                steps, removed = fewer, True
            else:
                i += chunk
        if chunk == 1 and not removed:
            return steps
        chunk = max(1, chunk // 2)


def spell(command):
    return " ".join(repr(text(a))[1:] if re.search(rb"[^!-~]|^$|['\"]", text(a)) else text(a).decode() for a in command)


def report(pair, steps, found, seed):
    print("\na difference at command %d of the epoch with --seed %d:" % (found.at, seed))
    small = shrink(pair, steps, found)
    if small:
        again = differs(pair, small, small[-1][1])
        for protocol, command in small:
            print("  %s> %s" % ("3" if protocol == 3 else "", spell(command)))
        a, b = again or (found.redis, found.ours)
    else:
        print("  (the whole epoch is needed) %s" % spell(found.command))
        a, b = found.redis, found.ours
    for who, reply in (("redis", a), ("kithd", b)):
        print("  %s: %s" % (who, (show(reply) if not isinstance(reply, (str, tuple)) else repr(reply))[:1500]))


def known(server, name):
    c = server.client()
    reply = c.call(name)
    c.close()
    return not (isinstance(reply, Error) and reply.startswith(b"ERR unknown command"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--against", default="kithd")
    args = parser.parse_args()
    redis = servers.start_redis()
    ours = servers.start_redis() if args.against == "redis" else servers.start_kithd()
    pair = Pair(redis, ours)
    bitmaps = all(known(ours, name) for name in BITMAP)
    seen, bad, played, reports = set(), {}, 0, 0
    for n in range((args.commands + EPOCH - 1) // EPOCH):
        seed = args.seed + n
        steps = with_protocols(make_epoch(seed, bitmaps))
        try:
            pair.reset()
            play_epoch(pair, steps, seen)
        except Difference as found:
            name = name_of(found.command)
            bad[name] = bad.get(name, 0) + 1
            if bad[name] == 1 and reports < MAX_REPORTS:
                reports += 1
                pair.reconnect()
                report(pair, steps, found, seed)
            pair.reconnect()
        except (Closed, OSError) as e:
            bad["(connection)"] = bad.get("(connection)", 0) + 1
            print("\nseed %d: the connection broke: %r; kithd is %s\n%s" % (
                seed, e, "alive" if ours.alive() else "dead", ours.log()[-2000:]))
            if not ours.alive() or not redis.alive():
                break
            pair.reconnect()
        played += EPOCH
        if reports >= MAX_REPORTS:
            print("\nenough differences to look at: stopping")
            break
    pair.close()
    failed = len(bad)
    for name, times in sorted(bad.items()):
        print("%s differed in %d of %d epochs" % (name, times, played // EPOCH))
    print("differences that docs/compatibility.md lists: %s" % (
        ", ".join("%s (%d)" % (what, n) for what, n in sorted(met.items())) or "none met"))
    print("%d commands, seeds %d to %d%s" % (played, args.seed, args.seed + played // EPOCH - 1,
                                             "" if bitmaps else "; kithd has no bitmap commands"))
    line = "%d passed, %d failed" % (len(seen - set(bad)), failed)
    print(line if bitmaps else line + ", %d skipped" % len(BITMAP))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
