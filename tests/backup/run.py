#!/usr/bin/env python3
"""tests/backup/run.py [NAME ...]: kith backup, restore and recover with real servers.

What is restored is compared with what the server held at that entry, by DEBUG DIGEST. One case a function; NAME runs those
that contain it."""
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
from group import Group, Node, Writer, finish, servers  # noqa: E402
import cases  # noqa: E402
from resp import Client, Error  # noqa: E402

FOLDER = tempfile.mkdtemp(prefix="kith-backup-")


def path(name):
    return os.path.join(FOLDER, name)


def kith(*args, port=None, code=0, **options):
    """Runs kith; its output, errors included."""
    argv = [servers.kith_path()] + [str(a) for a in args] + (["-p", str(port)] if port else [])
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, **options)
    assert done.returncode == code, (args, done.returncode, done.stdout)
    return done.stdout


def digest_of(port):
    c = Client(port)
    got = bytes(c.call("DEBUG", "DIGEST"))
    c.close()
    return got


def restored_digest(*args):
    """What a server shows that was started on what these arguments of kith restore make."""
    target = tempfile.mkdtemp(dir=FOLDER)
    out = kith("restore", args[0], target, *args[1:])
    server = servers.start_kithd(folder=target)
    got = digest_of(server.port)
    server.kill()
    shutil.rmtree(target)
    return got, out


def index_of(client):
    return int(re.search(rb"raft_applied_index:(\d+)", client.call("INFO", "replication")).group(1))


def flip(file, offset):
    with open(file, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 1]))


def fill(client, count, size=1000, seed=1):
    rng = random.Random(seed)
    for i in range(0, count, 50):
        client.send(*[("SET", "f%d" % n, rng.randbytes(size)) for n in range(i, min(i + 50, count))])
        for _ in range(i, min(i + 50, count)):
            assert client.read() == b"OK"


def case_leader_and_follower_are_copied_under_load():
    group = Group(3)
    writers = [Writer(group, i, pause=0.002) for i in range(3)]
    for w in writers:
        w.start()
    time.sleep(0.7)
    leader, follower = group.leader(), group.followers()[0]
    kith("backup", "--log", path("group"), port=leader.port)
    indexes = {}
    for name, node in (("leader", leader), ("follower", follower)):
        out = kith("backup", path(name), port=node.port)
        indexes[name] = int(re.search(r"entry (\d+)", out).group(1))
        time.sleep(0.3)
    finish(writers)
    group.wait_same()
    assert all(not w.errors for w in writers), [w.errors[:3] for w in writers]
    # the copy of the log goes on from another node
    kith("backup", "--log", path("group"), port=follower.port)
    for name, index in indexes.items():
        from_file, _ = restored_digest(path(name))
        from_log, out = restored_digest(path("group"), "--until", index)
        assert from_file == from_log, (name, index, out)
    whole, _ = restored_digest(path("group"))
    assert whole == digest_of(leader.port)
    group.close()


def case_what_was_broken_off_goes_on():
    server = servers.start_kithd()
    c = server.client()
    fill(c, 4000)
    file = path("resumed")
    slow = subprocess.Popen([servers.kith_path(), "backup", file, "--rate", "1mb", "-p", str(server.port)],
                            stdout=subprocess.DEVNULL)

    def parts():
        return [path(n) for n in os.listdir(FOLDER) if n.startswith("resumed.") and n.endswith(".part")]
    until = time.monotonic() + 20
    while not (parts() and os.path.getsize(parts()[0]) >= 1 << 20):
        assert time.monotonic() < until and slow.poll() is None
        time.sleep(0.01)
    slow.kill()
    slow.wait()
    index = index_of(c)
    c.call("SET", "later", "x")
    shutil.copy(parts()[0], path("kept"))
    flip(parts()[0], 5000)
    # it goes on from there: so it must find the damage
    out = kith("backup", file, port=server.port, code=1)
    assert "checksum" in out and not parts() and not os.path.exists(file), out
    os.rename(path("kept"), "%s.%d.%d.%08x.part" % ((file,) + offer(c, index)))
    assert len(parts()) == 1
    out = kith("backup", file, port=server.port)
    assert "entry %d" % index in out and not parts(), out  # the first one's, not a newer
    assert "there already" in kith("backup", file, port=server.port, code=1)
    # a part of a file that the server has no more is dropped
    with open("%s.77.5000.00000000.part" % path("other"), "wb") as f:
        f.write(b"x" * 3000)
    kith("backup", path("other"), port=server.port)
    assert restored_digest(path("other"))[0] == digest_of(server.port)
    assert not [n for n in os.listdir(FOLDER) if n.endswith(".part")]
    server.close()


