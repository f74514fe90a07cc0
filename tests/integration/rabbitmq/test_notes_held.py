"""Notes that another connection still holds when the next reader comes: none is missed, and none is taken for newer."""

import asyncio

import aiormq
import pytest
from aiormq.abc import DeliveredMessage

from channels_trunk.testing import eventually
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer
from tests.integration.rabbitmq.test_memberships import look, members_get
from tests.plugins.servers import on_every_rabbitmq

pytestmark = on_every_rabbitmq
quick_or_safe = pytest.mark.parametrize("queue_type", ["classic", "quorum"])
NOTES = "asgi.ledger"


class Holder:
    """A connection that has taken every note, and takes no more: as one whose end the broker is about to see."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def take(self) -> None:
        self._connection = await aiormq.connect(self._url)
        channel = await self._connection.channel()
        taken: list[DeliveredMessage] = []

        async def take(message: DeliveredMessage) -> None:
            taken.append(message)

        there = (await channel.queue_declare(NOTES, passive=True)).message_count or 0
        answer = await channel.basic_consume(NOTES, take)
        await eventually(lambda: len(taken) == there, within=60)
        await channel.basic_cancel(str(answer.consumer_tag))
        # A quorum queue counts who holds something among its consumers.
        self._consumers = (await counts(self._url))[1]

    async def give_back_to_a_reader(self) -> None:
        """Wait for somebody who reads the notes, and be gone."""
        async with asyncio.timeout(60):
            while (await counts(self._url))[1] == self._consumers:
                await asyncio.sleep(0)
        await self.end()

    async def end(self) -> None:
        await self._connection.close()


async def counts(url: str, queue: str = NOTES) -> tuple[int, int]:
    """How many messages and consumers there are."""
    async with await aiormq.connect(url) as connection:
        channel = await connection.channel()
        answer = await channel.queue_declare(queue, passive=True)
        return answer.message_count or 0, answer.consumer_count or 0


@quick_or_safe
async def test_a_flush_waits_for_them(make_layer: MakeLayer, url: str, queue_type: str) -> None:
    layer = make_layer(queue_type=queue_type, send_timeout=60)
    await layer.group_add("group", "jobs")
    await layer.send("jobs", HELLO)
    holder = Holder(url)
    await holder.take()
    flush = asyncio.create_task(layer.flush())
    await holder.give_back_to_a_reader()
    await asyncio.wait_for(flush, 60)
    assert (await counts(url, "asgi.channel.jobs"))[0] == 0
    assert not await members_get(layer, layer)


@quick_or_safe
async def test_they_are_older(make_layer: MakeLayer, url: str, queue_type: str) -> None:
    layer, other = (make_layer(queue_type=queue_type, send_timeout=60) for _ in range(2))
    await layer.group_add("group", "jobs")
    holder = Holder(url)
    await holder.take()
    discard = asyncio.create_task(other.group_discard("group", "jobs"))
    async with asyncio.timeout(60):
        while not (await counts(url))[0]:
            await asyncio.sleep(0)
    reading = asyncio.create_task(look(layer, thoroughly=True))
    await holder.give_back_to_a_reader()
    await asyncio.wait_for(asyncio.gather(discard, reading), 60)
    await look(layer, thoroughly=True)
    assert not await members_get(layer, layer)


async def test_who_holds_them_for_good_stops_nobody(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer(send_timeout=10)
    await layer.group_add("group", "jobs")
    holder = Holder(url)
    await holder.take()
    await asyncio.wait_for(layer.flush(), 60)
    await layer.group_add("group", "jobs")
    assert await members_get(layer, layer)
    await holder.end()
