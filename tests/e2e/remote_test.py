#!/usr/bin/env python3
"""The shell's commands on spaces with a client's key instead of a host.

usage: remote_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(sys.argv[1], "demos", "support"))
import hosts as hosts_module  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
DONE, ABSENT, REFUSED, TIMED_OUT = 0, 1, 4, 124


class Remote(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="godwit-remote-")
        self.addCleanup(self.folder.cleanup)
        self.home = os.path.join(self.folder.name, "home")
        self.addCleanup(lambda: self.run_at(self.home, "node", "--stop", "--discard"))
        self.assertEqual(self.run_at(self.home, "node", "--clients", "127.0.0.1:0")[0], DONE)
        self.key = self.new_key("alice", "--space", "*=read,take,put", "--manage")

    def new_key(self, client, *rights):
        key = os.path.join(self.folder.name, client + ".key")
        self.assertEqual(self.run_at(self.home, "keygen", client, *rights, "--output", key), (DONE, "", ""))
        return key

    def popen_at(self, home, *words, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([GODWIT, *words], env={**os.environ, "GODWIT_HOME": home}, text=True, **options)

    def run_at(self, home, *words, text=None):
        process = self.popen_at(home, *words, stdin=subprocess.PIPE)
        out, error = process.communicate(text, timeout=60)
        return process.returncode, out, error

    def gives(self, *words, status=DONE, out="", text=None):
        self.assertEqual(self.run_at(self.key, *words, text=text)[:2], (status, out))

    def waiters(self):
        return [json.loads(line)["waiters"] for line in self.run_at(self.home, "spaces", "--json")[1].splitlines()]

    def test_all_commands_on_spaces(self):
        text = r'("task", 42, 3.5, true, nil, b"\x00\xff", ("nested", 1))'
        self.gives("out", text, '("task", 43)')
        self.gives("count", '("task", ?)', '("task", ?, ?, ?, ?, ?, ?)', out="2\n")
        self.gives("rdp", '("task", ?, ?float, ?, ?, ?, ?tuple)', out=text + "\n")
        self.gives("in", '("task", ?, ?float, ?, ?, ?, ("nested", 1))', out=text + "\n")
        self.gives("inp", '("task", ?, ?, ?, ?, ?, ?)', status=ABSENT)
        self.gives("rd", '("task", 40..49)', "--json", out='[{"string":"task"},{"int":"43"}]\n')
        self.gives("in", '("never")', "--timeout", "0.01", status=TIMED_OUT)
        self.gives("spaces", "--create", "later", "--capacity", "1M", "--when-full", "wait")
        self.gives("collect", '("task", ?)', "--to", "later", out="1\n")
        self.gives("collect", '("task", ?)', "--space", "later", "--to", "default", "--copy", out="1\n")
        self.gives("export", "--space", "later", "--json", out='[{"string":"task"},{"int":"43"}]\n')
        self.gives("import", "--space", "later", text='("task", 1)\n("task", 2)\n')
        self.gives("count", '("task", ?int)', "--space", "later", out="3\n")
        self.gives("out", '("brief")', "--ttl", "1000")
        facts = {one["space"]: one for one in map(json.loads, self.run_at(self.key, "spaces", "--json")[1].splitlines())}
        self.assertEqual(facts["later"]["capacity"], 1 << 20)
        self.assertEqual((facts["later"]["tuples"], facts["later"]["when_full"], facts["default"]["state"]), (3, "wait", "live"))
        self.gives("spaces", "--drop", "later")
        self.gives("count", '("task", ?int)', "--space", "later", status=REFUSED)

    def test_a_watch_shows_what_comes(self):
        watch = self.popen_at(self.key, "watch", '("seen", ?)', "--count", "2")
        self.assertEqual(watch.stderr.readline(), "watching\n")
        self.run_at(self.home, "out", '("seen", 1)', '("other", 1)')
        self.gives("out", '("seen", 2)')
        self.assertEqual(watch.communicate(timeout=60), ('("seen", 1)\n("seen", 2)\n', ""))

    def test_a_tuple_that_cannot_be_printed_stays(self):
        self.gives("out", '("job", 1)')
        with open("/dev/full", "w") as full:
            process = self.popen_at(self.key, "in", '("job", ?)', stdout=full)
            self.assertRegex(process.communicate(timeout=60)[1], r"\Agodwit in: .+; see where stdout leads\n\Z")
            self.assertEqual(process.returncode, REFUSED)
        self.gives("inp", '("job", ?)', out='("job", 1)\n')

    def test_a_killed_in_swallows_nothing(self):
        killed = self.popen_at(self.key, "in", '("job", ?)')
        while self.waiters() != [1]:
            pass
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        self.gives("out", '("job", 1)')
        self.gives("in", '("job", ?)', out='("job", 1)\n')

    def test_what_a_key_has_no_right_to_is_refused(self):
        self.key = self.new_key("reader", "--space", "default=read")
        self.run_at(self.home, "out", '("x")')
        self.gives("rd", '("x")', out='("x")\n')
        for words in (["in", '("x")'], ["out", '("y")'], ["rd", '("x")', "--space", "other"], ["spaces", "--create", "other"]):
            status, out, error = self.run_at(self.key, *words)
            self.assertEqual((status, out), (REFUSED, ""))
            self.assertRegex(error, rf"\Agodwit {words[0]}: .+; .+\n\Z")

    def test_what_is_of_the_host_itself_is_refused_in_a_line(self):
        for words in (["ps"], ["node"], ["spaces", "--waiting"], ["in", '("stream", ?, ?, ?, ?)', "--space", "net", "--mediate"]):
            status, out, error = self.run_at(self.key, *words)
            self.assertEqual((status, out), (REFUSED, ""), words)
            self.assertRegex(error, rf"\Agodwit {words[0]}: .+[;,] .+\n\Z")

    def test_a_file_that_is_no_key_and_a_node_that_does_not_serve(self):
        for text in ("", "address 127.0.0.1:1\n"):
            no_key = os.path.join(self.folder.name, "no.key")
            with open(no_key, "w") as file:
                file.write(text)
            self.assertRegex(self.run_at(no_key, "count", "(1)")[2], r"\Agodwit count: .+ is no client's key; .+\n\Z")
        self.assertEqual(self.run_at(self.home, "keygen", "--revoke", "alice")[0], DONE)
        self.assertRegex(self.run_at(self.key, "count", "(1)")[2], r"\Agodwit count: .+ does not know this key.+; .+\n\Z")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
