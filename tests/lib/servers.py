"""Servers for the tests: kithd, and Debian's redis-server to compare with. Each gets a free port and a folder of its
own, and is ended by its process id; none outlives the test that started it."""
import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resp import Client  # noqa: E402

TREE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def build_dir():
    """The build that is tested: KITH_BUILD, or build/."""
    return os.path.abspath(os.environ.get("KITH_BUILD") or os.path.join(TREE, "build"))


def kithd_path():
    return os.path.join(build_dir(), "src", "prog", "kithd")


def kith_path():
    return os.path.join(build_dir(), "src", "prog", "kith")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server. `argv` takes the port and the folder from %(port)d and %(dir)s."""

    def __init__(self, argv, folder=None, name="server", start_seconds=30):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="kith-test-")
        self.argv, self.name, self.start_seconds = argv, name, start_seconds
        self.process = None
        self.log_path = os.path.join(tempfile.mkdtemp(prefix="kith-log-"), name + ".log")
        atexit.register(self.close)
        self.start()

    def start(self):
        for attempt in range(3):
            self.port = free_port()
            argv = [a % {"port": self.port, "dir": self.folder} for a in self.argv]
            log = open(self.log_path, "ab")
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
            log.close()
            if self.wait_ready():
                return
            # Another process may have taken the port between our look and the bind.
            self.kill()
        raise RuntimeError("%s did not start: %s\n%s" % (self.name, " ".join(argv), self.log()[-3000:]))

    def wait_ready(self):
        until = time.monotonic() + self.start_seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            try:
                c = Client(self.port, timeout=5)
                answer = c.call("PING")
                c.close()
                if answer == b"PONG" or answer.startswith(b"NOAUTH"):
                    return True
            except (OSError, Exception):  # noqa: B014 - not up yet, whatever the reason
                pass
            time.sleep(0.01)
        return False

    def client(self, **options):
        return Client(self.port, **options)

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def kill(self):
        """kill -9, and wait."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self, seconds=20):
        """SIGTERM; gives the exit status, or None where it had to be killed."""
        if not self.process or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def alive(self):
        return self.process.poll() is None

    def close(self):
        self.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(os.path.dirname(self.log_path), ignore_errors=True)


def start_kithd(*options, folder=None, durability="none", start_seconds=30):
    return Server([kithd_path(), "--port", "%(port)d", "--dir", "%(dir)s", "--durability", durability] + list(options),
                  folder=folder, name="kithd", start_seconds=start_seconds)


def start_redis(*options):
    return Server(["redis-server", "--port", "%(port)d", "--bind", "127.0.0.1", "--dir", "%(dir)s", "--save", "",
                   "--appendonly", "no"] + list(options), name="redis-server")
