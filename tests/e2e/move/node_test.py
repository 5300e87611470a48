"""A node that is killed leaves running programs running; a restarted one takes everything up again."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
from hosts import Hosts  # noqa: E402
from load import RedisUnderLoad  # noqa: E402


def node_pid(host):
    """As the home tells it, in the host's own namespace."""
    with open(os.path.join(host.home, "node.pid")) as f:
        return f.read().strip()


def wait_for_death(host):
    host.run("tail", "--sleep-interval", "0.01", "--follow", "--pid", node_pid(host), "/dev/null")


def kill_node(host):
    """By SIGKILL. Returns when the process is gone."""
    host.run("kill", "-KILL", node_pid(host))
    wait_for_death(host)


def restart_node(hosts, host):
    if host is hosts.a:
        address = hosts.node_address
        host.godwit("node", "--host-name", "a", "--listen", address)
    else:
        host.godwit("node", "--host-name", "b", "--listen", host.address + ":0", "--join", hosts.node_address)


class NodeKilled(unittest.TestCase):
    def check(self, load):
        operations, errors, lost, repeated, complaints = load.finish()
        self.assertEqual((errors, lost, repeated, complaints), (0, 0, 0, []))
        self.assertGreater(operations, 1000)

    def progress_of(self, client, load):
        self.assertIsNone(client.process.poll(), f"client {client.name} has ended")

    def test_connections_outlive_the_node_of_either_host(self):
        for victim in ("a", "b"):
            with self.subTest(node=victim), Hosts() as hosts:
                load = RedisUnderLoad(hosts)
                host = getattr(hosts, victim)
                kill_node(host)
                time.sleep(0.3)  # an instant in which the programs are alone
                restart_node(hosts, host)
                load.move("b")
                load.move("a")
                self.check(load)

    def test_connections_outlive_both_nodes_after_a_move(self):
        with Hosts() as hosts:
            load = RedisUnderLoad(hosts)
            load.move("b")
            kill_node(hosts.a)
            kill_node(hosts.b)
            restart_node(hosts, hosts.a)
            restart_node(hosts, hosts.b)
            load.move("a")
            self.check(load)


if __name__ == "__main__":
    unittest.main()
