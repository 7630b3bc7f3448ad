#!/usr/bin/env python3
"""bench/group.py [--quick] [--only PART,...] [--data FOLDER]: a group of three kithd beside a group of one, etcd and redis-server.

All processes run on this machine's loopback and disk, durability always, election 300 ms and heartbeat 50 ms, and are
driven by bench/load.c in the same run. Parts: writes, reads, failover, spread (needs --data, see bench/data.h; it is the
rate of READONLY reads and searches on all three nodes at once beside one alone, per CPU second). etcd gets whichever is
fastest of its JSON gateway, gRPC on a connection a client, and gRPC with many calls on each of few connections. Ends with
tables for bench/RESULTS.md. About 6 minutes; --quick about 2, for a machine that does other things."""
import argparse
import os
import subprocess
import sys
import threading
import time

from figures import CLUSTER, Client, Group, Others, cpu_seconds, load, matrix, one_sync, put_vectors, servers
from resp import Closed, Error

SET64, SET1024 = 151000, 1540000  # of the prototype without sockets' requests


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells):
    print()
    row(*cells)
    row(*["---"] * len(cells))


def per_request(found):
    return " + ".join("%.1f" % us for us in found["us"])


def write_row(name, found, wanted=""):
    row(name, "{:,.0f}".format(found["rate"]), "%.2f" % found["p50_ms"], "%.2f" % found["p99_ms"], per_request(found),
        "%.1f" % (1e6 * found["cpu_s"] / (1.2 * found["count"])), wanted)


def best(*found):
    return max(found, key=lambda f: f["rate"])


def pids_of(group):
    leader = group.leader()
    return leader.port, [leader.process.pid] + [n.process.pid for n in group.nodes if n is not leader]


# --- the others ---

def wait_for(what, condition, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.2)
    raise RuntimeError("not up in %d s: %s" % (seconds, what))


