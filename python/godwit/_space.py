"""Spaces, and what one does in them."""
import math
from types import TracebackType
from typing import Any, Iterator, List, Optional, Tuple, Type

from godwit._errors import GodwitError, timed_out
from godwit._fields import pack_template, pack_tuple, unpack_tuple
from godwit._session import Call, Session

_NO_ROOM = "there was no room in time; take tuples, or wait longer"
_LATE = "no such tuple came in time; inp and rdp look without waiting"
_LEASE_OVER = "the lease is over, and the tuple back or another's; lease it for longer, or extend it in time"


def _milliseconds(seconds: Optional[float]) -> Optional[int]:
    """nil is without end, and so is what is longer than a lifetime.

    >>> _milliseconds(0.0001), _milliseconds(None), _milliseconds(-1), _milliseconds(float("inf"))
    (1, None, 0, 1099511627776)
    >>> _milliseconds(float("nan"))
    Traceback (most recent call last):
    ValueError: nan is no time; give seconds, or None
    """
    if seconds is None:
        return None
    if seconds != seconds:
        raise ValueError("nan is no time; give seconds, or None")
    return min(max(0, math.ceil(min(seconds, 1e10) * 1000)), 1 << 40)


class _Operations:
    """What a space and a transaction's view of it have in common."""

    def _ask(self, request: List[Any], takes: bool = False) -> Any:
        raise NotImplementedError

    _host: object = None

    def __init__(self, session: Session, name: str):
        self._session = session
        self.name = name

    def _get(self, verb: str, wanted: Tuple[Any, ...], wait: Optional[int]) -> Optional[Tuple[Any, ...]]:
        return unpack_tuple(self._ask([verb, self.name, [pack_template(wanted)], wait], takes=verb == "in"))

    def in_(self, *wanted: Any, timeout: Optional[float] = None) -> Tuple[Any, ...]:
        """Takes the oldest tuple that matches, waiting until there is one.

        wanted   values, which must be equal; types (int, float, str, bytes, bool, tuple, type(None)), which any value of that type
                 meets; godwit.ANY, range_, prefix, one_of; tuples of these
        timeout  seconds; raises TimedOut when they are over
        """
        got = self._get("in", wanted, _milliseconds(timeout))
        if got is None:
            raise timed_out(_LATE)
        return got

    def inp(self, *wanted: Any) -> Optional[Tuple[Any, ...]]:
        """The same at once: None if no tuple matches."""
        return self._get("in", wanted, 0)

    def rd(self, *wanted: Any, timeout: Optional[float] = None) -> Tuple[Any, ...]:
        """As in_; the tuple stays."""
        got = self._get("rd", wanted, _milliseconds(timeout))
        if got is None:
            raise timed_out(_LATE)
        return got

    def rdp(self, *wanted: Any) -> Optional[Tuple[Any, ...]]:
        """As inp; the tuple stays."""
        return self._get("rd", wanted, 0)

    def count(self, *wanted: Any) -> int:
        """How many match."""
        number: int = self._ask(["count", self.name, [pack_template(wanted)]])
        return number


