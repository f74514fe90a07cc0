"""How far a run has come: a bar on a terminal, and a line for each workload anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

BAR_WIDTH = 24
# The share, the time that is left, and the spaces between.
NUMBERS_WIDTH = 18


class Progress:
    """Knows how many steps there are, and about how long all of them take."""

    def __init__(
        self, *, total: int, seconds: float, out: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._expected = seconds
        self._done = 0
        self._clock = clock
        self._started = clock()
        self._out = out
        self._live = out.isatty()
        self._latest = ""

    def step(self, title: str, detail: str) -> None:
        """Say what runs now."""
        if self._live:
            width = max(20, shutil.get_terminal_size().columns - BAR_WIDTH - NUMBERS_WIDTH - 1)
            self._out.write(f"\r\033[K{self._bar()} {f'{title}, {detail}'[:width]}")
        elif title != self._latest:
            self._out.write(f"[{self._done + 1}/{self._total}, {as_minutes(self._elapsed())}] {title}\n")
        self._out.flush()
        self._latest = title
        self._done += 1

    def _bar(self) -> str:
        share = self._done / self._total
        filled = int(BAR_WIDTH * share)
        left = max(0.0, self._expected - self._elapsed())
        return f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}, {as_minutes(left)} left"

    def _elapsed(self) -> float:
        return self._clock() - self._started

    def end(self) -> None:
        """Clear the line."""
        if self._live:
            self._out.write("\r\033[K")
        self._out.write(f"{self._done} measurements in {as_minutes(self._elapsed())}\n")


def as_minutes(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
