"""For every fault point on the path of a move: the node that passes it is killed there, or both nodes are, or the link is
cut there and restored. The nodes settle it unaided: the pod serves on exactly one host, and no client sees an error.

usage: fault_test.py one|both|cut [POINT...]
"""
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hosts import Hosts, build_directory  # noqa: E402
from load import RedisUnderLoad  # noqa: E402
from node_test import kill_node, node_pid, restart_node  # noqa: E402

PATIENCE = 30  # s, for the nodes to settle
CUT = 3  # s without the link: longer than the nodes wait for each other


# Points that only a failing move passes: what the other node's fault is then.
CAUSES = {"move.source.thawing": "move.target.complete:error", "move.target.abandoning": "move.source.handed_over:error"}


def points():
    if len(sys.argv) > 2:
        return sys.argv[2:]
    listed = subprocess.run([os.path.join(build_directory(), "godwit"), "faults"], capture_output=True, text=True,
                            check=True).stdout.split()
    return [p for p in listed if p.startswith("move.")]


def node_state(host):
    """The state of /proc/PID/stat, e.g. T for stopped; None if there is no such process."""
    stat = host.run("cat", f"/proc/{node_pid(host)}/stat", check=False)
    return stat.stdout.rsplit(")", 1)[-1].split()[0] if stat.returncode == 0 else None


def start_nodes(hosts, faults):
    def environment(host):
        return host.environment(**({"GODWIT_FAULT": faults[host]} if faults.get(host) else {}))

    hosts.start_node(hosts.a, env=environment(hosts.a))
    shutil.copy(os.path.join(hosts.a.home, "community.key"), os.path.join(hosts.b.home, "community.key"))
    hosts.start_node(hosts.b, "--join", hosts.node_address, env=environment(hosts.b))


def cut_link(hosts, victim):
    """The victim stands at its fault point; it goes on without the link, and finds it again later."""
    hosts.b.run("ip", "link", "set", "eth1", "down")
    victim.run("kill", "-CONT", node_pid(victim))
    time.sleep(CUT)
    hosts.b.run("ip", "link", "set", "eth1", "up")


def kill_and_restart(hosts, victim, other, both):
    if both:
        kill_node(other)
    for host in (hosts.a, hosts.b):
        if both or host is victim:
            restart_node(hosts, host)


def strike(point, how):
    with Hosts(start_nodes=False) as hosts:
        victim, other = (hosts.a, hosts.b) if point.startswith("move.source") else (hosts.b, hosts.a)
        start_nodes(hosts, {victim: point + (":stop" if how == "cut" else ":kill"), other: CAUSES.get(point)})
        load = RedisUnderLoad(hosts)
        hosts.a.popen(load.godwit, "move", "redis", "b", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while (state := node_state(victim)) not in ("T", None):
            if time.monotonic() > until:
                return f"{point} was not passed"
        assert (state == "T") == (how == "cut")
        if how == "cut":
            cut_link(hosts, victim)
        else:
            kill_and_restart(hosts, victim, other, how == "both")
        # Where the pod is now, a move to the other host says more than ps does: it must succeed, both ways.
        until = time.monotonic() + PATIENCE
        for target in ("a", "b", "a"):
            problem = move_when_settled(load, target, until)
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
    """One test a point, added below."""


def add(point, how):
    def test(self):
        problem = strike(point, how)
        print(problem or "settled", end=" ", flush=True)
        self.assertIsNone(problem)
    test.__name__ = f"test_{point.replace('.', '_')}_{how}"
    setattr(MoveFaults, test.__name__, test)


if __name__ == "__main__":
    for each in points():
        add(each, sys.argv[1])
    unittest.main(argv=sys.argv[:1], verbosity=2, warnings="ignore")
