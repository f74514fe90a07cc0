"""Waiting for a condition, never for a time."""

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

__all__ = ["eventually", "eventually_blocking"]

_T = TypeVar("_T")
_SHORTEST = 0.001
_LONGEST = 0.05


@overload
async def eventually(condition: Callable[[], Awaitable[_T]], *, within: float = ..., what: str = ...) -> _T: ...
@overload
async def eventually(condition: Callable[[], _T], *, within: float = ..., what: str = ...) -> _T: ...
async def eventually(condition: Callable[[], object], *, within: float = 20, what: str = "") -> object:
    """Call `condition` until it returns something true, and return that.

    `condition` may be a coroutine function. Other tasks of the loop run between two calls. Raises TimeoutError, with
    what `condition` returned last, after `within` seconds; a call that is under way is not cut short.
    """
    deadline = time.monotonic() + within
    pause = _SHORTEST
    while True:
        outcome = condition()
        value: object = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(_too_late(what or _name_of(condition), within, value))
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)


def eventually_blocking(condition: Callable[[], _T], *, within: float = 20, what: str = "") -> _T:
    """Do what eventually() does in a plain thread."""
    deadline = time.monotonic() + within
    pause = _SHORTEST
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(_too_late(what or _name_of(condition), within, value))
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST)


def _too_late(what: str, within: float, value: object) -> str:
    return f"not within {within:g} s: {what}; the last value was {value!r}"


def _name_of(condition: object) -> str:
    if isinstance(condition, functools.partial):
        return f"{_name_of(condition.func)}{condition.args}"
    code = getattr(condition, "__code__", None)
    name = getattr(condition, "__qualname__", repr(condition))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
