"""Out of the node: drives the transport with what is in the outbox.

Three ways lead to the transport. The *pump*, a task on the hub's thread, serves every transport. If the transport is
inline, the caller's own thread publishes as a rule: a loop at the end of the tick in which something was sent, a plain
thread in place. A caller never waits for a lock: when the transport says Busy, the batch goes to the pump. And a
network transport may let the caller's thread *start* a publish, at the same moments: the batch is on its way without a
hop to the hub's thread, which takes the answer; a plain thread may wait for the answer itself.

There is one turn. Until a publish that was started has ended, and until the pump has emptied the outbox, later batches
queue behind it. So the order is kept, and no caller's loop is held.
"""

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from channels_trunk.exceptions import TransportError
from channels_trunk.transports.base import Busy, EmbeddedTransport, StartingTransport, TooLarge, Transport

from .outbox import Outbox, Outgoing, Started
from .outcomes import LEAST_TIME, Outcomes, unexpected
from .pump import Pump

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Publisher"]


class Publisher:
    """Owns the outbox. `exclusive` is held by whoever is in the transport's publish, claim or housekeeping."""

    def __init__(self, hub: "Lifecycle", transport: Transport, *, inline: bool, starts: bool) -> None:
        self._hub = hub
        self._inline = transport if inline and isinstance(transport, EmbeddedTransport) else None
        self._starter = transport if starts and isinstance(transport, StartingTransport) else None
        self._knows_after = transport.capabilities.knows_after
        self._in_place = self._inline is not None or self._starter is not None
        self._lock = hub.lock
        self._outbox = Outbox()  # guarded by _lock
        self._handed = False  # guarded by _lock: the pump has the turn, and callers queue behind it
        self._started: Started | None = None  # guarded by _lock: it has the turn
        self._ticking: set[asyncio.AbstractEventLoop] = set()  # guarded by _lock: loops that will publish at tick end
        self._rung = False  # guarded by _lock: the pump was told, or is at work, and will look at the outbox
        self._lonely = False  # a guess, and so are both these when several loops send
        self._at_once = False
        self.outcomes = Outcomes(hub)
        self.pump = Pump(hub, self, self.outcomes, transport)
        self.exclusive = threading.Lock()
        self.driver: int | None = None
        """The thread that publishes, with `exclusive` held."""
        self._hints: set[str] = set()  # normal channels of this node that got messages in that publish

    def __len__(self) -> int:
        return len(self._outbox)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent or is being sent; on the hub's loop."""
        with self._lock:
            return not (self._outbox or self._started is not None or self.pump.in_flight)

    @property
    def in_flight(self) -> bool:
        """Whether a batch is under way; on the hub's loop."""
        return self.pump.in_flight or self._started is not None

    # --- callers' side, any thread

    def add(self, outgoing: Sequence[Outgoing]) -> None:
        """Queue envelopes and see to it that they go; returns at once, except to a plain thread, which sends them."""
        waiter = outgoing[0].waiter
        # A caller that blocks publishes in place, even in the thread of a loop, whose tick would not come to its end.
        here = asyncio._get_running_loop() if waiter is None else waiter.get_loop()
        with self._lock:
            for entry in outgoing:
                self._outbox.add(entry)
            if not self._in_place or self._handed or not self._hub.is_open or (waiter is None and here is None):
                # An answer to another node is never published in place: this thread may be inside that node's publish.
                way = self._wake_pump
            elif self._started is not None:
                return  # at its end somebody looks at the outbox
            elif here is None:
                way = partial(self._publish_here, len(self._outbox))
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
                self._publish_in_place()
            finally:
                self.exclusive.release()
            self.follow_hints()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._ticking.discard(loop)
            waiting = len(self._outbox)
            # What was sent in this tick: if it was one envelope, the next is published without waiting for others.
            self._lonely = waiting == 0 if self._at_once else waiting == 1
            self._at_once = False
        if self._starter is not None and self._hub.doorwatch is not None:
            # A hop from the hub's thread for each answer would be a tenth of a round trip.
            self._hub.doorwatch.caller_waits(loop)
        if not waiting:
            return
        if not self.exclusive.acquire(blocking=False):
            # Another thread is in the transport, and not necessarily to publish: let the pump wait for it.
            self._hand_over()
            return
        try:
            self._publish_in_place()
        finally:
            self.exclusive.release()
        self.follow_hints()
        with self._lock:
            # What is left when the engine is away is for the pump: the loop would spin until it is back.
            has_turn = self._hub.is_open and not self._handed and self._started is None
            if not (self._outbox and has_turn) or loop in self._ticking:
                return
            self._ticking.add(loop)
        loop.call_soon(self._tick, loop)

    def hint(self, channels: Sequence[str]) -> bool:
        """Keep these for after the publish if this thread is in one: then it cannot claim; False if it is not."""
        if self.driver != threading.get_ident():
            return False
        self._hints.update(channels)
        return True

    def follow_hints(self) -> None:
        """Claim what was kept."""
        if self._hints:
            hints, self._hints = self._hints, set()
            self._hub.claims.available(hints)

    def _publish_here(self, count: int) -> None:
        """Publish as many as wait by now, this thread's own behind them; whoever adds more sees to those."""
        if self._starter is not None:
            with self.exclusive:
                started = self._start(self._starter)
            if started is not None and self._started is started:
                self._starter.attend(started.deadline - self._hub.clock.monotonic())
            return
        while count > 0:
            with self.exclusive:
                taken = self._publish_in_place()
            self.follow_hints()
            if not taken:
                return
            count -= taken

    def _publish_in_place(self) -> int:
        """Publish one batch in this thread, with `exclusive` held; return how many an inline transport took."""
        if self._starter is not None:
            with suppress(Exception):  # the senders were told
                self._start(self._starter)
            return 0
        with self._lock:
            if self._handed or not self._hub.is_open:
                return 0
            batch = self._outbox.take()
        return self._publish_inline(batch) if batch else 0

    def _publish_inline(self, batch: list[Outgoing]) -> int:
        if self._inline is None:
            return 0
        self.driver = threading.get_ident()
        try:
            refused = self._inline.publish_now([entry.envelope for entry in batch])
        except Busy:
            self.put_back(batch)
            self._hand_over()
            return 0
        except TooLarge as error:
            if not self.outcomes.too_large(batch, error):
                self.take_apart(batch)
                self._hand_over()
                return 0
        except TransportError as error:
            self.outcomes.failed(batch, error)
        except Exception as error:  # noqa: BLE001 - the senders must not wait for ever
            self.outcomes.failed(batch, unexpected(error))
        else:
            self.outcomes.done(batch, refused)
        finally:
            self.driver = None
        return len(batch)

    # --- a publish that a caller starts

    def _start(self, starter: StartingTransport) -> Started | None:
        """Start to publish one batch, with `exclusive` held; None if there is none, or if it is for the pump."""
        with self._lock:
            if self._handed or self._started is not None or not self._hub.is_open:
                return None
            batch = self._outbox.take()
            if not batch:
                return None
            started = self._started = Started(batch, self.deadline(batch))
        try:
            begun = starter.start([entry.envelope for entry in batch], partial(self._ended, started))
        except BaseException as error:
            # Not only a fault of the transport: a signal's handler may raise in here. The batch may be on its way, and
            # must not be sent again.
            self._give_up(started, partial(unexpected, error))
            raise
        if begun:
            return started
        self._take_back(started)
        return None

    def _give_up(self, started: Started, error: Callable[[], TransportError]) -> None:
        """Whether it arrived will not be known; unless it has ended meanwhile."""
        with self._lock:
            if self._started is not started:
                return
            self._started = None
            more = bool(self._outbox)
        self.outcomes.failed(started.batch, error())
        if more:
            self._wake_pump()

    def deadline(self, batch: Sequence[Outgoing]) -> float:
        """Until when, in monotonic seconds, the engine may take to answer if this batch is published now."""
        least = min(LEAST_TIME, self._hub.options.send_timeout)
        return max(batch[0].deadline, self._hub.clock.monotonic() + least)

    def _take_back(self, started: Started) -> None:
        with self._lock:
            if self._started is not started:
                return  # the connection ended meanwhile, and the senders know
            self._started = None
            self._put_back(started.batch)
            self._handed = True
        self._wake_pump()

    def _ended(self, started: Started, refused: Sequence[int] | None) -> None:
        """What was started has ended, or (None) is to be finished by the pump; any thread."""
        with self._lock:
            if self._started is not started:
                return  # it was given up meanwhile
            started.left_over = refused is None
            if refused is not None:
                self._started = None
            more = bool(self._outbox)
        if refused is None:
            self._wake_pump()
            return
        self.outcomes.done(started.batch, refused)
        if more and not self._ticks_here():
            self._wake_pump()

    def _ticks_here(self) -> bool:
        """Leave what waits to the end of this loop's tick, if only tasks of this loop wait for it: no hop, no wake.

        If anybody else does, they are not to depend on this loop, which may be about to block.
        """
        here = asyncio._get_running_loop()
        with self._lock:
            has_turn = self._hub.is_open and not self._handed and self._started is None
            if here is None or not has_turn or not self._outbox.is_one_batch_of(here):
                return False
            if here not in self._ticking:
                self._ticking.add(here)
                here.call_soon(self._tick, here)
            return True

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
            self._hub.on_io(self.pump.now)

    # --- the pump's side, on the hub's loop

    def pump_begins(self) -> None:
        """A pump is about to look at the outbox."""
        with self._lock:
            # The wake of a pump before this one may have come too late for it.
            self._rung = True

    def next_batch(self) -> tuple[list[Outgoing], bool]:
        """What the pump is to publish, and whether that has begun elsewhere; nothing if there is nothing to do."""
        with self._lock:
            late = self._outbox.expire(self._hub.clock.monotonic())
            started = self._started
            if started is not None and started.left_over:
                self._started = None
                self._handed = True
                batch = started.batch
            elif started is not None:
                batch = []
            else:
                # A connection that is lost sends nothing: what waits here waits for the next one.
                batch = self._outbox.take() if self._hub.is_open else []
                # While this batch is under way, a caller's thread must not overtake it with what comes behind.
                self._handed = bool(batch or (self._handed and self._outbox))
            if not batch:
                self._rung = False
        self.outcomes.expired(late)
        return batch, started is not None

    def put_back(self, batch: Sequence[Outgoing]) -> None:
        """The engine was busy: nothing of this was done."""
        with self._lock:
            self._put_back(batch)

    def _put_back(self, batch: Sequence[Outgoing]) -> None:
        self._outbox.put_back(batch, alone=len(batch) if self._knows_after else 0)

    def take_apart(self, batch: Sequence[Outgoing]) -> None:
        """The engine does not take so much at once: half of it is next."""
        with self._lock:
            self._outbox.put_back(batch, alone=len(batch) // 2)

    def pump_ends(self) -> None:
        """The connection has ended: what a caller started goes the way of what the pump has under way."""
        with self._lock:
            started, self._started = self._started, None
        if started is not None:
            self.cut_off(started.batch)

    def cut_off(self, batch: list[Outgoing]) -> None:
        """The connection ended under this batch; on the hub's loop."""
        if self._knows_after and self._hub.is_away:
            self.put_back(batch)
        else:
            self.outcomes.cut_off(batch)

    def nudge(self) -> None:
        """Send what was left behind by loops that ended before their tick did; called now and then."""
        with self._lock:
            self._ticking = {loop for loop in self._ticking if not loop.is_closed()}
            left = bool(self._outbox)
        if left:
            self._wake_pump()

    def expire(self) -> float:
        """Fail what is past its deadline; called now and then. Return the seconds left to what was started."""
        now = self._hub.clock.monotonic()
        with self._lock:
            late = self._outbox.expire(now)
            started = None if self._started is None or self._started.left_over else self._started
        self.outcomes.expired(late)
        if started is None:
            return math.inf
        if now < started.deadline:
            return started.deadline - now
        self._give_up(started, partial(self.outcomes.hangs, "publish", self._hub.options.send_timeout))
        return math.inf

    def fail_all(self, error: Callable[[], BaseException]) -> None:
        """Fail everything that waits to be sent."""
        with self._lock:
            started, self._started = self._started, None
            entries = [*(started.batch if started is not None else ()), *self._outbox.clear()]
            self._handed = False
        self.outcomes.dropped(entries, error)

    def put_off(self, seconds: float) -> None:
        """The wall clock was set; with the hub's lock held."""
        self._outbox.put_off(seconds)

    def drop_unasked(self) -> bool:
        """Forget envelopes that nobody waits for; whether others are left."""
        with self._lock:
            entries = [entry for entry in self._outbox.clear() if entry.waiter is not None]
            self._outbox.put_back(entries)
            self._rung = self._handed = False
            return bool(entries)
