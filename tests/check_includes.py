#!/usr/bin/env python3
"""tests/check_includes.py: the rules about the tree that no compiler checks.

- Layers (docs/STYLE.md): prog -> net -> repl -> store -> engine -> { ds | vec | wire } -> base. A file includes its own
  folder or a lower one; siblings in braces never include each other; a unit test sees no more than its folder does.
- An include names its folder, so that a reader sees the layer: "wire/resp.h", never "resp.h".
- No file names a path of one machine or the address of a package registry: those belong to the user's own set-up.

One case a folder, and one for each rule about the whole tree."""
import os
import re
import subprocess
import sys

LEVEL = {"base": 0, "ds": 1, "vec": 1, "wire": 1, "engine": 2, "store": 3, "repl": 4, "net": 5, "prog": 6}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
# What the top of the layers, and nobody below, may see of the public header.
PUBLIC_USERS = {"prog"}


def lines_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().split("\n")


def may_include(folder, other):
    return other == folder or LEVEL[other] < LEVEL[folder]


def check_file(path, folder, in_tests):
    """Yields a sentence for each include of `path`, which belongs to `folder`, that breaks the order."""
    for n, line in enumerate(lines_of(path), 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        target = m.group(1)
        where = "%s:%d" % (path, n)
        if "/" not in target:
            local = os.path.exists(os.path.join(os.path.dirname(path), target))
            helper = os.path.exists(os.path.join("tests/unit", target))
            generated = target == "config.h"
            if in_tests and (local or helper) or generated or target == "kith.h" and (folder in PUBLIC_USERS):
                continue
            yield '%s: #include "%s" must name its folder, as in "%s/%s"' % (where, target, folder, target)
            continue
        other = target.split("/")[0]
        if other not in LEVEL:
            yield '%s: "%s" is in no folder of src/ (is it missing from tests/check_includes.py?)' % (where, target)
        elif not may_include(folder, other):
            yield "%s: %s/ must not include %s/, which is %s" % (
                where, folder, other, "a sibling" if LEVEL[other] == LEVEL[folder] else "above it")


def tracked():
    """The files of the tree: git's list, or every file where there is no git (a source archive)."""
    try:
        out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        return sorted(p for p in out.decode().split("\0") if p and os.path.isfile(p))
    except (OSError, subprocess.CalledProcessError):
        found = []
        for top, folders, files in os.walk("."):
            folders[:] = [d for d in folders if not d.startswith((".git", "build"))]
            found += [os.path.relpath(os.path.join(top, f)) for f in files]
        return sorted(found)


# Written in halves, so that this file does not find itself.
MACHINE = re.compile("(^|[\\s\"'=:(])/(" + "|".join(["ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"]) + ")/")
REGISTRY = re.compile("|".join(["registry\\.npm" + "js", "pypi\\." + "org", "python" + "hosted", "deb\\.deb" + "ian",
                                "security\\.deb" + "ian", "archive\\.ubu" + "ntu", "_auth" + "Token", "crates" + "\\.io"]))


def check_words(pattern, what):
    for path in tracked():
        if path.endswith((".gz", ".png", ".bin")) or "/corpus/" in path:
            continue
        for n, line in enumerate(lines_of(path), 1):
            if pattern.search(line):
                yield "%s:%d: %s: %s" % (path, n, what, line.strip()[:100])


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    cases = {}
    files = [p for p in tracked() if p.endswith((".c", ".h"))]
    for folder in sorted(os.listdir("src")):
        if not os.path.isdir(os.path.join("src", folder)):
            continue
        found = cases.setdefault("src/" + folder, [])
        if folder not in LEVEL:
            found.append("src/%s has no place in the order of layers: give it one in docs/STYLE.md and here" % folder)
            continue
        for path in files:
            if path.startswith(("src/%s/" % folder, "tests/unit/%s/" % folder)):
                found += check_file(path, folder, path.startswith("tests/"))
    cases["no path of one machine"] = list(check_words(MACHINE, "a path of one machine"))
    cases["no address of a registry"] = list(check_words(REGISTRY, "an address of a registry"))
    failed = 0
    for name, found in cases.items():
        for sentence in found:
            print(sentence)
        failed += bool(found)
    print("%d passed, %d failed" % (len(cases) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
