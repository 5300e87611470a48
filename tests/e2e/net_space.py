#!/usr/bin/env python3
"""Socket traffic of real programs as tuples: godwit rd, rdp and count of the space net, on one host and over two.

usage: net_space.py SOURCE_DIRECTORY one|two      (the executables: $GODWIT_BUILD)
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(sys.argv[1], "demos", "support"))
import hosts as hosts_module  # noqa: E402

GODWIT = os.path.join(hosts_module.build_directory(), "godwit")
PYTHON = "/usr/bin/python3"
STREAM, CONNECT = '("stream", ?, ?, ?, ?)', '("connect", ?, ?, ?, ?)'
PORT = 7777

# Each does the next step when it gets a line, and says that it has.
SERVER = f"""
import socket, sys
listener = socket.socket(); listener.bind(("127.0.0.1", {PORT})); listener.listen(); print("listening", flush=True)
sys.stdin.readline(); c, _ = listener.accept(); print("accepted", flush=True)
for line in sys.stdin:
    print(c.recv(int(line)), flush=True)
"""
CLIENT = f"""
import socket, sys
c = socket.socket(); sys.stdin.readline(); c.connect(("127.0.0.1", {PORT})); print("connected", flush=True)
for line in sys.stdin:
    c.sendall(eval(line)); print("sent", flush=True)
"""


class Program:
    def __init__(self, start, text):
        self.process = start(GODWIT, "run", "--", PYTHON, "-c", text, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self, wanted):
        line = self.process.stdout.readline().strip()
        assert line == wanted, f"{line!r} instead of {wanted!r}"

    def step(self, line, wanted):
        self.tell(line)
        self.hear(wanted)

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0


class Here:
    """This machine as a host."""

    def __init__(self, home):
        self.environment = {**os.environ, "GODWIT_HOME": home}

    def popen(self, *words, **options):
        return subprocess.Popen(words, env=self.environment, **options)

    def net(self, verb, *words, status=0, space="net"):
        done = self.popen(GODWIT, verb, *words, "--space", space, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = done.communicate(timeout=60)
        assert done.returncode == status, f"{verb} {words}: {done.returncode}, {out!r}, {err!r}"
        return out.strip()


class There(Here):
    """A host of a pair."""

    def __init__(self, host):
        self.popen = host.popen


def waiting(host, template):
    """A godwit rd; it need not have begun to wait: it answers either way."""
    return host.popen(GODWIT, "rd", template, "--space", "net", "--timeout", "30", stdout=subprocess.PIPE, text=True)


def answer(process):
    out, _ = process.communicate(timeout=40)
    assert process.returncode == 0, f"rd: status {process.returncode}"
    return out.strip()


def until(host, verb, template, wanted):
    """Between two hosts bytes take their time."""
    for _ in range(400):
        got = host.net(verb, template)
        if got == wanted:
            return
    raise AssertionError(f"{verb} {template}: {got!r} instead of {wanted!r}")


def check(server_host, client_host, asker):
    assert asker.net("count", STREAM) == "0"
    assert asker.net("rdp", STREAM, status=1) == ""
    asker.net("rd", STREAM, "--timeout", "0.1", status=124)
    server = Program(server_host.popen, SERVER)
    server.hear("listening")
    client = Program(client_host.popen, CLIENT)
    request, bytes_ = waiting(asker, f'("connect", "127.0.0.1", {PORT}, ?, ?)'), waiting(asker, STREAM)
    client.step("", "connected")
    found = answer(request)
    connection = found.split('"')[5]
    assert found.startswith(f'("connect", "127.0.0.1", {PORT}, "{connection}", "127.0.0.1:'), found
    until(asker, "count", CONNECT, "1")
    client.step(r'b"hello \x00\xff"', "sent")
    assert answer(bytes_) == rf'("stream", "{connection}", "c>s", 0, b"hello \x00\xff")'
    until(asker, "count", STREAM, "1")
    assert asker.net("count", STREAM, CONNECT) == "2"
    assert json.loads(asker.net("rdp", STREAM, "--json"))[4] == {"bytes": "aGVsbG8gAP8="}
    server.step("", "accepted")
    assert asker.net("count", CONNECT) == "0"
    later = waiting(asker, f'("stream", "{connection}", ?, 8..100, b"more"*)')
    server.step("6", "b'hello '")
    assert asker.net("rdp", STREAM) == rf'("stream", "{connection}", "c>s", 6, b"\x00\xff")'
    server.step("100", r"b'\x00\xff'")
    assert asker.net("count", STREAM) == "0"
    client.step('b"more"', "sent")
    assert answer(later) == f'("stream", "{connection}", "c>s", 8, b"more")'
    server.step("100", "b'more'")
    assert asker.net("count", STREAM) == "0"
    client.end()
    server.end()


def check_copies(host):
    """What is pending can be copied to a space and exported, and is still pending; a watch sees each byte once."""
    server, client = Program(host.popen, SERVER), Program(host.popen, CLIENT)
    server.hear("listening")
    watch = host.popen(GODWIT, "watch", STREAM, "--space", "net", "--count", "2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watch.stderr.readline() == "watching\n"
    client.step("", "connected")
    client.step('b"pending"', "sent")
    first = watch.stdout.readline()
    client.step('b" more"', "sent")
    assert [line.split(", ", 3)[3] for line in (first, *watch.stdout)] == ['0, b"pending")\n', '7, b" more")\n']
    assert watch.wait(20) == 0
    watch.communicate()
    assert host.net("collect", STREAM, "--to", "default", "--copy") == "1"
    copied = host.net("inp", '("stream", ?, "c>s", 0, b"pending more")', space="default")
    assert host.net("rdp", STREAM) == copied
    assert json.loads(host.net("export", STREAM, "--json"))[4] == {"bytes": "cGVuZGluZyBtb3Jl"}
    host.net("collect", STREAM, "--to", "default", status=4)
    server.step("", "accepted")
    server.step("100", "b'pending more'")
    client.end()
    server.end()


def one_host():
    with tempfile.TemporaryDirectory() as directory:
        host = Here(os.path.join(directory, "home"))
        try:
            check(host, host, host)
            check_copies(host)
            for verb in ("out", "in", "inp"):
                host.net(verb, '("stream", "x", "c>s", 0, b"")', status=4)
        finally:
            host.popen(GODWIT, "node", "--stop", "--discard", stdout=subprocess.DEVNULL).wait()


def two_hosts():
    with hosts_module.Hosts() as pair:
        a, b = There(pair.a), There(pair.b)
        check(a, b, a)
        check(a, b, b)
        check(b, b, a)


{"one": one_host, "two": two_hosts}[sys.argv[2]]()
