#!/usr/bin/env python3
"""Durable spaces: a host whose processes are killed and whose memory is lost.

usage: durable_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv[1]
sys.path[:0] = [os.path.join(SOURCE, "demos", "support"), os.path.join(SOURCE, "tests", "support")]
import hosts as hosts_module  # noqa: E402
from remote_client import ANY, Client, read_key, template  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
DONE, ABSENT, REFUSED, BROKEN = 0, 1, 4, 125


class Durable(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="godwit-durable-")
        self.environment = {**os.environ, "GODWIT_HOME": self.home.name}
        self.addCleanup(self.home.cleanup)
        self.addCleanup(lambda: self.godwit("node", "--stop", "--discard"))
        self.gives("node", "--clients", "127.0.0.1:0")
        self.gives("spaces", "--create", "bag", "--durable")

    def godwit(self, *words, text=None):
        done = subprocess.run([GODWIT, *words], env=self.environment, capture_output=True, text=True, timeout=60, input=text)
        return done.returncode, done.stdout, done.stderr

    def gives(self, *words, status=DONE, text=None):
        done, out, error = self.godwit(*words, text=text)
        self.assertEqual(done, status, error)
        return out

    def path(self, name):
        return os.path.join(self.home.name, name)

    def kill_node(self):
        with open(self.path("node.pid")) as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/maps") as file:
            self.segment = re.search(r"/dev/shm/godwit\S*", file.read()).group()
        node = os.pidfd_open(pid)
        signal.pidfd_send_signal(node, signal.SIGKILL)
        select.select([node], [], [])  # it is not our child
        os.close(node)

    def lose_host(self):
        self.kill_node()
        os.unlink(self.segment)

    def test_what_was_done_is_there_after_the_host_is_lost(self):
        self.gives("out", '("a", 1)', '("a", 2)', '("a", 3)', "--space", "bag")
        self.assertEqual(self.gives("inp", '("a", 2)', "--space", "bag"), '("a", 2)\n')
        self.lose_host()
        self.assertEqual(self.gives("export", "--space", "bag", "--json").count("\n"), 2)
        self.assertEqual(self.gives("in", '("a", ?)', "--space", "bag"), '("a", 1)\n')
        self.kill_node()
        self.assertEqual(self.gives("count", '("a", ?)', "--space", "bag"), "1\n")
        facts = {row["space"]: row for row in map(json.loads, self.gives("spaces", "--json").splitlines())}
        self.assertTrue(facts["bag"]["durable"])
        self.gives("spaces", "--drop", "bag")
        self.lose_host()
        self.gives("count", "(?, ?)", "--space", "bag", status=REFUSED)

    def test_nobody_uses_a_space_that_is_not_all_there_yet(self):
        self.gives("import", "--space", "bag", text="".join(f'("a", {i})\n' for i in range(2000)))
        for left in (2000, 1999, 1998):
            self.lose_host()
            node = subprocess.Popen([GODWIT, "node"], env=self.environment, stdout=subprocess.DEVNULL)
            while not os.path.exists(self.segment):
                pass
            self.assertEqual(self.gives("count", '("a", ?)', "--space", "bag"), f"{left}\n")
            self.assertEqual(self.gives("in", '("a", ?)', "--space", "bag"), f'("a", {2000 - left})\n')
            self.assertEqual(node.wait(), DONE)

    def test_a_damaged_log_is_named_and_nothing_is_done_without_it(self):
        self.gives("out", *(f'("a", {i})' for i in range(3)), "--space", "bag")
        self.gives("out", '("a", 3)', "--space", "bag")
        self.lose_host()
        log = self.path("spaces/wal.00000000000000000001")
        with open(log, "r+b") as file:
            whole = file.read()
            file.seek(120)
            file.write(bytes([whole[120] ^ 1]))
        for words in (["node"], ["out", '("a", 4)', "--space", "bag"], ["spaces", "--create", "bag"]):
            status, _, error = self.godwit(*words)
            self.assertEqual(status, REFUSED if words == ["node"] else BROKEN, error)
            self.assertIn(log, error)
        with open(log, "wb") as file:
            file.write(whole)
        self.assertEqual(self.gives("count", '("a", ?)', "--space", "bag"), "4\n")

    def test_a_clients_request_is_done_once_also_when_the_host_is_lost(self):
        client = Client(read_key(self.gives("keygen", "alice", "--space", "bag=read,take,put")))
        self.addCleanup(client.close)
        client.ask("out", "bag", [["a", 1]], None, 0)
        numbers = client.begin(["out", "bag", [["a", 2]], None, 0], ["in", "bag", template("a", 1), 0])
        self.lose_host()
        self.gives("node")
        self.assertTrue(client.answer(numbers[0]))
        self.assertEqual(client.answer(numbers[1]), ["a", 1])
        self.assertEqual(client.ask("count", "bag", template("a", ANY)), 1)
        self.lose_host()
        self.gives("node")
        self.assertEqual(client.ask("count", "bag", template("a", ANY)), 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
