#!/usr/bin/env python3
"""tests/net/watching.py [NAME ...]: the port for those who watch: /metrics, /health and /ready, what they say about one
node and about a group, and clients that are slow or silly there."""
import os
import random
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import cases  # noqa: E402
import exposition  # noqa: E402
import servers  # noqa: E402
from group import Group  # noqa: E402
from resp import Client, Error  # noqa: E402

PATIENCE_S = 30


def eventually(condition, what):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("never happened: " + what)


def exchange(port, data, host="127.0.0.1"):
    """Everything that comes back until the other side closes."""
    s = socket.create_connection((host, port), PATIENCE_S)
    got = b""
    try:
        s.sendall(data)
        while True:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece
    except ConnectionError:
        return got
    finally:
        s.close()


def get(port, path, host="127.0.0.1", method="GET"):
    """(status, fields, body), of an answer that is checked for form."""
    got = exchange(port, b"%s %s HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n" % (method.encode(), path.encode()), host)
    head, body = got.split(b"\r\n\r\n", 1)
    lines = head.decode("ascii").split("\r\n")
    version, status, _ = lines[0].split(" ", 2)
    assert version == "HTTP/1.1", lines[0]
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert len(fields) == len(lines) - 1 and fields["Connection"] == "close", lines
    assert method == "HEAD" or int(fields["Content-Length"]) == len(body), (fields, body)
    return int(status), fields, body.decode("utf-8")


