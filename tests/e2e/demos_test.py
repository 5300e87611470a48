#!/usr/bin/env python3
"""The demos in Linda: what they print, with workers killed meanwhile, and that nothing of them is left.

usage: demos_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

DEMOS = os.path.join(sys.argv[1], "demos")
sys.path.insert(0, os.path.join(DEMOS, "support"))
import hosts as hosts_module  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
TRIFLE = {"mandelbrot": ["--width", "60", "--height", "40"], "dna_search": ["--sequences", "20", "--length", "50"],
          "matrix": ["--blocks", "3", "--block", "10"], "philosophers": ["--meals", "3", "--pause", "0"],
          "work_queue": ["--jobs", "20", "--crash-rate", "0"],
          "heat": ["--width", "20", "--height", "60", "--steps", "20", "--every", "1"],
          "nqueens": ["--queens", "6"]}
ENDLESS = {"mandelbrot": ["--iterations", "10000", "--width", "600", "--kill", "799"], "philosophers": ["--meals", "100000"],
           "work_queue": ["--jobs", "100000"], "heat": ["--width", "100", "--height", "100", "--steps", "1000000", "--every", "1"],
           "nqueens": ["--queens", "14", "--kill", "1000"]}


def pattern(expected):
    """A * stands for a word that differs from run to run, and for the blanks before it."""
    return re.sub(r"(\\ )*\\\*", r" *\\S+", re.escape(expected)) + r"\Z"


class Demos(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="godwit-demos-")
        self.home = os.path.join(self.folder.name, "home")
        os.mkdir(self.home, 0o700)
        self.environment = {**os.environ, "GODWIT_HOME": self.home}
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(lambda: self.godwit("node", "--stop", "--discard"))

    def godwit(self, *words):
        return subprocess.run([GODWIT, *words], env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def spaces(self):
        return [json.loads(line)["space"] for line in self.godwit("spaces", "--json").splitlines()]

    def start(self, name, *arguments, **options):
        options = {"env": self.environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([os.path.join(DEMOS, name, "run"), *arguments], cwd=self.folder.name, text=True, **options)

    def prints_what_is_expected(self, name):
        with open(os.path.join(DEMOS, name, "expected.txt")) as file:
            command, expected = file.read().split("\n", 1)
        words = shlex.split(command)
        self.assertEqual(words[:2], ["$", f"demos/{name}/run"])
        out, error = self.start(name, *words[2:]).communicate(timeout=100)
        self.assertRegex(out, pattern(expected))
        self.assertEqual(error, "")
        self.assertEqual(self.spaces(), [])

    def test_mandelbrot(self):
        self.prints_what_is_expected("mandelbrot")
        with open(os.path.join(self.folder.name, "mandelbrot.png"), "rb") as picture:
            self.assertEqual(picture.read(8), b"\x89PNG\r\n\x1a\n")

    def test_dna_search(self):
        self.prints_what_is_expected("dna_search")

    def test_matrix(self):
        self.prints_what_is_expected("matrix")

    def test_philosophers(self):
        self.prints_what_is_expected("philosophers")

    def test_work_queue(self):
        self.prints_what_is_expected("work_queue")

    def test_heat(self):
        self.prints_what_is_expected("heat")
        with open(os.path.join(self.folder.name, "heat.png"), "rb") as picture:
            self.assertEqual(picture.read(8), b"\x89PNG\r\n\x1a\n")

    def test_chat(self):
        self.prints_what_is_expected("chat")
    def test_nqueens(self):
        self.prints_what_is_expected("nqueens")

    def test_nqueens_is_a_program_for_godwit_worker(self):
        build = hosts_module.build_directory()
        subprocess.run([os.path.join(build, "eval_program"), "solutions", "(8, 0, 0, 0, 0)"], env=self.environment, check=True)
        crew = subprocess.Popen([GODWIT, "worker", "--workers", "1", os.path.join(build, "nqueens")], env=self.environment)
        self.assertEqual(self.godwit("in", '("result", "solutions", ?)'), '("result", "solutions", 92)\n')
        crew.terminate()
        self.assertEqual(crew.wait(timeout=60), 0)

    def test_naive_philosophers_tell_their_deadlock(self):
        demo = self.start("philosophers", "--naive", "--philosophers", "3")
        out, error = demo.communicate(timeout=100)
        self.assertRegex(out, r" killed 0 forks 3 tickets 3 deadlock yes\n\Z")
        self.assertRegex(error, r"\Aphilosophers: deadlock: .+\n\Z")
        self.assertEqual((demo.returncode, self.spaces()), (1, []))

    def test_killed_producers_and_workers_neither_lose_a_job_nor_do_it_twice(self):
        demo = self.start("work_queue", "--jobs", "100", "--workers", "4", "--kill", "30")
        out, error = demo.communicate(timeout=100)
        self.assertEqual((demo.returncode, error), (0, ""))
        self.assertRegex(out, r" died \d+\njobs 100 done 100 lost 0 twice 0 redelivered \d+\n\Z")
        self.assertGreaterEqual(int(re.search(r" died (\d+)", out)[1]), 30)

    def test_heat_is_drawn_on_a_terminal(self):
        for locale, drawn in (("C.UTF-8", rb"\x1b\[38;5;\d+;48;5;\d+m\xe2\x96\x80"), ("C", rb"\r\n +:\+@@@\+: +\x1b\[K")):
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
            demo = self.start("heat", "--width", "20", "--height", "20", "--steps", "1", "--every", "1", stdout=theirs,
                              env={**self.environment, "LC_ALL": locale})
            os.close(theirs)
            out = self.read_to_end(ours)
            self.assertEqual((demo.communicate(timeout=60)[1], demo.returncode), ("", 0))
            self.assertRegex(out, drawn)
            self.assertRegex(out, rb"\nsteps 1 workers 2 .+\r\n\Z")

    def read_to_end(self, terminal):
        out = b""
        with os.fdopen(terminal, "rb", buffering=0) as file:
            try:
                while part := file.read(65536):
                    out += part
            except OSError:  # nobody has its other end any more
                pass
        return out

    def test_bands_that_are_too_small_are_refused(self):
        demo = self.start("heat", "--height", "100", "--workers", "4", "--every", "26")
        self.assertRegex(demo.communicate(timeout=60)[1], r"\Aheat: .+; make --workers or --every less, or --height more\n\Z")
        self.assertEqual((demo.returncode, self.spaces()), (1, []))

    def test_more_workers_than_tasks(self):
        for name, arguments in TRIFLE.items():
            demo = self.start(name, *arguments, "--philosophers" if name == "philosophers" else "--workers", "50")
            demo.communicate(timeout=60)
            self.assertEqual(demo.returncode, 0)

    def test_an_interrupt_leaves_nothing(self):
        for signo in (signal.SIGINT, signal.SIGTERM):
            for name, arguments in ENDLESS.items():
                demo = self.start(name, *arguments)
                while not any(space.startswith(name + "-") for space in self.spaces()):
                    self.assertIsNone(demo.poll())
                demo.send_signal(signo)
                demo.communicate(timeout=60)
                self.assertEqual(demo.returncode, -signo)
                self.assertEqual(self.spaces(), [])
                self.assertEqual(os.listdir(self.folder.name), ["home"])

    def test_a_worker_that_somebody_else_kills_is_counted(self):
        demo = self.start("mandelbrot", "--width", "400", "--kill", "2")
        while not any(space.startswith("mandelbrot-") for space in self.spaces()):
            self.assertIsNone(demo.poll())
        while not (children := self.children(demo.pid)):
            self.assertIsNone(demo.poll())
        os.kill(children[0], signal.SIGKILL)
        out, error = demo.communicate(timeout=60)
        self.assertEqual((demo.returncode, error), (0, ""))
        self.assertRegex(out, r" killed 3\n\Z")

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]

    def test_a_picture_that_cannot_be_written_is_told_before_it_is_computed(self):
        demo = self.start("mandelbrot", "--iterations", "1000000", "--file", "/nowhere/m.png")  # which would take an hour
        self.assertRegex(demo.communicate(timeout=60)[1], r"\Amandelbrot: cannot write /nowhere/m\.png: .+; --file .+\n\Z")
        self.assertEqual((demo.returncode, self.spaces()), (1, []))

    def test_a_picture_takes_the_place_of_another(self):
        picture = os.path.join(self.folder.name, "old.png")
        with open(picture, "wb") as file:
            file.write(b"old" * 100000)
        for arguments in TRIFLE["mandelbrot"], TRIFLE["mandelbrot"]:
            demo = self.start("mandelbrot", *arguments, "--file=" + picture)
            demo.communicate(timeout=60)
            self.assertEqual(demo.returncode, 0)
            with open(picture, "rb") as file:
                self.assertRegex(file.read(), rb"(?s)\A\x89PNG\r\n\x1a\n.*IEND....\Z")
        demo = self.start("mandelbrot", *TRIFLE["mandelbrot"], "--file", "/dev/full")
        self.assertRegex(demo.communicate(timeout=60)[1], r"\Amandelbrot: cannot write /dev/full: .+; --file .+\n\Z")
        self.assertEqual((demo.returncode, self.spaces()), (1, []))

    def test_a_result_that_cannot_be_printed_is_an_error(self):
        trifle = {**TRIFLE, "chat": [], "http_mediator": []}
        for name, arguments in trifle.items():
            with open("/dev/full", "w") as full:
                demo = self.start(name, *arguments, stdout=full)
            self.assertRegex(demo.communicate(timeout=60)[1], rf"\A{name}: .+ cannot be printed.*; see where stdout leads\n\Z")
            self.assertEqual((demo.returncode, self.spaces()), (1, []))

    def test_an_error_is_one_line_and_leaves_nothing(self):
        self.godwit("node", "--stop", "--discard")
        self.godwit("node", "--segment-size", "16M")
        demo = self.start("matrix", "--blocks", "8", "--block", "128", "--workers", "4")
        self.assertRegex(demo.communicate(timeout=60)[1], r"\Amatrix: the .+ is full; .+\n\Z")
        self.assertEqual((demo.returncode, self.spaces()), (1, []))
        for arguments in (["--workers", "0"], ["--workers=0"], ["--workers", "x"], ["--workers"], ["--workers="], ["--what"], ["--what=1"]):
            demo = self.start("matrix", *arguments)
            self.assertRegex(demo.communicate(timeout=60)[1], r"\Amatrix: .+; see --help\n\Z")
            self.assertEqual(demo.returncode, 2)
        demo = self.start("philosophers", "--naive=1")
        self.assertEqual(demo.communicate(timeout=60)[1], "philosophers: --naive takes no value; see --help\n")
        self.assertEqual(demo.returncode, 2)

    def test_help_is_printed(self):
        for name in (*TRIFLE, "chat", "http_mediator", "move_redis"):
            for option in ("--help", "-h"):
                out, error = self.start(name, option).communicate(timeout=60)
                self.assertRegex(out, rf"\Ausage: {name} \[")
                self.assertEqual(error, "")

    def test_words_that_mean_nothing_are_refused(self):
        for name in ("chat", "http_mediator", "move_redis"):
            demo = self.start(name, "--bogus")
            self.assertRegex(demo.communicate(timeout=60)[1], rf"{name}: error: .*--bogus")
            self.assertEqual(demo.returncode, 2)
        server = os.path.join(hosts_module.build_directory(), "http_mediator")
        for words in (["--bogus"], ["0"], ["65536"], ["8080x"], ["80", "81"]):
            done = subprocess.run([server, *words], env=self.environment, capture_output=True, text=True, timeout=60)
            self.assertRegex(done.stderr, r"\Ahttp_mediator: .+; see --help\n\Z")
            self.assertEqual(done.returncode, 2)
        done = subprocess.run([server, "--help"], env=self.environment, capture_output=True, text=True, timeout=60)
        self.assertRegex(done.stdout, r"\Ausage: http_mediator \[PORT\]\n")

    def test_without_a_home_a_demo_makes_one_and_removes_it(self):
        demo = self.start("dna_search", *TRIFLE["dna_search"], env={**os.environ, "GODWIT_HOME": "", "TMPDIR": self.folder.name})
        demo.communicate(timeout=60)
        self.assertEqual(demo.returncode, 0)
        self.assertEqual(os.listdir(self.folder.name), ["home"])

    def test_a_terminal_has_a_bar(self):
        ours, theirs = pty.openpty()
        demo = self.start("matrix", *TRIFLE["matrix"], stderr=theirs)
        os.close(theirs)
        demo.communicate(timeout=60)
        self.assertRegex(os.read(ours, 65536), rb"sequential +\[#{50}\] 100 %.*workers +\[ +\] +0 %")
        os.close(ours)

    def test_the_bar_fits_a_narrow_terminal(self):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
        demo = self.start("matrix", *TRIFLE["matrix"], stderr=theirs)
        os.close(theirs)
        demo.communicate(timeout=60)
        lines = [line.partition(b"\x1b")[0] for line in os.read(ours, 65536).split(b"\r")]
        self.assertRegex(max(lines, key=len), rb"\A(sequential|workers) +\[#* *\] +\d+ %\Z")
        self.assertEqual(max(map(len, lines)), 39)
        os.close(ours)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
