"""In: reads the rows of the log behind this node's cursor."""

import sqlite3
import threading
from collections.abc import Sequence

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.names import channel_owner
from channels_trunk.transports.base import LAST_PAGE, NodeContext, Page

from .queues import Queues
from .rings import Told, unpack_ring
from .traffic import Traffic

__all__ = ["LogReader"]

_ROWS_AT_ONCE = 32
# Rows of other prefixes, and our own, come without their frame: only that no id is missing is of interest then.
_READ = "SELECT id, CASE WHEN prefix = ? AND origin <> ? THEN frame END FROM trunk_log WHERE id > ? ORDER BY id LIMIT ?"


class LogReader:
    """One connection that only reads. Any thread may call it; they take turns."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        context: NodeContext,
        traffic: Traffic,
        *,
        position: int,
        file_id: int | None,
    ) -> None:
        self._db = connection
        self._context = context
        self._traffic = traffic
        self._file_id = file_id
        self._told: Told | None = None
        self._must_look = True  # somebody asks for what the file holds; cleared before the file is asked
        self._turn = threading.Lock()
        self._closed = False  # guarded by _turn
        self.position = position
        """The id of the last row read; written with _turn held, read by anybody."""

    def rung(self, ring: bytes) -> None:
        """Somebody rang, alone: if the ring carries the next row, the next read() takes it from there."""
        told = None if self._file_id is None else unpack_ring(self._file_id, ring)
        if told is None:
            self._must_look = True
        else:
            self._told = told

    def read(self) -> Page:
        """The envelopes for this node in the next rows."""
        with self._turn:
            if self._closed:
                return LAST_PAGE
            position = self.position
            told, self._told = self._told, None
            if told is None or told.row != position + 1 or self._must_look:
                self._must_look = False
                rows = self._db.execute(
                    _READ, (self._context.prefix, self._context.node, position, _ROWS_AT_ONCE)
                ).fetchall()
            else:
                rows = [told]
            if not rows:
                return LAST_PAGE
            self.position = rows[-1][0]
        if rows[0][0] != position + 1:
            self._context.sink.gap("the log was trimmed before this process had read it")
        envelopes: list[Envelope] = []
        for _id, frame in rows:
            if frame is not None:
                envelopes += self._decoded(frame)
        return Page(envelopes, more=len(rows) == _ROWS_AT_ONCE)

    def keep_up(self, row: int) -> None:
        """This node appended `row`: if that is the next one, it has been read. A node that only sends is never rung."""
        if row - 1 == self.position and self._turn.acquire(blocking=False):
            if row - 1 == self.position:
                self.position = row
            self._turn.release()

    def waiting(self, queues: Queues, channels: Sequence[str]) -> Sequence[str]:
        """Which of these normal channels hold messages."""
        if not channels:
            return ()
        with self._turn:
            return () if self._closed else queues.waiting(self._db, channels)

    def hold(self) -> None:
        """Keep everybody from reading, until release()."""
        self._turn.acquire(timeout=1.0)

    def release(self) -> None:
        """Let them read again."""
        if self._turn.locked():
            self._turn.release()

    def abandon(self) -> None:
        """Close the connection whatever the lock says: in the child of a fork nobody is left to hold it."""
        self._closed = True
        self._db.close()

    def close(self) -> None:
        """Close the connection, as soon as nobody reads."""
        with self._turn:
            self._closed = True
            self._db.close()

    def _decoded(self, frame: bytes) -> Sequence[Envelope]:
        try:
            _origin, envelopes = self._context.codec.decode_frame(frame)
            self._traffic.read(len(frame))
            return [envelope for envelope in envelopes if self._is_for_us(envelope)]
        except (DecodeError, TypeError) as error:
            # TypeError: a target that is no channel name.
            self._context.sink.skipped(error)
            return ()

    def _is_for_us(self, envelope: Envelope) -> bool:
        if envelope.kind == Kind.GROUP:
            return True
        if envelope.kind == Kind.MAILBOX:
            return channel_owner(envelope.target) == self._context.node
        return envelope.kind == Kind.CONTROL and envelope.target in (self._context.node, EVERY_NODE)
