"""The tables stay small at any load, whatever autovacuum does, and give their space back."""

import asyncio
import os
from typing import Any

import psycopg
import pytest

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask
from tests.integration.postgres.test_long_transactions import BODY, MEGABYTE, size
from tests.plugins.servers.postgres import OwnPostgresFactory

# CHANNELS_TRUNK_SIZE_SECONDS=600 for a longer look.
SECONDS = float(os.environ.get("CHANNELS_TRUNK_SIZE_SECONDS", "10"))
PER_SECOND = 2_000
SENDERS = 20


async def send_steadily(layer: PostgresChannelLayer, channel: str, *, first: int, counts: list[int]) -> None:
    """One of the senders: its part of the messages of each tenth of a second."""
    clock = asyncio.get_running_loop().time
    begin = clock()
    number = first
    while (passed := clock() - begin) < SECONDS:
        while number < passed * PER_SECOND:
            await layer.send(channel, {"type": "n", "n": number, "body": BODY})
            counts.append(number)
            number += SENDERS
        await asyncio.sleep(0.01)


@pytest.mark.timeout(60 + 2 * SECONDS)
@pytest.mark.parametrize("target", ["mailbox", "jobs"])
async def test_the_tables_stay_small(make_layer: MakeLayer, own_postgres: OwnPostgresFactory, target: str) -> None:
    server = own_postgres(autovacuum="off")
    dsn = server.fresh_database()
    here, there = (make_layer(dsn, capacity=1_000_000) for _ in range(2))
    channel = await there.new_channel() if target == "mailbox" else target
    sent: list[int] = []
    samples: list[int] = []
    got: list[int] = []

    async def receive() -> None:
        while True:
            got.append((await there.receive(channel))["n"])

    async def sample() -> None:
        while True:
            samples.append(size(dsn))
            await asyncio.sleep(0.5)

    await here.send(channel, {"type": "n", "n": -1})
    background = [asyncio.create_task(receive()), asyncio.create_task(sample())]
    await asyncio.gather(*(send_steadily(here, channel, first=n, counts=sent) for n in range(SENDERS)))
    await eventually(lambda: len(got) == len(sent) + 1, within=30)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    assert sorted(got) == [-1, *sorted(sent)]
    assert max(samples) < 64 * MEGABYTE
    assert sum(len(BODY) for _ in sent) > 5 * MEGABYTE
    if target == "mailbox":
        ask(dsn, "UPDATE trunk_state SET emptied_at = now() - interval '1 hour'")
        await eventually(lambda: size(dsn) < 8 * MEGABYTE, within=20)
    print(f"largest: {max(samples) / MEGABYTE:.1f} MiB of {len(sent)} messages")


async def test_a_queue_that_somebody_else_vacuums_is_left_to_him(make_layer: MakeLayer, postgres_database: str) -> None:
    """Claims go over the same connection, and would wait."""
    layer = make_layer(postgres_database)
    await layer.send("jobs", HELLO)
    transport: Any = layer._hub.transport
    part, io = transport._part, layer._hub._io
    assert io is not None
    with psycopg.connect(postgres_database) as other:
        other.execute("LOCK TABLE trunk_queue IN SHARE UPDATE EXCLUSIVE MODE")  # as VACUUM does
        part.queues.deleted = 1_000_000
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(part.upkeep.tidy(), io.loop))
    assert part.queues.deleted == 0
