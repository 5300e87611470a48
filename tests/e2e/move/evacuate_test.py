"""A host that has been emptied is not needed any more: its power goes, its link is gone, and the pod that left it goes on."""
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
from hosts import Hosts  # noqa: E402
from load import RedisUnderLoad  # noqa: E402

PATIENCE = 30  # s
PROGRESS = 10_000_000  # bytes


def bytes_served(host):
    pods = [json.loads(line) for line in host.godwit("ps", "--json").stdout.splitlines()]
    return next(pod["bytes_in"] for pod in pods if pod["pod"] == "redis")


class Evacuation(unittest.TestCase):
    def test_of_the_first_host(self):
        with Hosts() as hosts:
            load = RedisUnderLoad(hosts)
            load.move("b")
            hosts.b.run("ip", "link", "delete", "eth1")
            hosts.a.kill()
            before, until = bytes_served(hosts.b), time.monotonic() + PATIENCE
            while bytes_served(hosts.b) < before + PROGRESS:
                self.assertLess(time.monotonic(), until, "the client on the other host is not served")
            load.clients = [client for client in load.clients if client.name == "remote"]
            operations, errors, lost, repeated, complaints = load.finish()
            self.assertEqual((errors, lost, repeated, complaints), (0, 0, 0, []))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
