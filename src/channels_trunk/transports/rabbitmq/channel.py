"""One AMQP channel: requests and their answers in order, messages in, and confirms."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .answers import Answered, Answers
from .errors import AmqpError, read_close
from .frames import Frame
from .publishing import Batch, Confirms, Publication
from .topology import QueueSpec
from .wire import (
    BODY,
    HEADER,
    METHOD,
    Malformed,
    Method,
    Piece,
    Properties,
    content,
    method,
    read_content_header,
    read_declared,
    read_delivery,
    read_index,
    read_settled,
    read_short,
    short,
    table,
)

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Channel", "Delivery"]

# What has to do with messages, confirms and joins alone.
_LIGHT = frozenset(
    (Method.BASIC_DELIVER, Method.BASIC_RETURN, Method.BASIC_ACK, Method.BASIC_NACK, Method.QUEUE_BIND_OK)
)
_NO_TABLE = b"\x00\x00\x00\x00"
_NO_WAIT = b"\x08"  # of a consume
_REQUEUE = 2  # of a nack


class Delivery(NamedTuple):
    """A message that has come in."""

    tag: int
    is_redelivered: bool
    routing_key: bytes
    properties: Properties
    body: bytes
    is_direct: bool = False
    """Whether it was published to its queue, and not to an exchange."""


class Channel:
    """Made by Connection.channel(). Everything runs on the connection's loop, unless its text says otherwise."""

    def __init__(self, connection: "Connection", number: int, *, anywhere: bool = False) -> None:
        self.number = number
        self.error: AmqpError | None = None  # why it is closed
        self.on_messages: Callable[[Sequence[Delivery]], None] | None = None
        """To be given what no consumer's own function takes, and what was asked for and is not wanted any more."""
        self.on_cancelled: Callable[[str], None] | None = None
        self.on_closed: Callable[[AmqpError], None] | None = None
        self.consumers: dict[str, Callable[[Delivery], None]] = {}
        self._connection = connection
        self._anywhere = anywhere
        self._answers = Answers()
        self._inbox: list[Delivery] = []
        self._head = b""  # of the message that is coming in
        self._properties = Properties()
        self._missing = 0
        self._pieces: list[bytes] = []
        self._confirms = Confirms()

    # --- requests

    def request(self, number: int, arguments: bytes = b"", *, before: Piece = b"") -> "asyncio.Future[Any]":
        """Send a method and return its answer to come; requests need not wait for each other.

        `before` is what to send just before.
        """
        answer: asyncio.Future[Any] = self._connection.loop.create_future()
        settle = self._settle_from_anywhere if self._anywhere else self._settle
        if not self.ask(number, arguments, partial(settle, answer), before=before):
            answer.set_exception(self._why_closed())
            answer.exception()
        return answer

    def ask(self, number: int, arguments: bytes, answered: Answered, *, before: Piece = b"") -> bool:
        """As request(), in any thread; `before` is what to send just before. False if the channel is closed."""
        sent = (before, method(self.number, number, arguments)) if before else (method(self.number, number, arguments),)
        return self._connection.write(*sent, first=partial(self._answers.expect, number, answered))

    def _settle_from_anywhere(self, answer: "asyncio.Future[Any]", result: Any, error: AmqpError | None) -> None:
        self._connection.in_loop(self._settle, answer, result, error)

    def _settle(self, answer: "asyncio.Future[Any]", result: Any, error: AmqpError | None) -> None:
        if answer.done():
            if isinstance(result, Delivery) and self.on_messages is not None:
                # Whoever asked for a message has given up.
                self.on_messages([result])
        elif error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
            answer.exception()

    def tell(self, number: int, arguments: bytes) -> None:
        """Send a method that has no answer. Any thread."""
        if self.error is None:
            self._connection.write(method(self.number, number, arguments))

    async def declare_exchange(self, name: str, kind: str, *, auto_delete: bool, passive: bool = False) -> None:
        """Make an exchange that goes with the broker, and with `auto_delete` with the last queue bound to it.

        With `passive` look whether it is there, however it was made.
        """
        bits = passive | (auto_delete << 2)
        await self.request(
            Method.EXCHANGE_DECLARE, b"\x00\x00" + short(name) + short(kind) + bytes((bits,)) + _NO_TABLE
        )

    def delete_unused_exchange(self, name: str) -> "asyncio.Future[Any]":
        """Remove an exchange, if it is there; PRECONDITION_FAILED if a queue is bound to it."""
        return self.request(Method.EXCHANGE_DELETE, b"\x00\x00" + short(name) + b"\x01")

    async def declare_queue(self, spec: QueueSpec, *, passive: bool = False) -> tuple[int, int]:
        """Make a queue, or with `passive` look whether it is there; return its messages and consumers."""
        bits = passive | (spec.durable << 1) | (spec.exclusive << 2)
        arguments = _NO_TABLE if passive else table(spec.arguments)
        found: tuple[int, int] = await self.request(
            Method.QUEUE_DECLARE, b"\x00\x00" + short(spec.name) + bytes((bits,)) + arguments
        )
        return found

    def bind(self, queue: str, exchange: str, key: str) -> "asyncio.Future[Any]":
        """Bind a queue."""
        names = short(queue) + short(exchange) + short(key)
        return self.request(Method.QUEUE_BIND, b"\x00\x00" + names + b"\x00" + _NO_TABLE)

    def unbind(self, queue: str, exchange: str, key: str) -> "asyncio.Future[Any]":
        """Undo bind()."""
        names = short(queue) + short(exchange) + short(key)
        return self.request(Method.QUEUE_UNBIND, b"\x00\x00" + names + _NO_TABLE)

    def bind_all(self, queue: str, exchange: str, keys: Sequence[str], answered: Answered) -> bool:
        """Bind a queue by each key, in any thread; the answer to the last is that to all. As ask()."""
        names = b"\x00\x00" + short(queue) + short(exchange)
        no_wait = [
            method(self.number, Method.QUEUE_BIND, names + short(key) + b"\x01" + _NO_TABLE) for key in keys[:-1]
        ]
        last = names + short(keys[-1]) + b"\x00" + _NO_TABLE
        return self.ask(Method.QUEUE_BIND, last, answered, before=b"".join(no_wait))

    def unbind_all(self, queue: str, exchange: str, keys: Sequence[str]) -> "asyncio.Future[Any]":
        """Undo bind_all(); AMQP answers each."""
        return [self.unbind(queue, exchange, key) for key in keys][-1]

    def purge(self, queue: str) -> "asyncio.Future[Any]":
        """Empty a queue."""
        return self.request(Method.QUEUE_PURGE, b"\x00\x00" + short(queue) + b"\x00")

    def delete(self, queue: str) -> "asyncio.Future[Any]":
        """Remove a queue, if it is there."""
        return self.request(Method.QUEUE_DELETE, b"\x00\x00" + short(queue) + b"\x00")

    def limit(self, prefetch: int, *, before: Piece = b"") -> "asyncio.Future[Any]":
        """How many messages a consumer that begins after this may have unacknowledged; 0 for any number."""
        return self.request(Method.BASIC_QOS, struct.pack(">IHB", 0, prefetch, 0), before=before)

    def consume(
        self, queue: str, tag: str, receive: Callable[[Delivery], None] | None = None, *, exclusive: bool = False
    ) -> "asyncio.Future[Any]":
        """Have messages delivered, to `receive` or else to `on_messages`."""
        if receive is not None:
            self.consumers[tag] = receive
        bits = bytes((exclusive << 2,))
        return self.request(Method.BASIC_CONSUME, b"\x00\x00" + short(queue) + short(tag) + bits + _NO_TABLE)

    def consume_unanswered(self, queue: str, tag: str, receive: Callable[[Delivery], None]) -> None:
        """As consume(), for a consumer that may be cancelled at once.

        A queue at another node of a cluster answers by itself, and if the answer comes after the cancel, the channel
        process of RabbitMQ 3.10 ends (`badkey` in `rabbit_channel:consumer_monitor`), and the connection with it.
        """
        self.consumers[tag] = receive
        self.tell(Method.BASIC_CONSUME, b"\x00\x00" + short(queue) + short(tag) + _NO_WAIT + _NO_TABLE)

    def cancel(self, tag: str) -> "asyncio.Future[Any]":
        """Undo consume(); what is on its way still comes."""
        return self.request(Method.BASIC_CANCEL, short(tag) + b"\x00")

    def get(self, queue: str) -> "asyncio.Future[Any]":
        """Take one message; the answer is a Delivery, or None if the queue is empty."""
        return self.request(Method.BASIC_GET, b"\x00\x00" + short(queue) + b"\x00")

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Say that a message has been taken. Any thread."""
        self.tell(Method.BASIC_ACK, struct.pack(">QB", tag, multiple))

    def give_back(self, tag: int) -> None:
        """Undo the taking of a message: it is where it was."""
        self.tell(Method.BASIC_NACK, struct.pack(">QB", tag, _REQUEUE))

    async def close(self) -> None:
        """Close it; the number may be used again afterwards."""
        if self.error is None:
            await self.request(Method.CHANNEL_CLOSE, struct.pack(">H", 200) + short("") + b"\x00\x00\x00\x00")
            self.ended(AmqpError("the channel was closed"))

    # --- publishing

    def publish(self, publications: Sequence[Publication]) -> "asyncio.Future[Batch]":
        """Send messages; the answer comes when the broker has confirmed them all."""
        done: asyncio.Future[Batch] = self._connection.loop.create_future()
        if not self.start(publications, lambda batch: self._connection.in_loop(_tell, done, batch)):
            done.set_exception(self._why_closed())
            done.exception()  # whoever publishes may give up
        return done

    def start(self, publications: Sequence[Publication], finish: Callable[[Batch], None]) -> bool:
        """As publish(), in any thread; `finish` is called in any, too. False if the channel is closed."""
        batch = Batch(len(publications), finish)
        if not publications:
            finish(batch)
            return True
        frames = [piece for publication in publications for piece in self._content(publication)]
        return self._connection.write(*frames, first=lambda: self._confirms.expect(batch, publications))

    def unconfirmed(self) -> list[Batch]:
        """What the broker has not confirmed."""
        return self._confirms.waiting()

    def give_up(self, batches: Sequence[Batch], error: TransportUnavailable) -> None:
        """Wait no more for the confirms of these."""
        for batch in batches:
            if self._confirms.give_up(batch):
                batch.error = error
                batch.finish(batch)

    def _why_closed(self) -> AmqpError:
        return AmqpError("the channel is closed") if self.error is None else self.error.another()

    def _content(self, publication: Publication) -> list[Piece]:
        names = short(publication.exchange) + short(publication.routing_key)
        head = method(
            self.number, Method.BASIC_PUBLISH, b"\x00\x00" + names + (b"\x01" if publication.must_arrive else b"\x00")
        )
        frame_max = self._connection.frame_max
        return content(self.number, head, publication.properties, publication.body, frame_max)

    def _confirm(self, payload: bytes, *, refused: bool) -> None:
        number, bits = read_settled(payload)
        for batch in self._confirms.confirm(number, multiple=bool(bits & 1), refused=refused):
            batch.finish(batch)

    # --- what comes in

    def takes_here(self, frame: Frame) -> bool:
        """Whether any thread may call heard() for this frame, and then flush(); else the connection's loop must."""
        return self._anywhere and (frame.kind != METHOD or read_index(frame.payload) in _LIGHT)

    def heard(self, frame: Frame) -> None:
        """A frame has come; raises Malformed."""
        if frame.kind == METHOD:
            self._heard_method(frame.payload)
        elif frame.kind == HEADER:
            self._heard_header(frame.payload)
        elif frame.kind == BODY:
            self._heard_body(frame.payload)

    def in_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call it in the connection's loop. Any thread."""
        self._connection.in_loop(function, *args)

    def _heard_method(self, payload: bytes) -> None:
        index = read_index(payload)
        if index in (Method.BASIC_DELIVER, Method.BASIC_GET_OK, Method.BASIC_RETURN):
            if self._head:
                raise Malformed
            self._head = payload
        elif index == Method.BASIC_ACK:
            self._confirm(payload, refused=False)
        elif index == Method.BASIC_NACK:
            self._confirm(payload, refused=True)
        elif index == Method.CHANNEL_CLOSE:
            self._connection.write(method(self.number, Method.CHANNEL_CLOSE_OK))
            self.ended(read_close(payload))
        elif index == Method.BASIC_CANCEL:
            self._cancelled(read_short(payload, 4)[0].decode(errors="replace"))
        else:
            self._answered(index, _result(index, payload))

    def _answered(self, index: int, result: Any) -> None:
        if (answered := self._answers.take(index)) is not None:
            answered(result, None)

    def _cancelled(self, tag: str) -> None:
        self.consumers.pop(tag, None)
        if self.on_cancelled is not None:
            self.on_cancelled(tag)

    def _heard_header(self, payload: bytes) -> None:
        if not self._head or self._missing:
            raise Malformed
        self._missing, self._properties = read_content_header(payload)
        if not self._missing:
            self._complete(b"")

    def _heard_body(self, payload: bytes) -> None:
        if not 0 < len(payload) <= self._missing:
            raise Malformed  # nothing is missing, or this is more, or nothing, of which there could be any number
        self._missing -= len(payload)
        if self._missing or self._pieces:
            self._pieces.append(payload)
        if not self._missing:
            body = b"".join(self._pieces) if self._pieces else payload
            self._pieces.clear()
            self._complete(body)

    def _complete(self, body: bytes) -> None:
        head, self._head = self._head, b""
        index = read_index(head)
        if index == Method.BASIC_RETURN:
            self._confirms.returned(self._properties.message_id)
            return
        consumer, tag, redelivered, exchange, key = read_delivery(head, has_consumer=index == Method.BASIC_DELIVER)
        delivery = Delivery(tag, bool(redelivered), key, self._properties, body, not exchange)
        if index == Method.BASIC_GET_OK:
            self._answered(index, delivery)
        elif (receive := self.consumers.get(consumer.decode(errors="replace"))) is not None:
            receive(delivery)
        else:
            self._inbox.append(delivery)

    def flush(self) -> None:
        """What the connection had to read is read: hand it over as one."""
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            if self.on_messages is not None:
                self.on_messages(inbox)

    def ended(self, error: AmqpError) -> None:
        """It is closed: nobody waits for its answers any more."""
        if self.error is not None:
            return
        self.error = error
        self._connection.forget(self)
        for answered in self._answers.close():
            answered(None, error.another())
        for batch in self._confirms.close():
            batch.error = error.another()
            batch.finish(batch)
        if self.on_closed is not None:
            self.on_closed(error)


def _tell(done: "asyncio.Future[Batch]", batch: Batch) -> None:
    if done.done():
        return
    if batch.error is None:
        done.set_result(batch)
    else:
        done.set_exception(batch.error)
        done.exception()  # whoever published may have given up


def _result(index: int, payload: bytes) -> Any:
    return read_declared(payload) if index == Method.QUEUE_DECLARE_OK else None
