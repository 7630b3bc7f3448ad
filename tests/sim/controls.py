#!/usr/bin/env python3
"""tests/sim/controls.py [--seeds N] [BUILD_DIR]: the simulator's negative controls.

A guard is taken out, or a promise of the disk broken, and the simulator must find something. Prints after how many worlds
it did. A control that finds nothing within its bound fails; those without one are skipped unless --seeds gives it."""
import re
import subprocess
import sys

# name, options, how many worlds at most (0: only with --seeds, see docs/simulator.md). What comes first is found at once.
# Some guards bite only where one thing happens often: then the options make such worlds.
FEW = ["--only-transfers", "--only-crashes", "--only-partitions", "--often-transfers", "--nodes", "2"]
JOINS = ["--only-members", "--only-weather", "--only-slow-links", "--only-checkpoints", "--only-crashes", "--often-members",
         "--contrast"]
STORMS = ["--only-weather", "--only-partitions", "--only-slow-links", "--only-stops", "--often-weather", "--nodes", "3"]
CONTROLS = [
    ("term and vote not synced", ["--control", "state-not-synced"], 20),
    ("an entry counts before it is synced", ["--control", "log-not-synced"], 20),
    ("what a truncation has overtaken counts", ["--control", "core:0x40"], 20),
    ("a standby does not vote", ["--control", "core:0x80", "--nodes", "1"], 40),
    ("a late rejection is believed", ["--control", "core:0x4"] + STORMS, 500),
    ("a leader reads without a probe", ["--control", "read-at-once"], 100),
    ("a stale append is libraft's to answer", ["--control", "core:0x1", "--only-members", "--only-weather", "--only-holds",
                                               "--only-transfers"], 80),
    ("a stale append is not answered", ["--control", "core:0x2"], 0),
    ("a change anywhere in a batch", ["--control", "core:0x8", "--often-members"], 80),
    ("entries below our snapshot", ["--control", "core:0x10"] + JOINS, 150),
    ("a pre-vote is refused in the asker's term", ["--control", "core:0x20"] + FEW, 0),
    ("a second change while one is under way", ["--control", "core:0x100", "--often-members"], 0),
]


def main():
    words = sys.argv[1:]
    bound = 0
    if "--seeds" in words:
        at = words.index("--seeds")
        bound = int(words[at + 1])
        del words[at:at + 2]
    program = (words[0] if words else "build") + "/tests/sim/sim_controls"
    passed = failed = skipped = 0
    for name, options, most in CONTROLS:
        if not bound and not most:
            skipped += 1
            continue
        run = subprocess.run([program, "--seeds", "1-%d" % (bound or most), "--jobs", "2", "--until-found", "--shown", "1",
                              "--patience", "20"]
                             + options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        worlds = re.search(r"^(\d+) worlds", run.stdout, re.M)
        found = re.search(r"^seed .*", run.stdout, re.M)
        print("%-45s %5s worlds  %s" % (name, worlds.group(1) if worlds else "?", found.group(0)[:150] if found else "nothing"),
              flush=True)
        if run.returncode and found:
            passed += 1
        else:
            failed += 1
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed else 0)


main()
