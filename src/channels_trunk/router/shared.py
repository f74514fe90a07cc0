"""A message that several members of a group have: it is unpacked once, and each of them gets a copy of its own."""

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

__all__ = ["Body", "SharedBody", "packed"]

# Of exactly these types, as a subclass might be changed by whoever has it.
_UNCHANGEABLE = frozenset(
    (
        *(str, int, float, bool, type(None), bytes),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal),
    )
)


class SharedBody:
    """A packed body that is in several mailboxes. Any thread.

    To copy a dict takes a quarter of the time of unpacking it. Nobody sees another's changes, as long as nothing in it
    can be changed; a message that holds lists or dicts is unpacked for each member.
    """

    __slots__ = ("_nested", "model", "packed")

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self.model: dict[str, Any] | None = None
        """The message, once it is known to hold nothing that can be changed; to be copied, never handed out."""
        self._nested = False

    def open(self, unpack: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
        """A new message; raises what `unpack` raises."""
        # Two threads may come here at once for the first time: then both unpack, and one model stays.
        model = self.model
        if model is not None:
            return model.copy()
        message = unpack(self.packed)
        if self._nested:
            return message
        if message.__class__ is not dict or not _UNCHANGEABLE.issuperset(map(type, message.values())):
            self._nested = True
            return message
        self.model = message
        return message.copy()


Body = bytes | SharedBody
"""The packed body of a message in a mailbox."""


def packed(body: Body) -> bytes:
    """The packed message, whoever else has it."""
    return body if isinstance(body, bytes) else body.packed
