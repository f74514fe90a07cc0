"""A channel takes as many messages as its capacity says, by whichever way room for them is found."""

import asyncio

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.layers import PostgresChannelLayer
from tests.integration.postgres.conftest import MakeLayer, ask

CAPACITY = 10


async def fill(layer: PostgresChannelLayer, channel: str) -> int:
    """Send until it is full; return how many were taken."""
    for count in range(3 * CAPACITY):
        try:
            await layer.send(channel, {"type": "job", "number": count})
        except ChannelFull:
            return count
    return -1


async def take(layer: PostgresChannelLayer, channel: str, count: int) -> None:
    async with asyncio.timeout(20):
        for _ in range(count):
            await layer.receive(channel)


async def test_there_is_as_much_room_as_was_made(postgres_database: str, make_layer: MakeLayer) -> None:
    layer = make_layer(postgres_database, capacity=CAPACITY)
    assert await fill(layer, "jobs") == CAPACITY
    for made in (1, 3, CAPACITY, 2, CAPACITY):
        await take(layer, "jobs", made)
        assert await fill(layer, "jobs") == made
    # Far fewer ids are known to be taken than were: other channels are counted by their own messages.
    assert await fill(layer, "others") == CAPACITY


@pytest.mark.parametrize("channel", ["jobs", "others"])
async def test_what_was_given_back_takes_its_room(postgres_database: str, make_layer: MakeLayer, channel: str) -> None:
    layer = make_layer(postgres_database, capacity=CAPACITY)
    for _ in range(2):
        await layer.send("jobs", {"type": "job"})
    assert len(ask(postgres_database, "UPDATE trunk_queue SET id = -id RETURNING id")) == 2
    assert await fill(layer, channel) == CAPACITY - (2 if channel == "jobs" else 0)


async def test_a_batch_for_several_channels_is_refused_in_part(postgres_database: str, make_layer: MakeLayer) -> None:
    layer = make_layer(postgres_database, channel_capacity={"small": 2}, capacity=CAPACITY)
    sends = [layer.send(channel, {"type": "job"}) for _ in range(4) for channel in ("small", "large")]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    full = [isinstance(outcome, ChannelFull) for outcome in outcomes]
    assert (sum(full[::2]), sum(full[1::2])) == (2, 0)
    assert ask(postgres_database, "SELECT channel, count(*) FROM trunk_queue GROUP BY 1 ORDER BY 1") == [
        ("large", 4),
        ("small", 2),
    ]
