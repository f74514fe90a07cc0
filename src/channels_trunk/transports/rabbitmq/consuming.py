"""Consumers of normal channels, and what they brought and nobody has claimed.

What is held here belongs to the broker still: if this process dies, others get it. So it costs no message to have some
at hand, only time, in which others could have had it. A process whose receivers come back quickly has as many as they
take at once; one whose receivers wait for a message, one; and one whose receivers are at work, none for long.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from .channel import Delivery
from .errors import AmqpError
from .lane import Lane
from .link import Link
from .rests import Rests

__all__ = ["Consuming", "prefetch_for"]

# What came and is not claimed for so many seconds is given back. A claim that comes later finds it in its queue again.
# Receivers that were quick are given more time: what goes back to others is overtaken by what they have.
_HOLD, _HOLD_MANY = 0.02, 0.05
# Looked at so often in that time: a machine that had no time for this process had none for its receivers either.
_LOOKS = 4
# How many a consumer may bring: to begin one anew is work for the broker, so there are few sizes.
_FEW, _MANY = 8, 64
# Of more bodies than this in one claim, nothing but the first is taken: what is lost with a process must be little.
_MOST_BYTES = 262_144


def prefetch_for(limit: int, *, present: int, capacity: int) -> int:
    """How many to have at hand where so many are claimed at a time; `present`: how many a consumer brings now.

    What is at hand does not count for the capacity, so it is an eighth of that at most.
    """
    if limit <= 1:
        return 1
    # Not at every change: a queue that is nearly empty has claims of four, then of ten.
    wanted = _MANY if limit > _FEW or (present > _FEW and limit >= _FEW // 2) else _FEW
    return max(1, min(wanted, capacity // 8))


class _Consumer:
    """Of one channel that receivers may wait at."""

    __slots__ = ("ended", "held", "is_asking", "keeps", "looks", "prefetch", "rest", "rests", "tags", "timer")

    def __init__(self) -> None:
        self.held: deque[Delivery] = deque()
        self.tags: list[str] = []
        """Its names at the broker: where it is to bring more, another one is added."""
        self.prefetch = 0
        """How many it may bring; 0 if there is none."""
        self.keeps = False
        """Whether what comes too late is held: other processes may have what is younger."""
        self.looks = 0
        """How often one has looked since the first of what is held came, or some was claimed by receivers that are
        quick."""
        self.is_asking = False
        """Whether a claim waits for the broker's answer: then it is not the receivers that are slow."""
        self.timer: asyncio.TimerHandle | None = None
        self.rests = Rests()
        self.rest: asyncio.TimerHandle | None = None
        """Until then the sink is not told of what came."""
        self.ended: asyncio.Future[Any] | None = None
        """The answer to the end of the latest."""


_NOBODY = _Consumer()