class Space(_Operations):
    """A space of a host. Values of Python and fields of tuples: None nil, bool, int (64 bits), float, str, bytes, tuple."""

    def _ask(self, request: List[Any], takes: bool = False) -> Any:
        return self._session.ask(request, takes=takes).result

    def _out(self, tuples: List[Any], seconds: Optional[float], timeout: Optional[float]) -> List[Any]:
        return ["out", self.name, tuples, _milliseconds(seconds), _milliseconds(timeout)]

    def out(self, *fields: Any, seconds: Optional[float] = None, timeout: Optional[float] = None) -> None:
        """Puts a tuple in, where it is when this returns.

        seconds  how long it stays, unless it is taken before; None: for good
        timeout  of a full space that makes `out` wait: raises TimedOut after so many seconds
        """
        if not self._ask(self._out([pack_tuple(fields)], seconds, timeout)):
            raise timed_out(_NO_ROOM)

    def out_all(self, *tuples: Tuple[Any, ...], timeout: Optional[float] = None) -> None:
        """Puts several in, at one moment: all or none."""
        if not self._ask(self._out([pack_tuple(one) for one in tuples], None, timeout)):
            raise timed_out(_NO_ROOM)

    def out_unique(self, unless: Tuple[Any, ...], *fields: Any) -> bool:
        """Puts a tuple in unless one is there that matches: space.out_unique(("leader", ANY), "leader", me)."""
        put: bool = self._ask(["unique", self.name, [pack_template(unless)], pack_tuple(fields)])
        return put

    def swap(self, expected: Tuple[Any, ...], *fields: Any) -> bool:
        """Puts a tuple in the place of the oldest that matches: space.swap(("counter", 4), "counter", 5)."""
        put: bool = self._ask(["swap", self.name, [pack_template(expected)], pack_tuple(fields)])
        return put

    def lease(self, *wanted: Any, seconds: float, timeout: Optional[float] = None) -> "Lease":
        """Takes a tuple for a time. At the end of the block it is acknowledged, and gone for good; an exception gives it back:

            with bag.lease("job", int, seconds=30) as (name, n):
                work(n)
        """
        got = self._lease(wanted, _milliseconds(timeout), seconds)
        if got is None:
            raise timed_out(_LATE)
        return got

    def leasep(self, *wanted: Any, seconds: float) -> Optional["Lease"]:
        """The same at once: None if no tuple matches."""
        return self._lease(wanted, 0, seconds)

    def _lease(self, wanted: Tuple[Any, ...], wait: Optional[int], seconds: float) -> Optional["Lease"]:
        call = self._session.ask(["lease", self.name, [pack_template(wanted)], wait, _milliseconds(seconds)])
        if call.result is None:
            return None
        fields, delivery = call.result
        return Lease(self._session, call.session, delivery, unpack_tuple(fields) or ())

    def all(self, *wanted: Any) -> List[Tuple[Any, ...]]:
        """All that match, or all there are if nothing is asked for: oldest first, at one moment. They stay."""
        templates = [pack_template(wanted)] if wanted else []
        return [unpack_tuple(one) or () for one in self._ask(["all", self.name, templates])]

    def collect(self, to: "Space", *wanted: Any) -> int:
        """Moves all that match to the end of another space of the host, at one moment. Says how many."""
        number: int = self._ask(["collect", self.name, to.name, [pack_template(wanted)]])
        return number

    def copy_collect(self, to: "Space", *wanted: Any) -> int:
        """Copies them."""
        number: int = self._ask(["copy_collect", self.name, to.name, [pack_template(wanted)]])
        return number

    def subscribe(self, *wanted: Any) -> "Subscription":
        """Every tuple that comes from now on and matches, also what somebody takes at once:

            with bag.subscribe("result", int) as results:
                for name, n in results:
                    print(n)
        """
        call = self._session.ask(["watch", self.name, [pack_template(wanted)]])
        return Subscription(self._session, call.session, call.result)

    def pipeline(self) -> "Pipeline":
        """Puts many tuples in without waiting for each. At the end of the block all are there:

            with bag.pipeline() as p:
                for n in range(1000):
                    p.out("task", n)
        """
        return Pipeline(self)

    def out_async(self, *fields: Any) -> "Pending":
        """Begins an out. It waits only for room on the way, and goes on whatever becomes of the Pending."""
        request = self._out([pack_tuple(fields)], None, None)
        return Pending(self._session, self._session.begin(request, windowed=True))

    def in_async(self, *wanted: Any) -> "Pending":
        """Begins an in_, which stands in line from now on. result() gives the tuple."""
        request = ["in", self.name, [pack_template(wanted)], None]
        return Pending(self._session, self._session.begin(request, takes=True))

    def rd_async(self, *wanted: Any) -> "Pending":
        return Pending(self._session, self._session.begin(["rd", self.name, [pack_template(wanted)], None]))


class Pending:
    """An operation that is under way."""

    def __init__(self, session: Session, call: Call):
        self._session = session
        self._call = call

    def done(self) -> bool:
        return self._call.is_over

    def result(self, timeout: Optional[float] = None) -> Any:
        """What the operation gives, waiting for it; its error is raised. Raises TimedOut after so many seconds: it goes on."""
        if not self._session.wait(self._call, timeout):
            raise timed_out("it is not done yet; wait longer, or cancel it")
        result = self._call.result
        return unpack_tuple(result) if isinstance(result, list) else None

    def cancel(self) -> None:
        """An in_ or rd that waits takes nothing any more; a tuple that it has taken meanwhile goes back."""
        if not self._call.is_over:
            self._session.take_back(self._call)

    def __enter__(self) -> "Pending":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.cancel()


