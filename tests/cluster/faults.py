#!/usr/bin/env python3
"""tests/cluster/faults.py [--nodes 3,5] [--kills N] [--partitions N] [--pauses N] [--full N] [--syncs N] [--storms N]
[--power N] [--seed N]
[--failover P50,MAX] [--control]: groups of real kithd processes, a network namespace each, under load, to which
everything happens.

Clients (load.c) write and read strings, counters, locks, lists and vectors on all nodes and keep what they saw. Meanwhile,
in an order that the seed tells: the leader is killed; the network is divided, both ways or one; processes stand still;
disks are full; syncs fail; messages are late and lost; all are killed at once. In the end every history must be
linearizable with a last read of each key (so nothing acknowledged is lost), and all nodes must hold the same.

With --control the clients read what is near and may be old (READONLY) while messages are late: the check must find that."""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import network  # noqa: E402
from group import Group, Node, servers  # noqa: E402
from resp import Closed, Error  # noqa: E402

# Small files, so that checkpoints, and streams of them, run all the time.
OPTIONS = ["--bind", "0.0.0.0", "--protected-mode", "no", "--cluster-secret", "of the test", "--log-segment-size", "1mb",
           "--checkpoint-log-size", "8mb", "--workers", "1"]
SHIM = os.path.join(servers.build_dir(), "tests", "cluster", "failing_sync.so")
PORTS = (6379, 7379)
DISK_MB = 256
FAULTS = ("kills", "partitions", "pauses", "full", "syncs", "storms", "power")


def log(text):
    print("     " + text)
    sys.stdout.flush()


class FarGroup(Group):
    """A group with a network of its own, and small disks for a minority of its nodes."""

    def __init__(self, count):
        self.network, self.disks = network.Network(), {}
        self.small = (count - 1) // 2
        super().__init__(count, OPTIONS)

    def make(self, name, options):
        i = self.network.count
        node = Node(self, name, options, network.host_of(i), PORTS, self.network.add())
        node.number, node.failing = i, os.path.join(self.folder, name + ".sync-fails")
        node.environment = dict(os.environ, FAILING_SYNC=node.failing,
                                LD_PRELOAD=SHIM if os.path.exists(SHIM) else "")
        if i < self.small:
            disk = network.SmallDisk(os.path.join(self.folder, "disk%d" % i), DISK_MB)
            node.folder = os.path.join(disk.path, "data")
            self.disks[node] = disk
        return node

    def call_soon(self, node, *args):
        try:
            return node.call(*args, timeout=1)
        except (OSError, Closed):
            return None

    def role(self, node):
        text = self.call_soon(node, "INFO", "replication") if node.alive() else None
        info = dict(line.split(":", 1) for line in text.decode().split("\r\n") if ":" in line) if text else {}
        return info.get("role"), int(info.get("raft_term", 0)), info.get("master_link_status")

    def leader_now(self, nodes=None):
        """Who leads in the highest term that is seen; waits for one."""
        def find():
            seen = [(term, n) for n in (nodes or self.nodes) for role, term, _ in [self.role(n)] if role == "master"]
            return max(seen, key=lambda pair: pair[0])[1] if seen else None
        return self.until("somebody leads", find)

    def wait_writes(self, nodes, what):
        self.until("writes go on after " + what, lambda: any(
            self.call_soon(n, "SET", "probe", what.replace(" ", "-")) == b"OK" for n in nodes))

    def wait_whole(self):
        """All run, and follow or lead."""
        def whole():
            roles = [self.role(n) for n in self.nodes]
            leaders = [r for r in roles if r[0] == "master"]
            return len(leaders) == 1 and all(r is leaders[0] or (r[2] == "up" and r[1] == leaders[0][1]) for r in roles)
        self.until("the group is whole", whole, 60)

    def close(self):
        super().close()
        for disk in self.disks.values():
            disk.close()
        self.disks = {}
        shutil.rmtree(self.folder, ignore_errors=True)


