#!/usr/bin/env python3
"""bench/join.py FOLDER [--keys N] [--rows N] [--nodes N] [--pace N] [--seconds N] [--stream] [--quick]: a node joins a large group while writes go on.

FOLDER holds mnist784 (see bench/data.h). A group of three (--nodes) holds --keys strings and the vectors. 16 clients write
--pace SETs a second, evenly; a latency counts from when a write was due, so that a pause costs all that wait. Measured: p99
before the join and during it (wanted: at most twice), recall@10 of the new node from its first answer on beside the
leader's, and what is transferred when it stops, misses some writes and starts again (wanted: under 5 %). About 4 minutes,
mostly for the vectors; --quick a tenth of the keys and vectors."""
import argparse
import signal
import subprocess
import sys
import time

from figures import CLUSTER, LOAD, Client, Error, Group, Node, blob, cpu_seconds, load, matrix, numbers, put_keys, put_vectors

QUERIES, K = 200, 10


def answers(port, queries, *options):
    """The names of each query's nearest, as this node has them; None while it has none."""
    c, found = Client(port, timeout=60), []
    c.call("READONLY")
    for query in queries:
        reply = c.call("VSIM", "v", "FP32", query, "COUNT", str(K), *options)
        if isinstance(reply, Error) or not reply:
            c.close()
            return None
        found.append(set(reply))
    c.close()
    return found


def recall(found, truth):
    return sum(len(f & t) for f, t in zip(found, truth)) / (K * len(truth))


class Writer:
    """Writes until it is asked what it saw."""

    def __init__(self, port, pace, keys):
        self.process = subprocess.Popen([LOAD, str(port), "set", "clients=16", "pace=%d" % pace, "seconds=100000",
                                         "keys=%d" % keys], stdout=subprocess.PIPE, text=True)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return numbers(self.process.communicate()[0])


def show(name, f):
    print("%-34s p50 %.2f ms, p99 %.2f, p99.9 %.2f, max %.1f; %.0f writes/s, %d errors" %
          (name, f["p50_ms"], f["p99_ms"], f["p999_ms"], f["max_ms"], f["rate"], f["errors"]), flush=True)


def transferred(node):
    """By streams, and by entries that went to its log, since it was started."""
    streams = int(node.info()["stream_bytes_received"])
    text = node.call("INFO", "persistence").decode()
    log = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)["log_bytes_written"]
    return streams, int(log)


def restart(node, group, leader, pace, keys):
    node.stop()
    load(leader.port, "set", clients=16, pace=pace, seconds=2, keys=keys)
    began = time.monotonic()
    node.start()
    group.until("it has caught up", lambda: int(node.info()["raft_applied_index"]) >= int(leader.info()["raft_applied_index"]), 120)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--rows", type=int, default=60000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--pace", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--stream", action="store_true", help="keep no log: the node gets a checkpoint")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    keys, seconds = options.keys // scale, options.seconds / (2 if options.quick else 1)
    rows, dim, values = matrix(options.folder, "mnist784", "base")
    rows = min(rows, options.rows // scale)
    _, _, query_values = matrix(options.folder, "mnist784", "query")
    queries = [blob(query_values, dim, i) for i in range(QUERIES)]
    group = Group(options.nodes, CLUSTER + (["--cluster-keep-log", "1mb"] if options.stream else []))
    leader = group.leader()
    put_keys(leader.port, keys)
    put_vectors(leader.port, "v", values, dim, rows)
    group.wait_same(600)
    leader.call("SAVE", timeout=600)
    truth = answers(leader.port, queries, "TRUTH")
    print("%d keys and %d vectors of %d dimensions on %d nodes" % (keys, rows, dim, options.nodes), flush=True)

    writer = Writer(leader.port, options.pace, keys)
    time.sleep(seconds)
    before = writer.stop()
    show("before the join", before)

    cpu = cpu_seconds(leader.process.pid)
    writer = Writer(leader.port, options.pace, keys)
    time.sleep(0.5)
    node, began, first, at_first = Node(group, "new"), time.monotonic(), None, None
    node.start(join=leader, wait=False)
    group.nodes.append(node)
    while True:
        try:
            if first is None:
                c = Client(node.port, timeout=60)
                c.call("READONLY")
                ready = not isinstance(c.call("GET", "key:%012d" % 1), Error) and c.call("VCARD", "v") == rows
                c.close()
                if ready:
                    first = time.monotonic() - began
                    at_first = answers(node.port, queries)
            if group.member(node, leader).get("role") == "voter" and first is not None:
                break
        except OSError:
            pass
        if time.monotonic() - began > 600:
            raise RuntimeError("it has no vote after ten minutes: " + node.log()[-2000:])
        time.sleep(0.05)
    took = time.monotonic() - began
    during = writer.stop()
    show("during the join (%.1f s)" % took, during)
    print("p99 during / before: %.2f (wanted at most 2.0)" % (during["p99_ms"] / before["p99_ms"]))
    print("the leader used %.2f CPU s meanwhile; the new node answered after %.1f s and had its vote after %.1f s" %
          (cpu_seconds(leader.process.pid) - cpu, first, took))
    writer = Writer(leader.port, options.pace, keys)
    time.sleep(seconds)
    show("after the join", writer.stop())
    ours, theirs = answers(node.port, queries), answers(leader.port, queries)
    print("recall@%d beside an exact scan: new node's first answers %.4f, later %.4f, the leader's %.4f" %
          (K, recall(at_first, truth), recall(ours, truth), recall(theirs, truth)))

    streams, log = transferred(node)
    print("transferred for the join: %d bytes of streams, %d of entries" % (streams, log))
    took = restart(node, group, leader, options.pace, keys)
    streams_again, log_again = transferred(node)
    print("after a restart, %d writes behind: caught up after %.1f s; %d bytes of streams, %d of entries: %.2f %% (wanted under 5)" %
          (2 * options.pace, took, streams_again, log_again, 100 * (streams_again + log_again) / (streams + log)))
    again = answers(node.port, queries)
    print("recall@%d of it then: %.4f" % (K, recall(again, truth)))
    group.close()


if __name__ == "__main__":
    sys.exit(main())