class Pipeline:
    """Outs that are under way. Used by one thread."""

    def __init__(self, space: Space):
        self._space = space
        self._pending: List[Pending] = []

    def out(self, *fields: Any) -> None:
        self._pending.append(self._space.out_async(*fields))
        if len(self._pending) >= 4096:
            self._reap()

    def _reap(self) -> None:
        done = [one for one in self._pending if one.done()]
        self._pending = [one for one in self._pending if not one.done()]
        for one in done:
            one.result()

    def flush(self) -> None:
        """Returns when all are there; raises the first error."""
        pending, self._pending = self._pending, []
        for one in pending:
            one.result()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if kind is None:
            self.flush()


class Lease:
    """A tuple that was taken for a time: see Space.lease. It is a sequence of the tuple's fields.

    number  larger at each delivery of the tuple: who shows it to others is told from those who had the tuple before
    """

    def __init__(self, session: Session, number: int, delivery: int, fields: Tuple[Any, ...]):
        self._session = session
        self._belongs = number
        self._is_over = False
        self.number = delivery
        self.fields = fields

    def _ask(self, name: str, *parameters: Any) -> None:
        if self._is_over or not self._session.ask([name, self.number, *parameters], self._belongs).result:
            raise timed_out(_LEASE_OVER)

    def acknowledge(self) -> None:
        """It is gone for good. Raises TimedOut if the lease was over."""
        self._ask("acknowledge")
        self._is_over = True

    def release(self, delay: float = 0) -> None:
        """It is back, after so many seconds."""
        self._ask("release", _milliseconds(delay))
        self._is_over = True

    def extend(self, seconds: float) -> None:
        """The lease lasts so many seconds from now on."""
        self._ask("extend", _milliseconds(seconds))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, index: Any) -> Any:
        return self.fields[index]

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if self._is_over:
            return
        if kind is None:
            return self.acknowledge()
        try:
            self.release()
        except GodwitError:
            pass  # it is over, or ends with the session: the tuple goes back either way


class Subscription:
    """Tuples that come: see Space.subscribe. An iterator without end.

    missed  how many came while a thousand waited to be seen, and were not kept
    """

    def __init__(self, session: Session, number: int, watch: int):
        self._session = session
        self._belongs = number
        self._watch = watch
        self._come: List[Tuple[Any, ...]] = []
        self.missed = 0

    def next(self, timeout: Optional[float] = None) -> Tuple[Any, ...]:
        """The next tuple. Raises TimedOut after so many seconds."""
        if not self._come:
            result = self._session.ask(["next", self._watch, _milliseconds(timeout)], self._belongs).result
            if result is None:
                raise timed_out("no tuple came in time; wait longer")
            self.missed, tuples = result
            self._come = [unpack_tuple(one) or () for one in reversed(tuples)]
        return self._come.pop()

    def close(self) -> None:
        try:
            self._session.begin(["unwatch", self._watch], self._belongs)
        except GodwitError:
            pass  # it has ended with the session

    def __iter__(self) -> Iterator[Tuple[Any, ...]]:
        return self

    def __next__(self) -> Tuple[Any, ...]:
        return self.next()

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()


class Transaction:
    """See Host.transaction. The block commits at its end, and rolls back by an exception; it may also commit meanwhile, and goes on."""

    _host: object = None

    def __init__(self, session: Session):
        call = session.ask(["begin"])
        self._session = session
        self._belongs = call.session
        self._number: int = call.result

    def of(self, space: Space) -> "TransactedSpace":
        """The same space as this transaction sees and changes it: out, in_, inp, rd, rdp and count."""
        return TransactedSpace(self, space.name)

    def commit(self) -> None:
        """All of it happens, at one moment."""
        self._session.ask(["commit", self._number], self._belongs)

    def roll_back(self) -> None:
        """None of it has happened."""
        self._session.ask(["roll_back", self._number], self._belongs)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            try:
                self._session.begin(["close", self._number], self._belongs)
            except GodwitError:
                pass  # it has ended with the session


class TransactedSpace(_Operations):
    """A space within a transaction."""

    def __init__(self, transaction: Transaction, name: str):
        super().__init__(transaction._session, name)
        self._transaction = transaction

    def _ask(self, request: List[Any], takes: bool = False) -> Any:
        transaction = self._transaction
        return self._session.ask(["within", transaction._number, request], transaction._belongs).result

    def out(self, *fields: Any) -> None:
        """Puts a tuple in when the transaction commits."""
        self._ask(["out", self.name, [pack_tuple(fields)], None, 0])
