"""In: reads the rows of the log behind this node's cursor."""

import sqlite3
import threading
from collections import deque
from collections.abc import Sequence

from channels_trunk.envelope import Envelope
from channels_trunk.transports.base import LAST_PAGE, NodeContext, Page
from channels_trunk.transports.frames import envelopes_for_node

from .doorbell import Doorbell
from .queues import Queues
from .rings import Letter, Post, unpack
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
        doorbell: Doorbell,
        *,
        position: int,
        file_id: int,
    ) -> None:
        self._db = connection
        self._context = context
        self._traffic = traffic
        self._doorbell = doorbell
        self._file_id = file_id
        self._must_look = True  # cleared before the file is asked
        self._turn = threading.Lock()
        self._held = False  # between hold() and release()
        self._closed = False  # guarded by _turn
        self.position = position
        """The id of the last row read; written with _turn held, read by anybody."""

    def look(self) -> None:
        """The next read() is to ask the file, whatever the doorbell says."""
        self._must_look = True

    def read(self) -> Page:
        """The envelopes for this node in the next rows, and in letters between them."""
        with self._turn:
            if self._closed:
                return LAST_PAGE
            taken = self._doorbell.taken
            if len(taken) == 1 and not self._must_look and (frame := self._at_hand(taken[0])) is not None:
                taken.popleft()
                frames, more = [frame], False
            else:
                self._must_look = False
                frames, more = self._looked_up()
        envelopes: list[Envelope] = []
        for frame in frames:
            envelopes += envelopes_for_node(self._context, frame)
        return Page(envelopes, more=more)

    def _at_hand(self, post: Post) -> bytes | None:
        """The frame that has come, if it can be taken without asking the file; with _turn held."""
        carried = unpack(self._file_id, post)
        if isinstance(carried, Letter):
            return carried.frame if carried.after <= self.position else None
        if carried is None or carried.row != self.position + 1:
            return None
        self.position = carried.row
        self._traffic.read(len(carried.frame))
        return carried.frame

    def _looked_up(self) -> tuple[list[bytes], bool]:
        """The frames in the next rows, with letters in their places, and whether to ask again; with _turn held.

        A letter belongs behind all that its sender had appended before it, and in front of what it appended later. It
        was sent before the latter was committed: so after the file was asked, the letters that belong in front of any
        of these rows have come. Rings that come after the file was asked may be for rows that were not there yet.
        """
        known = len(self._doorbell.taken)
        before = self.position
        rows = self._db.execute(_READ, (self._context.prefix, self._context.node, before, _ROWS_AT_ONCE)).fetchall()
        all_read = len(rows) < _ROWS_AT_ONCE
        if rows:
            self.position = rows[-1][0]
            # What a stranger wrote may be a number.
            self._traffic.read(sum(len(frame) for _, frame in rows if isinstance(frame, bytes)))
            if rows[0][0] != before + 1:
                self._context.sink.gap("the log was trimmed before this process had read it")
        self._doorbell.answer()
        if self._doorbell.lost:
            self._doorbell.lost = 0
            self._context.sink.gap("a large message came while this process had no descriptor left to take it by")
        letters, rung = self._sorted_out(known, all_read=all_read)
        return _merged(rows, letters), rung or not all_read

    def _sorted_out(self, known: int, *, all_read: bool) -> tuple[list[Letter], bool]:
        """The letters that can be read now, and whether there may be rows that were not there when the file was asked.

        The first `known` datagrams had come before it was asked.
        """
        taken = self._doorbell.taken
        letters: list[Letter] = []
        later: list[Post] = []
        rung = False
        for index in range(len(taken)):
            post = taken.popleft()
            carried = unpack(self._file_id, post)
            if not isinstance(carried, Letter):
                rung = rung or (index >= known and (carried is None or carried.row > self.position))
            elif carried.after <= self.position or (index < known and all_read):
                # What it says that it follows had been committed before it was sent. If it is not there, it never was.
                letters.append(carried)
            else:
                later.append(post)
        taken.extendleft(reversed(later))
        return letters, rung or bool(later)

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
        self._held = self._turn.acquire(timeout=1.0)

    def release(self) -> None:
        """Let them read again."""
        if self._held:
            self._held = False
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


def _merged(rows: Sequence[tuple[int, bytes | None]], letters: Sequence[Letter]) -> list[bytes]:
    """The frames of all, each letter behind the last row that it follows; those of one sender stay in order."""
    frames: list[bytes] = []
    waiting = deque(sorted(letters, key=lambda letter: letter.after))
    for row, frame in rows:
        while waiting and waiting[0].after < row:
            frames.append(waiting.popleft().frame)
        if frame is not None:
            frames.append(frame)
    return frames + [letter.frame for letter in waiting]
