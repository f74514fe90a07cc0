"""Sessions are killed, again and again, under load of four processes: nothing is lost, nothing comes twice."""

import asyncio

import pytest

from tests.integration.postgres.conftest import terminate
from tests.integration.postgres.load import FAULT_SECONDS, check_jobs, check_streams, crew
from tests.plugins.servers.postgres_server import PostgresServer

KILL_EVERY = 0.2


async def kill_for_a_while(server: PostgresServer, dsn: str, purpose: str, *, seconds: float) -> int:
    """End the sessions for one purpose in every process, over and over; return how many there were."""
    killed = 0
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while clock() < end:
        killed += terminate(server, dsn, purpose)
        await asyncio.sleep(KILL_EVERY)
    return killed


@pytest.mark.timeout(300 + 3 * FAULT_SECONDS)
@pytest.mark.parametrize(
    ("purpose", "seconds"),
    [("listen", FAULT_SECONDS), ("write", FAULT_SECONDS / 2), ("keep", FAULT_SECONDS / 2), ("", FAULT_SECONDS / 2)],
    ids=["listen", "write", "keep", "all"],
)
async def test_sessions_are_killed_under_load(
    postgres: PostgresServer, postgres_database: str, purpose: str, seconds: float
) -> None:
    async with crew(postgres_database) as processes:
        killed = await kill_for_a_while(postgres, postgres_database, purpose, seconds=seconds)
        outcome = await processes.outcome()
        check_streams(outcome)
        await check_jobs(processes, outcome)
    assert killed
    assert [got["gaps"] for got in outcome.values()] == [0] * len(outcome)
    if purpose in {"listen", "keep"}:
        assert not any(numbers for got in outcome.values() for numbers in got["raised"].values())
    sent = sum(len(numbers) for got in outcome.values() for numbers in got["sure"].values())
    assert sent
