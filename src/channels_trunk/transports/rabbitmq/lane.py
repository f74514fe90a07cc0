"""The AMQP channel for normal channels: gets, consumers, and what is said of the messages that they bring."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .channel import Channel, Delivery
from .errors import AmqpError
from .tags import Tags
from .wire import Method, method

__all__ = ["Lane"]

_MULTIPLE, _REQUEUE = 1, 2
_pack_word = struct.Struct(">QB").pack


class Lane:
    """Everything runs on the hub's loop; when its AMQP channel is closed, another one takes its place."""

    def __init__(
        self, channel: Channel, *, consumer_gone: Callable[[str], None], closed: Callable[[AmqpError], None]
    ) -> None:
        self._channel = channel
        self._tags = Tags()
        channel.on_messages = self.requeue  # of a consumer that has ended, or of a get that was given up
        channel.on_cancelled = consumer_gone
        channel.on_closed = closed

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be asked of it any more, and all that it brought is back in the queues."""
        return self._channel.error is not None

    async def get(self, queue: str, limit: int) -> list[Delivery]:
        """Take up to so many messages, now."""
        answers = [self._channel.get(queue) for _ in range(limit)]
        try:
            return [delivery for answer in answers if (delivery := await answer) is not None]
        except BaseException:
            for answer in answers:
                # What has come goes back, as does what still comes.
                if not answer.cancel() and not answer.cancelled() and answer.exception() is None and answer.result():
                    self.requeue([answer.result()])
            raise

    def consume(self, queue: str, tag: str, prefetch: int, receive: Callable[[Delivery], None]) -> None:
        """Have up to so many messages delivered that are neither acknowledged nor given back.

        `tag` was not used before: a channel of RabbitMQ before 3.11 may end of a second consumer of a quorum queue with
        the same one.
        """
        self._channel.limit(prefetch)
        self._channel.consume_unanswered(queue, tag, receive)

    def cancel(self, tag: str) -> "asyncio.Future[Any]":
        """Undo consume(); when it is answered, nothing more comes."""
        answer = self._channel.cancel(tag)
        answer.add_done_callback(lambda _: self._channel.consumers.pop(tag, None))
        return answer

    def acknowledge(self, deliveries: Sequence[Delivery]) -> "asyncio.Future[Any]":
        """Have messages; the answer comes when the broker knows: it answers in order."""
        number = self._channel.number
        words = self._tags.settle([delivery.tag for delivery in deliveries])
        # Sent as one: each packet wakes the broker.
        acks = b"".join(method(number, Method.BASIC_ACK, _pack_word(word.tag, word.multiple)) for word in words)
        return self._channel.limit(1, before=acks)

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """Give messages back to where they were."""
        for word in self._tags.settle([delivery.tag for delivery in deliveries]):
            bits = _REQUEUE | (_MULTIPLE if word.multiple else 0)
            self._channel.tell(Method.BASIC_NACK, _pack_word(word.tag, bits))