def start_etcd(others):
    """Client ports; the leader's first."""
    ports = [(servers.free_port(), servers.free_port()) for _ in range(3)]
    everyone = ",".join("e%d=http://127.0.0.1:%d" % (i, peer) for i, (_, peer) in enumerate(ports))
    for i, (client, peer) in enumerate(ports):
        url, peer_url = "http://127.0.0.1:%d" % client, "http://127.0.0.1:%d" % peer
        others.start(["etcd", "--name", "e%d" % i, "--data-dir", "data", "--listen-client-urls", url,
                      "--advertise-client-urls", url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls",
                      peer_url, "--initial-cluster", everyone, "--heartbeat-interval", "50", "--election-timeout", "300",
                      "--quota-backend-bytes", str(8 << 30), "--log-level", "error", "--logger", "zap"], "etcd%d" % i)

    def leader():
        for client, _ in ports:
            done = subprocess.run(["etcdctl", "--endpoints", "127.0.0.1:%d" % client, "endpoint", "status", "-w", "fields"],
                                  capture_output=True, text=True, env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"})
            fields = dict(line.split(" : ", 1) for line in done.stdout.splitlines() if " : " in line)
            fields = {name.strip('" '): value for name, value in fields.items()}
            if done.returncode == 0 and fields.get("MemberID", 1) == fields.get("Leader", 2):
                return client
        return None
    wait_for("etcd", leader)
    return leader()


def etcd(clients, seconds):
    with Others() as others:
        port = start_etcd(others)
        pids = [p.pid for p in others.processes]
        load(port, "etcd-grpc", clients=16, seconds=1)
        tried = {"gRPC, a connection a client": load(port, "etcd-grpc", pids, clients=clients, seconds=seconds),
                 "gRPC, 16 calls on each": load(port, "etcd-grpc", pids, clients=clients // 16, pipeline=16, seconds=seconds),
                 "JSON": load(port, "etcd-json", pids, clients=clients, seconds=seconds)}
        name = max(tried, key=lambda n: tried[n]["rate"])
        return name, tried[name]


def redis(clients, seconds, replicas):
    flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", "."]
    with Others() as others:
        ports = [servers.free_port() for _ in range(replicas + 1)]
        for i, port in enumerate(ports):
            follow = ["--replicaof", "127.0.0.1", str(ports[0])] if i else []
            others.start(["redis-server", "--port", str(port), "--repl-diskless-sync-delay", "0"] + flags + follow, "r%d" % i)

        def is_up():
            try:
                return Client(ports[0], timeout=5).call("WAIT", replicas, 1000) == replicas
            except (OSError, Closed):
                return False
        wait_for("redis-server", is_up)
        return load(ports[0], "set-wait", [p.pid for p in others.processes], clients=clients, seconds=seconds)


# --- parts ---

def writes(quick):
    seconds, rounds = (1.5, 1) if quick else (5, 2)
    group, one = Group(3, CLUSTER), Group(1, CLUSTER)
    port, pids = pids_of(group)
    one_port, one_pids = pids_of(one)
    sync = one_sync(group.folder, seconds / 2)
    trip = load(port, "ping", clients=1, seconds=seconds / 2)
    head("committed SETs", "/s", "p50 ms", "p99 ms", "CPU us a request: leader + others", "of the client", "")
    for clients, pipeline, reference in ((64, 1, SET64), (1024, 1, 0), (1024, 16, SET1024), (1024, 64, SET1024)):
        found = []
        for _ in range(rounds):
            found.append([load(p, "set", who, clients=clients, pipeline=pipeline, seconds=seconds, threads=t)
                          for p, who in ((port, pids), (one_port, one_pids)) for t in ((1, 2) if clients > 64 else (1,))])
        half = len(found[0]) // 2
        three, alone = best(*[f for r in found for f in r[:half]]), best(*[f for r in found for f in r[half:]])
        what = "%s clients%s" % ("{:,}".format(clients), ", %d each on the way" % pipeline if pipeline > 1 else "")
        write_row("three kithd, " + what, three,
                  "%.0f %% of %s; wanted 60" % (100 * three["rate"] / reference, "{:,}".format(reference)) if reference else "")
        write_row("one kithd, " + what, alone)
        if clients == 64:
            at64 = three
        if pipeline == 1:
            name, other = etcd(clients, seconds)
            write_row("three etcd, %s (%s)" % (what, name), other, "kithd: %.1f x; wanted 10" % (three["rate"] / other["rate"]))
            for replicas in (1, 2):
                other = redis(clients, seconds, replicas)
                write_row("redis-server, %d replica%s, WAIT 1, %s" % (replicas, "s"[:replicas - 1], what), other,
                          "kithd: %.1f x" % (three["rate"] / other["rate"]))
    print("\none sync of 8 KB: p50 %.3f ms, p99 %.3f; one round trip: p50 %.3f ms, p99 %.3f" %
          (sync["p50_ms"], sync["p99_ms"], trip["p50_ms"], trip["p99_ms"]))
    for share in ("p50", "p99"):
        base = sync[share + "_ms"] + trip[share + "_ms"]
        print("commit with 64 clients: p99 %.2f ms = %.1f x (%s of a sync + %s of a round trip = %.3f ms); wanted 2" %
              (at64["p99_ms"], at64["p99_ms"] / base, share, share, base))
    few = load(port, "set", clients=1, seconds=seconds / 2)
    print("commit with 1 client: p50 %.2f ms, p99 %.2f" % (few["p50_ms"], few["p99_ms"]))
    group.close()
    one.close()


def reads(quick):
    seconds, rounds = (1, 4) if quick else (2, 9)
    group, one = Group(3, CLUSTER), Group(1, CLUSTER)
    port, pids = pids_of(group)
    one_port, one_pids = pids_of(one)
    for p in (port, one_port):
        load(p, "set", clients=64, pipeline=16, seconds=1)
    cases = {"linearizable, leader of three": (port, "get", pids), "group of one": (one_port, "get", one_pids),
             "READONLY, leader of three": (port, "get-readonly", pids)}
    found = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (p, kind, who) in cases.items():
            found[name].append(load(p, kind, who, clients=64, seconds=seconds))
    head("GETs, 64 clients (best of %d)" % rounds, "/s", "p50 ms", "p99 ms", "CPU us a request: leader + others",
         "of the client", "")
    top = {name: best(*f) for name, f in found.items()}
    for name, f in top.items():
        write_row(name, f)
    for other in ("group of one", "READONLY, leader of three"):
        ratios = sorted(a["rate"] / b["rate"] for a, b in zip(found["linearizable, leader of three"], found[other]))
        cost = sorted((sum(b["us"]) + 1e6 * b["cpu_s"] / b["count"] / 1.2) / (sum(a["us"]) + 1e6 * a["cpu_s"] / a["count"] / 1.2)
                      for a, b in zip(found["linearizable, leader of three"], found[other]))
        print("linearizable / %s: %.2f of best, %.2f in the median; by CPU time of all processes %.2f; wanted 0.90" %
              (other, top["linearizable, leader of three"]["rate"] / top[other]["rate"], ratios[len(ratios) // 2],
               cost[len(cost) // 2]))
    group.close()
    one.close()


def write_somewhere(nodes, n):
    """Tries one node after the other, as a client with a list does, until one says OK."""
    while True:
        for node in nodes:
            try:
                c = Client(node.port, timeout=0.3)
                reply = c.call("SET", "failover", str(n))
                c.close()
                if not isinstance(reply, Error):
                    return
            except (OSError, Closed):
                pass
        time.sleep(0.001)


def failover(quick):
    group, took = Group(3, CLUSTER), []
    for n in range(6 if quick else 24):
        leader = group.leader()
        rest = [node for node in group.nodes if node is not leader]
        write_somewhere([leader], n)
        time.sleep(0.5)
        leader.kill()
        began = time.monotonic()
        threads = [threading.Thread(target=write_somewhere, args=([node], n)) for node in rest]
        for t in threads:
            t.start()
        threads[0].join()
        took.append(time.monotonic() - began)
        threads[1].join()
        leader.start()
        group.until("it follows again", lambda: leader.info().get("master_link_status") == "up" and
                    leader.info()["raft_applied_index"] == group.leader().info()["raft_applied_index"], 60)
    took.sort()
    head("failover: kill -9 to the next acknowledged write", "kills", "p50 ms", "max ms")
    row("three kithd", len(took), "%.0f (wanted 500)" % (1000 * took[len(took) // 2]), "%.0f (wanted 1,500)" % (1000 * took[-1]))
    group.close()


def pin(nodes):
    cpus = [str(c) for c in sorted(os.sched_getaffinity(0))]
    for i, node in enumerate(nodes):
        subprocess.run(["taskset", "-a", "-c", "-p", cpus[i % len(cpus)], str(node.process.pid)], check=True,
                       stdout=subprocess.DEVNULL)


def spread(quick, data):
    """Beside three nodes that know nothing of each other: what processes take from each other on few cores is not
    replication's."""
    seconds, rounds = (1, 3) if quick else (3, 5)
    rows, dim, values = matrix(data, "mnist784", "base")
    rows = min(rows, 5000 if quick else 60000)
    group, apart = Group(3, CLUSTER), [Group(1, CLUSTER) for _ in range(3)]
    for one in [group] + apart:
        pin(one.nodes)
        put_vectors(one.leader().port, "v", values, dim, rows)
        load(one.leader().port, "set", clients=64, pipeline=16, seconds=1)
    strangers = [one.nodes[0] for one in apart]
    pin(strangers)
    for node in group.nodes:
        group.until("%s has linked" % node.name, lambda: linked(node, rows), 600)
    head("per CPU second of the node, the best of %d" % rounds, "a node alone in its group", "three such at once",
         "three of a group, in turn", "the same at once", "in turn / alone, the least", "at once / three such, the least")
    for kind, options in (("get-readonly", {"clients": 16}), ("vsim-readonly", {"clients": 8, "keys": rows})):
        cases = [[] for _ in range(4)]
        for _ in range(rounds):
            cases[0].append(at_once(strangers[:1], kind, seconds, options))
            cases[1].append(at_once(strangers, kind, seconds, options))
            cases[2].append([at_once([node], kind, seconds, options)[0] for node in group.nodes])
            cases[3].append(at_once(group.nodes, kind, seconds, options))
        tops = [[max(found) for found in zip(*case)] for case in cases]
        row(kind, *[" / ".join("{:,.0f}".format(top) for top in tops[i]) for i in range(4)],
            "%.2f (wanted 0.90)" % (min(tops[2]) / tops[0][0]), "%.2f (wanted 0.90)" % (min(tops[3]) / min(tops[1])))
    for one in [group] + apart:
        one.close()


def linked(node, rows):
    c = Client(node.port)
    c.call("READONLY")
    found = c.call("VINFO", "v")
    c.close()
    fields = dict(zip(found[::2], found[1::2])) if isinstance(found, list) else {}
    return fields.get(b"size") == rows and fields.get(b"unlinked", 0) == 0


def at_once(nodes, kind, seconds, options):
    rates = [0.0] * len(nodes)

    def one(i, node):
        before = cpu_seconds(node.process.pid)
        found = load(node.port, kind, seconds=seconds, **options)
        rates[i] = found["count"] * 1.2 / (cpu_seconds(node.process.pid) - before)
    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(nodes)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", default="")
    parser.add_argument("--only", default="writes,reads,failover,spread")
    options = parser.parse_args()
    parts = options.only.split(",")
    for name, part in (("writes", writes), ("reads", reads), ("failover", failover)):
        if name in parts:
            part(options.quick)
    if "spread" in parts and options.data:
        spread(options.quick, options.data)


if __name__ == "__main__":
    sys.exit(main())
