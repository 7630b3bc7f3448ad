#!/usr/bin/env python3
"""bench/scale.py BASE QUERIES [--rows N] [--folder DIR]: a large vector set in a server of its own: loaded over the
socket, searched, saved, killed and started again, while another process sends PING every millisecond.

BASE and QUERIES are vector files (bench/make_vectors writes such). Prints the seconds of each phase, recall, resident
bytes, and the longest and the 99.9th percentile of PING's answers in each phase. On a machine with few cores an answer
can be late because the server had no core: what counts is how long the keyspace thread itself was on a core between
question and answer, from /proc. That is up to two passes of its loop, and all that the machine does in its name: who asks
is a real-time process where that is allowed, so that its own waits are not counted, too, but the interrupts of others
are, and what a hypervisor takes from the core (`taken`: so much of it in the phase, of all cores)."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
import servers  # noqa: E402

PINGER = r"""
import sys, time, os
sys.path.insert(0, sys.argv[3])
from resp import Client
pid = int(sys.argv[2])
def on_core():
    with open("/proc/%d/schedstat" % pid) as f:
        return int(f.read().split()[0])
c = Client(int(sys.argv[1]), timeout=60)
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except OSError:
    pass
samples = []
print("ready", flush=True)
os.set_blocking(0, False)
while True:
    before, start = on_core(), time.perf_counter()
    try:
        c.call("PING")
    except Exception:
        break
    samples.append((time.perf_counter() - start, (on_core() - before) / 1e9))
    time.sleep(0.001)
    try:
        if sys.stdin.read(1):
            break
    except (BlockingIOError, TypeError):
        pass
waits = sorted(s[0] for s in samples)
own = sorted(s[1] for s in samples)
n = len(waits)
print("%d %.6f %.6f %.6f %.6f %d" % (n, waits[-1], waits[int(n * .999)], own[-1], own[int(n * .999)],
                                     sum(s > .005 for s in own)))
"""


class Pinger:
    def __init__(self, server):
        self.process = subprocess.Popen([sys.executable, "-c", PINGER, str(server.port), str(server.process.pid),
                                         os.path.join(HERE, "..", "tests", "lib")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def end(self):
        self.process.stdin.write("x")
        self.process.stdin.close()
        out = self.process.stdout.read().split()
        self.process.wait()
        return [float(x) for x in out]


def resident_mb(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024


def run(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit("%s: %s" % (" ".join(argv), done.stdout[-2000:]))
    return done.stdout


def taken_ms():
    """By the hypervisor, from all cores; in steps of 10 ms."""
    with open("/proc/stat", encoding="ascii") as file:
        return int(file.readline().split()[8]) * 1000 // os.sysconf("SC_CLK_TCK")


def phase(name, server, work):
    pinger, taken = Pinger(server), taken_ms()
    start = time.monotonic()
    result = work()
    seconds = time.monotonic() - start
    count, longest, p999, own, own999, over = pinger.end()
    print("%-26s %8.1f s   PING longest %7.2f ms, p99.9 %6.2f ms; keyspace thread busy at most %6.2f ms, p99.9 %5.2f ms,"
          " over 5 ms %d of %d; taken %d ms" % (name, seconds, longest * 1e3, p999 * 1e3, own * 1e3, own999 * 1e3, over,
                                                count, taken_ms() - taken), flush=True)
    return result


def save(server):
    c = server.client(timeout=3600)
    c.call("BGSAVE")
    while "rdb_bgsave_in_progress:1" in c.call("INFO", "persistence").decode():
        time.sleep(0.05)
    c.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base")
    parser.add_argument("queries")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--folder", help="where the server's files go (a temporary folder)")
    args = parser.parse_args()
    folder = args.folder or tempfile.mkdtemp(prefix="kith-scale-")
    server = servers.start_kithd(folder=folder, durability="everysec", start_seconds=600)
    kith, port = servers.kith_path(), ["-p", str(server.port)]
    limit = ["--limit=%d" % args.rows] if args.rows else []
    phase("load and link", server,
          lambda: run(kith, "import", "vectors", args.base, "--into=v", "--wait", *limit, *port))
    print("resident %.0f MB" % resident_mb(server.process.pid))
    if not args.rows:
        print(phase("search, exact and by graph", server,
                    lambda: run(kith, "recall", "v", "--queries=" + args.queries, "--exact=" + args.base,
                                "--ef=50,100,200", "--threads=1", *port)))
    phase("checkpoint", server, lambda: save(server))
    server.kill()
    start = time.monotonic()
    server.start()
    print("start after kill -9: %.2f s, resident %.0f MB" % (time.monotonic() - start,
                                                            resident_mb(server.process.pid)))
    port = ["-p", str(server.port)]
    if not args.rows:
        print(phase("search once more", server,
                    lambda: run(kith, "recall", "v", "--queries=" + args.queries, "--exact=" + args.base, "--ef=100",
                                "--threads=1", *port)))
    server.close()
    if not args.folder:
        subprocess.run(["rm", "-r", folder], check=False)


if __name__ == "__main__":
    main()
