"""How a statement reaches the driver: on SQLite without Django's cursor, which takes longer than SQLite itself."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["Cursors"]

# Django's own takes the text apart each time, to put marks of another kind in the places of the values.
_MARK = re.compile("(?<!%)%s")


class Cursors:
    """Of one connection of Django's, for the thread that it belongs to. Errors are Django's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_sqlite = connection.vendor == "sqlite"

    def text(self, compiled: str) -> str:
        """What the ORM has compiled, as rows() and changed() take it."""
        if not self._is_sqlite:
            return compiled
        return _MARK.sub("?", compiled).replace("%%", "%")

    def rows(self, text: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of a query."""
        if self._is_sqlite:
            with self._connection.wrap_database_errors:
                found: list[Sequence[Any]] = self._connection.connection.execute(text, parameters).fetchall()
                return found
        with self._connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return list(cursor.fetchall())

    def changed(self, text: str, parameters: Sequence[Any]) -> int:
        """How many rows a statement has changed."""
        if self._is_sqlite:
            with self._connection.wrap_database_errors:
                return int(self._connection.connection.execute(text, parameters).rowcount)
        with self._connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return int(cursor.rowcount)
