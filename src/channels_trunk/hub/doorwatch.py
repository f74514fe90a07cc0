"""Who watches the doorbell of a transport: the loop in which receivers wait, or else the hub's thread.

The reader should be the receiver: a hop between threads costs 40 us on two cores. So the doorbell is watched by the one
loop that receives; where none does, by one that goes on sending over a network, as the answers come there. Where
several loops receive, none of them may depend on another that is perhaps busy, and the hub's thread watches; likewise
when no loop does, or the loop has ended. Two watchers at once do no harm, as a ring is a hint.
"""

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

from channels_trunk.transports.base import ReadableTransport
from channels_trunk.transports.throttle import Throttle

from .linger import new_linger
from .waiters import ThreadWaiter

if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .waiters import Waiter

__all__ = ["Doorwatch"]


# How long the watching loop may leave something unread before the hub's thread reads it. Seconds.
_GRACE = 0.02
# How often the hub's thread looks after a loop that watches: a loop may be alive and not run. Seconds.
# At least so often where it polls, because rings may be lost.
_LOOK_AFTER = 1.0
# Where it need not poll: while messages come, and else.
_LOOK_OFTEN = 0.05
_LOOK_SELDOM = 0.25
# Rings come from a server where there is one; else from whoever may write the file. Seconds: see Throttle.
_LONGEST_PAUSE = 0.01


class _Copy:
    """A descriptor of a loop's own for the transport's door.

    The transport may close its one at once, and then the number would be somebody else's by the time that the loop
    stops watching it. A loop that is told to let go of it, and is closed before it runs again, closes it by forgetting.
    """

    __slots__ = ("number",)

    def __init__(self, door: int) -> None:
        self.number = -1
        self.number = os.dup(door)

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    __del__ = close


