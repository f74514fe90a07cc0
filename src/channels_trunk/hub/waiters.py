"""Waiting and waking, for event loops and for plain threads alike.

A waiter is an asyncio future, or a ThreadWaiter, which has the same few methods. It carries no message: it says that
there is something to look at, or that something is done.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from channels_trunk.exceptions import ChannelLayerError

__all__ = ["ThreadWaiter", "Waiter", "another", "settle"]


class Waiter(Protocol):
    """What asyncio.Future and ThreadWaiter have in common."""

    def get_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop to which the waiter belongs, or None: any thread may settle it."""
        ...

    def done(self) -> bool:
        """Whether it is settled or cancelled."""
        ...

    def set_result(self, result: None, /) -> None:
        """Wake whoever waits."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Wake whoever waits, with an error."""
        ...


class ThreadWaiter:
    """A waiter for a thread that blocks. A bare lock: concurrent.futures.Future costs ten times as much."""

    __slots__ = ("_error", "_lock", "_unsettled")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        # Two threads may settle it at once: one alone can pop, and only that one releases the lock.
        self._unsettled = [True]
        self._error: BaseException | None = None

    def get_loop(self) -> None:
        """Any thread may settle it."""

    def done(self) -> bool:
        """Whether it is settled."""
        return not self._unsettled

    def set_result(self, _result: None, /) -> None:
        """Wake the thread."""
        self._settle(None)

    def set_exception(self, exception: BaseException, /) -> None:
        """Wake the thread with an error."""
        self._settle(exception)

    def _settle(self, error: BaseException | None) -> None:
        try:
            self._unsettled.pop()
        except IndexError:
            return
        self._error = error
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until settled; False if `timeout` seconds passed first. Raises the error it was settled with."""
        if self._unsettled and sys.is_finalizing():
            raise ChannelLayerError("the interpreter ends: no thread is left that could do what is asked of the layer")
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return False
        self._lock.release()
        if self._error is not None:
            raise self._error
        return True


E = TypeVar("E", bound=BaseException)


def another(error: E) -> E:
    """An exception like this one, for another waiter: raised in several tasks, each needs a traceback of its own."""
    try:
        copy = type(error)(*error.args)
    except Exception:  # noqa: BLE001 - a transport's own class may want other arguments: better this one than none
        return error
    copy.__cause__ = error.__cause__
    return copy


def settle(waiters: Iterable[Waiter], error: Callable[[], BaseException] | None = None) -> bool:
    """Wake them all: those of the running loop at once, those of another loop by one call for each loop.

    Return False if some were in a loop that has been closed under its tasks, where nobody is left to be woken.
    """
    reached = True
    here = asyncio._get_running_loop()
    elsewhere: dict[asyncio.AbstractEventLoop, list[Waiter]] | None = None
    for waiter in waiters:
        loop = waiter.get_loop()
        if loop is here and error is None:
            if not waiter.done():
                waiter.set_result(None)
        elif loop is here or loop is None:
            _settle_one(waiter, error)
        else:
            if elsewhere is None:
                elsewhere = {}
            elsewhere.setdefault(loop, []).append(waiter)
    for loop, group in (elsewhere or {}).items():
        try:
            loop.call_soon_threadsafe(_settle_all, group, error)
        except RuntimeError:
            reached = False
    return reached


def _settle_all(waiters: list[Waiter], error: Callable[[], BaseException] | None) -> None:
    for waiter in waiters:
        _settle_one(waiter, error)


def _settle_one(waiter: Waiter, error: Callable[[], BaseException] | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error())
