"""A client of a node's spaces, written from docs/protocol.md ("The protocol of clients"): raw enough for a test to lose, repeat and
reorder its messages."""
import os

import msgpack
import zmq

CONTEXT = zmq.Context.instance()  # never terminated: that waits for good for a socket whose handshake was refused


def read_key(text):
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {line[0]: line[1] for line in lines if line}


class Refused(Exception):
    """The node has answered a request with an error."""


class Over(Exception):
    """The session is over."""


class Client:
    def __init__(self, key, session=None):
        self.key, self.session = key, session or os.urandom(16)
        self.floor = self.next = 1
        self.open = {}     # number -> request, without an answer
        self.answers = {}  # number -> (error, result), that were not taken
        self.incarnation = None
        self.dealer = None
        self.connect()

    def connect(self):
        if self.dealer:
            self.dealer.close(0)
        self.dealer = CONTEXT.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.curve_serverkey = self.key["server"].encode()
        self.dealer.curve_publickey = self.key["public"].encode()
        self.dealer.curve_secretkey = self.key["secret"].encode()
        self.dealer.connect("tcp://" + self.key["address"])

    def close(self):
        self.dealer.close(0)

    def message(self, first, requests):
        return msgpack.packb([self.session, self.floor, first, requests])

    def send(self, body):
        self.dealer.send_multipart([b"GC1", body])

    def begin(self, *requests):
        """Sends requests in one message. Returns their numbers."""
        first, self.next = self.next, self.next + len(requests)
        self.open.update(enumerate(requests, first))
        self.send(self.message(first, requests))
        return range(first, self.next)

    def resend(self):
        """What has no answer, from the lowest, over a new connection."""
        self.connect()
        for number, request in sorted(self.open.items()):
            self.send(self.message(number, [request]))
        if not self.open:
            self.send(self.message(self.next, []))

    def hear(self, milliseconds):
        """Takes one message. Returns whether one came."""
        if not self.dealer.poll(milliseconds):
            return False
        protocol, body = self.dealer.recv_multipart()
        assert protocol == b"GC1"
        session, incarnation, answers, *over = msgpack.unpackb(body)
        if answers is None:
            raise Over(*over)
        assert session == self.session
        if self.incarnation not in (None, incarnation):
            self.incarnation = incarnation
            self.resend()
        self.incarnation = incarnation
        for number, error, result in answers:
            if self.open.pop(number, None) is not None:
                self.answers[number] = (error, result)
        self.floor = min(self.open, default=self.next)
        return True

    def answer(self, number):
        """Waits for it, as long as it takes."""
        while number not in self.answers:
            if not self.hear(1000):
                self.resend()
        error, result = self.answers.pop(number)
        if error:
            raise Refused(*error)
        return result

    def ask(self, *request):
        return self.answer(self.begin(list(request))[0])


ANY = [1]


def actual(value):
    return [0, value]


def template(*patterns):
    """Values, and ANY or other patterns, which are lists."""
    return [[p if isinstance(p, list) else actual(p) for p in patterns]]
