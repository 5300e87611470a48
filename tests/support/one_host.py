"""A host of the test's own, and godwit's commands on it."""
import os
import subprocess
import tempfile
import unittest

from hosts import build_directory

GODWIT = os.path.join(build_directory(), "godwit")
DONE, ABSENT, USAGE, REFUSED, TIMED_OUT = 0, 1, 2, 4, 124


class OneHost(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="godwit-host-")
        self.environment = {**os.environ, "GODWIT_HOME": self.home.name}
        self.addCleanup(self.home.cleanup)
        self.addCleanup(lambda: self.godwit("node", "--stop", "--discard"))

    def popen(self, *words):
        return subprocess.Popen([GODWIT, *words], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def godwit(self, *words):
        """Its status, stdout and stderr."""
        process = self.popen(*words)
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def gives(self, *words, status=DONE, out=""):
        self.assertEqual(self.godwit(*words)[:2], (status, out))
