"""Behind PgBouncer: LISTEN does not hold where it pools transactions, which is noticed, said once, and served."""

import asyncio
import logging
import threading

import psycopg
import pytest

from channels_trunk.testing import eventually
from tests.integration.postgres.conftest import GAP, HELLO, MakeLayer, ask, member, sessions, works
from tests.plugins.servers.pgbouncer import PgBouncer, PgBouncerFactory
from tests.plugins.servers.postgres_server import PostgresServer

ROTATE = "SELECT trunk_rotate(0, 0, 30)"
POLLS = "LISTEN does not hold here"
# What the layer sets on sessions of its own.
SETTINGS = (
    "synchronous_commit",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "client_min_messages",
)


@pytest.fixture
def pooler(postgres: PostgresServer, pgbouncer: PgBouncerFactory) -> PgBouncer:
    """It pools transactions."""
    return pgbouncer(postgres)


def state_of_pool(dsn: str) -> list[list[object]]:
    """Settings and prepared statements of as many sessions of the pool as can be had at once."""
    connections = [psycopg.connect(dsn) for _ in range(8)]
    found = []
    try:
        for connection in connections:  # each has a transaction, and so a session, of its own until the end
            values: list[object] = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS]
            values += connection.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'trunk%'").fetchall()
            values += connection.execute("SELECT pg_listening_channels()").fetchall()
            values += connection.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            ).fetchall()
            found.append(values)
    finally:
        for connection in connections:
            connection.close()
    return found


async def test_transactions_are_pooled(
    make_layer: MakeLayer, pooler: PgBouncer, postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dsn = pooler.by_address(postgres_database)
    here, there = make_layer(dsn), make_layer(dsn)
    for _ in range(3):
        await works(here, there)
    direct = make_layer(postgres_database)
    await works(here, direct)
    said = [record.getMessage() for record in caplog.records if POLLS in record.getMessage()]
    assert len(said) == 2  # each layer once, whatever happens afterwards
    assert "The layer polls every 0.1 s; a 'listen_dsn' that leads to the server itself is faster" in said[0]
    pooler.ask("RECONNECT")
    await works(here, there)
    assert len([record for record in caplog.records if POLLS in record.getMessage()]) == 2
    assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_sessions_of_the_pool_are_left_as_they_were(
    make_layer: MakeLayer, pooler: PgBouncer, postgres_database: str
) -> None:
    dsn = pooler.by_address(postgres_database)
    before = state_of_pool(dsn)
    here, there = make_layer(dsn), make_layer(dsn)
    await works(here, there)
    after = state_of_pool(dsn)
    assert {repr(values) for values in after} == {repr(values) for values in before}
    assert len({repr(values) for values in before}) == 1
    await here.close()
    await there.close()


async def test_listen_dsn_leads_past_the_pooler(
    make_layer: MakeLayer, pooler: PgBouncer, postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = pooler.by_address(postgres_database)
    # With polls so rare, only notifications can bring the messages in time.
    here, there = (make_layer(dsn, listen_dsn=postgres_database, polling_interval=60) for _ in range(2))
    await works(here, there)
    assert POLLS not in caplog.text
    assert len([name for name in sessions(postgres_database) if name.startswith("channels-trunk listen")]) == 2


async def test_sessions_are_pooled(
    make_layer: MakeLayer,
    postgres: PostgresServer,
    pgbouncer: PgBouncerFactory,
    postgres_database: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pooler = pgbouncer(postgres, pool_mode="session")
    dsn = pooler.by_address(postgres_database)
    here, there = make_layer(dsn), make_layer(dsn)
    for _ in range(2):
        await works(here, there)
    assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_a_default_that_cannot_be_set_behind_a_pooler(
    make_layer: MakeLayer, pooler: PgBouncer, postgres: PostgresServer, postgres_database: str
) -> None:
    from channels_trunk.exceptions import SchemaMismatch

    name = postgres_database.rpartition("/")[2]
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
    layer = make_layer(pooler.by_address(postgres_database))
    with pytest.raises(SchemaMismatch, match="needs the isolation level 'read committed', and the role's default is"):
        await layer.send("jobs", {"type": "hello"})


async def test_a_pooler_that_is_restarted(make_layer: MakeLayer, pooler: PgBouncer, postgres_database: str) -> None:
    dsn = pooler.by_address(postgres_database)
    here, there = make_layer(dsn), make_layer(dsn)
    await works(here, there)
    pooler.stop()
    pooler.start()
    await works(here, there)
    assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_a_log_that_was_emptied_between_two_polls_is_a_gap(
    make_layer: MakeLayer, pooler: PgBouncer, postgres_database: str
) -> None:
    here = make_layer(postgres_database)
    there = make_layer(pooler.by_address(postgres_database), gap_event=GAP["type"])
    channel = await member(there)
    await here.group_send("members", HELLO)
    assert await asyncio.wait_for(there.receive(channel), 20) == HELLO
    held, free = threading.Event(), threading.Event()

    def stand_still() -> None:
        held.set()
        free.wait(30)

    there._hub.on_io(stand_still)
    try:
        await eventually(held.is_set)
        for _ in range(2):
            await here.group_send("members", {"type": "missed"})
            # As when it stood still for so long that nobody waits for it any more.
            await eventually(lambda: ask(postgres_database, ROTATE) == [("emptied",)])
    finally:
        free.set()
    assert await asyncio.wait_for(there.receive(channel), 20) == GAP
    await here.group_send("members", {"type": "after"})
    async with asyncio.timeout(20):
        while await there.receive(channel) != {"type": "after"}:
            pass
    assert there.stats().gaps_total == 1
