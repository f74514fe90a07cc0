"""Claiming ahead: how many messages of a normal channel a node takes beside those that receivers wait for. Pure.

A claim over a network takes as long as many short jobs. So a node whose receivers come back quickly takes as many as
they have taken lately in a few milliseconds, and a node with a long job takes no more than it can hand over at once.
What lies too long, because a job took longer than those before it, goes back, and other processes have it.
"""

from typing import NamedTuple

__all__ = ["BACK_AFTER", "Stock"]

# Work for so long is claimed ahead, at the pace of the last claim. Seconds.
_WINDOW = 0.005
# What a process that is killed loses, at most, beside what its receivers are at work on.
_MOST = 64
# Senders do not see what is claimed, so a channel holds this part of its capacity more while it is read quickly.
_PART = 8
BACK_AFTER = 0.05
"""Seconds after which what nobody has taken goes back."""


class Claim(NamedTuple):
    """The latest claim of a channel: when it was handed over, and of how many messages it was."""

    at: float
    size: int


class Stock:
    """Of the hub's loop; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._latest: dict[str, Claim] = {}
        self._lying: set[str] = set()

    def limit(self, channel: str, *, waiting: int, capacity: int, now: float) -> int:
        """How many to claim for so many receivers that wait, all of what was claimed before being taken."""
        latest = self._latest.get(channel)
        if latest is None:
            return waiting
        pace = int(latest.size * _WINDOW / max(now - latest.at, 1e-6))
        return max(waiting, min(2 * latest.size, pace, _MOST, capacity // _PART))

    def handed_over(self, channel: str, *, count: int, lying: bool, now: float) -> None:
        """So many were claimed; `lying` if no receiver waits for some of them."""
        if count or channel not in self._latest:
            # A claim of nothing says that nothing was there, and nothing of the receivers.
            self._latest[channel] = Claim(now, count)
        if lying:
            self._lying.add(channel)
        else:
            self._lying.discard(channel)

    def overdue(self, now: float) -> list[str]:
        """Channels of which something may lie for too long; each is told once, and its pace forgotten."""
        due = [channel for channel in self._lying if now - self._latest[channel].at >= BACK_AFTER]
        for channel in due:
            self.forget(channel)
        return due

    def forget(self, channel: str) -> None:
        """Nobody receives from it any more, or not quickly."""
        self._latest.pop(channel, None)
        self._lying.discard(channel)

    @property
    def lies(self) -> bool:
        """Whether overdue() has to be asked again."""
        return bool(self._lying)
