"""What one writer has done to its own keys: commands drawn at random, and their effect on a plain model.

Every writer has keys that no other touches, so that after a crash its keys must hold exactly the commands that were
acknowledged, and then none, some or all of those still on their way, in their order: nothing else is possible."""
import json
import math
import time

DIM = 8
ELEMENTS = 300  # of a set: past the slots that a checkpoint saves at once
SETTLE_SECONDS = 20

# How a set keeps its vectors, and how far from what was given, in units of its length, a vector may come back. By signs
# alone it is at an angle of 70 degrees at most, in 8 dimensions.
KINDS = [("", 0.02), ("NOQUANT METRIC L2", 1e-5), ("BIN METRIC IP KEEP F16", 2e-3), ("Q4 KEEP RESIDUAL LAYOUT SPREAD", 0.03),
         ("F16 KEEP NONE METRIC L2 LAYOUT SPREAD", 2e-3), ("BF16 KEEP NONE METRIC IP", 0.01), ("Q4 KEEP NONE METRIC L2", 0.2),
         ("BIN KEEP NONE", 1.2), ("Q8 KEEP F32 METRIC L2 LAYOUT SPREAD", 1e-5), ("Q8 KEEP NONE METRIC IP LAYOUT SPREAD", 0.02),
         ("Q4 KEEP F16 METRIC IP LAYOUT SPREAD", 2e-3), ("BIN KEEP F32 METRIC L2", 1e-5), ("F16 KEEP F32 METRIC IP", 1e-5),
         ("BF16 KEEP F16 METRIC L2", 2e-3), ("Q4 KEEP RESIDUAL METRIC L2", 0.03), ("BIN KEEP NONE METRIC L2", 1.2),
         ("Q8 KEEP RESIDUAL METRIC IP", 0.02), ("NOQUANT LAYOUT SPREAD", 1e-5)]


def kind_of(key):
    """(options, how far off) of the set that a writer keeps under this key."""
    writer, number = key[1:].split(":v")
    return KINDS[(6 * int(writer) + int(number)) % len(KINDS)]


class Writer:
    def __init__(self, number, rng, vectors=True):
        self.prefix = "w%d:" % number
        self.rng, self.state, self.vectors, self.serial = rng, {}, vectors, 0

    def key(self, kind):
        return "%s%s%d" % (self.prefix, kind, self.rng.randrange(6))

    def fresh(self):
        self.serial += 1
        return "%d-%s" % (self.serial, "x" * self.rng.choice((0, 3, 30, 300, 3000)))

    def vector(self):
        v = [self.rng.randint(-99, 99) for _ in range(DIM)]
        v[self.rng.randrange(DIM)] = 100
        return v

    def draw(self):
        """A command whose effect does not depend on what else is running."""
        kinds = ["set", "set", "mset", "incr", "append", "del", "copy", "expire", "hset", "hset", "hdel", "hincr",
                 "zadd", "zadd", "zrem", "zincr"] + (["vadd", "vadd", "vadd", "vmadd", "vrem", "vattr"] if self.vectors else [])
        return getattr(self, "draw_" + self.rng.choice(kinds))()

    def draw_set(self):
        return ["SET", self.key("s"), self.fresh()]

    def draw_mset(self):
        value, out = self.fresh(), ["MSET"]
        for n in range(6):
            out += ["%sm%d" % (self.prefix, n), value]
        return out

    def draw_incr(self):
        return ["INCRBY", self.key("n"), str(self.rng.randint(-9, 9))]

    def draw_append(self):
        return ["APPEND", self.key("a"), "%d," % self.rng.randrange(1000)]

    def draw_del(self):
        return ["DEL", self.key(self.rng.choice("sahz")), self.key("s")]

    def draw_copy(self):
        return ["COPY", self.key("s"), self.key("a"), "REPLACE"]

    def draw_expire(self):
        return ["PEXPIREAT", self.key("s"), str(4102444800000 + self.rng.randrange(1000))]

    def draw_hset(self):
        out = ["HSET", self.key("h")]
        for _ in range(self.rng.randint(1, 4)):
            out += ["f%d" % self.rng.randrange(30), self.fresh()]
        return out

    def draw_hdel(self):
        return ["HDEL", self.key("h"), "f%d" % self.rng.randrange(30), "f%d" % self.rng.randrange(30)]

    def draw_hincr(self):
        return ["HINCRBY", self.key("c"), "f%d" % self.rng.randrange(5), str(self.rng.randint(1, 9))]

    def draw_zadd(self):
        out = ["ZADD", self.key("z")]
        for _ in range(self.rng.randint(1, 5)):
            out += [str(self.rng.randint(-1000, 1000)), "m%d" % self.rng.randrange(200)]
        return out

    def draw_zrem(self):
        return ["ZREM", self.key("z"), "m%d" % self.rng.randrange(200), "m%d" % self.rng.randrange(200)]

    def draw_zincr(self):
        return ["ZINCRBY", self.key("z"), str(self.rng.randint(-9, 9)), "m%d" % self.rng.randrange(200)]

    def element(self):
        return "e%d" % self.rng.randrange(ELEMENTS)

    def vector_words(self):
        v = self.vector()
        return ["VALUES", str(DIM)] + [str(x) for x in v]

    def draw_vadd(self):
        key = self.key("v")
        return ["VADD", key] + self.vector_words() + [self.element(), "SETATTR", json.dumps({"serial": self.serial})] + \
            kind_of(key)[0].split()

    def draw_vmadd(self):
        key, count = self.key("v"), self.rng.choice((1, 5, 40))
        out = ["VMADD", key] + kind_of(key)[0].split() + ["ELEMENTS", str(count)]
        for _ in range(count):
            out += self.vector_words() + [self.element(), "SETATTR", json.dumps({"many": self.serial})]
        return out

    def draw_vrem(self):
        return ["VREM", self.key("v"), self.element()]

    def draw_vattr(self):
        return ["VSETATTR", self.key("v"), self.element(), json.dumps({"again": self.rng.randrange(99)})]

    # The effect.

    def apply(self, command):
        apply(self.state, command)

    def after(self, pending):
        """The states that a crash may leave: after none, one, ... all of the commands that had no reply yet."""
        state = copied(self.state)
        yield copied(state)
        for command in pending:
            apply(state, command)
            yield copied(state)


