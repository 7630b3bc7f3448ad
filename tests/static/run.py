#!/usr/bin/env python3
"""tests/static/run.py format|tidy|cppcheck: what tools can say about the source without running it.

One case a file for clang-format and clang-tidy, one for the whole of src/ for cppcheck. No finding is tolerated: mend it,
or say in .clang-tidy or below why the check is off."""
import concurrent.futures
import os
import re
import subprocess
import sys

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
JOBS = os.cpu_count() or 1

# Why each is off: missingInclude*: system headers are not given to it. unmatchedSuppression: a suppression may wait for
# one configuration. unusedStructMember: layouts of files and peers name bytes that no code reads. constParameter*: a
# handler's type is fixed by the table that holds it. variableScope, shadow*, *OperatorAlways..: taste, and gcc's -Wshadow
# does it better. normalCheckLevelMaxBranches, toomanyconfigs: cppcheck's own limits.
CPPCHECK = ["--enable=warning,performance,portability", "--inline-suppr", "--std=c11", "--error-exitcode=1", "--quiet",
            "--suppress=missingIncludeSystem", "--suppress=missingInclude", "--suppress=unmatchedSuppression",
            "--suppress=unusedStructMember", "--suppress=toomanyconfigs", "--suppress=normalCheckLevelMaxBranches",
            "--template={file}:{line}: {severity} {id}: {message}"]


def sources(*folders):
    found = []
    for folder in folders:
        for top, _, files in os.walk(os.path.join(TREE, folder)):
            found += [os.path.join(top, f) for f in files if f.endswith((".c", ".h"))]
    return sorted(found)


def run(argv):
    done = subprocess.run(argv, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout


def check_format(path):
    status, out = run(["clang-format", "--dry-run", "-Werror", path])
    return status == 0, "\n".join(out.split("\n")[:3]) + "\n  (clang-format -i mends it)"


def check_tidy(path):
    status, out = run(["clang-tidy", "-quiet", "-p", build_dir(), path])
    out = re.sub(r"\x1b\[[0-9;]*m", "", out)
    return status == 0, "\n".join(line for line in out.split("\n") if re.search(r": (error|warning):", line)) or out[-2000:]


def build_dir():
    return os.path.abspath(os.environ.get("KITH_BUILD") or os.path.join(TREE, "build"))


def each(check, paths):
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for path, (good, words) in zip(paths, pool.map(check, paths)):
            passed, failed = passed + good, failed + (not good)
            if not good:
                print("%s\n%s" % (os.path.relpath(path, TREE), words), flush=True)
    return passed, failed


def main():
    os.chdir(TREE)
    what = sys.argv[1]
    if what == "format":
        passed, failed = each(check_format, sources("src", "include", "tests", "bench", "examples"))
    elif what == "tidy":
        with open(os.path.join(build_dir(), "compile_commands.json")) as f:
            known = f.read()
        passed, failed = each(check_tidy, [p for p in sources("src") if p.endswith(".c") and
                                           os.path.relpath(p, TREE) in known])
    else:
        status, out = run(["cppcheck", "-j", str(JOBS), "-Isrc", "-Iinclude"] + CPPCHECK + ["src"])
        print(out.strip())
        passed, failed = (1, 0) if status == 0 else (0, 1)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not passed else 0)


main()
