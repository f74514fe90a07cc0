"""What is done now and then, on the hub's thread and a connection of its own: heartbeat, trimming, checkpoints."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.file_systems import file_identity

from .connection import SQLiteSettings
from .doorbell import Doorbell, Rung, remove_socket
from .neighbours import GROW, pack_names
from .queues import Queues

__all__ = ["FORGOTTEN_AFTER", "HEARTBEAT", "Upkeep"]

HEARTBEAT = 5.0
# A node that has not been heard of for so long is forgotten: it stopped without a word, and no socket says so.
FORGOTTEN_AFTER = 30.0
_SOON = 0.1
_ROWS_PER_STEP = 200
_STEPS_PER_TURN = 20
# A node that is alive and does not read (stopped by a signal, say) must not let the file grow for as long as messages
# live: beyond this the older half of the log goes, and the node will say that it has missed something.
_LOG_LIMIT_BYTES = 24 * 1024 * 1024
_LOG_LIMIT_ROWS = 20  # below it, measuring is not worth it
_CHECKPOINT_AFTER = 512 * 1024
_RESTART_AFTER = 6 * 1024 * 1024
_VACUUM_ABOVE = 4 * 1024 * 1024
_VACUUM_PAGES = 1_000
_COST_OF_A_COMMIT = 4096


class Upkeep:
    """Used by the hub's thread alone."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: SQLiteSettings,
        doorbell: Doorbell,
        *,
        node: str,
        prefix: str,
        queues: Queues,
    ) -> None:
        self._db = connection
        self._settings = settings
        self._node = node
        self._prefix = prefix
        self._queues = queues
        self._doorbell = doorbell
        self._noted: dict[str, tuple[float, float]] = {}  # nodes, their last heartbeat, and since when it is that
        self._identity = file_identity(settings.path)
        # A deleted file's inode may be given to the next one.
        row = connection.execute("SELECT value FROM trunk_meta WHERE name = 'file_id'").fetchone()
        self.file_id: int = row[0] if row is not None and isinstance(row[0], int) else 0
        self._page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        self._unchecked = 0  # bytes written, roughly, since the last checkpoint

    @property
    def identity(self) -> object:
        """Which file the connections are open on."""
        return self._identity, self.file_id

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction; rolled back if the body raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._unchecked += _COST_OF_A_COMMIT

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # --- this node's row

    def newest(self) -> int:
        """The id of the newest row of the log."""
        return int(self._db.execute("SELECT max(id) FROM trunk_log").fetchone()[0] or 0)

    def waiting(self, channels: Iterable[str]) -> list[str]:
        """Which of these normal channels hold messages."""
        return self._queues.waiting(self._db, sorted(channels)) if channels else []

    def register(self, doorbell: str, watching: Iterable[str], position: int | None, now: float) -> int:
        """Take part from here on, or from `position`; return the position."""
        with self.transaction():
            if position is None:
                position = self.newest()
            self._db.execute(
                "INSERT OR REPLACE INTO trunk_nodes (node, prefix, doorbell, watching, position, seen_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (self._node, self._prefix, doorbell, pack_names(watching), position, now),
            )
            self._db.execute(GROW)
        return position

    def leave(self) -> bool:
        """Take part no more; whether this was the last node."""
        with self.transaction():
            self._db.execute("DELETE FROM trunk_nodes WHERE node = ?", (self._node,))
            self._db.execute(GROW)
            return self._db.execute("SELECT 1 FROM trunk_nodes LIMIT 1").fetchone() is None

    def heartbeat(self, position: int, now: float) -> tuple[bool, bool]:
        """Say that this node lives and has read so far; (whether it was still known, whether it is told to poll)."""
        with self.transaction():
            known = self._db.execute(
                "UPDATE trunk_nodes SET position = ?, seen_at = ? WHERE node = ?", (position, now, self._node)
            ).rowcount
        row = self._db.execute("SELECT must_poll FROM trunk_nodes WHERE node = ?", (self._node,)).fetchone()
        return known == 1, bool(row and row[0])

    def must_poll(self, nodes: Iterable[str]) -> None:
        """Tell nodes that cannot be rung from here to poll."""
        with self.transaction():
            self._db.executemany("UPDATE trunk_nodes SET must_poll = 1 WHERE node = ?", [(node,) for node in nodes])

    def forget(self, nobody: Iterable[str]) -> None:
        """Forget nodes whose sockets nobody holds any more."""
        gone = [(node, self._doorbell.locate(node, told)) for node, told in self._others() if node in set(nobody)]
        if not gone:
            return
        with self.transaction():
            self._db.executemany("DELETE FROM trunk_nodes WHERE node = ?", [(node,) for node, _ in gone])
            self._db.execute(GROW)
        for _node, address in gone:
            if address:
                remove_socket(address)

    def forget_the_dead(self) -> None:
        """Ring everywhere, and clear up after processes that were killed; one ended by a signal is such, too."""
        others = self._others()
        addresses = {node: self._doorbell.locate(node, told) for node, told in others}
        rung = {node: self._doorbell.probe(address) for node, address in addresses.items()}
        self.forget([node for node, result in rung.items() if result is Rung.NOBODY])
        for address in self._doorbell.orphans(addresses.values()):
            remove_socket(address)

    def forget_the_silent(self, now: float) -> None:
        """Forget nodes that cannot be rung and whose heartbeat has not changed for a while.

        By `now`, this process's own monotonic clock: the wall clocks of two processes may differ, and jump. A node that
        can be rung is alive, however late it is, or its process would not hold the socket.
        """
        rows = self._db.execute("SELECT node, seen_at FROM trunk_nodes WHERE node <> ?", (self._node,)).fetchall()
        self._noted = {
            node: (seen_at, self._noted[node][1] if self._noted.get(node, (None,))[0] == seen_at else now)
            for node, seen_at in rows
        }
        late = [node for node, (_, noted_at) in self._noted.items() if now - noted_at > FORGOTTEN_AFTER]
        told = dict(self._others())
        self._doorbell.hang_up([self._doorbell.locate(node, address) for node, address in told.items()])
        self.forget(
            [node for node in late if not self._doorbell.probe(self._doorbell.locate(node, told.get(node, ""))).is_held]
        )

    def _others(self) -> list[tuple[str, str]]:
        """All other nodes, of any prefix, and where they say that they can be rung."""
        return self._db.execute("SELECT node, doorbell FROM trunk_nodes WHERE node <> ?", (self._node,)).fetchall()

    # --- the file

    def check_identity(self) -> None:
        """Raise TransportUnavailable if the path names another file than the one that is open, or none."""
        if file_identity(self._settings.path) != self._identity:
            raise TransportUnavailable(f"SQLite file {self._settings.path}: it was removed or replaced while in use")

    def trim(self, now: float) -> bool:
        """Remove what nobody needs any more, a bounded number of rows; whether there is more to do."""
        more_log = self._trim_log(now)
        return self._trim_queues(now) or more_log

    def _trim_log(self, now: float) -> bool:
        """Remove rows that every node has read or that have expired."""
        lowest, newest = self._db.execute("SELECT min(id), max(id) FROM trunk_log").fetchone()
        if lowest is None or lowest >= newest:
            return False
        read_by_all = self._db.execute("SELECT min(CAST(position AS INTEGER)) FROM trunk_nodes").fetchone()[0]
        alive = self._db.execute("SELECT id FROM trunk_log WHERE expires_at > ? ORDER BY id LIMIT 1", (now,)).fetchone()
        limit = max(newest if read_by_all is None else read_by_all, (alive[0] if alive else newest) - 1)
        if newest - limit > _LOG_LIMIT_ROWS and self._log_bytes() > _LOG_LIMIT_BYTES:
            limit = max(limit, (lowest + newest) // 2)
        # The newest row stays: the next id is made from it.
        return self._remove_up_to(lowest, min(limit, newest - 1))

    def _remove_up_to(self, lowest: int, limit: int) -> bool:
        for _ in range(_STEPS_PER_TURN):
            if lowest > limit:
                return False
            lowest = min(lowest + _ROWS_PER_STEP, limit + 1)
            with self.transaction():
                removed = self._db.execute("DELETE FROM trunk_log WHERE id < ?", (lowest,)).rowcount
            self._unchecked += removed * 64
        return lowest <= limit

    def _log_bytes(self) -> int:
        return int(self._db.execute("SELECT total(length(frame)) FROM trunk_log").fetchone()[0])

    def _trim_queues(self, now: float) -> bool:
        """Drop expired messages of normal channels, ended memberships, empty counters; whether there is more."""
        # Only among the oldest rows: those of live channels are dropped when somebody sends or claims, and a scan of
        # the whole table would read the file from end to end.
        oldest = self._db.execute(
            "SELECT DISTINCT prefix, channel FROM (SELECT prefix, channel, expires_at FROM trunk_queue ORDER BY id "
            "LIMIT ?) WHERE expires_at <= ?",
            (_ROWS_PER_STEP, now),
        ).fetchall()
        ended = self._db.execute("SELECT 1 FROM trunk_members WHERE expires_at <= ? LIMIT 1", (now,)).fetchone()
        empty = self._db.execute("SELECT 1 FROM trunk_depth WHERE depth <= 0 LIMIT 1").fetchone()
        for prefix, channel in oldest:
            with self.transaction():
                Queues(prefix, lambda _channel: 0).drop_expired(self._db, channel, now)
        if ended or empty:
            with self.transaction():
                self._db.execute("DELETE FROM trunk_members WHERE expires_at <= ?", (now,))
                self._db.execute("DELETE FROM trunk_depth WHERE depth <= 0")
                self._db.execute(GROW)
        return bool(oldest)

    def checkpoint(self, written: int, *, quiet: bool) -> None:
        """Move the WAL into the file when it is worth it, and never let it grow."""
        self._unchecked += written
        if self._unchecked < _CHECKPOINT_AFTER:
            return
        self._unchecked = 0
        _busy, pages, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages * self._page_size > _RESTART_AFTER:
            # PASSIVE never comes to the end of a WAL that is written all the time; RESTART holds writers back for the
            # few pages that are left, so that the next one begins at the front of the file again.
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if quiet and pages == moved:
            self._vacuum()

    def _vacuum(self) -> None:
        if not self._settings.own_file:
            return
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        if free * self._page_size > _VACUUM_ABOVE:
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            self._unchecked += _VACUUM_PAGES * self._page_size
