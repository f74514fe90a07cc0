"""Whoever publishes sends hints of normal channels to those who need them alone, and nobody waits in vain."""

import asyncio
import random

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.transports.postgres.names import HINT_CLASS
from tests.integration.postgres.conftest import MakeLayer, ask, terminate
from tests.plugins.servers.postgres_server import PostgresServer

JOB = {"type": "job"}


def asked_for(dsn: str) -> int:
    """How many sessions want hints of normal channels."""
    held = (
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() "
    )
    return int(ask(dsn, held + f"AND locktype = 'advisory' AND classid = {HINT_CLASS} AND mode = 'ShareLock'")[0][0])


def look_no_more(layer: PostgresChannelLayer) -> None:
    """What hints do not bring is not found by looking now and then."""

    async def nothing() -> None:
        return

    layer._hub.transport._part.look_into_queues = nothing  # type: ignore[attr-defined]


async def send_many(layer: PostgresChannelLayer, count: int) -> None:
    await asyncio.gather(*(layer.send("jobs", JOB) for _ in range(count)))


async def receive(layer: PostgresChannelLayer, count: int) -> None:
    for _ in range(count):
        assert await layer.receive("jobs") == JOB


async def test_a_worker_under_load_asks_for_no_hints_and_then_again(
    postgres_database: str, make_layer: MakeLayer
) -> None:
    source, worker = (make_layer(postgres_database, capacity=1_000_000) for _ in range(2))
    working = asyncio.create_task(receive(worker, 1_000_000))
    await eventually(lambda: asked_for(postgres_database) == 1, within=20)
    look_no_more(worker)
    seen = 1
    while seen:
        await send_many(source, 500)
        seen = asked_for(postgres_database)
    await eventually(lambda: asked_for(postgres_database) == 1, within=20)
    working.cancel()


async def test_no_job_waits_for_a_hint_that_was_not_sent(postgres_database: str, make_layer: MakeLayer) -> None:
    source, worker = (make_layer(postgres_database, capacity=10_000) for _ in range(2))
    await source.send("jobs", JOB)
    await receive(worker, 1)
    look_no_more(worker)
    for _ in range(40):
        # Bursts, after which the worker asks for hints again: with pauses in which it is about to do so.
        count = random.randint(1, 120)
        receiving = asyncio.create_task(receive(worker, count + 1))
        await send_many(source, count)
        await asyncio.sleep(random.uniform(0.008, 0.016))
        await source.send("jobs", JOB)
        await asyncio.wait_for(receiving, 20)


async def test_two_workers_share_what_they_find_without_hints(postgres_database: str, make_layer: MakeLayer) -> None:
    source, *workers = (make_layer(postgres_database, capacity=10_000) for _ in range(3))
    got = [0, 0]

    async def work(index: int) -> None:
        while True:
            await workers[index].receive("jobs")
            got[index] += 1

    working = [asyncio.create_task(work(index)) for index in range(2)]
    for _ in range(20):
        await send_many(source, 200)
    await eventually(lambda: sum(got) == 4_000, within=30)
    assert all(got)
    for task in working:
        task.cancel()


async def test_a_listening_session_that_is_ended_loses_no_hint(
    postgres: PostgresServer, postgres_database: str, make_layer: MakeLayer
) -> None:
    source, worker = (make_layer(postgres_database, capacity=10_000) for _ in range(2))
    working = asyncio.create_task(receive(worker, 4_004))
    for _ in range(4):
        await send_many(source, 1_000)
        terminate(postgres, postgres_database, "listen")
        await source.send("jobs", JOB)
    await asyncio.wait_for(working, 30)
