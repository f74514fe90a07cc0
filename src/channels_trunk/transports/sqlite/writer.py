"""Out: appends frames to the log and rows to the queues, and claims from these; on one connection, without waiting."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import Claimed, NodeContext
from channels_trunk.transports.frames import claimed_message

from .bells import Bells
from .clocks import Clocks, later
from .log_reader import LEAP, LogReader
from .neighbours import CHANGE, GENERATION, Neighbours, pack_names
from .queues import QueuedRow, Queues
from .rings import Letter, Told, fits, pack_letter, pack_ring
from .traffic import Traffic

__all__ = ["Writer"]

# Where the newest row has an id below one that this node knows, the log was emptied or restored. The others know ids
# that this node may not know: so far above them all, whatever they have read, they find a gap.
_INSERT = (
    "INSERT INTO trunk_log (id, prefix, origin, expires_at, frame) "
    f"SELECT iif(newest >= ?, newest, ? + {LEAP}) + 1, ?, ?, ?, ? "
    f"FROM (SELECT coalesce(max(id), 0) AS newest FROM trunk_log) RETURNING id, {GENERATION}"
)
_CATCH_UP_TRIES = 20
_CATCH_UP_RETRY = 0.0005

Rows = dict[str, list[tuple[int | None, Envelope]]]
"""For each normal channel the messages it is to get, each with its index in the batch (None: as a group's member)."""


def _expiry(batch: Sequence[Envelope]) -> float:
    return max(envelope.expires_at for envelope in batch)


class Writer:
    """Used by one thread at a time. Raises sqlite3.Error; SQLITE_BUSY at once where a lock is held."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        context: NodeContext,
        reader: LogReader,
        traffic: Traffic,
        *,
        queues: Queues,
        neighbours: Neighbours,
        bells: Bells,
        file_id: int,
        newest: int,
        begin: str,
        clocks: Clocks,
    ) -> None:
        self._db = connection
        self._context = context
        self._reader = reader
        self._traffic = traffic
        self._queues = queues
        self._neighbours = neighbours
        self._bells = bells
        self._file_id = file_id
        self.newest = newest
        """No row that this node appended is behind this one."""
        self._begin = begin
        self._clocks = clocks
        self.watched: frozenset[str] = frozenset()

    # --- publishing

    def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append one row for the whole batch; messages of normal channels become rows of their own."""
        if self._clocks.behind:
            batch = later(batch, self._clocks.behind)
        neighbours = self._neighbours
        kinds = {e.kind for e in batch}
        if Kind.QUEUE in kinds:
            return self._publish_with_queues(batch)
        to_groups = Kind.GROUP in kinds
        if not neighbours.nodes or (to_groups and neighbours.only is not None):
            # A process by itself writes nothing for messages that nobody else can hear; and a letter, unlike the
            # statement that appends a row, does not tell who has come.
            neighbours.refresh(self._db)
        if to_groups and (members := neighbours.members) and any(e.target in members for e in batch):
            return self._publish_with_queues(batch)
        if not neighbours.nodes:
            return ()
        frame = self._context.codec.encode_frame(self._context.node, batch)
        if self._handed_over(batch, frame):
            return ()
        told, generation = self._append(batch, frame)
        self._appended(batch, told)
        if generation != neighbours.generation:
            # The row is committed: what fails from here on must not have the batch sent again.
            try:
                neighbours.refresh(self._db, generation)
                self._catch_up_members(batch)
            except sqlite3.Error as error:
                neighbours.generation = -1
                self._context.sink.lost(error)
        self._ring(batch, told)
        return ()

    def _ring(self, batch: Sequence[Envelope], told: Told) -> None:
        self._bells.ring(self._neighbours.concerned(batch), pack_ring(self._file_id, told))

    def _handed_over(self, batch: Sequence[Envelope], frame: bytes) -> bool:
        """Whether the batch went to the one node that it concerns as a letter, as a small one does."""
        if not fits(frame) or (node := self._neighbours.addressee(batch)) is None:
            return False
        return self._bells.deliver(node, pack_letter(self._file_id, Letter(self.newest, frame)))

    def _append(self, batch: Sequence[Envelope], frame: bytes) -> tuple[Told, int]:
        """Append a row; return it and the generation that it found."""
        context = self._context
        known = max(self.newest, self._reader.position)
        values = (known, known, context.prefix, context.node, _expiry(batch), frame)
        # fetchall, so that the statement comes to its end and commits.
        [(row, generation)] = self._db.execute(_INSERT, values).fetchall()
        self._traffic.wrote(len(frame))
        return Told(row, frame), generation

    def _appended(self, batch: Sequence[Envelope], told: Told) -> None:
        """A row has been committed."""
        self.newest = told.row
        self._reader.keep_up(told.row, _expiry(batch))

    def _catch_up_members(self, batch: Sequence[Envelope]) -> None:
        """Normal channels that joined a group since we last looked get the message that is in the log already."""
        rows = self._rows_for_queues([envelope for envelope in batch if envelope.kind == Kind.GROUP])
        for _ in range(_CATCH_UP_TRIES if rows else 0):
            try:
                with self._transaction():
                    self._enqueue(rows)
            except sqlite3.OperationalError:
                # What is in the log cannot be taken back and tried again as a whole, so this part is.
                time.sleep(_CATCH_UP_RETRY)
            else:
                self._wake_for(rows)
                return
        for channel in rows:
            self._context.sink.dropped(channel)

    def _publish_with_queues(self, batch: Sequence[Envelope]) -> Sequence[int]:
        told = None
        with self._transaction():
            self._neighbours.refresh(self._db)
            rows = self._rows_for_queues(batch)
            refused = self._enqueue(rows)
            for_log = [envelope for envelope in batch if envelope.kind != Kind.QUEUE]
            if for_log and self._neighbours.nodes:
                told, _ = self._append(for_log, self._context.codec.encode_frame(self._context.node, for_log))
        if told is not None:
            self._appended(for_log, told)
            self._ring(for_log, told)
        self._wake_for(rows)
        return refused

    # --- rows of normal channels

    def _rows_for_queues(self, batch: Sequence[Envelope]) -> Rows:
        rows: Rows = {}
        now = self._clocks.now()
        for index, envelope in enumerate(batch):
            if envelope.kind == Kind.QUEUE:
                rows.setdefault(envelope.target, []).append((index, envelope))
            elif envelope.kind == Kind.GROUP:
                for channel, ends in self._neighbours.members.get(envelope.target, {}).items():
                    if ends > now:
                        rows.setdefault(channel, []).append((None, envelope))
        return rows

    def _enqueue(self, rows: Rows) -> list[int]:
        """Add rows as far as there is room; return the indexes of those that were refused."""
        refused: list[int] = []
        now = self._clocks.now()
        for channel, wanted in rows.items():
            room = max(0, self._queues.room(self._db, channel, len(wanted), now))
            if accepted := wanted[:room]:
                self._queues.append(self._db, channel, [self._queue_row(channel, entry[1]) for entry in accepted])
            for index, _envelope in wanted[room:]:
                if index is None:
                    self._context.sink.dropped(channel)
                else:
                    refused.append(index)
        return refused

    def _queue_row(self, channel: str, envelope: Envelope) -> tuple[float, bytes]:
        own = Envelope(Kind.QUEUE, channel, envelope.expires_at, envelope.body)
        frame = self._context.codec.encode_frame(self._context.node, [own])
        self._traffic.wrote(len(frame))
        return envelope.expires_at, frame

    def _wake_for(self, rows: Rows) -> None:
        """Wake the nodes, and this one, that wait for messages on these channels."""
        if not rows:
            return
        self._bells.ring(self._neighbours.watchers(list(rows)))
        own = [channel for channel in rows if channel in self.watched]
        if own:
            self._context.sink.available(own)

    def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Delete the oldest rows of a channel, and return them."""
        # Without this look, which takes no lock, every worker that is woken for one message would take the write lock.
        if self._queues.depth(self._db, channel) <= 0:
            return ()
        claimed: Sequence[Claimed] = ()
        # Again where every row was malformed: nobody would be told of what is behind them. Not where one was good: it
        # must not be lost because the next claim finds the file locked.
        while not claimed and (rows := self._claim_rows(channel, limit)):
            found = (claimed_message(self._context, channel, expires_at, frame) for _, expires_at, frame in rows)
            claimed = [message for message in found if message is not None]
        if self._clocks.ahead:
            claimed = [message._replace(expires_at=message.expires_at + self._clocks.ahead) for message in claimed]
        self._traffic.wrote(0)
        return claimed

    def _claim_rows(self, channel: str, limit: int) -> list[QueuedRow]:
        now = self._clocks.now()
        with self._transaction():
            rows = self._queues.claim(self._db, channel, limit)
            if any(expires_at <= now for _, expires_at, _ in rows):
                self._queues.drop_expired(self._db, channel, now)
                rows = [row for row in rows if row[1] > now]
                rows += self._queues.claim(self._db, channel, limit - len(rows))
        return rows

    def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert rows again, with ids below all others."""
        rows: Rows = {}
        for message in claimed:
            expires_at = message.expires_at - self._clocks.ahead
            envelope = Envelope(Kind.QUEUE, message.channel, expires_at, message.body)
            rows.setdefault(message.channel, []).append((None, envelope))
        with self._transaction():
            for channel, entries in rows.items():
                self._queues.restore(self._db, channel, [self._queue_row(channel, entry[1]) for entry in entries])
            self._neighbours.refresh(self._db)
        self._wake_for(rows)

    # --- what changes rarely

    def watch(self, channels: frozenset[str]) -> None:
        """Write into this node's row which channels it waits for."""
        with self._transaction():
            self._change(
                "UPDATE trunk_nodes SET watching = ? WHERE node = ?", (pack_names(channels), self._context.node)
            )
        self.watched = channels

    def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        with self._transaction():
            self._change(
                "INSERT OR REPLACE INTO trunk_members (prefix, group_name, channel, expires_at) VALUES (?, ?, ?, ?)",
                (self._context.prefix, group, channel, expires_at + self._clocks.behind),
            )

    def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        with self._transaction():
            self._change(
                "DELETE FROM trunk_members WHERE prefix = ? AND group_name = ? AND channel = ?",
                (self._context.prefix, group, channel),
            )

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        self._db.execute(statement, values)
        self._db.execute(CHANGE)

    def peers(self) -> frozenset[str]:
        """Nodes that have not been forgotten, and whose sockets do not say that nobody holds them any more."""
        rows = self._db.execute(
            "SELECT node, doorbell FROM trunk_nodes WHERE prefix = ? AND node <> ?",
            (self._context.prefix, self._context.node),
        ).fetchall()
        return frozenset(node for node, told in rows if not self._bells.is_gone(node, told))

    def purge(self) -> None:
        """Delete queues and memberships."""
        with self._transaction():
            self._queues.purge(self._db)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute(self._begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            # What is remembered of the neighbours may come from the transaction that is no more.
            self._neighbours.generation = -1
            raise
