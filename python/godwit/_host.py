"""A host, as a program uses it by a key."""
import os
import weakref
from types import TracebackType
from typing import Any, List, NamedTuple, Optional, Type, Union

from godwit._key import read_key
from godwit._session import Session
from godwit._space import Space, Transaction


class SpaceFacts(NamedTuple):
    space: str
    tuples: int
    bytes: int
    waiters: int
    capacity: Optional[int]
    blocks: bool
    durable: bool
    damaged: bool


class Host:
    """A connection to a host. Any number of threads may use it; a child of fork connects anew.

    It begins with the first operation. Its end, also that of the program, takes back what waits and what is leased.
    """

    def __init__(self, key_file: Union[str, "os.PathLike[str]"]):
        self._session = Session(read_key(key_file))
        self._close = weakref.finalize(self, Session.close, self._session)
        self._close.atexit = True

    def space(self, name: str = "default") -> Space:
        """A space. Whether it is there the first operation tells, with ENOENT."""
        space = Space(self._session, name)
        space._host = self  # which lives as long as what it gave
        return space

    def create(self, name: str, capacity: Optional[int] = None, blocks: bool = False, durable: bool = False) -> Space:
        """Makes a space first.

        capacity  bytes of memory that its tuples may take
        blocks    `out` into the full space waits for room, instead of failing with ENOSPC
        durable   what is done there is on disk before it is acknowledged, and outlives the host
        """
        self._session.ask(["create", name, {"capacity": capacity, "blocks": blocks, "durable": durable}])
        return self.space(name)

    def drop(self, name: str) -> None:
        """Its tuples are gone, and who waits there gets an error."""
        self._session.ask(["drop", name])

    def spaces(self) -> List[SpaceFacts]:
        """The spaces that the key has any right to."""
        facts: List[Any] = self._session.ask(["spaces"]).result
        return [SpaceFacts(*(one.get(name) for name in SpaceFacts._fields)) for one in facts]

    def transaction(self) -> Transaction:
        """Operations that happen at one moment, at the end of the block, or not at all:

            with host.transaction() as t:
                n, = t.of(bag).in_("count", int)[1:]
                t.of(bag).out("count", n + 1)
        """
        transaction = Transaction(self._session)
        transaction._host = self
        return transaction

    def close(self) -> None:
        self._close()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()


def connect(key_file: Union[str, "os.PathLike[str]"]) -> Host:
    """The host that a key file leads to. Raises ValueError when the file is none, and OSError when it cannot be read."""
    return Host(key_file)
