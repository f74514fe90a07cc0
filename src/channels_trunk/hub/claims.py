"""Normal channels: takes messages out of the engine's queues for receivers that wait here, or will in a moment.

What was claimed lies in a mailbox of this node until a receiver takes it. If the last receiver gives up in between, or
none comes, the message goes back to the front of its channel, where another process finds it.
"""

import asyncio
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from channels_trunk.aside import logger
from channels_trunk.exceptions import TransportError
from channels_trunk.router import Mailbox
from channels_trunk.transports.base import Busy, Claimed, EmbeddedTransport, Transport

from .stock import BACK_AFTER, Stock
from .waiters import Waiter

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Claims", "Suspension"]

_RETRY = 0.001
_RETRY_LATER = 0.25
_SEND_BACK_WITHIN = 2.0


class Suspension:
    """While a node flushes, nothing is claimed."""

    __slots__ = ("ends", "node", "task")

    def __init__(self, node: str, ends: float) -> None:
        self.node = node
        self.ends = ends  # monotonic seconds: not to be heeded for longer
        self.task: asyncio.Task[None] | None = None
        """Of the hub's loop: it lets go of what this node has, and is of no use to anybody when the flush is over."""

    def end(self) -> None:
        """The flush is over; on the hub's loop."""
        if self.task is not None:
            self.task.cancel()


