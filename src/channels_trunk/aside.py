"""A thread for what must not run, or wait, where it comes up: log records, and sends out of the middle of our work.

Log handlers, signal handlers, `__del__` and callbacks run wherever they come up, perhaps in the layer's own thread or
in the middle of a call of its own. A send from there would wait for itself. So it is made here instead, in order, by a
plain thread that holds no lock and runs no event loop; and what the package logs is logged here, so that a log handler
may send through the layer in whatever way, and wait.
"""

import logging
import os
import sys
import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from types import FrameType

from .names import printable

__all__ = ["WITHIN", "Within", "aside", "drained", "is_within", "logger", "work"]

WITHIN: ContextVar[bool] = ContextVar("channels_trunk_within", default=False)
"""Whether this context is in a blocking call of the layer, or belongs to a thread of ours.

A context variable, as async_to_sync() takes it along into the thread in which it runs the call.
"""

_logger = logging.getLogger("channels_trunk")

# A SimpleQueue may be put into by a signal handler or a destructor that interrupts another put.
_calls: "SimpleQueue[Callable[[], object]]" = SimpleQueue()
_NAME = "channels-trunk-aside"
_busy = threading.Lock()  # held for the thread, while there is one

_OURS = tuple(os.path.join(os.path.dirname(__file__), folder) for folder in ("codec", "hub", "layers", "transports"))
_FACES = tuple(os.path.join(os.path.dirname(__file__), "layers", name) for name in ("on_commit.py", "sync.py"))


def aside(call: Callable[[], object]) -> None:
    """Have the thread make this call, after those before it; in any context. Somebody has to call work() then."""
    _calls.put(call)


def work() -> None:
    """Start the thread, if there is work and it is not at it; not in a signal handler, nor in a destructor.

    What interrupts this is put aside, too: it must not wait for a thread that is about to be started here.
    """
    with Within():
        if _calls.empty() or not _busy.acquire(blocking=False):
            return
        try:
            threading.Thread(target=_run, name=_NAME, daemon=True).start()
        except RuntimeError:
            # The interpreter is about to end, and no thread can be started any more.
            _run()


def drained(timeout: float) -> bool:
    """Wait until the thread has made all calls that wait by now; False if `timeout` seconds passed first."""
    if threading.current_thread().name == _NAME:
        return True
    done = threading.Event()
    aside(done.set)
    work()
    return done.wait(timeout)


def _run() -> None:
    WITHIN.set(False)  # a thread may inherit the context in which it was started
    try:
        while True:
            _calls.get_nowait()()
    except Empty:
        pass
    finally:
        _busy.release()
    work()  # something may have come in between


class Logger:
    """The logger `channels_trunk`, used in the thread."""

    def warning(self, text: str, *args: object) -> None:
        """Log a warning."""
        self._log(logging.WARNING, text, args, None)

    def error(self, text: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log an error."""
        self._log(logging.ERROR, text, args, exc_info)

    def _log(self, level: int, text: str, args: tuple[object, ...], error: BaseException | None) -> None:
        if _logger.isEnabledFor(level):
            shown = tuple(map(_shown, args))
            aside(lambda: _logger.log(level, text, *shown, exc_info=error))
            work()


def _shown(value: object) -> object:
    """What may stand in the log: names in a store, and what servers say, may hold anything."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, BaseException):
        return printable(" ".join(str(value).split()))  # drivers have several lines
    return printable(str(value))


logger = Logger()


class Within:
    """Marks a blocking call of the layer, for what interrupts it in the same thread."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = WITHIN.set(True)

    def __exit__(self, *_: object) -> None:
        WITHIN.reset(self._token)


def is_within() -> bool:
    """Whether the caller, a public method, was called out of the middle of our work in this very thread."""
    if WITHIN.get():
        return True
    # A thread that runs a loop may have been interrupted in any callback of ours, and these bear no mark: their stacks
    # are short, and blocking calls are not for such threads anyway.
    return _get_running_loop() is not None and _is_ours(sys._getframe(1))


def _is_ours(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename in _FACES:
        frame = frame.f_back
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OURS):
            return True
        frame = frame.f_back
    return False


def _renew_in_child() -> None:
    global _calls, _busy
    _calls, _busy = SimpleQueue(), threading.Lock()  # what waits is the parent's to do


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
