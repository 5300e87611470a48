"""Input, output, signals and exit status of a foreground `godwit run` follow its pod, and so does the log."""
import os
import shutil
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
from hosts import Hosts, build_directory  # noqa: E402
from node_test import kill_node, restart_node, wait_for_death  # noqa: E402

GODWIT = os.path.join(build_directory(), "godwit")
PATIENCE = 60

# Says each signal on stderr; ends with status 7 at the end of its input, whose lines it counts.
COUNTER = """
import signal, sys
def said(number, frame): print("signal", number, file=sys.stderr, flush=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH): signal.signal(number, said)
print("up", flush=True)
count = 0
while line := sys.stdin.readline():
    count += 1
    print(count, line, end="", flush=True)
print("lines", count, flush=True)
sys.exit(7)
"""

NONBLOCKING = """
import os, select
os.set_blocking(0, False)
print("up", flush=True)
select.select([0], [], [])
print(os.get_blocking(0))
"""

# Reads when it is told to by SIGTERM.
LATE_READER = """
import select, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
end = select.poll()
end.register(0, 0)
end.poll()
print("ended", flush=True)
signal.sigwait({signal.SIGTERM})
print(sys.stdin.read(), end="")
"""

# Writes as fast as it can what can be told apart byte for byte.
WRITER = """
import sys
for number in range(int(sys.argv[1])): sys.stdout.write("%09d\\n" % number)
sys.stdout.flush()
sys.stdin.read()
"""


def numbers(count):
    return b"".join(b"%09d\n" % number for number in range(count))


