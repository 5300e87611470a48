"""A client's key file: a name and a value a line. A line that begins with # is a comment."""
import os
from typing import NamedTuple, Union


class Key(NamedTuple):
    address: str
    server: bytes
    public: bytes
    secret: bytes


def read_key(path: Union[str, "os.PathLike[str]"]) -> Key:
    values = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 2:
                values[words[0]] = words[1]
    keys = [values.get(name, "").encode() for name in ("server", "public", "secret")]
    if "address" not in values or any(len(key) != 40 for key in keys):
        raise ValueError(f"{os.fspath(path)} is no client's key; give the file that godwit keygen wrote")
    return Key(values["address"], *keys)
