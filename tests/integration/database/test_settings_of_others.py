"""What a person may have set for the database, its server or their own connections, and the layer must do without."""

import asyncio
from typing import Any

import pytest
from django.db import connections

from channels_trunk.testing import eventually
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet
from tests.plugins.django_databases import (
    DjangoDatabase,
    add_database,
    mariadb_entry,
    migrate,
    remove_database,
)
from tests.plugins.servers import OwnMariaDb

SERIALIZABLE = "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"
MARIADB = (
    {"AUTOCOMMIT": False},
    {"ATOMIC_REQUESTS": True},
    {"OPTIONS": {"isolation_level": "repeatable read"}},
    {"OPTIONS": {"isolation_level": "serializable"}},
    {"OPTIONS": {"init_command": "SET autocommit = 0"}},
    {"OPTIONS": {"init_command": SERIALIZABLE}},
)
POSTGRES = (
    {"AUTOCOMMIT": False},
    {"OPTIONS": {"isolation_level": 3}},
    {"OPTIONS": {"options": "-c default_transaction_isolation=serializable"}},
    {"OPTIONS": {"options": "-c default_transaction_isolation=repeatable\\ read"}},
    {"TIME_ZONE": "Asia/Kathmandu"},
)


async def hear_each_other(alias: DjangoDatabase, changes: dict[str, Any], make_layer: MakeLayer) -> None:
    options = {**alias.entry.get("OPTIONS", {}), **changes.get("OPTIONS", {})}
    database = add_database("as_they_like_it", {**alias.entry, **changes, "OPTIONS": options})
    try:
        one, other = make_layer(database), make_layer(database)
        await meet(one, other)
        await asyncio.gather(*(layer.send("jobs", HELLO) for layer in (one, other) for _ in range(20)))
        async with asyncio.timeout(20):
            assert [await other.receive("jobs") for _ in range(40)] == [HELLO] * 40
        await meet(one, other)
        assert [layer.stats().gaps_total + layer.stats().reconnects_total for layer in (one, other)] == [0, 0]
        await one.close()
        await other.close()
    finally:
        remove_database(database)


@pytest.mark.parametrize("changes", MARIADB, ids=str)
async def test_mariadb(mariadb_alias: DjangoDatabase, changes: dict[str, Any], make_layer: MakeLayer) -> None:
    await hear_each_other(mariadb_alias, changes, make_layer)


@pytest.mark.parametrize("changes", POSTGRES, ids=str)
async def test_postgres(postgres_alias: DjangoDatabase, changes: dict[str, Any], make_layer: MakeLayer) -> None:
    await hear_each_other(postgres_alias, changes, make_layer)


@pytest.fixture
def own_database(own_mariadb: OwnMariaDb) -> Any:
    """A database of a server whose variables the test may set."""
    database = add_database("own_mariadb", mariadb_entry(own_mariadb.fresh_database()))
    migrate(database)
    yield database
    remove_database(database)


async def test_a_server_that_only_reads_for_a_while(
    own_database: DjangoDatabase, own_mariadb: OwnMariaDb, make_layer: MakeLayer
) -> None:
    """As in a failover: senders wait, and nobody has to do anything."""
    one, other = make_layer(own_database, send_timeout=30), make_layer(own_database)
    await meet(one, other)
    await in_thread(own_database.alias, lambda _: own_mariadb.execute("SET GLOBAL read_only = 1"))
    sending = [asyncio.create_task(one.send("jobs", HELLO)) for _ in range(3)]
    await eventually(lambda: "read" in one.health().detail, within=20)
    assert one.health().state == "away"
    await in_thread(own_database.alias, lambda _: own_mariadb.execute("SET GLOBAL read_only = 0"))
    async with asyncio.timeout(30):
        await asyncio.gather(*sending)
        assert [await other.receive("jobs") for _ in range(3)] == [HELLO] * 3
    await meet(one, other)


async def test_a_server_that_ends_idle_connections(
    own_database: DjangoDatabase, own_mariadb: OwnMariaDb, make_layer: MakeLayer
) -> None:
    """A node that looks seldom finds its connection ended, and loses nothing by it."""
    await in_thread(own_database.alias, lambda _: own_mariadb.execute("SET GLOBAL wait_timeout = 1"))
    one = make_layer(own_database, polling_interval=30, send_timeout=30)
    other = make_layer(own_database)
    await meet(one, other)
    channel = await one.new_channel()
    await one.group_add("party", channel)

    def sessions() -> int:
        rows = own_mariadb.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Sleep' AND time_ms > 900"
        )
        return int(str(rows[0][0]))

    for _ in range(2):
        await eventually(lambda: in_thread(own_database.alias, lambda _: sessions()), within=20)
        await one.group_send("workers", HELLO)
        await one.send("jobs", HELLO)
        async with asyncio.timeout(20):
            assert await other.receive("jobs") == HELLO
        await other.group_send("party", HELLO)
        async with asyncio.timeout(20):
            assert await one.receive(channel) == HELLO


@pytest.mark.parametrize(
    "lock", ["LOCK TABLES channels_trunk_logrow WRITE", "LOCK TABLES channels_trunk_sequencer READ"]
)
async def test_tables_that_are_locked(own_database: DjangoDatabase, lock: str, make_layer: MakeLayer) -> None:
    """As a backup does: it is said, and goes on by itself; MariaDB would wait for a day."""
    one, other = make_layer(own_database, send_timeout=60), make_layer(own_database, send_timeout=60)
    await meet(one, other)
    holder = connections.create_connection(own_database.alias)
    holder.inc_thread_sharing()
    channel = await other.new_channel()
    await in_thread(own_database.alias, lambda _: holder.cursor().execute(lock))
    sending = asyncio.create_task(one.send(channel, HELLO))
    await eventually(lambda: "locked" in one.health().detail, within=30)
    assert not sending.done()
    await in_thread(own_database.alias, lambda _: holder.close())
    async with asyncio.timeout(60):
        await sending
        assert await other.receive(channel) == HELLO
    await meet(one, other)
    assert one.stats().reconnects_total == 0
