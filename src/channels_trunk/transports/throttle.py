"""How long rings are left unanswered where they bring nothing: who rings without end must not keep a process busy.

A ring is a hint, so one that waits loses nothing: the message that it means is found at the end of the pause. Pure.
"""

__all__ = ["Throttle"]

# Of several processes that are rung for one job, one gets it; and a ring may be for what was read a moment before.
_FREE = 64
_SHORTEST = 0.001


class Throttle:
    """`longest` is the longest pause, in seconds, and so what a message waits at the most."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._found = -1
        self._in_vain = 0
        self._pause = 0.0

    def rang(self, found: int) -> float:
        """A ring was answered; how long to leave the next ones. `found` counts what was found so far, by any ring."""
        if found != self._found:
            self._found, self._in_vain, self._pause = found, 0, 0.0
            return 0.0
        self._in_vain += 1
        if self._in_vain > _FREE:
            self._pause = min(self._longest, self._pause * 2 or _SHORTEST)
        return self._pause
