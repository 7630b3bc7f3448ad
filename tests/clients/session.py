"""session.py PORT PROTOCOL: a session through redis-py, whichever version the interpreter finds. Ends with "ok"."""
import sys

import redis

port, protocol = int(sys.argv[1]), int(sys.argv[2])
options = {"protocol": protocol} if protocol == 3 else {}
r = redis.Redis(port=port, decode_responses=True, client_name="session", **options)


def expect(got, wanted):
    if got != wanted:
        sys.exit("redis-py %s, RESP%d: expected %r, got %r" % (redis.__version__, protocol, wanted, got))


expect(r.ping(), True)
expect(r.client_getname(), "session")
r.flushall()

expect(r.set("k", "v", ex=1000, nx=True), True)
expect(r.set("k", "w", nx=True), None)
expect(r.get("k"), "v")
expect(990 < r.ttl("k") <= 1000, True)
expect(r.incrby("n", 5), 5)
expect(r.mset({"a": "1", "b": "2"}), True)
expect(r.mget("a", "b", "none"), ["1", "2", None])
binary = redis.Redis(port=port, **options)
expect(binary.set(b"\x00k", bytes(range(256))), True)
expect(binary.get(b"\x00k"), bytes(range(256)))
expect(r.delete("a", "b", "\x00k"), 3)

expect(r.hset("h", mapping={"f1": "v1", "f2": "2"}), 2)
expect(r.hgetall("h"), {"f1": "v1", "f2": "2"})
expect(r.hincrbyfloat("h", "f2", 0.5), 2.5)

expect(r.zadd("z", {"one": 1, "two": 2, "three": 3}), 3)
expect([(m, float(s)) for m, s in r.zrange("z", 0, -1, withscores=True)], [("one", 1.0), ("two", 2.0), ("three", 3.0)])
expect(r.zscore("z", "two"), 2.0)
expect(r.zrangebyscore("z", "(1", "+inf"), ["two", "three"])

p = r.pipeline(transaction=False)
for i in range(1000):
    p.set("p:%d" % i, i)
expect(p.execute(), [True] * 1000)
expect(len(set(r.scan_iter("p:*", count=100))), 1000)
expect(r.type("z"), "zset")

for name, vector in (("x", (1, 0, 0)), ("y", (0, 1, 0)), ("xy", (1, 1, 0))):
    expect(int(r.execute_command("VADD", "vs", "VALUES", 3, *vector, name)), 1)
expect(r.execute_command("VCARD", "vs"), 3)
expect(r.execute_command("VSIM", "vs", "ELE", "x", "COUNT", 2), ["x", "xy"])
if hasattr(r, "vset"):
    expect(r.vset().vdim("vs"), 3)
    expect(r.vset().vsim("vs", [0.0, 1.0, 0.0], count=1), ["y"])
    expect(bool(r.vset().vsetattr("vs", "x", {"year": 1999})), True)
    expect(r.vset().vgetattr("vs", "x"), {"year": 1999})
    expect(r.vset().vsim("vs", "x", filter=".year > 1990"), ["x"])

try:
    r.lcs("h", "h")
    sys.exit("LCS of a hash was not refused")
except redis.ResponseError as e:
    pass
info = r.info()
expect("kith_version" in info, True)
expect(r.dbsize() > 1000, True)
expect(r.flushdb(), True)
expect(r.dbsize(), 0)
print("redis-py %s ok" % redis.__version__)
