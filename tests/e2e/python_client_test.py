#!/usr/bin/env python3
"""The Python package: installed by pip, and used with a host by a key.

usage: python_client_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import doctest
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

SOURCE = sys.argv[1]
sys.path.insert(0, os.path.join(SOURCE, "demos", "support"))
sys.path.insert(0, os.path.join(SOURCE, "python"))
sys.dont_write_bytecode = True
import hosts as hosts_module  # noqa: E402

import godwit  # noqa: E402
import godwit._fields  # noqa: E402
import godwit._space  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")


def run(home, *words):
    return subprocess.run([GODWIT, *words], env={**os.environ, "GODWIT_HOME": home}, capture_output=True, text=True, timeout=60)


class Client(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="godwit-python-")
        self.addCleanup(folder.cleanup)
        self.folder, self.home = folder.name, os.path.join(folder.name, "home")
        self.addCleanup(lambda: run(self.home, "node", "--stop", "--discard"))
        self.assertEqual(run(self.home, "node", "--clients", "127.0.0.1:0").returncode, 0)
        self.key = self.new_key("alice", "--space", "*=read,take,put", "--manage")
        self.host = godwit.connect(self.key)
        self.addCleanup(self.host.close)
        self.bag = self.host.space()

    def new_key(self, client, *rights):
        key = os.path.join(self.folder, client + ".key")
        self.assertEqual(run(self.home, "keygen", client, *rights, "--output", key).stderr, "")
        return key

    def fails(self, number, operation, *words, **named):
        with self.assertRaises(godwit.GodwitError) as caught:
            operation(*words, **named)
        self.assertEqual(caught.exception.errno, number)
        self.assertTrue(str(caught.exception))

    def until_waiting(self, number):
        while [one.waiters for one in self.host.spaces()] != [number]:
            pass

    def test_every_type_of_field_goes_there_and_back(self):
        fields = ("text", 42, -(1 << 63), (1 << 63) - 1, 3.5, 1.0, True, None, b"\x00\xff", ("nested", (1, ())))
        self.bag.out(*fields)
        got = self.bag.in_(*[godwit.ANY] * 10)
        self.assertEqual((got, list(map(type, got))), (fields, list(map(type, fields))))
        self.bag.out(float("nan"))
        self.assertNotEqual(*self.bag.in_(float) * 2)
        run(self.home, "out", '("from the shell", b"x", 1.0)')
        self.assertEqual(self.bag.in_("from the shell", bytes, float), ("from the shell", b"x", 1.0))

    def test_templates(self):
        for n in range(10):
            self.bag.out("k", n, f"user:{n}", n * 0.5, (n, "x"))
        rest = (godwit.ANY,) * 3
        self.assertEqual(self.bag.rd("k", godwit.range_(5, 7), *rest)[1], 5)
        self.assertEqual(self.bag.rd("k", int, godwit.prefix("user:8"), *rest[1:])[1], 8)
        self.assertEqual(self.bag.rd("k", godwit.one_of(9, 3), *rest)[1], 3)
        self.assertEqual(self.bag.rd("k", int, str, 2.0, tuple)[1], 4)
        self.assertEqual(self.bag.rd("k", int, str, float, (7, str))[1], 7)
        self.assertEqual(self.bag.rd("k", int, str, float, (6, "x"))[1], 6)
        self.assertEqual(self.bag.count("k", int, *rest), 10)
        self.assertIsNone(self.bag.rdp("k", float, *rest))
        self.assertIsNone(self.bag.rdp("k", bool, *rest))
        self.assertIsNone(self.bag.inp("k", type(None), *rest))

    def test_what_is_no_field_is_refused_before_it_is_sent(self):
        deep = ()
        for _ in range(40):
            deep = (deep,)
        for kind, bad in ((OverflowError, 1 << 63), (OverflowError, -(1 << 63) - 1), (TypeError, [1]), (TypeError, {}), (TypeError, int),
                          (ValueError, "\ud800"), (ValueError, deep), (TypeError, 1j)):
            self.assertRaises(kind, self.bag.out, "x", bad)
        self.assertRaises(ValueError, self.bag.rdp, float("nan"))
        self.assertRaises(ValueError, godwit.range_, 0.0, float("nan"))
        self.assertRaises(TypeError, godwit.range_, 1, 2.0)
        self.assertRaises(TypeError, self.bag.rdp, list)
        self.assertRaises(ValueError, self.bag.out, *range(5000))
        self.fails(errno.EMSGSIZE, self.bag.out, b"x" * (17 << 20))
        self.assertEqual(self.bag.all(), [])

    def test_waits_and_times(self):
        self.fails(errno.ETIMEDOUT, self.bag.in_, "never", timeout=0.01)
        self.assertRaises(TimeoutError, self.bag.rd, "never", timeout=0)
        got = []
        thread = threading.Thread(target=lambda: got.append(self.bag.in_("job", int)))
        thread.start()
        self.until_waiting(1)
        self.bag.out("job", 1)
        thread.join()
        self.assertEqual(got, [("job", 1)])
        self.bag.out("brief", seconds=0.01)
        while self.host.spaces()[0].tuples:
            pass
        self.assertIsNone(self.bag.rdp("brief"))

    def test_puts_of_several_and_puts_that_depend(self):
        self.bag.out_all(("a", 1), ("a", 2))
        self.assertEqual(self.bag.all("a", int), [("a", 1), ("a", 2)])
        self.assertTrue(self.bag.out_unique(("leader", godwit.ANY), "leader", 1))
        self.assertFalse(self.bag.out_unique(("leader", int), "leader", 2))
        self.assertTrue(self.bag.swap(("leader", 1), "leader", 3))
        self.assertFalse(self.bag.swap(("leader", 1), "leader", 4))
        self.assertEqual(self.bag.in_("leader", int)[1], 3)

    def test_spaces_are_made_dropped_and_collected_into(self):
        later = self.host.create("later", capacity=1 << 20, blocks=True)
        for n in range(5):
            self.bag.out("c", n)
        self.assertEqual((self.bag.copy_collect(later, "c", godwit.range_(0, 1)), self.bag.collect(later, "c", int)), (2, 5))
        facts = {one.space: one for one in self.host.spaces()}["later"]
        self.assertEqual((facts.tuples, facts.capacity, facts.blocks, facts.damaged), (7, 1 << 20, True, False))
        self.fails(errno.EEXIST, self.host.create, "later")
        self.host.drop("later")
        self.fails(errno.ENOENT, later.out, 1)
        full = self.host.create("full", capacity=4096, blocks=True)
        with self.assertRaises(godwit.TimedOut):
            while True:
                full.out("fill", timeout=0)

    def test_a_lease_is_acknowledged_or_comes_back(self):
        self.bag.out("job", 1)
        with self.assertRaises(ZeroDivisionError):
            with self.bag.lease("job", int, seconds=100) as (_, n):
                self.assertIsNone(self.bag.leasep("job", int, seconds=1))
                n / 0
        with self.bag.lease("job", int, seconds=100) as job:
            self.assertEqual((job[1], len(job), job.fields), (1, 2, ("job", 1)))
            job.extend(200)
        self.assertEqual(self.bag.count("job", int), 0)
        self.bag.out("job", 2)
        with self.assertRaises(godwit.TimedOut):
            with self.bag.lease("job", int, seconds=0.001) as late:
                self.bag.rd("job", 2)  # it is back
        again = self.bag.lease("job", int, seconds=100)
        self.assertGreater(again.number, late.number)
        again.release(delay=0.001)
        self.bag.in_("job", 2)

    def test_a_transaction_happens_at_one_moment_or_not_at_all(self):
        self.bag.out("n", 1)
        with self.host.transaction() as t:
            within = t.of(self.bag)
            n = within.in_("n", int)[1]
            within.out("n", n + 1)
            self.assertEqual((self.bag.count("n", int), within.count("n", int)), (0, 1))
        self.assertEqual(self.bag.rd("n", int), ("n", 2))
        with self.assertRaises(ZeroDivisionError):
            with self.host.transaction() as t:
                t.of(self.bag).inp("n", 2)
                n / 0
        self.assertEqual(self.bag.rd("n", int), ("n", 2))

    def test_a_subscription_shows_what_comes(self):
        self.bag.out("seen", 0)
        with self.bag.subscribe("seen", int) as seen:
            for n in range(1, 4):
                self.bag.out("seen", n)
                self.bag.in_("seen", n)
            self.assertEqual([next(seen)[1] for _ in range(3)], [1, 2, 3])
            self.assertRaises(godwit.TimedOut, seen.next, timeout=0)
            self.assertEqual(seen.missed, 0)

    def test_a_pipeline_puts_all_in_their_order(self):
        with self.bag.pipeline() as p:
            for n in range(5000):
                p.out("n", n)
        self.assertEqual([n for _, n in self.bag.all("n", int)], list(range(5000)))
        full = self.host.create("full", capacity=4096)
        with self.assertRaises(godwit.GodwitError) as caught:
            with full.pipeline() as p:
                for n in range(100):
                    p.out("fill", n)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_requests_that_are_not_waited_for(self):
        first, second = self.bag.in_async("job", int), self.bag.in_async("job", int)
        look = self.bag.rd_async("look")
        self.assertFalse(first.done())
        self.assertRaises(godwit.TimedOut, first.result, timeout=0)
        self.bag.out("job", 1)
        self.assertEqual(first.result(), ("job", 1))
        second.cancel()
        self.until_waiting(1)
        self.bag.out("job", 2)
        self.assertEqual(self.bag.inp("job", int), ("job", 2))
        self.bag.out("look")
        self.assertEqual(look.result(), ("look",))
        with self.bag.in_async("job", int):
            pass
        self.until_waiting(0)
        self.assertIsNone(self.bag.out_async("x").result())

    def test_many_threads(self):
        def work(t):
            for n in range(100):
                self.bag.out("t", t, n)
                self.assertEqual(self.bag.in_("t", t, int)[2], n)

        threads = [threading.Thread(target=work, args=[t]) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.bag.all(), [])

    def test_rights_and_keys(self):
        with godwit.connect(self.new_key("reader", "--space", "default=read")) as reader:
            self.bag.out("x")
            self.assertEqual(reader.space().rd("x"), ("x",))
            self.fails(errno.EACCES, reader.space().in_, "x")
            self.fails(errno.EACCES, reader.create, "other")
            self.assertEqual([one.space for one in reader.spaces()], ["default"])
        stranger = self.new_key("stranger")
        run(self.home, "keygen", "--revoke", "stranger")
        with godwit.connect(stranger) as host:
            self.fails(errno.ECONNREFUSED, host.space().rdp, "x")
        self.assertRaises(ValueError, godwit.connect, __file__)
        self.assertRaises(FileNotFoundError, godwit.connect, os.path.join(self.folder, "none"))

    def test_an_interrupted_in_takes_nothing(self):
        program = subprocess.Popen([sys.executable, "-c", "import godwit, sys\nwith godwit.connect(sys.argv[1]) as host:\n  host.space().in_('job')", self.key],
                                   env={**os.environ, "PYTHONPATH": os.path.join(SOURCE, "python"), "PYTHONDONTWRITEBYTECODE": "1"},
                                   stderr=subprocess.DEVNULL)
        self.until_waiting(1)
        program.send_signal(signal.SIGINT)
        program.wait(60)
        self.until_waiting(0)
        self.bag.out("job")
        self.assertEqual(self.bag.inp("job"), ("job",))

    def test_a_killed_program_takes_nothing(self):
        program = subprocess.Popen([sys.executable, "-c", "import godwit, sys; godwit.connect(sys.argv[1]).space().in_('job')", self.key],
                                   env={**os.environ, "PYTHONPATH": os.path.join(SOURCE, "python"), "PYTHONDONTWRITEBYTECODE": "1"})
        self.until_waiting(1)
        program.kill()
        program.wait(60)
        self.bag.out("job")
        self.assertEqual(self.bag.in_("job"), ("job",))

    def test_a_node_that_is_killed_loses_and_repeats_nothing(self):
        with self.bag.pipeline() as p:
            for n in range(2000):
                p.out("n", n)
                if n == 1000:
                    with open(os.path.join(self.home, "node.pid")) as file:
                        pid = int(file.read())
                    ends = os.pidfd_open(pid)
                    os.kill(pid, signal.SIGKILL)
                    select.select([ends], [], [])
                    os.close(ends)
                    self.assertEqual(run(self.home, "node").returncode, 0)
        for n in range(2000):
            self.assertEqual(self.bag.in_("n", int), ("n", n))

    def test_what_is_closed_stays_closed(self):
        self.host.close()
        self.fails(errno.ENOTCONN, self.bag.out, 1)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


class Package(unittest.TestCase):
    def test_doctests(self):
        for module in (godwit._fields, godwit._space):
            result = doctest.testmod(module)
            self.assertGreater(result.attempted, 0)
            self.assertEqual(result.failed, 0)

    def test_it_is_installed_by_pip_without_a_network(self):
        with tempfile.TemporaryDirectory(prefix="godwit-pip-") as folder:
            source = os.path.join(folder, "python")
            shutil.copytree(os.path.join(SOURCE, "python"), source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
            subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--quiet", "--target",
                            os.path.join(folder, "there"), source], check=True, capture_output=True, timeout=120,
                           env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "HOME": folder})
            said = subprocess.run([sys.executable, "-c", "import godwit; print(godwit.__file__, godwit.range_(1, 9))"], cwd=folder,
                                  env={**os.environ, "PYTHONPATH": os.path.join(folder, "there")}, capture_output=True, text=True,
                                  check=True).stdout
            self.assertEqual(said, os.path.join(folder, "there", "godwit", "__init__.py") + " godwit.range_(1, 9)\n")
            self.assertTrue(os.path.exists(os.path.join(folder, "there", "godwit", "py.typed")))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
