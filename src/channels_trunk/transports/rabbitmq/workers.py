"""Normal channels over one connection: declared on first use, claimed by get, and watched by a consumer when empty.

A message is acknowledged, and the broker has said that it knows, before it is handed to a receiver: so nobody gets one
twice. If the connection is lost in between, what is being claimed may be lost, and that is said.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from channels_trunk.aside import logger
from channels_trunk.codec import Slot, slot_of_channel
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import DecodeError
from channels_trunk.transports.base import Claimed
from channels_trunk.transports.frames import envelopes_in

from .channel import Delivery
from .consuming import Consuming
from .inbox import envelope_of_plain
from .lane import Lane
from .ledger import Ledger
from .link import Link
from .topology import FRAME_TYPE

__all__ = ["RENEWALS", "Workers"]

# Who has used more of them lately gives each a name of its own: a queue that is declared again is only found there.
_MOST_REMEMBERED = 10_000
# A queue that is used is renewed so often in the time in which it would expire: what was sent last has most of that.
RENEWALS = 4


class Workers:
    """Made for each connection; everything runs on the hub's loop."""

    def __init__(
        self, link: Link, ledger: Ledger, *, complained: set[str], gone: Callable[[], None] = lambda: None
    ) -> None:
        self._link = link
        self._ledger = ledger
        self._complained = complained
        self._tell_gone = gone  # that queues may be gone, and what was bound to them
        # Of queues that are there and noted, until when nobody has to renew them; monotonic seconds.
        self._until: dict[str, float] = {}
        self._renew_after = link.settings.topology.queue_expires / RENEWALS
        self._consuming = Consuming(link, gone=self._may_be_gone)

    # --- queues

    async def declare(self, channels: Iterable[str]) -> None:
        """See to it that there are queues for these channels, which do not expire soon."""
        for channel in channels:
            if not self.has_declared(channel):
                until = self._link.context.clock.monotonic() + self._renew_after
                await self.renew(channel)
                await self._ledger.note_channels([channel])
                if len(self._until) >= _MOST_REMEMBERED:
                    self._until.clear()
                self._until[channel] = until

    def has_declared(self, channel: str) -> bool:
        """Whether its queue is there, as far as can be known, and will not expire soon. Any thread.

        Asked for each message, and so without a look at the clock: that is what look_after() is for.
        """
        return channel in self._until

    def look_after(self) -> None:
        """Whoever uses a queue next whose time is over renews it."""
        now = self._link.context.clock.monotonic()
        for channel in [channel for channel, until in self._until.items() if until <= now]:
            del self._until[channel]

    async def renew(self, channel: str) -> None:
        """Declare its queue whether it is there or not; its time to expire begins anew so."""
        spec = self._link.settings.topology.channel_queue(channel, self._link.context.capacity_of(channel))
        if not await self._link.declare(spec) and channel not in self._complained:
            self._complained.add(channel)
            logger.warning(
                "RabbitMQ queue %s was made with other options (capacity, expiry, queue_type or durable); they hold "
                "until it is deleted, or expires because nobody uses it",
                spec.name,
            )
        if self._link.settings.topology.queue_type == "quorum":
            await self._link.renew(spec.name)

    def forget(self, channel: str) -> None:
        """Its queue is gone."""
        self._may_be_gone([channel])

    def _may_be_gone(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self._until.pop(channel, None)
        self._tell_gone()

    # --- claiming

    async def claim(self, channel: str, limit: int) -> list[Claimed]:
        """Take messages, more than asked for if some have to be taken together.

        If there are too few, the sink is told when more come.
        """
        await self.declare([channel])
        found: list[Claimed] = []
        while not found:
            lane = await self._consuming.open_lane()
            taken = await self._consuming.take(lane, channel, limit)
            found, count = self._read(channel, taken, limit)
            self._consuming.follow(lane, channel, limit, enough=count < len(taken) or count >= limit)
            self._consuming.leave(lane, channel, taken[count:])
            if not taken:
                break
            with self._consuming.asking(channel):
                await self._acknowledge(lane, channel, taken[:count])
        return found

    async def _acknowledge(self, lane: Lane, channel: str, taken: Sequence[Delivery]) -> None:
        try:
            await asyncio.shield(lane.acknowledge(taken))
        except BaseException:
            self._link.context.sink.gap(f"the connection ended while messages of channel {channel} were being taken")
            raise

    def _read(self, channel: str, taken: Sequence[Delivery], limit: int) -> tuple[list[Claimed], int]:
        """What is in as many deliveries as are enough, and how many those are."""
        now = self._link.context.clock.wall()
        found: list[Claimed] = []
        for count, delivery in enumerate(taken):
            if len(found) >= limit:
                return found, count
            try:
                found += [
                    Claimed(channel, envelope.expires_at, envelope.body)
                    for envelope in self._envelopes(channel, delivery)
                    if envelope.expires_at > now
                ]
            except DecodeError as error:
                self._link.context.sink.skipped(error)
        return found, len(taken)

    def _envelopes(self, channel: str, delivery: Delivery) -> Sequence[Envelope]:
        if delivery.properties.content_type == FRAME_TYPE:
            return envelopes_in(self._link.context, delivery.body, _slot(channel, delivery))
        return [envelope_of_plain(delivery.body, self._link.context, self._link.settings)]

    # --- watching

    def brings(self, channel: str) -> bool:
        """Whether the sink will be told of the next message, and nothing is to be claimed before. Any thread."""
        return self._consuming.brings(channel)

    async def release(self, channel: str) -> None:
        """Give back what is at hand of this channel, and is not claimed."""
        await self._consuming.release(channel)

    async def drop(self) -> None:
        """Forget what is at hand, and is not claimed."""
        await self._consuming.drop()

    async def watch(self, channels: frozenset[str]) -> None:
        """These are the channels that claims may come for."""
        await self._consuming.watch(channels)


def _slot(channel: str, delivery: Delivery) -> Slot:
    """What may be in the queue of a normal channel: its own messages, and those of groups that it is bound to."""
    if delivery.is_direct:
        return slot_of_channel(channel)
    return {Kind.QUEUE: channel, Kind.GROUP: delivery.routing_key.decode("ascii", "replace")}