class Load:
    """The clients; `stop` gives their last line."""

    def __init__(self, group, path, seed, pause_us, readonly=False):
        self.path = path
        self.process = subprocess.Popen(
            [os.path.join(servers.build_dir(), "tests", "cluster", "load"), "--seed", str(seed), "--pause", str(pause_us),
             "--readonly", str(int(readonly)), path] + [n.clients for n in group.nodes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        said = self.process.communicate(timeout=600)[0].strip()
        return self.process.returncode, said


class Trouble:
    """What is done to the group. Each fault leaves it whole again."""

    def __init__(self, group, rng, moments):
        self.group, self.rng, self.moments = group, rng, moments

    def moment(self, name, began, ended):
        self.moments.write("%s %d %d\n" % (name, began, ended))
        self.moments.flush()

    def do(self, fault):
        getattr(self, fault)()
        self.group.wait_whole()
        time.sleep(self.rng.uniform(0.1, 0.5))

    def others(self, node):
        return [n for n in self.group.nodes if n is not node]

    def rest(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def kills(self):
        leader = self.group.leader_now()
        began = time.monotonic_ns()
        leader.kill()
        self.moment("kill", began, time.monotonic_ns())
        self.group.wait_writes(self.others(leader), "a kill")
        self.rest(0.1, 0.8)
        leader.start()

    def power(self):
        for n in self.group.nodes:
            n.kill()
        self.rest(0, 0.2)
        for n in self.group.nodes:
            n.start(wait=False)
        for n in self.group.nodes:
            n.wait_ready()

    def partitions(self):
        group, rng = self.group, self.rng
        leader = group.leader_now()
        follower = rng.choice(self.others(leader))
        side = {leader} | set(rng.sample(self.others(leader), group.small - 1))  # a minority, with the leader
        kind = rng.choice(["division", "leader mute", "leader deaf", "follower cut off", "follower mute", "one link",
                           "one way", "unplugged"])
        pairs = lambda a, b: {(x.number, y.number) for x in a for y in b}  # noqa: E731
        rest = [n for n in group.nodes if n not in side]
        lost, ways = [leader], set()
        if kind == "division":
            ways, lost = pairs(side, rest) | pairs(rest, side), side
        elif kind == "leader mute":
            ways = pairs([leader], self.others(leader))
        elif kind == "leader deaf":
            ways = pairs(self.others(leader), [leader])
        elif kind == "follower cut off":
            ways, lost = pairs([follower], self.others(follower)) | pairs(self.others(follower), [follower]), [follower]
        elif kind == "follower mute":
            ways, lost = pairs([follower], self.others(follower)), [follower]
        elif kind == "one link":
            ways, lost = pairs([leader], [follower]) | pairs([follower], [leader]), []
        elif kind == "one way":
            ways, lost = rng.choice([pairs([leader], [follower]), pairs([follower], [leader])]), []
        began = time.monotonic_ns()
        if kind == "unplugged":
            group.network.unplug(leader.number)
        else:
            group.network.cut(ways)
        if leader in lost:
            self.moment("leader-" + ("cut-off" if kind in ("division", "unplugged") else kind[7:]), began,
                        time.monotonic_ns())
        group.wait_writes([n for n in group.nodes if n not in lost], kind)
        self.rest(0.3, 2.5)
        group.network.mend()

    def pauses(self):
        leader = self.group.leader_now()
        node = leader if self.rng.random() < 0.6 else self.rng.choice(self.others(leader))
        began = time.monotonic_ns()
        node.pause()
        if node is leader:
            self.moment("pause", began, time.monotonic_ns())
        if self.rng.random() < 0.7:  # else it may be over before anybody is elected
            self.group.wait_writes(self.others(node), "a pause")
        self.rest(0.1, 2)
        node.resume()

    def stopped_taking(self, node):
        """A disk that failed has ended this node's part in the group, as long as it runs."""
        text = self.group.call_soon(node, "INFO", "persistence")
        assert text is None or isinstance(text, Error) or b"log_error" in text, text
        return text is not None and not isinstance(text, Error) and b"log_error:\r\n" not in text

    def replace_process(self, node, how):
        """Its disk has failed: nothing that it is asked is acknowledged, and a start mends it."""
        answer = self.group.call_soon(node, "SET", "probe", how)
        assert isinstance(answer, Error) or answer is None, "a node whose disk failed says %r" % answer
        node.kill()

    def full(self):
        node = self.rng.choice(list(self.group.disks))
        disk = self.group.disks[node]
        disk.fill()
        ballast = os.urandom(100000).hex()

        def write_more():  # beyond the files that it has made ahead
            self.group.call_soon(self.rng.choice(self.group.nodes), "SET", "ballast", ballast)
            return self.stopped_taking(node)
        self.group.until("%s runs out of room" % node.name, write_more)
        self.group.wait_writes(self.others(node), "a full disk")
        self.replace_process(node, "full")
        disk.free()
        node.start()

    def syncs(self):
        leader = self.group.leader_now()
        node = leader if self.rng.random() < 0.5 else self.rng.choice(self.group.nodes)
        began = time.monotonic_ns()
        with open(node.failing, "w", encoding="ascii"):
            pass
        if node is leader:
            self.moment("sync-failed", began, time.monotonic_ns())
        self.group.until("%s has failed a sync" % node.name, lambda: self.stopped_taking(node))
        self.group.wait_writes(self.others(node), "a failed sync")
        self.replace_process(node, "sync")
        os.remove(node.failing)
        node.start()

    def storms(self):
        """Late and lost messages: by the kernel, or where it cannot by the nodes' own transport."""
        for n in self.group.nodes:
            delay, loss = self.rng.choice([0, 5, 20, 80]), self.rng.choice([0, 1, 5, 20])
            if not self.group.network.weather(n.number, delay, loss):
                n.call("CONFIG", "SET", "debug-peer-delay-ms", delay)
                n.call("CONFIG", "SET", "debug-peer-drop-percent", loss)
        self.rest(0.5, 2.5)
        for n in self.group.nodes:
            if not self.group.network.weather(n.number, 0, 0):
                n.call("CONFIG", "SET", "debug-peer-delay-ms", 0)
                n.call("CONFIG", "SET", "debug-peer-drop-percent", 0)


def check_history(folder, *options):
    return subprocess.run([os.path.join(servers.build_dir(), "tests", "sim", "check_history"), *options,
                           os.path.join(folder, "history")], capture_output=True, text=True)


def check(folder, limits):
    done = check_history(folder, "--moments", os.path.join(folder, "moments"))
    for line in done.stdout.splitlines()[-200:]:
        log(line)
    assert done.returncode == 0, "the histories cannot be explained: status %d %s" % (done.returncode, done.stderr)
    failover = re.search(r"^after kill: .* p50 (\d+) ms.* max (\d+)$", done.stdout, re.M)
    if limits:
        assert failover and all(int(ms) <= limit for ms, limit in zip(failover.groups(), limits)), "failover took too long"


def run_plan(trouble, plan, load):
    began = time.monotonic()
    for n, fault in enumerate(plan):
        try:
            trouble.do(fault)
        except AssertionError as wrong:
            raise AssertionError("fault %d, of kind %s: %s" % (n, fault, wrong)) from wrong
        assert load.alive(), "the clients have ended: status %d" % load.process.returncode
        if n % 50 == 49:
            log("%d of %d after %.0f s, load average %.1f" % (n + 1, len(plan), time.monotonic() - began,
                                                              os.getloadavg()[0]))


def run_group(group, args, folder):
    rng = random.Random(args.seed * 100 + len(group.nodes))
    plan = [fault for fault in FAULTS for _ in range(getattr(args, fault))]
    rng.shuffle(plan)
    began = time.monotonic()
    log("%d nodes, seed %d, small disks: %s, load average %.1f" % (
        len(group.nodes), args.seed, ", ".join(d.kind for d in group.disks.values()), os.getloadavg()[0]))
    load = Load(group, os.path.join(folder, "history"), args.seed, args.pause)
    try:
        with open(os.path.join(folder, "moments"), "w", encoding="ascii") as moments:
            time.sleep(0.5)
            run_plan(Trouble(group, rng, moments), plan, load)
        status, said = load.stop()
    finally:
        load.process.kill()
    log(said)
    group.wait_same(90)
    log("%s in %.0f s, load average %.1f" % (", ".join("%d %s" % (getattr(args, f), f) for f in FAULTS),
                                             time.monotonic() - began, os.getloadavg()[0]))
    assert status == 0, "the clients saw what they should not"
    check(folder, [int(ms) for ms in args.failover.split(",")] if args.failover else None)


def run_control(group, args, folder):
    load = Load(group, os.path.join(folder, "history"), args.seed, args.pause, readonly=True)
    try:
        for n in group.nodes:
            n.call("CONFIG", "SET", "debug-peer-delay-ms", 20)
        time.sleep(3)
        for n in group.nodes:
            n.call("CONFIG", "SET", "debug-peer-delay-ms", 0)
        status, said = load.stop()
    finally:
        load.process.kill()
    assert status == 0, said
    done = check_history(folder)
    last = done.stdout.strip().splitlines()[-1]
    log(last)
    assert done.returncode == 1 and " 0 cannot be explained" not in last, "stale reads were not found"


def run_inside(count, args):
    """One group; this process has a network of its own. The histories and logs of a failure are kept."""
    folder = tempfile.mkdtemp(prefix="kith-faults-")
    began, group, what = time.monotonic(), None, "stale reads are found" if args.control else "faults"
    try:
        group = FarGroup(count)
        (run_control if args.control else run_group)(group, args, folder)
        shutil.rmtree(folder)
        print("ok   %s on %d nodes (%.1f s)" % (what, count, time.monotonic() - began))
        print("1 passed, 0 failed")
        return 0
    except Exception:  # noqa: BLE001 - whatever it was, it is this case's failure
        for n in group.nodes if group else []:
            shutil.copy(n.log_path, folder)
        print("FAIL %s on %d nodes; histories and logs are in %s\n%s" % (what, count, folder, traceback.format_exc()))
        print("0 passed, 1 failed")
        return 1
    finally:
        if group:
            group.close()


def run_each(counts):
    """A process for each, since each takes a network."""
    failed = 0
    for count in counts:
        sys.stdout.flush()
        done = subprocess.run([sys.executable] + sys.argv + ["--nodes", count])
        failed += done.returncode != 0
    print("%d passed, %d failed" % (len(counts) - failed, failed))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", default="3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=int, default=8000, help="a client rests so long at a time, in microseconds")
    parser.add_argument("--failover", help="P50,MAX: milliseconds without writes after a kill that are too many")
    parser.add_argument("--control", action="store_true")
    for fault, few in zip(FAULTS, (4, 4, 2, 1, 2, 1, 1)):
        parser.add_argument("--" + fault, type=int, default=few)
    args = parser.parse_args()
    counts = args.nodes.split(",")
    if args.syncs and not os.path.exists(SHIM):
        print("     no syncs fail: %s is not part of this build" % os.path.basename(SHIM))
        args.syncs = 0
    try:
        network.enter(only_look=len(counts) > 1)
    except network.NotPermitted as why:
        print("skipped: network namespaces are not permitted here: %s" % why)
        print("0 passed, 0 failed, 1 skipped")
        return 0
    if len(counts) > 1:
        return run_each(counts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return run_inside(int(counts[0]), args)


if __name__ == "__main__":
    sys.exit(main())
