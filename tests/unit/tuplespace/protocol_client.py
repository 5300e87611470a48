#!/usr/bin/env python3
"""A client written from docs/protocol.md alone: joins as a host, makes a pod, moves it, follows the log.

usage: protocol_client.py GODWIT
"""
import os
import random
import subprocess
import sys
import tempfile
import traceback

import msgpack
import zmq

GODWIT = sys.argv[1]


class Client:
    """One session with a node: requests with ids, retried over a fresh DEALER."""

    def __init__(self, context, endpoint, key=None):
        self.context, self.endpoint, self.key = context, endpoint, key
        self.session = random.getrandbits(64)
        self.sequence = 0
        self.dealer = None

    def connect(self):
        if self.dealer:
            self.dealer.close(0)
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.sndtimeo = 5000
        if self.key:
            public, secret = self.key
            self.dealer.curve_serverkey = public
            self.dealer.curve_publickey = public
            self.dealer.curve_secretkey = secret
        self.dealer.connect(self.endpoint)

    def call(self, method, params, tries=10):
        self.sequence += 1
        request = [0, [self.session, self.sequence, self.sequence], method, params]
        heard = False
        for _ in range(tries):
            if not heard:
                self.connect()
            heard = False
            self.dealer.send_multipart([b"GW1", msgpack.packb(request)])
            while self.dealer.poll(1000):
                protocol, body = self.dealer.recv_multipart()
                assert protocol == b"GW1"
                answer = msgpack.unpackb(body)
                heard = True
                if answer[0] == 1 and answer[1] == [self.session, self.sequence]:
                    if answer[2] is not None:
                        raise OSError(*answer[2])
                    return answer[3]
        raise TimeoutError(method)


def main():
    home = tempfile.mkdtemp(prefix="godwit-test-")
    environment = dict(os.environ, GODWIT_HOME=home)

    def godwit(*words):
        return subprocess.run([GODWIT, *words], env=environment, check=True, capture_output=True, text=True).stdout

    address = godwit("node", "--host-name", "first").split()[2]
    try:
        with open(os.path.join(home, "community.key")) as file:
            key = tuple(line.encode() for line in file.read().split())
        # Never terminated: that waits for good for a socket whose handshake was refused.
        exercise(zmq.Context.instance(), address, key, home, godwit)
    finally:
        godwit("node", "--stop")
        subprocess.run(["rm", "-rf", home], check=True)


def exercise(context, address, key, home, godwit):
    peer = Client(context, "tcp://" + address, key)
    local = Client(context, f"ipc://{home}/node.sock")
    assert local.call("node.info", {})["host"] == "first"
    hello = peer.call("directory.hello", {})
    assert hello["first"] == address

    incarnation, sequence = random.getrandbits(64), 0

    def submit(op, args):
        nonlocal sequence
        sequence += 1
        outcome = peer.call("directory.submit", {
            "community": hello["community"], "session": incarnation, "sequence": sequence, "floor": sequence,
            "op": op, "args": args})
        if outcome["code"]:
            raise OSError(outcome["code"], outcome["what"])
        return msgpack.unpackb(outcome["result"])

    submit("host.joined", {"name": "python", "address": "127.0.0.1:1", "home": random.getrandbits(64),
                           "number": 1 + random.getrandbits(23), "incarnation": incarnation, "present": True})
    pod = submit("pod.created", {"name": "", "hint": "snake", "host": "python", "virtual_host": "", "id": 0})
    assert (pod["name"], pod["epoch"], pod["host"]) == ("snake", 1, "python"), pod
    assert submit("pod.moved", {"pod": pod["id"], "epoch": 1, "host": "first"})["epoch"] == 2
    try:
        submit("pod.moved", {"pod": pod["id"], "epoch": 1, "host": "python"})
        raise AssertionError("an old epoch was accepted")
    except OSError as error:
        assert error.errno == 125, error  # ECANCELED

    fetched = peer.call("directory.fetch", {"community": hello["community"], "after": 0})
    operations = [command[3] for batch in fetched["batches"] for command in msgpack.unpackb(batch)]
    operations = [operation for operation in operations if operation != "nothing"]  # a barrier; nodes make them freely
    assert operations[:4] == ["host.joined", "host.joined", "pod.created", "pod.moved"], operations

    rows = local.call("pods", {})
    assert rows[0]["pod"] == "snake" and rows[0]["host"] == "first", rows
    assert '"pod":"snake"' in godwit("ps", "--json")
    submit("pod.ended", {"pod": pod["id"], "epoch": 2})
    assert godwit("ps", "--json") == ""
    try:
        peer.call("no.such.method", {})
        raise AssertionError("an unknown method was accepted")
    except OSError as error:
        assert error.errno == 38, error  # ENOSYS

    stranger = zmq.curve_keypair()
    unknown = Client(context, "tcp://" + address, stranger)
    try:
        unknown.call("directory.hello", {}, tries=1)
        raise AssertionError("a stranger was served")
    except TimeoutError:
        pass


status = 1
try:
    main()
    status = 0
except Exception:
    traceback.print_exc()
sys.stdout.flush()
os._exit(status)
