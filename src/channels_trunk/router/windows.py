"""How many more messages this node may send to each channel of other nodes.

A process-specific channel lives in its owner's memory, so that a sender elsewhere cannot see how full it is. Each
sender therefore spends from a window, as large as the channel's capacity at first. When half of it is spent it asks
the owner for a report, and the answer (the room that the mailbox had when the owner came to the question) is the new
window, less what was sent after the question. So a message that send() accepted has a place at its owner; a sender
that is ahead of a busy owner waits a moment for the answer; and a full channel, or an owner that does not answer, is
ChannelFull.
"""

import itertools
from enum import Enum, auto
from typing import Any

__all__ = ["Verdict", "Windows"]

# An owner that has not answered for this long counts as full. Long enough for a busy event loop, short enough for a
# sender that serves others. Seconds.
ANSWER_WITHIN = 0.25
# A question or an answer may be lost (a killed process, a gap): ask again after this long. Seconds.
_ASK_AGAIN_AFTER = 1.0


class Verdict(Enum):
    """What a sender may do."""

    GO = auto()
    GO_AND_ASK = auto()  # send, and ask the owner for a report right behind the message
    WAIT = auto()  # an answer is on its way: try again when it has come, or after ANSWER_WITHIN
    ASK_AND_WAIT = auto()
    FULL = auto()
    ASK_AND_FULL = auto()


class _Window:
    __slots__ = ("asked_at", "capacity", "credit", "full", "number", "since_asked", "used_at", "waiters")

    def __init__(self, capacity: int, now: float) -> None:
        self.capacity = capacity
        self.credit = capacity
        self.full = False  # the owner said that there is no room, and will say when there is
        self.number = 0  # of the last question; other answers are stale
        self.asked_at: float | None = None  # when the question was asked that is still open, or the last answer "full"
        self.since_asked = 0  # messages sent behind that question
        self.used_at = now
        self.waiters: list[Any] = []

    def ask(self, number: int, now: float) -> None:
        self.number = number
        self.asked_at = now
        self.since_asked = 0

    def open(self, room: int) -> list[Any]:
        self.asked_at = None
        self.full = False
        self.credit = room
        waiters, self.waiters = self.waiters, []
        return waiters


class Windows:
    """One window for each channel of another node to which this node sends; `now` is monotonic seconds."""

    def __init__(self, *, expiry: float) -> None:
        self._windows: dict[str, _Window] = {}  # guarded by the hub's lock
        # For all windows: one that was forgotten and made anew must not take the answer to a question of before.
        self._numbers = itertools.count(1)
        self._expiry = expiry

    def __len__(self) -> int:
        return len(self._windows)

    def spend_from_plenty(self, channel: str, now: float) -> bool:
        """Spend one message where spend() would say GO, as it does for nearly all; if False, ask spend()."""
        window = self._windows.get(channel)
        if window is None or window.credit * 2 <= window.capacity + 2 or now - window.used_at > self._expiry:
            return False
        self._spend(window, now)
        return True

    def spend(self, channel: str, capacity: int, now: float) -> Verdict:
        """Spend one message, if there is room for it as far as this node knows."""
        window = self._windows.get(channel)
        if window is None:
            window = self._windows[channel] = _Window(capacity, now)
        elif now - window.used_at > self._expiry:
            # What was sent before so long a pause cannot be in the mailbox any more.
            # The answer to an open question would not count what is sent from now on: it comes too late.
            window.number = 0
            window.waiters = window.open(capacity)
        if window.credit > 0:
            return self._spend(window, now)
        if window.asked_at is None:
            window.ask(next(self._numbers), now)
            return Verdict.ASK_AND_WAIT
        age = now - window.asked_at
        if age > _ASK_AGAIN_AFTER:
            window.ask(next(self._numbers), now)
            return Verdict.ASK_AND_FULL
        return Verdict.FULL if window.full or age > ANSWER_WITHIN else Verdict.WAIT

    def _spend(self, window: _Window, now: float) -> Verdict:
        window.used_at = now
        window.credit -= 1
        if window.asked_at is not None:
            window.since_asked += 1
            return Verdict.GO
        if window.credit * 2 <= window.capacity:
            window.ask(next(self._numbers), now)
            return Verdict.GO_AND_ASK
        return Verdict.GO

    def question(self, channel: str) -> int:
        """The number of the last question about `channel`."""
        return self._windows[channel].number

    def wait(self, channel: str, waiter: Any) -> None:
        """Have `waiter` returned by the next answer about `channel`."""
        self._windows[channel].waiters.append(waiter)

    def answer(self, channel: str, number: int, room: int, now: float) -> list[Any]:
        """Take the owner's answer to question `number`; return the senders that may try again."""
        window = self._windows.get(channel)
        if window is None or window.number != number:
            return []
        waiters = window.open(max(0, room - window.since_asked))
        if room <= 0:
            window.full = True
            window.asked_at = now
        return waiters

    def drained(self, channel: str, room: int) -> list[Any]:
        """Take the owner's word that a full mailbox has room again; return the senders that may try again."""
        window = self._windows.get(channel)
        if window is None:
            return []
        if not window.full:
            # It has room of its own, or its question will be answered: what it has under way is not in `room`.
            return []
        window.number = 0
        return window.open(max(0, room - window.since_asked))

    def prune(self, now: float) -> list[Any]:
        """Forget windows that say nothing any more; return the senders that may try again."""
        waiters: list[Any] = []
        for channel, window in list(self._windows.items()):
            if now - window.used_at > self._expiry:
                waiters += window.waiters
                del self._windows[channel]
        return waiters

    def clear(self) -> list[Any]:
        """Forget all windows (the mailboxes were flushed); return the senders that may try again."""
        waiters = [waiter for window in self._windows.values() for waiter in window.waiters]
        self._windows.clear()
        return waiters
