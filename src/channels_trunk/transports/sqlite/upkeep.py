"""What is done now and then, on the hub's thread and a connection of its own: heartbeat, trimming, checkpoints."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.file_systems import file_identity, number_of_names

from .clocks import Clocks
from .connection import SQLiteSettings, complete_numbers, has_numbers
from .doorbell import Doorbell, Rung, remove_socket
from .log_reader import LEAP
from .neighbours import CHANGE, pack_names
from .queues import Queues

__all__ = ["FORGOTTEN_AFTER", "HEARTBEAT", "Upkeep"]

HEARTBEAT = 5.0
# No prefix may hold this.
_NO_PREFIX = "*"
# No clock is wrong by more. 272 years.
_LONGEST = 2.0**33
# A node that has not been heard of for so long is forgotten: it stopped without a word, and no socket says so.
FORGOTTEN_AFTER = 30.0
_SOON = 0.1
_ROWS_PER_STEP = 200
_STEPS_PER_TURN = 20
# A node that is alive and does not read (stopped by a signal, say) must not let the file grow for as long as messages
# live: beyond this the older half of the log goes, and the node will say that it has missed something. For one that
# goes on reading, if slowly, the file may grow by more.
_LOG_LIMIT_BYTES = 24 * 1024 * 1024
_LOG_LIMIT_BYTES_IF_READ = 256 * 1024 * 1024
# Who reads says at each heartbeat how far it has come.
_READS_WITHIN = 2 * HEARTBEAT
_LOG_LIMIT_ROWS = 20  # below it, measuring is not worth it
_CHECKPOINT_AFTER = 512 * 1024
_RESTART_AFTER = 6 * 1024 * 1024
# What writers can be held back for; more is left where somebody reads what was there long ago. Bytes.
_FEW = 4 * 1024 * 1024
# It is said from here on that the WAL grows. It is kept at a quarter of this otherwise.
_WAL_TOO_LARGE = 32 * 1024 * 1024
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
        clocks: Clocks,
    ) -> None:
        self._db = connection
        self._settings = settings
        self._node = node
        self._prefix = prefix
        self._queues = queues
        self._clocks = clocks
        self._doorbell = doorbell
        self._noted: dict[str, tuple[float, float]] = {}  # nodes, their last heartbeat, and since when it is that
        self._identity = file_identity(settings.path)
        # A deleted file's inode may be given to the next one.
        self.file_id = self._find_file_id()
        self._slowest: tuple[int | None, float] = (None, 0.0)  # how far all have read, and since when it is that
        self._page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        self._unchecked = 0  # bytes written, roughly, since the last checkpoint
        self._wal_is_held = False
        self._written: tuple[object, ...] = ()  # this node's row as it was written last, but for its position

    @property
    def identity(self) -> object:
        """Which file the connections are open on."""
        return self._identity, self.file_id

    def _find_file_id(self) -> int:
        row = self._db.execute("SELECT value FROM trunk_meta WHERE name = 'file_id'").fetchone()
        return row[0] if row is not None and isinstance(row[0], int) else 0

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
        return self.newest_row()[0]

    def newest_row(self) -> tuple[int, float]:
        """The id of the newest row of the log, and when it expires."""
        row = self._db.execute("SELECT id, expires_at FROM trunk_log ORDER BY id DESC LIMIT 1").fetchone()
        return row or (0, 0.0)

    def leap(self, position: int, now: float) -> None:
        """Have every node find a gap, as the log is not the one that was read up to `position`."""
        with self.transaction():
            newest = self.newest()
            if newest - position > LEAP // 2:
                return  # another node has seen it, too
            self._db.execute(
                "INSERT INTO trunk_log (id, prefix, origin, expires_at, frame) VALUES (?, ?, ?, ?, x'')",
                (max(newest, position) + LEAP, _NO_PREFIX, self._node, now),
            )
            self._db.execute(CHANGE)
        for node, told in self._others():
            self._doorbell.probe(self._doorbell.locate(node, told))

    def waiting(self, channels: Iterable[str]) -> list[str]:
        """Which of these normal channels hold messages."""
        return self._queues.waiting(self._db, sorted(channels)) if channels else []

    def register(self, doorbell: str, watching: Iterable[str], position: int | None, now: float) -> tuple[int, bool]:
        """Take part from here on, or from `position`; (the position, whether this node was still known)."""
        with self.transaction():
            known = self._db.execute("SELECT 1 FROM trunk_nodes WHERE node = ?", (self._node,)).fetchone() is not None
            if position is None:
                position = self.newest()
            written = (doorbell, pack_names(watching), now)
            self._db.execute(
                "INSERT OR REPLACE INTO trunk_nodes (node, prefix, doorbell, watching, seen_at, position, clock) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (self._node, self._prefix, *written, position, self._clocks.offset()),
            )
            self._db.execute(CHANGE)
        self._written = written
        return position, known

    def leave(self) -> None:
        """Take part no more."""
        with self.transaction():
            self._db.execute("DELETE FROM trunk_nodes WHERE node = ?", (self._node,))
            self._db.execute(CHANGE)

    def heartbeat(self, watching: Iterable[str], position: int, now: float) -> tuple[bool, int]:
        """Say that this node lives and has read so far; (whether its row was as it left it, why it is told to poll).

        It is not if others took this node for dead, or if the file was emptied or restored.
        """
        doorbell, _, before = self._written or ("", b"", 0.0)
        written = (doorbell, pack_names(watching), now)
        row = self._db.execute("SELECT must_poll FROM trunk_nodes WHERE node = ?", (self._node,)).fetchone()
        with self.transaction():
            # Told again, if it is still so: a neighbour that cannot ring here may have gone.
            known = self._db.execute(
                "UPDATE trunk_nodes SET must_poll = 0, position = ?, seen_at = ?, clock = ? "
                "WHERE node = ? AND doorbell = ? AND watching = ? AND seen_at = ?",
                (position, now, self._clocks.offset(), self._node, doorbell, written[1], before),
            ).rowcount
        self._written = written
        return known == 1, int(row[0]) if row else 0

    def must_poll(self, nodes: Mapping[str, int]) -> None:
        """Tell nodes that cannot be rung from here to poll, and the errno that says why."""
        told = [(reason or 1, node) for node, reason in nodes.items()]
        with self.transaction():
            self._db.executemany("UPDATE trunk_nodes SET must_poll = ? WHERE node = ? AND must_poll = 0", told)

    def clocks_of_others(self) -> list[float]:
        """What the other nodes, of any prefix, have written of their clocks."""
        rows = self._db.execute("SELECT clock FROM trunk_nodes WHERE node <> ?", (self._node,)).fetchall()
        # What a stranger wrote may be no time at all, and what is sent by it would live for ever.
        return [clock for (clock,) in rows if isinstance(clock, float) and abs(clock) < _LONGEST]

    def forget_the_dead(self) -> None:
        """Forget processes that were killed; one ended by a signal is such, too."""
        addresses = self._addresses()
        if any(self._doorbell.reach(address) is Rung.NOBODY for address in addresses.values()):
            self._forget(addresses, Rung.NOBODY)

    def forget_the_restored(self) -> None:
        """The table may be a copy's: forget who has no socket any more. Who lives finds out, and registers again."""
        self._forget(self._addresses(), Rung.NOBODY, Rung.UNREACHABLE)

    def clear_up(self) -> None:
        """Forget processes that were killed, and remove sockets whose processes are forgotten already."""
        self.forget_the_dead()
        for address in self._doorbell.orphans(self._addresses().values()):
            remove_socket(address)

    def _forget(self, addresses: Mapping[str, str], *outcomes: Rung) -> None:
        """Forget those of these nodes that cannot be reached, with one of these outcomes.

        They are tried in the transaction: a node registers when its socket is there.
        """
        with self.transaction():
            tried = {node: self._doorbell.reach(address) for node, address in addresses.items()}
            gone = [node for node, rung in tried.items() if rung in outcomes]
            if gone:
                self._db.executemany("DELETE FROM trunk_nodes WHERE node = ?", [(node,) for node in gone])
                self._db.execute(CHANGE)
        for node in gone:
            # Others may well reach one that cannot be reached from here.
            if tried[node] is Rung.NOBODY:
                remove_socket(addresses[node])

    def _addresses(self) -> dict[str, str]:
        return {node: self._doorbell.locate(node, told) for node, told in self._others()}

    def forget_the_silent(self, now: float) -> None:
        """Forget nodes that cannot be rung and whose heartbeat has not changed for a while.

        By `now`, this process's own monotonic clock: the wall clocks of two processes may differ, and jump. A node that
        can be rung is alive, however late it is, or its process would not hold the socket.
        """
        rows = self._db.execute("SELECT node, seen_at FROM trunk_nodes WHERE node <> ?", (self._node,)).fetchall()
        before = self._noted
        self._noted = {
            node: before[node] if node in before and before[node][0] == seen_at else (seen_at, now)
            for node, seen_at in rows
        }
        late = {node for node, (_, noted_at) in self._noted.items() if now - noted_at > FORGOTTEN_AFTER}
        addresses = self._addresses()
        self._doorbell.hang_up(addresses.values())
        silent = {node: address for node, address in addresses.items() if node in late}
        if any(not self._doorbell.reach(address).is_held for address in silent.values()):
            self._forget(silent, Rung.NOBODY, Rung.UNREACHABLE)

    def _others(self) -> list[tuple[str, str]]:
        """All other nodes, of any prefix, and where they say that they can be rung."""
        return self._db.execute("SELECT node, doorbell FROM trunk_nodes WHERE node <> ?", (self._node,)).fetchall()

    # --- the file

    @property
    def other_names(self) -> str:
        """What is wrong with the names of the file, or nothing."""
        names = number_of_names(self._settings.path)
        if names < 2:
            return ""
        return (
            f"SQLite file {self._settings.path} has {names} names (hard links): SQLite keeps a log for each name, so "
            f"that processes which use different ones do not hear each other, and damage the file; use symbolic links"
        )

    @property
    def why_wal_grows(self) -> str:
        """What keeps the WAL from being used again, or nothing."""
        if not self._wal_is_held:
            return ""
        return (
            f"SQLite file {self._settings.path}: its -wal grows beyond {_WAL_TOO_LARGE >> 20} MiB, as a connection "
            f"of this or another program has been reading in one transaction all the while: end that transaction (a "
            f"shell, a backup, a query whose rows are not all fetched), or give the layer a file of its own"
        )

    def check_identity(self) -> None:
        """Raise TransportUnavailable if the path names another file than the one that is open, or none."""
        if file_identity(self._settings.path) != self._identity:
            raise TransportUnavailable(f"SQLite file {self._settings.path}: it was removed or replaced while in use")
        if not has_numbers(self._db):
            with self.transaction():
                complete_numbers(self._db)
        if self._find_file_id() != self.file_id:
            raise TransportUnavailable(f"SQLite file {self._settings.path}: its content was removed or replaced")

    def trim(self, now: float, monotonic: float) -> bool:
        """Remove what nobody needs any more, a bounded number of rows; whether there is more to do."""
        more_log = self._trim_log(now, monotonic)
        return self._trim_queues(now) or more_log

    def _trim_log(self, now: float, monotonic: float) -> bool:
        """Remove rows that every node has read or that have expired."""
        lowest, newest = self._db.execute("SELECT min(id), max(id) FROM trunk_log").fetchone()
        if lowest is None or lowest >= newest:
            return False
        read_by_all = self._db.execute("SELECT min(CAST(position AS INTEGER)) FROM trunk_nodes").fetchone()[0]
        alive = self._db.execute("SELECT id FROM trunk_log WHERE expires_at > ? ORDER BY id LIMIT 1", (now,)).fetchone()
        # Where a reader stands, the row stays: by it the reader sees that this is still the log that it has read.
        limit = max(newest if read_by_all is None else read_by_all, (alive[0] if alive else newest) - 1) - 1
        if read_by_all != self._slowest[0]:
            self._slowest = (read_by_all, monotonic)
        is_read = monotonic - self._slowest[1] < _READS_WITHIN
        bound = _LOG_LIMIT_BYTES_IF_READ if is_read else _LOG_LIMIT_BYTES
        if newest - limit > _LOG_LIMIT_ROWS and self._log_bytes() > bound:
            limit = max(limit, (lowest + newest) // 2)
        # The newest row stays: the next id is made from it.
        return self._remove_up_to(lowest, min(limit, newest - 1))

    def _remove_up_to(self, lowest: int, limit: int) -> bool:
        if lowest > limit:
            return False
        for _ in range(_STEPS_PER_TURN):
            # Not so many ids: where the log was emptied there are none for a long way.
            last = self._db.execute(
                "SELECT id FROM trunk_log WHERE id <= ? ORDER BY id LIMIT 1 OFFSET ?", (limit, _ROWS_PER_STEP - 1)
            ).fetchone()
            with self.transaction():
                removed = self._db.execute("DELETE FROM trunk_log WHERE id <= ?", last or (limit,)).rowcount
            self._unchecked += removed * 64
            if last is None:
                return False
        return True

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
        self._count_again()
        ended = self._db.execute("SELECT 1 FROM trunk_members WHERE expires_at <= ? LIMIT 1", (now,)).fetchone()
        empty = self._db.execute("SELECT 1 FROM trunk_depth WHERE depth <= 0 LIMIT 1").fetchone()
        for prefix, channel in oldest:
            with self.transaction():
                Queues(prefix, lambda _channel: 0).drop_expired(self._db, channel, now)
        if ended or empty:
            with self.transaction():
                self._db.execute("DELETE FROM trunk_members WHERE expires_at <= ?", (now,))
                self._db.execute("DELETE FROM trunk_depth WHERE depth <= 0")
                self._db.execute(CHANGE)
        return bool(oldest)

    def _count_again(self) -> None:
        """Mend counters that do not count the oldest rows, as somebody has changed them: nobody would claim these."""
        wrong = self._db.execute(
            "SELECT DISTINCT q.prefix, q.channel FROM (SELECT prefix, channel FROM trunk_queue ORDER BY id LIMIT ?) q "
            "LEFT JOIN trunk_depth d ON d.prefix = q.prefix AND d.channel = q.channel WHERE coalesce(d.depth, 0) <= 0",
            (_ROWS_PER_STEP,),
        ).fetchall()
        for prefix, channel in wrong:
            with self.transaction():
                Queues(prefix, lambda _channel: 0).count(self._db, channel)

    def checkpoint(self, written: int, *, quiet: bool) -> None:
        """Move the WAL into the file when it is worth it, and never let it grow."""
        self._unchecked += written
        if self._unchecked < _CHECKPOINT_AFTER and not self._wal_is_held:
            return
        self._unchecked = 0
        _busy, pages, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        left = (pages - moved) * self._page_size
        self._wal_is_held = left > _WAL_TOO_LARGE
        if pages * self._page_size > _RESTART_AFTER and left < _FEW:
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
