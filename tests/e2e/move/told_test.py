"""What ps shows of a pod during its move, and what is said of moves that are not to be. The target's node is stopped at a
point of the move, so that there is time to look."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fault_test import node_state, start_nodes  # noqa: E402
from hosts import Hosts, build_directory  # noqa: E402
from node_test import node_pid  # noqa: E402

GODWIT = os.path.join(build_directory(), "godwit")


class MoveAtPoint:
    """A move of the pod "sleeper" from a to b that stands at a point of b's."""

    def __init__(self, point):
        self.hosts = Hosts(start_nodes=False)
        self.point = point

    def __enter__(self):
        hosts = self.hosts.__enter__()
        start_nodes(hosts, {hosts.b: self.point + ":stop"})
        hosts.a.godwit("run", "--detach", "--name", "sleeper", "--", "sleep", "1000")
        self.mover = hosts.a.popen(GODWIT, "move", "sleeper", "b", stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        while node_state(hosts.b) != "T":
            assert self.mover.poll() is None, self.mover.stderr.read()
        return self

    def __exit__(self, *problem):
        self.hosts.__exit__(*problem)

    def go_on(self):
        """Returns the mover's status and what it said."""
        self.hosts.b.run("kill", "-CONT", node_pid(self.hosts.b))
        _, said = self.mover.communicate()
        return self.mover.returncode, said

    def state(self):
        return json.loads(self.hosts.a.godwit("ps", "--json").stdout)["state"]


class Told(unittest.TestCase):
    def test_ps_says_moving_and_frozen_as_it_is(self):
        for point, state in (("move.target.built", "moving"), ("move.target.ready", "frozen")):
            with self.subTest(point=point), MoveAtPoint(point) as move:
                self.assertEqual(move.state(), state)
                move.go_on()
                self.assertEqual(move.state(), "running")

    def test_a_pod_that_ends_during_its_move(self):
        with MoveAtPoint("move.target.built") as move:
            move.hosts.a.godwit("stop", "sleeper")
            self.assertEqual(move.go_on(), (4, "godwit move: pod sleeper ended during the move; see godwit logs sleeper\n"))

    def test_a_second_move_of_the_same_pod(self):
        with MoveAtPoint("move.target.built") as move:
            second = move.hosts.a.run(GODWIT, "move", "sleeper", "b", check=False)
            self.assertEqual((second.returncode, second.stderr),
                             (4, "godwit move: pod sleeper is being moved; wait until that move has ended\n"))
            self.assertEqual(move.go_on(), (0, ""))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
