#!/usr/bin/env python3
"""tests/crash/run.py [--kills N] [--seed S]: kill -9 at a random moment of mixed writes, again and again on one folder.

Four connections write with `durability always`, each a pipeline of its own keys; checkpoints are asked for in the middle
of it; the sizes of its files change; sometimes it is killed again while it recovers. After each restart every connection's
keys must hold exactly what was acknowledged plus a prefix of what was not: so nothing acknowledged is lost, nothing is
applied twice, and no command (MSET, HSET, ZADD and VMADD of several) is half applied. Vectors, which are kept in every way
that a set can choose, come back as near as that way allows, and a search finds each. At the end a quiet stop and a start
must change nothing, and `kith check` must find the folder sound. One case a kill, one for each of the two ends."""
import argparse
import os
import random
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, HERE)
import model  # noqa: E402
import servers  # noqa: E402
from resp import Client, Closed, Error  # noqa: E402

WRITERS = 4
# Small files, so that segments end and checkpoints begin all the time; and what users run.
SETTINGS = [["--log-segment-size", "1mb", "--checkpoint-log-size", "2mb"],
            ["--log-segment-size", "4mb", "--checkpoint-log-size", "1mb"], []]


class Connection(threading.Thread):
    """Sends pipelines until the server dies; keeps what was acknowledged and what was not."""

    def __init__(self, port, writer):
        super().__init__(daemon=True)
        self.writer, self.pending, self.acknowledged, self.trouble = writer, [], 0, None
        self.client = Client(port, timeout=30)

    def run(self):
        try:
            while True:
                self.pending = [self.writer.draw() for _ in range(self.writer.rng.randint(1, 12))]
                if self.writer.rng.random() < 0.01:
                    self.client.call("BGSAVE")
                self.client.send(*self.pending)
                while self.pending:
                    reply = self.client.read()
                    if isinstance(reply, Error):
                        self.trouble = "%s answered %s" % (" ".join(self.pending[0])[:200], reply.decode())
                        return
                    self.writer.apply(self.pending.pop(0))
                    self.acknowledged += 1
        except (Closed, OSError, ValueError):
            pass
        finally:
            self.client.close()


def load_and_kill(server, writers, rng):
    """(connections, sentence or None): runs the writers against the server and kills it in their midst."""
    connections = [Connection(server.port, w) for w in writers]
    for c in connections:
        c.start()
    time.sleep(rng.choice((0.02, 0.1, 0.3, 0.6)) * (0.5 + rng.random()))
    died = not server.alive()
    server.kill()
    for c in connections:
        c.join(60)
    if died:
        return connections, "the server died by itself:\n" + server.log()[-2000:]
    for c in connections:
        if c.is_alive():
            return connections, "a connection hung after the kill"
        if c.trouble:
            return connections, c.trouble
    return connections, None


def restart(server, rng):
    """Starts it, with other settings, and at times with another kill while it recovers."""
    server.argv = server.argv[:server.argv.index("--durability") + 2] + rng.choice(SETTINGS)
    if rng.random() < 0.25:
        argv = [a % {"port": servers.free_port(), "dir": server.folder} for a in server.argv]
        half = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=server.folder)
        time.sleep(rng.random() * 0.05)
        half.kill()
        half.wait()
    server.start()


def verify(server, connections):
    """None, or a sentence; the model goes on from the state that was found."""
    client = server.client()
    try:
        for c in connections:
            real = model.read_back(client, c.writer.prefix)
            first = None
            for possible in c.writer.after(c.pending):
                wrong = model.difference(possible, real)
                if wrong is None:
                    c.writer.state = possible
                    break
                first = first or wrong
            else:
                return "%s (%d commands were on their way; the difference is to the state before them)" % (
                    first, len(c.pending))
            lost = model.unsearchable(client, c.writer.state)
            if lost:
                return lost
    finally:
        client.close()
    return None


def folder_bytes(folder):
    return sum(os.path.getsize(os.path.join(top, f)) for top, _, files in os.walk(folder) for f in files)


def has_vectors(server):
    c = server.client()
    reply = c.call("VCARD", "no such key")
    c.close()
    return not isinstance(reply, Error)


def quiet_end(server, writers):
    """(passed, failed) of the stop without a crash, and of the check of the folder."""
    good = bad = 0
    status = server.stop()
    server.start()
    client = server.client()
    wrong = None
    for w in writers:
        wrong = wrong or model.difference(w.state, model.read_back(client, w.prefix)) or model.unsearchable(client, w.state)
    client.close()
    if status != 0 or wrong:
        print("after SIGTERM (status %s) and a start: %s" % (status, wrong))
    good, bad = (good, bad + 1) if status != 0 or wrong else (good + 1, bad)
    server.stop()
    check = subprocess.run([servers.kith_path(), "check", server.folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
    if check.returncode:
        print("kith check: status %d\n%s" % (check.returncode, check.stdout))
    return (good, bad + 1) if check.returncode else (good + 1, bad)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=None, help="default: taken from the clock, and printed")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int(time.time())
    print("seed %d" % seed)
    rng = random.Random(seed)
    server = servers.start_kithd(durability="always", start_seconds=60)
    writers = [model.Writer(n, random.Random(rng.random()), has_vectors(server)) for n in range(WRITERS)]
    passed = failed = acknowledged = 0
    for n in range(args.kills):
        connections, wrong = load_and_kill(server, writers, rng)
        acknowledged += sum(c.acknowledged for c in connections)
        try:
            restart(server, rng)
            wrong = wrong or verify(server, connections)
        except (RuntimeError, AssertionError, Closed, OSError) as e:
            wrong = wrong or "%s: %s" % (type(e).__name__, e)
        if not wrong:
            passed += 1
            continue
        failed += 1
        kept = os.path.join(servers.build_dir(), "crash-%d-%d" % (seed, n))
        server.kill()
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(server.folder, kept)
        print("kill %d: %s\n  the folder is kept as %s" % (n + 1, wrong, os.path.relpath(kept)))
        break
    print("%d kills, %d writes acknowledged, %.1f MB in the folder" % (
        passed + failed, acknowledged, folder_bytes(server.folder) / 1e6))
    if not failed:
        good, bad = quiet_end(server, writers)
        passed, failed = passed + good, failed + bad
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
