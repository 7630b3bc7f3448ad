#!/usr/bin/env python3
"""tests/fuzz/run.py [--seconds N] [--jobs N] [NAME ...]: every libFuzzer target for N seconds each, from its corpus.

Builds build-fuzz with clang, AddressSanitizer and UBSan. What a run finds beyond the corpus stays in the build folder; an
input that breaks a target is kept there too, and its place printed: add it to tests/fuzz/corpus/NAME with the fix.
One case a target."""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TREE, "build-fuzz")


def build():
    env = dict(os.environ, CC="clang")
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
                       cwd=TREE, env=env, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["ninja", "-C", BUILD], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(done.stdout[-5000:])


def fuzz(name, seconds):
    """(name, good, what to print)."""
    found = os.path.join(BUILD, "corpus", name)
    broken = os.path.join(BUILD, "broken-" + name + "-")
    os.makedirs(found, exist_ok=True)
    folders = [found]
    seeds = os.path.join(TREE, "tests", "fuzz", "corpus", name)
    if os.path.isdir(seeds):
        folders.append(seeds)
    argv = [os.path.join(BUILD, "tests", "fuzz", name + "_fuzz"), "-max_total_time=%d" % seconds, "-timeout=20",
            "-rss_limit_mb=3000", "-artifact_prefix=" + broken, "-print_final_stats=1"] + folders
    words = os.path.join(TREE, "tests", "fuzz", name + ".dict")
    if os.path.exists(words):
        argv.append("-dict=" + words)
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    try:
        done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds * 2 + 120)
    except subprocess.TimeoutExpired:
        return name, False, "it did not end"
    text = done.stdout.decode("utf-8", "replace")
    runs = re.search(r"number_of_executed_units:\s*(\d+)", text)
    good = done.returncode == 0 and runs and int(runs.group(1)) > 0
    return name, good, "%s inputs" % runs.group(1) if good else text[-4000:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    build()
    here = sorted(os.path.basename(p)[:-len("_fuzz.c")] for p in glob.glob(os.path.join(TREE, "tests/fuzz/*_fuzz.c")))
    names = args.names or here
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for name, good, words in pool.map(lambda n: fuzz(n, args.seconds), names):
            print("%s %s: %s" % ("ok  " if good else "FAIL", name, words), flush=True)
            passed, failed = passed + bool(good), failed + (not good)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not names else 0)


main()
