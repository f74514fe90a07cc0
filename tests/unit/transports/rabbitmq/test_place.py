"""Leaving a broker that takes its time."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channels_trunk.codec import Codec
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.rabbitmq import place as module
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.link import Link
from channels_trunk.transports.rabbitmq.place import Place
from tests.plugins.clock import FakeClock
from tests.unit.transports.rabbitmq.test_wire import TOPOLOGY
from tests.unit.transports.test_contract import RecordingSink


class Desk:
    """Answers when a test does so."""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future[Any]] = {}

    def delete(self, queue: str) -> "asyncio.Future[Any]":
        self.asked[queue] = asyncio.get_running_loop().create_future()
        return self.asked[queue]

    delete_unused_exchange = delete


async def test_a_queue_whose_removal_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAVE_WITHIN", 0.01)
    codec = Codec(serializer_format="msgpack", cipher=None)
    context = NodeContext(new_node_id(), "asgi", codec, RecordingSink(), FakeClock().as_clock(), lambda _channel: 100)
    place = Place(context, TOPOLOGY)
    place.is_taken = True
    desk = Desk()
    async with asyncio.timeout(20):
        await place.leave(cast("Link", SimpleNamespace(desk=desk)))
    assert len(desk.asked) == 3
    for answer in desk.asked.values():
        answer.set_exception(AmqpError("the connection was closed"))  # nobody has to look at it
