"""How much an engine takes at once. What is larger is refused before it is sent, as some engines only hang up."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from channels_trunk.transports.base import TooLarge

__all__ = ["Sizes"]

# What stands beside the values that are bytes: a row's other values, and a share of the statement.
_BESIDE = 4_096
# PostgreSQL allocates no more for one message of its protocol, and its drivers write and read bytes as digits.
_POSTGRES = 2**30 - 1
# What mysqlclient writes as two bytes.
_ESCAPED = b"\0\n\r\x1a\"'\\"

Row = Sequence[Any]


class Sizes:
    """Of one connection of Django's."""

    def __init__(self, connection: Any) -> None:
        self._size: Callable[[bytes], int] = len
        self._remedy = "send less"
        self.largest: float = float("inf")
        """Bytes of a statement with its values."""
        vendor = connection.vendor
        if vendor == "sqlite":
            self.largest = connection.connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        elif vendor == "postgresql":
            self.largest = _POSTGRES
            self._size = _twice
        elif vendor == "mysql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                self.largest = int(cursor.fetchone()[0])
            self._size = self._escaped if _writes_bytes(connection.connection) else _twice
            self._remedy = "send less, or raise its max_allowed_packet"

    def _escaped(self, data: bytes) -> int:
        most = 2 * len(data)
        # To count takes five milliseconds for a mebibyte.
        return most if most <= self.largest / 4 else len(data) + sum(map(data.count, _ESCAPED))

    def parts(self, rows: Sequence[Row], *, most: int) -> Iterator[Sequence[Row]]:
        """The rows of one statement after the other, `most` rows at most; raises TooLarge where one alone is."""
        start, together = 0, 0
        for index, row in enumerate(rows):
            size = _BESIDE + sum([self._size(value) for value in row if isinstance(value, bytes)])
            if size > self.largest:
                raise TooLarge(f"the database takes {self.largest:.0f} bytes at once: {self._remedy}")
            together += size
            if index - start == most or together > self.largest:
                yield rows[start:index]
                start, together = index, size
        if start < len(rows):
            yield rows[start:]


def _twice(data: bytes) -> int:
    return 2 * len(data)


def _writes_bytes(driver: Any) -> bool:
    """Whether it is mysqlclient, which writes bytes as they are, but for some; others write two digits for each."""
    return type(driver).__module__.startswith("MySQLdb")