def metrics(port):
    status, fields, body = get(port, "/metrics")
    assert status == 200 and fields["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", (status, fields)
    return exposition.read(body)


def value(families, name, **labels):
    return families["kith_" + name][1][tuple(sorted(labels.items()))]


def info(client):
    text = client.call("INFO", "everything").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def start(*options, durability="none"):
    port = servers.free_port()
    server = servers.start_kithd("--metrics-port", str(port), *options, durability=durability)
    return server, port


# what INFO calls it, what /metrics does, with its labels, and by how much it is multiplied
SAME = [
    ("total_commands_processed", "commands_processed_total", {}, 1), ("connected_clients", "clients", {}, 1),
    ("maxclients", "clients_max", {}, 1), ("total_connections_received", "connections_received_total", {}, 1),
    ("protocol_errors", "protocol_errors_total", {}, 1), ("auth_failures", "auth_failures_total", {}, 1),
    ("total_error_replies", "error_replies_total", {}, 1), ("entries_submitted", "entries_submitted_total", {}, 1),
    ("writes_submitted", "writes_submitted_total", {}, 1), ("turns_ended", "turns_ended_total", {}, 1),
    ("searches_at_once", "searches_at_once_total", {}, 1),
    ("reads_on_workers", "reads_on_workers_total", {}, 1), ("rejected_connections", "connections_refused_total",
                                                            {"reason": "maxclients"}, 1),
    ("keyspace_hits", "keyspace_hits_total", {}, 1), ("keyspace_misses", "keyspace_misses_total", {}, 1),
    ("expired_keys", "keys_expired_total", {}, 1), ("vector_sets", "vector_sets", {}, 1),
    ("vector_elements", "vector_elements", {}, 1), ("vectors_unlinked", "vectors_unlinked", {}, 1),
    ("raft_term", "raft_term", {}, 1), ("raft_last_index", "log_last_index", {}, 1),
    ("raft_commit_index", "log_commit_index", {}, 1), ("raft_applied_index", "log_applied_index", {}, 1),
    ("log_bytes_since_checkpoint", "log_bytes_since_checkpoint", {}, 1), ("log_syncs", "log_syncs_total", {}, 1),
    ("log_bytes_written", "log_written_bytes_total", {}, 1), ("checkpoints_done", "checkpoints_total", {}, 1),
    ("checkpoint_last_index", "checkpoint_last_index", {}, 1),
    ("checkpoint_last_bytes", "checkpoint_last_bytes", {}, 1), ("elections", "elections_total", {}, 1),
    ("leader_changes", "leader_changes_total", {}, 1), ("group_members", "group_members", {}, 1),
    ("forwarded_writes", "forwarded_writes_total", {}, 1), ("streams_sent", "streams_sent_total", {}, 1),
    ("streams_received", "streams_received_total", {}, 1), ("stream_bytes_sent", "stream_sent_bytes_total", {}, 1),
    ("stream_bytes_received", "stream_received_bytes_total", {}, 1),
    ("recovery_ms", "recovery_seconds", {}, 0.001), ("recovery_entries", "recovery_entries", {}, 1),
]


def case_figures_agree_with_info():
    server, port = start(durability="always")
    c = server.client()
    for n in range(50):
        c.call("SET", "k%d" % n, "v", *(["EX", "100"] if n % 2 else []))
    c.call("GET", "k1")
    c.call("GET", "nothing")
    c.call("GET")
    c.call("SELECT", "3")
    c.call("SET", "a", "b")
    for n in range(20):
        c.call("VADD", "set", "VALUES", "3", str(n), "1", "2", "e%d" % n)
    c.call("SAVE")
    eventually(lambda: info(c)["vectors_unlinked"] == "0", "all is linked")
    time.sleep(1.5)  # the checkpoint after linking
    eventually(lambda: info(c)["checkpoint_running"] == "0", "it has ended")
    before = info(c)
    families = metrics(port)
    for theirs, ours, labels, factor in SAME:
        got, expected = value(families, ours, **labels), float(before[theirs]) * factor
        expected += theirs == "total_commands_processed" and got == expected + 1  # the INFO itself
        assert abs(got - expected) < 1e-9, (theirs, ours, got, expected)
    assert value(families, "keys", db="0") == 50 and value(families, "keys_expiring", db="0") == 25
    assert value(families, "keys", db="3") == 2
    assert value(families, "commands_total", command="set") == 51
    assert value(families, "commands_total", command="vadd") == 20
    assert value(families, "errors_total", code="ERR") == 1
    assert value(families, "raft_role", role="leader") == 1 and value(families, "raft_role", role="follower") == 0
    assert value(families, "durability", mode="always") == 1 and value(families, "healthy") == 1
    assert value(families, "memory_resident_bytes") > 1 << 20
    assert value(families, "loop_passes_total") > 0 and value(families, "loop_longest_pass_seconds") > 0
    after = metrics(port)
    for name, (kind, series) in families.items():
        for labels, number in series.items():
            assert kind != "counter" or after[name][1][labels] >= number, "a counter fell: " + name
    assert server.stop() == 0


def case_no_port_is_open_unless_it_is_asked_for():
    server = servers.start_kithd()
    assert server.client().call("CONFIG", "GET", "metrics-port") == [b"metrics-port", b"0"]
    server.stop()


def case_a_port_that_is_taken_ends_the_start():
    import subprocess
    server, port = start()
    done = subprocess.run([servers.kithd_path(), "--memory-only", "--port", str(servers.free_port()), "--metrics-port",
                           str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_S)
    assert done.returncode == 1 and b"in use" in done.stdout and b"metrics-bind" in done.stdout, done
    server.stop()


def case_health_and_readiness_of_one_node():
    server, port = start()
    assert get(port, "/health")[::2] == (200, "ok\n")
    assert get(port, "/ready?verbose=1")[::2] == (200, "ok\n")
    assert get(port, "/health", method="HEAD")[::2] == (200, "")
    assert get(port, "/nothing")[0] == 404 and get(port, "/")[0] == 404
    c = server.client()
    assert c.call("KITH.CLUSTER", "READY") == b"OK" and c.call("KITH.CLUSTER", "HEALTH") == b"OK"
    server.stop()


def case_protected_mode_tells_others_only_whether_it_is_well():
    own = next((a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
                if not a[4][0].startswith("127.")), None)
    if not own:
        print("     (this machine has no other address: not tried)")
        return
    server, port = start("--metrics-bind", own)
    assert get(port, "/health", own)[::2] == (200, "ok\n")
    status, _, body = get(port, "/metrics", own)
    assert status == 403 and "protected" in body and "kith_" not in body, (status, body)
    assert server.client().call("CONFIG", "SET", "requirepass", "p") == b"OK"
    assert get(port, "/metrics", own)[0] == 200
    server.stop()


def case_what_is_no_request_is_refused():
    server, port = start()
    for data, status in ((b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"405"),
                         (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"), (b"GET metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
                         (b"GET /metrics HTTP/2.0\r\nHost: x\r\n\r\n", b"505"), (b"PING\r\n", b"400"),
                         (b"*1\r\n$4\r\nPING\r\n", b"400"), (b"\x16\x03\x01\x02\x00\x01\x00\n", b"400"),
                         (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000, b"431"),
                         (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", b"400"),
                         (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
                         (b"GET /health HTTP/1.0\r\n\r\n", b"200"), (b"\r\nGET http://x/health HTTP/1.1\nHost: x\n\n", b"200")):
        got = exchange(port, data)
        assert got.startswith(b"HTTP/1.1 " + status + b" "), (data, got)
        assert got.count(b"HTTP/1.1 ") == 1, got
    server.stop()


def case_slow_and_silly_clients_harm_nobody():
    server, port = start()
    c = server.client()
    rng = random.Random(11)
    idle = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(200)]
    for s in idle:
        s.setblocking(False)
    for s in idle[::3]:
        try:
            s.send(b"GET /metr")
        except OSError:
            pass  # gone already: the oldest go first
    for n in range(300):
        s = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        s.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(400))))
        if n % 2:
            s.close()
        else:
            idle.append(s)
    assert get(port, "/ready")[0] == 200
    assert c.call("SET", "a", "b") == b"OK"
    got = exchange(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * (4 << 20))
    assert got.count(b"HTTP/1.1 ") <= 1  # what is behind the head is left alone; too much of it ends the connection
    # nobody may stay
    last = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    last.sendall(b"GET /metrics HTTP/1.1\r\n")
    began = time.monotonic()
    assert last.recv(100) == b"" and time.monotonic() - began < 20
    for s in idle:
        s.close()
    assert get(port, "/health")[0] == 200
    assert server.stop() == 0


def case_many_scrapers_at_once_get_whole_answers():
    import threading
    server, port = start()
    failures = []

    def scrape():
        try:
            for _ in range(20):
                metrics(port)
        except Exception as e:  # noqa: BLE001 - told below
            failures.append(repr(e))
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]
    server.stop()


