"""Claimed messages that nobody took: back to the front of their channels, by a priority above that of all others.

AMQP has no other way to the front for what was acknowledged. What finds its channel full waits here, where claims of
this node find it first, and is tried again.
"""

from collections import deque
from collections.abc import Sequence

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import Claimed, NodeContext

from .errors import AmqpError
from .link import Link
from .outgoing import Parcel, published
from .post import confirmed
from .publishing import Publication
from .settings import RabbitMQSettings
from .workers import Workers

__all__ = ["GivingBack"]


class GivingBack:
    """Outlives connections; everything runs on the hub's loop."""

    def __init__(self, context: NodeContext, settings: RabbitMQSettings) -> None:
        self._context = context
        self._settings = settings
        self._waiting: deque[Claimed] = deque()
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, channel: str, limit: int) -> list[Claimed]:
        """What waits here for this channel."""
        found = [message for message in self._waiting if message.channel == channel][:limit] if self._waiting else []
        for message in found:
            self._waiting.remove(message)
        return found

    def clear(self) -> None:
        """Forget what waits here."""
        self._waiting.clear()

    async def give(self, link: Link, workers: Workers, messages: Sequence[Claimed]) -> None:
        """Send them back; raises AmqpError if they have not left."""
        now = self._context.clock.wall()
        fresh = [message for message in messages if message.expires_at > now]
        await workers.declare(sorted({message.channel for message in fresh}))
        if link.connection.is_over:
            raise AmqpError("the connection was lost")
        try:
            outcome = await confirmed(link, [self._publication(message, now) for message in fresh])
        except AmqpError:
            # They are there, or they are not; sent once more they might be there twice.
            self._context.sink.gap("the connection ended while messages were given back to normal channels")
            return
        for index in outcome.lost:
            workers.forget(fresh[index].channel)
        self._waiting.extend(fresh[index] for index in sorted((*outcome.refused, *outcome.lost)))

    async def give_again(self, link: Link, workers: Workers) -> None:
        """Try what waits here once more."""
        if self._waiting:
            messages = list(self._waiting)
            self._waiting.clear()
            try:
                await self.give(link, workers, messages)
            except BaseException:
                self._waiting.extendleft(reversed(messages))
                raise

    def _publication(self, message: Claimed, now: float) -> Publication:
        self._number += 1
        envelope = Envelope(Kind.QUEUE, message.channel, message.expires_at, message.body)
        publication = published(
            Parcel(Kind.QUEUE, message.channel, [0]),
            [envelope],
            codec=self._context.codec,
            node=self._context.node,
            topology=self._settings.topology,
            now=now,
            number=self._number,
        )
        # Beside the numbers of what is published for the first time.
        identity = publication.properties.message_id + b".back"
        return publication._replace(properties=publication.properties._replace(priority=9, message_id=identity))
