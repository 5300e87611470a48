"""Hosts for demos and tests, made on this machine and removed again.

A host is a network namespace with an address of its own on a veth link, PID, IPC and mount namespaces, its own
GODWIT_HOME and its own /dev/shm. Only program files are shared; nothing passes between two hosts but packets.
Works as root, and without where user namespaces are allowed; then Hosts is made before the first thread.
"""
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000

# Process 1 of a host: reaps what is left to it.
_INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
"""


def _become_root():
    """Without root: root of a user namespace of our own, which then owns all hosts and their link."""
    if os.geteuid() == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise RuntimeError("cannot make hosts: user namespaces are not allowed here; run this as root")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as f:
            f.write(text)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def build_directory():
    """Where the executables are: $GODWIT_BUILD, or build/release of this tree."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.environ.get("GODWIT_BUILD", os.path.join(root, "build", "release"))


class Host:
    """One host. Everything started in it dies with it."""

    def __init__(self, name, directory):
        self.name = name
        self.home = os.path.join(directory, name)
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        self.address = None
        script = f"mount -t tmpfs -o size=4g tmpfs /dev/shm && ip link set lo up && echo up && exec {sys.executable} -c '{_INIT}'"
        self.root = subprocess.Popen(
            ["unshare", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=_die_with_parent)
        if self.root.stdout.readline() != b"up\n":
            raise RuntimeError("cannot make a host: namespaces are not allowed here")
        children = f"/proc/{self.root.pid}/task/{self.root.pid}/children"
        with open(children) as f:
            self.init = int(f.read().split()[0])
        self.init_ends = os.pidfd_open(self.init)

    def _command(self, words):
        return ["nsenter", "--target", str(self.init), "--net", "--ipc", "--mount", "--pid", "--", *words]

    def environment(self, **more):
        return {**os.environ, "GODWIT_HOME": self.home, **more}

    def popen(self, *words, env=None, **options):
        """Starts a program in the host."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self._command(words), env=env or self.environment(),
                                preexec_fn=_die_with_parent, **options)

    def run(self, *words, check=True, timeout=60, **options):
        """Runs a program in the host to its end. returns its output."""
        process = self.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise RuntimeError(f"{self.name}: {' '.join(words)}: no end in {timeout} s: {err.strip()}")
        if check and process.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(words)}: status {process.returncode}: {err.strip()}")
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def godwit(self, *words, **options):
        return self.run(os.path.join(build_directory(), "godwit"), *words, **options)

    def kill(self):
        """The power goes. Returns when the last process of the host has ended."""
        self.root.kill()
        self.root.wait()
        if self.init_ends is not None:
            select.select([self.init_ends], [], [], 30)
            os.close(self.init_ends)
            self.init_ends = None


class Hosts:
    """Two hosts a and b with a link between them; a context manager. One community, a being its first node."""

    def __init__(self, start_nodes=True):
        self.outside_is_ours = os.geteuid() == 0
        _become_root()
        self.directory = tempfile.mkdtemp(prefix="godwit-hosts-")
        self.start_nodes = start_nodes
        self.outside = None  # a network namespace of its own, for programs outside the community

    def __enter__(self):
        try:
            self.a = Host("a", self.directory)
            self.b = Host("b", self.directory)
            self._link()
            if self.start_nodes:
                self._community()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _link(self):
        a, b = self.a, self.b
        a.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        self._move_link("eth1", b)
        for host, device, address in ((a, "eth0", "10.77.0.1"), (b, "eth1", "10.77.0.2")):
            host.address = address
            host.run("ip", "address", "add", address + "/24", "dev", device)
            host.run("ip", "link", "set", device, "up")

    def _move_link(self, device, to):
        subprocess.run(["nsenter", "--target", str(self.a.init), "--net", "--",
                        "ip", "link", "set", device, "netns", str(to.init)], check=True)

    def link_outside(self):
        """Gives host a an address that the network namespace of this process reaches; returns it, or None without root."""
        if not self.outside_is_ours:
            return None
        n = os.getpid()
        near, far = (f"10.{200 + n % 40}.{n // 40 % 256}.{last}" for last in (1, 2))
        device = f"gw{n}"
        subprocess.run(["ip", "link", "add", device, "type", "veth", "peer", "name", "eth9",
                        "netns", str(self.a.init)], check=True)
        subprocess.run(["ip", "address", "add", near + "/30", "dev", device], check=True)
        subprocess.run(["ip", "link", "set", device, "up"], check=True)
        self.a.run("ip", "address", "add", far + "/30", "dev", "eth9")
        self.a.run("ip", "link", "set", "eth9", "up")
        return far

    def _community(self):
        self.start_node(self.a)
        shutil.copy(os.path.join(self.a.home, "community.key"), os.path.join(self.b.home, "community.key"))
        self.start_node(self.b, "--join", self.node_address)

    def start_node(self, host, *more, env=None):
        """Starts the host's node; returns the address it says."""
        words = ["node", "--host-name", host.name, "--listen", host.address + ":0", *more]
        out = host.godwit(*words, env=env).stdout
        ready = [line for line in out.splitlines() if line.startswith("ready ")][0]
        if host is self.a:
            self.node_address = ready.split()[2]
        return ready.split()[2]

    def __exit__(self, *_):
        for host in (getattr(self, "a", None), getattr(self, "b", None)):
            if host:
                host.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
