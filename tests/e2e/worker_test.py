#!/usr/bin/env python3
"""godwit worker: processes that carry out calls, are killed, stopped and replaced, and end with it.

usage: worker_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(sys.argv[1], "demos", "support"))
import hosts as hosts_module  # noqa: E402

GODWIT, PROGRAM = (os.path.join(hosts_module.build_directory(), name) for name in ("godwit", "eval_program"))
DONE, USAGE, REFUSED, NOT_EXECUTABLE, NOT_FOUND = 0, 2, 4, 126, 127


class Worker(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="godwit-worker-")
        self.environment = {**os.environ, "GODWIT_HOME": self.home.name, "GODWIT_EXECUTABLE": GODWIT}
        self.addCleanup(self.home.cleanup)
        self.addCleanup(lambda: self.godwit("node", "--stop", "--discard"))

    def popen(self, *words):
        return subprocess.Popen(words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def godwit(self, *words):
        process = self.popen(GODWIT, *words)
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def worker(self, *words):
        crew = self.popen(GODWIT, "worker", *words)
        self.addCleanup(lambda: (crew.kill(), crew.communicate()))
        return crew

    def eval(self, function, arguments):
        subprocess.run([PROGRAM, function, arguments], env=self.environment, check=True, timeout=60)

    def result(self, function):
        return int(self.godwit("in", f'("result", "{function}", ?int)')[1].rstrip(")\n").split(", ")[2])

    def until_nothing_waits(self):
        while self.godwit("count", "(?, ?, ?)", "(?, ?, ?, ?, ?, ?)", "--space", "default.eval")[1] != "0\n":
            pass

    def is_gone(self, pid):
        """Or a zombie, whose parent is about to see it."""
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def ends(self, crew, signo):
        crew.send_signal(signo)
        self.assertEqual(crew.communicate(timeout=60)[0], "")
        self.assertEqual(crew.returncode, DONE)

    def test_calls_are_carried_out_by_its_processes_which_end_with_it(self):
        for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            crew = self.worker("--workers", "2", PROGRAM)
            self.eval("square", "(7)")
            self.assertEqual(self.result("square"), 49)
            self.eval("pid", "()")
            pid = self.result("pid")
            self.assertNotEqual(pid, crew.pid)
            crew.send_signal(signo)
            self.assertEqual(crew.wait(timeout=60), DONE if signo != signal.SIGKILL else -signo)
            while not self.is_gone(pid):
                pass
            self.until_nothing_waits()

    def test_one_that_is_killed_is_replaced_and_its_call_carried_out_once(self):
        crew = self.worker("--workers", "1", PROGRAM)
        self.godwit("out", f'("stumble", {int(signal.SIGKILL)})')
        self.eval("stumble", "(8)")
        self.assertEqual(self.result("stumble"), 8)
        self.assertRegex(crew.stderr.readline(), r"\Agodwit worker: process \d+ was ended by signal 9; another is started in 100 ms\n")
        self.until_nothing_waits()
        self.assertEqual(self.godwit("count", '("result", ?, ?)')[1], "0\n")
        self.ends(crew, signal.SIGTERM)

    def test_one_that_is_stopped_is_overtaken_and_ended(self):
        crew = self.worker("--workers", "2", PROGRAM)
        self.godwit("out", f'("stumble", {int(signal.SIGSTOP)})')
        self.eval("stumble", "(9)")
        self.assertEqual(self.result("stumble"), 9)
        self.ends(crew, signal.SIGTERM)
        self.assertEqual(self.godwit("count", '("result", ?, ?)')[1], "0\n")

    def test_a_call_that_fails_is_told_and_put_aside_and_tried_again(self):
        crew = self.worker("--workers", "1", PROGRAM)
        self.eval("fail", '("because")')
        failed = '("failed", "fail", "because", ("result", "fail", nil), ((2, "fail", ("because"))))\n'
        self.assertEqual(self.godwit("rd", '("failed", ?, ?, ?, ?)', "--space", "default.eval")[1], failed)
        told = "eval_program: fail: because; put aside, see godwit help worker\n"
        self.assertEqual(crew.stderr.readline(), told)
        self.ends(crew, signal.SIGTERM)
        crew = self.worker("--workers", "1", "--retry-failed", PROGRAM)
        self.assertEqual(crew.stderr.readline(), told)
        self.ends(crew, signal.SIGTERM)

    def test_another_space(self):
        self.godwit("spaces", "--create", "bag")
        crew = self.worker("--space", "bag", PROGRAM)
        self.eval("square", "(1)")  # in the default space, where nobody works
        while not any('"bag.eval"' in line and '"waiters":0' not in line for line in self.godwit("spaces", "--json")[1].splitlines()):
            self.assertIsNone(crew.poll())
        self.assertEqual(self.godwit("count", '("todo", ?, ?)', "--space", "default.eval")[1], "1\n")
        self.ends(crew, signal.SIGINT)

    def test_a_program_that_will_not_do_is_told_in_one_line(self):
        for status, line, *words in ((REFUSED, r"true has not asked for work, and ended with status 0; its main is .+", "true"),
                                     (REFUSED, r"false has not asked for work, and ended with status 1; its main is .+", "false"),
                                     (NOT_FOUND, r"cannot run /nowhere: .+; .+", "/nowhere"),
                                     (NOT_EXECUTABLE, r"cannot run /etc/passwd: .+; .+", "/etc/passwd"),
                                     (REFUSED, r".+absent.+", "--space", "absent", PROGRAM),
                                     (REFUSED, r".+; .+", "--space", "net", PROGRAM),
                                     (USAGE, r".+; see godwit help worker", "--workers", "0", PROGRAM),
                                     (USAGE, r".+; see godwit help worker")):
            done = self.godwit("worker", *words)
            self.assertEqual(done[:2], (status, ""), words)
            self.assertRegex(done[2], rf"\Agodwit worker: {line}\n\Z")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
