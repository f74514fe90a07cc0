"""In: reads the rows of the log behind this node's cursor."""

import sqlite3
import threading
from collections import deque
from collections.abc import Sequence

from channels_trunk.codec import ANY, LOG, Slot
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import LAST_PAGE, NodeContext, Page
from channels_trunk.transports.frames import envelopes_for_node

from .clocks import Clocks, later
from .doorbell import Doorbell
from .queues import Queues
from .rings import Letter, Post, unpack
from .traffic import Traffic

__all__ = ["LEAP", "LogReader", "Mark"]

LEAP = 1 << 32
"""How far the next id lies above all that is known, where the log was emptied or restored. No log grows by so much."""

_ROWS_AT_ONCE = 32
# Rows of other prefixes, and our own, come without their frame: only that no id is missing is of interest then. The row
# that was read last comes again: where it has gone, or is another one, the log is not the one that was read.
_READ = (
    "SELECT id, CASE WHEN id > ? AND prefix = ? AND origin <> ? THEN frame END, expires_at, "
    "CASE WHEN id = ? AND ? IS NOT NULL THEN frame = ? END FROM trunk_log WHERE id >= ? ORDER BY id LIMIT ?"
)
_FOLLOWS = "SELECT 1 FROM trunk_log WHERE id > ? LIMIT 1"

Row = tuple[int, bytes | None, float, int | None]
"""(id, frame, expires_at, whether the frame is that of the row that was read last, if that is known by its frame)"""
Found = tuple[bytes, Slot]
"""A frame, and what may be in it: what is in the log is for anybody, a letter for this node."""
Mark = float | bytes | None
"""By what a row is known again: when it expires, or its frame; None: not yet."""


