"""Worker channels: what came for a receiver that had gone, and what is done about it at the broker."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.transports.rabbitmq.link import Link
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer

ROUNDS = 25
HELD_SECONDS = 0.02
# More than a connection has AMQP channels for this.
MANY = 260
T = TypeVar("T")


async def test_what_came_for_nobody_is_not_overtaken(make_layer: MakeLayer) -> None:
    """The consumer has it, nobody takes it, and it goes back: a receiver that comes at that moment finds it first."""
    here, there = make_layer(), make_layer()
    for number in range(ROUNDS):
        waiting = asyncio.ensure_future(here.receive("jobs"))
        await asyncio.sleep(HELD_SECONDS)  # until the broker has a consumer for it
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for part in range(3):
            await there.send("jobs", {**HELLO, "number": number, "part": part})
        await asyncio.sleep(HELD_SECONDS * (0.6 + 0.4 * number / ROUNDS))
        got = [await asyncio.wait_for(here.receive("jobs"), 10) for _ in range(3)]
        assert [message["part"] for message in got] == [0, 1, 2], f"round {number}"


async def in_its_loop(layer: RabbitMQChannelLayer, ask: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
    """What is asked of the connection of a layer, in the loop of that."""
    await layer.send("jobs", HELLO)
    link: Link = layer._hub.transport._link  # type: ignore[attr-defined]
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(link), link.connection.loop))


def jobs(link: Link) -> str:
    return link.settings.topology.channel_queue_name("jobs")


async def test_more_may_be_asked_at_once_than_a_connection_has_channels_for(make_layer: MakeLayer) -> None:
    async def ask(link: Link) -> list[bool]:
        return await asyncio.gather(*(link.has_queue(jobs(link)) for _ in range(MANY)))

    assert await in_its_loop(make_layer(), ask) == [True] * MANY


async def test_who_gives_up_asking_does_not_end_the_connection(make_layer: MakeLayer) -> None:
    async def ask(link: Link) -> bool:
        for _ in range(ROUNDS):
            asking = asyncio.ensure_future(link.has_queue(jobs(link)))
            await asyncio.sleep(0)  # the broker has not answered anything
            asking.cancel()
            await asyncio.wait({asking})
        return await link.has_queue(jobs(link))

    layer = make_layer()
    assert await in_its_loop(layer, ask)
    assert layer.stats().reconnects_total == 0
