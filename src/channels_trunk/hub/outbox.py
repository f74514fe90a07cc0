"""Natural batches: what piles up while one batch is under way is the next. Nothing waits to make a batch bigger."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from channels_trunk.envelope import Envelope

from .waiters import Waiter

__all__ = ["Outbox", "Outgoing", "Started"]

_MAX_COUNT = 500
_MAX_BYTES = 1 << 20


class Outgoing(msgspec.Struct, frozen=True):
    """An envelope that waits to be published, and who waits for that. A struct, as a tuple takes four times as long."""

    envelope: Envelope
    waiter: Waiter | None
    deadline: float  # monotonic seconds: after it the sender gets an error and the envelope is not sent


class Started:
    """A batch that a caller's thread began to publish."""

    __slots__ = ("batch", "deadline", "left_over")

    def __init__(self, batch: list[Outgoing], deadline: float) -> None:
        self.batch = batch
        self.deadline = deadline  # monotonic seconds
        self.left_over = False  # whether the pump has to finish it


class Outbox:
    """A FIFO. Every method is called with the hub's lock held."""

    def __init__(self) -> None:
        self._entries: deque[Outgoing] = deque()
        self._alone = 0  # so many at the front are a batch of their own

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, outgoing: Outgoing) -> None:
        """Append one."""
        self._entries.append(outgoing)

    def is_one_batch_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is no more than one batch, and tasks of this loop wait for all of it, and nobody else does."""
        entries = self._entries
        return len(entries) <= _MAX_COUNT and all(
            entry.waiter is not None and entry.waiter.get_loop() is loop for entry in entries
        )

    def take(self) -> list[Outgoing]:
        """Remove and return the next batch: a bounded number and size, or one entry that is larger.

        That one goes alone, so that a batch is not too large for the engine where each message of it is not.
        """
        batch: list[Outgoing] = []
        size = 0
        entries = self._entries
        most, self._alone = self._alone or _MAX_COUNT, 0
        while entries and len(batch) < most:
            size += len(entries[0].envelope.body)
            if size > _MAX_BYTES and batch:
                break
            batch.append(entries.popleft())
        return batch

    def put_back(self, batch: Sequence[Outgoing], *, alone: int = 0) -> None:
        """Put a batch that was not sent back to the front; the first `alone` are not to be taken with others."""
        self._entries.extendleft(reversed(batch))
        self._alone = alone

    def put_off(self, seconds: float) -> None:
        """The wall clock was set: what waits expires so much later; not what the engine may know as it is."""
        entries = list(self._entries)
        self._entries = deque(entries[: self._alone])
        self._entries.extend(
            replace(entry, envelope=replace(entry.envelope, expires_at=entry.envelope.expires_at + seconds))
            for entry in entries[self._alone :]
        )

    def expire(self, now: float) -> list[Outgoing]:
        """Remove and return the entries that are past their deadline."""
        late: list[Outgoing] = []
        # Deadlines grow from front to back, as every entry has the same time.
        while self._entries and self._entries[0].deadline <= now:
            late.append(self._entries.popleft())
            self._alone = max(0, self._alone - 1)
        return late

    def clear(self) -> list[Outgoing]:
        """Remove and return everything."""
        entries = list(self._entries)
        self._entries.clear()
        self._alone = 0
        return entries
