"""Which request an answer of the broker is for."""

import asyncio
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from channels_trunk.transports.rabbitmq.channel import Channel, Delivery
from channels_trunk.transports.rabbitmq.connection import Connection
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.frames import Frame
from channels_trunk.transports.rabbitmq.lane import Lane
from channels_trunk.transports.rabbitmq.wire import HEADER, METHOD, Method, Properties, short


class Broker:
    """Sends what the test says to a channel."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        connection = SimpleNamespace(
            loop=asyncio.get_running_loop(), write=self.write, frame_max=1 << 17, forget=lambda _channel: None
        )
        self.channel = Channel(cast(Connection, connection), 1)

    def write(self, *pieces: bytes, first: Callable[[], bool] = lambda: True) -> bool:
        if not first():
            return False
        self.written += pieces
        return True

    def answer(self, number: int, arguments: bytes = b"") -> None:
        self.channel.heard(Frame(METHOD, 1, struct.pack(">I", number) + arguments))

    def answer_get(self, tag: int) -> None:
        self.answer(Method.BASIC_GET_OK, struct.pack(">QB", tag, 0) + short("") + short("queue") + bytes(4))
        self.channel.heard(Frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)))

    def deliver(self, consumer: str, tag: int) -> None:
        self.answer(Method.BASIC_DELIVER, short(consumer) + struct.pack(">QB", tag, 0) + short("") + short("queue"))
        self.channel.heard(Frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)))

    def requeued(self) -> list[int]:
        nack = struct.pack(">I", Method.BASIC_NACK)
        return [struct.unpack_from(">Q", frame, frame.index(nack) + 4)[0] for frame in self.written if nack in frame]


async def test_an_answer_may_come_before_that_to_an_earlier_request() -> None:
    broker = Broker()
    cancelled, got, empty = broker.channel.cancel("tag"), broker.channel.get("queue"), broker.channel.get("queue")
    broker.answer_get(7)
    delivery: Delivery = got.result()
    assert delivery.tag == 7
    assert not cancelled.done()
    broker.answer(Method.BASIC_CANCEL_OK, short("tag"))
    assert cancelled.result() is None
    assert not empty.done()
    broker.answer(Method.BASIC_GET_EMPTY, short(""))
    assert empty.result() is None
    assert broker.requeued() == []


async def test_a_consumer_that_may_be_cancelled_at_once_is_not_answered() -> None:
    """The channel process of RabbitMQ 3.10 ends if a queue at another node answers after the cancel."""
    broker = Broker()
    came: list[Delivery] = []
    broker.channel.consume_unanswered("queue", "tag", came.append)
    arguments = struct.pack(">IH", Method.BASIC_CONSUME, 0) + short("queue") + short("tag")
    [written] = broker.written
    assert written[7:].startswith(arguments)
    assert written[7 + len(arguments)] == 0b1000  # no-wait
    cancelled = broker.channel.cancel("tag")
    broker.answer(Method.BASIC_CANCEL_OK, short("tag"))
    assert cancelled.done()


async def test_requests_of_one_kind_are_answered_in_order() -> None:
    broker = Broker()
    answers = [broker.channel.get("queue") for _ in range(3)]
    for tag in range(3):
        broker.answer_get(tag)
    assert [answer.result().tag for answer in answers] == [0, 1, 2]


async def test_a_message_that_was_asked_for_and_given_up_goes_back() -> None:
    broker = Broker()
    lane = Lane(broker.channel, consumer_gone=lambda _tag: None, closed=lambda _error: None)
    getting = asyncio.ensure_future(lane.get("queue", 3))
    await asyncio.sleep(0)
    broker.answer_get(1)
    getting.cancel()
    await asyncio.wait({getting})
    broker.answer_get(2)
    broker.answer_get(3)
    assert broker.requeued() == [1, 2, 3]
    # And is counted as settled, so that the next word may be of many.
    lane.requeue([Delivery(tag, False, b"", Properties(), b"") for tag in (4, 5)])
    assert broker.requeued() == [1, 2, 3, 5]


async def test_who_asks_in_any_thread_is_told_in_whatever_thread_reads() -> None:
    broker, told = Broker(), list[object]()
    assert broker.channel.bind_all("queue", "exchange", ["a", "b"], lambda *answer: told.append(answer))
    assert len(broker.written) == 2
    broker.answer(Method.QUEUE_BIND_OK)
    assert told == [(None, None)]


async def test_who_waits_for_an_answer_is_told_of_the_end() -> None:
    broker, told = Broker(), list[AmqpError | None]()
    waiting = broker.channel.get("queue")
    assert broker.channel.bind_all("queue", "exchange", ["a"], lambda _, error: told.append(error))
    broker.channel.ended(AmqpError("cut", 320))
    assert isinstance(told[0], AmqpError)
    assert isinstance(waiting.exception(), AmqpError)
    assert not broker.channel.bind_all("queue", "exchange", ["b"], lambda _, error: told.append(error))
    assert isinstance(broker.channel.get("queue").exception(), AmqpError)
    assert len(told) == 1
