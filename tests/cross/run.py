#!/usr/bin/env python3
"""tests/cross/run.py: the kernels' tests as a 64-bit Arm machine would run them.

Compiles src/vec's kernels and their tests with Debian's gcc-aarch64-linux-gnu (and libc6-dev-arm64-cross), and runs them
under qemu-user: once as a processor with the dot product extension, once as one without. What is not installed is
skipped, and counted so."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PROGRAMS = ["kernels", "kernels_bits", "kernels_half", "rotation"]
PROCESSORS = [("max", "neon-dot"), ("cortex-a53", "neon")]
COMPILER = "aarch64-linux-gnu-gcc"
WRAPPED = ["malloc", "calloc", "realloc", "aligned_alloc"]


def emulator():
    for name in ["qemu-aarch64-static", "qemu-aarch64"]:
        if shutil.which(name):
            return name
    return None


def compile_program(name, out):
    """None, or what the compiler says."""
    unit = os.path.join(TREE, "tests", "unit")
    sources = glob.glob(os.path.join(TREE, "src", "vec", "kernels*.c"))
    sources += [os.path.join(TREE, "src", "vec", "rotation.c"), os.path.join(unit, "failing_malloc.c"),
                os.path.join(unit, "vec", name + "_test.c")]
    done = subprocess.run([COMPILER, "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror",
                           "-Wno-unused-parameter", "-Wno-sign-compare", "-fno-strict-aliasing", "-ffp-contract=off",
                           "-I" + os.path.join(TREE, "tests", "cross"), "-I" + os.path.join(TREE, "src"), "-I" + unit]
                          + ["-Wl,--wrap=" + f for f in WRAPPED] + sources + ["-static", "-o", out, "-lm"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return None if done.returncode == 0 else done.stdout


def run_program(qemu, processor, program):
    """(passed, what went wrong or None, levels it found)"""
    done = subprocess.run([qemu, "-cpu", processor, program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=1200)
    passed = len(re.findall(r"^ok \d+", done.stdout, re.M))
    levels = re.findall(r"^kernels here: (\S+)", done.stdout, re.M)
    return passed, None if done.returncode == 0 else "\n".join(done.stdout.split("\n")[-20:]), levels


def main():
    qemu = emulator()
    if not qemu or not shutil.which(COMPILER):
        print("not here: %s; apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static" %
              (COMPILER if qemu else "qemu-aarch64-static"))
        print("0 passed, 0 failed, %d skipped" % (len(PROGRAMS) * len(PROCESSORS)))
        return 0
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in PROGRAMS:
            program = os.path.join(folder, name)
            error = compile_program(name, program)
            if error:
                print("%s does not compile\n%s" % (name, error))
                failed += 1
                continue
            for processor, best in PROCESSORS:
                good, error, levels = run_program(qemu, processor, program)
                if not error and levels and levels[-1] != best:
                    error = "its best kernels are %s, not %s" % (levels[-1], best)
                print("%-14s on %-12s %2d passed%s" % (name, processor, good, ", then: " + error if error else ""),
                      flush=True)
                passed, failed = passed + good, failed + (error is not None)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


sys.exit(main())