def case_a_disk_that_fails_is_not_healthy():
    """Where a limit of the file size can stand for a full disk."""
    import resource
    import subprocess
    import tempfile
    port, watch = servers.free_port(), servers.free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [servers.kithd_path(), "--dir", folder, "--port", str(port), "--metrics-port", str(watch), "--log-segment-size",
             "1mb"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
            restore_signals=False)  # SIGXFSZ stays ignored: writes fail instead
        try:
            def asked(path):
                try:
                    return get(watch, path)
                except OSError:
                    return (0, {}, "")
            eventually(lambda: asked("/ready")[0] == 200, "it is up")
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
            c = Client(port, timeout=PATIENCE_S)
            failed = False
            for n in range(64):
                if isinstance(c.call("SET", "k%d" % n, "x" * 100000), Error):
                    failed = True
                    break
            if not failed:
                print("     (the limit has no effect here: not tried)")
                return
            status, _, why = asked("/health")
            assert status == 503 and len(why) > 10, (status, why)
            assert asked("/ready")[0] == 503
            assert c.call("KITH.CLUSTER", "HEALTH").startswith(b"UNHEALTHY ")
            assert c.call("KITH.CLUSTER", "READY").startswith(b"NOTREADY ")
            assert value(metrics(watch), "healthy") == 0
        finally:
            process.kill()
            process.wait()


def watched_group(count):
    group = Group(0)
    ports = {}
    for i in range(count):
        port = servers.free_port()
        node = group.add("n%d" % i, ["--metrics-port", str(port)])
        ports[node.name] = port
    return group, ports


