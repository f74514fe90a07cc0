"""Jobs that a node has claimed for receivers that are busy: nobody waits for them for long, and none is lost."""

import asyncio
from typing import Any

import pytest

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.claimed_ahead import assert_killed_worker_loses_little, claims_rest, held, take, work_until_ahead
from tests.integration.postgres.conftest import MakeLayer, ask

JOBS = 400
BACKEND = "channels_trunk.layers.PostgresChannelLayer"


async def send_jobs(layer: PostgresChannelLayer, numbers: range) -> None:
    for number in numbers:
        await layer.send("jobs", {"type": "job", "number": number})


def stored(dsn: str) -> int:
    return int(ask(dsn, "SELECT count(*) FROM trunk_queue")[0][0])


async def test_a_quick_receiver_is_claimed_for_ahead_in_order(postgres_database: str, make_layer: MakeLayer) -> None:
    source, worker = (make_layer(postgres_database, capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    got += await take(worker, JOBS - len(got))
    assert got == list(range(JOBS))


async def test_what_a_busy_worker_holds_goes_to_another(postgres_database: str, make_layer: MakeLayer) -> None:
    source, busy, other = (make_layer(postgres_database, capacity=JOBS) for _ in range(3))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(busy)
    rest = await take(other, JOBS - len(got))
    assert sorted(got + rest) == list(range(JOBS))
    assert held(busy) == 0


async def test_what_is_not_taken_goes_back_to_its_place(postgres_database: str, make_layer: MakeLayer) -> None:
    source, worker = (make_layer(postgres_database, capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    await eventually(lambda: stored(postgres_database) == JOBS - len(got), within=10)
    assert held(worker) == 0
    assert got + await take(worker, JOBS - len(got)) == list(range(JOBS))


async def test_close_gives_back_what_was_claimed_ahead(postgres_database: str, make_layer: MakeLayer) -> None:
    source, worker = (make_layer(postgres_database, capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    await worker.close()
    assert stored(postgres_database) == JOBS - len(got)
    assert await take(source, JOBS - len(got)) == list(range(len(got), JOBS))


async def test_a_receiver_that_is_cancelled_leaves_nothing_behind(
    postgres_database: str, make_layer: MakeLayer
) -> None:
    source, worker = (make_layer(postgres_database, capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    got += await take(worker, held(worker))
    receiving: asyncio.Task[dict[str, Any]] = asyncio.create_task(worker.receive("jobs"))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await eventually(lambda: claims_rest(worker) and stored(postgres_database) == JOBS - len(got), within=10)
    assert got + await take(source, JOBS - len(got)) == list(range(JOBS))


async def test_a_killed_worker_loses_no_more_than_is_claimed_ahead(
    postgres_database: str, make_layer: MakeLayer
) -> None:
    count = 2_000
    here = make_layer(postgres_database, capacity=2 * count)
    await send_jobs(here, range(count))
    await assert_killed_worker_loses_little(
        here, count=count, done_before=300, backend=BACKEND, option="dsn", place=postgres_database
    )
