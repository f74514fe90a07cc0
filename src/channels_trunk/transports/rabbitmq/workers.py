"""Normal channels over one connection: declared on first use, claimed by get, and watched by a consumer when empty.

A message is acknowledged, and the broker has said that it knows, before it is handed to a receiver: so nobody gets one
twice. If the connection is lost in between, what is being claimed may be lost, and that is said.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import DecodeError
from channels_trunk.transports.base import Claimed

from .channel import Channel, Delivery
from .errors import AmqpError
from .inbox import envelope_of_plain
from .ledger import Ledger
from .link import Link
from .topology import FRAME_TYPE

__all__ = ["Workers"]

logger = logging.getLogger("channels_trunk")

# A message that came for a receiver that has gone meanwhile is given back after so many seconds. A claim that comes
# later finds it in its queue again.
_HOLD = 0.02


class _Watch:
    """What the transport does about one channel for as long as receivers may wait there."""

    __slots__ = ("held", "is_consuming", "timer")

    def __init__(self) -> None:
        self.held: deque[Delivery] = deque()
        self.is_consuming = False
        self.timer: asyncio.TimerHandle | None = None


class Workers:
    """Made for each connection; everything runs on the hub's loop."""

    def __init__(self, link: Link, ledger: Ledger, *, noted: set[str], complained: set[str]) -> None:
        self._link = link
        self._ledger = ledger
        self._noted = noted  # channels that this node has noted in the ledger
        self._complained = complained
        self._declared: set[str] = set()
        self._watches: dict[str, _Watch] = {}
        self._lane: Channel | None = None

    # --- queues

    async def declare(self, channels: Iterable[str]) -> None:
        """See to it that there are queues for these channels."""
        for channel in channels:
            if channel not in self._declared:
                await self._declare(channel)
                self._declared.add(channel)

    def has_declared(self, channel: str) -> bool:
        """Whether its queue is there, as far as can be known. Any thread."""
        return channel in self._declared

    async def _declare(self, channel: str) -> None:
        spec = self._link.settings.topology.channel_queue(channel, self._link.context.capacity_of(channel))
        if not await self._link.declare(spec) and channel not in self._complained:
            self._complained.add(channel)
            logger.warning(
                "RabbitMQ queue %s was made with other options (capacity, expiry, queue_type or durable); they hold "
                "until it is deleted, or expires because nobody uses it",
                spec.name,
            )
        if channel not in self._noted:
            await self._ledger.note_channel(channel)
            self._noted.add(channel)

    def forget(self, channel: str) -> None:
        """Its queue is gone."""
        self._declared.discard(channel)

    # --- claiming

    async def claim(self, channel: str, limit: int) -> list[Claimed]:
        """Take messages; if there are too few, have the sink told when more come."""
        await self.declare([channel])
        found: list[Claimed] = []
        while len(found) < limit:
            taken = await self._take(channel, limit - len(found))
            if not taken:
                break
            found += self._read(channel, taken)
        await self._follow(channel, satisfied=len(found) >= limit)
        return found

    async def _take(self, channel: str, limit: int) -> list[Delivery]:
        lane = await self._open_lane()
        watch = self._watches.get(channel)
        taken: list[Delivery] = []
        if watch is not None and watch.is_consuming:
            # What is there is here, or on its way.
            while watch.held and len(taken) < limit:
                taken.append(watch.held.popleft())
            self._rest(watch)
        else:
            taken = await self._get(lane, channel, limit)
        if taken:
            for delivery in taken:
                lane.ack(delivery.tag)
            await self._settled(lane, channel)
        return taken

    async def _get(self, lane: Channel, channel: str, limit: int) -> list[Delivery]:
        queue = self._link.settings.topology.channel_queue_name(channel)
        answers = [lane.get(queue) for _ in range(limit)]
        try:
            return [delivery for answer in answers if (delivery := await answer) is not None]
        except BaseException:
            for answer in answers:
                # What has come goes back; what still comes does so by itself.
                if not answer.cancel() and not answer.cancelled() and answer.exception() is None and answer.result():
                    lane.requeue(answer.result().tag)
            raise

    async def _settled(self, lane: Channel, channel: str) -> None:
        """Return when the broker knows what was acknowledged: it answers in order."""
        try:
            await asyncio.shield(lane.limit(1))
        except BaseException:
            self._link.context.sink.gap(f"the connection ended while messages of channel {channel} were being taken")
            raise

    def _read(self, channel: str, taken: Sequence[Delivery]) -> list[Claimed]:
        now = self._link.context.clock.wall()
        found: list[Claimed] = []
        for delivery in taken:
            try:
                found += [
                    Claimed(channel, envelope.expires_at, envelope.body)
                    for envelope in self._envelopes(delivery)
                    if envelope.expires_at > now
                ]
            except DecodeError as error:
                self._link.context.sink.skipped(error)
        return found

    def _envelopes(self, delivery: Delivery) -> Sequence[Envelope]:
        if delivery.properties.content_type == FRAME_TYPE:
            return self._link.context.codec.decode_frame(delivery.body)[1]
        return [envelope_of_plain(delivery.body, self._link.context, self._link.settings)]

    # --- watching

    async def watch(self, channels: frozenset[str]) -> None:
        """These are the channels that claims may come for; a consumer begins with a claim that found too little."""
        for channel in set(self._watches) - channels:
            await self._follow(channel, satisfied=True)
            del self._watches[channel]
        for channel in channels - set(self._watches):
            self._watches[channel] = _Watch()

    async def _follow(self, channel: str, *, satisfied: bool) -> None:
        watch = self._watches.get(channel)
        if watch is None:
            return
        if satisfied:
            await self._stop(channel, watch)
        elif not watch.is_consuming:
            watch.is_consuming = True
            lane = await self._open_lane()
            await lane.limit(1)
            queue = self._link.settings.topology.channel_queue_name(channel)
            await lane.consume(queue, channel, lambda delivery: self._came(lane, channel, delivery))

    async def _stop(self, channel: str, watch: _Watch) -> None:
        if not watch.is_consuming:
            return
        held = list(watch.held)
        watch.held.clear()
        watch.is_consuming = False
        self._rest(watch)
        await self._end_consumer(await self._open_lane(), channel, held)

    def _end_consumer(self, lane: Channel, channel: str, held: Sequence[Delivery]) -> "asyncio.Future[Any]":
        # In this order: what went back while the consumer is there would come to it again, and a get() that follows
        # would find what is behind it.
        ended = lane.cancel(channel)
        for delivery in held:
            lane.requeue(delivery.tag)
        return ended

    def _rest(self, watch: _Watch) -> None:
        if watch.timer is not None and not watch.held:
            watch.timer.cancel()
            watch.timer = None

    def _came(self, lane: Channel, channel: str, delivery: Delivery) -> None:
        watch = self._watches.get(channel)
        if watch is None or not watch.is_consuming:
            lane.requeue(delivery.tag)
            return
        watch.held.append(delivery)
        if watch.timer is None:
            watch.timer = asyncio.get_running_loop().call_later(_HOLD, self._unwanted, lane, channel, watch)
        self._link.context.sink.available([channel])

    def _unwanted(self, lane: Channel, channel: str, watch: _Watch) -> None:
        watch.timer = None
        if watch.held and watch.is_consuming:
            held = list(watch.held)
            watch.held.clear()
            watch.is_consuming = False
            self._end_consumer(lane, channel, held)

    # --- the channel for all this

    async def _open_lane(self) -> Channel:
        if self._lane is None or self._lane.error is not None:
            self._lane = lane = await self._link.lane()
            lane.on_cancelled = self._consumer_gone
            lane.on_closed = self._lane_closed
        return self._lane

    def _consumer_gone(self, channel: str) -> None:
        """The broker ended a consumer: its queue was deleted, or the queue's node has gone."""
        self.forget(channel)
        if (watch := self._watches.get(channel)) is not None:
            watch.held.clear()
            watch.is_consuming = False
            self._rest(watch)
        self._link.context.sink.available([channel])

    def _lane_closed(self, error: AmqpError) -> None:
        """A queue was not there; what was not acknowledged is back at the others."""
        self._declared.clear()
        for watch in self._watches.values():
            watch.held.clear()
            watch.is_consuming = False
            self._rest(watch)
        if not self._link.connection.is_over:
            self._link.context.sink.available(sorted(self._watches))