def lags(families, name):
    return {dict(labels)["address"]: v for labels, v in families["kith_member_" + name][1].items()}


def case_a_group_shows_how_far_each_member_is():
    group, ports = watched_group(3)
    leader, (late, well) = group.leader(), group.followers()
    families = metrics(ports[leader.name])
    assert len(families["kith_member_info"][1]) == 3
    assert set(lags(families, "lag_seconds")) == {late.address, well.address}
    assert set(lags(families, "connected").values()) == {1}
    others = metrics(ports[well.name])
    assert lags(others, "lag_seconds") == {} and value(others, "raft_role", role="follower") == 1
    assert value(others, "lag_seconds") < 5
    late.pause()
    for n in range(100):
        leader.call("SET", "k%d" % n, "x" * 1000)
    time.sleep(1)
    families = metrics(ports[leader.name])
    lines = [line for name, line in leader.info().items() if name.startswith("slave")]
    fields = {f["id"]: f for f in (dict(p.split("=", 1) for p in line.split(",")) for line in lines)}
    assert lags(families, "lag_entries")[late.address] >= 100 > lags(families, "lag_entries")[well.address]
    assert lags(families, "lag_bytes")[late.address] > 50000, lags(families, "lag_bytes")
    assert 0.9 < lags(families, "lag_seconds")[late.address] < 20, lags(families, "lag_seconds")
    assert lags(families, "lag_seconds")[well.address] < 0.9
    their = fields[leader_member(leader, late)]
    assert int(their["lag_entries"]) >= 100 and int(their["lag_bytes"]) > 50000 and int(their["lag_ms"]) > 900, their
    said = status_of(well)
    assert any("entries" in line and " KiB" in line and " ms" in line for line in said.splitlines()), said
    late.resume()
    group.until("it catches up", lambda: lags(metrics(ports[leader.name]), "lag_entries")[late.address] == 0)
    assert lags(metrics(ports[leader.name]), "lag_seconds")[late.address] == 0
    group.close()


def leader_member(leader, node):
    members = leader.call("KITH.CLUSTER", "NODES")
    for m in members:
        fields = dict(zip(m[::2], m[1::2]))
        if fields[b"address"].decode() == node.address:
            return fields[b"id"].decode()
    raise AssertionError("no such member")


def status_of(node):
    import subprocess
    return subprocess.run([servers.kith_path(), "cluster", "status", "-p", str(node.port)], stdout=subprocess.PIPE,
                          check=True).stdout.decode()


def case_who_has_no_leader_is_healthy_and_not_ready():
    group, ports = watched_group(3)
    leader, followers = group.leader(), group.followers()
    for n in group.nodes:
        assert get(ports[n.name], "/ready")[0] == 200
    leader.kill()
    followers[0].kill()
    left = followers[1]
    group.until("it knows of no leader", lambda: get(ports[left.name], "/ready")[0] == 503)
    status, _, why = get(ports[left.name], "/ready")
    assert "leader" in why, why
    assert get(ports[left.name], "/health")[0] == 200
    assert left.call("KITH.CLUSTER", "READY").startswith(b"NOTREADY ")
    leader.start()
    group.until("it is ready again", lambda: get(ports[left.name], "/ready")[0] == 200)
    group.close()


def case_who_is_far_behind_is_not_ready():
    group, ports = watched_group(3)
    late = group.followers()[0]
    assert late.call("CONFIG", "SET", "metrics-ready-lag-ms", "1") == b"OK"
    leader = group.leader()
    until = time.monotonic() + PATIENCE_S
    while get(ports[late.name], "/ready")[0] == 200:  # within a heartbeat or two its age is more than 1 ms
        assert time.monotonic() < until, "always within a millisecond"
    assert late.call("CONFIG", "SET", "metrics-ready-lag-ms", "0") == b"OK"
    assert get(ports[late.name], "/ready")[0] == 200
    assert get(ports[leader.name], "/ready")[0] == 200
    group.close()


if __name__ == "__main__":
    sys.exit(cases.run(globals(), sys.argv[1:]))
