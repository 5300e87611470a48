"""What goes wrong: `errno` says what kind, the text what to do."""
import errno


class GodwitError(OSError):
    """An operation was refused, or failed. `errno` is Linux's number, `strerror` the text."""

    def __str__(self) -> str:
        return str(self.strerror)


class TimedOut(GodwitError, TimeoutError):
    """The time to wait is over, or a lease is."""


class SessionLost(GodwitError, ConnectionResetError):
    """The session with the host has ended. What became of the operation is not known; the next one begins another session."""


def error_of(code: int, text: str) -> GodwitError:
    kind = {errno.ETIMEDOUT: TimedOut, errno.ECONNRESET: SessionLost}.get(code, GodwitError)
    return kind(code, text)


def lost(why: str) -> SessionLost:
    return SessionLost(errno.ECONNRESET, why + "; what became of it is not known: look, and do it again if need be")


def timed_out(text: str) -> TimedOut:
    return TimedOut(errno.ETIMEDOUT, text)
