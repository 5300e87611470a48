"""An unmodified Redis in a pod, and clients that check every reply: for demos and tests."""
import json
import os
import shutil
import subprocess
import threading
import time

from hosts import build_directory

WINDOW = 128  # outstanding requests of each client
PORT = 6379


class Client:
    """A running client (move_redis/client.cc) and what it has said so far."""

    def __init__(self, name, process):
        self.name, self.process = name, process
        self.gaps, self.connected, self.result = [], threading.Event(), None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["connected"]:
                self.connected.set()
            elif words[:1] == ["gap"]:
                self.gaps.append((float(words[1]), float(words[2])))
            elif words[:1] == ["done"]:
                self.result = words
        self.connected.set()

    def longest_gap(self, begin_ms, end_ms):
        """Longest time without a reply that overlaps [begin, end]; 0: below a millisecond."""
        return max((length for start, length in list(self.gaps) if start < end_ms and start + length > begin_ms),
                   default=0.0)


class RedisUnderLoad:
    """redis-server as pod "redis" on host a, published there, with a wrapped client on each host and one outside."""

    def __init__(self, hosts, seed=1, megabytes=0, outside_address=None):
        self.hosts = hosts
        self.godwit = os.path.join(build_directory(), "godwit")
        self.stop_file = os.path.join(hosts.directory, "stop")
        self.seed = seed
        self.address = outside_address or hosts.a.address
        a, b = hosts.a, hosts.b
        redis = shutil.which("redis-server")
        a.godwit("run", "--detach", "--name", "redis", "--publish", f"{PORT}:{PORT}", "--", redis, "--port", str(PORT),
                 "--protected-mode", "no", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes")
        while a.run("redis-cli", "-h", a.address, "-p", str(PORT), "ping", check=False).stdout != "PONG\n":
            time.sleep(0.02)
        if megabytes:
            a.run("redis-cli", "-h", a.address, "-p", str(PORT), "debug", "populate", str(megabytes * 1000), "fill",
                  "1000", timeout=300)
        pipes = {"stdout": subprocess.PIPE, "text": True}
        outside = self._arguments(self.address, "bridge", 3)
        self.clients = [
            Client("local", a.popen(self.godwit, "run", "--", *self._arguments("127.0.0.1", "local", 1), **pipes)),
            Client("remote", b.popen(self.godwit, "run", "--", *self._arguments("127.0.0.1", "remote", 2), **pipes)),
            Client("bridge", subprocess.Popen(outside, **pipes) if outside_address else a.popen(*outside, **pipes)),
        ]
        for client in self.clients:
            if not client.connected.wait(30):
                raise RuntimeError(f"client {client.name} does not connect")

    def _arguments(self, address, name, number):
        return [os.path.join(build_directory(), "move_redis_client"), address, str(PORT), name,
                str(self.seed * 10 + number), str(WINDOW), self.stop_file]

    def move(self, to, **options):
        """Moves the server. returns the facts that `godwit move --json` prints; raises if it fails."""
        return json.loads(self.hosts.a.godwit("move", "redis", to, "--json", timeout=120, **options).stdout)

    def finish(self):
        """Lets the clients end. returns (operations, errors, lost, repeated, complaints)."""
        open(self.stop_file, "w").close()
        totals, complaints = [0, 0, 0, 0], []
        for client in self.clients:
            try:
                client.process.wait(30)
            except subprocess.TimeoutExpired:
                complaints.append(f"client {client.name} hears no more")
                client.process.kill()
                continue
            client.reader.join()
            if not client.result:
                complaints.append(f"client {client.name} ended early")
                continue
            if client.result[5] != "same_id=1":
                complaints.append(f"client {client.name} lost its connection")
            totals = [t + int(n) for t, n in zip(totals, client.result[1:5])]
        return (*totals, complaints)
