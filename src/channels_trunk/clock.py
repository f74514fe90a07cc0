"""Time as an argument: the two clocks the core reads, in one object that tests replace."""

from collections.abc import Callable
from importlib.machinery import BuiltinImporter, ModuleSpec
from importlib.util import module_from_spec
from typing import NamedTuple, cast

__all__ = ["SYSTEM_CLOCK", "Clock", "WallClock"]


class Clock(NamedTuple):
    """`monotonic` for all that stays in a process, `wall` only for what crosses processes; both in seconds."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


# A copy of the module for us alone. freezegun puts clocks that stand still in the place of time.monotonic() and the
# like, in every module that has them; a wait of ours must come to its end all the same.
_time = module_from_spec(cast(ModuleSpec, BuiltinImporter.find_spec("time")))
BuiltinImporter.exec_module(_time)

SYSTEM_CLOCK = Clock(monotonic=_time.monotonic, wall=_time.time)


class WallClock:
    """A `wall` that follows another machine's: what expires for one process then does so for all."""

    __slots__ = ("_own", "ahead")

    def __init__(self, own: Callable[[], float]) -> None:
        self._own = own
        self.ahead = 0.0
        """How many seconds the other machine's clock is ahead of this one's."""

    def __call__(self) -> float:
        return self._own() + self.ahead
