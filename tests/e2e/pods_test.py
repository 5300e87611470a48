"""What ps, hosts, stop, kill and logs say of pods and hosts of a community, also when a host says nothing any more."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../demos/support"))
from hosts import Hosts, build_directory  # noqa: E402

GODWIT = os.path.join(build_directory(), "godwit")
PORT = 7777

# Each does the next step when it gets a line, and says that it has.
SERVER = f"""
import socket, sys
listener = socket.create_server(("127.0.0.1", {PORT})); print("listening", flush=True)
sys.stdin.readline(); c, _ = listener.accept(); print("accepted", flush=True)
for line in sys.stdin:
    print(len(c.recv(int(line))), flush=True)
"""
CLIENT = f"""
import socket, sys
c = socket.create_connection(("127.0.0.1", {PORT})); print("connected", flush=True)
for line in sys.stdin:
    c.sendall(b"x" * int(line)); print("sent", flush=True)
"""


class Program:
    """A foreground pod that is told what to do by lines."""

    def __init__(self, host, name, text):
        self.process = host.popen(GODWIT, "run", "--name", name, "--", sys.executable, "-c", text, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self):
        self.process.communicate()


def facts(host, *words):
    return [json.loads(line) for line in host.godwit(*words, "--json").stdout.splitlines()]


class Ps(unittest.TestCase):
    def check_connection(self, server_host, client_host, asker):
        def ends():
            rows = facts(asker, "ps", "--connections", "--pending")
            self.assertEqual(len({row["connection"] for row in rows}), 1, rows)
            return {row["pod"]: row for row in rows}

        server = Program(server_host, "server", SERVER)
        self.assertEqual(server.hear(), "listening")
        client = Program(client_host, "client", CLIENT)
        self.assertEqual(client.hear(), "connected")
        row = ends()["client"]
        self.assertEqual((row["host"], row["end"], row["state"]), (client_host.name, "client", "connecting"))
        self.assertEqual(server.ask(""), "accepted")
        both = ends()
        self.assertEqual({(r["pod"], r["host"], r["end"], r["state"]) for r in both.values()},
                         {("server", server_host.name, "server", "open"), ("client", client_host.name, "client", "open")})
        self.assertTrue(all(r["to"] == f"127.0.0.1:{PORT}" and r["from"] == both["client"]["from"] for r in both.values()))
        self.assertEqual(client.ask(5), "sent")
        self.assertEqual(self.pending(ends()), {(5, 0)})
        self.assertEqual(server.ask(2), "2")  # once its bytes are there
        self.assertEqual(self.pending(ends()), {(3, 0)})
        self.assertEqual(server.ask(3), "3")
        self.assertEqual(self.pending(ends()), {(0, 0)})
        client.end()
        server.end()

    def pending(self, ends):
        return {(row["pending_c>s"], row["pending_s>c"]) for row in ends.values()}

    def test_connections_say_whose_each_end_is_and_what_its_reader_has_not_taken(self):
        with Hosts() as hosts:
            self.check_connection(hosts.a, hosts.a, hosts.b)
            self.check_connection(hosts.a, hosts.b, hosts.a)
            self.check_connection(hosts.b, hosts.a, hosts.a)

    def test_the_table_keeps_to_one_line_a_pod_and_says_what_keeps_it_from_moving(self):
        with Hosts() as hosts:
            text = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint(1, flush=True)\ninput()"
            pod = Program(hosts.a, "udp", text)
            pod.hear()
            hosts.a.godwit("run", "--detach", "--name", "odd", "--", "sh", "-c", "exec sleep 1000", "", "\t\x1b[31m")
            heading, *rows = hosts.b.godwit("ps").stdout.splitlines()
            self.assertEqual(heading.split(), "POD HOST PID STATE EPOCH MOVABLE CONNECTIONS REASON COMMAND".split())
            self.assertEqual(len(rows), 2, rows)
            table = {row.split()[0]: row for row in rows}
            self.assertIn(r"import socket\ns = socket.socket(", table["udp"])
            self.assertIn("is a UDP socket", table["udp"])
            self.assertTrue(table["odd"].endswith(r" sh -c exec sleep 1000 '' \t\x1b[31m"), table["odd"])
            pod.end()


class SilentHost(unittest.TestCase):
    def refused(self, host, status, fragment, *words):
        done = host.run(GODWIT, *words, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(f"godwit {words[0]}: ") and "; " in done.stderr, done.stderr)
        self.assertIn(fragment, done.stderr)

    def presence(self, host):
        return {row["host"]: row["present"] for row in facts(host, "hosts")}

    def test_is_named_by_whoever_asks_it(self):
        with Hosts() as hosts:
            hosts.b.godwit("run", "--detach", "--name", "there", "--", "sleep", "1000")
            self.assertEqual(self.presence(hosts.a), {"a": True, "b": True})
            hosts.b.kill()
            self.assertEqual(self.presence(hosts.a), {"a": True, "b": False})
            self.assertEqual([row["state"] for row in facts(hosts.a, "ps")], ["unreachable"])
            for words in (("kill", "there"), ("logs", "-f", "there"), ("move", "there", "a")):
                self.refused(hosts.a, 4, "host b does not answer", *words)
            self.refused(hosts.a, 124, "host b does not answer", "kill", "--timeout", "0.5", "there")

    def test_that_has_left_is_not_asked(self):
        with Hosts() as hosts:
            hosts.b.godwit("run", "--detach", "--name", "there", "--", "sleep", "1000")
            hosts.a.godwit("run", "--detach", "--name", "here", "--", "sleep", "1000")
            self.assertIn("still running here: there", hosts.b.godwit("node", "--stop").stdout)
            self.assertEqual(self.presence(hosts.a), {"a": True, "b": False})
            for words in (("kill", "there"), ("logs", "there"), ("move", "there", "a"), ("move", "here", "b")):
                self.refused(hosts.a, 4, "no node runs on b; start it there", *words)
            hosts.start_node(hosts.b)
            self.assertEqual(self.presence(hosts.a), {"a": True, "b": True})
            hosts.a.godwit("kill", "there")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
