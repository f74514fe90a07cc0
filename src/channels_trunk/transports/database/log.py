"""The log of one prefix: appended to under the lock of its sequencer, read behind a cursor, trimmed at its low end."""

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import Case, F, Max, Min, Value, When

from channels_trunk.transports.base import Busy

from .session import Session
from .statements import update

__all__ = ["Found", "Head", "Log"]

_ROWS_AT_ONCE = 32
_ROWS_PER_STEP = 200
_STEPS_PER_TURN = 20
_HEAD = ("epoch", "position", "back", "front", "generation", "roll")


class Head(NamedTuple):
    """The sequencer, as it was at one moment."""

    epoch: int
    """Drawn when the sequencer was made: another one means that the tables were emptied."""
    position: int
    back: int
    front: int
    generation: int
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

    def __init__(self, session: Session, prefix: str, node: str) -> None:
        self._session = session
        self._prefix = prefix
        self._node = node

    # --- the sequencer

    def head(self) -> Head | None:
        """The sequencer now; None if there is none."""
        rows = self._session.statements.rows(self._heads)
        return Head(*map(int, rows[0])) if rows else None

    def lock(self, *, rows: int = 0, back: int = 0, front: int = 0, generation: int = 0, roll: int = 0) -> Head:
        """In a transaction: take the sequencer's lock until its end, and count on. Raises Busy if it is gone."""
        steps = {"position": rows, "back": back, "front": -front, "generation": generation, "roll": roll}
        if not self._session.statements.changed(self._counted_on, **steps) or (head := self.head()) is None:
            raise Busy  # the tables were emptied a moment ago; the next look makes it anew
        return head

    def begin(self) -> bool:
        """In a transaction: make the sequencer, unless it is there; whether it was not."""
        rows = self._rows().aggregate(newest=Max("position"))
        jobs = self._session.model("QueuedMessage").filter(prefix=self._prefix).aggregate(Max("rank"), Min("rank"))
        _, is_new = self._session.model("Sequencer").get_or_create(
            prefix=self._prefix,
            defaults={
                "epoch": secrets.randbits(62),
                "position": rows["newest"] or 0,
                "back": max(0, jobs["rank__max"] or 0),
                "front": min(0, jobs["rank__min"] or 0),
                "generation": 0,
                "roll": 0,
            },
        )
        return bool(is_new)

    def _heads(self) -> Any:
        return self._sequencer().values_list(*_HEAD).query

    def _counted_on(self, **steps: int) -> Any:
        return update(self._sequencer(), **{name: F(name) + step for name, step in steps.items()})

    def _sequencer(self) -> Any:
        return self._session.model("Sequencer").filter(prefix=self._prefix)

    # --- rows

    def append(self, position: int, expires_at: float, frame: bytes) -> None:
        """In a transaction, with a position of lock()."""
        row = (self._prefix, position, self._node, expires_at, frame)
        self._session.statements.insert(self._session.model("LogRow"), [row])

    def read(self, cursor: int, head: int) -> Found:
        """The next rows behind a cursor; those up to `head` are committed."""
        rows = self._session.statements.rows(self._behind, cursor=cursor)
        # Rows are taken away from the low end alone, so behind the first that is there, none is missing.
        first = rows[0][0] if rows else head + 1
        last = rows[-1][0] if rows else head
        frames = [bytes(frame) for _, frame in rows if frame is not None]
        return Found(frames, last, has_gap=first != cursor + 1, more=last < head)

    def _behind(self, *, cursor: int) -> Any:
        others = Case(When(origin=self._node, then=Value(None)), default=F("frame"))
        rows = self._rows().filter(position__gt=cursor).order_by("position")
        return rows.values_list("position", others)[:_ROWS_AT_ONCE].query

    def lowest(self) -> int | None:
        """The position of the oldest row."""
        position: int | None = self._rows().aggregate(lowest=Min("position"))["lowest"]
        return position

    def trim(self, read_by_all: int, now: float) -> bool:
        """Take away what all have read, and what has expired; whether there is more to do."""
        lowest = self.lowest()
        if lowest is None:
            return False
        fresh = self._rows().filter(expires_at__gt=now).aggregate(first=Min("position"))["first"]
        newest = self._rows().aggregate(newest=Max("position"))["newest"]
        limit = max(read_by_all, newest if fresh is None else fresh - 1)
        return self._remove(lowest, min(limit, newest))

    def _remove(self, lowest: int, limit: int) -> bool:
        for _ in range(_STEPS_PER_TURN):
            if lowest > limit:
                return False
            lowest = min(lowest + _ROWS_PER_STEP, limit + 1)
            self._rows().filter(position__lt=lowest).delete()
        return lowest <= limit

    def clear(self) -> None:
        """Remove every row."""
        self._rows().delete()

    def clear_strangers(self, now: float) -> None:
        """Take away expired rows of prefixes whose nodes have died, if they are among the oldest of all."""
        oldest = self._session.model("LogRow").order_by("id").values_list("id", "expires_at")[:_ROWS_PER_STEP]
        expired = [row for row, expires_at in oldest if expires_at <= now]
        if expired:
            self._session.model("LogRow").filter(id__in=expired).exclude(prefix=self._prefix).delete()

    def _rows(self) -> Any:
        return self._session.model("LogRow").filter(prefix=self._prefix)