def copied(state):
    """What is below an entry's parts is never changed in place."""
    return {key: copied_entry(entry) for key, entry in state.items()}


def copied_entry(entry):
    return {part: dict(held) if isinstance(held, dict) else held for part, held in entry.items()}


def put_vector(held, words):
    """words: VALUES DIM components element SETATTR attributes, as drawn."""
    held[words[2 + DIM]] = (tuple(float(x) for x in words[2:2 + DIM]), words[2 + DIM + 2])


def apply(state, c):
    name, key = c[0], c[1]
    if name == "SET":
        state[key] = {"value": c[2]}
    elif name == "MSET":
        for k, v in zip(c[1::2], c[2::2]):
            state[k] = {"value": v}
    elif name == "INCRBY":
        entry = state.setdefault(key, {"value": "0"})
        entry["value"] = str(int(entry["value"]) + int(c[2]))
    elif name == "APPEND":
        entry = state.setdefault(key, {"value": ""})
        entry["value"] += c[2]
    elif name == "DEL":
        for k in c[1:]:
            state.pop(k, None)
    elif name == "COPY":
        if key in state:
            state[c[2]] = copied_entry(state[key])
    elif name == "PEXPIREAT":
        if key in state:
            state[key]["expires"] = int(c[2])
    elif name == "HSET":
        state.setdefault(key, {"hash": {}})["hash"].update(zip(c[2::2], c[3::2]))
    elif name == "HINCRBY":
        fields = state.setdefault(key, {"hash": {}})["hash"]
        fields[c[2]] = str(int(fields.get(c[2], "0")) + int(c[3]))
    elif name == "ZADD":
        scores = state.setdefault(key, {"zset": {}})["zset"]
        for score, member in zip(c[2::2], c[3::2]):
            scores[member] = float(score)
    elif name == "ZINCRBY":
        scores = state.setdefault(key, {"zset": {}})["zset"]
        scores[c[3]] = scores.get(c[3], 0.0) + float(c[2])
    elif name in ("HDEL", "ZREM"):
        kind = "hash" if name == "HDEL" else "zset"
        for field in c[2:]:
            state.get(key, {kind: {}})[kind].pop(field, None)
        if key in state and not state[key][kind]:
            del state[key]
    elif name == "VADD":
        put_vector(state.setdefault(key, {"vectors": {}})["vectors"], c[2:])
    elif name == "VMADD":
        held, at, words = state.setdefault(key, {"vectors": {}})["vectors"], c.index("ELEMENTS") + 2, 2 + DIM + 3
        for first in range(at, len(c), words):
            put_vector(held, c[first:first + words])
    elif name == "VREM":
        state.get(key, {"vectors": {}})["vectors"].pop(c[2], None)
        if key in state and not state[key]["vectors"]:
            del state[key]
    elif name == "VSETATTR":
        held = state.get(key, {"vectors": {}})["vectors"]
        if c[2] in held:
            held[c[2]] = (held[c[2]][0], c[3])
    else:
        raise ValueError(name)


