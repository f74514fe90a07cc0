"""Normal channels: rows that are claimed by deleting them, in the order of their ranks."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .log import Head, Log
from .names import stored_name
from .session import Session
from .statements import removal
from .values import as_frame, as_number, is_past

__all__ = ["QueueRow", "Queues"]

# Some databases take no more values in one IN.
_NAMES_AT_ONCE = 500
# So many are asked one by one: each takes one look into the index, and all together read every row of theirs.
_FEW_NAMES = 8
_ROWS_PER_STEP = 200


class QueueRow(NamedTuple):
    """A message of a normal channel."""

    channel: str
    expires_at: float
    frame: bytes


class Queues:
    """The statements; `prefix` as the tables have it, names of channels as they are."""

    def __init__(self, session: Session, log: Log, prefix: str) -> None:
        self._session = session
        self._log = log
        self._prefix = prefix

    # --- in a transaction that holds the sequencer's lock

    def room(self, channel: str, capacity: int, wanted: int, *, head: Head, now: float) -> int:
        """How many of `wanted` messages a channel takes; `head` has counted on for them."""
        # Messages of all channels take their ranks between these two. To count those of one takes the longer, the more
        # there are.
        oldest = self._session.statements.rows(self._oldest, channel=stored_name(channel))
        if not oldest or head.back - as_number(oldest[0][0], head.front) < capacity:
            return min(capacity, wanted)
        room: int = capacity - self._rows(channel)[: capacity + 1].count()
        if room < wanted and self.drop_expired(channel, now):
            room = capacity - self._rows(channel)[: capacity + 1].count()
        return max(0, min(room, wanted))

    def _oldest(self, *, channel: str) -> Any:
        return self._stored(channel).order_by("rank").values_list("rank")[:1].query

    def drop_expired(self, channel: str, now: float) -> bool:
        """Drop a channel's expired messages; whether there were any."""
        count, _ = self._rows(channel).filter(expires_at__lte=now).delete()
        return bool(count)

    def append(self, rows: Sequence[QueueRow], last: int) -> None:
        """Add rows; the last of them gets this rank."""
        first = last - len(rows) + 1
        stored = {channel: stored_name(channel) for channel in {row.channel for row in rows}}
        self._session.insert(
            "QueuedMessage",
            [
                (self._prefix, stored[channel], first + index, expires_at, frame)
                for index, (channel, expires_at, frame) in enumerate(rows)
            ],
        )

    def put_back(self, rows: Sequence[QueueRow]) -> Head:
        """Add rows in front of all others, in their order."""
        head = self._log.lock(front=len(rows))
        self.append(rows, head.front + len(rows) - 1)
        return head

    def purge(self) -> None:
        """Remove every message and membership."""
        self._log.lock(generation=True)
        self._session.model("QueuedMessage").filter(prefix=self._prefix).delete()
        self._members().delete()

    def bind(self, group: str, channel: str, expires_at: float | None) -> None:
        """Write the membership."""
        self._log.lock(generation=True)
        member = {"prefix": self._prefix, "group_name": stored_name(group), "channel": stored_name(channel)}
        if not self._members().filter(**member).update(expires_at=expires_at):
            self._members().create(**member, expires_at=expires_at)

    def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        self._log.lock(generation=True)
        self._members().filter(group_name=stored_name(group), channel=stored_name(channel)).delete()

    # --- in a transaction

    def claim(self, channel: str, limit: int) -> list[tuple[float, bytes]]:
        """Take out the oldest messages of a channel: (expires_at, frame)."""
        statements = self._session.statements
        found = statements.rows(self._first, limit, channel=stored_name(channel))
        if not (self._session.locks_all or self._session.locks_rows):
            # One by one: who deletes a row has it.
            found = [row for row in found if statements.changed(self._these, 1, id0=row[0])]
        elif found:
            ids = {f"id{index}": row for index, (row, _, _) in enumerate(found)}
            statements.changed(self._these, len(ids), **ids)
        return [(as_number(expires_at, math.inf), as_frame(frame)) for _, expires_at, frame in found]

    def _first(self, limit: int, *, channel: str) -> Any:
        rows = self._stored(channel).order_by("rank").values_list("id", "expires_at", "frame")
        if self._session.locks_rows:
            rows = rows.select_for_update(skip_locked=self._session.features.has_select_for_update_skip_locked)
        return rows[:limit].query

    def _these(self, _count: int, **ids: int) -> Any:
        return removal(self._by_id(list(ids.values())))

    # --- anywhere

    def holds(self, channel: str) -> bool:
        """Whether a channel has rows."""
        return bool(self._session.statements.rows(self._oldest, channel=stored_name(channel)))

    def waiting(self, channels: Iterable[str]) -> list[str]:
        """Which of these channels have rows."""
        stored = {stored_name(channel): channel for channel in channels}
        names = sorted(stored)
        if len(names) <= _FEW_NAMES:
            return [stored[name] for name in names if self.holds(stored[name])]
        found: list[str] = []
        for start in range(0, len(names), _NAMES_AT_ONCE):
            some = names[start : start + _NAMES_AT_ONCE]
            rows = self._session.model("QueuedMessage").filter(prefix=self._prefix, channel__in=some)
            found += [stored[name] for name in rows.values_list("channel", flat=True).distinct()]
        return found

    def members(self) -> list[tuple[str, str, float | None]]:
        """Every membership: group and channel, as the tables have them, and its end."""
        return list(self._members().values_list("group_name", "channel", "expires_at"))

    def expired(self, now: float) -> list[str]:
        """Channels, as the tables have them, with expired messages among the oldest of this prefix."""
        oldest = self._session.model("QueuedMessage").filter(prefix=self._prefix).order_by("id")
        rows = oldest.values_list("channel", "expires_at")[:_ROWS_PER_STEP]
        return sorted({channel for channel, expires_at in rows if is_past(expires_at, now)})

    def has_ended_members(self, now: float) -> bool:
        """Whether there are memberships that have ended."""
        return bool(self._members().filter(expires_at__lte=now).exists())

    def drop_ended_members(self, now: float) -> None:
        """In a transaction that holds the lock: remove memberships that have ended."""
        self._members().filter(expires_at__lte=now).delete()

    def clear_strangers(self, now: float) -> None:
        """Remove expired messages of other prefixes, if they are among the oldest of all."""
        oldest = self._session.model("QueuedMessage").order_by("id").values_list("id", "expires_at")[:_ROWS_PER_STEP]
        expired = [row for row, expires_at in oldest if is_past(expires_at, now)]
        if expired:
            self._by_id(expired).exclude(prefix=self._prefix).delete()

    def _rows(self, channel: str) -> Any:
        return self._stored(stored_name(channel))

    def _stored(self, channel: str) -> Any:
        return self._session.model("QueuedMessage").filter(prefix=self._prefix, channel=channel)

    def _by_id(self, ids: Sequence[int]) -> Any:
        return self._session.model("QueuedMessage").filter(id__in=ids)

    def _members(self) -> Any:
        return self._session.model("Member").filter(prefix=self._prefix)