class Claims:
    """Knows which normal channels have receivers at this node."""

    def __init__(self, hub: "Lifecycle", transport: Transport, *, inline: bool) -> None:
        self._hub = hub
        self._transport = transport
        self._inline = transport if inline and isinstance(transport, EmbeddedTransport) else None
        self._lock = hub.lock
        self._wanted: set[str] = set()  # guarded by _lock: normal channels that somebody has received from lately
        self._watched: frozenset[str] = frozenset()  # what the transport watches; the hub's loop writes it
        self._pending: dict[str, None] = {}  # guarded by _lock: channels to claim from on the hub's loop, in order
        self._restoring: list[Claimed] = []  # guarded by _lock, as the next
        self._flushes = 0  # counted, so that a claim sees whether there was one meanwhile
        self._flushing: list[Suspension] = []  # guarded by _lock
        self._work_task: asyncio.Task[None] | None = None  # touched on the hub's loop alone, as the next four
        self._ahead = transport.capabilities.claims_ahead
        self._stock = Stock()
        self._look_timer: asyncio.TimerHandle | None = None
        self._delays: dict[str, float] = {}  # after which channels that failed are claimed from again

    # --- any thread

    def want(self, channel: str) -> None:
        """A receiver waits at a normal channel of this node: get it a message, now or when one comes."""
        with self._lock:
            self._wanted.add(channel)
            is_coming = channel in self._watched and not self._restoring and self._transport.brings(channel)
        if not is_coming and not self._claim_inline(channel):
            self._claim_on_io([channel])

    def available(self, channels: Iterable[str]) -> None:
        """The transport says that these channels may hold messages."""
        later = [channel for channel in channels if self._demand(channel) and not self._claim_inline(channel)]
        if later:
            self._claim_on_io(later)

    def give_back(self, box: Mailbox) -> None:
        """Return what was claimed for receivers that are gone; with the hub's lock held."""
        # What stood in the mailbox until now is older than what has left it by this way.
        channels = [message.channel for message in self._restoring]
        self._put_back(box, channels.index(box.channel) if box.channel in channels else len(channels))

    def _put_back(self, box: Mailbox, place: int) -> None:
        entries = self._hub.router.surplus(box)
        if not entries:
            return
        offset = self._hub.clock.wall() - self._hub.clock.monotonic()
        self._restoring[place:place] = [Claimed(box.channel, expires + offset, body) for expires, body in entries]
        self._hub.on_io(self._work_now)

    def forget(self) -> None:
        """A flush: what is being claimed, or is to go back, is gone; with the hub's lock held."""
        self._flushes += 1
        self._restoring = []

    def suspend(self, node: str, seconds: float) -> "Suspension":
        """Claim nothing and give nothing back while this node flushes; with the hub's lock held.

        Not for longer than so many seconds: that node may be killed.
        """
        suspension = Suspension(node, self._hub.clock.monotonic() + seconds)
        self._flushing.append(suspension)
        self._hub.on_io(self._look_again_in, seconds)
        return suspension

    def resume(self, node: str) -> None:
        """Undo the first suspend() for this node; with the hub's lock held."""
        for suspension in self._flushing:
            if suspension.node == node:
                self._flushing.remove(suspension)
                self._hub.on_io(suspension.end)
                self._hub.on_io(self._work_now)
                return

    async def settled(self) -> None:
        """Return when nothing is being claimed or given back that was begun before now; on the hub's loop."""
        if self._inline is not None:
            with self._hub.publisher.exclusive:
                pass  # nobody is in the middle of a claim in place
        if self._work_task is not None and not self._work_task.done():
            await asyncio.wait({self._work_task})

    def stands(self, suspension: "Suspension") -> bool:
        """Whether it is not over; with the hub's lock held."""
        return self._is_suspended() and suspension in self._flushing

    def _is_suspended(self) -> bool:
        if self._flushing:
            now = self._hub.clock.monotonic()
            self._flushing = [suspension for suspension in self._flushing if suspension.ends > now]
        return bool(self._flushing)

    def _look_again_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._work_now)

    def _demand(self, channel: str) -> int:
        with self._lock:
            return self._demand_here(channel)

    def _demand_here(self, channel: str) -> int:
        box = self._hub.router.boxes.get(channel)
        return 0 if box is None else max(0, box.waiting() - box.surplus)

    def _begin_claim(self, channel: str) -> tuple[int, int]:
        """For how many to claim, and what _deliver() is to be told of flushes; raises Busy during one."""
        with self._lock:
            if self._is_suspended():
                raise Busy
            return self._demand_here(channel), self._flushes

    def _claim_inline(self, channel: str) -> bool:
        """Claim in this thread if that is possible without waiting; False if the hub's thread has to."""
        transport = self._inline
        if transport is None or channel not in self._watched or self._hub.on_io_thread:
            return False
        if self._restoring:
            # What goes back to the front of a channel is older than what could be claimed now.
            return False
        exclusive = self._hub.publisher.exclusive
        if not exclusive.acquire(blocking=False):
            return False
        try:
            # Not before: whoever closes the transport has said so, and then has to wait for this.
            if not self._hub.is_open:
                return False
            demand, flushes = self._begin_claim(channel)
            if demand:
                self._deliver(transport.claim_now(channel, demand), flushes)
        except Busy:
            return False
        except TransportError as error:
            self._hub.publish_failed(error)
            return False
        finally:
            exclusive.release()
        return True

    def _claim_on_io(self, channels: Iterable[str]) -> None:
        with self._lock:
            self._pending.update(dict.fromkeys(channels))
        self._hub.on_io(self._work_now)

    def _deliver(self, claimed: Sequence[Claimed], flushes: int) -> None:
        """Hand over what was claimed, if there were no more flushes than so many since the node began."""
        if not claimed:
            return
        now, wall = self._hub.clock.monotonic(), self._hub.clock.wall()
        wakes: list[Waiter] = []
        with self._lock:
            router = self._hub.router
            if flushes != self._flushes:
                return
            for message in claimed:
                box = router.box(message.channel)
                waiter = router.admit(box, (message.expires_at - wall + now, message.body))
                if waiter is not None:
                    wakes.append(waiter)
            for channel in {message.channel for message in claimed}:
                box = router.box(channel)
                if not self._ahead or not box.signalled:
                    # It has just been claimed: what went back meanwhile is older.
                    self._put_back(box, len(self._restoring))
        self._hub.wake(wakes)

    # --- the hub's loop

    def _work_now(self) -> None:
        if self._hub.is_open and (self._work_task is None or self._work_task.done()):
            self._work_task = self._hub.spawn(self._work())

    def opened(self) -> None:
        """The transport was opened (again): tell it what to watch, and look at every channel."""
        self._watched = frozenset()
        if self._look_timer is not None:
            self._look_timer.cancel()  # it may be of a loop that has ended
            self._look_timer = None
        self._look_later()
        with self._lock:
            self._pending.update(dict.fromkeys(self._wanted))
            left = [suspension.ends - self._hub.clock.monotonic() for suspension in self._flushing]
        for seconds in left:
            self._look_again_in(max(0.0, seconds))  # the loop that was to do so may have ended
        self._work_now()

    async def _work(self) -> None:
        delay = 0.0
        while self._hub.is_open:
            with self._lock:
                if self._is_suspended():
                    break
                channels = list(self._pending)
                self._pending.clear()
                restores = bool(self._restoring)
            if not channels and not restores:
                # Whoever adds to these calls _work_now() afterwards, which finds this task done: nothing suspends here.
                break
            if await self._attempt(channels):
                delay = _RETRY
            else:
                await asyncio.sleep(delay := min(_RETRY_LATER, delay * 2 or _RETRY))

    async def _attempt(self, channels: list[str]) -> bool:
        """One round; False if something has to be tried again."""
        try:
            await self._restore()
            await self._watch()
            while channels:
                await self._claim_or_later(channels[0])
                channels.pop(0)
        except Exception as error:  # noqa: BLE001 - receivers wait for what this task brings
            with self._lock:
                self._pending = {**dict.fromkeys(channels), **self._pending}
            self._note(error)
            return False
        return True

    async def _claim_or_later(self, channel: str) -> None:
        try:
            # Claimed and delivered in one: a claim in another thread must not overtake this one in between.
            with self._hub.driver.entered():
                await self._claim(channel)
        except Busy:
            raise
        except Exception as error:  # noqa: BLE001 - receivers wait for what this task brings
            # It may be so with this channel alone: its queue may be on a machine that is down.
            self._note(error)
            self._delays[channel] = min(_RETRY_LATER, self._delays.get(channel, 0.0) * 2 or _RETRY)
            asyncio.get_running_loop().call_later(self._delays[channel], self._claim_on_io, [channel])
        else:
            self._delays.pop(channel, None)

    async def _restore(self) -> None:
        with self._lock:
            source = self._restoring  # a flush puts another list in its place
            restoring = list(source)
        if restoring:
            await self._hub.driver.drive(self._transport.restore, restoring)
            done = set(map(id, restoring))
            with self._lock:
                source[:] = [message for message in source if id(message) not in done]

    def _note(self, error: Exception) -> None:
        if isinstance(error, TransportError):
            self._hub.publish_failed(error)
        elif not isinstance(error, Busy):
            logger.error("channels_trunk: the transport failed in a way it should not", exc_info=error)

    async def pause(self, *, send_back: bool) -> None:
        """The connection ends: leave it alone, and with `send_back` first return what no receiver will take.

        What receivers were woken for stays where it is: they come to take it.
        """
        task = self._work_task
        if task is not None and not task.done():
            # Not cancelled at once: what is being claimed would be in nobody's hands.
            await asyncio.wait({task}, timeout=_SEND_BACK_WITHIN if send_back else 0)
            task.cancel()
            await asyncio.wait({task}, timeout=_SEND_BACK_WITHIN)
        if send_back:
            try:
                async with asyncio.timeout(_SEND_BACK_WITHIN):
                    await self._send_back()
            except (TransportError, TimeoutError) as error:
                logger.warning("messages of normal channels wait in this process until it connects again: %s", error)

    async def _send_back(self) -> None:
        with self._lock:
            for channel in self._wanted:
                if (box := self._hub.router.boxes.get(channel)) is not None:
                    self.give_back(box)
        while True:
            try:
                return await self._restore()
            except Busy:
                await asyncio.sleep(_RETRY)

    def taken(self) -> Container[str]:
        """The normal channels whose mailboxes may hold what receivers here were woken for; with the hub's lock held."""
        return self._wanted

    async def _claim(self, channel: str) -> None:
        demand, flushes = self._begin_claim(channel)
        if not demand:
            return
        limit = demand
        clock = self._hub.clock.monotonic
        if self._ahead:
            capacity = self._hub.options.capacity_of(channel)
            limit = self._stock.limit(channel, waiting=demand, capacity=capacity, now=clock())
        claimed = await self._hub.driver.watched(self._transport.claim, channel, limit)
        self._deliver(claimed, flushes)
        if self._ahead:
            with self._lock:
                box = self._hub.router.boxes.get(channel)
                if box is not None and len(claimed) > limit == demand:
                    # Jobs take long here: the others may be quicker.
                    self.give_back(box)
                lying = box is not None and box.surplus > 0
            self._stock.handed_over(channel, count=len(claimed), lying=lying, now=clock())
            self._look_later()

    def _look_later(self) -> None:
        if self._stock.lies and self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(BACK_AFTER, self._look_for_leftovers)

    def _look_for_leftovers(self) -> None:
        """What was claimed ahead and lies too long goes back; while the engine is away, receivers here may have it."""
        self._look_timer = None
        if self._hub.is_open:
            overdue = self._stock.overdue(self._hub.clock.monotonic())
            with self._lock:
                for channel in overdue:
                    if (box := self._hub.router.boxes.get(channel)) is not None:
                        self.give_back(box)
        self._look_later()

    async def _watch(self) -> None:
        with self._lock:
            wanted = frozenset(self._wanted)
            if wanted == self._watched:
                return
            # Before the call: a receiver that comes to a channel that is being given up must not claim in place and
            # then wait for rings that will not come, but join the queue here.
            self._watched &= wanted
        await self._hub.driver.drive(self._transport.watch, wanted)
        self._watched = wanted

    def sweep(self) -> None:
        """Stop watching channels that nobody receives from any more; on the hub's loop."""
        with self._lock:
            boxes = self._hub.router.boxes
            gone = {channel for channel in self._wanted if (box := boxes.get(channel)) is None or box.idle}
            self._wanted -= gone
        for channel in gone:
            self._stock.forget(channel)
            self._delays.pop(channel, None)
        if gone:
            self._hub.on_io(self._work_now)
