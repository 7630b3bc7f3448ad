"""A group of real kithd processes on loopback ports, each with a folder of its own; and clients that write to it and
remember what they were told."""
import atexit
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import servers  # noqa: E402
from resp import Client, Closed, Error  # noqa: E402

READY_S = 30
DIMENSIONS = 8


class Node:
    """One kithd; its address stays the same over restarts, its folder unless it is replaced. `before` is what its command
    line begins with."""

    def __init__(self, group, name, options=(), host="127.0.0.1", ports=None, before=(), environment=None):
        self.group, self.name, self.options, self.host = group, name, list(options), host
        self.port, self.peer_port = ports or (servers.free_port(), servers.free_port())
        self.before, self.environment = list(before), environment
        self.folder = os.path.join(group.folder, name)
        self.log_path = os.path.join(group.folder, name + ".log")
        self.process = None
        self.clients = "%s:%d" % (host, self.port)
        self.address = "%s:%d" % (host, self.peer_port)

    def start(self, join=None, wait=True):
        argv = self.before + [servers.kithd_path(), "--port", str(self.port), "--dir", self.folder, "--cluster-address",
                              self.address] + self.group.options + self.options
        if join:
            argv += ["--join", join.address]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.group.folder, env=self.environment)
        if wait:
            self.wait_ready()

    def client(self, timeout=20):
        return Client(self.port, host=self.host, timeout=timeout)

    def wait_ready(self):
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError("%s ended: %s" % (self.name, self.log()[-2000:]))
            try:
                c = self.client(timeout=5)
                c.call("PING")
                c.close()
                return
            except (OSError, Closed):
                time.sleep(0.02)
        raise AssertionError("%s did not start: %s" % (self.name, self.log()[-2000:]))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def call(self, *args, timeout=20):
        c = self.client(timeout)
        try:
            return c.call(*args)
        finally:
            c.close()

    def info(self):
        text = self.call("INFO", "replication").decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.alive():
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


class Group:
    def __init__(self, count, options=()):
        self.folder = tempfile.mkdtemp(prefix="kith-group-")
        self.options = list(options)
        self.nodes = []
        atexit.register(self.close)
        for i in range(count):
            self.add("n%d" % i)

    def make(self, name, options):
        return Node(self, name, options)

    def add(self, name, options=()):
        """Starts a node that joins (the first one founds the group), and waits for its vote."""
        node = self.make(name, options)
        first = next((n for n in self.nodes if n.alive()), None)
        node.start(join=first)
        self.nodes.append(node)
        if first:
            self.until("%s has a vote" % name, lambda: self.member(node).get("role") == "voter")
        return node

    def close(self):
        for n in self.nodes:
            n.kill()  # also one that is stopped
        shutil.rmtree(self.folder, ignore_errors=True)

    def until(self, what, condition, seconds=30):
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                last = condition()
                if last:
                    return last
            except (OSError, Closed) as trouble:
                last = trouble
            time.sleep(0.02)
        raise AssertionError("not within %d s: %s (%r)\n%s" % (seconds, what, last, self.tail()))

    def tail(self):
        return "\n".join("%s: %s" % (n.name, n.log()[-800:]) for n in self.nodes)

    def running(self):
        return [n for n in self.nodes if n.alive()]

    def leader(self, seconds=30):
        def find():
            leaders = [(int(i["raft_term"]), n) for n in self.running() for i in [n.info()] if i["role"] == "master"]
            return max(leaders, key=lambda pair: pair[0])[1] if leaders else None
        return self.until("somebody leads", find, seconds)

    def followers(self):
        leader = self.leader()
        return [n for n in self.running() if n is not leader]

    def members(self, node=None):
        reply = (node or self.running()[0]).call("KITH.CLUSTER", "NODES")
        return [dict(zip([k.decode() for k in m[::2]], [v.decode() if isinstance(v, bytes) else v for v in m[1::2]]))
                for m in reply]

    def member(self, node, asked=None):
        return next((m for m in self.members(asked) if m["address"] == node.address), {})

    def wait_same(self, seconds=60):
        """Until all running nodes have applied the same and hold the same."""
        def same():
            infos = [n.info() for n in self.running()]
            if len({i["raft_applied_index"] for i in infos}) != 1:
                return False
            digests = set()
            for n in self.running():
                c = n.client()
                c.call("READONLY")
                digests.add(bytes(c.call("DEBUG", "DIGEST")))
                c.close()
            return len(digests) == 1
        self.until("all hold the same", same, seconds)


