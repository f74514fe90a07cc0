"""Messages that are larger than the broker takes; it tells nobody how large that is."""

import asyncio
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from channels.exceptions import MessageTooLarge

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.base import Claimed
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, works
from tests.plugins.servers import RabbitServer, on_every_rabbitmq
from tools.server_table import RABBITMQ, Program

pytestmark = on_every_rabbitmq
MIB = 1 << 20
SENT_AT_ONCE = 40
KEYS = pytest.mark.parametrize("keys", [(), ("key",)], ids=["plain", "encrypted"])


def of(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "large", "data": bytes(size), **more}


@pytest.fixture
def taking(broker: RabbitServer, rabbitmq_program: Program) -> Iterator[Any]:
    """Call it with the size of the largest message that the broker is to take."""
    yield broker.take_at_most
    broker.take_at_most(128 * MIB if rabbitmq_program is RABBITMQ else 16 * MIB)


async def received(layer: RabbitMQChannelLayer, channel: str, count: int) -> list[Any]:
    async with asyncio.timeout(60):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


async def test_what_a_broker_takes_by_default(make_layer: MakeLayer, rabbitmq_program: Program) -> None:
    here, there = make_layer(max_message_size=32 * MIB), make_layer(max_message_size=32 * MIB)
    channel = await there.new_channel()
    await there.group_add("room", channel)
    neighbours = [here.send(channel, {"type": "x", "number": number}) for number in range(10)]
    outcomes = await asyncio.gather(
        *neighbours[:5], here.group_send("room", of(17 * MIB, number=17)), *neighbours[5:], return_exceptions=True
    )
    if rabbitmq_program is RABBITMQ:
        assert outcomes == [None] * 11
        assert await received(there, channel, 11) == [0, 1, 2, 3, 4, 17, 5, 6, 7, 8, 9]
        return
    assert [type(outcome) for outcome in outcomes] == [*[type(None)] * 5, MessageTooLarge, *[type(None)] * 5]
    said = str(outcomes[5])
    assert re.match(r"the packed message has 178258\d\d bytes; RabbitMQ at ", said)
    assert "Send less, or raise max_message_size in its rabbitmq.conf" in said
    assert f"larger than configured max size {16 * MIB}" in said
    for send in (here.send(channel, of(16 * MIB)), here.send("jobs", of(17 * MIB)), here.send(channel, of(18 * MIB))):
        with pytest.raises(MessageTooLarge):
            await send
    await here.send(channel, of(16 * MIB - 1_000, number=16))
    assert await received(there, channel, 11) == [*range(10), 16]
    await works(here, there)
    for layer in (here, there):
        assert layer.stats().reconnects_total == layer.stats().gaps_total == 0
    assert here.stats().failed_total == 4


@KEYS
async def test_many_messages_that_are_not_too_large_are_not_so_together(
    make_layer: MakeLayer, taking: Any, keys: tuple[str, ...]
) -> None:
    taking(200_000)
    config = {"symmetric_encryption_keys": keys, "capacity": 1_000}
    here, there = make_layer(**config), make_layer(**config)
    channel = await there.new_channel()
    await there.group_add("room", channel)
    for target in (channel, "jobs"):
        sizes = [(3_000, 60_000, 140_000, 160_000)[number % 4] for number in range(SENT_AT_ONCE)]
        outcomes = await asyncio.gather(
            *(here.send(target, of(size, number=number)) for number, size in enumerate(sizes)), return_exceptions=True
        )
        too_large = 160_000 if keys else 1_000_000
        expected = [MessageTooLarge if size >= too_large else type(None) for size in sizes]
        assert [type(outcome) for outcome in outcomes] == expected
        taken = [number for number, size in enumerate(sizes) if size < too_large]
        assert await received(there, target, len(taken)) == taken
    await asyncio.gather(*(here.group_send("room", of(140_000, number=number)) for number in range(SENT_AT_ONCE)))
    assert await received(there, channel, SENT_AT_ONCE) == list(range(SENT_AT_ONCE))
    assert here.stats().reconnects_total == there.stats().reconnects_total == 0


async def test_a_broker_that_takes_hardly_anything(make_layer: MakeLayer, taking: Any) -> None:
    """No connection can know; from the first refusal on it is known which message it was."""
    taking(50_000)
    here, there = make_layer(send_timeout=20), make_layer()
    channel = await there.new_channel()
    with pytest.raises(TransportUnavailable, match=r"larger than RabbitMQ takes.*raise max_message_size"):
        await here.send(channel, of(60_000))
    await eventually(lambda: here.health().state == "ok", within=60)
    sizes = [20_000, 60_000] * 10
    outcomes = await asyncio.gather(
        *(here.send(channel, of(size, number=number)) for number, size in enumerate(sizes)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), MessageTooLarge] * 10
    assert await received(there, channel, 10) == list(range(0, 20, 2))
    assert here.stats().reconnects_total == 1


async def test_it_is_said_at_once_to_blocking_callers(make_layer: MakeLayer, taking: Any) -> None:
    taking(1_000_000)
    layer = make_layer(max_message_size=32 * MIB, send_timeout=50)
    began = time.monotonic()
    for send in (layer.sync.send, layer.sync.group_send):
        with pytest.raises(MessageTooLarge, match="configured max size 1000000"):
            await in_thread(partial(send, "jobs", of(2 * MIB)))
    assert time.monotonic() - began < 40  # it did not wait for its time to be over
    await layer.send("jobs", HELLO)
    assert layer.stats().reconnects_total == 0


async def test_the_operator_raises_the_limit(make_layer: MakeLayer, broker: RabbitServer, taking: Any) -> None:
    taking(1_000_000)
    here, there = make_layer(max_message_size=32 * MIB), make_layer(max_message_size=32 * MIB)
    channel = await there.new_channel()
    with pytest.raises(MessageTooLarge):
        await here.send(channel, of(2 * MIB))
    taking(3_000_000)
    broker.close_all_connections()
    await eventually(lambda: here.stats().reconnects_total == 1 and here.health().state == "ok", within=60)
    await here.send(channel, of(2 * MIB, number=1))
    assert await received(there, channel, 1) == [1]


async def test_what_goes_back_together_is_not_too_large(make_layer: MakeLayer, taking: Any) -> None:
    """A process that closes gives back the jobs that it had claimed."""
    here, there = make_layer(), make_layer()
    for number in range(20):
        await here.send("jobs", of(30_000, number=number))
    # Not by a receiver, which would claim as many as it likes.
    transport: Any = here._hub.transport

    async def give_back_all() -> None:
        claimed: list[Claimed] = []
        while len(claimed) < 20:
            claimed += await transport.claim("jobs", 20)
        taking(200_000)
        await transport.restore(claimed)

    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(give_back_all(), transport._there().connection.loop))
    assert sorted(await received(there, "jobs", 20)) == list(range(20))
    assert here.stats().gaps_total == 0
