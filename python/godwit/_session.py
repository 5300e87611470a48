"""The session of a program with a host: requests go out, answers come in, once each, whatever happens to the connection.

A thread has the socket. Others hand it their requests and wait for what it notes in a Call. What is asked while a message is on
its way goes into the next one.
"""
import errno
import os
import secrets
import threading
import time
from typing import Any, Dict, List, Optional, Set

import msgpack
import zmq
from zmq.utils.monitor import parse_monitor_message

from godwit._errors import GodwitError, error_of, lost
from godwit._key import Key

PROTOCOL = b"GC1"
BATCH = 32 << 10        # bytes of requests that do not wait for the message before theirs
WINDOW = 1 << 20        # bytes of them under way that a pipeline may have
LARGEST = (16 << 20) - 4096
MOST_GOT = 4096         # numbers in one request
MOST_ANSWERED = 1024    # answers that the host keeps for us behind a request that waits
TICK, HEARTBEAT, FIRST_PAUSE, LAST_PAUSE = 0.5, 1.0, 1.0, 4.0
PATIENCE, FIRST_PATIENCE = 30.0, 10.0


class Call:
    """A request, until somebody has got what it came to."""

    __slots__ = ("packed", "takes", "windowed", "session", "number", "error", "result", "is_over", "is_unwanted", "then",
                 "takes_back", "space")

    def __init__(self, request: List[Any], takes: bool = False, windowed: bool = False):
        self.packed: bytes = msgpack.packb(request, use_bin_type=True)
        if len(self.packed) > LARGEST:
            raise GodwitError(errno.EMSGSIZE, "at most 16 MiB go to a host at once; put less in one tuple")
        self.takes, self.windowed = takes, windowed
        self.session = self.number = 0
        self.error: Optional[GodwitError] = None
        self.result: Any = None
        self.is_over = self.is_unwanted = False
        self.space = request[1] if takes else ""
        self.then: List["Call"] = []               # takes that this one confirms
        self.takes_back: Optional["Call"] = None  # what this one cancels


