"""What one writer has done to its own keys: commands drawn at random, and their effect on a plain model.

Every writer has keys that no other touches, so that after a crash its keys must hold exactly the commands that were
acknowledged, and then none, some or all of those still on their way, in their order: nothing else is possible."""
import copy
import json

DIM = 8


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
                 "zadd", "zadd", "zrem", "zincr"] + (["vadd", "vadd", "vadd", "vrem", "vattr"] if self.vectors else [])
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

    def draw_vadd(self):
        v = self.vector()
        return ["VADD", self.key("v"), "VALUES", str(DIM)] + [str(x) for x in v] + \
            ["e%d" % self.rng.randrange(60), "SETATTR", json.dumps({"serial": self.serial, "first": v[0]})]

    def draw_vrem(self):
        return ["VREM", self.key("v"), "e%d" % self.rng.randrange(60)]

    def draw_vattr(self):
        return ["VSETATTR", self.key("v"), "e%d" % self.rng.randrange(60), json.dumps({"again": self.rng.randrange(99)})]

    # The effect.

    def apply(self, command):
        apply(self.state, command)

    def after(self, pending):
        """The states that a crash may leave: after none, one, ... all of the commands that had no reply yet."""
        state = copy.deepcopy(self.state)
        yield copy.deepcopy(state)
        for command in pending:
            apply(state, command)
            yield copy.deepcopy(state)


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
            state[c[2]] = copy.deepcopy(state[key])
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
        vector, element, attributes = [float(x) for x in c[4:4 + DIM]], c[4 + DIM], c[4 + DIM + 2]
        state.setdefault(key, {"vectors": {}})["vectors"][element] = (vector, attributes)
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
    found = {}
    for n in range(60):
        element = "e%d" % n
        if client.call("VISMEMBER", key, element):
            vector = [float(x) for x in client.call("VEMB", key, element)]
            attributes = client.call("VGETATTR", key, element)
            found[element] = (vector, attributes and attributes.decode())
    if client.call("VCARD", key) != len(found):
        raise AssertionError("VCARD %s counts other elements than VISMEMBER finds" % key)
    return found


def close_enough(a, b):
    """The stored vector may be a code: each component within 2 % of the longest."""
    reach = max(abs(x) for x in a) * 0.02
    return len(a) == len(b) and all(abs(x - y) <= reach for x, y in zip(a, b))


def difference(model, real):
    """None, or a sentence about the first key that is not as the model says."""
    for key in sorted(set(model) | set(real)):
        a, b = model.get(key), real.get(key)
        if a is None or b is None:
            return "%s %s" % (key, "is there and should not be: %.200r" % (b,) if a is None else "is lost: %.200r" % (a,))
        if "vectors" in a and "vectors" in b:
            for element in sorted(set(a["vectors"]) | set(b["vectors"])):
                x, y = a["vectors"].get(element), b["vectors"].get(element)
                if x is None or y is None or x[1] != y[1] or not close_enough(x[0], y[0]):
                    return "%s %s: expected %r, found %r" % (key, element, x, y)
        elif a != b:
            return "%s: expected %.300r, found %.300r" % (key, a, b)
    return None
