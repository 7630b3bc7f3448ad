"""A RESP2/RESP3 client over a plain socket, for the tests: the standard library alone, bytes in and bytes out.

Replies become Python values that keep what the protocol said: Status, Error, Map, Set, Push and Double are subclasses,
so that a test sees a RESP3 map where one is due, and compares with == otherwise."""
import socket


class Status(bytes):
    pass


class Error(bytes):
    pass


class Map(list):
    """Pairs, in the order of the wire."""


class Set(list):
    pass


class Push(list):
    pass


class Double(float):
    def __new__(cls, text):
        self = super().__new__(cls, text)
        self.text = text
        return self


class Verbatim(bytes):
    pass


class BigNumber(int):
    pass


class Closed(Exception):
    """The other side closed the connection."""


def encode(args):
    out = [b"*%d\r\n" % len(args)]
    for a in args:
        if isinstance(a, str):
            a = a.encode()
        elif isinstance(a, (int, float)):
            a = repr(a).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(a), a))
    return b"".join(out)


class Client:
    def __init__(self, port, host="127.0.0.1", timeout=30, protocol=2):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb", 1 << 16)
        if protocol == 3:
            hello = self.call("HELLO", "3")
            if isinstance(hello, Error):
                raise RuntimeError("HELLO 3: " + hello.decode())

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, *commands):
        self.sock.sendall(b"".join(encode(c) for c in commands))

    def call(self, *args):
        self.send(args)
        return self.read()

    def line(self):
        got = self.file.readline()
        if not got.endswith(b"\r\n"):
            raise Closed()
        return got[:-2]

    def bulk(self, length):
        got = self.file.read(length + 2)
        if len(got) != length + 2:
            raise Closed()
        return got[:-2]

    def read(self):
        head = self.line()
        kind, rest = head[:1], head[1:]
        if kind == b"+":
            return Status(rest)
        if kind == b"-":
            return Error(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.bulk(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        if kind == b"%":
            return Map((self.read(), self.read()) for _ in range(int(rest)))
        if kind == b"~":
            return Set(self.read() for _ in range(int(rest)))
        if kind == b">":
            return Push(self.read() for _ in range(int(rest)))
        if kind == b",":
            return Double(rest.decode())
        if kind == b"#":
            return rest == b"t"
        if kind == b"_":
            return None
        if kind == b"=":
            return Verbatim(self.bulk(int(rest)))
        if kind == b"!":
            return Error(self.bulk(int(rest)))
        if kind == b"(":
            return BigNumber(rest)
        raise ValueError("not RESP: %r" % head[:80])


def show(reply, indent=""):
    """A reply as redis-cli prints it to a terminal."""
    if reply is None:
        return indent + "(nil)"
    if isinstance(reply, Status):
        return indent + reply.decode("utf-8", "replace")
    if isinstance(reply, Error):
        return indent + "(error) " + reply.decode("utf-8", "replace")
    if isinstance(reply, bool):
        return indent + ("(true)" if reply else "(false)")
    if isinstance(reply, Double):
        return indent + "(double) " + reply.text
    if isinstance(reply, int):
        return indent + "(integer) %d" % reply
    if isinstance(reply, Verbatim):
        return indent + reply[4:].decode("utf-8", "replace")
    if isinstance(reply, bytes):
        return indent + quote(reply)
    return show_aggregate(reply, indent)


def show_aggregate(reply, indent):
    kind, empty = "%d) ", "(empty array)"
    if isinstance(reply, Map):
        kind, empty = "%d# ", "(empty hash)"
    elif isinstance(reply, Set):
        kind, empty = "%d~ ", "(empty set)"
    if not reply:
        return indent + empty
    lines, width = [], len(str(len(reply)))
    for n, item in enumerate(reply, 1):
        mark = (kind % n).rjust(width + 2)
        deeper = " " * (len(indent) + len(mark))
        if isinstance(reply, Map):
            nested = isinstance(item[1], list) and item[1]
            text = show(item[0]) + " => " + ("\n" + show(item[1], deeper) if nested else show(item[1]))
        else:
            text = show(item, deeper).lstrip()
        lines.append(indent + mark + text)
    return "\n".join(lines)


def quote(data):
    out = ['"']
    for b in data:
        c = chr(b)
        if c in '"\\':
            out.append("\\" + c)
        elif c in "\n\r\t\a\b":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}[c])
        elif 32 <= b < 127:
            out.append(c)
        else:
            out.append("\\x%02x" % b)
    return "".join(out) + '"'
