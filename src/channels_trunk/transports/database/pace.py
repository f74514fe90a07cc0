"""How long to wait before the next look at the log: little while there is traffic, then longer and longer. Pure."""

from collections.abc import Callable

__all__ = ["Pace"]

# The first wait after traffic; an answer often comes at once. Seconds.
_QUICKEST = 0.002
# After many jobs: those who claim are in each other's way, and in that of senders. Seconds.
_AMONG_JOBS = 0.004
# A look at a server takes ten times as long as one at a file, in two processes, and is to find more than one job.
_MANY_JOBS_OF_A_FILE, _MANY_JOBS_OF_A_SERVER = 16, 2
_GROWTH = 1.5
# How often a node that rests asks itself whether somebody receives again; this does not touch the database.
_RESTING = 0.05


class Pace:
    """`interval` is the longest wait; after `idle_timeout` without traffic and receivers the node rests."""

    def __init__(self, interval: float, idle_timeout: float, *, in_a_file: bool, now: float) -> None:
        self._interval = interval
        self._idle_timeout = idle_timeout
        self._many_jobs = _MANY_JOBS_OF_A_FILE if in_a_file else _MANY_JOBS_OF_A_SERVER
        self._step = interval
        self._stirred_at = now
        self._much_at = float("-inf")

    def stir(self, now: float, *, much: bool, jobs: int = 0) -> None:
        """There is traffic; `much` of it if each look will find some; so many jobs, and nothing else, if any."""
        self._step = min(_AMONG_JOBS if jobs >= self._many_jobs else _QUICKEST, self._interval)
        if much:
            self._much_at = now
        self._stirred_at = now

    def is_busy(self, now: float) -> bool:
        """Whether there was much traffic a moment ago."""
        return now - self._much_at < 2 * _QUICKEST

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
