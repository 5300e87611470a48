"""Tuples and templates: what may stand in them, and how they go over the wire."""
import math
from typing import Any, List, Optional, Tuple, Union

Field = Union[None, bool, int, float, str, bytes, Tuple[Any, ...]]

MAX_NESTING = 32
MAX_FIELDS = 4096
_FORMALS = {type(None): "nil", bool: "bool", int: "int", float: "float", str: "string", bytes: "bytes", tuple: "tuple"}


class Pattern:
    """A field of a template that is neither a value nor a type. Made by ANY, range_, prefix and one_of."""

    __slots__ = ("_packed", "_text")

    def __init__(self, packed: List[Any], text: str):
        self._packed = packed
        self._text = text

    def __repr__(self) -> str:
        return "godwit." + self._text


ANY = Pattern([1], "ANY")


def range_(low: Field, high: Field) -> Pattern:
    """From low to high, both included: two ints, floats or strings.

    >>> range_(1, 9)
    godwit.range_(1, 9)
    """
    if type(low) is not type(high) or type(low) not in (int, float, str):
        raise TypeError("a range is from an int to an int, a float to a float or a str to a str")
    return Pattern([3, pack_actual(low), pack_actual(high)], f"range_({low!r}, {high!r})")


def prefix(start: Union[str, bytes]) -> Pattern:
    """What begins so: a str or bytes.

    >>> prefix("user:")
    godwit.prefix('user:')
    """
    if not isinstance(start, (str, bytes)):
        raise TypeError(f"a prefix is a str or bytes, not {type(start).__name__}")
    return Pattern([4, pack_field(start)], f"prefix({start!r})")


def one_of(*values: Field) -> Pattern:
    """Any of these values.

    >>> one_of("red", "green")
    godwit.one_of('red', 'green')
    """
    return Pattern([5, [pack_actual(value) for value in values]], f"one_of({', '.join(map(repr, values))})")


def pack_field(value: Any, depth: int = 1) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise OverflowError(f"an int of a tuple has 64 bits, {value} has more; use a str or bytes")
        return int(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("a str of a tuple is UTF-8, without lone surrogates; other bytes are bytes") from None
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, tuple):
        return pack_tuple(value, depth + 1)
    raise TypeError(f"a field is None, bool, int, float, str, bytes or a tuple, not {type(value).__name__}")


def pack_actual(value: Any, depth: int = 1) -> Any:
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN equals nothing, so no tuple would match; ask for float")
    return pack_field(value, depth)


def pack_tuple(fields: Tuple[Any, ...], depth: int = 1) -> List[Any]:
    """
    >>> pack_tuple(("task", 1, (True, None)))
    ['task', 1, [True, None]]
    """
    _check_size(fields, depth)
    return [pack_field(field, depth) for field in fields]


def pack_template(wanted: Tuple[Any, ...], depth: int = 1) -> List[Any]:
    """
    >>> pack_template(("task", int, ANY, (range_(1, 9), "x")))
    [[0, 'task'], [2, 'int'], [1], [6, [[3, 1, 9], [0, 'x']]]]
    """
    _check_size(wanted, depth)
    return [_pack_pattern(pattern, depth) for pattern in wanted]


def _pack_pattern(pattern: Any, depth: int) -> List[Any]:
    if isinstance(pattern, Pattern):
        return pattern._packed
    if isinstance(pattern, type):
        if pattern not in _FORMALS:
            raise TypeError(f"no field is of type {pattern.__name__}; formals are bool, int, float, str, bytes, tuple, type(None) and godwit.ANY")
        return [2, _FORMALS[pattern]]
    if isinstance(pattern, tuple) and _has_formals(pattern):
        return [6, pack_template(pattern, depth + 1)]
    return [0, pack_actual(pattern, depth)]


def _has_formals(pattern: Tuple[Any, ...], depth: int = 1) -> bool:
    if depth > MAX_NESTING:
        return False
    return any(isinstance(one, (type, Pattern)) or (isinstance(one, tuple) and _has_formals(one, depth + 1)) for one in pattern)


def _check_size(fields: Tuple[Any, ...], depth: int) -> None:
    if depth > MAX_NESTING:
        raise ValueError(f"tuples nest at most {MAX_NESTING} deep")
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"a tuple has at most {MAX_FIELDS} fields, not {len(fields)}")


def unpack_tuple(packed: Optional[List[Any]]) -> Optional[Tuple[Any, ...]]:
    """
    >>> unpack_tuple(["task", 1, [True, None]])
    ('task', 1, (True, None))
    """
    if packed is None:
        return None
    return tuple(unpack_tuple(field) if isinstance(field, list) else field for field in packed)
