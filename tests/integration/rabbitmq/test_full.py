"""Normal channels that are full: what that costs, and how full they get."""

import asyncio
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.transports.rabbitmq.link import Link
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer
from tests.plugins.servers import on_every_rabbitmq

pytestmark = on_every_rabbitmq
CAPACITY = 10
BURST = 400


async def burst(layer: RabbitMQChannelLayer, count: int = BURST) -> int:
    """Send so many at once; return how many were accepted."""
    sends = (layer.send("jobs", {"type": "job", "number": number}) for number in range(count))
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, ChannelFull) for outcome in outcomes), outcomes
    return outcomes.count(None)


async def test_the_broker_is_not_asked_for_each_refusal(make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    has_queue = Link.has_queue

    async def counted(link: Link, name: str) -> bool:
        asked.append(name)
        return await has_queue(link, name)

    monkeypatch.setattr(Link, "has_queue", counted)
    layer = make_layer(capacity=CAPACITY)
    channel = await layer.new_channel()
    assert await burst(layer) == CAPACITY
    # At most once for each batch, of which there are few.
    assert len([name for name in asked if name == "asgi.channel.jobs"]) <= 5
    await layer.send(channel, HELLO)
    assert layer.stats().reconnects_total == 0


@pytest.mark.parametrize("processes", [1, 3])
async def test_a_quorum_queue_holds_little_more_than_its_capacity(make_layer: MakeLayer, processes: int) -> None:
    config: dict[str, Any] = {"capacity": CAPACITY, "queue_type": "quorum"}
    layers = [make_layer(**config) for _ in range(processes)]
    accepted = sum(await asyncio.gather(*(burst(layer) for layer in layers)))
    assert CAPACITY <= accepted <= CAPACITY * (1 + processes)
    got = [await asyncio.wait_for(layers[0].receive("jobs"), 60) for _ in range(accepted)]
    if processes == 1:
        numbers = [message["number"] for message in got]
        assert numbers == sorted(numbers)


async def test_what_is_sent_to_a_channel_and_its_group_in_one_batch_comes_in_order(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await there.group_add("group", "jobs")
    await asyncio.gather(
        *(
            here.group_send("group", {"type": "job", "number": number})
            if number % 3
            else here.send("jobs", {"type": "job", "number": number})
            for number in range(60)
        )
    )
    got = [(await asyncio.wait_for(there.receive("jobs"), 60))["number"] for _ in range(60)]
    assert got == list(range(60))


async def test_a_quorum_queue_that_several_make_at_once_is_not_full(make_layer: MakeLayer) -> None:
    """Who finds it there a moment before it has a leader is refused, at least by 3.10."""
    for prefix in range(10):
        layers = [make_layer(queue_type="quorum", prefix=f"asgi-{prefix}") for _ in range(3)]
        await asyncio.gather(*(layer.send("jobs", HELLO) for layer in layers))
        for _ in layers:
            await asyncio.wait_for(layers[0].receive("jobs"), 60)
        for layer in layers:
            await layer.close()