class LogReader:
    """One connection that only reads. Any thread may call it; they take turns."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        context: NodeContext,
        traffic: Traffic,
        doorbell: Doorbell,
        clocks: Clocks,
        *,
        position: int,
        mark: Mark = None,
        file_id: int,
    ) -> None:
        self._db = connection
        self._context = context
        self._traffic = traffic
        self._doorbell = doorbell
        self._clocks = clocks
        self._file_id = file_id
        self._letter_slot: Slot = {Kind.MAILBOX: context.node, Kind.GROUP: ANY}
        self._must_look = True  # cleared before the file is asked
        self._turn = threading.Lock()
        self._held = False  # between hold() and release()
        self._closed = False  # guarded by _turn
        self.position = position
        """The id of the last row read; written with _turn held, read by anybody."""
        self.mark = mark
        """That row's mark; as the position."""
        self.lost_at: int | None = None
        """Up to where another log than this one was read: upkeep has to make a gap that all find."""

        self.was_replaced = False
        """Whether the log was emptied or restored, and upkeep has not looked what else was."""

    def look(self) -> None:
        """The next read() is to ask the file, whatever the doorbell says."""
        self._must_look = True

    def read(self) -> Page:
        """The envelopes for this node in the next rows, and in letters between them."""
        with self._turn:
            if self._closed:
                return LAST_PAGE
            taken = self._doorbell.taken
            if len(taken) == 1 and not self._must_look and (found := self._at_hand(taken[0])) is not None:
                taken.popleft()
                frames, more = [found], False
            else:
                self._must_look = False
                frames, more = self._looked_up()
        envelopes: list[Envelope] = []
        for frame, slot in frames:
            envelopes += envelopes_for_node(self._context, frame, slot)
        if self._clocks.ahead:
            return Page(later(envelopes, self._clocks.ahead), more=more)
        return Page(envelopes, more=more)

    def _at_hand(self, post: Post) -> Found | None:
        """The frame that has come, if it can be taken without asking the file; with _turn held."""
        carried = unpack(self._file_id, post)
        if isinstance(carried, Letter):
            return (carried.frame, self._letter_slot) if carried.after <= self.position else None
        if carried is None or carried.row != self.position + 1:
            return None
        self.position, self.mark = carried.row, carried.frame
        self._traffic.read(len(carried.frame))
        return carried.frame, LOG

    def _looked_up(self) -> tuple[list[Found], bool]:
        """The frames in the next rows, with letters in their places, and whether to ask again; with _turn held.

        A letter belongs behind all that its sender had appended before it, and in front of what it appended later. It
        was sent before the latter was committed: so after the file was asked, the letters that belong in front of any
        of these rows have come. Rings that come after the file was asked may be for rows that were not there yet.
        """
        known = len(self._doorbell.taken)
        rows = self._rows()
        all_read = len(rows) < _ROWS_AT_ONCE
        if rows:
            passed_over = rows[0][0] - self.position - 1
            self.position, _, self.mark, _ = rows[-1]
            # What a stranger wrote may be a number.
            self._traffic.read(sum(len(row[1]) for row in rows if isinstance(row[1], bytes)))
            if passed_over:
                self._context.sink.gap("rows of the log were removed before this process had read them")
                # Perhaps more is gone than the log: this node's own row, or the file that it was.
                self.was_replaced = self.was_replaced or passed_over > LEAP // 2
                self._context.sink.maintain_soon()
        self._doorbell.answer()
        if self._doorbell.lost:
            self._doorbell.lost = 0
            self._context.sink.gap("a large message came while this process had no descriptor left to take it by")
        letters, later, rung = self._sorted_out(known, all_read=all_read)
        # Asked once more, and no more datagrams taken: whoever rings without end does not keep this thread here.
        more = not all_read or (bool(later or rung) and self._has_more())
        if more:
            self._doorbell.taken.extendleft(post for post, _ in reversed(later))
        else:
            letters += (letter for _, letter in later)
        return _merged(rows, letters, self._letter_slot), more

    def _rows(self) -> list[Row]:
        """The next rows; with _turn held."""
        at, frame = self.position, self.mark if isinstance(self.mark, bytes) else None
        context = self._context
        values = (at, context.prefix, context.node, at, frame, frame, at, _ROWS_AT_ONCE + 1)
        rows: list[Row] = self._db.execute(_READ, values).fetchall()
        if rows and rows[0][0] == at:
            _, _, expires_at, is_same_frame = rows.pop(0)
            is_same = bool(is_same_frame) if frame is not None else self.mark in (None, expires_at)
            self.mark = expires_at
        else:
            # Trimming takes it as well, and leaves the newest.
            is_same = bool(rows) or at == 0
            del rows[_ROWS_AT_ONCE:]
        if not is_same and self.lost_at is None:
            self.lost_at = at
            context.sink.maintain_soon()
        return rows

    def _has_more(self) -> bool:
        """Whether rows follow; if that cannot be told, the next read says why. With _turn held."""
        try:
            return self._db.execute(_FOLLOWS, (self.position,)).fetchone() is not None
        except sqlite3.Error:
            return True

    def is_at(self, newest: int, expires_at: float) -> bool:
        """Whether this is the row that was read last; any thread. Where that is not certain, it has to be looked up."""
        return newest == self.position and (newest == 0 or self.mark == expires_at)

    def _sorted_out(self, known: int, *, all_read: bool) -> tuple[list[Letter], list[tuple[Post, Letter]], bool]:
        """The letters that can be read now; those behind rows that were not there when the file was asked, if these
        come; and whether there may be such rows.

        The first `known` datagrams had come before it was asked.
        """
        taken = self._doorbell.taken
        letters: list[Letter] = []
        later: list[tuple[Post, Letter]] = []
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
                later.append((post, carried))
        return letters, later, rung

    def keep_up(self, row: int, expires_at: float) -> None:
        """This node appended `row`: if that is the next one, it has been read. A node that only sends is never rung."""
        if row - 1 == self.position and self._turn.acquire(blocking=False):
            if row - 1 == self.position:
                self.position, self.mark = row, expires_at
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


def _merged(rows: Sequence[Row], letters: Sequence[Letter], letter_slot: Slot) -> list[Found]:
    """The frames of all, each letter behind the last row that it follows; those of one sender stay in order."""
    frames: list[Found] = []
    waiting = deque(sorted(letters, key=lambda letter: letter.after))
    for row, frame, _, _ in rows:
        while waiting and waiting[0].after < row:
            frames.append((waiting.popleft().frame, letter_slot))
        if frame is not None:
            frames.append((frame, LOG))
    return frames + [(letter.frame, letter_slot) for letter in waiting]
