#!/usr/bin/env python3
"""tests/tour/run.py: plays the console blocks of README.md, word for word, and compares what they print.

In a block, a line that starts with "$ " is typed into one bash (a "\\" at its end goes on in the next line), the lines
after it are what must come back. "..." stands for any lines; a figure with a unit of time or rate (1.2 s, 340 ms, 4,100/s)
matches any other of its unit, and a row of a table of figures any other row as long. Only the outside is replaced: the names redis-cli, kith, script/server and pkill lead to
a server of this test, on a free port and in a folder of its own; the ports of its group are free ones, too. One case a
command."""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import servers  # noqa: E402

END = "== end of the command =="
# Of the tour's group, and of its move from Redis: free ones stand for them.
PORTS = ["7001", "7002", "7003", "7004", "7005", "17001", "17002", "17003"]
MEASURED = re.compile(r"\b\d[\d,]*(\.\d+)?( ?)(s|ms|/s|k/s|MB|MB/s)\b|\b\d[\d,]*(\.\d+)?(/s)")


def steps(path):
    """[(line number, command, [expected lines])] of all console blocks."""
    found, inside = [], False
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    for n, line in enumerate(lines, 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and found and found[-1][1].endswith("\\"):
            found[-1] = (found[-1][0], found[-1][1] + "\n" + line, [])
        elif inside and line.startswith("$ "):
            found.append((n, line[2:], []))
        elif inside:
            found[-1][2].append(line)
    return found


def alike(line):
    figures = line.split()
    if len(figures) > 2 and all(re.fullmatch(r"[\d.,]+", f) for f in figures):
        return "<a row of %d figures>" % len(figures)
    return MEASURED.sub(lambda m: "<measured %s>" % (m.group(3) or m.group(5)), line.rstrip())


def matches(expected, got):
    if not expected:
        return not got
    if expected[0] == "...":
        return any(matches(expected[1:], got[i:]) for i in range(len(got) + 1))
    return bool(got) and alike(expected[0]) == alike(got[0]) and matches(expected[1:], got[1:])


class Shell:
    """One bash in which the tour's commands meet this test's server."""

    def __init__(self, folder):
        self.folder, self.port, self.ports = folder, servers.free_port(), {}
        while len(self.ports) < len(PORTS):
            port = str(servers.free_port())
            if port not in self.ports.values():
                self.ports[PORTS[len(self.ports)]] = port
        self.bash = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd=servers.TREE, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.run("""
redis-cli() { command redis-cli -p %(port)d "$@"; }
kith() { command kith --port %(port)d "$@"; }
start() {
    %(kithd)s --port %(port)d --dir %(folder)s "$@" >%(folder)s.log 2>&1 &
    kithd_pid=$!
    disown $kithd_pid
    for _ in $(seq 300); do
        [ "$(redis-cli PING 2>/dev/null)" = PONG ] && return
        kill -0 $kithd_pid 2>/dev/null || break
        sleep 0.1
    done
    echo "kithd did not start:"
    cat %(folder)s.log
}
function script/server { start "$@"; }
pkill() { kill "${@:1:$#-1}" $kithd_pid; while kill -0 $kithd_pid 2>/dev/null; do sleep 0.05; done; }
export PATH=%(tools)s:$PATH
""" % {"port": self.port, "folder": folder, "kithd": servers.kithd_path(), "tools": os.path.dirname(servers.kith_path())})

    def run(self, command):
        """The lines that the command printed."""
        command = re.sub(r"\b1?700[123]\b", lambda m: self.ports[m.group()], command)
        self.bash.stdin.write("%s\necho; echo '%s'\n" % (command, END))
        self.bash.stdin.flush()
        lines = []
        for line in self.bash.stdout:
            if line.rstrip("\n") == END:
                while lines and lines[-1] == "":
                    lines.pop()
                return lines
            lines.append(line.rstrip("\n"))
        return lines + ["(the shell has ended)"]

    def close(self):
        self.run("[ -z \"$kithd_pid\" ] || kill -9 $kithd_pid 2>/dev/null")
        self.run("kill -9 $(jobs -p) 2>/dev/null")
        self.bash.stdin.close()
        self.bash.wait()


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="kith-tour-") as top:
        shell = Shell(os.path.join(top, "data"))
        try:
            for n, command, expected in steps(os.path.join(servers.TREE, "README.md")):
                got = shell.run(command)
                while expected and expected[-1] == "":
                    expected.pop()
                if matches(expected, got):
                    passed += 1
                    continue
                failed += 1
                print("README.md:%d: $ %s\n  the README says:" % (n, command))
                print("\n".join("    " + e for e in expected))
                print("  it printed:\n" + "\n".join("    " + g for g in got[:40]))
        finally:
            shell.close()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not passed else 0)


main()
