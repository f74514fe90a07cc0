"""Pickled frames between the suite and its peer processes.

Pickle, because a message may hold whatever the specification allows and more, and both ends are this package, started
by the same user, over a socket in a directory that only this user may enter.
"""

import asyncio
import pickle
import struct
from typing import Any

__all__ = ["as_sendable", "read_frame", "write_frame"]

_LENGTH = struct.Struct("!I")


class PeerFailure(Exception):
    """A peer raised an exception that cannot be pickled; the text says which."""


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Return the next frame; raises IncompleteReadError when the other end is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - see above


def write_frame(writer: asyncio.StreamWriter, content: Any) -> None:
    """Put one frame into the writer's buffer."""
    data = pickle.dumps(content)
    writer.write(_LENGTH.pack(len(data)) + data)


def as_sendable(error: BaseException) -> BaseException:
    """Return `error` if it survives pickling, else a PeerFailure that describes it."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - exceptions with required arguments fail in many ways
        copy = None
    if type(copy) is type(error) and str(copy) == str(error):
        return error
    return PeerFailure(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
