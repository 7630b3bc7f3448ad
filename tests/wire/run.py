#!/usr/bin/env python3
"""tests/wire/run.py [--redis] [FILE ...]: plays transcripts against a real socket; without FILE, all of tests/wire.

A transcript reads as a session with redis-cli would:

    == a list of cases, each with a name that is a sentence
    > SET k "a\\n"             a command over RESP2, quoted as in redis-cli
    OK                        the reply, exactly as redis-cli prints it to a terminal
    3> HGETALL h              the same over RESP3 (a second connection)
    ~ ERR .*dimensions.*      a line that starts with "~ " is a regular expression for its line of the reply
    ...                       any number of further lines
    raw> PING\\r\\n             bytes as they are, on a fresh third connection of the case
    +PONG                     and the bytes that come back, by lines; (closed) where the server hangs up
    # a comment
    !kithd --requirepass pw   as the first line of a file: options of the server that plays the file

Each case begins with FLUSHALL and new connections. --redis plays the files to redis-server, to see what it says."""
import os
import re
import socket
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import servers  # noqa: E402
from resp import Client, Closed, show  # noqa: E402

ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}


def unescape(text):
    """Backslash escapes of redis-cli's double quotes."""
    out, i = bytearray(), 0
    while i < len(text):
        c = text[i]
        if c != "\\" or i + 1 == len(text):
            out += c.encode()
            i += 1
        elif text[i + 1] == "x" and re.match(r"[0-9a-fA-F]{2}", text[i + 2:i + 4]):
            out.append(int(text[i + 2:i + 4], 16))
            i += 4
        else:
            out += ESCAPES.get(text[i + 1], text[i + 1].encode())
            i += 2
    return bytes(out)


def split_command(text):
    args = []
    for m in re.finditer(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|(\S+)', text):
        if m.group(1) is not None:
            args.append(unescape(m.group(1)))
        elif m.group(2) is not None:
            args.append(m.group(2).replace("\\'", "'").encode())
        else:
            args.append(m.group(3).encode())
    return args


def parse(path):
    """(options, [(case name, [(line number, prompt, command, [expected lines])])])."""
    options, cases = [], []
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f.read().split("\n"), 1):
            m = re.match(r"(3?>|raw>) (.*)$", line)
            if line.startswith("!kithd "):
                options = line.split()[1:]
            elif line.startswith("== "):
                cases.append((line[3:], []))
            elif line.startswith("# ") or line == "#":
                continue
            elif m:
                if not cases:
                    cases.append((os.path.basename(path), []))
                cases[-1][1].append((n, m.group(1), m.group(2), []))
            elif line.strip() and cases and cases[-1][1]:
                cases[-1][1][-1][3].append(line)
    return options, cases


def matches(expected, got):
    i = 0
    for k, want in enumerate(expected):
        if want == "...":
            rest = expected[k + 1:]
            return any(matches(rest, got[j:]) for j in range(i, len(got) + 1))
        if i == len(got):
            return False
        if want.startswith("~ "):
            if not re.fullmatch(want[2:], got[i]):
                return False
        elif want != got[i]:
            return False
        i += 1
    return i == len(got)


class Session:
    def __init__(self, port, password):
        self.port, self.password, self.clients, self.raw = port, password, {}, None

    def client(self, prompt):
        if prompt not in self.clients:
            c = Client(self.port, timeout=20)
            if self.password:
                c.call("AUTH", self.password)
            if prompt == "3>":
                c.call("HELLO", "3")
            self.clients[prompt] = c
        return self.clients[prompt]

    def command(self, prompt, text):
        try:
            return show(self.client(prompt).call(*split_command(text))).split("\n")
        except (Closed, ConnectionError):
            self.clients.pop(prompt, None)
            return ["(closed)"]

    def bytes(self, text, expected):
        """Sends bytes, and reads as much as is expected plus what comes at once after it."""
        if not self.raw:
            self.raw = socket.create_connection(("127.0.0.1", self.port), 20)
        self.raw.sendall(unescape(text))
        wanted = sum(1 for e in expected if e != "(closed)")
        got = b""
        try:
            while got.count(b"\r\n") < wanted or "(closed)" in expected:
                piece = self.raw.recv(65536)
                if not piece:
                    got += b"(closed)"
                    break
                got += piece
        except socket.timeout:
            got += b"(nothing more came)"
        except ConnectionError:
            got += b"(closed)"
        lines = got.decode("utf-8", "backslashreplace").replace("\r\n", "\n").split("\n")
        return lines[:-1] if lines and lines[-1] == "" else lines

    def close(self):
        for c in self.clients.values():
            c.close()
        if self.raw:
            self.raw.close()


def play(server, options, path, case):
    name, steps = case
    password = options[options.index("--requirepass") + 1] if "--requirepass" in options else None
    session = Session(server.port, password)
    try:
        session.command(">", "FLUSHALL")
        for n, prompt, text, expected in steps:
            got = session.bytes(text, expected) if prompt == "raw>" else session.command(prompt, text)
            if not matches(expected, got):
                print("%s:%d: %s\n  %s %s\n  expected:" % (os.path.relpath(path), n, name, prompt, text))
                print("\n".join("    " + e for e in expected))
                print("  got:\n" + "\n".join("    " + g for g in got))
                return False
        return True
    except Exception as e:  # a case that breaks the runner is a failed case
        print("%s: %s: %s: %s" % (os.path.relpath(path), name, type(e).__name__, e))
        return False
    finally:
        session.close()


def main():
    files = [a for a in sys.argv[1:] if not a.startswith("--")]
    files = files or sorted(os.path.join(HERE, f) for f in os.listdir(HERE) if f.endswith(".txt"))
    start = servers.start_redis if "--redis" in sys.argv else servers.start_kithd
    passed = failed = 0
    for path in files:
        options, cases = parse(path)
        server = start(*options)
        for case in cases:
            good = play(server, options, path, case)
            if not server.alive():
                print("the server died in %s, %s:\n%s" % (os.path.relpath(path), case[0], server.log()[-2000:]))
                good = False
                server.close()
                server = start(*options)
            passed, failed = passed + good, failed + (not good)
        server.close()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
