"""Waits until a moment, to some tens of microseconds, in an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from trunkbench.figures import clock

__all__ = ["Metronome"]

# Less is over before a timer could be set.
_NEGLIGIBLE = 0.000_02


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Metronome:
    """An event loop's own timers wait for whole milliseconds: half of 2,000 messages a second would be sent late.

    Linux has a descriptor that becomes readable at its time: timerfd_create(2). Elsewhere the loop's timers have to do.
    """

    def __init__(self) -> None:
        self._libc: Any = None
        self._timer = -1
        self._rung = asyncio.Event()

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            self._timer = libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)  # 1: CLOCK_MONOTONIC
            if self._timer >= 0:
                self._libc = libc
                asyncio.get_running_loop().add_reader(self._timer, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer >= 0:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._libc, self._timer = None, -1

    @property
    def is_exact(self) -> bool:
        """Whether it has such a descriptor."""
        return self._libc is not None

    async def until(self, due: float) -> None:
        """Return at this time of clock(), or soon afterwards, never before."""
        while (left := due - clock()) > 0:
            if self._libc is None:
                await asyncio.sleep(left)
            elif left > _NEGLIGIBLE:
                self._rung.clear()
                self._set(left)
                await self._rung.wait()

    def _set(self, seconds: float) -> None:
        nanoseconds = max(1, int(seconds * 1e9))
        setting = _Setting(_Time(0, 0), _Time(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000))
        if self._libc.timerfd_settime(self._timer, 0, ctypes.byref(setting), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._timer, 8)
            self._rung.set()
