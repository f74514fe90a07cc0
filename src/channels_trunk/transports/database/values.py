"""What is read from the tables, and may have been put there by somebody else: SQLite keeps a value of any type."""

import math
from typing import Any, TypeVar

__all__ = ["as_frame", "as_number", "is_past"]

T = TypeVar("T")


def as_frame(value: Any) -> bytes:
    """The bytes; none, which no frame can be, if these are none."""
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def as_number(value: Any, otherwise: T) -> Any | T:
    """The number, if it is one."""
    return value if isinstance(value, (int, float)) else otherwise


def is_past(expires_at: Any, now: float) -> bool:
    """Whether a row counts no more."""
    return bool(as_number(expires_at, math.inf) <= now)
