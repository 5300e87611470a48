#!/usr/bin/env python3
"""Mediators and unmodified programs: a server that has no socket and is killed, the shell between two programs, and moves.

usage: mediator_test.py SOURCE_DIRECTORY      (the executables: $GODWIT_BUILD)
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path[:0] = [os.path.join(sys.argv[1], "demos", "support"), os.path.join(sys.argv[1], "tests", "support")]
import hosts as hosts_module  # noqa: E402
from remote_client import ANY, Client, Refused, read_key, template  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
SERVER = os.path.join(hosts_module.build_directory(), "http_mediator")
DONE, ABSENT, USAGE, REFUSED, TIMED_OUT = 0, 1, 2, 4, 124
PORT = 8080

# Does what it is told by a line, and says what came of it.
PROGRAM = """
import select, socket, sys
for line in sys.stdin:
    try: print(repr(eval(line)), flush=True)
    except OSError as error: print(type(error).__name__, flush=True)
"""
LISTEN = f'globals().update(l=socket.create_server(("127.0.0.1", {PORT})))'
ACCEPT = "globals().update(c=l.accept()[0])"
CONNECT = f'globals().update(c=socket.create_connection(("127.0.0.1", {PORT})))'
GET = r'c.sendall(b"GET /hello HTTP/1.1\r\n\r\n")'


class Program:
    def __init__(self, popen, *options):
        self.process = popen(GODWIT, "run", *options, "--", "/usr/bin/python3", "-c", PROGRAM, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        return self.process.stdout.readline().strip()

    def ask(self, line):
        self.tell(line)
        return self.hear()

    def end(self):
        self.process.communicate(timeout=60)


class Mediators(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory(prefix="godwit-mediator-")
        self.addCleanup(home.cleanup)
        self.environment = {**os.environ, "GODWIT_HOME": home.name}
        self.addCleanup(self.stop_node)
        self.godwit("node")

    def stop_node(self):
        while self.godwit("ps", "--json")[1]:  # else it leaves the segment to the pods
            pass
        self.godwit("node", "--stop", "--discard")

    def popen(self, *words, **options):
        return subprocess.Popen(words, env=self.environment, **options)

    def program(self):
        program = Program(self.popen)
        self.addCleanup(program.end)
        return program

    def godwit(self, *words):
        done = self.popen(GODWIT, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, error = done.communicate(timeout=60)
        return done.returncode, out.strip(), error.strip()

    def net(self, verb, *words):
        return self.godwit(verb, *words, "--space", "net", "--mediate")

    def takes(self, template, wanted):
        self.assertEqual(self.net("in", template, "--timeout", "30"), (DONE, wanted, ""))

    def puts(self, *tuples):
        self.assertEqual(self.net("out", *tuples, "--timeout", "30"), (DONE, "", ""))

    def two_programs(self):
        server, client = self.program(), self.program()
        self.assertEqual([server.ask(LISTEN), client.ask(CONNECT)], ["None", "None"])
        connection = self.godwit("rd", f'("connect", ?, {PORT}, ?, ?)', "--space", "net")[1].split('"')[5]
        self.assertEqual(server.ask(ACCEPT), "None")
        return server, client, connection

    # --- a mediator as a server

    def server(self):
        server = self.popen(SERVER, str(PORT), stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (server.kill(), server.communicate()))
        self.assertEqual(server.stdout.readline(), f"listening {PORT}\n")
        return server

    def test_a_client_finishes_first_and_reads_to_the_end(self):
        self.server()
        client = self.program()
        self.assertEqual(client.ask(CONNECT), "None")
        self.assertEqual(client.ask('c.getpeername()'), f"('127.0.0.1', {PORT})")
        client.ask(GET)
        client.ask("c.shutdown(socket.SHUT_WR)")
        self.assertEqual(client.ask('b"".join(iter(lambda: c.recv(1000), b""))[-6:]'), r"b'hello\n'")

    def test_a_killed_server_is_to_its_clients_what_linux_makes_it(self):
        server = self.server()
        idle, unanswered, unread = (self.program() for _ in range(3))
        for client in (idle, unanswered, unread):
            self.assertEqual(client.ask(CONNECT), "None")
        idle.tell("c.recv(10)")
        for _ in range(3):
            self.assertIn("connect", server.stdout.readline())
        server.send_signal(signal.SIGSTOP)
        unread.ask(GET)
        server.kill()
        self.assertEqual(idle.hear(), "b''")
        self.assertEqual(unread.ask("c.recv(10)"), "ConnectionResetError")
        self.assertEqual(unanswered.ask("c.recv(10)"), "b''")
        self.assertEqual(idle.ask(CONNECT), "ConnectionRefusedError")
        self.server()
        self.assertEqual(idle.ask(CONNECT), "None")
        idle.ask(GET)
        self.assertEqual(idle.ask("c.recv(12)"), "b'HTTP/1.1 200'")

    def test_a_server_outlives_the_node(self):
        self.server()
        client = self.program()
        self.assertEqual(client.ask(CONNECT), "None")
        with open(os.path.join(self.environment["GODWIT_HOME"], "node.pid")) as file:
            os.kill(int(file.read()), signal.SIGKILL)
        self.assertEqual(self.godwit("node")[0], DONE)
        client.ask(GET)
        self.assertEqual(client.ask("c.recv(12)"), "b'HTTP/1.1 200'")
        self.assertEqual(client.ask(CONNECT), "None")

    # --- between two programs

    def test_the_shell_takes_and_puts_between_two_programs(self):
        server, client, connection = self.two_programs()
        server.tell("c.recv(100)")  # a sleeping reader, woken by whoever puts
        self.puts(f'("stream", "{connection}", "c>s", 0, b"from nobody")')
        self.assertEqual(server.hear(), "b'from nobody'")
        client.tell(r'c.sendall(b"x" * 300000)')  # more than there is room for
        taken = 0
        while taken < 300000:
            status, out, _ = self.net("in", f'("stream", "{connection}", "c>s", ?, ?)', "--timeout", "30")
            self.assertEqual(status, DONE)
            self.assertTrue(out.startswith(f'("stream", "{connection}", "c>s", {11 + taken}, b"xx'))
            taken += out.count("x")
        self.assertEqual(client.hear(), "None")
        self.puts(f'("stream", "{connection}", "c>s", 300011, b"al")')
        self.puts(f'("stream", "{connection}", "c>s", 300013, b"tered")')
        self.assertEqual(server.ask("c.recv(7, socket.MSG_WAITALL)"), "b'altered'")
        server.ask('c.sendall(b"answer")')
        self.assertEqual(self.net("inp", '("stream", ?, "c>s", ?, ?)')[0], ABSENT)
        self.takes('("stream", ?, "s>c", ?, b"ans"*)', f'("stream", "{connection}", "s>c", 0, b"answer")')
        server.ask("c.close()")
        self.assertEqual(client.ask("c.recv(100)"), "b''")

    def test_whoever_sleeps_is_woken(self):
        server, client, connection = self.two_programs()
        for program in (server, client):
            program.ask("globals().update(e=select.epoll()) or e.register(c)")
        ways = ("", "select.select([c], [], []) and ", "[e.poll() for _ in [e.modify(c, select.EPOLLIN)]] and ")
        for i in range(60):
            (client if i % 2 else server).tell(ways[i // 2 % 3] + "c.recv(100)")
            self.puts(f'("stream", "{connection}", "{"s>c" if i % 2 else "c>s"}", {i // 2}, b"!")')
            self.assertEqual((client if i % 2 else server).hear(), "b'!'")

    def test_what_is_wrong_is_refused_and_changes_nothing(self):
        server, client, connection = self.two_programs()
        client.ask('c.sendall(b"hello")')
        stream = f'("stream", "{connection}", "c>s", 0, b"x")'
        for verb in ("out", "in", "inp"):
            status, out, error = self.godwit(verb, stream, "--space", "net")
            self.assertEqual((status, out), (REFUSED, ""))
            self.assertIn("--mediate", error)
            self.assertEqual(self.godwit(verb, stream, "--mediate")[0], USAGE)
        self.assertEqual(self.net("rd", stream)[0], USAGE)
        self.assertEqual(self.net("out", stream), (REFUSED, "", f"godwit out: the stream c>s of {connection} ends at 5; that is the OFFSET to give"))
        for wrong in (f'("stream", "{connection}", "c>s", 5, nil)', '("stream", "ffffff-1", "c>s", 0, b"x")', '("x")'):
            status, out, error = self.net("out", wrong)
            self.assertEqual((status, out), (REFUSED, ""))
            self.assertRegex(error, "^godwit out: .+; .+$")
        self.assertEqual(self.net("in", '("stream", ?, "s>c", ?, ?)', "--timeout", "0.05")[0], TIMED_OUT)
        self.assertEqual(server.ask("c.recv(100)"), "b'hello'")

    def test_a_killed_mediator_takes_nothing_along(self):
        server, client, connection = self.two_programs()
        for i in range(10):
            waiting = self.popen(GODWIT, "in", f'("stream", "{connection}", "c>s", ?, b"never")', "--space", "net", "--mediate")
            client.ask(f'c.sendall(b"{i}")')
            waiting.kill()
            waiting.wait()
            self.assertEqual(server.ask("c.recv(100)"), f"b'{i}'")

    # --- from another machine

    def test_a_remote_client_looks_at_traffic_and_with_the_right_takes_and_puts_it(self):
        self.godwit("node", "--stop")
        self.godwit("node", "--clients", "127.0.0.1:0")
        looks = Client(read_key(self.godwit("keygen", "looks", "--space", "net=read", "--space", "*=put")[1]))
        stands_between = Client(read_key(self.godwit("keygen", "mediates", "--space", "net=read,mediate", "--space", "*=read")[1]))
        nosy = Client(read_key(self.godwit("keygen", "nosy", "--space", "*=read,take,put")[1]))
        for client in (looks, stands_between, nosy):
            self.addCleanup(client.close)
        server, client, connection = self.two_programs()
        stream = template("stream", connection, "c>s", ANY, ANY)
        waits = looks.begin(["rd", "net", stream, None])[0]
        client.ask('c.sendall(b"hello")')
        self.assertEqual(looks.answer(waits), ["stream", connection, "c>s", 0, b"hello"])
        self.assertEqual(looks.ask("count", "net", stream), 1)
        self.assertEqual(looks.ask("copy_collect", "net", "default", stream), 1)
        self.assertEqual(stands_between.ask("all", "net", stream), stands_between.ask("all", "default", []))
        for asks in (lambda: looks.ask("in", "net", stream, 0), lambda: nosy.ask("rd", "net", stream, 0),
                     lambda: nosy.ask("out", "net", [["stream", connection, "c>s", 5, b"x"]], None, 0)):
            with self.assertRaises(Refused) as refused:
                asks()
            self.assertEqual(refused.exception.args[0], 13)
        self.assertEqual(stands_between.ask("in", "net", stream, None), ["stream", connection, "c>s", 0, b"hello"])
        with self.assertRaises(Refused):
            stands_between.ask("out", "net", [["stream", connection, "c>s", 4, b"hullo"]], None, 0)
        server.tell("c.recv(5)")
        self.assertTrue(stands_between.ask("out", "net", [["stream", connection, "c>s", 5, b"hullo"]], None, None))
        self.assertEqual(server.hear(), "b'hullo'")


class OfTwoHosts(unittest.TestCase):
    def test_a_mediator_serves_its_own_host_and_keeps_off_what_moves(self):
        with hosts_module.Hosts() as pair:
            server, client = Program(pair.a.popen, "--name", "server"), Program(pair.a.popen, "--name", "client")
            self.assertEqual([server.ask(LISTEN), client.ask(CONNECT), server.ask(ACCEPT)], ["None"] * 3)
            client.ask('c.sendall(b"one")')
            rd = pair.a.godwit("rd", '("stream", ?, "c>s", ?, ?)', "--space", "net").stdout
            connection = rd.split('"')[3]

            def mediate(host, verb, text, status):
                done = host.godwit(verb, text, "--space", "net", "--mediate", check=False)
                self.assertEqual(done.returncode, status, done.stderr)
                return done.stdout.strip()

            whole = f'("stream", "{connection}", "c>s", ?, ?)'
            self.assertEqual(mediate(pair.a, "inp", whole, DONE), f'("stream", "{connection}", "c>s", 0, b"one")')
            mediate(pair.a, "out", f'("stream", "{connection}", "c>s", 3, b"two")', DONE)
            pair.a.godwit("move", "server", "b")
            for host in (pair.a, pair.b):
                mediate(host, "inp", whole, ABSENT)
                mediate(host, "out", f'("stream", "{connection}", "c>s", 6, b"no")', REFUSED)
            self.assertEqual(server.ask("c.recv(100)"), "b'two'")
            listening = pair.a.popen("sh", "-c", f"echo $$; exec {SERVER} {PORT + 1}", stdout=subprocess.PIPE, text=True)
            pid = listening.stdout.readline().strip()
            self.assertEqual(listening.stdout.readline(), f"listening {PORT + 1}\n")
            there = f'socket.create_connection(("127.0.0.1", {PORT + 1})).close()'
            self.assertEqual(client.ask(there), "None")
            self.assertEqual(server.ask(there), "ConnectionRefusedError")
            # Its client moves away.
            self.assertEqual(client.ask(f'globals().update(m=socket.create_connection(("127.0.0.1", {PORT + 1})))'), "None")
            for home in ("a", "b"):
                if home == "b":
                    pair.a.godwit("move", "client", "b")
                client.ask(GET.replace("c.", "m."))
                self.assertEqual(client.ask('m.recv(1000)[-6:]'), r"b'hello\n'")
            client.tell("m.recv(1000)")
            pair.a.run("kill", "-9", pid)
            self.assertEqual(client.hear(), "b''")
            for program in (server, client):
                program.end()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
