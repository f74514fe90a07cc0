"""Keeps a loop awake for a moment between rings that come close together.

A processor that sleeps takes 20 to 40 us to wake, at each end of a round trip, and a datagram for a loop that is awake
costs its sender a fifth. So behind a ring that came soon after another, the loop looks again and again, for as long as
the next would be soon, too; whatever else it has to do goes on meanwhile. A round trip took 118 us and takes 72.

It asks at each look whether anybody else wants this processor: perhaps the one who is to ring. If so, it sleeps like
any other loop for a while, and for longer each time that it finds that again: with two processes that never rest on two
processors, lingering made a third of the messages of one way.
"""

import asyncio
import os
from collections.abc import Callable

__all__ = ["Linger", "can_linger"]

# How soon is soon, and so what is spent in vain behind the last of rings that were close. Seconds, as all below.
_SOON = 0.0002
# Who is away for longer, when it yields the processor, has found that somebody else wants it.
_ALONE = 0.00003
_SHORT_REST, _LONG_REST = 0.01, 1.0
# So many rings in a row, each heard without a rest between, and the next rest is a short one again.
_MANY = 200


class Linger:
    """Of one doorbell. Only its watching loop's own thread calls this."""

    def __init__(self, clock: Callable[[], float], give_way: Callable[[], object]) -> None:
        self._clock = clock
        self._give_way = give_way
        self._rang_at = self._until = self._not_before = float("-inf")
        self._rest = _SHORT_REST
        self._heard = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that lingers now

    def rang(self, loop: asyncio.AbstractEventLoop) -> None:
        """The doorbell has been answered, in `loop`, the running one."""
        now = self._clock()
        soon = now - self._rang_at < _SOON
        self._rang_at = now
        if not soon or now < self._not_before:
            return
        self._until = now + _SOON
        self._heard += 1
        if self._heard == _MANY:
            self._rest = _SHORT_REST
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._look_again, loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        now = self._clock()
        if now < self._until:
            self._give_way()
            if self._clock() - now < _ALONE:
                # With a call that is due, a loop asks what is ready and does not sleep.
                loop.call_soon(self._look_again, loop)
                return
            self._not_before = now + self._rest
            self._rest = min(self._rest * 2, _LONG_REST)
            self._heard = 0
        self._loop = None


def can_linger() -> bool:
    """Whether whoever rings can run meanwhile, and this process can be asked to give way."""
    if not hasattr(os, "sched_yield"):
        return False
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors > 1
