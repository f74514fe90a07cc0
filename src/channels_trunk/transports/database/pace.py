"""How long to wait before the next look at the log: little while there is traffic, then longer and longer. Pure."""

from collections.abc import Callable

__all__ = ["Pace"]

# The first wait after traffic; an answer often comes at once. Seconds.
_QUICKEST = 0.002
_GROWTH = 1.5
# How often a node that rests asks itself whether somebody receives again; this does not touch the database.
_RESTING = 0.05


class Pace:
    """`interval` is the longest wait; after `idle_timeout` without traffic and receivers the node rests."""

    def __init__(self, interval: float, idle_timeout: float, *, now: float) -> None:
        self._interval = interval
        self._idle_timeout = idle_timeout
        self._step = interval
        self._stirred_at = now

    def stir(self, now: float) -> None:
        """There is traffic."""
        self._step = min(_QUICKEST, self._interval)
        self._stirred_at = now

    def quiet_for(self, now: float) -> float:
        """Seconds since the last traffic."""
        return now - self._stirred_at

    def rests(self, now: float, is_awaited: Callable[[], bool]) -> bool:
        """Whether there is no use in looking."""
        return self.quiet_for(now) > self._idle_timeout and not is_awaited()

    @property
    def resting(self) -> float:
        """The wait of a node that rests."""
        return _RESTING

    def wait(self) -> float:
        """The wait before the next look; each is longer than the one before."""
        step = self._step
        self._step = min(self._interval, step * _GROWTH)
        return step
