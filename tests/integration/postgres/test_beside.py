"""What administrators and other applications do in the layer's database while it is in use."""

import asyncio
import subprocess
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.postgres.names import LOCK_CLASS, Names
from tests.integration.postgres.conftest import HELLO, TABLES, MakeLayer, ask, works
from tests.plugins.servers.postgres import postgres_binary
from tests.plugins.servers.postgres_server import PostgresServer

ROUNDS = 10


async def _beside(make_layer: MakeLayer, dsn: str, *statements: str) -> None:
    """Run the statements again and again while messages go: all come, in order, over the same connections."""
    here, there = (make_layer(dsn, capacity=100_000, send_timeout=30) for _ in range(2))
    await works(here, there)
    channel = await there.new_channel()
    is_over = False
    sent = 0

    async def send() -> None:
        nonlocal sent
        while not is_over:
            await here.send(channel, {"type": "n", "n": sent})
            await here.send("jobs", {"type": "n", "n": sent})
            assert (await there.receive("jobs"))["n"] == sent
            sent += 1

    sending = asyncio.ensure_future(send())
    for _ in range(ROUNDS):
        for statement in statements:
            await in_thread(partial(ask, dsn, statement))
    is_over = True
    async with asyncio.timeout(60):
        await sending
        assert [(await there.receive(channel))["n"] for _ in range(sent)] == list(range(sent))
    await works(here, there)
    assert sent
    assert [layer.stats().gaps_total for layer in (here, there)] == [0, 0]


@pytest.mark.parametrize(
    "statements",
    [
        tuple(f"REINDEX TABLE trunk_{name}" for name in TABLES),
        tuple(f"REINDEX TABLE CONCURRENTLY trunk_{name}" for name in ("queue", "members", "nodes")),
        tuple(f"VACUUM (FULL, ANALYZE) trunk_{name}" for name in TABLES),
        ("VACUUM", "ANALYZE"),
        ("DISCARD ALL", "SELECT pg_advisory_unlock_all()"),
    ],
    ids=["REINDEX", "REINDEX CONCURRENTLY", "VACUUM FULL", "VACUUM", "DISCARD ALL"],
)
@pytest.mark.timeout(120)
async def test_upkeep_of_an_administrator(
    statements: tuple[str, ...], make_layer: MakeLayer, postgres_database: str
) -> None:
    await _beside(make_layer, postgres_database, *statements)


async def test_a_backup_by_pg_dump(make_layer: MakeLayer, postgres_database: str) -> None:
    """The tables are not logged. A dump that leaves out such tables' rows has nothing of the messages."""
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)
    await here.send("jobs", {"type": "secret-of-a-message"})
    command = [postgres_binary().parent / "pg_dump", "--dbname", postgres_database]
    for options, has_rows in (([], True), (["--no-unlogged-table-data"], False)):
        done = await in_thread(
            partial(subprocess.run, [*command, *options], capture_output=True, text=True, check=True)
        )
        assert "CREATE UNLOGGED TABLE public.trunk_log_0" in done.stdout
        assert (b"secret-of-a-message".hex() in done.stdout) is has_rows
        await works(here, there)
    assert await there.receive("jobs") == {"type": "secret-of-a-message"}


async def test_advisory_locks_of_another_application(make_layer: MakeLayer, postgres_database: str) -> None:
    """They have the same numbers as often as they like: the layer's are of a class of its own."""
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    with psycopg.connect(postgres_database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(n) FROM generate_series(-500, 500) n")
        other.execute("SELECT pg_advisory_lock(0, n) FROM generate_series(-500, 500) n")
        await works(here, there)
        other.execute("SELECT pg_advisory_unlock_all()")
    await works(here, there)


async def test_an_application_that_takes_the_layers_own_lock_holds_senders_up_and_no_longer(
    make_layer: MakeLayer, postgres_database: str
) -> None:
    """By chance, or on purpose: then a send waits, is told so, and the next one goes when it is over."""
    here, there = make_layer(postgres_database, send_timeout=1), make_layer(postgres_database)
    channel = await there.new_channel()
    await works(here, there)
    lock = LOCK_CLASS, Names("public", "trunk_").lock_key
    with psycopg.connect(postgres_database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", lock)
        with pytest.raises(TransportUnavailable):
            await here.group_send("room", HELLO)

    async def comes() -> bool:
        try:
            await here.send(channel, HELLO)
        except TransportUnavailable:
            return False
        async with asyncio.timeout(20):
            return await there.receive(channel) == HELLO

    await eventually(comes)


@pytest.mark.parametrize(
    "setting",
    [
        "session_replication_role = 'replica'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "row_security = off",
        "lock_timeout = '1ms'",
        "synchronous_commit = off",
        "work_mem = '64kB'",
        "enable_indexscan = off",
        "plan_cache_mode = 'force_custom_plan'",
        "jit = on",
        "TimeZone = 'Asia/Tokyo'",
        "search_path = public, pg_temp",
    ],
)
async def test_defaults_of_sessions(
    setting: str, make_layer: MakeLayer, postgres_database: str, postgres: PostgresServer
) -> None:
    name = conninfo_to_dict(postgres_database)["dbname"]
    ask(postgres.superuser_dsn, f"ALTER DATABASE {name} SET {setting}")
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)
    assert here.stats().reconnects_total == there.stats().reconnects_total == 0