class Foreground:
    """`godwit run` on a host, and all that it has written so far."""

    def __init__(self, host, *words, name="pod"):
        self.process = host.popen(GODWIT, "run", "--name", name, "--", *words, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = {1: [], 2: []}
        self.news = threading.Condition()
        self.readers = []

    def read(self):
        for stream, pipe in ((1, self.process.stdout), (2, self.process.stderr)):
            self.readers.append(threading.Thread(target=self._read, args=(stream, pipe), daemon=True))
            self.readers[-1].start()
        return self

    def _read(self, stream, pipe):
        for line in pipe:
            with self.news:
                self.lines[stream].append(line)
                self.news.notify_all()

    def wait_for(self, line, stream=1):
        with self.news:
            if not self.news.wait_for(lambda: line in self.lines[stream], PATIENCE):
                raise AssertionError(f"{line} does not come; the last: {self.lines[stream][-3:]}")

    def write(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def signal(self, host, number):
        """nsenter, which we have started, does not pass signals on: its child is `godwit run`."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
            os.kill(int(children.read().split()[0]), number)

    def end(self):
        """Closes its stdin and waits. returns its status and its two outputs."""
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        for reader in self.readers:
            reader.join(PATIENCE)
        return status, b"".join(self.lines[1]), b"".join(self.lines[2])


class Follow(unittest.TestCase):
    def setUp(self):
        self.hosts = self.enterContext(Hosts())
        self.a, self.b = self.hosts.a, self.hosts.b

    def move(self, to):
        self.a.godwit("move", "pod", to, timeout=PATIENCE)

    def logs(self, host):
        return host.godwit("logs", "pod").stdout.encode()

    def test_what_flows_through_a_moving_program_is_exact(self):
        foreground = Foreground(self.a, "cat").read()
        lines = 200_000

        def feed():
            for at in range(0, lines, 100):
                foreground.write(b"".join(b"%09d\n" % number for number in range(at, at + 100)))

        feeder = threading.Thread(target=feed)
        feeder.start()
        foreground.wait_for(b"%09d\n" % 0)
        for to in "bababa":
            self.move(to)
        feeder.join()
        self.assertEqual(foreground.end(), (0, numbers(lines), b""))

    def test_input_signals_and_status_on_the_other_host(self):
        foreground = Foreground(self.a, sys.executable, "-c", COUNTER).read()
        foreground.wait_for(b"up\n")
        foreground.write(b"one\n")
        foreground.wait_for(b"1 one\n")
        self.move("b")
        foreground.write(b"two\n")
        foreground.wait_for(b"2 two\n")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH):
            foreground.signal(self.a, number)
            foreground.wait_for(b"signal %d\n" % number, stream=2)
        status, out, _ = foreground.end()
        self.assertEqual((status, out), (7, b"up\n1 one\n2 two\nlines 2\n"))

    def test_home_again(self):
        foreground = Foreground(self.a, sys.executable, "-c", COUNTER).read()
        foreground.wait_for(b"up\n")
        self.move("b")
        self.move("a")
        foreground.signal(self.a, signal.SIGTERM)
        foreground.wait_for(b"signal 15\n", stream=2)
        foreground.write(b"one\n")
        self.assertEqual(foreground.end(), (7, b"up\n1 one\nlines 1\n", b"signal 15\n"))

    def test_stdin_that_does_not_block_stays_so(self):
        foreground = Foreground(self.a, sys.executable, "-c", NONBLOCKING).read()
        foreground.wait_for(b"up\n")
        self.move("b")
        self.move("a")
        self.assertEqual(foreground.end(), (0, b"up\nFalse\n", b""))

    def test_input_that_has_ended_unread(self):
        foreground = Foreground(self.a, sys.executable, "-c", LATE_READER).read()
        foreground.write(b"unread\n")
        foreground.process.stdin.close()
        foreground.wait_for(b"ended\n")
        self.move("b")
        self.move("a")
        foreground.signal(self.a, signal.SIGTERM)
        self.assertEqual(foreground.end(), (0, b"ended\nunread\n", b""))

    def test_a_program_that_is_killed_elsewhere(self):
        foreground = Foreground(self.a, "cat").read()
        foreground.write(b"here\n")
        foreground.wait_for(b"here\n")
        self.move("b")
        self.b.godwit("kill", "pod")
        self.assertEqual(foreground.end(), (128 + signal.SIGKILL, b"here\n", b""))

    def test_a_foreground_that_does_not_read_holds_the_program_up(self):
        count = 1_000_000
        foreground = Foreground(self.a, sys.executable, "-c", WRITER, str(count))
        first = foreground.process.stdout.readline()
        for to in "bab":
            self.move(to)
            self.assertLess(len(self.logs(self.a)), 4 << 20)
        foreground.read()
        status, rest, err = foreground.end()
        self.assertEqual((status, err), (0, b""))
        self.assertTrue(first + rest == numbers(count), f"{len(rest)} bytes, not the same")

    def test_the_log_moves_along(self):
        count = 300_000
        self.a.godwit("run", "--detach", "--name", "pod", "--", sys.executable, "-c", WRITER, str(count))
        follower = self.b.popen(GODWIT, "logs", "-f", "pod", stdout=subprocess.PIPE)
        for to in "bab":
            self.move(to)
        got = follower.stdout.read(len(numbers(count)))
        self.assertTrue(got == numbers(count), f"{len(got)} bytes, not the same")
        for host in (self.a, self.b):
            self.assertTrue(self.logs(host) == numbers(count))
        self.a.godwit("kill", "pod")
        self.assertEqual((follower.wait(PATIENCE), follower.stdout.read()), (0, b""))
        follower.stdout.close()

    def test_the_conversation_outlives_the_nodes(self):
        foreground = Foreground(self.a, "cat").read()
        foreground.write(b"here\n")
        foreground.wait_for(b"here\n")
        self.move("b")
        for number, host in enumerate((self.a, self.b, self.a)):
            kill_node(host)
            line = b"%d\n" % number
            foreground.write(line)
            restart_node(self.hosts, host)
            foreground.wait_for(line)
        self.move("a")
        foreground.write(b"home\n")
        self.assertEqual(foreground.end(), (0, b"here\n0\n1\n2\nhome\n", b""))

    def test_a_foreground_that_is_killed_leaves_its_pod(self):
        foreground = Foreground(self.a, sys.executable, "-c", WRITER, "5000000")
        foreground.process.stdout.readline()
        self.move("b")
        foreground.signal(self.a, signal.SIGKILL)
        foreground.process.wait(PATIENCE)
        last = b"%09d\n" % 4_999_999
        follower = self.a.popen(GODWIT, "logs", "-f", "pod", stdout=subprocess.PIPE)
        self.assertIn(last, iter(follower.stdout.readline, b""))
        self.a.godwit("kill", "pod")
        self.assertEqual(follower.wait(PATIENCE), 0)
        follower.stdout.close()


class Failures(unittest.TestCase):
    """A node is told to fail or to die at a point of the first move."""

    def attempt(self, victim, fault):
        hosts = self.enterContext(Hosts(start_nodes=False))
        for host in (hosts.a, hosts.b):
            join = []
            if host is hosts.b:
                shutil.copy(os.path.join(hosts.a.home, "community.key"), hosts.b.home)
                join = ["--join", hosts.node_address]
            hosts.start_node(host, *join, env=host.environment(**({"GODWIT_FAULT": fault} if host.name == victim else {})))
        foreground = Foreground(hosts.a, "cat").read()
        foreground.write(b"before\n")
        foreground.wait_for(b"before\n")
        mover = hosts.a if victim == "b" else hosts.b
        move = mover.popen(GODWIT, "move", "pod", "b", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        foreground.write(b"while\n")
        return hosts, foreground, move

    def test_a_move_that_fails_leaves_the_conversation_as_it_was(self):
        for victim, fault in (("a", "move.source.handed_over:error"), ("a", "move.source.committing:error"),
                              ("b", "move.target.complete:error")):
            with self.subTest(fault):
                _, foreground, move = self.attempt(victim, fault)
                move.wait(PATIENCE)
                foreground.write(b"after\n")
                self.assertEqual(foreground.end(), (0, b"before\nwhile\nafter\n", b""))

    def test_a_node_that_dies_in_a_move(self):
        for victim, fault in (("a", "move.source.sent_final"), ("a", "move.source.committed"),
                              ("a", "move.source.given_up"), ("b", "move.target.ready"),
                              ("b", "move.target.committed"), ("b", "move.target.resumed")):
            with self.subTest(fault):
                hosts, foreground, move = self.attempt(victim, fault)
                host = getattr(hosts, victim)
                wait_for_death(host)
                restart_node(hosts, host)
                foreground.write(b"after\n")
                foreground.wait_for(b"after\n")
                self.assertEqual(foreground.end(), (0, b"before\nwhile\nafter\n", b""))


if __name__ == "__main__":
    unittest.main()
