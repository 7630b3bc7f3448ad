#!/usr/bin/env python3
"""tests/cluster/run.py [--kills N] [NAME ...]: groups of real kithd processes, under load, that lose members.

Checked is what was promised: what was acknowledged is there on every node, reads see it, all nodes hold the same, and
after the leader is gone writes go on soon. One case a function; NAME runs those that contain it."""
import argparse
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from group import Group, Node, Writer, expect_kept, expect_none_failed, finish, servers  # noqa: E402
from joining import *  # noqa: E402,F401,F403 - its cases
from resp import Client, Closed, Error  # noqa: E402
import cases  # noqa: E402

KILLS = 3
PATIENT = ["--cluster-election-ms", "2000"]  # where no leader may be lost because the machine is busy


def kith(node, *args):
    done = subprocess.run([servers.kith_path(), "cluster"] + list(args) + ["-p", str(node.port)], capture_output=True,
                          text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def case_every_node_takes_writes_and_reads_what_was_written_elsewhere():
    group = Group(3)
    clients = [Client(n.port) for n in group.nodes]
    for i in range(300):
        assert clients[i % 3].call("SET", "k", i) == b"OK"
        got = clients[(i + 1) % 3].call("GET", "k")
        assert got == b"%d" % i, (i, got)
    # a pipeline of both kinds, and searches in their place
    for n, c in enumerate(clients):
        key = "set%d" % n
        c.send(("SET", "p", n), ("GET", "p"), ("VADD", key, "VALUES", 2, 1, 0, "a"), ("VSIM", key, "ELE", "a"),
               ("VADD", key, "VALUES", 2, 0, 1, "b"), ("VSIM", key, "ELE", "a", "COUNT", 1), ("GET", "p"), ("PING",))
        got = [c.read() for _ in range(8)]
        assert got == [b"OK", b"%d" % n, 1, [b"a"], 1, [b"a"], b"%d" % n, b"PONG"], got
    group.wait_same()
    assert group.leader().call("WAIT", 2, 5000) == 2
    assert group.followers()[0].call("WAIT", 1, 5000) == 1
    group.close()


def case_keys_end_everywhere_by_the_leaders_word():
    group = Group(3)
    for n in group.nodes:
        n.call("SET", "short" + n.name, "x", "PX", 200)
    time.sleep(0.5)
    for n in group.nodes:
        assert n.call("GET", "short" + n.name) is None
    group.until("all are gone", lambda: all(n.call("DBSIZE") == 0 for n in group.nodes))
    group.wait_same()
    group.close()


def case_readonly_reads_here_and_says_how_old_it_may_be():
    group = Group(3)
    leader, followers = group.leader(), group.followers()
    leader.call("SET", "k", "1")
    away = followers[0]
    c = Client(away.port)
    assert c.call("READONLY", "MAXLAG", 2000) == b"OK"
    assert away.call("GET", "k") == b"1"
    assert c.call("GET", "k") == b"1"
    others = " ".join(n.address for n in group.nodes if n is not away)
    assert away.call("CONFIG", "SET", "debug-peer-block", others) == b"OK"
    leader.call("SET", "k", "2")
    time.sleep(2.5)
    got = c.call("GET", "k")
    assert isinstance(got, Error) and got.startswith(b"STALE") and b"ms old" in got, got
    assert c.call("READONLY") == b"OK"
    assert c.call("GET", "k") == b"1"
    assert c.call("READWRITE") == b"OK"
    got = c.call("GET", "k")
    assert isinstance(got, Error) and got.startswith(b"CLUSTERDOWN"), got
    got = away.call("SET", "k", "3")
    assert isinstance(got, Error) and got.startswith(b"CLUSTERDOWN"), got
    assert away.call("CONFIG", "SET", "debug-peer-block", "") == b"OK"
    group.until("it is back", lambda: c.call("GET", "k") == b"2")
    c.close()
    group.close()


def case_writes_elsewhere_may_be_refused_or_sent_on():
    group = Group(3)
    leader, follower = group.leader(), group.followers()[0]
    group.until("it knows the leader's address",
                lambda: group.member(leader, follower).get("client-address") == leader.clients)
    assert follower.call("CONFIG", "SET", "cluster-forward", "moved") == b"OK"
    got = follower.call("SET", "k", "v")
    assert got == b"REDIRECT " + leader.clients.encode(), got
    assert follower.call("CONFIG", "SET", "cluster-forward", "no") == b"OK"
    got = follower.call("SET", "k", "v")
    assert got == b"READONLY You can't write against a read only replica.", got
    assert leader.call("SET", "k", "v") == b"OK"
    assert follower.call("GET", "k") == b"v"
    role = follower.call("ROLE")
    assert role[0] == b"slave" and role[1] == b"127.0.0.1" and role[2] == leader.port, role
    assert [r[1] for r in leader.call("ROLE")[2]].sort() == [b"%d" % n.port for n in group.followers()].sort()
    group.close()


def gap_after(writers, moment):
    """Seconds from `moment` to the first acknowledgement behind it that came at least 50 ms later than it began."""
    times = sorted(t for w in writers for t in list(w.acknowledged_at) if t > moment + 0.03)
    return times[0] - moment if times else None


def case_the_leader_is_killed_under_load_and_nothing_is_lost():
    group = Group(3)
    writers = [Writer(group, i) for i in range(6)]
    gaps = []
    for w in writers:
        w.start()
    time.sleep(1)
    for _ in range(KILLS):
        leader = group.leader()
        moment = time.monotonic()
        leader.kill()
        group.until("writes go on", lambda: gap_after(writers, moment + 0.02) is not None)
        gaps.append(gap_after(writers, moment))
        time.sleep(0.3)
        leader.start()
        group.until("%s has caught up" % leader.name, lambda: leader.info()["master_link_status"] == "up"
                    if leader.info()["role"] == "slave" else True)
        time.sleep(0.5)
    finish(writers)
    group.wait_same()
    expect_kept(group, writers)
    gaps.sort()
    print("     %d acknowledged, %d without an answer; writes went on after %.0f ms (median), %.0f ms (longest) of %d"
          % (sum(len(w.acknowledged_at) for w in writers), sum(w.unanswered for w in writers),
             1000 * gaps[len(gaps) // 2], 1000 * gaps[-1], len(gaps)))
    group.close()


class Counter(threading.Thread):
    """Counts with ids, and repeats what was not answered, wherever it can."""

    def __init__(self, group, number):
        super().__init__(daemon=True)
        self.group, self.number, self.stopping, self.answers, self.repeats = group, number, False, [], 0

    def once(self, n):
        while True:
            for node in self.group.nodes[self.number % 3:] + self.group.nodes[:self.number % 3]:
                try:
                    got = node.call("KITH.REQUEST", "c%d-%d" % (self.number, n), "INCR", "counter%d" % self.number,
                                    timeout=5)
                    if isinstance(got, int):
                        return got
                except (OSError, Closed, ValueError):
                    pass
                self.repeats += 1
            time.sleep(0.02)

    def run(self):
        n = 0
        while not self.stopping:
            self.answers.append(self.once(n))
            n += 1


def case_a_request_with_an_id_counts_once_however_often_it_is_repeated():
    group = Group(3)
    counters = [Counter(group, i) for i in range(4)]
    for c in counters:
        c.start()
    for _ in range(KILLS):
        time.sleep(0.7)
        leader = group.leader()
        leader.kill()
        time.sleep(1)
        leader.start()
    finish(counters)
    for c in counters:
        assert c.answers == list(range(1, len(c.answers) + 1)), c.answers
    print("     %d requests, %d repeated" % (sum(len(c.answers) for c in counters), sum(c.repeats for c in counters)))
    group.wait_same()
    group.close()


def case_all_are_killed_at_once_and_come_back_with_everything():
    group = Group(3)
    writers = [Writer(group, i) for i in range(4)]
    for w in writers:
        w.start()
    time.sleep(1.5)
    for n in group.nodes:
        n.kill()
    for n in group.nodes:
        n.start()
    group.leader()
    time.sleep(0.5)
    finish(writers)
    group.wait_same()
    expect_kept(group, writers)
    group.close()


def case_a_paused_leader_is_replaced_and_then_follows():
    group = Group(3)
    old = group.leader()
    old.call("SET", "k", "1")
    old.pause()
    others = [n for n in group.nodes if n is not old]
    group.until("another leads", lambda: any(n.info()["role"] == "master" for n in others))
    group.until("writes go on", lambda: others[0].call("SET", "k", "2") == b"OK")
    old.resume()
    assert old.call("GET", "k") == b"2"  # never the old value: it asks whether it still leads
    group.until("it follows", lambda: old.info()["role"] == "slave")
    group.wait_same()
    group.close()


def case_leadership_moves_without_a_failed_request():
    group = Group(3, PATIENT)
    writers = [Writer(group, i) for i in range(4)]
    for w in writers:
        w.start()
    time.sleep(0.5)
    for _ in range(4):
        before = group.leader()
        for _ in range(5):  # on a busy machine a voter may not take over in time: the answer says so, and to ask again
            code, said = kith(group.followers()[0], "transfer")
            if "TRYAGAIN" not in said:
                break
        assert code == 0, said
        group.until("another leads", lambda: group.leader() is not before)
        time.sleep(0.3)
    finish(writers)
    group.wait_same()
    expect_kept(group, writers)
    expect_none_failed(group, writers)
    group.close()


def case_a_leader_that_is_told_to_stop_hands_over_first():
    group = Group(3, PATIENT)
    writers = [Writer(group, i) for i in range(4)]
    for w in writers:
        w.start()
    time.sleep(0.7)
    leader = group.leader()
    began = time.monotonic()
    assert leader.stop() == 0
    took = time.monotonic() - began
    time.sleep(0.7)
    finish(writers)
    assert took < 10, took
    assert "not handed over" not in leader.log(), leader.log()
    expect_none_failed(group, writers)
    group.wait_same()
    expect_kept(group, writers)
    group.close()


class Keeper(threading.Thread):
    """Starts what has ended, as systemd would."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.stopping, self.started = group, False, 0

    def run(self):
        while not self.stopping:
            for n in self.group.nodes:
                if not n.alive() and not self.stopping:
                    n.start(wait=False)
                    self.started += 1
            time.sleep(0.05)


def case_a_rolling_restart_fails_no_request():
    group = Group(3, PATIENT)
    writers = [Writer(group, i) for i in range(4)]
    keeper = Keeper(group)
    group.until("all know all clients' addresses",
                lambda: all(m["client-address"] for n in group.nodes for m in group.members(n)))
    for w in writers:
        w.start()
    keeper.start()
    code, said = kith(group.nodes[0], "restart")
    keeper.stopping = True
    keeper.join()
    assert code == 0, said
    assert keeper.started == 3, said
    time.sleep(0.3)
    finish(writers)
    group.wait_same()
    expect_kept(group, writers)
    expect_none_failed(group, writers)
    group.close()


def case_members_leave_come_back_and_are_replaced():
    group = Group(3)
    writers = [Writer(group, i, pause=0.001) for i in range(3)]
    for w in writers:
        w.start()
    # removed and added again, with its folder
    away = group.followers()[0]
    asked = group.leader()
    identity = group.member(away)["id"]
    code, said = kith(asked, "remove", away.address)
    assert code == 0, said
    group.until("it is gone", lambda: len(group.members(asked)) == 2)
    code, said = kith(asked, "add", identity, away.address)
    assert code == 0, said
    group.until("it has caught up", lambda: kith(asked, "promote", identity)[0] == 0)
    group.until("it is a voter", lambda: group.member(away, asked).get("role") == "voter")
    # a dead one is replaced by a new one
    dead = group.followers()[0]
    asked = group.leader()
    identity = group.member(dead, asked)["id"]
    dead.kill()
    code, said = kith(asked, "remove", identity)
    assert code == 0, said
    group.nodes.remove(dead)
    group.add("new")
    # the leader itself is to go
    leader = group.leader()
    code, said = kith(group.followers()[0], "remove", leader.address)
    assert code == 0, said
    group.nodes.remove(leader)
    assert len(group.members(group.leader())) == 2
    leader.kill()
    finish(writers)
    group.wait_same()
    expect_kept(group, writers)
    group.close()


def case_status_is_a_table():
    group = Group(3)
    code, said = kith(group.followers()[0], "status")
    assert code == 0, said
    lines = said.splitlines()
    assert len(lines) == 5 and "3 voters" in lines[0], said
    assert sum("leader" in line for line in lines[2:]) == 1, said
    group.nodes[1].kill()
    group.until("it is missed", lambda: "not reached" in kith(group.running()[0], "status")[1])
    group.close()


def main():
    global KILLS
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    KILLS = args.kills
    return cases.run(globals(), args.names)


if __name__ == "__main__":
    sys.exit(main())
