#!/usr/bin/env python3
"""tests/example/run.py: the example program as a user builds it: the installed header and library through pkg-config,
shared and static, in a folder and in memory. It must stay under 60 lines."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from servers import TREE, build_dir  # noqa: E402

SOURCE = os.path.join(TREE, "examples", "neighbours.c")
EXPECTED = ["gold ", "coral ", "red ", "asked  orange", "set    7 colours"]


def run(argv, **options):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options)
    if done.returncode != 0:
        raise AssertionError("%s: exit %d\n%s" % (" ".join(argv), done.returncode, done.stdout.decode("utf-8", "replace")))
    return done.stdout.decode()


def check_output(text):
    lines = text.splitlines()
    assert len(lines) == len(EXPECTED) and all(l.startswith(e) for l, e in zip(lines, EXPECTED)), text


def the_example_has_fewer_than_60_lines(work):
    with open(SOURCE, encoding="utf-8") as f:
        assert len(f.readlines()) < 60


def install(work):
    run(["meson", "install", "-C", build_dir(), "--destdir", work, "--no-rebuild", "--quiet"])
    for folder, _, files in os.walk(work):
        if "kith.pc" in files:
            return dict(os.environ, PKG_CONFIG_PATH=folder, PKG_CONFIG_SYSROOT_DIR=work), os.path.dirname(folder)
    raise AssertionError("no kith.pc was installed")


def flags(env, *options):
    return run(["pkg-config"] + list(options) + ["kith"], env=env).split()


def the_example_builds_and_runs_with_the_shared_library(work):
    env, libdir = install(work)
    program = os.path.join(work, "shared")
    run(["cc", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", program] + flags(env, "--cflags", "--libs"))
    env["LD_LIBRARY_PATH"] = libdir
    folder = os.path.join(work, "colours")
    check_output(run([program], env=env))
    check_output(run([program, folder], env=env))
    check_output(run([program, folder], env=env))


def the_example_builds_and_runs_with_the_static_library(work):
    env, libdir = install(work)
    program = os.path.join(work, "static")
    run(["cc", SOURCE, "-o", program, os.path.join(libdir, "libkith.a")] + flags(env, "--cflags") +
        [f for f in flags(env, "--libs", "--static") if f != "-lkith"])
    check_output(run([program, os.path.join(work, "colours")]))


def the_header_is_good_C_and_CPlusPlus_by_itself(work):
    header = os.path.join(TREE, "include", "kith.h")
    run(["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", header])
    if shutil.which("c++"):
        run(["c++", "-Wall", "-Werror", "-fsyntax-only", "-x", "c++", header])


def only_what_the_header_names_is_visible(work):
    _, libdir = install(work)
    names = {line.split()[-1].split("@")[0] for line in
             run(["nm", "-D", "--defined-only", os.path.join(libdir, "libkith.so")]).splitlines()}
    with open(os.path.join(TREE, "include", "kith.h"), encoding="utf-8") as f:
        text = f.read()
    assert names and all("%s(" % n in text for n in names), names


def main():
    tests = [the_example_has_fewer_than_60_lines, the_example_builds_and_runs_with_the_shared_library,
             the_example_builds_and_runs_with_the_static_library, the_header_is_good_C_and_CPlusPlus_by_itself,
             only_what_the_header_names_is_visible]
    failed = 0
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="kith-example-") as work:
            try:
                test(work)
                print("ok   %s" % test.__name__.replace("_", " "))
            except (AssertionError, OSError, subprocess.SubprocessError) as e:
                failed += 1
                print("FAIL %s: %s" % (test.__name__.replace("_", " "), e))
    print("%d passed, %d failed" % (len(tests) - failed, failed))
    sys.exit(1 if failed else 0)


main()
