"""The hub's one background thread with its one event loop."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from channels_trunk.aside import WITHIN, logger, start
from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.exceptions import ChannelLayerError

__all__ = ["IOThread"]

T = TypeVar("T")

# How long tasks that were cancelled may take to end. Seconds.
_END_WITHIN = 2.0
_PAUSE = 0.1


def _who_replaced_threads() -> str | None:
    """Which library has this process' threads be greenlets, in one of which an event loop would hold up all others."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "select"))):
        return "gevent"
    if eventlet is not None and any(map(eventlet.is_monkey_patched, ("thread", "select"))):
        return "eventlet"
    return None


class _Loop(asyncio.SelectorEventLoop):
    """Watches sockets on every platform, which Windows' default loop cannot; and no patched clock stops its timers."""

    def time(self) -> float:
        """Seconds."""
        return SYSTEM_CLOCK.monotonic()


class IOThread:
    """Starts at once; a daemon, so that a process that forgets to close its layer still ends."""

    def __init__(self, name: str) -> None:
        if (patched_by := _who_replaced_threads()) is not None:
            raise ChannelLayerError(
                f"{patched_by} has replaced the threads of this process, and the layer needs one of its own. Use "
                f"workers with real threads or processes (gunicorn: gthread or uvicorn's worker; Celery: prefork or "
                f"threads), and leave {patched_by}'s monkey-patching out"
            )
        # Not that of whoever calls first: the hub's tasks live on when a request, and its trace, have ended.
        self._context = Context()
        self.loop = self._context.run(_Loop)
        self._context.run(WITHIN.set, [True])
        self._tasks: set[asyncio.Task[Any]] = set()  # touched on the loop alone, as the next
        self._ending: asyncio.Task[None] | None = None
        self._is_over = False
        self.ended_by: BaseException | None = None
        """What to tell those whose tasks are cancelled at the end, if that is more than that it is the end."""
        self._thread = threading.Thread(target=Context().run, args=(self._run,), name=name, daemon=True)
        try:
            start(self._thread)
        except BaseException:
            self.loop.close()
            raise

    @property
    def is_here(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Have the loop call `function`; False if it has ended."""
        try:
            self.loop.call_soon_threadsafe(function, *args, context=self._context)
        except RuntimeError:
            return False
        return True

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task; only from the thread itself. It is kept alive until it is done."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self) -> None:
        """Cancel every task and end the thread; returns at once."""
        self.call(self._stop_here)

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread, unless this is it; `timeout` in seconds."""
        if not self.is_here:
            self._thread.join(timeout)

    def _stop_here(self) -> None:
        self._ending = self.loop.create_task(self._end())

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            # Their finally blocks may need several turns.
            await asyncio.wait(tasks, timeout=_END_WITHIN)
        # One more turn: a task that ended by itself in this one is not among those, and its callbacks, which tell a
        # caller's thread that it may go on, are still to come.
        await asyncio.sleep(0)
        self._is_over = True
        self.loop.stop()

    def _run(self) -> None:
        WITHIN.set([True])
        asyncio.set_event_loop(self.loop)
        while not self._is_over:
            try:
                self.loop.run_forever()
            except BaseException as error:
                # Others wait for what this thread does: it goes on.
                logger.error("channels_trunk: something ended the event loop of the layer's thread", exc_info=error)
                time.sleep(_PAUSE)  # it may do so again at once
        self.loop.close()
