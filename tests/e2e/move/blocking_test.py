"""A program that blocks in accept or recv while it moves goes on blocking; its descriptors keep O_NONBLOCK as it was."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../demos/support"))
from hosts import Hosts, build_directory  # noqa: E402

GODWIT = os.path.join(build_directory(), "godwit")

SERVER = """
import os, socket
listener = socket.create_server(("", 7001))
print("up", flush=True)
connection, _ = listener.accept()
print("accepted", os.get_blocking(listener.fileno()), os.get_blocking(connection.fileno()), flush=True)
print(connection.recv(5).decode(), flush=True)
print("blocking", os.get_blocking(listener.fileno()), os.get_blocking(connection.fileno()), flush=True)
connection.setblocking(False)
print("nonblocking", flush=True)
input()
print(os.get_blocking(listener.fileno()), os.get_blocking(connection.fileno()), flush=True)
"""
CLIENT = """
import socket
connection = socket.create_connection(("127.0.0.1", 7001))
print("up", flush=True)
input()
connection.sendall(b"hello")
input()
"""


class Blocking(unittest.TestCase):
    def start(self, host, name, program):
        pod = host.popen(GODWIT, "run", "--name", name, "--", "/usr/bin/python3", "-c", program, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        self.assertEqual(pod.stdout.readline(), "up\n")
        return pod

    def test_sockets_block_as_before(self):
        with Hosts() as hosts:
            server = self.start(hosts.a, "server", SERVER)
            for host in ("b", "a", "b"):  # in accept
                hosts.a.godwit("move", "server", host)
            client = self.start(hosts.a, "client", CLIENT)
            self.assertEqual(server.stdout.readline(), "accepted True True\n")
            for host in ("a", "b", "a", "b"):  # in recv
                hosts.a.godwit("move", "server", host)
            client.stdin.write("\n")
            client.stdin.flush()
            self.assertEqual(server.stdout.readline(), "hello\n")
            self.assertEqual(server.stdout.readline(), "blocking True True\n")
            self.assertEqual(server.stdout.readline(), "nonblocking\n")
            for host in ("a", "b"):
                hosts.a.godwit("move", "server", host)
            self.assertEqual(server.communicate("\n", timeout=30)[0], "True False\n")
            client.communicate("\n", timeout=30)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
