"""A network of its own for each node: namespaces joined by a bridge, and ways between them that can be cut, one by one.

All of it lies in a namespace of network, mounts and processes that `enter` makes for the whole test, so that nothing is
left of it however the test ends. Every node knows the others' hardware addresses by heart (no ARP). A way is cut by
giving its sender a wrong one: packets leave, and nobody takes them in; the way back is not touched, and neither side
is told. It takes no packet filter, and works on kernels that have none."""
import os
import subprocess
import sys

INSIDE = "TEST_NAMESPACE"
BRIDGE_HOST = "10.77.0.254"
NOWHERE = "02:00:00:00:ff:ff"


class NotPermitted(Exception):
    """This machine or user may not do it; the text says what."""


def run(*argv, text=None):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, input=text)
    if done.returncode:
        raise AssertionError("%s: %s" % (" ".join(argv), done.stdout.strip()))
    return done.stdout


def enter(only_look=False):
    """Runs this program again, inside; returns there. Raises NotPermitted where that cannot be."""
    if os.environ.get(INSIDE):
        return
    for program in ("unshare", "ip"):
        if not any(os.access(os.path.join(p, program), os.X_OK) for p in os.get_exec_path() + ["/sbin", "/usr/sbin"]):
            raise NotPermitted("there is no program '%s' (Debian: util-linux, iproute2)" % program)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    way = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        way += ["--user", "--map-root-user"]
    try:
        run(*way, "sh", "-c", "mount -t tmpfs none /run && mkdir /run/netns && ip netns add a && "
            "ip link add name br type bridge && ip link add u type veth peer name v")
    except AssertionError as trouble:
        raise NotPermitted(str(trouble).rsplit("v: ", 1)[-1]) from None
    if only_look:
        return
    os.environ[INSIDE] = "yes"
    sys.stdout.flush()
    os.execvp("unshare", way + [sys.executable] + sys.argv)


def host_of(i):
    return "10.77.0.%d" % (i + 1)


def hardware_of(i):
    return "02:00:00:00:00:%02x" % (i + 1)


class Network:
    def __init__(self):
        run("mount", "-t", "tmpfs", "none", "/run")
        os.makedirs("/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "name", "bridge", "type", "bridge")
        run("ip", "addr", "add", BRIDGE_HOST + "/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        self.count = 0
        self.has_netem = None

    def add(self):
        """One more node's namespace; the words that a command in it begins with."""
        i, name = self.count, "n%d" % self.count
        run("ip", "netns", "add", name)
        run("ip", "link", "add", "to%d" % i, "type", "veth", "peer", "name", "eth", "netns", name)
        run("ip", "link", "set", "to%d" % i, "master", "bridge", "up")
        run("ip", "-n", name, "-batch", "-", text="link set lo up\nlink set eth address %s\n"
            "addr add %s/24 dev eth\nlink set eth up\n" % (hardware_of(i), host_of(i)))
        self.count += 1
        self.mend()
        return ["ip", "netns", "exec", name]

    def point(self, i, targets):
        """In node i, where packets to each node j of targets go: {j: hardware address}."""
        run("ip", "-n", "n%d" % i, "-batch", "-", text="".join(
            "neigh replace %s lladdr %s dev eth nud permanent\n" % (host_of(j), to) for j, to in targets.items()))

    def cut(self, ways):
        """Nothing gets from i to j, for each (i, j)."""
        for i in {i for i, _ in ways}:
            self.point(i, {j: NOWHERE for k, j in ways if k == i})

    def mend(self):
        """All ways between nodes are open, and to the clients."""
        for i in range(self.count):
            self.point(i, {j: hardware_of(j) for j in range(self.count) if j != i})
            run("ip", "link", "set", "to%d" % i, "up")

    def unplug(self, i):
        """Nor can clients reach it."""
        run("ip", "link", "set", "to%d" % i, "down")

    def weather(self, i, delay_ms, loss_percent):
        """What leaves node i is late and lost, by the kernel; False where it cannot (no sch_netem)."""
        if self.has_netem is False:
            return False
        what = ["delay", "%dms" % delay_ms, "loss", "%d%%" % loss_percent] if delay_ms or loss_percent else []
        try:
            if what:
                run("tc", "-n", "n%d" % i, "qdisc", "replace", "dev", "eth", "root", "netem", *what)
            else:
                run("tc", "-n", "n%d" % i, "qdisc", "del", "dev", "eth", "root")
            self.has_netem = True
        except AssertionError:
            self.has_netem = False
        return self.has_netem


class SmallDisk:
    """A file system of its own that can be filled: ext4 in a file where loop devices may be used, else a tmpfs."""

    def __init__(self, path, megabytes):
        self.path, self.ballast = path, os.path.join(path, "ballast")
        os.makedirs(path, exist_ok=True)
        image = path + ".ext4"
        try:
            with open(image, "wb") as f:
                f.truncate(megabytes << 20)
            run("mkfs.ext4", "-q", "-F", "-m", "0", image)
            run("mount", "-o", "loop", image, path)
            self.kind = "ext4"
        except (AssertionError, OSError):
            os.remove(image)
            run("mount", "-t", "tmpfs", "-o", "size=%dm" % megabytes, "none", path)
            self.kind = "tmpfs"

    def fill(self):
        """Until there is no byte left."""
        room = 64 << 20
        with open(self.ballast, "ab") as f:
            while room >= 512:
                try:
                    os.posix_fallocate(f.fileno(), f.seek(0, os.SEEK_END), room)
                except OSError:
                    room //= 2

    def free(self):
        if os.path.exists(self.ballast):
            os.remove(self.ballast)

    def close(self):
        run("umount", "--lazy", self.path)
