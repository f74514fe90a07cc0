"""A transaction that stays open elsewhere in the database delays no message, and loses none; the tables stay small."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import HELLO, TABLES, MakeLayer, ask, works
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

BODY = "x" * 1000
MEGABYTE = 1024 * 1024
SIZE = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c WHERE relname LIKE 'trunk%%' AND relkind = 'r'"
)

PAGES = (
    "SELECT sum(shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements s "
    "JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() AND query ~ '(trunk_queue|publish)'"
)


@contextmanager
def transaction(dsn: str, *statements: str) -> Iterator["psycopg.Connection[Any]"]:
    """Another session's transaction, open until the end of the block."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in ("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM pg_class", *statements):
            connection.execute(statement.encode())
        yield connection
        connection.execute("ROLLBACK")


def size(dsn: str) -> int:
    """Bytes of all tables, with their indexes."""
    return int(ask(dsn, SIZE)[0][0])


async def flood(sender: PostgresChannelLayer, channel: str, count: int, *, senders: int = 50) -> None:
    """Send numbered messages of a kilobyte, many at a time; a full channel would raise."""

    async def some(first: int) -> None:
        for number in range(first, count, senders):
            await sender.send(channel, {"type": "n", "n": number, "body": BODY})

    await asyncio.gather(*map(some, range(senders)))


async def receive_all(reader: PostgresChannelLayer, channel: str, count: int) -> list[int]:
    """The sorted numbers of so many messages."""
    async with asyncio.timeout(40):
        return sorted([(await reader.receive(channel))["n"] for _ in range(count)])


@pytest.mark.timeout(120)
async def test_a_transaction_with_an_old_snapshot(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = (make_layer(postgres_database, capacity=100_000) for _ in range(2))
    channel = await there.new_channel()
    await works(here, there)
    with transaction(postgres_database):
        largest = 0
        for _ in range(12):
            # 5 MB each: the log is emptied again and again, though nothing could be vacuumed now.
            sending = asyncio.ensure_future(flood(here, channel, 5_000))
            assert await receive_all(there, channel, 5_000) == list(range(5_000))
            await sending
            largest = max(largest, size(postgres_database))
        await works(here, there)
    assert largest < 50 * MEGABYTE

    def is_small_a_minute_later() -> bool:
        # Each time: what was under way at the first may have noted its own time after that.
        ask(postgres_database, "UPDATE trunk_state SET emptied_at = now() - interval '1 hour'")
        return size(postgres_database) < 20 * MEGABYTE

    # What is left of a burst is emptied after a minute.
    await eventually(is_small_a_minute_later)


async def test_a_dump_that_locks_every_table(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = (make_layer(postgres_database, capacity=100_000, enforce_capacity=False) for _ in range(2))
    channel = await there.new_channel()
    await works(here, there)
    locks = [f"LOCK TABLE trunk_{name} IN ACCESS SHARE MODE" for name in TABLES]
    with transaction(postgres_database, *locks):
        sending = asyncio.ensure_future(flood(here, channel, 15_000))
        assert await receive_all(there, channel, 15_000) == list(range(15_000))
        await sending
        await works(here, there)
        await here.flush()
        grown = size(postgres_database)
    assert here.stats().reconnects_total == there.stats().reconnects_total == 0

    async def emptied() -> bool:
        # A log that is small is emptied once a minute; the clock is helped on.
        ask(postgres_database, "UPDATE trunk_state SET emptied_at = now() - interval '1 hour'")
        await here.send(channel, HELLO)
        return size(postgres_database) < MEGABYTE

    assert grown > 10 * MEGABYTE
    await eventually(emptied, within=20)


async def test_a_transaction_of_the_callers_own(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await there.new_channel()
    await works(here, there)
    with transaction(postgres_database, "CREATE TABLE of_the_application (id int)") as connection:
        connection.execute("INSERT INTO of_the_application VALUES (1)")
        await here.send(channel, HELLO)
        assert await asyncio.wait_for(there.receive(channel), 20) == HELLO  # it has not waited for the commit
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1/0")
        await works(here, there)


@pytest.mark.timeout(120)
async def test_workers_under_an_old_snapshot(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str
) -> None:
    """What workers have taken cannot be vacuumed meanwhile, and must not be in the way of each further claim."""
    here, there = (make_layer(postgres_database, capacity=100_000) for _ in range(2))
    await works(here, there)
    counting = dsn_for(postgres.superuser_dsn, database=postgres_database.rpartition("/")[2])
    ask(counting, "CREATE EXTENSION pg_stat_statements")
    pages: list[int] = []
    with transaction(postgres_database):
        for _ in range(5):
            ask(counting, "SELECT pg_stat_statements_reset()")
            sending = asyncio.ensure_future(flood(here, "jobs", 2_500))
            assert await receive_all(there, "jobs", 2_500) == list(range(2_500))
            await sending
            pages.append(int(ask(counting, PAGES)[0][0]))
    # Where each claim goes through all that are dead, the last round reads seven times as much as the first.
    assert pages[-1] < 3 * pages[0], pages


async def test_what_a_worker_gave_back_by_dying_is_found(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)
    await here.send("jobs", HELLO)
    with transaction(postgres_database, "DELETE FROM trunk_queue"):
        waiting = asyncio.ensure_future(there.receive("jobs"))
        await works(here, there)
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, 20) == HELLO
