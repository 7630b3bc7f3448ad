"""What the scripts of replication's figures share: loads by bench_load, CPU time of processes, vectors from a data folder."""
import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "cluster"))
import servers  # noqa: E402
from group import Group, Node  # noqa: E402,F401 - for those who import this
from resp import Client, Error, encode  # noqa: E402

LOAD = os.path.join(servers.build_dir(), "bench", "bench_load")
CLUSTER = ["--durability", "always", "--cluster-election-ms", "300", "--cluster-heartbeat-ms", "50"]
BATCH = 256


def cpu_seconds(pid):
    """All threads of a process, to the nanosecond."""
    total, folder = 0, "/proc/%d/task" % pid
    for task in os.listdir(folder):
        try:
            with open("%s/%s/schedstat" % (folder, task)) as f:
                total += int(f.read().split()[0])
        except (OSError, ValueError, IndexError):
            pass
    return total / 1e9


def numbers(text):
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


def load(port, kind, pids=(), **options):
    """What bench_load saw; and `us`: microseconds of CPU a request of the processes in `pids`, each."""
    before = [cpu_seconds(pid) for pid in pids]
    argv = [LOAD, str(port), kind] + ["%s=%s" % pair for pair in options.items()]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(argv), done.stderr.strip()))
    found = numbers(done.stdout)
    whole = found["count"] * 1.2  # the first fifth is not counted, but it was served
    found["us"] = [1e6 * (cpu_seconds(pid) - b) / whole for pid, b in zip(pids, before)]
    if found["errors"]:
        print("    %d errors: %s" % (found["errors"], " ".join(argv)))
    return found


def one_sync(folder, seconds):
    done = subprocess.run([LOAD, "sync", folder, "seconds=%s" % seconds], capture_output=True, text=True, check=True)
    return numbers(done.stdout)


def matrix(folder, name, part):
    """(rows, dimensions, bytes): an unsigned byte a value, see bench/data.h."""
    with gzip.open(os.path.join(folder, "%s.%s.u8bin.gz" % (name, part))) as f:
        rows, dim = struct.unpack("<II", f.read(8))
        return rows, dim, f.read()


def blob(data, dim, row):
    return struct.pack("<%df" % dim, *data[row * dim:(row + 1) * dim])


def pipeline(client, commands, depth=8):
    """Sends them all, with so many replies outstanding."""
    waiting = 0
    for command in commands:
        client.sock.sendall(encode(command))
        waiting += 1
        if waiting == depth:
            reply = client.read()
            waiting -= 1
            if isinstance(reply, Error):
                raise RuntimeError(reply.decode())
    for _ in range(waiting):
        client.read()


def put_vectors(port, key, data, dim, rows):
    """Elements named by their row; waits until all are linked."""
    client = Client(port, timeout=600)

    def batches():
        for first in range(0, rows, BATCH):
            count = min(BATCH, rows - first)
            words = [b"VMADD", key.encode(), b"ELEMENTS", b"%d" % count]
            for row in range(first, first + count):
                words += [b"FP32", blob(data, dim, row), b"%d" % row]
            yield words
    pipeline(client, batches(), 2)
    while True:
        found = client.call("VINFO", key)
        if dict(zip(found[::2], found[1::2])).get(b"unlinked", 0) == 0:
            break
        time.sleep(0.1)
    client.close()


def put_keys(port, count, value_bytes=64):
    client = Client(port, timeout=600)
    value = b"x" * value_bytes
    pipeline(client, ([b"MSET"] + [w for i in range(first, min(first + 500, count)) for w in (b"key:%012d" % i, value)]
                      for first in range(0, count, 500)), 4)
    client.close()


class Process:
    """Another program of a group; its folder and log go with it."""

    def __init__(self, argv, folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "log"), "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        self.pid = self.process.pid

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Others:
    """Processes in one temporary folder: `with Others() as o: o.start(argv, name)`."""

    def __enter__(self):
        self.folder, self.processes = tempfile.mkdtemp(prefix="kith-bench-"), []
        return self

    def start(self, argv, name):
        self.processes.append(Process(argv, os.path.join(self.folder, name)))
        return self.processes[-1]

    def __exit__(self, *_):
        for process in self.processes:
            process.close()
        shutil.rmtree(self.folder, ignore_errors=True)
