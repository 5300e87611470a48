"""What cannot be done is refused in one clear line with CONTRACT's exit status; the pod runs on, nobody else is disturbed."""
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
from hosts import Hosts, build_directory  # noqa: E402
from load import PORT, RedisUnderLoad  # noqa: E402

GODWIT = os.path.join(build_directory(), "godwit")
USAGE, ABSENT, REFUSED, BROKEN, NOT_FOUND = 2, 3, 4, 125, 127


class Refusals(unittest.TestCase):
    def refused(self, host, status, fragment, *words):
        """The command fails with that status and one line that says so."""
        done = host.run(GODWIT, *words, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertRegex(done.stderr, f"^godwit {words[0]}: .+; .+\n$")
        self.assertIn(fragment, done.stderr)

    def assert_undisturbed(self, load):
        operations, errors, lost, repeated, complaints = load.finish()
        self.assertEqual((errors, lost, repeated, complaints), (0, 0, 0, []))
        self.assertGreater(operations, 1000)

    def test_of_moves(self):
        with Hosts() as hosts:
            load = RedisUnderLoad(hosts)
            self.refused(hosts.a, ABSENT, "nothing", "move", "nothing", "b")
            self.refused(hosts.a, ABSENT, "no host c", "move", "redis", "c")
            self.refused(hosts.a, REFUSED, "already", "move", "redis", "a")
            self.refused(hosts.a, USAGE, "", "move", "redis")
            self.assertEqual(hosts.b.godwit("move", "redis", "b", "--dry-run").stdout, "redis can move from a to b\n")
            hosts.b.run("fallocate", "-l", self.free_bytes(hosts.b), "/dev/shm/filler")
            self.refused(hosts.a, REFUSED, "make room in /dev/shm", "move", "redis", "b")
            hosts.b.run("rm", "/dev/shm/filler")
            load.move("b")
            self.assert_undisturbed(load)

    def free_bytes(self, host):
        return host.run("df", "--output=avail", "-B1", "/dev/shm").stdout.split()[1]

    def test_of_a_program_that_the_target_does_not_have(self):
        with Hosts() as hosts:
            hosts.a.run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
            hosts.a.run("cp", shutil.which("redis-server"), "/mnt/only-here")
            hosts.a.godwit("run", "--detach", "--name", "only", "--publish", f"{PORT}:{PORT}", "--", "/mnt/only-here", "--port",
                           str(PORT), "--protected-mode", "no", "--save", "")
            pong = ("redis-cli", "-h", hosts.a.address, "-p", str(PORT), "ping")
            while hosts.a.run(*pong, check=False).stdout != "PONG\n":
                pass
            self.refused(hosts.a, REFUSED, "/mnt/only-here cannot be opened: No such file or directory; both hosts need",
                         "move", "only", "b")
            self.assertEqual(hosts.a.run(*pong).stdout, "PONG\n")

    def test_of_a_program_with_a_udp_socket(self):
        with Hosts() as hosts:
            hosts.a.godwit("run", "--detach", "--name", "udp", "--", sys.executable, "-c", HOLD_UDP)
            while hosts.a.godwit("logs", "udp").stdout != "up\n":
                pass
            for more in ((), ("--dry-run",)):
                self.refused(hosts.a, REFUSED, "is a UDP socket; pod udp stays on a", "move", "udp", "b",
                             *more)

    def test_of_a_redis_that_saves(self):
        with Hosts() as hosts:
            hosts.a.godwit("run", "--detach", "--name", "redis", "--publish", f"{PORT}:{PORT}", "--", "redis-server", "--port",
                           str(PORT), "--protected-mode", "no", "--save", "", "--dir", hosts.directory,
                           "--enable-debug-command", "yes", "--rdb-key-save-delay", "10000")

            def redis(*words):
                return hosts.a.run("redis-cli", "-h", hosts.a.address, "-p", str(PORT), *words, check=False).stdout

            while redis("ping") != "PONG\n":
                pass
            redis("debug", "populate", "50")
            self.assertEqual(redis("bgsave"), "Background saving started\n")
            hosts.a.godwit("move", "redis", "b")  # waits for the half second that it takes
            redis("debug", "populate", "3000")
            self.assertEqual(redis("bgsave"), "Background saving started\n")
            self.refused(hosts.a, REFUSED, "child processes", "move", "redis", "a")
            self.assertEqual(redis("ping"), "PONG\n")

    def test_of_runs(self):
        with Hosts() as hosts:
            self.refused(hosts.a, NOT_FOUND, "/no/such/program", "run", "--", "/no/such/program")
            taken = hosts.a.popen(sys.executable, "-c", TAKE_PORT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.assertEqual(taken.stdout.readline(), b"taken\n")
            self.refused(hosts.a, REFUSED, "7000", "run", "--publish", "7000:7000", "--", "sleep", "60")
            taken.communicate()
            self.assertEqual(hosts.a.godwit("run", "--", "echo", "alive").stdout, "alive\n")
            self.assertEqual(hosts.a.godwit("ps", "--json").stdout, "")

    def test_of_a_host_without_shared_memory(self):
        with Hosts(start_nodes=False) as hosts:
            hosts.a.run("fallocate", "-l", self.free_bytes(hosts.a), "/dev/shm/filler")
            self.refused(hosts.a, BROKEN, "/dev/shm", "run", "--", "echo", "alive")
            hosts.a.run("rm", "/dev/shm/filler")
            self.assertEqual(hosts.a.godwit("run", "--", "echo", "alive").stdout, "alive\n")

    def test_of_strangers(self):
        with Hosts() as hosts:
            load = RedisUnderLoad(hosts)
            host, port = hosts.node_address.split(":")
            garbage = hosts.a.popen(sys.executable, "-c", THROW_GARBAGE, host, port)
            load.move("b")
            stranger = os.path.join(hosts.directory, "stranger")
            os.mkdir(stranger, 0o700)
            done = hosts.b.run(GODWIT, "node", "--listen", hosts.b.address + ":0", "--join", hosts.node_address, check=False,
                               env=hosts.b.environment(GODWIT_HOME=stranger))
            self.assertEqual(done.returncode, REFUSED, done.stderr)
            self.assertIn("key", done.stderr)
            load.move("a")
            garbage.kill()
            garbage.wait()
            self.assert_undisturbed(load)


TAKE_PORT = """
import socket, sys
s = socket.create_server(("0.0.0.0", 7000))
print("taken", flush=True)
sys.stdin.read()
"""
HOLD_UDP = """
import signal, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("up", flush=True)
signal.pause()
"""
THROW_GARBAGE = """
import os, socket, sys
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
            s.sendall(os.urandom(4096))
            s.recv(1)
    except OSError: pass
"""

if __name__ == "__main__":
    unittest.main(warnings="ignore")
