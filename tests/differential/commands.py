"""Random commands of the surface that Kith shares with Redis: what the differential runner plays to both.

Few keys and few members, so that commands meet each other's work; values chosen where the code has edges (integers at
64 bits, empty and binary strings, infinities); about one command in sixteen is broken on purpose, because an error's
text is a reply too. Nothing here depends on the clock: a time to live is either far away or already past.

A name that starts with @ is not a command but a question that takes several (a full SCAN, a random pick with a look at
what it was picked from); run.py asks it of each server and compares what must be equal."""

import re

LEX_KEYS = ("l0", "l1", "l2")
FAR = 4102444800  # 2100-01-01 in seconds: far enough to be the same on both, whenever this runs

BITMAP = ("SETBIT", "GETBIT", "BITCOUNT", "BITPOS", "BITOP", "BITFIELD", "BITFIELD_RO")



def has_zero_byte(c):
    """Redis reads a bound of a score range with strtod up to the first zero byte, so that bytes behind one do not count.
    Kith says that they are no number (docs/compatibility.md); in a write the two would go different ways from there."""
    return re.search("COUNT$|SCORE|ZRANGE", c[0]) and any(a == b"\x00\xff" for a in c[2:])


class Maker:
    def __init__(self, rng, bitmaps=True):
        self.r, self.bitmaps = rng, bitmaps
        self.table = []
        for name in sorted(n for n in dir(self) if n.startswith("make_")):
            method = getattr(self, name)
            self.table.append((method, WEIGHTS.get(name[5:], 10)))
        if not bitmaps:
            self.table = [(m, w) for m, w in self.table if m.__name__ != "make_bitmap"]
        self.methods, self.weights = zip(*self.table)

    def next(self):
        """One command: a list of strings and bytes."""
        c = self.r.choices(self.methods, self.weights)[0]()
        if c[0].startswith("@"):
            return c
        if self.r.random() < 0.06:
            c = self.broken(c)
            if has_zero_byte(c):
                return self.next()
        if self.r.random() < 0.05:
            c[0] = "".join(ch.lower() if self.r.random() < .5 else ch for ch in c[0])
        return c

    # What is drawn from.

    def pick(self, *choices):
        return self.r.choice(choices)

    def maybe(self, chance, *words):
        return list(words) if self.r.random() < chance else []

    def many(self, low, high, draw):
        return [draw() for _ in range(self.r.randint(low, high))]

    def key(self):
        # A key by its number most often meets a value of the type that the command wants.
        return self.pick("k%d" % self.r.randrange(6), "h%d" % self.r.randrange(4), "z%d" % self.r.randrange(4))

    def skey(self):
        return "k%d" % self.r.randrange(8) if self.r.random() < 0.95 else self.key()

    def hkey(self):
        return "h%d" % self.r.randrange(4) if self.r.random() < 0.95 else self.key()

    def zkey(self):
        return "z%d" % self.r.randrange(5) if self.r.random() < 0.95 else self.key()

    def lkey(self):
        """Sorted sets whose scores are all 0: elsewhere the BYLEX commands promise nothing."""
        return self.pick(*LEX_KEYS)

    def value(self):
        x = self.r.random()
        if x < 0.35:
            return self.integer()
        if x < 0.45:
            return self.decimal()
        if x < 0.75:
            return "".join(self.r.choice("abcdefgh") for _ in range(self.r.randint(0, 12)))
        if x < 0.9:
            return bytes(self.r.randrange(256) for _ in range(self.r.randint(0, 40)))
        return "".join(self.r.choice("xyz ") for _ in range(self.r.choice((43, 44, 45, 63, 64, 65, 200, 1000))))

    def integer(self):
        if self.r.random() < 0.85:
            return str(self.r.randint(-20, 200))
        return self.pick("9223372036854775807", "-9223372036854775808", "9223372036854775800", "9223372036854775808",
                         "10000000000", "007", "+5", "-0", " 1", "1 ", "0x10", "")

    def decimal(self):
        return self.pick("1.5", "-2.25", "0.1", "3e2", "1e300", "-1e300", "5", "inf", "-inf", "1e-5", "10.0", ".5", "1.",
                         "3.0000000000000004", "0.30000000000000004", "123456789.123456789")

    def number(self):
        """An argument that should be an integer, and mostly is."""
        return str(self.r.randint(-12, 12)) if self.r.random() < 0.93 else self.junk()

    def count(self):
        return str(self.r.randint(0, 8)) if self.r.random() < 0.93 else self.pick("-1", "-5", "abc", "100", "")

    def member(self):
        return "m%d" % self.r.randrange(25) if self.r.random() < 0.97 else self.value()

    def field(self):
        return "f%d" % self.r.randrange(20) if self.r.random() < 0.97 else self.value()

    def score(self):
        x = self.r.random()
        if x < 0.7:
            return str(self.r.randint(-10, 10))
        if x < 0.92:
            return self.finite()
        return self.pick("0", "-0", "1e17", "nan", "abc", "")

    def finite(self):
        return self.pick("1.5", "-2.25", "0.1", "3e2", "1e200", "-1e200", "1e-5", "10.0", ".5", "1.", "3.0000000000000004",
                         "123456789.123456789")

    def make_infinite(self):
        """Infinities live in keys of their own: what is left of inf - inf in a ZUNION depends on the order of its keys."""
        k, score = self.pick("i0", "i1"), self.pick("inf", "+inf", "-inf", "1e308", "17976931348623157e292", "-1e308", "5")
        return self.pick(["ZADD", k, score, self.member()], ["ZINCRBY", k, score, self.member()],
                         ["ZADD", k, "INCR", score, self.member()], ["ZRANGE", k, "0", "-1", "WITHSCORES"],
                         ["ZCOUNT", k, self.bound(), self.bound()], ["ZRANGE", k, "-inf", "(inf", "BYSCORE"],
                         ["ZMSCORE", k] + self.many(1, 4, self.member), ["ZREMRANGEBYSCORE", k, "(-inf", "+inf"],
                         ["ZPOPMAX", k])

    def bound(self):
        x = self.r.random()
        if x < 0.6:
            return self.pick("", "", "(") + str(self.r.randint(-10, 10))
        return self.pick("-inf", "-inf", "+inf", "inf", "1.5", "(1.5", "(inf") if x < 0.96 else self.pick("abc", "(x", "[1", "(", "")

    def lex(self):
        x = self.r.random()
        if x < 0.12:
            return "-"
        if x < 0.24:
            return "+"
        if x < 0.27:
            return self.pick("m1", "", "(", "[")
        return self.pick("[", "(") + "m%d" % self.r.randrange(25)

    def junk(self):
        # No small positive number: as a time to live it would pass while we look.
        return self.pick("abc", "", "-1", "0", "9223372036854775807", "-9223372036854775808", "nan", "1.5", "100000",
                         b"\x00\xff", "NX", "XX", "GET", "LIMIT", "WITHSCORES")

    def broken(self, c):
        """The same command with one argument lost, added or replaced. Keys stay: some kinds are kept apart."""
        x, n = self.r.random(), len(c)
        if c[0] in ("COMMAND", "CLIENT") or c[1:2] and str(c[1]) in LEX_KEYS:
            return c
        if x < 0.3 and n > 1:
            return c[:self.r.randint(1, n - 1)]
        if x < 0.6:
            return c + [self.junk()]
        if n > 2 and c[0] not in ("BITOP", "RENAME", "RENAMENX", "COPY", "MSET", "MSETNX") and "STORE" not in c[0]:
            i = self.r.randint(2, n - 1)
            return c[:i] + [self.junk()] + c[i + 1:]
        return c

    # Strings.

    def make_set(self):
        c = ["SET", self.skey(), self.value()]
        c += self.maybe(0.12, self.pick("NX", "XX"))
        c += self.maybe(0.12, "GET")
        if self.r.random() < 0.25:
            c += self.expiry() if self.r.random() < 0.7 else ["KEEPTTL"]
        return c

    def expiry(self):
        return self.pick(["EX", self.seconds()], ["PX", self.seconds() + "000"], ["EXAT", str(FAR + self.r.randrange(99))],
                         ["PXAT", str(FAR * 1000 + self.r.randrange(99))], ["EX", self.pick("0", "-5", "abc")],
                         ["PXAT", self.pick("1", "0", "-1")])

    def seconds(self):
        return str(self.r.randint(100000, 90000000))

    def make_get(self):
        return [self.pick("GET", "GET", "GET", "STRLEN", "GETDEL"), self.skey()]

    def make_getex(self):
        return ["GETEX", self.skey()] + self.pick([], ["PERSIST"], self.expiry(), self.expiry())

    def make_getset(self):
        return ["GETSET", self.skey(), self.value()]

    def make_setnx(self):
        return ["SETNX", self.skey(), self.value()]

    def make_setex(self):
        return self.pick(["SETEX", self.skey(), self.seconds(), self.value()],
                         ["PSETEX", self.skey(), self.seconds() + "000", self.value()],
                         ["SETEX", self.skey(), self.pick("0", "-1", "x", "9223372036854775807"), self.value()])

    def make_multi(self):
        if self.r.random() < 0.5:
            return ["MGET"] + self.many(1, 5, self.key)
        pairs = []
        for _ in range(self.r.randint(1, 4)):
            pairs += [self.skey(), self.value()]
        return [self.pick("MSET", "MSETNX")] + pairs

    def make_append(self):
        return ["APPEND", self.skey(), self.value()]

    def make_incr(self):
        return self.pick(["INCR", self.skey()], ["DECR", self.skey()], ["INCRBY", self.skey(), self.integer()],
                         ["DECRBY", self.skey(), self.integer()], ["INCRBYFLOAT", self.skey(), self.decimal()])

    def make_range(self):
        if self.r.random() < 0.65:
            return [self.pick("GETRANGE", "GETRANGE", "SUBSTR"), self.skey(), self.number(), self.number()]
        return ["SETRANGE", self.skey(), self.pick(str(self.r.randint(0, 60)), "-1", "0", "536870912", "x"), self.value()]

    def make_lcs(self):
        c = ["LCS", self.skey(), self.skey()]
        c += self.maybe(0.3, "LEN") + self.maybe(0.3, "IDX") + self.maybe(0.3, "MINMATCHLEN", self.number())
        return c + self.maybe(0.3, "WITHMATCHLEN")

    def make_bitmap(self):
        key = self.skey()
        bit = self.pick(str(self.r.randint(0, 90)), str(self.r.randint(0, 2000)), "-1", "4294967296", "x")
        unit = self.maybe(0.5, self.pick("BYTE", "BIT", "bit"))
        return self.pick(
            ["SETBIT", key, bit, self.pick("0", "1", "1", "2")], ["GETBIT", key, bit], ["BITCOUNT", key],
            ["BITCOUNT", key, self.number(), self.number()] + unit,
            ["BITPOS", key, self.pick("0", "1", "2")],
            ["BITPOS", key, self.pick("0", "1"), self.number()] + (self.maybe(0.6, self.number()) and [self.number()] + unit),
            ["BITOP", self.pick("AND", "OR", "XOR", "NOT", "NAND"), self.skey()] + self.many(1, 3, self.skey),
            self.bitfield("BITFIELD"), self.bitfield("BITFIELD"), self.bitfield("BITFIELD_RO"))

    def bitfield(self, name):
        c = [name, self.skey()]
        for _ in range(self.r.randint(0, 3)):
            kind = self.pick("u8", "i8", "u1", "i64", "u63", "i5", "u17", "u64", "i65", "x3")
            at = self.pick("", "#") + str(self.r.randint(0, 40))
            what = "GET" if name == "BITFIELD_RO" and self.r.random() < .9 else self.pick("GET", "SET", "INCRBY", "OVERFLOW")
            if what == "OVERFLOW":
                c += [what, self.pick("WRAP", "SAT", "FAIL", "NO")]
            else:
                c += [what, kind, at] + ([] if what == "GET" else [self.pick("1", "-1", "100", "255", "-129", self.integer())])
        return c

    # Keys.

    def make_del(self):
        return [self.pick("DEL", "UNLINK")] + self.many(1, 2, self.key)

    def make_look(self):
        return self.pick(["EXISTS"] + self.many(1, 4, self.key), ["TOUCH"] + self.many(1, 4, self.key),
                         ["TYPE", self.key()], ["DBSIZE"], ["OBJECT", "ENCODING", self.key()],
                         ["KEYS", self.pattern()], ["RANDOMKEY", "x"])

    def pattern(self):
        return self.pick("*", "k*", "?1", "h[0-2]", "z[^1]", "[a-k]*", "\\k1", "k\\*", "nothing", "", "**1", "k[3-", "*[0-9]")

    def make_rename(self):
        return [self.pick("RENAME", "RENAMENX"), self.key(), self.key()]

    def make_copy(self):
        return ["COPY", self.key(), self.key()] + self.maybe(0.4, "REPLACE") + \
            self.maybe(0.15, "DB", self.pick("0", "1", "99", "x"))

    def make_expire(self):
        k, options = self.key(), self.maybe(0.5, self.pick("NX", "XX", "GT", "LT")) + self.maybe(0.08, self.pick("NX", "GT"))
        return self.pick(["EXPIRE", k, self.seconds()], ["PEXPIRE", k, self.seconds() + "000"],
                         ["EXPIREAT", k, str(FAR + self.r.randrange(9))],
                         ["PEXPIREAT", k, str(FAR * 1000 + self.r.randrange(9))],
                         [self.pick("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"), k, self.pick(
                             "-1", "0", "abc", "9223372036854775807", "-9223372036854775808", "1.5")]) + options

    def make_ttl(self):
        return [self.pick("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"), self.key()]

    def make_scan(self):
        return ["@scan", self.pattern(), self.pick("", "string", "hash", "zset", "nosuch"), self.pick("1", "5", "10", "1000")]

    def make_random_key(self):
        return ["@randomkey"]

    def make_scan_errors(self):
        return self.pick(["SCAN", self.pick("abc", "-1", "0x1")], ["SCAN", "0", "COUNT", self.pick("0", "-1", "x")],
                         ["HSCAN", self.key(), "x"], ["ZSCAN", "nosuch", "0"], ["HSCAN", "k0"], ["SCAN", "0", "MATCH"])

    def make_rare(self):
        return self.pick(["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "SYNC"], ["FLUSHALL", "WHAT"],
                         ["SELECT", self.pick("0", "1")], ["SELECT", self.pick("-1", "abc", "100000")])

    def make_connection(self):
        return self.pick(["PING"], ["PING", self.value()], ["ECHO", self.value()], ["NOSUCHCOMMAND", "a", self.member()],
                         ["CLIENT", "GETNAME"], ["CLIENT", "SETNAME", self.pick("me", "", "with space")],
                         ["COMMAND", "GETKEYS"] + self.pick(["GET", "a"], ["MSET", "a", "1", "b", "2"], ["PING"],
                                                            ["ZUNIONSTORE", "d", "2", "a", "b"], ["NOSUCH", "a"],
                                                            ["ZMPOP", "2", "a", "b", "MIN"], ["SET", "a"]))

    # Hashes.

    def make_hset(self):
        pairs = []
        for _ in range(self.r.randint(1, 4)):
            pairs += [self.field(), self.value()]
        return [self.pick("HSET", "HSET", "HMSET"), self.hkey()] + pairs

    def make_hset_one(self):
        return ["HSETNX", self.hkey(), self.field(), self.value()]

    def make_hread(self):
        k = self.hkey()
        return self.pick(["HGET", k, self.field()], ["HMGET", k] + self.many(1, 5, self.field), ["HGETALL", k], ["HLEN", k],
                         ["HKEYS", k], ["HVALS", k], ["HEXISTS", k, self.field()], ["HSTRLEN", k, self.field()])

    def make_hdel(self):
        return ["HDEL", self.hkey()] + self.many(1, 3, self.field)

    def make_hincr(self):
        return self.pick(["HINCRBY", self.hkey(), self.field(), self.integer()],
                         ["HINCRBYFLOAT", self.hkey(), self.field(), self.decimal()])

    def make_hscan(self):
        return ["@hscan", self.hkey(), self.pick("", "f*", "f1?", "*5"), self.pick("1", "10", "100")]

    def make_hrandom(self):
        return ["@hrandfield", self.hkey()] + self.pick([], [self.number()], [self.number(), "WITHVALUES"])

    # Sorted sets.

    def make_zadd(self):
        c = ["ZADD", self.zkey()] + self.maybe(0.15, self.pick("NX", "XX")) + self.maybe(0.12, self.pick("GT", "LT"))
        c += self.maybe(0.15, "CH") + self.maybe(0.1, "INCR")
        for _ in range(1 if "INCR" in c and self.r.random() < 0.9 else self.r.randint(1, 4)):
            c += [self.score(), self.member()]
        return c

    def make_zincrby(self):
        return ["ZINCRBY", self.zkey(), self.score(), self.member()]

    def make_zread(self):
        k = self.zkey()
        return self.pick(["ZSCORE", k, self.member()], ["ZMSCORE", k] + self.many(1, 4, self.member), ["ZCARD", k],
                         ["ZRANK", k, self.member()], ["ZREVRANK", k, self.member()],
                         ["ZCOUNT", k, self.bound(), self.bound()])

    def limit(self):
        return self.maybe(0.4, "LIMIT", self.number(), self.number())

    def scores(self):
        return self.maybe(0.4, "WITHSCORES")

    def make_zrange(self):
        k = self.zkey()
        return self.pick(["ZRANGE", k, self.number(), self.number()] + self.maybe(0.3, "REV") + self.scores(),
                         ["ZRANGE", k, self.bound(), self.bound(), "BYSCORE"] + self.maybe(0.4, "REV") + self.limit() +
                         self.scores(), ["ZREVRANGE", k, self.number(), self.number()] + self.scores(),
                         ["ZRANGEBYSCORE", k, self.bound(), self.bound()] + self.scores() + self.limit(),
                         ["ZREVRANGEBYSCORE", k, self.bound(), self.bound()] + self.limit() + self.scores())

    def make_zrem(self):
        k = self.zkey()
        return self.pick(["ZREM", k] + self.many(1, 3, self.member), ["ZREM", k, self.member()],
                         ["ZREMRANGEBYRANK", k, self.number(), self.number()],
                         ["ZREMRANGEBYSCORE", k, self.bound(), self.bound()])

    def make_zpop(self):
        return self.pick([self.pick("ZPOPMIN", "ZPOPMAX"), self.zkey()] + self.maybe(0.5, self.count()),
                         ["ZMPOP", self.pick("1", "2", "0", "x", "-1"), self.zkey(), self.zkey(),
                          self.pick("MIN", "MAX", "MID")] + self.maybe(0.4, "COUNT", self.count()),
                         ["ZMPOP", "2", self.zkey(), self.zkey(), self.pick("MIN", "MAX")])

    def aggregate(self, n):
        c = self.maybe(0.35, "WEIGHTS")
        if c:
            c += [self.pick("1", "2", "-1", "0.5", "0", "abc") for _ in range(n)]
        return c + self.maybe(0.35, "AGGREGATE", self.pick("SUM", "MIN", "MAX", "AVG"))

    def make_zunion(self):
        keys = self.many(1, 3, self.zkey)
        n = str(len(keys)) if self.r.random() < 0.95 else self.pick("0", "-1", "9", "x")
        kind = self.pick("UNION", "INTER", "DIFF")
        options = [] if kind == "DIFF" else self.aggregate(len(keys))
        if self.r.random() < 0.4:
            return ["Z%sSTORE" % kind, self.zkey(), n] + keys + options
        return ["Z" + kind, n] + keys + options + self.scores()

    def make_zintercard(self):
        keys = self.many(1, 3, self.zkey)
        return ["ZINTERCARD", str(len(keys))] + keys + self.maybe(0.4, "LIMIT", self.pick("0", "1", "3", "-1", "x"))

    def make_zrangestore(self):
        return ["ZRANGESTORE", self.zkey(), self.zkey()] + self.pick(
            [self.number(), self.number()] + self.maybe(0.3, "REV"),
            [self.bound(), self.bound(), "BYSCORE"] + self.maybe(0.3, "REV") + self.limit())

    def make_zscan(self):
        return ["@zscan", self.zkey(), self.pick("", "m*", "m1?"), self.pick("1", "10", "100")]

    def make_zrandom(self):
        return ["@zrandmember", self.zkey()] + self.pick([], [self.number()], [self.number(), "WITHSCORES"])

    def make_lex(self):
        k = self.lkey()
        pairs = []
        for _ in range(self.r.randint(1, 5)):
            pairs += ["0", "m%d" % self.r.randrange(25)]
        return self.pick(["ZADD", k] + pairs, ["ZADD", k] + pairs, ["ZRANGEBYLEX", k, self.lex(), self.lex()] + self.limit(),
                         ["ZREVRANGEBYLEX", k, self.lex(), self.lex()] + self.limit(),
                         ["ZRANGE", k, self.lex(), self.lex(), "BYLEX"] + self.maybe(0.3, "REV") + self.limit(),
                         ["ZLEXCOUNT", k, self.lex(), self.lex()], ["ZREMRANGEBYLEX", k, self.lex(), self.lex()],
                         ["ZRANGESTORE", self.lkey(), k, self.lex(), self.lex(), "BYLEX"] + self.limit())


WEIGHTS = {"set": 30, "get": 25, "hset": 25, "hread": 25, "zadd": 40, "zread": 25, "zrange": 35, "expire": 15, "ttl": 15,
           "incr": 20, "scan": 2, "hscan": 2, "zscan": 2, "random_key": 2, "hrandom": 4, "zrandom": 4, "rare": 0.5,
           "scan_errors": 3, "connection": 6, "bitmap": 25, "del": 8, "lex": 20, "zunion": 15}
