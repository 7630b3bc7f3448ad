#!/usr/bin/env python3
"""tests/clients/run.py [--debian] [--registries]: other people's clients against kithd, one scripted session each.

  --debian       redis-cli, its hints from COMMAND DOCS, python3-redis, hiredis: what the distribution has
  --registries   the newest redis-py from PyPI, ioredis and node-redis from npm, fetched by name into the build folder

One case a client and protocol. A client that this machine cannot install, or whose runtime is too old for it, counts as
skipped, and the reason is printed."""
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import servers  # noqa: E402


class Skip(Exception):
    pass


def run(*argv, cwd=None, seconds=120, text=None):
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
                          input=text)
    if done.returncode:
        raise AssertionError("%s: status %d\n%s" % (os.path.basename(argv[0]), done.returncode, done.stdout[-3000:]))
    return done.stdout


def session(*argv, cwd=None):
    out = run(*argv, cwd=cwd).strip().split("\n")[-1]
    if not out.endswith(" ok"):
        raise AssertionError("the session ended with: " + out)
    print("  " + out)


def work_folder():
    path = os.path.join(servers.build_dir(), "clients")
    os.makedirs(path, exist_ok=True)
    return path


# What Debian has.


def redis_cli(port, *options):
    script = ["FLUSHALL", 'SET k "a b"', "GET k", "HSET h f v", "HGETALL h", "ZADD z 1.5 m", "ZRANGE z 0 -1 WITHSCORES",
              "VADD vs VALUES 3 1 0 0 x", "VCARD vs", "GET h", "OBJECT HELP", "CLIENT LIST", "INFO", "DEL k h z vs"]
    out = run("redis-cli", "-p", str(port), *options, text="\n".join(script) + "\n")
    for wanted in ("OK", "a b", "1.5", "WRONGTYPE", "kith_version", "\n4\n"):
        if wanted not in out:
            raise AssertionError("redis-cli printed no %r:\n%s" % (wanted, out[-2000:]))


def redis_cli_hints(port):
    """VADD is not in redis-cli's own table: a hint for it can only come from the server's COMMAND DOCS."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.environ["HOME"] = work_folder()
        os.execvp("redis-cli", ["redis-cli", "-p", str(port)])
    # Without a width the line editor would ask the terminal, and wait.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    seen = b""

    def read_for(seconds):
        nonlocal seen
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:
                    return

    read_for(1.0)
    for c in "VADD ":
        os.write(terminal, c.encode())
        read_for(0.1)
    read_for(1.0)
    os.write(terminal, b"\x03")
    os.close(terminal)
    os.waitpid(pid, 0)
    shown = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode("utf-8", "replace")
    if not re.search(r"VADD key .*element", shown):
        raise AssertionError("redis-cli shows no hint for VADD: %r" % shown[-300:])


def debian_redis_py(port):
    session("/usr/bin/python3", os.path.join(HERE, "session.py"), str(port), "2")


def hiredis(port):
    program = os.path.join(work_folder(), "session_hiredis")
    flags = run("pkg-config", "--cflags", "--libs", "hiredis").split()
    # hiredis.pc adds its own folder to the path; the source names it too.
    run("cc", "-Wall", "-Werror", "-o", program, os.path.join(HERE, "session_hiredis.c"), *flags, "-I/usr/include")
    session(program, str(port))


# What the registries have.


def fetch_redis_py():
    folder = os.path.join(work_folder(), "venv")
    python = os.path.join(folder, "bin", "python")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        run("python3", "-m", "venv", folder)
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", "redis", seconds=300)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
        raise Skip("redis-py cannot be installed from PyPI here: %s" % str(e)[-400:])
    return python


def fetch_npm(package, folder_name):
    folder = os.path.join(work_folder(), folder_name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if not shutil.which("npm"):
        raise Skip("there is no npm here")
    try:
        with open(os.path.join(folder, "package.json"), "w") as f:
            f.write('{"private": true}\n')
        run("npm", "install", "--silent", "--no-audit", "--no-fund", package + "@latest", cwd=folder, seconds=300)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
        raise Skip("%s cannot be installed from npm here: %s" % (package, str(e)[-400:]))
    check_engine(os.path.join(folder, "node_modules", package))
    for name in os.listdir(HERE):
        if name.endswith(".mjs"):
            shutil.copy(os.path.join(HERE, name), folder)
    return folder


def check_engine(package_folder):
    import json
    with open(os.path.join(package_folder, "package.json")) as f:
        wanted = re.search(r">=\s*(\d+)", json.load(f).get("engines", {}).get("node", ""))
    have = re.match(r"v(\d+)", run("node", "--version"))
    if wanted and int(have.group(1)) < int(wanted.group(1)):
        raise Skip("it needs Node %s, here is %s" % (wanted.group(1), have.group(0)))


def registry_cases():
    fetched = {}

    def once(name, fetch, *arguments):
        """Fetches a package for its first case; what kept it away keeps the later cases away."""
        if name not in fetched:
            try:
                fetched[name] = fetch(*arguments)
            except Skip as e:
                fetched[name] = e
        if isinstance(fetched[name], Skip):
            raise fetched[name]
        return fetched[name]

    def redis_py(protocol):
        return lambda port: session(once("redis-py", fetch_redis_py), os.path.join(HERE, "session.py"), str(port), protocol)

    def node_redis(protocol):
        return lambda port: session("node", "session_node_redis.mjs", str(port), protocol,
                                    cwd=once("redis", fetch_npm, "redis", "node-redis"))

    return [("redis-py, newest, RESP2", redis_py("2")), ("redis-py, newest, RESP3", redis_py("3")),
            ("ioredis, newest", lambda port: session("node", "session_ioredis.mjs", str(port),
                                                     cwd=once("ioredis", fetch_npm, "ioredis", "ioredis"))),
            ("node-redis, newest, RESP2", node_redis("2")), ("node-redis, newest, RESP3", node_redis("3"))]


def main():
    cases = []
    if "--debian" in sys.argv:
        cases += [("redis-cli, RESP2", redis_cli), ("redis-cli, RESP3", lambda port: redis_cli(port, "-3")),
                  ("redis-cli, hints from COMMAND DOCS", redis_cli_hints),
                  ("python3-redis", debian_redis_py), ("hiredis", hiredis)]
    if "--registries" in sys.argv:
        cases += registry_cases()
    passed = failed = skipped = 0
    server = servers.start_kithd()
    for name, case in cases:
        try:
            case(server.port)
            passed += 1
            print("ok   " + name)
        except Skip as e:
            skipped += 1
            print("skip %s: %s" % (name, e))
        except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL %s: %s" % (name, e))
        if not server.alive():
            print("the server died:\n" + server.log()[-2000:])
            server = servers.start_kithd()
    server.close()
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed else 0)


main()
