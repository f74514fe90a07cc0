"""Calls into one loop from any thread, in the order in which they were asked for."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["LoopCalls"]


class LoopCalls:
    """Made in the loop. Any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._is_calling = False  # touched in the loop's thread alone
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()  # append and popleft are atomic

    def add(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called at the next go()."""
        self._waiting.append((function, args))

    def go(self) -> None:
        """Make the calls: at once in the loop's thread (if that is in one, after it), else soon."""
        if not self._waiting:
            return
        if threading.get_ident() == self._thread:
            self._call_all()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._call_all)

    def _call_all(self) -> None:
        if self._is_calling:
            return  # else many answers at once, each of which asks for a call, would go as many levels deep
        self._is_calling = True
        try:
            while self._waiting:
                function, args = self._waiting.popleft()
                function(*args)
        finally:
            self._is_calling = False
