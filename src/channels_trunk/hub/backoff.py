"""How long to wait before the next attempt to reach an engine."""

import random

__all__ = ["Backoff"]


class Backoff:
    """Doubles from `first` to `longest` seconds, each time jittered, so that many nodes do not come back at once."""

    def __init__(self, *, first: float = 0.05, longest: float = 5.0, jitter: random.Random | None = None) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter or random.Random()
        self._next = first

    def reset(self) -> None:
        """Start over: the engine was reached."""
        self._next = self._first

    def delay(self) -> float:
        """The seconds to wait now: between half and the whole of the current step."""
        step = self._next
        self._next = min(self._longest, step * 2)
        return step * self._jitter.uniform(0.5, 1.0)
