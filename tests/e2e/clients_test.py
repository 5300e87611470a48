#!/usr/bin/env python3
"""Remote clients of a host: keys, rights, an audit log; clients and nodes that are killed; clients that mean harm.

usage: clients_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv[1]
sys.path[:0] = [os.path.join(SOURCE, "demos", "support"), os.path.join(SOURCE, "tests", "support")]
import hosts as hosts_module  # noqa: E402
import zmq  # noqa: E402
from remote_client import ANY, Client, Over, Refused, read_key, template  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
DONE, USAGE, REFUSED = 0, 2, 4
EACCES, EBADMSG, ENOBUFS = 13, 74, 105
ANY_A = template("a", ANY)


class Clients(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="godwit-clients-")
        self.environment = {**os.environ, "GODWIT_HOME": self.home.name}
        self.addCleanup(self.home.cleanup)
        self.addCleanup(lambda: self.godwit("node", "--stop", "--discard"))
        self.gives("node", "--clients", "127.0.0.1:0")

    def godwit(self, *words):
        done = subprocess.run([GODWIT, *words], env=self.environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def gives(self, *words, status=DONE):
        done, out, error = self.godwit(*words)
        self.assertEqual(done, status, error)
        return out

    def key(self, name, *options):
        return read_key(self.gives("keygen", name, *options))

    def client(self, key):
        client = Client(key)
        self.addCleanup(client.close)
        return client

    def path(self, name):
        return os.path.join(self.home.name, name)

    def audit(self):
        with open(self.path("audit.log")) as file:
            return [line.split(" ", 3)[1:] for line in file.read().splitlines()]

    def until_there(self, count, wanted):
        while self.gives("count", wanted) != f"{count}\n":
            pass

    def kill_node(self):
        with open(self.path("node.pid")) as file:
            pid = int(file.read())
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select_poll = zmq.Poller()
        select_poll.register(process, zmq.POLLIN)
        select_poll.poll(60000)
        os.close(process)

    # ---- keys

    def test_a_key_is_made_listed_and_revoked(self):
        self.assertEqual(self.godwit("keygen")[0], USAGE)
        self.assertEqual(self.godwit("keygen", "a", "--space", "bag=steal")[0], USAGE)
        output = self.path("alice.key")
        self.assertEqual(self.gives("keygen", "alice", "--space", "bag=read,put", "--space", "*=read", "--manage", "--rate", "10K", "--output", output), "")
        with open(output) as file:
            key = read_key(file.read())
        self.assertEqual(stat.S_IMODE(os.stat(output).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("clients/alice")).st_mode), 0o600)
        with open(self.path("clients/alice")) as file:
            self.assertNotIn(key["secret"], file.read())
        self.assertEqual(self.godwit("keygen", "alice")[0], REFUSED)
        row = json.loads(self.gives("keygen", "--list", "--json"))
        self.assertEqual((row["client"], row["public"], row["spaces"], row["manage"], row["rate"], row["waiters"]),
                         ("alice", key["public"], {"*": "read", "bag": "read,put"}, True, 10240, 1000))
        address = json.loads(self.gives("hosts", "--json"))["clients"]
        self.assertEqual(address, key["address"])
        alice = self.client(key)
        self.assertIsNone(alice.ask("create", "bag", {"capacity": None, "blocks": False}))
        self.assertTrue(alice.ask("out", "bag", [["a", 1]], None, 0))
        with self.assertRaises(Refused) as refused:
            alice.ask("in", "bag", ANY_A, 0)
        self.assertEqual(refused.exception.args[0], EACCES)
        self.gives("keygen", "--revoke", "alice")
        self.assertEqual(self.godwit("keygen", "--revoke", "alice")[0], REFUSED)
        with self.assertRaises(Over):
            while True:
                alice.hear(1000)
        self.key("alice")  # another key
        self.refused(key)
        events = self.audit()
        for event in (["alice", "accepted", "from 127.0.0.1"], ["alice", "create", "bag"], ["alice", "denied", "bag take"]):
            self.assertIn(event, events)
        self.assertTrue(any(event[:2] == ["-", "refused"] and key["public"] in event[2] for event in events))

    def refused(self, key):
        """Nobody lets this key in."""
        stranger = Client(key)
        monitor = stranger.dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        stranger.dealer.connect("tcp://" + key["address"])  # the first one may have failed before anybody heard of it
        event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
        self.assertNotEqual(event, zmq.EVENT_HANDSHAKE_SUCCEEDED)
        stranger.dealer.disable_monitor()
        stranger.close()

    def test_strangers_get_nothing(self):
        known = self.key("known")
        public, secret = (part.decode() for part in zmq.curve_keypair())
        self.refused({**known, "public": public, "secret": secret})
        self.refused({**known, "server": public})
        self.assertEqual(stat.S_IMODE(os.stat(self.home.name).st_mode), 0o700)

    def test_the_rights_are_a_file_that_may_be_changed(self):
        client = self.client(self.key("alice", "--space", "default=read"))
        with self.assertRaises(Refused):
            client.ask("out", "default", [["a", 1]], None, 0)
        with open(self.path("clients/alice"), "a") as file:
            file.write("space default read,put\n")
        while True:
            try:
                client.ask("out", "default", [["a", 1]], None, 0)
                break
            except Refused:
                pass
        with open(self.path("clients/bob"), "w") as file:
            file.write("public x\nsteal all\n")
        status, _, error = self.godwit("keygen", "--list")
        self.assertEqual(status, REFUSED)
        self.assertIn("client bob, line 2: 'steal' is unknown", error)

    # ---- what dies

    def test_a_killed_client_gives_back_what_it_had_taken(self):
        self.gives("out", '("a", 1)')
        self.key("alice", "--output", self.path("alice.key"))
        program = ("import sys; sys.path[:0] = [sys.argv[1]]\n"
                   "from remote_client import *\n"
                   "client = Client(read_key(open(sys.argv[2]).read()))\n"
                   "print(client.ask('in', 'default', template('a', ANY), None), flush=True)\n"
                   "client.dealer.poll()")
        process = subprocess.Popen([sys.executable, "-c", program, os.path.join(SOURCE, "tests", "support"), self.path("alice.key")],
                                   stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "['a', 1]\n")
        self.assertEqual(self.gives("count", '("a", ?)'), "0\n")
        process.kill()
        process.communicate()
        self.until_there(1, '("a", ?)')

    def test_nothing_is_lost_or_doubled_when_the_node_is_killed(self):
        client = self.client(self.key("alice"))
        waits = client.begin(["in", "default", template("later", ANY), None])[0]
        for i in range(10):
            client.begin(*[["out", "default", [["a", 10 * i + j]], None, 0] for j in range(10)])
            if i % 4 == 3:
                self.kill_node()
                self.gives("node")
        while len(client.open) > 1:
            client.hear(1000) or client.resend()
        self.gives("out", '("later", 1)')
        self.assertEqual(client.answer(waits), ["later", 1])
        self.assertEqual([client.ask("in", "default", ANY_A, 0)[1] for _ in range(100)], list(range(100)))
        self.assertEqual(self.gives("count", "(?, ?)"), "0\n")

    def test_a_node_that_left_serves_its_clients_where_it_did(self):
        client = self.client(self.key("alice"))
        client.ask("out", "default", [["a", 1]], None, 0)
        waits = client.begin(["in", "default", template("later"), None])[0]
        client.hear(1000)
        self.gives("node", "--stop")
        self.gives("out", '("later")')
        self.assertEqual(client.answer(waits), ["later"])

    # ---- who means harm

    def test_ten_thousand_connections_and_garbage_keep_nobody_from_the_spaces(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        client = self.client(self.key("alice"))
        client.ask("out", "default", [["a", 0]], None, 0)
        host, port = client.key["address"].split(":")
        crowd = []
        self.addCleanup(lambda: [one.close() for one in crowd])
        for i in range(min(10_000, hard - 500)):
            one = socket.create_connection((host, int(port)))
            one.setblocking(False)
            if i % 3:
                try:
                    one.send(os.urandom(100) if i % 3 == 1 else b"\xff\0\0\0\0\0\0\0\1\x7f")
                except OSError:
                    pass
            crowd.append(one)
            if i % 500 == 0:
                self.assertTrue(client.ask("out", "default", [["a", i]], None, 0))
        self.assertTrue(client.ask("out", "default", [["a", 1]], None, 0))
        other = self.client(self.key("bob"))
        self.assertTrue(other.ask("out", "default", [["b", 1]], None, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_who_does_not_read_is_limited_and_others_are_served(self):
        slow, other = self.client(self.key("slow", "--memory", "1M")), self.client(self.key("other"))
        other.ask("out", "default", [["a", "x" * 100_000]], None, 0)
        for _ in range(400):
            slow.begin(["rd", "default", ANY_A, 0])  # its answers are not read
        self.assertEqual(other.ask("count", "default", ANY_A), 1)
        while slow.open:
            slow.hear(1000) or slow.resend()
        codes = {error and error[0] for error, _ in slow.answers.values()}
        self.assertLessEqual(codes, {None, ENOBUFS})

    def test_what_is_too_large_ends_the_connection_and_no_other(self):
        huge, other = self.client(self.key("huge")), self.client(self.key("other"))
        huge.ask("count", "default", ANY_A)
        huge.send(b"x" * (17 << 20))
        self.assertEqual(other.ask("count", "default", ANY_A), 0)
        self.assertEqual(huge.ask("count", "default", ANY_A), 0)
        huge.send(b"\x93" * 1000)
        with self.assertRaises(Over) as over:
            huge.ask("count", "default", ANY_A)
        self.assertEqual(over.exception.args[0][0], EBADMSG)
        self.assertIn(["huge", "garbage"], [event[:2] for event in self.audit()])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
