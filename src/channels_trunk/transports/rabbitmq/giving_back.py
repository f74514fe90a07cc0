"""Claimed messages that nobody took: back to the front of their channels, by a priority above that of all others.

AMQP has no other way to the front for what was acknowledged. Those of one channel go back as one message: one by
one, and claimed again in part, they would come to stand in the wrong order. What finds its channel full, or out of
reach, waits here, where claims of this node find it first, and is tried again.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import Busy, Claimed, NodeContext

from .errors import AmqpError
from .link import Link
from .outgoing import Parcel, published
from .post import confirmed
from .publishing import Publication
from .settings import RabbitMQSettings
from .workers import Workers

__all__ = ["GivingBack", "blocks_of"]

_UNKNOWN = "the connection ended while messages were given back to normal channels"
_MOST_BYTES = 1_048_576


class GivingBack:
    """Outlives connections; everything runs on the hub's loop."""

    def __init__(self, context: NodeContext, settings: RabbitMQSettings) -> None:
        self._context = context
        self._settings = settings
        self._waiting: deque[Claimed] = deque()
        self._left: dict[int, Claimed] = {}  # what a call that was cancelled had sent
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, channel: str, limit: int | None = None) -> list[Claimed]:
        """What waits here for this channel, or so much of it."""
        found = [message for message in self._waiting if message.channel == channel][:limit] if self._waiting else []
        for message in found:
            self._waiting.remove(message)
        return found

    async def drop(self, link: Link) -> None:
        """Forget what waits here, or is just being tried again."""
        async with link.giving_back:
            self._waiting.clear()

    async def give(self, link: Link, workers: Workers, messages: Sequence[Claimed]) -> None:
        """Send them back; raises AmqpError or Busy if they have not left."""
        if link.connection.blocked:
            raise Busy
        messages = self._not_left(messages)
        channels = await self._reached(link, workers, {message.channel: None for message in messages})
        if link.publisher.error is not None:
            raise link.publisher.error.another()
        now = self._context.clock.wall()
        # What waits here is younger, too, and must not be the first to go.
        waiting = [message for channel in channels for message in self.take(channel)]
        self._waiting.extend(message for message in messages if message.channel not in channels)
        together = [*(message for message in messages if message.channel in channels), *waiting]
        most = min(_MOST_BYTES, link.limit.refused / 2)
        blocks = blocks_of([message for message in together if message.expires_at > now], most)
        if not blocks:
            return
        try:
            outcome = await confirmed(link, [self._publication(block, now) for block in blocks])
        except (AmqpError, TransportUnavailable):
            # They are there, or they are not, or will be when the broker takes messages again; sent once more they
            # might be there twice.
            self._context.sink.gap(_UNKNOWN)
            return
        except asyncio.CancelledError:
            self._left.update((id(message), message) for message in messages)
            self._context.sink.gap(_UNKNOWN)
            raise
        for index in outcome.lost:
            workers.forget(blocks[index][0].channel)
        for index in sorted((*outcome.refused, *outcome.lost, *outcome.too_large)):
            if index in outcome.too_large and len(blocks[index]) == 1:
                self._context.sink.gap(f"of a message that could not be given back: {link.limit.remedy(link.address)}")
            else:
                self._waiting.extend(blocks[index])

    async def _reached(self, link: Link, workers: Workers, channels: Iterable[str]) -> list[str]:
        """Those that take messages now: the queue of another may be on a node of a cluster that is down."""
        reached: list[str] = []
        for channel in channels:
            try:
                await workers.declare([channel])
                # What is at hand here is younger.
                await workers.release(channel)
            except AmqpError:
                if link.connection.is_over:
                    raise
            else:
                reached.append(channel)
        return reached

    def _not_left(self, messages: Sequence[Claimed]) -> list[Claimed]:
        """Without those that a call which was cancelled has sent; the same objects, not equal ones."""
        return [message for message in messages if self._left.pop(id(message), None) is None]

    async def give_again(self, link: Link, workers: Workers) -> None:
        """Try what waits here once more."""
        async with link.giving_back:
            if self._waiting and not link.connection.blocked:
                messages = list(self._waiting)
                self._waiting.clear()
                try:
                    await self.give(link, workers, messages)
                except BaseException:
                    self._waiting.extendleft(reversed(self._not_left(messages)))
                    raise

    def _publication(self, block: Sequence[Claimed], now: float) -> Publication:
        self._number += 1
        channel = block[0].channel
        envelopes = [Envelope(Kind.QUEUE, channel, message.expires_at, message.body) for message in block]
        publication = published(
            Parcel(Kind.QUEUE, channel, list(range(len(block)))),
            envelopes,
            codec=self._context.codec,
            node=self._context.node,
            topology=self._settings.topology,
            now=now,
            number=self._number,
        )
        # Beside the numbers of what is published for the first time.
        identity = publication.properties.message_id + b".back"
        return publication._replace(properties=publication.properties._replace(priority=9, message_id=identity))


def blocks_of(messages: Sequence[Claimed], most: float = _MOST_BYTES) -> list[list[Claimed]]:
    """What goes back as one message each: of one channel, in order, and not larger than a broker takes."""
    blocks: list[list[Claimed]] = []
    latest: dict[str, tuple[list[Claimed], int]] = {}
    for message in messages:
        block, size = latest.get(message.channel, ([], 0))
        size += len(message.body)
        if not block or size > most:
            block, size = [], len(message.body)
            blocks.append(block)
        block.append(message)
        latest[message.channel] = block, size
    return blocks
