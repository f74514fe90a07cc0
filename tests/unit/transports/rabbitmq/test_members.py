"""Memberships of normal channels that are so many that one look does not see to all of their queues."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.codec import Codec
from channels_trunk.names import new_node_id
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.ledger import Notes, _Note
from channels_trunk.transports.rabbitmq.members import Members
from tests.plugins.clock import FakeClock
from tests.unit.transports.rabbitmq.test_wire import TOPOLOGY
from tests.unit.transports.test_contract import RecordingSink

CHANNELS = [f"jobs-{number}" for number in range(6)]


class Broker:
    """Answers so many questions, and no more; it is the link, the AMQP channel, the notes and the workers as well."""

    def __init__(self) -> None:
        self.patience = 0
        self.lost: set[str] = set()
        self.asked: list[str] = []
        self.bound: list[str] = []
        self.connection = SimpleNamespace(is_over=False)
        self.settings = SimpleNamespace(topology=TOPOLOGY)

    async def is_there(self) -> bool:
        return True

    @asynccontextmanager
    async def taken(self, *, end_members: bool) -> AsyncIterator[tuple[Any, Notes]]:
        assert not end_members
        notes = Notes()
        for channel in CHANNELS:
            notes.add(_Note(0.0, channel, "group", 1e12))
        yield self, notes

    async def has_queue(self, name: str) -> bool:
        if not self.patience:
            if self.connection.is_over:
                raise AmqpError("the connection was lost")
            raise TimeoutError  # as if the time for a look were over
        self.patience -= 1
        self.asked.append(name.rpartition(".")[2])
        return self.asked[-1] not in self.lost

    async def renew(self, channel: str) -> None:
        """It is there again."""

    async def bind(self, queue: str, _exchange: str, _group: str) -> None:
        self.bound.append(queue.rpartition(".")[2])


class Stage:
    """A node whose clock stands."""

    def __init__(self) -> None:
        self.clock, self.sink, self.broker = FakeClock(), RecordingSink(), Broker()
        codec = Codec(serializer_format="msgpack", cipher=None)
        context = NodeContext(new_node_id(), "asgi", codec, self.sink, self.clock.as_clock(), lambda _channel: 100)
        self.members = Members(context)

    async def look(self, patience: int) -> None:
        broker: Any = self.broker
        broker.patience, broker.asked, broker.bound = patience, [], []
        await self.members.look_after(broker, broker, broker, thoroughly=False)


async def test_who_does_not_come_to_the_end_goes_on_there_and_has_bound_what_was_seen() -> None:
    stage = Stage()
    stage.members.doubt()
    await stage.look(2)
    await stage.look(2)
    assert stage.broker.asked == CHANNELS[2:4]
    assert stage.broker.bound == CHANNELS[:2]
    await stage.look(len(CHANNELS))
    assert stage.broker.asked == CHANNELS[4:]
    assert set(stage.broker.bound) == set(CHANNELS)
    await stage.look(0)
    assert not stage.broker.bound  # nothing is in doubt any more


async def test_all_are_seen_to_anew_when_there_is_doubt_anew_or_it_was_long_ago() -> None:
    stage = Stage()
    stage.members.doubt()
    await stage.look(2)
    stage.members.doubt()
    await stage.look(2)
    assert stage.broker.asked == CHANNELS[:2]
    stage.clock.advance(TOPOLOGY.queue_expires)
    await stage.look(len(CHANNELS))
    assert stage.broker.asked == CHANNELS


async def test_a_queue_that_was_found_lost_is_said_though_the_connection_ends_before() -> None:
    stage = Stage()
    stage.broker.lost = {CHANNELS[0]}
    stage.members.doubt()
    stage.broker.connection.is_over = True
    with pytest.raises(AmqpError):
        await stage.look(2)
    stage.broker.lost.clear()
    stage.broker.connection.is_over = False
    stage.members.doubt()
    await stage.look(len(CHANNELS))
    assert len(stage.sink.gaps) == 1