def read_back(client, prefix):
    """What the server holds under `prefix`, in the model's form."""
    state = {}
    for raw in client.call("KEYS", prefix + "*"):
        key, kind = raw.decode(), client.call("TYPE", raw).decode()
        if kind == "string":
            state[key] = {"value": client.call("GET", key).decode()}
        elif kind == "hash":
            flat = [b.decode() for b in client.call("HGETALL", key)]
            state[key] = {"hash": dict(zip(flat[::2], flat[1::2]))}
        elif kind == "zset":
            flat = [b.decode() for b in client.call("ZRANGE", key, "0", "-1", "WITHSCORES")]
            state[key] = {"zset": {m: float(s) for m, s in zip(flat[::2], flat[1::2])}}
        elif kind == "vectorset":
            state[key] = {"vectors": read_vectors(client, key)}
        else:
            state[key] = {"kind": kind}
        expires = client.call("PEXPIRETIME", key)
        if expires != -1:
            state[key]["expires"] = expires
    return state


def read_vectors(client, key):
    names = [name.decode() for name in client.call("VRANGE", key, "-", "+", "-1")]
    if client.call("VCARD", key) != len(names):
        raise AssertionError("VCARD %s counts other elements than VRANGE lists" % key)
    client.send(*[command for name in names for command in (["VEMB", key, name], ["VGETATTR", key, name])])
    found = {}
    for name in names:
        vector, attributes = tuple(float(x) for x in client.read()), client.read()
        found[name] = (vector, attributes and attributes.decode())
    return found


def unsearchable(client, state):
    """None, or a sentence about the first set whose elements a search does not all find: those that are not linked yet at
    once, those that lost the links to them to the crash as soon as the work after it is done."""
    for key in sorted(key for key, entry in state.items() if "vectors" in entry):
        held, options = state[key]["vectors"], kind_of(key)[0]
        until = time.monotonic() + SETTLE_SECONDS
        while True:
            name, (vector, _) = next(iter(held.items()))
            words = ["VSIM", key, "VALUES", str(DIM)] + [repr(x) for x in vector]
            hits = [hit.decode() for hit in client.call(*words, "COUNT", str(2 * ELEMENTS), "EF", "2000")]
            missing = set(held) - set(hits)
            if not missing:
                break
            if time.monotonic() > until:
                return "%s (%s): a search does not find %s" % (key, options, ", ".join(sorted(missing)))
            time.sleep(0.1)
        if len(hits) != len(held):
            return "%s (%s): a search finds %d of %d elements" % (key, options, len(hits), len(held))
        fine = kind_of(key)[1] < 0.01 and "IP" not in options
        if fine and distance(held[hits[0]][0], vector) > 0.1 * length(vector):
            return "%s (%s): the nearest to %s itself is %s" % (key, options, name, hits[0])
    return None


def length(a):
    return math.sqrt(sum(x * x for x in a))


def distance(a, b):
    return length([x - y for x, y in zip(a, b)])


def difference(model, real):
    """None, or a sentence about the first key that is not as the model says."""
    for key in sorted(set(model) | set(real)):
        a, b = model.get(key), real.get(key)
        if a is None or b is None:
            return "%s %s" % (key, "is there and should not be: %.200r" % (b,) if a is None else "is lost: %.200r" % (a,))
        if "vectors" in a and "vectors" in b:
            for element in sorted(set(a["vectors"]) | set(b["vectors"])):
                x, y = a["vectors"].get(element), b["vectors"].get(element)
                if x is None or y is None or x[1] != y[1] or \
                        len(x[0]) != len(y[0]) or distance(x[0], y[0]) > kind_of(key)[1] * length(x[0]):
                    return "%s %s: expected %r, found %r" % (key, element, x, y)
        elif a != b:
            return "%s: expected %.300r, found %.300r" % (key, a, b)
    return None
