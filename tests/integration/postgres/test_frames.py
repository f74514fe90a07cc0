"""Messages of every size, above all around what a notification can hold; and names at their longest."""

import asyncio
import math

import psycopg
import pytest

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.writer import _LARGEST_FRAME
from tests.integration.postgres.conftest import MakeLayer, ask

NOTIFICATION_HOLDS = 8000  # less than that


async def received(layer: PostgresChannelLayer, channel: str) -> dict[str, object]:
    """The next message."""
    return await asyncio.wait_for(layer.receive(channel), 20)


def bodies() -> list[str]:
    """Texts whose frames are about as large as a notification can hold, each a byte longer than the one before."""
    return ["x" * size for size in range(_LARGEST_FRAME - 400, _LARGEST_FRAME + 10)]


@pytest.mark.parametrize("prefix", ["asgi", 'a "quoted" \\ prefix ' * 5])
async def test_sizes_around_the_limit_of_inline_notifications(
    make_layer: MakeLayer, postgres_database: str, prefix: str
) -> None:
    here, there = (make_layer(postgres_database, capacity=1000, prefix=prefix) for _ in range(2))
    channel = await there.new_channel("p" * 40)
    group = "g" * 99
    await there.group_add(group, channel)
    bell = Names("public", "trunk_").bells(prefix).group(group)
    async with await psycopg.AsyncConnection.connect(postgres_database, autocommit=True) as listener:
        await listener.execute(f'LISTEN "{bell}"'.encode())
        for body in bodies():
            await here.group_send(group, {"type": "sized", "body": body})
            await here.send(channel, {"type": "sized", "body": body})
        payloads = [notice.payload async for notice in listener.notifies(stop_after=len(bodies()), timeout=20)]
    for body in bodies():
        for _ in range(2):
            message = await received(there, channel)
            assert message == {"type": "sized", "body": body}
    sizes = [len(payload) for payload in payloads]
    assert max(sizes) < NOTIFICATION_HOLDS
    assert min(sizes) < 100  # the number of a row alone
    assert max(sizes) > math.floor(_LARGEST_FRAME * 4 / 3)
    largest = ask(
        postgres_database, "SELECT max(length(frame)) FROM trunk_log_0 WHERE length(frame) <= %s", _LARGEST_FRAME
    )
    assert largest == [(_LARGEST_FRAME,)]


async def test_large_messages(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await there.new_channel()
    await there.group_add("room", channel)
    for size in (1_000_000, 1_900_000, 2 * 1024 * 1024 - 100):
        message = {"type": "large", "body": "y" * size}
        await here.send(channel, message)
        await here.group_send("room", message)
        await here.send("jobs", message)
        assert await received(there, channel) == message
        assert await received(there, channel) == message
        assert await received(there, "jobs") == message


async def test_many_small_messages_in_one_batch(make_layer: MakeLayer, postgres_database: str) -> None:
    """One frame for many targets: it is told on many channels, and handed over once."""
    here, there = make_layer(postgres_database, capacity=10_000), make_layer(postgres_database, capacity=10_000)
    channels = [await there.new_channel() for _ in range(100)]
    for number, channel in enumerate(channels):
        await there.group_add(f"room-{number}", channel)
    await asyncio.gather(*(here.group_send(f"room-{n % 100}", {"type": "n", "n": n}) for n in range(1000)))
    for number, channel in enumerate(channels):
        got = [(await received(there, channel))["n"] for _ in range(10)]
        assert got == list(range(number, 1000, 100))
    rows = ask(postgres_database, "SELECT count(*) FROM trunk_log_0")[0][0]
    assert rows < 100
