#!/usr/bin/env python3
"""tests/unit/run.py BUILD_DIR [--threaded]: runs Meson's tests and counts the cases inside each program.

cmocka is asked for TAP, so that a case, not a program, is what is counted. A program that fails without naming a case
(a crash, a sanitizer's report, a timeout) is one failure, and its output is shown.

--threaded runs only the programs that start a thread: what ThreadSanitizer can say something about."""
import json
import os
import re
import subprocess
import sys


def threaded(build):
    """The names of the tests whose program calls pthread_create."""
    listed = subprocess.run(["meson", "introspect", "--tests", build], stdout=subprocess.PIPE, text=True, check=True)
    names = []
    for test in json.loads(listed.stdout):
        symbols = subprocess.run(["nm", "-u", test["cmd"][0]], stdout=subprocess.PIPE, text=True).stdout
        if re.search(r"\bU (pthread_create|uv_thread_create|uv_run)\b", symbols):
            names.append(test["name"])
    return names


def main():
    build, names = sys.argv[1], []
    log = os.path.join(build, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.remove(log)
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP",
               ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:allocator_may_return_null=1",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1", TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")
    if "--threaded" in sys.argv:
        names = threaded(build)
        print("%d programs start threads" % len(names))
        if not names:
            sys.exit("which cannot be: look at threaded()")
    command = ["meson", "test", "-C", build, "--no-rebuild", "--timeout-multiplier", "10", "--suite", "unit"] + names
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not os.path.exists(log):
        print(run.stdout)
        sys.exit("no test ran")
    passed = failed = skipped = 0
    for line in open(log):
        test = json.loads(line)
        out = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
        ok = re.findall(r"^ok \d+", out, re.M)
        skip = re.findall(r"^ok \d+.*# SKIP", out, re.M)
        bad = re.findall(r"^not ok \d+ - (.*)$", out, re.M)
        p, f = len(ok) - len(skip), len(bad)
        if test["result"] == "SKIP":
            skipped += 1
            continue
        if test["result"] not in ("OK", "EXPECTEDFAIL"):
            f = max(f, 1)
            print("%s: %s, %s" % (test["name"], test["result"], "; ".join(bad) or "no case named"))
            print("\n".join(out.strip().split("\n")[-60:]))
        elif p == 0 and f == 0:
            p = 1
        passed, failed, skipped = passed + p, failed + f, skipped + len(skip)
        print("%-32s %4d passed, %d failed, %.1f s" % (test["name"], p, f, test["duration"]))
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed else 0)


main()