class Session:
    def __init__(self, key: Key):
        self._key = key
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_woken = False
        self._is_closed = False
        self._thread: Optional[threading.Thread] = None
        # Under the lock, but for the sockets, which are the thread's.
        self._session = 0            # how many there have been
        self._is_over = True
        self._id = b""
        self._context: Optional[zmq.Context] = None
        self._dealer: Optional[zmq.Socket] = None
        self._monitor: Optional[zmq.Socket] = None
        self._forget()

    def _forget(self) -> None:
        self._next = 1
        self._open: Dict[int, Call] = {}   # by number, in order
        self._unsent: List[Call] = []
        self._unsent_bytes = 0
        self._undecided: Set[int] = set()  # takes that are neither confirmed nor given back
        self._answered: List[int] = []     # above the floor, and not confirmed
        self._taken: List[Call] = []       # that are over when they are confirmed
        self._window = 0
        self._on_their_way = 0
        self._heard = False
        self._silent_since: Optional[float] = None
        self._waits_since: Optional[float] = None
        self._last_sent = 0.0
        self._pause = FIRST_PAUSE

    # ---- for callers

    def ask(self, request: List[Any], session: int = 0, takes: bool = False) -> Call:
        """The request, answered; or its error is raised. An exception while it waits takes it back."""
        call = self.begin(request, session, takes)
        try:
            self.wait(call)
        except BaseException:
            if not call.is_over or (call.takes and call.error is None):
                self.take_back(call)
            raise
        return call

    def begin(self, request: List[Any], session: int = 0, takes: bool = False, windowed: bool = False) -> Call:
        call = Call(request, takes, windowed)
        with self._changed:
            if windowed:
                self._changed.wait_for(lambda: self._window < WINDOW or self._is_closed)
            self._append(call, session)
            self._call_thread()
        return call

    def wait(self, call: Call, timeout: Optional[float] = None) -> bool:
        """Whether it is over in that time. Its error is raised."""
        with self._changed:
            if not self._changed.wait_for(lambda: call.is_over, timeout):
                return False
        if call.error is not None:
            raise call.error
        return True

    def take_back(self, call: Call) -> None:
        """The request takes nothing any more; what it has taken is put back. Returns at once."""
        with self._changed:
            call.is_unwanted = True
            if self._is_over or call.session != self._session:
                return
            cancel = Call(["cancel", call.number])
            cancel.takes_back = call
            self._append(cancel, call.session)
            self._call_thread()

    @property
    def number(self) -> int:
        with self._lock:
            return 0 if self._is_over else self._session

    def close(self) -> None:
        with self._changed:
            if self._is_closed or self._pid != os.getpid():
                return
            if not self._is_over and self._heard:
                end = Call(["end"])
                self._append(end, self._session)
                self._call_thread()
                self._changed.wait_for(lambda: end.is_over, 1.0)
            self._is_closed = True
            self._end(lost("the connection was closed"))
            self._call_thread()
        if self._thread is not None:
            self._thread.join()
        os.close(self._wake)

    # ---- under the lock

    def _append(self, call: Call, session: int) -> None:
        if self._pid != os.getpid():
            raise GodwitError(errno.EPERM, "a connection is of the process that made it; connect in this one")
        if self._is_closed:
            raise GodwitError(errno.ENOTCONN, "the connection is closed; connect anew")
        if session and (self._is_over or session != self._session):
            raise lost("the session that this belongs to has ended")
        if self._is_over:
            self._forget()
            self._session += 1
            self._id = secrets.token_bytes(16)
            self._is_over = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="godwit", daemon=True)
                self._thread.start()
        call.session, call.number = self._session, self._next
        self._next += 1
        self._open[call.number] = call
        self._unsent.append(call)
        self._unsent_bytes += len(call.packed)
        if call.windowed:
            self._window += len(call.packed)

    def _call_thread(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            os.eventfd_write(self._wake, 1)

    def _floor(self) -> int:
        lowest = next(iter(self._open), self._next)
        return min(lowest, *self._undecided) if self._undecided else lowest

    def _end(self, error: GodwitError) -> None:
        self._is_over = True
        calls = list(self._open.values()) + self._taken
        self._forget()
        for call in calls:
            self._finish(call, error)
        self._changed.notify_all()

    def _finish(self, call: Call, error: Optional[GodwitError], result: Any = None) -> None:
        call.error = error
        if error is None and not call.takes:
            call.result = result
        call.is_over = True
        for one in call.then:
            self._undecided.discard(one.number)
            self._finish(one, error)
        if call.takes_back is not None:
            self._undecided.discard(call.takes_back.number)
            if result is False and call.takes_back.result is not None:  # it was confirmed just before
                self._append(Call(["out", call.takes_back.space, [call.takes_back.result], None, None]), call.session)

    # ---- the thread

    def _run(self) -> None:
        self._context = zmq.Context()
        session = 0
        next_tick = 0.0
        while True:
            poller = zmq.Poller()
            poller.register(self._wake, zmq.POLLIN)
            if self._dealer is not None:
                poller.register(self._dealer, zmq.POLLIN)
            poller.poll(max(0.0, next_tick - time.monotonic()) * 1000)
            with self._changed:
                if self._is_woken:
                    self._is_woken = False
                    os.eventfd_read(self._wake)
                if self._is_closed:
                    break
                if self._is_over:
                    self._disconnect()
                elif session != self._session:
                    session = self._session
                    self._connect()
                self._receive()
                self._flush()
                if time.monotonic() >= next_tick:
                    next_tick = time.monotonic() + TICK
                    self._tick()
        self._disconnect()
        self._context.destroy(linger=0)

    def _connect(self) -> None:
        self._disconnect()
        assert self._context is not None
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.sndhwm = dealer.rcvhwm = 0
        dealer.ipv6 = self._key.address.startswith("[")
        dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = self._key.server, self._key.public, self._key.secret
        self._monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        dealer.connect("tcp://" + self._key.address)
        self._dealer = dealer

    def _disconnect(self) -> None:
        if self._dealer is not None:
            self._dealer.disable_monitor()
            if self._monitor is not None:
                self._monitor.close(0)
            self._dealer.close(0)
            self._dealer = self._monitor = None

    def _was_refused(self) -> bool:
        refused = False
        while self._monitor is not None and self._monitor.poll(0):
            refused |= parse_monitor_message(self._monitor.recv_multipart())["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        return refused

    def _send(self, first: int, calls: List[Call]) -> None:
        head = msgpack.packb([self._id, self._floor(), first])
        body = b"\x94" + head[1:] + msgpack.Packer().pack_array_header(len(calls)) + b"".join(call.packed for call in calls)
        assert self._dealer is not None
        self._dealer.send_multipart([PROTOCOL, body], copy=False)
        self._on_their_way += 1
        self._last_sent = time.monotonic()
        if self._silent_since is None:
            self._silent_since = self._waits_since = self._last_sent

    def _flush(self) -> None:
        if self._is_over or (self._on_their_way and self._unsent_bytes < BATCH):
            return
        if self._taken or len(self._answered) >= MOST_ANSWERED:
            self._append_got()
        if self._unsent:
            calls, self._unsent, self._unsent_bytes = self._unsent, [], 0
            self._send(calls[0].number, calls)

    def _append_got(self) -> None:
        while True:
            numbers, self._answered = self._answered[:MOST_GOT], self._answered[MOST_GOT:]
            got = Call(["got", numbers])
            if not self._answered:
                got.then, self._taken = self._taken, []
            self._append(got, self._session)
            if not self._answered:
                return

    def _receive(self) -> None:
        heard = False
        while self._dealer is not None and not self._is_over:
            try:
                frames = self._dealer.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            if len(frames) == 2 and frames[0] == PROTOCOL:
                self._hear(msgpack.unpackb(frames[1], raw=False, strict_map_key=False, max_array_len=1 << 24))
                heard = True
        if heard:
            self._changed.notify_all()

    def _hear(self, message: List[Any]) -> None:
        if message[0] != self._id:
            return
        self._heard = True
        self._silent_since = self._waits_since = None
        self._pause = FIRST_PAUSE
        self._on_their_way = 0
        if message[2] is None:
            return self._end(lost(f"the session has ended ({message[3][1]})"))
        for number, error, result in message[2]:
            self._answer(number, error, result)

    def _answer(self, number: int, error: Optional[List[Any]], result: Any) -> None:
        call = self._open.pop(number, None)
        if call is None:
            return
        if call.windowed:
            self._window -= len(call.packed)
        takes = call.takes and error is None and result is not None
        if takes:
            self._undecided.add(number)
            call.result = result
            if call.is_unwanted:  # its cancel puts the tuple back
                return
        floor = self._floor()
        if takes or number > floor:
            self._answered.append(number)
        elif self._answered:
            self._answered = [one for one in self._answered if one >= floor]
        if takes:
            self._taken.append(call)
        else:
            self._finish(call, error_of(*error) if error else None, result)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._is_over:
            return
        if self._was_refused():
            return self._end(GodwitError(errno.ECONNREFUSED, f"{self._key.address} does not know this key, or no longer; "
                                                       "have one made there with godwit keygen"))
        if self._waits_since is not None and now - self._waits_since >= self._pause:
            assert self._silent_since is not None
            if now - self._silent_since >= (PATIENCE if self._heard else FIRST_PATIENCE):
                return self._end(lost(f"{self._key.address} does not answer") if self._heard else
                                 GodwitError(errno.EHOSTUNREACH, f"{self._key.address} does not answer; "
                                             "see that the node there runs with --clients, and the way to it"))
            self._pause = min(2 * self._pause, LAST_PAUSE)
            self._send_again()
        elif now - self._last_sent >= HEARTBEAT:
            self._send(self._next - len(self._unsent), [])

    def _send_again(self) -> None:
        """All that has no answer, over a new socket, in runs without a gap."""
        self._connect()
        unsent = self._next - len(self._unsent)
        run: List[Call] = []
        size = 0
        for number, call in self._open.items():
            if number >= unsent:
                break
            if run and (number != run[-1].number + 1 or size >= BATCH):
                self._send(run[0].number, run)
                run, size = [], 0
            run.append(call)
            size += len(call.packed)
        self._send(run[0].number if run else unsent, run)
        self._waits_since = time.monotonic()
