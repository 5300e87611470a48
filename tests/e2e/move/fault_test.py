"""For every fault point on the path of a move: the node that passes it is killed there, or both nodes are. Restarted nodes
settle it unaided: the pod serves on exactly one host, and no client sees an error.

Run by hand: not every point settles yet (docs/moves.md).

usage: fault_test.py [POINT...]
"""
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hosts import Hosts, build_directory  # noqa: E402
from load import RedisUnderLoad  # noqa: E402
from node_test import kill_node, restart_node  # noqa: E402

PATIENCE = 12  # s, for the nodes to settle


def points():
    if len(sys.argv) > 1:
        return sys.argv[1:]
    listed = subprocess.run([os.path.join(build_directory(), "godwit"), "faults"], capture_output=True, text=True,
                            check=True).stdout.split()
    # Thawing and abandoning are not on the path of a move that goes well.
    return [p for p in listed if p.startswith("move.") and not p.endswith((".thawing", ".abandoning"))]


def node_is_alive(host):
    with open(os.path.join(host.home, "node.pid")) as f:
        return host.run("kill", "-0", f.read().strip(), check=False).returncode == 0


def strike(point, both):
    with Hosts(start_nodes=False) as hosts:
        struck = {"a"} if point.startswith("move.source") else {"b"}
        fault = {"GODWIT_FAULT": point}
        hosts.start_node(hosts.a, env=hosts.a.environment(**(fault if "a" in struck else {})))
        with open(os.path.join(hosts.a.home, "community.key"), "rb") as key:
            with open(os.path.join(hosts.b.home, "community.key"), "wb") as copy:
                os.chmod(hosts.b.home, 0o700)
                os.fchmod(copy.fileno(), 0o600)
                copy.write(key.read())
        hosts.start_node(hosts.b, "--join", hosts.node_address,
                         env=hosts.b.environment(**(fault if "b" in struck else {})))
        load = RedisUnderLoad(hosts)
        mover = hosts.a.popen(load.godwit, "move", "redis", "b", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True)
        victim = hosts.a if "a" in struck else hosts.b
        until = time.monotonic() + PATIENCE
        while node_is_alive(victim):
            if mover.poll() is not None and node_is_alive(victim):
                return f"{point} was not passed: {mover.stderr.read()}"
            time.sleep(0.01)
        if both:
            kill_node(hosts.b if victim is hosts.a else hosts.a)
        if both or victim is hosts.a:
            restart_node(hosts, hosts.a)
        if both or victim is hosts.b:
            restart_node(hosts, hosts.b)
        mover.kill()
        mover.wait()
        # Where the pod is now, a move to the other host says more than ps does: it must succeed, both ways.
        for target in ("a", "b", "a"):
            problem = move_when_settled(load, target, until + PATIENCE)
            if problem:
                return problem
        operations, errors, lost, repeated, complaints = load.finish()
        if errors or lost or repeated or complaints or operations < 1000:
            return f"operations {operations} errors {errors} lost {lost} repeated {repeated} {complaints}"
    return None


def move_when_settled(load, target, until):
    while True:
        try:
            load.move(target)
            return None
        except RuntimeError as error:
            if "already" in str(error):
                return None
            if time.monotonic() > until:
                return str(error)
            time.sleep(0.1)


class MoveFaults(unittest.TestCase):
    """One test a point and victim, added below."""


def add(point, both):
    def test(self):
        problem = strike(point, both)
        print(problem or "settled", end=" ", flush=True)
        self.assertIsNone(problem)
    test.__name__ = f"test_{point.replace('.', '_')}_{'both' if both else 'one'}"
    setattr(MoveFaults, test.__name__, test)


if __name__ == "__main__":
    for each in points():
        add(each, False)
        add(each, True)
    unittest.main(argv=sys.argv[:1], verbosity=2, warnings="ignore")
