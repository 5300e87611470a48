#!/usr/bin/env python3
"""godwit top, on a terminal and off it, and what the node tells Prometheus.

usage: monitor_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import unittest
import urllib.request

sys.path[1:1] = [os.path.join(sys.argv[1], "demos", "support"), os.path.join(sys.argv[1], "tests", "support")]
from one_host import DONE, GODWIT, USAGE, OneHost  # noqa: E402


class Top(OneHost):
    def top(self, *words):
        status, out, error = self.godwit("top", "--json", "--interval", "0.05", *words)
        self.assertEqual((status, error), (DONE, ""))
        return [json.loads(line) for line in out.splitlines()]

    def test_counts_what_is_put_taken_and_read(self):
        self.gives("out", '("a", 1)', '("a", 2)', '("a", 3)')
        self.gives("rdp", '("a", 1)', out='("a", 1)\n')
        self.gives("inp", '("a", ?)', out='("a", 1)\n')
        space = self.top()[0]
        self.assertEqual({key: space[key] for key in ("space", "tuples", "put", "taken", "read", "waiters", "state")},
                         {"space": "default", "tuples": 2, "put": 3, "taken": 1, "read": 1, "waiters": 0, "state": "live"})

    def test_gives_rates_between_two_looks(self):
        self.gives("out", '("n", 1)')
        top = self.popen("top", "--json", "--interval", "0.05", "--count", "1000000")
        self.addCleanup(top.wait)
        self.addCleanup(top.kill)
        self.assertEqual(json.loads(top.stdout.readline())["put_per_s"], 0)
        self.gives("out", '("n", 2)')
        while json.loads(top.stdout.readline())["put_per_s"] == 0:
            pass
        top.send_signal(signal.SIGINT)
        top.stdout.read()
        self.assertEqual(top.wait(), DONE)
        top.stderr.close()
        top.stdout.close()

    def test_the_table_has_spaces_and_pods(self):
        self.gives("run", "--name", "sleeper", "--detach", "--", "sleep", "1000", out="sleeper\n")
        self.addCleanup(lambda: self.godwit("kill", "sleeper"))
        self.gives("spaces", "--create", "bag")
        status, out, _ = self.godwit("top", "--interval", "0.05")
        self.assertEqual(status, DONE)
        self.assertRegex(out, r"^hosts 1 of 1, pods 1, connections 0, spaces 1\n")
        self.assertRegex(out, r"\nbag +0 +0 +0 +0 +0 +0 +live\n")
        self.assertRegex(out, r"\nsleeper +\S+ +running +0 +0 +0\n")

    def test_on_a_terminal_it_goes_on_until_it_is_ended_and_leaves_the_screen_as_it_was(self):
        self.gives("out", '("a", 1)')
        terminal, other = pty.openpty()
        top = subprocess.Popen([GODWIT, "top", "--interval", "0.05"], env=self.environment, stdout=other, stderr=other)
        os.close(other)
        seen = b""
        while seen.count(b"SPACE") < 3:
            seen += os.read(terminal, 4096)
        top.send_signal(signal.SIGTERM)
        try:
            while piece := os.read(terminal, 4096):
                seen += piece
        except OSError:
            pass  # the other end is gone
        os.close(terminal)
        self.assertEqual(top.wait(), DONE)
        self.assertTrue(seen.startswith(b"\x1b[?1049h") and seen.endswith(b"\x1b[?1049l"), seen)

    def test_refuses_what_it_does_not_take(self):
        for words in (["--interval", "0"], ["--interval", "x"], ["--count", "-1"], ["word"]):
            status, out, error = self.godwit("top", *words)
            self.assertEqual((status, out), (USAGE, ""))
            self.assertRegex(error, r"^godwit top: .*\n")


class Metrics(OneHost):
    def start(self, *words):
        status, out, error = self.godwit("node", *words)
        self.assertEqual(status, DONE)
        return error

    def scrape(self, url):
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def test_prometheus_is_told_of_spaces_and_pods(self):
        url = re.fullmatch(r"godwit node: metrics at (http://127\.0\.0\.1:[1-9]\d*/metrics)\n", self.start("--metrics", "127.0.0.1:0", "--host-name", "h"))[1]
        self.gives("out", '("a", 1)', '("a", 2)')
        self.gives("inp", '("a", ?)', out='("a", 1)\n')
        self.gives("run", "--name", "sleeper", "--detach", "--", "sleep", "1000", out="sleeper\n")
        self.addCleanup(lambda: self.godwit("kill", "sleeper"))
        values = self.scrape(url)
        for name, value in {'godwit_space_tuples{space="default"}': 1, 'godwit_space_put_total{space="default"}': 2,
                            'godwit_space_taken_total{space="default"}': 1, 'godwit_pod_connections{pod="sleeper"}': 0,
                            "godwit_pods": 1, "godwit_hosts": 1, "godwit_hosts_present": 1}.items():
            self.assertEqual(float(values[name]), value, name)
        self.assertTrue(any(name.startswith('godwit_info{host="h"') for name in values))

    def test_they_are_remembered_until_they_are_off(self):
        self.start("--metrics", "127.0.0.1:0")
        self.godwit("node", "--stop")
        self.assertIn("metrics at http://127.0.0.1:", self.start())
        self.godwit("node", "--stop")
        self.assertEqual(self.start("--metrics", "off"), "")

    def test_an_address_that_is_no_good_keeps_no_node_from_serving(self):
        self.assertRegex(self.start("--metrics", "192.0.2.1:9"), r"^godwit node: no metrics: cannot listen at 192\.0\.2\.1:9; .*\n$")
        self.gives("out", '("a", 1)')
        status, _, error = self.godwit("node", "--metrics", "nowhere")
        self.assertEqual(status, USAGE)
        self.assertRegex(error, r"^godwit node: --metrics takes ")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
