"""Who may become a member, over which connections: secrets, groups, TLS, and what a refused start says."""
import os
import socket
import struct
import subprocess
import tempfile

from group import Group, Node, servers


def start_of(*options):
    """Exit status and log of a kithd that is to end by itself."""
    with tempfile.TemporaryDirectory(prefix="kith-start-") as folder:
        argv = [servers.kithd_path(), "--port", str(servers.free_port()), "--dir", os.path.join(folder, "data")]
        done = subprocess.run(argv + list(options), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, text=True)
        assert not os.path.exists(os.path.join(folder, "data")), "it has touched its folder"
        return done.returncode, done.stdout


def refused(words, *options):
    status, log = start_of(*options)
    assert status == 1 and words in log, (status, log)


def openssl(folder, *args):
    subprocess.run(["openssl"] + list(args), cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates(folder, name):
    """As docs/kithd.md says; the options for kithd."""
    ca, node = name + "-ca", name + "-node"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-days", "3650", "-subj", "/CN=kith-ca", "-keyout", ca + ".key", "-out", ca + ".pem")
    openssl(folder, "req", "-new", *key, "-subj", "/CN=node", "-keyout", node + ".key", "-out", node + ".csr")
    openssl(folder, "x509", "-req", "-in", node + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial",
            "-days", "3650", "-out", node + ".pem")
    paths = [os.path.join(folder, f) for f in (node + ".pem", node + ".key", ca + ".pem")]
    return ["--cluster-tls-cert", paths[0], "--cluster-tls-key", paths[1], "--cluster-tls-ca", paths[2]]


def case_a_start_that_cannot_be_right_is_refused_with_a_sentence():
    here = "127.0.0.1:%d" % servers.free_port()
    refused("without a secret whoever does could change all data", "--cluster-address", "10.255.255.1:7101")
    refused("without a secret", "--cluster-address", here, "--cluster-bind", "0.0.0.0:%d" % servers.free_port())
    refused("no address that others can connect to", "--cluster-address", "0.0.0.0:7101", "--cluster-secret", "s")
    refused("is no address", "--cluster-address", "7101")
    refused("join needs cluster-address", "--join", here)
    refused("both set", "--cluster-address", here, "--cluster-secret", "s", "--cluster-secret-file", "/nowhere")
    refused("cannot read cluster-secret-file /nowhere", "--cluster-address", here, "--cluster-secret-file", "/nowhere")
    refused("is empty", "--cluster-address", here, "--cluster-secret-file", "/dev/null")
    refused("all three or none", "--cluster-address", here, "--cluster-tls-ca", "/nowhere")
    refused("must remember what it has promised", "--cluster-address", here, "--memory-only")


def case_who_does_not_know_the_secret_stays_out():
    with tempfile.TemporaryDirectory(prefix="kith-secret-") as folder:
        path = os.path.join(folder, "secret")
        with open(path, "w", encoding="ascii") as f:
            f.write("open sesame\n")
        group = Group(2, ["--cluster-secret-file", path])
        member = group.nodes[0]
        here = "127.0.0.1:%d" % servers.free_port()
        refused("the secrets differ", "--cluster-address", here, "--join", member.address)
        refused("the secrets differ", "--cluster-address", here, "--join", member.address, "--cluster-secret", "sesame")
        # Not everybody who asks "of which group" is told, and nobody is shown the secret.
        assert b"sesame" not in b" ".join(member.call("CONFIG", "GET", "*"))
        assert "sesame" not in member.log()
        assert len(member.call("KITH.CLUSTER", "NODES")) == 2
        group.nodes[1].call("SET", "k", "v")
        assert member.call("GET", "k") == b"v"
        group.close()


def case_a_member_starts_again_with_join_and_another_groups_member_is_refused():
    group, other = Group(2), Group(1)
    first, second, stranger = group.nodes[0], group.nodes[1], other.nodes[0]
    assert second.stop() == 0
    second.start(join=first)
    assert "--join is not needed" in second.log()
    assert second.stop() == 0
    first_is_down = first.stop() == 0
    assert first_is_down
    second.start(join=first)  # nobody to ask: it starts all the same
    first.start()
    group.until("they are one again", lambda: first.call("SET", "k", "v") == b"OK")
    assert stranger.stop() == 0
    stranger.start(join=first, wait=False)
    assert stranger.process.wait(30) == 1
    assert "start without --join, or with an empty dir" in stranger.log()
    stranger.start()
    assert stranger.call("SET", "k", "v") == b"OK"
    assert len(first.call("KITH.CLUSTER", "NODES")) == 2
    group.close()
    other.close()


def greeting(lowest, highest):
    """The first message of somebody who speaks these versions of the peer protocol (docs/FORMAT.md)."""
    body = struct.pack("<HHBQQQ", lowest, highest, 1, 0, 77, 0) + bytes(32) + b"\0\0"
    return b"KITHPEER" + struct.pack("<BBH", 1, 0, len(body)) + body


def said_to(member, data):
    """What a member answers a stranger until it hangs up."""
    with socket.create_connection(("127.0.0.1", member.peer_port), 10) as s:
        s.sendall(data)
        got = b""
        while True:
            try:
                more = s.recv(4096)
            except ConnectionResetError:
                return got
            if not more:
                return got
            got += more


def case_who_speaks_garbage_or_another_version_is_told_off_and_logged():
    group = Group(2, ["--cluster-secret", "open sesame"])
    member = group.nodes[0]
    for data, words in ((b"GET / HTTP/1.1\r\n\r\n", "does not speak our protocol"),
                        (greeting(7, 9), "speaks versions 7 to 9 of the protocol, we 1 to 1"),
                        (greeting(1, 1) + b"KITHPEER\3\0\x20\0" + bytes(32), "the secrets differ")):
        said = said_to(member, data)
        assert b"sesame" not in said, said
        group.until("the log says '%s'" % words, lambda: words in member.log())
    assert "a peer connection from 127.0.0.1" in member.log()
    assert group.nodes[1].call("SET", "k", "v") == b"OK"
    assert len(member.call("KITH.CLUSTER", "NODES")) == 2
    group.close()


def case_a_standby_has_the_data_and_no_vote():
    group = Group(1)
    first = group.nodes[0]
    first.call("SET", "k", "v")
    standby, spare = Node(group, "standby", ["--cluster-role", "standby"]), Node(group, "spare", ["--cluster-role", "spare"])
    for node in (standby, spare):
        node.start(join=first)
        group.nodes.append(node)
    group.until("both are members", lambda: group.member(standby).get("role") == "standby" and
                group.member(spare).get("role") == "spare")
    standby_reads = lambda: standby.call("GET", "k") == b"v"  # noqa: E731
    group.until("the standby has it", standby_reads)
    spare.kill()
    standby.kill()
    assert first.call("SET", "k", "w") == b"OK"  # one voter is a majority of one
    group.close()


def case_nodes_speak_tls_and_a_foreign_certificate_stays_out():
    with tempfile.TemporaryDirectory(prefix="kith-tls-") as folder:
        ours, theirs = make_certificates(folder, "ours"), make_certificates(folder, "theirs")
        group = Group(3, ours)
        for i, node in enumerate(group.nodes):
            assert node.call("SET", "k%d" % i, "x" * 100000) == b"OK"
        group.wait_same()
        member = group.nodes[0]
        here = "127.0.0.1:%d" % servers.free_port()
        refused("TLS is required here", "--cluster-address", here, "--join", member.address)
        mixed = theirs[:4] + ours[4:]  # believes us, and is not believed
        status, log = start_of("--cluster-address", here, "--join", member.address, *mixed)
        assert status == 1 and "TLS" in log, (status, log)
        refused("does not vouch for", "--cluster-address", here, "--join", member.address, *theirs)
        assert len(member.call("KITH.CLUSTER", "NODES")) == 3
        leader = group.leader()
        leader.kill()
        rest = [n for n in group.nodes if n is not leader]
        group.until("two go on", lambda: rest[0].call("SET", "k", "v") == b"OK")
        group.close()
