"""The log of one prefix: appended to under the lock of its sequencer, read behind a cursor, trimmed at its low end.

Positions are microseconds of the clock, or one more than the last where that has not gone on: what is appended lies
behind the cursor of every node, also where the tables were emptied, or are those of a backup. Each row names the one
before it, so a reader sees that some are missing, or others than it had read.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db.models import Case, F, Max, Min, Value, When

from channels_trunk.transports.base import Busy

from .session import Session
from .statements import update
from .values import as_frame, is_past

__all__ = ["Found", "Head", "Log"]

_ROWS_AT_ONCE = 32
_ROWS_PER_STEP = 200
_STEPS_PER_TURN = 20
_PER_SECOND = 1_000_000
_HEAD = ("epoch", "position", "back", "front", "generation", "roll")
# Numbers of the tables are below; on SQLite, texts that somebody has put in their places are above.
_NUMBERS_END = 2**62


class Head(NamedTuple):
    """The sequencer, as it was at one moment."""

    epoch: int
    """Drawn when the sequencer was made: another one means that the tables were emptied."""
    position: int
    back: int
    front: int
    generation: int
    """Drawn anew with each change, as the roll: those of a backup can be no later ones."""
    roll: int


class Found(NamedTuple):
    """What lies behind a cursor."""

    frames: Sequence[bytes]
    """Those of other nodes."""
    cursor: int
    has_gap: bool
    more: bool


class Log:
    """The statements; `prefix` and `node` as the tables have them."""

    def __init__(self, session: Session, prefix: str, node: str, wall: Callable[[], float]) -> None:
        self._session = session
        self._prefix = prefix
        self._node = node
        self._wall = wall

    # --- the sequencer

    def head(self) -> Head | None:
        """The sequencer now; None if there is none."""
        rows = self._session.statements.rows(self._heads)
        return Head(*map(int, rows[0])) if rows else None

    def lock(self, *, front: int = 0, generation: bool = False, roll: bool = False) -> Head:
        """In a transaction: take the sequencer's lock until its end, and count on. Raises Busy if it is gone."""
        if not (self._session.locks_all or self._session.locks_rows):
            self._session.statements.changed(self._touched)
        rows = self._session.statements.rows(self._locked_heads)
        if not rows:
            raise Busy  # the tables were emptied a moment ago; the next look makes it anew
        head = Head(*map(int, rows[0]))
        changed = head._replace(
            front=head.front - front,
            generation=secrets.randbits(62) if generation else head.generation,
            roll=secrets.randbits(62) if roll else head.roll,
        )
        return head if changed == head else self._moved_on(changed)

    def count_on(self, head: Head, *, row: bool, back: int) -> Head:
        """In a transaction that holds the lock: the next position, if there is a `row`, and so many ranks."""
        now = int(self._wall() * _PER_SECOND)
        position = max(head.position + 1, now) if row else head.position
        head = head._replace(position=position, back=head.back + back)
        # The two alone: with all columns it takes SQLite longer, and every other sender waits meanwhile.
        self._session.statements.changed(self._counted_on, position=head.position, back=head.back)
        return head

    def begin(self) -> tuple[Head, bool]:
        """In a transaction: lock the sequencer, and whether it was made anew; none of the rows is beyond it."""
        _, is_new = self._session.model("Sequencer").get_or_create(
            prefix=self._prefix,
            defaults={"epoch": secrets.randbits(62), "position": 0, "back": 0, "front": 0, "generation": 0, "roll": 0},
        )
        head = self.lock(generation=True)
        newest = self._rows().filter(position__lt=_NUMBERS_END).aggregate(at=Max("position"))["at"]
        jobs = self._session.model("QueuedMessage").filter(prefix=self._prefix, rank__lt=_NUMBERS_END)
        ranks = jobs.aggregate(first=Min("rank"), last=Max("rank"))
        head = head._replace(
            position=max(head.position, newest or 0),
            back=max(head.back, ranks["last"] or 0),
            front=min(head.front, ranks["first"] or 0),
        )
        return self._moved_on(head), bool(is_new)

    def _moved_on(self, head: Head) -> Head:
        self._session.statements.changed(self._set_to, **head._asdict())
        return head

    def _heads(self) -> Any:
        return self._sequencer().values_list(*_HEAD).query

    def _locked_heads(self) -> Any:
        heads = self._sequencer().values_list(*_HEAD)
        return (heads.select_for_update() if self._session.locks_rows else heads).query

    def _touched(self) -> Any:
        return update(self._sequencer(), position=F("position"))

    def _set_to(self, **values: int) -> Any:
        return update(self._sequencer(), **values)

    def _counted_on(self, *, position: int, back: int) -> Any:
        return update(self._sequencer(), position=position, back=back)

    def _sequencer(self) -> Any:
        return self._session.model("Sequencer").filter(prefix=self._prefix)

    # --- rows

    def append(self, position: int, previous: int, expires_at: float, frame: bytes) -> None:
        """In a transaction, with a position of count_on(), and that of the row before."""
        row = (self._prefix, position, self._node, expires_at, frame, previous)
        self._session.insert("LogRow", [row])

    def read(self, cursor: int, head: int) -> Found:
        """The next rows behind a cursor; those up to `head` are committed."""
        rows = self._session.statements.rows(self._behind, cursor=cursor, head=head)
        at, has_gap = cursor, False
        for position, previous, _ in rows:
            has_gap = has_gap or previous not in (at, None)  # None: of a process with an older version
            at = position
        more = len(rows) == _ROWS_AT_ONCE and at < head
        frames = [as_frame(frame) for _, _, frame in rows if frame is not None]
        return Found(frames, at if more else head, has_gap=has_gap or not (more or at == head), more=more)

    def _behind(self, *, cursor: int, head: int) -> Any:
        others = Case(When(origin=self._node, then=Value(None)), default=F("frame"))
        rows = self._rows().filter(position__gt=cursor, position__lte=head).order_by("position")
        return rows.values_list("position", "previous", others)[:_ROWS_AT_ONCE].query

    def trim(self, read_by_all: int, now: float) -> bool:
        """Take away what all have read, and what has expired; whether there is more to do."""
        head = self.head()
        if head is None:
            return False
        rows = self._rows().filter(position__lte=head.position)
        fresh = rows.filter(expires_at__gt=now).aggregate(first=Min("position"))["first"]
        limit = max(read_by_all, head.position if fresh is None else fresh - 1)
        doomed = rows.filter(position__lte=limit)
        for _ in range(_STEPS_PER_TURN):
            some = list(doomed.order_by("position").values_list("position", flat=True)[:_ROWS_PER_STEP])
            if some:
                rows.filter(position__lte=some[-1]).delete()
            if len(some) < _ROWS_PER_STEP:
                return False
        return True

    def clear(self) -> None:
        """Remove every row."""
        self._rows().delete()

    def clear_strangers(self, now: float) -> None:
        """Take away expired rows of prefixes whose nodes have died, if they are among the oldest of all."""
        oldest = self._session.model("LogRow").order_by("id").values_list("id", "expires_at")[:_ROWS_PER_STEP]
        expired = [row for row, expires_at in oldest if is_past(expires_at, now)]
        if expired:
            self._session.model("LogRow").filter(id__in=expired).exclude(prefix=self._prefix).delete()

    def _rows(self) -> Any:
        return self._session.model("LogRow").filter(prefix=self._prefix)
