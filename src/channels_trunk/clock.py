"""Time as an argument: the two clocks the core reads, in one object that tests replace."""

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["SYSTEM_CLOCK", "Clock"]


class Clock(NamedTuple):
    """`monotonic` for all that stays in a process, `wall` only for what crosses processes; both in seconds."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


SYSTEM_CLOCK = Clock(monotonic=time.monotonic, wall=time.time)
