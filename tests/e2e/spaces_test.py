#!/usr/bin/env python3
"""Spaces from the shell: out, in, inp, rd, rdp, count and spaces, by processes that come and go and are killed.

usage: spaces_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import json
import os
import pty
import signal
import subprocess
import sys
import unittest

sys.path[1:1] = [os.path.join(sys.argv[1], "demos", "support"), os.path.join(sys.argv[1], "tests", "support")]
from one_host import ABSENT, DONE, GODWIT, REFUSED, TIMED_OUT, USAGE, OneHost  # noqa: E402


class Spaces(OneHost):
    def waits(self):
        return [json.loads(line) for line in self.godwit("spaces", "--waiting", "--json")[1].splitlines()]

    def until_waiting(self, number):
        while len(self.waits()) != number:
            pass

    def test_what_one_process_puts_another_takes(self):
        tuple_text = r'("task", 42, 3.5, true, nil, b"\x00\xff", ("nested", 1))'
        self.gives("out", tuple_text, '("task", 43)')
        self.gives("count", '("task", ?)', '("task", ?, ?, ?, ?, ?, ?)', out="2\n")
        self.gives("rdp", '("task", ?, ?float, ?, ?, ?, ?tuple)', out=tuple_text + "\n")
        self.gives("in", '("task", ?, ?float, ?, ?, ?, ("nested", 1))', out=tuple_text + "\n")
        self.gives("inp", '("task", ?, ?float, ?, ?, ?, ?)', status=ABSENT)
        self.gives("inp", '("task", ?int)', "--json", out='[{"string":"task"},{"int":"43"}]\n')

    def test_a_blocked_in_is_given_what_comes_and_a_killed_one_swallows_nothing(self):
        killed, taker = self.popen("in", '("job", ?)'), None
        self.until_waiting(1)
        self.assertEqual(self.waits()[0] | {"pid": 0}, {"space": "default", "verb": "in", "wanted": '("job", ?)', "pid": 0})
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        taker = self.popen("in", '("job", 1..9)')
        self.until_waiting(1)  # the killed one's wait is reaped
        self.gives("out", '("job", 5)')
        self.assertEqual(taker.communicate(timeout=60)[0], '("job", 5)\n')
        self.gives("count", '("job", ?)', out="0\n")
        self.gives("rd", '("job", ?)', "--timeout", "0.05", status=TIMED_OUT)

    def test_a_tuple_that_cannot_be_printed_stays(self):
        self.gives("out", '("kept")')
        with open("/dev/full", "w") as full:
            done = subprocess.run([GODWIT, "in", '("kept")'], env=self.environment, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, REFUSED)
        self.gives("inp", '("kept")', out='("kept")\n')

    def test_several_are_put_in_all_or_none(self):
        self.gives("spaces", "--create", "small", "--capacity", "2000")
        long = "x" * 800
        self.gives("out", f'("a", "{long}")', f'("b", "{long}")', f'("c", "{long}")', "--space", "small", status=REFUSED)
        self.gives("count", "(?, ?)", "--space", "small", out="0\n")
        self.gives("out", '("a", 1)', '("b", 2)', "--space", "small")
        self.gives("count", "(?, ?)", "--space", "small", out="2\n")

    def test_a_mortal_tuple_goes_by_itself(self):
        self.gives("out", '("brief", 1)', "--ttl", "0.01")
        self.gives("out", '("long", 1)', "--ttl", "1000")
        while self.godwit("count", '("brief", ?)')[1] != "0\n":
            pass
        self.gives("in", '("long", ?)', out='("long", 1)\n')
        self.gives("out", '("a")', '("b")', "--ttl", "1", status=USAGE)
        self.gives("out", '("a")', "--ttl", "soon", status=USAGE)

    def test_what_spaces_hold_outlives_the_node(self):
        self.gives("out", '("kept", 1)')
        waiting = self.popen("in", '("later", ?)')
        self.until_waiting(1)
        self.assertRegex(self.godwit("node", "--stop")[1], r"\Aleft \S+; nothing runs here; spaces keep 1 tuple\n\Z")
        self.gives("out", '("later", 2)')
        self.assertEqual(waiting.communicate(timeout=60)[0], '("later", 2)\n')
        self.gives("in", '("kept", ?)', out='("kept", 1)\n')
        waiting = self.popen("in", '("never", ?)')
        self.until_waiting(1)
        self.gives("out", '("gone", 1)')
        self.assertEqual(self.godwit("node", "--stop", "--discard")[0], DONE)
        self.assertIn("dropped", waiting.communicate(timeout=60)[1])
        self.assertEqual(waiting.returncode, REFUSED)
        self.gives("count", "(?, ?)", out="0\n")
        self.assertEqual(self.godwit("node", "--discard")[0], USAGE)

    def test_spaces_are_made_filled_and_dropped(self):
        self.gives("spaces", "--create", "small", "--capacity", "4096")
        self.assertEqual(self.godwit("spaces", "--create", "small")[0], REFUSED)
        put = 0
        while self.godwit("out", "--space", "small", f'({put}, "{"x" * 500}")')[0] == DONE:
            put += 1
        self.assertIn(put, range(4, 9))
        self.gives("spaces", "--create", "large", "--capacity", "3G")
        rows = {row["space"]: row for row in map(json.loads, self.godwit("spaces", "--json")[1].splitlines())}
        self.assertEqual((rows["small"]["tuples"], rows["small"]["capacity"]), (put, 4096))
        self.assertEqual(rows["large"]["capacity"], 3 << 30)
        waiting = self.popen("in", '("never")', "--space", "small")
        self.until_waiting(1)
        self.gives("spaces", "--drop", "small")
        self.assertEqual(waiting.wait(60), REFUSED)
        waiting.communicate()
        self.assertEqual(self.godwit("inp", "(?)", "--space", "small")[0], REFUSED)

    def test_a_space_without_a_capacity_has_none_in_the_list(self):
        self.gives("spaces", "--create", "endless")
        self.assertEqual(json.loads(self.godwit("spaces", "--json")[1])["capacity"], 0)
        heading, row = (line.split() for line in self.godwit("spaces")[1].splitlines())
        self.assertEqual(dict(zip(heading, row))["CAPACITY"], "-")

    def test_collect_moves_and_copies(self):
        self.gives("spaces", "--create", "other")
        self.gives("out", '("a", 1)', '("a", 2)', '("b", 3)')
        self.gives("collect", '("a", ?)', "--to", "other", "--copy", out="2\n")
        self.gives("collect", '("b", ?)', '("a", 2)', "--to", "other", out="2\n")
        self.gives("count", "(?, ?)", out="1\n")
        self.gives("export", "--json", "--space", "other", out="".join(
            f'[{{"string":"{key}"}},{{"int":"{n}"}}]\n' for key, n in (("a", 1), ("a", 2), ("a", 2), ("b", 3))))
        self.gives("collect", '("a", ?)', "--to", "net", status=REFUSED)
        self.gives("collect", '("a", ?)', "--to", "default", status=REFUSED)

    def test_watch_prints_what_comes_though_it_is_taken(self):
        watching = self.popen("watch", '("w", ?)', "--count", "2")
        self.assertEqual(watching.stderr.readline(), "watching\n")
        for n in (1, 2):
            self.gives("out", f'("w", {n})')
            self.gives("in", '("w", ?)', out=f'("w", {n})\n')
        self.assertEqual((watching.wait(60), watching.communicate()[0]), (DONE, '("w", 1)\n("w", 2)\n'))
        self.gives("watch", '("w", ?)', "--timeout", "0.05", status=TIMED_OUT)

    def piped(self, text, *words):
        done = subprocess.run([GODWIT, "import", *words], env=self.environment, input=text, capture_output=True)
        return done.returncode, done.stderr.decode()

    def test_what_is_exported_can_be_imported(self):
        tuples = ['("t", 1, -0.5, nil, true)', r'("t", b"\x00\xff", ("n", ()))', "()", '("x\\n", inf)']
        for tuple_text in tuples:
            self.gives("out", tuple_text)
        for name, form in (("packed", []), ("lines", ["--json"])):
            self.gives("spaces", "--create", name)
            exported = subprocess.run([GODWIT, "export", *form], env=self.environment, capture_output=True, check=True).stdout
            self.assertEqual(self.piped(exported, "--space", name), (DONE, ""))
            again = subprocess.run([GODWIT, "export", "--space", name, *form], env=self.environment, capture_output=True, check=True)
            self.assertEqual(again.stdout, exported)
        self.gives("spaces", "--create", "text")
        self.assertEqual(self.piped("\n".join(tuples).encode() + b"\n\n", "--space", "text"), (DONE, ""))
        self.assertEqual(self.godwit("export", "--json", "--space", "text")[1], self.godwit("export", "--json")[1])
        self.gives("export", '("t", ?, ?)', "--json", out='[{"string":"t"},{"bytes":"AP8="},{"tuple":[{"string":"n"},{"tuple":[]}]}]\n')

    def test_a_terminal_is_given_no_msgpack(self):
        self.gives("out", '("a", 1)')
        for form, status, printed, said in (([], REFUSED, b"", b"--json"), (["--json"], DONE, b'[{"string":"a"},{"int":"1"}]\r\n', b"")):
            ours, theirs = pty.openpty()
            done = subprocess.run([GODWIT, "export", *form], env=self.environment, stdout=theirs, stderr=subprocess.PIPE)
            os.write(theirs, b"end")
            shown = b""
            while not shown.endswith(b"end"):
                shown += os.read(ours, 1000)
            self.assertEqual((done.returncode, shown), (status, printed + b"end"))
            self.assertIn(said, done.stderr)
            for end in (ours, theirs):
                os.close(end)

    def test_text_of_other_systems_is_imported(self):
        for text in (b'\xef\xbb\xbf("a", 1)\r\n\r\n("a", 2)\r\n', b'[{"string":"a"},{"float":9223372036854775808}]\r\n'):
            done = subprocess.run([GODWIT, "import"], env=self.environment, input=text, capture_output=True)
            self.assertEqual((done.returncode, done.stderr), (DONE, b""))
        self.gives("count", '("a", ?)', out="3\n")

    def test_import_says_where_it_stopped(self):
        for text, where in ((b'("a", 1)\n("a", \n', "line 2"), (b'[{"int":"1"}]\nnonsense\n', "line 2"), (b"\x91\x01\xc1", "tuple 2"),
                            (b"\x91\x01\x92", "tuple 2")):
            status, error = self.piped(text)
            self.assertEqual(status, REFUSED)
            self.assertRegex(error, rf"^godwit import: {where}: .+; .+\(1 tuples before it were put in\)\n$")
        self.assertEqual(self.piped(b""), (DONE, ""))

    def test_wrong_words_are_refused_with_one_line(self):
        for status, *words in ((USAGE, "out"), (USAGE, "out", "(?int)"), (USAGE, "in", "(1"), (USAGE, "spaces", "--capacity", "1"),
                               (USAGE, "spaces", "--waiting", "--create", "x"), (USAGE, "spaces", "--waiting", "--drop", "x"),
                               (USAGE, "spaces", "--create", "x", "--drop", "x"), (USAGE, "spaces", "--drop", "x", "--when-full", "wait"),
                               (USAGE, "spaces", "--create", "x", "--capacity", "0"), (USAGE, "spaces", "--create", "x", "--capacity", "1T"),
                               (USAGE, "spaces", "--create", "x", "--capacity", "2000G"),
                               (USAGE, "collect", "(1)"), (USAGE, "watch"), (USAGE, "watch", "(1)", "--count", "x"), (USAGE, "import", "(1)"), (USAGE, "export", "(1"),
                               (REFUSED, "out", "(1)", "--space", "absent"), (REFUSED, "in", "(?)", "--space", "net"),
                               (REFUSED, "spaces", "--create", "a b"), (REFUSED, "spaces", "--drop", "absent")):
            got, out, error = self.godwit(*words)
            self.assertEqual((got, out), (status, ""), words)
            self.assertRegex(error, rf"^godwit {words[0]}: .+; .+\n")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
