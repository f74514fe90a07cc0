"""Out of the node: drives the transport with what is in the outbox.

Two ways lead to the transport. The *pump* is a task on the hub's thread; it serves every transport. If the transport is
inline, the caller's own thread publishes as a rule: a loop at the end of the tick in which something was sent, a plain
thread in place. A caller never waits for a lock: when the transport says Busy, the batch goes to the pump, and until
the pump has emptied the outbox, later batches queue behind it. So the order is kept, and no caller's loop is held.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, EmbeddedTransport, Transport

from .outbox import Outbox, Outgoing
from .waiters import Waiter, another, settle

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Publisher", "Refused"]

# A lock of SQLite is held for 20 to 100 us by a writer like us: trying again after 0.3 ms brought the highest
# throughput with three processes that send at once. After so many tries the holder is of another kind.
_QUICK_RETRY = 0.0003
_QUICK_TRIES = 10
_SLOW_RETRY = 0.005
# A batch that waited for the engine until its time was nearly over still gets this long to be taken. Seconds.
_LEAST_TIME = 1.0

logger = logging.getLogger("channels_trunk")


class Refused(Exception):
    """The channel is full. The layer turns it into channels.exceptions.ChannelFull."""


class Publisher:
    """Owns the outbox. `exclusive` is held by whoever is in the transport's publish, claim or housekeeping."""

    def __init__(self, hub: "Lifecycle", transport: Transport, *, inline: bool) -> None:
        self._hub = hub
        self._transport = transport
        self._inline = transport if inline and isinstance(transport, EmbeddedTransport) else None
        self._lock = hub.lock
        self._outbox = Outbox()  # guarded by _lock
        self._handed = False  # guarded by _lock: the pump has the turn, and callers queue behind it
        self._ticking: set[asyncio.AbstractEventLoop] = set()  # guarded by _lock: loops that will publish at tick end
        self._pump_waiting: asyncio.Event | None = None  # touched on the hub's loop alone, as the next
        self._in_flight = 0
        self._rung = False  # guarded by _lock: the pump was told, or is at work, and will look at the outbox
        self._lonely = False  # a guess, and so are both these when several loops send
        self._at_once = False
        self.exclusive = threading.Lock()
        self._driver: int | None = None  # the thread that publishes, with `exclusive` held
        self._hints: set[str] = set()  # normal channels of this node that got messages in that publish

    def __len__(self) -> int:
        return len(self._outbox)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent or is being sent; on the hub's loop."""
        return not (self._outbox or self._in_flight)

    @property
    def in_flight(self) -> bool:
        """Whether a batch is under way; on the hub's loop."""
        return bool(self._in_flight)

    # --- callers' side, any thread

    def add(self, outgoing: Sequence[Outgoing]) -> None:
        """Queue envelopes and see to it that they go; returns at once, except to a plain thread, which sends them."""
        waiter = outgoing[0].waiter
        # A caller that blocks publishes in place, even in the thread of a loop, whose tick would not come to its end.
        here = asyncio._get_running_loop() if waiter is None else waiter.get_loop()
        with self._lock:
            for entry in outgoing:
                self._outbox.add(entry)
            if self._inline is None or self._handed or not self._hub.is_open or (waiter is None and here is None):
                # An answer to another node is never published in place: this thread may be inside that node's publish.
                way = self._wake_pump
            elif here is None:
                way = self._publish_here
            elif here in self._ticking:
                return
            else:
                self._ticking.add(here)
                here.call_soon(self._tick, here)
                if not self._lonely or waiter is None:
                    return
                way = self._publish_at_once
        way()

    def _publish_at_once(self) -> None:
        """Where one thing at a time is sent, as in a conversation, the end of the tick is not worth waiting for."""
        self._at_once = True
        if self.exclusive.acquire(blocking=False):
            try:
                self._publish_inline()
            finally:
                self.exclusive.release()
            self._follow_hints()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._ticking.discard(loop)
            waiting = len(self._outbox)
            # What was sent in this tick: if it was one envelope, the next is published without waiting for others.
            self._lonely = waiting == 0 if self._at_once else waiting == 1
            self._at_once = False
        if not waiting:
            return
        if not self.exclusive.acquire(blocking=False):
            # Another thread is in the transport, and not necessarily to publish: let the pump wait for it.
            self._hand_over()
            return
        try:
            self._publish_inline()
        finally:
            self.exclusive.release()
        self._follow_hints()
        with self._lock:
            if not self._outbox or self._handed or loop in self._ticking:
                return
            self._ticking.add(loop)
        loop.call_soon(self._tick, loop)

    def hint(self, channels: Sequence[str]) -> bool:
        """Keep these for after the publish if this thread is in one: then it cannot claim; False if it is not."""
        if self._driver != threading.get_ident():
            return False
        self._hints.update(channels)
        return True

    def _follow_hints(self) -> None:
        if self._hints:
            hints, self._hints = self._hints, set()
            self._hub.claims.available(hints)

    def _publish_here(self) -> None:
        while True:
            with self.exclusive:
                more = self._publish_inline()
            self._follow_hints()
            if not more:
                return

    def _publish_inline(self) -> bool:
        """Publish one batch in this thread, with `exclusive` held; whether there is more for this thread."""
        with self._lock:
            if self._handed or not self._hub.is_open:
                return False
            batch = self._outbox.take()
        if not batch or self._inline is None:
            return False
        self._driver = threading.get_ident()
        try:
            refused = self._inline.publish_now([entry.envelope for entry in batch])
        except Busy:
            with self._lock:
                self._outbox.put_back(batch)
            self._hand_over()
            return False
        except TransportError as error:
            self._failed(batch, error)
        except Exception as error:  # noqa: BLE001 - the senders must not wait for ever
            self._failed(batch, _unexpected(error))
        else:
            self._done(batch, refused)
        finally:
            self._driver = None
        with self._lock:
            return bool(self._outbox) and not self._handed

    def _hand_over(self) -> None:
        with self._lock:
            if not self._outbox:
                return
            self._handed = True
        self._wake_pump()

    def _wake_pump(self) -> None:
        with self._lock:
            rung, self._rung = self._rung, True
        # One wake for all that comes before the pump has looked: each costs a system call.
        if not rung:
            self._hub.on_io(self._pump_now)

    # --- the hub's thread

    def _pump_now(self) -> None:
        if self._pump_waiting is not None:
            self._pump_waiting.set()

    async def pump(self) -> None:
        """Publish what is in the outbox for as long as the transport is open; a task on the hub's loop."""
        self._pump_waiting = waiting = asyncio.Event()
        with self._lock:
            # The wake of a pump before this one may have come too late for it.
            self._rung = True
        waiting.set()
        try:
            while True:
                await waiting.wait()
                waiting.clear()
                await self._drain()
        finally:
            self._pump_waiting = None

    async def _drain(self) -> None:
        tries = 0
        while True:
            with self._lock:
                late = self._outbox.expire(self._hub.clock.monotonic())
                # A connection that is lost sends nothing: what waits here waits for the next one.
                batch = self._outbox.take() if self._hub.is_open else []
                # While this batch is under way, a caller's thread must not overtake it with what comes behind.
                self._handed = bool(batch or (self._handed and self._outbox))
                if not batch:
                    self._rung = False
            self.expired(late)
            if not batch:
                return
            try:
                await self._publish(batch)
            except Busy:
                with self._lock:
                    self._outbox.put_back(batch)
                tries += 1
                await self._pause(tries)
            else:
                tries = 0

    async def _publish(self, batch: list[Outgoing]) -> None:
        try:
            if self._transport.capabilities.inline:
                with self.exclusive:
                    self._driver = threading.get_ident()
                    try:
                        refused = await self._transport.publish([entry.envelope for entry in batch])
                    finally:
                        self._driver = None
                self._follow_hints()
            else:
                refused = await self._publish_in_time(batch)
        except TransportError as error:
            self._failed(batch, error)
        except asyncio.CancelledError:
            self._failed(batch, TransportUnavailable("the connection ended while the message was being sent"))
            raise
        except Busy:
            raise
        except Exception as error:  # noqa: BLE001 - the senders must not wait for ever, nor the pump end
            self._failed(batch, _unexpected(error))
        else:
            self._done(batch, refused)

    async def _publish_in_time(self, batch: list[Outgoing]) -> Sequence[int]:
        """Publish; an engine that hangs is lost, and raises TransportUnavailable."""
        left = batch[0].deadline - self._hub.clock.monotonic()
        self._in_flight = len(batch)
        try:
            async with asyncio.timeout(max(left, min(_LEAST_TIME, self._hub.options.send_timeout))) as limit:
                return await self._transport.publish([entry.envelope for entry in batch])
        except TimeoutError as error:
            if not limit.expired():
                raise
            hangs = TransportUnavailable("the engine did not answer within send_timeout")
            self._hub.context.sink.lost(hangs)
            raise hangs from error
        finally:
            self._in_flight = 0

    async def _pause(self, tries: int) -> None:
        if tries <= _QUICK_TRIES:
            # Not asyncio.sleep, which epoll rounds up to a whole millisecond.
            time.sleep(_QUICK_RETRY)  # noqa: ASYNC251 - the loop is the hub's own
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(_SLOW_RETRY)

    def nudge(self) -> None:
        """Send what was left behind by loops that ended before their tick did; called now and then."""
        with self._lock:
            self._ticking = {loop for loop in self._ticking if not loop.is_closed()}
            left = bool(self._outbox)
        if left:
            self._wake_pump()

    def expire(self) -> None:
        """Fail what is past its deadline; called now and then while the transport is away."""
        with self._lock:
            late = self._outbox.expire(self._hub.clock.monotonic())
        self.expired(late)

    def expired(self, late: list[Outgoing]) -> None:
        """Tell the senders of `late` that their time is over."""
        if late:
            self._failed(late, TransportUnavailable(self._hub.why_unavailable()))

    def fail_all(self, error: Callable[[], BaseException]) -> None:
        """Fail everything that waits to be sent."""
        with self._lock:
            entries = self._outbox.clear()
            self._handed = False
        settle(_waiters(entries), error)

    def drop_unasked(self) -> bool:
        """Forget envelopes that nobody waits for; whether others are left."""
        with self._lock:
            entries = [entry for entry in self._outbox.clear() if entry.waiter is not None]
            self._outbox.put_back(entries)
            self._rung = self._handed = False
            return bool(entries)

    # --- outcomes

    def _done(self, batch: list[Outgoing], refused: Sequence[int]) -> None:
        self._hub.counters.sent += len(batch) - len(refused)
        self._hub.counters.batches += 1
        if refused:
            full = set(refused)
            settle(_waiters([entry for index, entry in enumerate(batch) if index in full]), Refused)
            batch = [entry for index, entry in enumerate(batch) if index not in full]
        settle(_waiters(batch))

    def _failed(self, batch: list[Outgoing], error: TransportError) -> None:
        self._hub.counters.failed += len(batch)
        self._hub.publish_failed(error)
        settle(_waiters(batch), lambda: another(error))


def _unexpected(error: Exception) -> TransportError:
    logger.error("channels_trunk: the transport failed in a way it should not", exc_info=error)
    wrapped = TransportError(f"the transport failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _waiters(batch: Sequence[Outgoing]) -> list[Waiter]:
    return [entry.waiter for entry in batch if entry.waiter is not None]
