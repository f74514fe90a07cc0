"""The wall clocks of the processes that share a file. They are all the machine's, unless somebody has set one apart.

Each node writes into its row by how much its wall clock is ahead of the kernel's, so that two of them can be compared
whenever they were written. Who differs from the others goes by theirs: who is ahead keeps what he gets
for longer, and who is behind has what he sends kept for longer. So nothing is removed that another node takes for
young. Between two nobody can tell who is right, and both do so.
"""

import os
import sys
import time
from collections.abc import Sequence

from msgspec.structs import replace

from channels_trunk.clock import Clock
from channels_trunk.envelope import Envelope

__all__ = ["Clocks", "later"]

# More than between two nodes of which one was told already that the machine's clock was set, and the other is about to
# say so, is needed to say that one is wrong; what follows from it does no harm. Seconds.
_TOLERATED = 2.0


class Clocks:
    """`ahead` and `behind` are written by the hub's thread, and read by any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = 0.0
        """Seconds by which this process's clock is ahead of that by which the file goes; 0 if they agree."""
        self.behind = 0.0
        """Likewise."""
        self._noted = ""
        self.difference = ""
        """What is wrong, once it was seen twice: where the machine's clock was set, all come to say the same."""

    def offset(self) -> float | None:
        """What this node writes into its row; None if the kernel does not tell."""
        kernel_time = _kernel_time(self._clock)
        return None if kernel_time is None else self._clock.wall() - kernel_time

    def compare(self, others: Sequence[float]) -> None:
        """Look what the other nodes have written."""
        own = self.offset()
        if own is None:
            self.ahead = self.behind = 0.0
            self._noted = self.difference = ""
            return
        ahead = own - _middle([own, *others])
        behind = _middle(others) - own if others else 0.0
        self.ahead = ahead if ahead > _TOLERATED else 0.0
        self.behind = behind if behind > _TOLERATED else 0.0
        noted, self._noted = self._noted, self._what_is_wrong(max([own, *others]) - min([own, *others]))
        self.difference = self._noted if noted and self._noted else ""

    def _what_is_wrong(self, spread: float) -> str:
        if self.ahead or self.behind:
            word = "ahead of" if self.ahead else "behind"
            return (
                f"the wall clock of this process is {max(self.ahead, self.behind):.0f} s {word} those of the other "
                f"processes that use the file: set it right; until then messages may live longer"
            )
        if spread > _TOLERATED:
            return f"the wall clocks of processes that use the file differ by {spread:.0f} s: set them right"
        return ""

    def now(self) -> float:
        """Wall-clock time by which what is stored has expired, or has not."""
        return self._clock.wall() - self.ahead


def _middle(offsets: Sequence[float]) -> float:
    return sorted(offsets)[(len(offsets) - 1) // 2]


def later(envelopes: Sequence[Envelope], seconds: float) -> Sequence[Envelope]:
    """The same, each to expire so many seconds later."""
    return [replace(envelope, expires_at=envelope.expires_at + seconds) for envelope in envelopes]


def _kernel_time(clock: Clock) -> float | None:
    """What the kernel's wall clock shows, whatever has been done to the clocks of this process.

    None in a sandbox that hides it (ProcSubset=pid of systemd): anything else is on another scale than the others'.
    In a time namespace the machine was booted at another time, and has been up for another time: the sum is the same.
    """
    if sys.platform != "linux":
        return clock.monotonic()  # at least all processes of the machine agree on it
    try:
        return _booted_at() + _uptime()
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _booted_at() -> int:
    with open("/proc/stat", "rb") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(b"btime "))


def _uptime() -> float:
    # A container may have a file of its own there that tells how long the container has been up (LXCFS).
    if os.stat("/proc/uptime").st_dev != os.stat("/proc/self").st_dev:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    with open("/proc/uptime", "rb") as file:
        return float(file.read().split()[0])
