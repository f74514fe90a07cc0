"""Keeps a loop awake for a moment between rings that come close together.

A processor that sleeps takes 20 to 40 us to wake, at each end of a way; a datagram for a loop that is awake costs its
sender a fifth, and a server of the same machine is woken sooner, too. So where most rings come soon after another, the
loop looks again and again behind each that does, for as long as the next would be soon, too; whatever else it has to do
goes on meanwhile. A round trip over SQLite took 118 us and takes 72, over RabbitMQ 430 and 280.

It asks at each look whether anybody else wants this processor: perhaps the one who is to ring. If so, it sleeps like
any other loop for a while, and for longer each time that it finds that again: with two processes that never rest on two
processors, lingering made a third of the messages of one way.
"""

import asyncio
import os
from collections.abc import Callable
from typing import NamedTuple

from channels_trunk.clock import Clock

from .rationing import is_rationed

__all__ = ["BEHIND_A_SERVER", "NEIGHBOURS", "Linger", "Manners", "can_linger", "new_linger"]

# Seconds, as all below.
_SHORT_REST, _LONG_REST = 0.01, 1.0
# So many rings in a row, each heard without a rest between, and the next rest is a short one again.
_MANY = 200
# A ring that came soon counts for one, one that did not takes two away. So rings in twos and threes, such as those of a
# message's confirm and of the answer to it, keep no loop awake: it would be in vain behind the last of them, each time.
_ENOUGH_SOON, _MOST_SOON = 3, 8
# What a look at which nobody else wanted the processor makes up for of what others had of it.
_MADE_UP = 0.000002


class Manners(NamedTuple):
    """When to linger, and when others have the first claim to the processor."""

    soon: float
    """How soon is soon, and so what is spent in vain behind the last of rings that were close."""
    brief: float
    """Who is away for longer, when it yields the processor, has found that somebody else wants it."""
    lenience: float
    """For how long others may have it before it is theirs."""


NEIGHBOURS = Manners(soon=0.0002, brief=0.00003, lenience=0.0)
"""Processes that ring each other: while one lingers, the other needs a processor of its own."""
BEHIND_A_SERVER = Manners(soon=0.0006, brief=0.00015, lenience=0.001)
"""Each ring needs some work of a server, which may be on this processor: pieces of some 50 us."""


class Linger:
    """Of one doorbell. Only its watching loop's own thread calls this."""

    def __init__(self, clock: Callable[[], float], give_way: Callable[[], object], manners: Manners) -> None:
        self._clock = clock
        self._give_way = give_way
        self._manners = manners
        self._rang_at = self._until = self._not_before = float("-inf")
        self._rest = _SHORT_REST
        self._heard = 0
        self._soon = 0  # see _ENOUGH_SOON
        self._others_had = 0.0  # of the processor, in pieces that were not brief
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that lingers now

    def rang(self, loop: asyncio.AbstractEventLoop) -> None:
        """The doorbell has been answered, in `loop`, the running one."""
        now = self._clock()
        soon = now - self._rang_at < self._manners.soon
        self._rang_at = now
        self._soon = min(self._soon + 1, _MOST_SOON) if soon else max(self._soon - 2, 0)
        if not soon or self._soon < _ENOUGH_SOON or now < self._not_before:
            return
        self._until = now + self._manners.soon
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
        if now < self._until and self._is_welcome(now):
            # With a call that is due, a loop asks what is ready and does not sleep.
            loop.call_soon(self._look_again, loop)
            return
        self._loop = None

    def _is_welcome(self, now: float) -> bool:
        """Give way; False if others have the processor too often, and then rest."""
        self._give_way()
        away = self._clock() - now
        if away < self._manners.brief:
            if self._others_had:
                self._others_had = max(0.0, self._others_had - _MADE_UP)
            return True
        self._others_had += away
        if self._others_had < self._manners.lenience:
            return True
        self._not_before = now + self._rest
        self._rest = min(self._rest * 2, _LONG_REST)
        self._heard, self._others_had = 0, 0.0
        return False


def new_linger(clock: Clock, *, through_server: bool) -> Linger | None:
    """Who keeps a loop awake; None where nobody should."""
    if not can_linger():
        return None
    return Linger(clock.monotonic, os.sched_yield, BEHIND_A_SERVER if through_server else NEIGHBOURS)


def can_linger() -> bool:
    """Whether whoever rings can run meanwhile, this process can be asked to give way, and its time is not counted."""
    if not hasattr(os, "sched_yield"):
        return False
    try:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    except OSError:
        return False  # a sandbox forbids to ask
    return processors > 1 and not is_rationed()