def offer(client, index):
    reply = client.call("KITH.BACKUP", "OPEN", index)
    values = dict(zip(reply[::2], reply[1::2]))
    return values[b"index"], values[b"bytes"], values[b"crc"]


def case_damage_is_refused_before_anything_is_written():
    server = servers.start_kithd()
    c = server.client()
    fill(c, 300)
    kith("backup", path("whole"), port=server.port)
    kith("backup", "--log", path("logs"), port=server.port)
    fill(c, 100, seed=2)
    kith("backup", "--log", path("logs"), port=server.port)
    size = os.path.getsize(path("whole"))
    for offset in (0, 20, 70, size // 2, size - 1):
        shutil.copy(path("whole"), path("damaged"))
        flip(path("damaged"), offset)
        out = kith("restore", path("damaged"), path("never"), code=1)
        assert "damaged" in out or "checkpoint" in out, out
        assert not os.path.exists(path("never")), offset
    os.truncate(path("damaged"), size // 2)
    kith("restore", path("damaged"), path("never"), code=1)
    log = next(n for n in os.listdir(path("logs")) if n.startswith("log-"))
    flip(os.path.join(path("logs"), log), 4096 + 40)
    assert log in kith("restore", path("logs"), path("never"), code=1)
    assert not os.path.exists(path("never"))
    server.close()


def copied(folder):
    target = os.path.join(tempfile.mkdtemp(dir=FOLDER), "copy")
    shutil.copytree(folder, target)
    return target


def case_what_is_no_backup_is_refused():
    server = servers.start_kithd()
    c = server.client()
    fill(c, 50)
    kith("backup", "--log", path("good"), port=server.port)
    os.mkdir(path("garbage"))
    rng = random.Random(5)
    for name in ("state-1", "checkpoint-00000000000000000007", "log-0000000001-00000000000000000008"):
        with open(os.path.join(path("garbage"), name), "wb") as f:
            f.write(rng.randbytes(5000))
    assert "damaged" in kith("restore", path("garbage"), path("none"), code=1)
    os.mkdir(path("empty"))
    assert "no folder of Kith's" in kith("restore", path("empty"), path("none"), code=1)
    assert "no such" in kith("restore", path("absent"), path("none"), code=1)
    assert "no node's folder" in kith("recover", path("good"), path("none"), "--yes", code=1)
    assert "no backup" in kith("restore", server.folder, path("none"), code=1)
    assert "is using" in kith("recover", server.folder, path("none"), "--yes", code=1)
    assert "not a backup" in kith("backup", "--log", copied(server.folder), port=server.port, code=1)
    assert "not empty" in kith("restore", path("good"), path("garbage"), code=1)
    assert "neither" in kith("restore", path("good"), path("none"), "--until", "noon", code=2)
    assert not os.path.exists(path("none"))
    done = subprocess.run([servers.kithd_path(), "--port", "0", "--unixsocket", path("s"), "--dir", path("good")],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "is a backup" in done.stderr, done
    other = servers.start_kithd()
    other.client().call("SET", "a", "b")
    assert "is a backup of group" in kith("backup", "--log", path("good"), port=other.port, code=1)
    memory = servers.start_kithd("--memory-only")
    assert "nothing on disk" in kith("backup", path("none"), port=memory.port, code=1)
    c.call("CONFIG", "SET", "requirepass", "secret")
    assert "NOAUTH" in kith("backup", path("none"), port=server.port, code=1)
    kith("backup", path("with-password"), port=server.port, env=dict(os.environ, KITH_AUTH="secret"))
    for s in (server, other, memory):
        s.close()


def case_any_point_in_time_comes_back():
    server = servers.start_kithd(durability="always")
    c, rng = server.client(), random.Random(9)
    c.call("CONFIG", "SET", "backup-keep-log", "64mb")
    kith("backup", "--log", path("times"), port=server.port)
    history = []  # index, time after it, digest
    for n in range(120):
        key = "k%d" % rng.randrange(20)
        c.call(*rng.choice([("SET", key, n), ("DEL", key), ("HSET", "h" + key, n % 7, n), ("ZADD", "z", n, key),
                            ("VADD", "v", "VALUES", 3, n, 1, 2, key)]))
        if n % 10 == 9:
            history.append((index_of(c), time.time(), digest_of(server.port)))
            time.sleep(0.012)
        if n % 40 == 39:
            c.call("SAVE")
            kith("backup", "--log", path("times"), port=server.port)
    # once more with nothing new, and while it follows
    follower = subprocess.Popen([servers.kith_path(), "backup", "--follow", "--every", "0.05", path("times"), "-p",
                                 str(server.port)], stdout=subprocess.DEVNULL)
    c.call("SET", "followed", "1")
    history.append((index_of(c), time.time(), digest_of(server.port)))
    until = time.monotonic() + 10
    while True:  # a restore while it follows
        target = tempfile.mkdtemp(dir=FOLDER)
        done = subprocess.run([servers.kith_path(), "restore", path("times"), target, "--until", str(history[-1][0])],
                              capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert time.monotonic() < until, done
        time.sleep(0.1)
    follower.send_signal(signal.SIGTERM)
    assert follower.wait(10) == 0
    for index, when, digest in history[::4] + history[-1:]:
        assert restored_digest(path("times"), "--until", index)[0] == digest, index
    for index, when, digest in history[1:-1:5]:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + ".%03dZ" % (int(when * 1000) % 1000 + 3)
        if int(when * 1000) % 1000 < 990:
            assert restored_digest(path("times"), "--until", text)[0] == digest, (index, text)
    out = kith("restore", path("times"), path("none"), "--until", history[-1][0] + 5, code=1)
    assert "reaches up to entry %d" % history[-1][0] in out, out
    kith("backup", path("late"), port=server.port)
    out = kith("restore", path("late"), path("none"), "--until", "2001-01-01T00:00:00Z", code=1)
    assert "begins with entry" in out and not os.path.exists(path("none")), out
    server.close()


def case_a_gap_is_told():
    server = servers.start_kithd("--log-segment-size", "1mb")
    c = server.client()
    assert c.call("CONFIG", "GET", "cluster-keep-log", "cluster-stream-rate", "backup-keep-log") == \
        [b"backup-keep-log", b"0", b"cluster-keep-log", b"268435456", b"cluster-stream-rate", b"0"]
    assert c.call("CONFIG", "SET", "cluster-keep-log", "2mb", "cluster-stream-rate", "50mb") == b"OK"
    fill(c, 20)
    kith("backup", "--log", path("gaps"), port=server.port)
    first = index_of(c)
    fill(c, 3000, seed=3)
    assert c.call("SAVE") == b"OK"
    c.call("SET", "gone", "between")
    out = ""
    for n in range(40):  # old segments go shortly after
        time.sleep(0.05)
        reply = c.call("KITH.BACKUP", "LOG", first + 1)
        if isinstance(reply, Error):
            break
    assert isinstance(reply, Error) and b"GONE" in reply, reply
    out = kith("backup", "--log", path("gaps"), port=server.port, code=1)
    assert "ends with entry %d" % first in out and "backup-keep-log" in out, out
    kith("backup", "--log", "--checkpoint", path("gaps"), port=server.port)
    c.call("SET", "after", "x")
    kith("backup", "--log", path("gaps"), port=server.port)
    assert restored_digest(path("gaps"))[0] == digest_of(server.port)
    restored_digest(path("gaps"), "--until", first)
    out = kith("restore", path("gaps"), path("none"), "--until", first + 1, code=1)
    assert "gap" in out and "%d" % first in out, out
    # with the log kept there is none
    assert c.call("CONFIG", "SET", "backup-keep-log", "100mb") == b"OK"
    last = index_of(c)
    fill(c, 3000, seed=4)
    assert c.call("SAVE") == b"OK"
    c.call("SET", "again", "x")
    time.sleep(0.3)
    kith("backup", "--log", path("gaps"), port=server.port)
    assert restored_digest(path("gaps"))[0] == digest_of(server.port)
    restored_digest(path("gaps"), "--until", last + 10)
    server.close()


def case_a_full_disk_leaves_nothing_behind():
    server = servers.start_kithd()
    c = server.client()
    fill(c, 3000)

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    out = kith("backup", path("full"), port=server.port, code=1, preexec_fn=small)
    assert "cannot be written" in out and not os.path.exists(path("full")), out
    kith("backup", path("full"), port=server.port)  # goes on
    out = kith("restore", path("full"), path("full-restored"), code=1, preexec_fn=small)
    assert "cannot be written" in out and os.listdir(path("full-restored")) in ([], ["lock"]), out
    shutil.rmtree(path("full-restored"))
    assert restored_digest(path("full"))[0] == digest_of(server.port)
    server.close()


def case_a_lost_majority_is_recovered_from_one():
    group = Group(3)
    leader = group.leader()
    survivor, other = group.followers()
    c = leader.call
    sure = {}
    client = Client(leader.port)
    for n in range(200):
        client.send(("SET", "k%d" % n, n), ("WAIT", 2, 2000))
        if client.read() == b"OK" and client.read() == 2:
            sure["k%d" % n] = n
    assert len(sure) > 100
    client.call("VADD", "v", "VALUES", 3, 1, 2, 3, "a")
    assert client.call("WAIT", 2, 5000) == 2
    client.close()
    leader.kill()
    other.kill()
    shutil.rmtree(leader.folder)
    out = kith("recover", survivor.folder, path("none"), code=1)
    assert "is using" in out, out
    survivor.kill()
    out = kith("recover", survivor.folder, path("none"), code=1)
    assert "confirm with --yes" in out and "3 voters" in out and not os.path.exists(path("none")), out
    recovered = path("recovered")
    out = kith("recover", survivor.folder, recovered, "--yes")
    new_group = re.search(r"is group (\w+) now", out).group(1)
    shutil.rmtree(survivor.folder)
    os.rename(recovered, survivor.folder)
    survivor.start()
    assert survivor.call("SET", "new", "1") == b"OK"  # it leads by itself
    for key, n in sure.items():
        assert survivor.call("GET", key) == b"%d" % n, key
    assert survivor.call("VSIM", "v", "ELE", "a") == [b"a"]
    assert [m["address"] for m in group.members(survivor)] == [survivor.address]
    # the other survivor comes with its old folder, as it is and with --join
    other.start()
    group.until("it is refused, and says so", lambda: "this is group %s" % new_group in other.log(), 20)
    assert [m["address"] for m in group.members(survivor)] == [survivor.address]
    other.kill()
    other.start(join=survivor, wait=False)
    assert other.process.wait(20) == 1
    assert new_group in other.log() and "empty dir" in other.log(), other.log()[-600:]
    shutil.rmtree(other.folder)
    other.start(join=survivor)
    group.until("it has a vote", lambda: group.member(other, survivor).get("role") == "voter")
    group.nodes = [survivor, other]
    group.wait_same()
    group.close()


def case_the_steps_of_the_manual_work():
    """docs/operations.md: the lines with a $, in order, in one folder."""
    with open(os.path.join(servers.TREE, "docs", "operations.md"), encoding="utf-8") as f:
        lines = [line.strip()[2:] for line in f if line.strip().startswith("$ ")]
    work = path("manual")
    os.mkdir(work)
    ports = {p: str(servers.free_port()) for p in ("6390", "6391", "6392", "6491", "6492")}
    os.mkdir(os.path.join(work, "server"))
    server = servers.start_kithd(folder=os.path.join(work, "server"))
    server.client().call("SET", "a", "1")
    env = dict(os.environ, PATH=os.path.dirname(servers.kith_path()) + ":" + os.environ["PATH"],
               KITH_PORT=str(server.port))
    started = []
    for line in lines:
        for port, free in ports.items():
            line = line.replace(port, free)
        if "kith recover" in line and not os.path.exists(os.path.join(work, "survivor")):
            server.kill()
            shutil.copytree(server.folder, os.path.join(work, "survivor"))
        if line.startswith("kithd "):
            log = open(os.path.join(work, "log"), "ab")
            started.append(subprocess.Popen(line.split(), cwd=work, env=env, stdout=log, stderr=log))
            log.close()
            port = int(re.search(r"--port (\d+)", line).group(1))
            until = time.monotonic() + 20
            while True:
                try:
                    assert Client(port).call("GET", "a") == b"1"
                    break
                except OSError:
                    assert time.monotonic() < until and started[-1].poll() is None, (line, open(os.path.join(work, "log")).read())
                    time.sleep(0.05)
        else:
            done = subprocess.run(line.split(), cwd=work, env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert len(lines) > 8 and len(started) == 3
    for process in started:
        process.kill()
        process.wait()
    server.close()


def main():
    code = cases.run(globals(), sys.argv[1:])
    shutil.rmtree(FOLDER, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
