"""Normal channels: rows that are claimed by deleting them. Every function runs in the caller's write transaction."""

import math
import sqlite3
from collections.abc import Callable, Sequence

from .neighbours import CHANGE

__all__ = ["QueuedRow", "Queues"]

QueuedRow = tuple[int, float, bytes]
"""(id, expires_at, frame)"""
_COUNT_AGAIN_AFTER = 1.0  # seconds
_MANY = 1_000


class Queues:
    """The statements for one prefix."""

    def __init__(self, prefix: str, capacity_of: Callable[[str], int]) -> None:
        self._prefix = prefix
        self._capacity_of = capacity_of
        self._counted: dict[str, float] = {}  # channels that were full, and when their rows were counted

    def depth(self, connection: sqlite3.Connection, channel: str) -> int:
        """How many rows a channel has, expired ones among them."""
        row = self._counter(connection, channel)
        if row is None or row[0] < 0:
            self.count(connection, channel)  # it is new, or somebody has emptied the table
            row = self._counter(connection, channel)
        return row[0] if row else 0

    def _counter(self, connection: sqlite3.Connection, channel: str) -> tuple[int] | None:
        row: tuple[int] | None = connection.execute(
            "SELECT CAST(depth AS INTEGER) FROM trunk_depth WHERE prefix = ? AND channel = ?", (self._prefix, channel)
        ).fetchone()
        return row

    def room(self, connection: sqlite3.Connection, channel: str, wanted: int, now: float) -> int:
        """How many more messages a channel takes; drops expired ones if that is what it needs."""
        capacity = self._capacity_of(channel)
        room = capacity - self.depth(connection, channel)
        if room < wanted:
            if not self._has_rows(connection, channel) or self._is_due(channel, now):
                self.count(connection, channel)  # somebody may have deleted rows by hand
            self.drop_expired(connection, channel, now)
            room = capacity - self.depth(connection, channel)
        return room

    def append(self, connection: sqlite3.Connection, channel: str, rows: Sequence[tuple[float, bytes]]) -> None:
        """Add messages: (expires_at, frame), oldest first."""
        connection.executemany(
            "INSERT INTO trunk_queue (prefix, channel, expires_at, frame) VALUES (?, ?, ?, ?)",
            [(self._prefix, channel, expires_at, frame) for expires_at, frame in rows],
        )
        self._deepen(connection, channel, len(rows))

    def restore(self, connection: sqlite3.Connection, channel: str, rows: Sequence[tuple[float, bytes]]) -> None:
        """Put messages back to the front, oldest first."""
        lowest = connection.execute("SELECT min(id) FROM trunk_queue").fetchone()[0]
        first = min(0, lowest or 0) - len(rows)
        connection.executemany(
            "INSERT INTO trunk_queue (id, prefix, channel, expires_at, frame) VALUES (?, ?, ?, ?, ?)",
            [(first + index, self._prefix, channel, *row) for index, row in enumerate(rows)],
        )
        self._deepen(connection, channel, len(rows))

    def claim(self, connection: sqlite3.Connection, channel: str, limit: int) -> list[QueuedRow]:
        """Take out the oldest messages of a channel."""
        rows = connection.execute(
            "DELETE FROM trunk_queue WHERE id IN (SELECT id FROM trunk_queue WHERE prefix = ? AND channel = ? "
            "ORDER BY id LIMIT ?) RETURNING id, CAST(expires_at AS REAL), frame",
            (self._prefix, channel, limit),
        ).fetchall()
        if rows:
            self._deepen(connection, channel, -len(rows))
        elif limit > 0:
            # Whoever asks has seen a counter above 0: somebody has deleted rows by hand.
            self.count(connection, channel)
        return sorted(rows)

    def count(self, connection: sqlite3.Connection, channel: str) -> None:
        """Set the channel's counter right."""
        connection.execute(
            "INSERT OR REPLACE INTO trunk_depth (prefix, channel, depth) "
            "SELECT ?, ?, count(*) FROM trunk_queue WHERE prefix = ? AND channel = ?",
            (self._prefix, channel, self._prefix, channel),
        )

    def _is_due(self, channel: str, now: float) -> bool:
        """Whether to count the rows of a channel that seems full: it costs the more the more there are."""
        if abs(now - self._counted.get(channel, -math.inf)) < _COUNT_AGAIN_AFTER:
            return False
        if len(self._counted) >= _MANY:
            self._counted.clear()
        self._counted[channel] = now
        return True

    def _has_rows(self, connection: sqlite3.Connection, channel: str) -> bool:
        found = connection.execute(
            "SELECT 1 FROM trunk_queue WHERE prefix = ? AND channel = ? LIMIT 1", (self._prefix, channel)
        )
        return found.fetchone() is not None

    def drop_expired(self, connection: sqlite3.Connection, channel: str, now: float) -> int:
        """Drop a channel's expired messages; return how many there were."""
        count = connection.execute(
            "DELETE FROM trunk_queue WHERE prefix = ? AND channel = ? AND expires_at <= ?", (self._prefix, channel, now)
        ).rowcount
        if count:
            self._deepen(connection, channel, -count)
        return count

    def waiting(self, connection: sqlite3.Connection, channels: Sequence[str]) -> list[str]:
        """Which of these channels hold messages."""
        marks = ", ".join("?" * len(channels))
        rows = connection.execute(
            f"SELECT channel FROM trunk_depth WHERE prefix = ? AND depth > 0 AND channel IN ({marks})",
            (self._prefix, *channels),
        )
        return [channel for (channel,) in rows]

    def purge(self, connection: sqlite3.Connection) -> None:
        """Remove every message and membership."""
        for table in ("trunk_queue", "trunk_depth", "trunk_members"):
            connection.execute(f"DELETE FROM {table} WHERE prefix = ?", (self._prefix,))
        connection.execute(CHANGE)

    def _deepen(self, connection: sqlite3.Connection, channel: str, by: int) -> None:
        connection.execute(
            "INSERT INTO trunk_depth (prefix, channel, depth) VALUES (?, ?, ?) "
            "ON CONFLICT (prefix, channel) DO UPDATE SET depth = depth + excluded.depth",
            (self._prefix, channel, by),
        )