def vector(seed):
    rng = random.Random(seed)
    return ["%.4f" % rng.gauss(0, 1) for _ in range(DIMENSIONS)]


class Writer(threading.Thread):
    """Writes keys and vectors of its own to one node after another, and remembers of each what it was told: `sure` was
    acknowledged, `maybe` has an outcome that nobody knows."""

    def __init__(self, group, number, pause=0.0):
        super().__init__(daemon=True)
        self.group, self.number, self.pause = group, number, pause
        self.rng = random.Random(number)
        self.sure, self.maybe, self.errors = {}, {}, []
        self.vectors, self.maybe_vectors = {}, {}
        self.acknowledged_at = []  # times of acknowledgements
        self.unanswered = 0
        self.errors_of_group = []  # UNKNOWN and CLUSTERDOWN
        self.stopping = False
        self.client = self.node = None

    def connect(self):
        nodes = list(self.group.nodes)
        self.rng.shuffle(nodes)
        for node in nodes:
            try:
                self.client, self.node = node.client(timeout=15), node
                return True
            except OSError:
                pass
        time.sleep(0.01)
        return False

    def drop(self):
        if self.client:
            self.client.close()
        self.client = None

    def one(self, n):
        with_vector = n % 4 == 0
        key = "w%d:%d" % (self.number, n % 50)
        if with_vector:
            name = "v%d:%d" % (self.number, n)
            args = ["VADD", "vectors", "VALUES", DIMENSIONS] + vector(n + 1000000 * self.number) + [name]
        else:
            args = ["SET", key, str(n)]
        try:
            reply = self.client.call(*args)
        except (OSError, Closed, ValueError):
            self.unanswered += 1
            self.drop()
            reply = Error(b"UNKNOWN closed")
        if isinstance(reply, Error):
            if not reply.startswith(b"UNKNOWN") and not reply.startswith(b"CLUSTERDOWN"):
                self.errors.append("%s: %s" % (args[0], reply.decode()))
            elif not reply.startswith(b"UNKNOWN closed"):
                self.errors_of_group.append("%.3f %s: %s: %s" % (time.time(), self.node.name, args[:2], reply.decode()))
            if not reply.startswith(b"CLUSTERDOWN"):
                if with_vector:
                    self.maybe_vectors[name] = n
                else:
                    self.maybe.setdefault(key, set()).add(n)
            return
        self.acknowledged_at.append(time.monotonic())
        if with_vector:
            self.vectors[name] = n
        else:
            self.sure[key] = n
            # What is acknowledged later overwrites what was unknown before: it was first in the log, or is not there, or
            # comes later still (a forwarded one that its node gave up, and the leader had): it stays possible.

    def run(self):
        n = 0
        while not self.stopping:
            if not self.client and not self.connect():
                continue
            n += 1
            self.one(n)
            if self.rng.random() < 0.02:
                self.drop()
            if self.pause:
                time.sleep(self.pause)
        self.drop()

    def check(self, node):
        """A list of what is wrong on `node`."""
        wrong = []
        c = node.client(timeout=30)
        for key, n in self.sure.items():
            got = c.call("GET", key)
            allowed = {n} | self.maybe.get(key, set())
            if got is None or int(got) not in allowed:
                wrong.append("%s is %r, acknowledged was %d" % (key, got, n))
        names = list(self.vectors)
        for i in range(0, len(names), 200):
            c.send(*[("VISMEMBER", "vectors", name) for name in names[i:i + 200]])
            for name in names[i:i + 200]:
                got = c.read()
                if got != 1:
                    wrong.append("vector %s is lost: %r" % (name, got))
        c.close()
        return wrong


def finish(writers):
    for w in writers:
        w.stopping = True
    for w in writers:
        w.join(30)
        assert not w.is_alive(), "a writer hangs"


def expect_none_failed(group, writers):
    """No request was answered with UNKNOWN or CLUSTERDOWN."""
    failed = [e for w in writers for e in w.errors_of_group]
    assert not failed, "%d requests failed:\n%s\n%s" % (len(failed), "\n".join(failed), group.tail())


def expect_kept(group, writers):
    for node in group.running():
        for w in writers:
            wrong = w.check(node)
            assert not wrong, "%s: %s" % (node.name, "; ".join(wrong[:5]))
    errors = [e for w in writers for e in w.errors]
    assert not errors, errors[:5]
