"""How many messages a consumer has at hand, and what becomes of those that nobody claims."""

import asyncio
import time
from types import SimpleNamespace
from typing import cast

import pytest

from channels_trunk.testing import eventually
from channels_trunk.transports.rabbitmq import consuming
from channels_trunk.transports.rabbitmq.channel import Channel
from channels_trunk.transports.rabbitmq.consuming import Consuming, prefetch_for
from channels_trunk.transports.rabbitmq.lane import Lane
from channels_trunk.transports.rabbitmq.link import Link
from channels_trunk.transports.rabbitmq.wire import Method, short
from tests.unit.transports.rabbitmq.test_channel import Broker

FIRST = "1.jobs"


def prefetch(limit: int, *, present: int = 0, capacity: int = 1000) -> int:
    return prefetch_for(limit, present=present, capacity=capacity)


def test_where_one_is_claimed_at_a_time_one_is_at_hand() -> None:
    assert prefetch(1) == prefetch(1, present=64) == 1


def test_where_more_are_claimed_there_are_as_many() -> None:
    assert [prefetch(limit) for limit in (2, 8, 9, 64, 1000)] == [8, 8, 64, 64, 64]


def test_it_does_not_change_with_each_claim() -> None:
    assert [prefetch(limit, present=64) for limit in (9, 4, 3)] == [64, 64, 8]


def test_an_eighth_of_the_capacity_at_most() -> None:
    assert prefetch(64, capacity=100) == 12
    assert prefetch(64, capacity=3) == 1


class Worker:
    """Claims from one channel of a broker that does what the test says."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.told: list[str] = []
        link = SimpleNamespace(
            lane=self._lane,
            context=SimpleNamespace(sink=SimpleNamespace(available=self.told.extend), capacity_of=lambda _: 1000),
            settings=SimpleNamespace(topology=SimpleNamespace(channel_queue_name=str)),
        )
        self.consuming = Consuming(cast(Link, link), gone=lambda _channels: None)

    async def _lane(self) -> Channel:
        return self.broker.channel

    async def begin(self, limit: int) -> Lane:
        """Find nothing in a claim of so many, and so have a consumer."""
        await self.consuming.watch(frozenset(("jobs",)))
        lane = await self.consuming.open_lane()
        self.consuming.follow(lane, "jobs", limit, enough=False)
        return lane

    async def claim(self, lane: Lane, limit: int) -> list[int]:
        taken = await self.consuming.take(lane, "jobs", limit)
        self.consuming.follow(lane, "jobs", limit, enough=len(taken) >= limit)
        return [delivery.tag for delivery in taken]


async def test_what_comes_too_late_for_a_consumer_is_not_given_to_others_who_have_what_is_younger() -> None:
    worker = Worker()
    lane = await worker.begin(4)
    for tag in (1, 2, 3):
        worker.broker.deliver(FIRST, tag)
    assert await worker.claim(lane, 2) == [1, 2]
    # The receivers are slow now: the consumer ends. The broker has sent two more before it knows.
    assert await worker.claim(lane, 1) == [3]
    for tag in (4, 5):
        worker.broker.deliver(FIRST, tag)
    worker.broker.answer(Method.BASIC_CANCEL_OK, short(FIRST))
    assert await worker.claim(lane, 1) == [4]
    assert await worker.claim(lane, 1) == [5]
    assert worker.broker.requeued() == []


async def test_what_comes_too_late_and_nobody_claims_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "_HOLD_MANY", 0.001)
    worker = Worker()
    lane = await worker.begin(4)
    worker.broker.deliver(FIRST, 1)
    assert await worker.claim(lane, 1) == [1]
    worker.broker.deliver(FIRST, 2)
    await eventually(lambda: worker.broker.requeued() == [2])
    # And so does what comes even later.
    worker.broker.deliver(FIRST, 3)
    assert worker.broker.requeued() == [2, 3]


async def test_a_process_that_got_no_time_keeps_what_its_receivers_had_no_time_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consuming, "_HOLD_MANY", 0.02)
    worker = Worker()
    lane = await worker.begin(4)
    worker.broker.deliver(FIRST, 1)
    time.sleep(0.03)  # the machine is busy elsewhere
    await asyncio.sleep(0)
    assert await worker.claim(lane, 2) == [1]
    assert worker.broker.requeued() == []


async def test_nothing_is_held_for_too_long_while_the_broker_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "_HOLD_MANY", 0.001)
    worker = Worker()
    lane = await worker.begin(4)
    for tag in (1, 2, 3):
        worker.broker.deliver(FIRST, tag)
    consumer = worker.consuming._consumers["jobs"]
    assert await worker.claim(lane, 2) == [1, 2]
    looks: set[asyncio.TimerHandle | None] = set()

    def has_looked_often() -> bool:
        looks.add(consumer.timer)
        return len(looks) > 2 * consuming._LOOKS

    with worker.consuming.asking("jobs"):
        await eventually(has_looked_often)
        assert worker.broker.requeued() == []
    await eventually(lambda: worker.broker.requeued() == [3])


async def test_what_is_too_large_for_one_claim_is_said_though_more_is_to_be_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consuming, "_MOST_BYTES", -1)
    worker = Worker()
    lane = await worker.begin(4)
    for tag in (1, 2):
        worker.broker.deliver(FIRST, tag)
    worker.told.clear()
    assert await worker.claim(lane, 16) == [1]
    await asyncio.sleep(0)
    assert worker.told == ["jobs"]
