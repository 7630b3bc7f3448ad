#!/usr/bin/env python3
"""bench/server.py [--seconds N] [--quick]: GET and SET per CPU second of the server, kithd beside Debian's redis-server.

redis-benchmark drives both with 50 connections and 64-byte values at pipeline 1, 16 and 64; what counts is the CPU time
that the server's process used (all its threads), so that a busy machine changes little. Rounds alternate between the
servers, and the best of each counts. The last lines are the ratios and what they should reach."""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "lib"))
import servers  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
KEYS = 100000


def cpu_seconds(server):
    # Fine-grained where the kernel has it: nanoseconds of each thread.
    total, folder = 0, "/proc/%d/task" % server.process.pid
    for task in os.listdir(folder):
        try:
            with open("%s/%s/schedstat" % (folder, task)) as f:
                total += int(f.read().split()[0])
        except (OSError, ValueError, IndexError):
            pass
    if total:
        return total / 1e9
    with open("/proc/%d/stat" % server.process.pid) as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def drive(server, command, pipeline, count):
    """Commands per CPU second, and per second of the clock."""
    before, started = cpu_seconds(server), time.monotonic()
    subprocess.run(["redis-benchmark", "-p", str(server.port), "-t", command, "-c", "50", "-P", str(pipeline), "-d", "64",
                    "-r", str(KEYS), "-n", str(count), "-q"], check=True, stdout=subprocess.DEVNULL)
    return count / (cpu_seconds(server) - before), count / (time.monotonic() - started)


def compare(ours, theirs, command, pipeline, count, rounds):
    best = [(0, 0), (0, 0)]
    for _ in range(rounds):
        for n, server in enumerate((theirs, ours)):
            best[n] = max(best[n], drive(server, command, pipeline, count))
    return best


def main():
    quick = "--quick" in sys.argv
    rounds, scale = (1, 4) if quick else (3, 1)
    counts = {1: 300000 // scale, 16: 2000000 // scale, 64: 4000000 // scale}
    wanted = {1: 1.0, 16: 1.5, 64: 2.0}
    lines = []

    def line(name, best, least):
        ratio = best[1][0] / best[0][0]
        lines.append("%-34s %5.2f  (wanted %.1f)%s" % (name, ratio, least, "" if ratio >= least else "   BELOW"))
        print("%-34s redis %9.0f /CPU s %9.0f /s   kithd %9.0f /CPU s %9.0f /s   ratio %.2f" %
              (name, best[0][0], best[0][1], best[1][0], best[1][1], ratio), flush=True)

    ours, theirs = servers.start_kithd(durability="none"), servers.start_redis()
    for server in (ours, theirs):
        drive(server, "set", 16, 4 * KEYS)
    for command in ("get", "set"):
        for pipeline in (1, 16, 64):
            line("%s, pipeline %d, nothing synced" % (command.upper(), pipeline),
                 compare(ours, theirs, command, pipeline, counts[pipeline], rounds), wanted[pipeline])
    ours.close()
    theirs.close()
    ours = servers.start_kithd(durability="everysec")
    theirs = servers.start_redis("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
    line("SET, pipeline 16, synced every second", compare(ours, theirs, "set", 16, counts[16], rounds), 1.5)
    ours.close()
    theirs.close()
    print("\nkithd / redis-server, commands per CPU second of the server")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
