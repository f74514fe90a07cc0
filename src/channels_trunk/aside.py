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
from contextvars import ContextVar, Token
from queue import Empty, SimpleQueue
from types import FrameType

from .names import printable

__all__ = ["WITHIN", "Within", "enter", "is_within", "leave", "logger", "records", "sends", "start"]

WITHIN: ContextVar[list[bool] | None] = ContextVar("channels_trunk_within", default=None)
"""Not empty while a blocking call of the layer is under way in this context, and in the contexts of threads of ours.

A context variable, as async_to_sync() takes it along into the thread in which it runs the call. A list that is emptied
at the end, as a task that was made meanwhile keeps what it was for good.
"""

_logger = logging.getLogger("channels_trunk")

_OURS = tuple(os.path.join(os.path.dirname(__file__), folder) for folder in ("codec", "hub", "layers", "transports"))
_FACES = tuple(os.path.join(os.path.dirname(__file__), "layers", name) for name in ("on_commit.py", "sync.py"))


def start(thread: threading.Thread) -> None:
    """Start a thread; raises RuntimeError where there can be none.

    When the interpreter ends, and destructors run, no thread runs any more. Up to Python 3.11 that is no error: start()
    waits for ever.
    """
    if sys.is_finalizing():
        raise RuntimeError("can't create new thread at interpreter shutdown")
    thread.start()


class Aside:
    """A thread that makes calls in order, and is there only while there are some."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew()

    def renew(self) -> None:
        """In the child of a fork: what waits is the parent's to do."""
        # A SimpleQueue may be put into by a signal handler or a destructor that interrupts another put.
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._busy = threading.Lock()  # held for the thread, while there is one
        self._runner: int | None = None  # which thread it is

    def put(self, call: Callable[[], object]) -> None:
        """Have the thread make this call, after those before it; in any context. Somebody has to call work() then."""
        self._calls.put(call)

    def work(self) -> None:
        """Start the thread, if there is work and it is not at it; not in a signal handler, nor in a destructor."""
        if self._calls.empty():
            return
        may_wait = not WITHIN.get() and _get_running_loop() is None
        # What interrupts this is put aside, too: it must not wait for a thread that is about to be started here.
        mark, token = enter()
        try:
            if self._busy.acquire(blocking=False):
                self._start(may_wait)
        finally:
            WITHIN.reset(token)
            mark.clear()

    def _start(self, may_wait: bool) -> None:  # noqa: FBT001
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            start(thread)
        except RuntimeError:
            # The interpreter is about to end, or the process can have no further thread.
            if may_wait:
                self._run()
            else:
                self._busy.release()  # what waits is left to the next who may wait
        except BaseException:
            if thread.ident is None:
                self._busy.release()
            raise

    def drained(self, timeout: float) -> bool:
        """Wait until all calls that wait by now are made; False if `timeout` seconds passed first."""
        if self._runner == threading.get_ident():
            return True
        done = threading.Event()
        self.put(done.set)
        self.work()
        return done.wait(timeout)

    def _run(self) -> None:
        token = WITHIN.set(None)  # a thread may inherit the context in which it was started
        self._runner = threading.get_ident()
        try:
            while True:
                call = self._calls.get_nowait()
                try:
                    call()
                except Exception:  # noqa: BLE001 - a log handler may raise anything, and those behind it are to go on
                    sys.excepthook(*sys.exc_info())
                del call  # what it holds must not live on in here
        except Empty:
            pass
        finally:
            self._runner = None
            WITHIN.reset(token)
            self._busy.release()
        self.work()  # something may have come in between


records = Aside("channels-trunk-log")
"""What is logged. Apart from what is sent: a slow log handler holds up no message."""
sends = Aside("channels-trunk-aside")
"""What could not wait where it was sent."""


class Logger:
    """The logger `channels_trunk`, used in a thread of its own."""

    def warning(self, text: str, *args: object) -> None:
        """Log a warning."""
        self._log(logging.WARNING, text, args, None)

    def error(self, text: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log an error."""
        self._log(logging.ERROR, text, args, exc_info)

    def _log(self, level: int, text: str, args: tuple[object, ...], error: BaseException | None) -> None:
        if _logger.isEnabledFor(level):
            shown = tuple(map(_shown, args))
            records.put(lambda: _logger.log(level, text, *shown, exc_info=error))
            records.work()


def _shown(value: object) -> object:
    """What may stand in the log: names in a store, and what servers say, may hold anything."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, BaseException):
        return printable(" ".join(str(value).split()))  # drivers have several lines
    return printable(str(value))


logger = Logger()


def enter() -> tuple[list[bool], Token[list[bool] | None]]:
    """Mark a blocking call of the layer, for what interrupts it in the same thread; leave() takes what this returns."""
    mark = [True]
    return mark, WITHIN.set(mark)


def leave(mark: list[bool], token: Token[list[bool] | None]) -> None:
    """The call is over; what interrupted it and was put aside is seen to."""
    WITHIN.reset(token)
    mark.clear()
    if not WITHIN.get():
        sends.work()


class Within:
    """enter() and leave() as a context manager."""

    __slots__ = ("_entered",)

    def __enter__(self) -> None:
        self._entered = enter()

    def __exit__(self, *_: object) -> None:
        leave(*self._entered)


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
    records.renew()
    sends.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
