"""What is read from the tables, and may have been put there by somebody else: SQLite keeps a value of any type."""

import math
from typing import Any

__all__ = ["as_frame", "as_time", "is_past"]


def as_frame(value: Any) -> bytes:
    """The bytes; none, which no frame can be, if these are none."""
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def as_time(value: Any) -> float:
    """The seconds; infinitely many if these are none: the frame has them as well."""
    return float(value) if isinstance(value, (int, float)) else math.inf


def is_past(expires_at: Any, now: float) -> bool:
    """Whether a row counts no more."""
    return as_time(expires_at) <= now