class Consuming:
    """Made for each connection; everything runs on the hub's loop."""

    def __init__(self, link: Link, *, gone: Callable[[Iterable[str]], None]) -> None:
        self._link = link
        self._tell_gone = gone  # of channels whose queues may be gone
        self._consumers: dict[str, _Consumer] = {}
        self._lane: Lane | None = None
        self._numbers = 0  # of consumers
        self._dropped: list[Delivery] | None = None  # while drop() is under way, what it is to have

    # --- what may be claimed

    async def open_lane(self) -> Lane:
        """The lane, with a new AMQP channel if the last was closed."""
        if self._lane is None or self._lane.is_closed:
            self._lane = Lane(await self._link.lane(), consumer_gone=self._gone, closed=self._closed)
        return self._lane

    async def take(self, lane: Lane, channel: str, limit: int) -> list[Delivery]:
        """What is to be acknowledged now, or given back; there may be more if a consumer is to bring it."""
        consumer = self._consumers.get(channel)
        if consumer is not None and consumer.prefetch:
            # What is there is here, or on its way.
            return [] if consumer.rest is not None else self._take_held(consumer, limit)
        if consumer is not None and consumer.ended is not None and not lane.is_closed:
            # What came too late for it is held, or back, before that is answered, and is not overtaken.
            await asyncio.wait({consumer.ended})
            consumer.ended = None
        if consumer is not None and consumer.held:
            return self._take_held(consumer, limit)
        return await lane.get(self._queue(channel), min(limit, _FEW))

    def _take_held(self, consumer: _Consumer, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        size = 0
        while consumer.held and len(taken) < limit:
            size += len(consumer.held[0].body)
            if taken and size > _MOST_BYTES:
                break
            taken.append(consumer.held.popleft())
        if taken:
            now = asyncio.get_running_loop().time()
            if limit > 1:
                consumer.looks = 0
            consumer.rests.claimed(len(taken), now=now, more=bool(consumer.held))
        return taken

    def follow(self, lane: Lane, channel: str, limit: int, *, enough: bool) -> None:
        """A claim of so many has taken what it got: have as many at hand as suits the pace of claims."""
        consumer = self._consumers.get(channel)
        if consumer is None:
            return
        prefetch = prefetch_for(limit, present=consumer.prefetch, capacity=self._link.context.capacity_of(channel))
        if prefetch > consumer.prefetch and not (enough and prefetch == 1):
            self._begin(lane, channel, consumer, prefetch)
        elif enough and (prefetch == 1 or prefetch < consumer.prefetch) and not consumer.held:
            # Else the receivers may only have waited for long: whether they are slow is seen in a moment, by _look().
            self._stop(lane, channel, consumer)
            consumer.keeps = True
        if consumer.held and consumer.rest is None and not enough:
            # There was too much for one claim.
            asyncio.get_running_loop().call_soon(self._link.context.sink.available, [channel])

    def leave(self, lane: Lane, channel: str, deliveries: Sequence[Delivery]) -> None:
        """What take() brought and the claim did not need: what was put back together is more than one."""
        consumer = self._consumers.get(channel)
        if consumer is not None and (consumer.tags or consumer.held) and deliveries:
            consumer.held.extendleft(reversed(deliveries))
            self._hold(lane, channel, consumer)
        else:
            lane.requeue(deliveries)

    @contextmanager
    def asking(self, channel: str) -> Iterator[None]:
        """While a claim waits for the broker's answer, nothing is held for too long."""
        consumer = self._consumers.get(channel, _NOBODY)
        consumer.is_asking = True
        try:
            yield
        finally:
            consumer.is_asking = False
            consumer.looks = 0

    def brings(self, channel: str) -> bool:
        """Whether a consumer is to bring the next message, and has not. Any thread."""
        consumer = self._consumers.get(channel)
        # In this order, opposite to that of _clear().
        return consumer is not None and (consumer.rest is not None or (not consumer.held and consumer.prefetch > 0))

    # --- consumers

    async def watch(self, channels: frozenset[str]) -> None:
        """These are the channels that claims may come for; a consumer begins with a claim."""
        for channel in set(self._consumers) - channels:
            await self.release(channel)
            del self._consumers[channel]
        for channel in channels - set(self._consumers):
            self._consumers[channel] = _Consumer()

    async def release(self, channel: str) -> None:
        """Give back what is held of this channel, and return when nothing more comes."""
        consumer, lane = self._consumers.get(channel), self._lane
        if consumer is not None and lane is not None and not lane.is_closed:
            self._stop(lane, channel, consumer)
            if consumer.ended is not None:
                await asyncio.wait({consumer.ended})

    async def drop(self) -> None:
        """Have what is held, and what is on its way to here; no consumer is left."""
        lane = self._lane
        if lane is None or lane.is_closed:
            return
        self._dropped = []
        try:
            for channel, consumer in self._consumers.items():
                self._stop(lane, channel, consumer)
            # When these are answered, all that was on its way is here.
            if ended := {consumer.ended for consumer in self._consumers.values() if consumer.ended is not None}:
                await asyncio.wait(ended)
            if not lane.is_closed:
                dropped, self._dropped = self._dropped, None
                await lane.acknowledge(dropped)
        finally:
            if self._dropped is not None:
                dropped, self._dropped = self._dropped, None
                lane.requeue(dropped)

    def _let_go(self, lane: Lane, deliveries: Iterable[Delivery]) -> None:
        """Nobody here is to have these."""
        if self._dropped is None:
            lane.requeue(deliveries)
        else:
            self._dropped += deliveries

    def _begin(self, lane: Lane, channel: str, consumer: _Consumer, prefetch: int) -> None:
        # One more, not another instead: what is on its way to a consumer that is ended may be overtaken.
        more = prefetch - consumer.prefetch
        self._numbers += 1
        consumer.tags.append(f"{self._numbers}.{channel}")
        consumer.prefetch = prefetch
        lane.consume(self._queue(channel), consumer.tags[-1], more, partial(self._came, lane, channel))

    def _stop(self, lane: Lane, channel: str, consumer: _Consumer) -> None:
        # In this order: what went back while a consumer is there would come to it again.
        for tag in consumer.tags:
            consumer.ended = lane.cancel(tag)
        self._let_go(lane, consumer.held)
        self._clear(consumer)
        # For a receiver that relied upon the consumer a moment ago.
        asyncio.get_running_loop().call_soon(self._link.context.sink.available, [channel])

    def _clear(self, consumer: _Consumer) -> None:
        consumer.tags.clear()
        consumer.prefetch = 0
        consumer.keeps = False
        consumer.held.clear()
        if consumer.rest is not None:
            consumer.rest.cancel()
            consumer.rest = None
        if consumer.timer is not None:
            consumer.timer.cancel()
            consumer.timer = None

    def _came(self, lane: Lane, channel: str, delivery: Delivery) -> None:
        consumer = self._consumers.get(channel)
        if consumer is None or not (consumer.prefetch or consumer.keeps):
            self._let_go(lane, [delivery])
            return
        consumer.held.append(delivery)
        if len(consumer.held) == 1:
            self._hold(lane, channel, consumer)
            self._announce(channel, consumer)
        elif len(consumer.held) == consumer.prefetch and consumer.rest is not None:
            # Nothing more comes.
            consumer.rest.cancel()
            self._tell(channel, consumer)

    def _announce(self, channel: str, consumer: _Consumer) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < consumer.rests.until:
            consumer.rest = loop.call_at(consumer.rests.until, self._tell, channel, consumer)
        else:
            # Behind what comes with it: whoever claims takes all that.
            self._tell(channel, consumer)

    def _tell(self, channel: str, consumer: _Consumer) -> None:
        consumer.rest = None
        self._link.context.sink.available([channel])

    def _hold(self, lane: Lane, channel: str, consumer: _Consumer) -> None:
        consumer.looks = 0
        self._look_later(lane, channel, consumer)

    def _look_later(self, lane: Lane, channel: str, consumer: _Consumer) -> None:
        if consumer.timer is None:
            pause = (_HOLD if consumer.prefetch == 1 else _HOLD_MANY) / _LOOKS
            consumer.timer = asyncio.get_running_loop().call_later(pause, self._look, lane, channel, consumer)

    def _look(self, lane: Lane, channel: str, consumer: _Consumer) -> None:
        """Give back what is held for too long."""
        consumer.timer = None
        if consumer.held:
            consumer.looks += not consumer.is_asking
            if consumer.looks < _LOOKS:
                self._look_later(lane, channel, consumer)
            else:
                self._stop(lane, channel, consumer)

    def _queue(self, channel: str) -> str:
        return self._link.settings.topology.channel_queue_name(channel)

    # --- what the broker says

    def _gone(self, tag: str) -> None:
        """The broker ended a consumer: its queue was deleted, or the queue's node has gone."""
        channel = tag.partition(".")[2]
        self._tell_gone([channel])
        consumer = self._consumers.get(channel)
        if consumer is not None and tag in consumer.tags:
            if self._lane is not None:
                # They may be nowhere any more, but what is neither had nor given back is counted for ever.
                self._lane.requeue(consumer.held)
            self._clear(consumer)
        self._link.context.sink.available([channel])

    def _closed(self, _error: AmqpError) -> None:
        """A queue was not there; what was not acknowledged is back at the others."""
        self._tell_gone(self._consumers)
        for consumer in self._consumers.values():
            self._clear(consumer)
        if not self._link.connection.is_over:
            self._link.context.sink.available(sorted(self._consumers))