class Doorwatch:
    """Moves the watch. It also polls, because a ring may be lost."""

    def __init__(self, hub: "Lifecycle", transport: ReadableTransport) -> None:
        self._hub = hub
        self._transport = transport
        self._lock = threading.Lock()
        self._door: int | None = None  # the transport's descriptor; guarded by _lock, as the next three
        self.watcher: asyncio.AbstractEventLoop | None = None
        """The loop that watches; None: the hub's."""
        self._receiving: set[asyncio.AbstractEventLoop] = set()
        self._doors: dict[asyncio.AbstractEventLoop, _Copy] = {}
        self._threads_receive = False
        self._latest_caller: weakref.ref[asyncio.AbstractEventLoop] | None = None
        through_server = not transport.capabilities.inline
        self._linger = new_linger(hub.clock, through_server=through_server) if hub.options.busy_wait else None
        self._throttle = None if through_server else Throttle(_LONGEST_PAUSE)
        self._timer: asyncio.TimerHandle | None = None  # touched on the hub's loop alone, as the next
        self._reads_seen = 0

    # --- callers

    def receiver_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        """A receiver is about to wait in `loop`, the running one."""
        if loop is self.watcher or self._door is None:
            return
        if not self._watch_in(loop, receives=True) and self.watcher is not None:
            self._watch_on_hub()

    def caller_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        """A join or a send waits in `loop`, the running one, for what is read: it watches if nobody receives.

        Not for the first one: a loop that is made for one call is not worth it.
        """
        if loop is self.watcher or self._door is None:
            return
        called_before, self._latest_caller = self._latest_caller, weakref.ref(loop)
        if self.watcher is not None or called_before is None or called_before() is not loop:
            return
        self._watch_in(loop, receives=False)

    def thread_waits(self) -> None:
        """A receiver is about to block a thread: no loop's own work may hold it up."""
        if not self._threads_receive:
            self._threads_receive = True
            self._watch_on_hub()

    def look_after(self, waiter: "Waiter | None" = None) -> bool:
        """Somebody is about to wait, by this waiter, for what is read: see that it is. Any thread.

        A loop that has ended reads no more, and one whose own thread is about to block does not read meanwhile.
        Returns whether one had ended.
        """
        watcher = self.watcher
        if watcher is None:
            return False
        has_ended = watcher.is_closed()
        blocks = isinstance(waiter, ThreadWaiter) and asyncio._get_running_loop() is watcher
        if has_ended or blocks:
            self._watch_on_hub()
        return has_ended

    def joiner_waits(self, waiter: "Waiter") -> None:
        """Somebody is about to wait, by this waiter, for the answer to a join."""
        loop = waiter.get_loop()
        if loop is None or loop is not self.watcher:
            self.look_after(waiter)
            if loop is not None:
                self.caller_waits(loop)

    def _watch_in(self, loop: asyncio.AbstractEventLoop, *, receives: bool) -> bool:
        """Give the watch to `loop`, the running one, unless others receive or it cannot watch."""
        with self._lock:
            if self._door is None:
                return False
            self._receiving = {other for other in self._receiving if not other.is_closed()}
            if receives:
                self._receiving.add(loop)
            if self._threads_receive or self._receiving - {loop}:
                return False
            self._forget_closed_loops()
            if not self._rings_in(loop, self._door):
                return False
            before, self.watcher = self.watcher, loop
        if before is not None:
            self._pause(before)
        self._hub.on_io(self._unwatch_here)
        # What came while the watch changed hands may have rung nobody.
        loop.call_soon(self._ring)
        return True

    def _rings_in(self, loop: asyncio.AbstractEventLoop, door: int) -> bool:
        """Have a loop watch a copy of the transport's descriptor, with _lock held; False if it cannot.

        It cannot on Windows (the proactor's), or where the process has no descriptor left.
        """
        try:
            if loop not in self._doors:
                self._doors[loop] = _Copy(door)
            # Not in the context of the first receiver, which would be kept.
            Context().run(loop.add_reader, self._doors[loop].number, self._ring)
        except (NotImplementedError, OSError, ValueError):
            if loop in self._doors:
                self._doors.pop(loop).close()
            return False
        return True

    def _watch_on_hub(self) -> None:
        with self._lock:
            before, self.watcher = self.watcher, None
        if before is not None:
            self._pause(before)
        self._hub.on_io(self._watch_here)

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._doors if loop.is_closed()]:
            self._doors.pop(loop).close()

    def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a loop stop watching, for now: it keeps its descriptor."""
        door = self._doors.get(loop)

        def stop() -> None:
            # By then it may have the watch again, or its descriptor may be gone.
            if self.watcher is not loop and self._doors.get(loop) is door and door is not None:
                loop.remove_reader(door.number)

        with suppress(RuntimeError):
            # RuntimeError: the loop is closed, and its selector with it.
            loop.call_soon_threadsafe(stop)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a loop stop watching for good; its descriptor is closed when it has."""
        door = self._doors.pop(loop, None)
        if door is None:
            return

        def stop() -> None:
            loop.remove_reader(door.number)
            door.close()

        try:
            loop.call_soon_threadsafe(stop)
        except RuntimeError:
            # The loop is closed, and its selector with it.
            door.close()

    def _ring(self) -> None:
        self._transport.answer_doorbell()
        self._hub.reader.pull()
        loop = self.watcher
        if self._throttle is not None:
            found = self._hub.reader.found + self._hub.router.counters.delivered
            if pause := self._throttle.rang(found):
                self._leave_alone(asyncio.get_running_loop(), pause)
                return
        if self._linger is not None and loop is not None and loop is asyncio._get_running_loop():
            self._linger.rang(loop)

    def _leave_alone(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Have `loop`, the running one, not watch for so long."""
        with self._lock:
            if (door := self._door_in(loop)) is None:
                return
            loop.remove_reader(door)
        loop.call_later(seconds, self._watch_again, loop)

    def _watch_again(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            # By now another loop may have the watch.
            if (door := self._door_in(loop)) is not None:
                loop.add_reader(door, self._ring)

    def _door_in(self, loop: asyncio.AbstractEventLoop) -> int | None:
        """The descriptor by which `loop`, the running one, watches now; with _lock held."""
        if self.watcher is loop:
            return self._doors[loop].number if loop in self._doors else None
        return self._door if self.watcher is None and self._hub.on_io_thread else None

    # --- the hub's loop

    def open(self) -> None:
        """Begin to watch; the transport has been opened."""
        door = self._transport.doorbell()
        with self._lock:
            self._door = door
            self.watcher = None
            self._receiving = set()
        self._watch_here()
        self._schedule()

    def close(self) -> None:
        """Stop watching, before the descriptor is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            door, self._door, self.watcher = self._door, None, None
            self._receiving = set()
        if door is not None:
            asyncio.get_running_loop().remove_reader(door)
        for loop in list(self._doors):
            self._leave(loop)
        self._transport.leave_doorbell()

    def abandon(self) -> None:
        """In the child of a fork: close the descriptors, by which a parent that has died would seem to be alive."""
        doors, self._doors = self._doors, {}
        for door in doors.values():
            door.close()

    def _watch_here(self) -> None:
        with self._lock:
            door = self._door if self.watcher is None else None
        if door is not None:
            asyncio.get_running_loop().add_reader(door, self._ring)
        if self._timer is not None or door is not None:
            self._ring()

    def _unwatch_here(self) -> None:
        with self._lock:
            # By now the watch may be back here.
            door = self._door if self.watcher is not None else None
        if door is not None:
            asyncio.get_running_loop().remove_reader(door)

    def _schedule(self) -> None:
        interval = self._transport.polling_interval()
        if interval is not None:
            if self.watcher is not None:
                interval = min(interval, _LOOK_AFTER)
        elif self._door is not None:
            interval = _LOOK_OFTEN if self._hub.reader.reads != self._reads_seen else _LOOK_SELDOM
        else:
            return
        self._timer = asyncio.get_running_loop().call_later(interval, self._on_poll)

    def _on_poll(self) -> None:
        self._schedule()
        if self.look_after():
            return
        watcher = self.watcher
        if self._is_unread() or self._hub.reader.pending:
            if watcher is None:
                self._ring()
            else:
                with suppress(RuntimeError):
                    watcher.call_soon_threadsafe(self._ring)
                asyncio.get_running_loop().call_later(_GRACE, self._take_over, watcher, self._hub.reader.reads)

    def _is_unread(self) -> bool:
        """Whether something came, and nobody has read since this was last asked."""
        reads, self._reads_seen = self._reads_seen, self._hub.reader.reads
        if reads != self._reads_seen and self._transport.polling_interval() is None:
            return False
        return self._transport.changed()

    def _take_over(self, watcher: asyncio.AbstractEventLoop, reads: int) -> None:
        """A loop that has not come is stopped, or held up by its own work: until it receives again, watch here."""
        reader = self._hub.reader
        if self.watcher is not watcher or self._timer is None or reader.reads != reads:
            return
        if reader.pending or self._transport.changed():
            with self._lock:
                self._receiving.discard(watcher)
            self._watch_on_hub()
