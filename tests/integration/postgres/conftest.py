"""Layers on PostgreSQL, and what the tests of this folder ask of the server behind the layers' backs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.proxy import Proxy
from tests.plugins.servers.postgres_server import PostgresServer

MakeLayer = Callable[..., PostgresChannelLayer]
ProxyFactory = Callable[[str, int], Proxy]
HELLO = {"type": "hello"}
GAP = {"type": "gap.said"}
TABLES = ("meta", "state", "log_0", "log_1", "queue", "members", "nodes")


@pytest.fixture
async def make_layer() -> AsyncIterator[MakeLayer]:
    """Layers that are closed after the test, whatever state it left them in."""
    layers: list[PostgresChannelLayer] = []

    def make(dsn: str | None = None, **config: Any) -> PostgresChannelLayer:
        given = config if dsn is None else {"dsn": dsn, **config}
        layers.append(PostgresChannelLayer(**given))
        return layers[-1]

    yield make
    for layer in layers:
        async with asyncio.timeout(15):
            await layer.close()


def ask(dsn: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement of the test's own, in a connection of its own."""
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10, application_name="a test") as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def terminate(server: PostgresServer, dsn: str, purpose: str = "") -> int:
    """End the layers' sessions in a database, or those for one purpose; return how many there were."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    statement = sql.SQL(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND application_name LIKE {}"
    ).format(sql.Literal(name), sql.Literal(f"channels-trunk {purpose}%"))
    return len(server.execute(statement))


def sessions(dsn: str) -> list[str]:
    """The names of the layers' sessions in a database."""
    rows = ask(
        dsn,
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'channels-trunk %%' ORDER BY 1",
    )
    return [str(name) for (name,) in rows]


async def works(one: PostgresChannelLayer, other: PostgresChannelLayer) -> None:
    """Both reach each other, directly and by groups, and have a queue in common."""
    for sender, reader in ((one, other), (other, one)):
        channel = await reader.new_channel()
        async with asyncio.timeout(20):
            await reader.group_add("works", channel)
            await sender.send(channel, HELLO)
            await sender.group_send("works", HELLO)
            assert [await reader.receive(channel) for _ in range(2)] == [HELLO, HELLO]
            await reader.group_discard("works", channel)
            await sender.send("works-jobs", HELLO)
            assert await reader.receive("works-jobs") == HELLO


async def is_ok(*layers: PostgresChannelLayer, within: float = 20) -> None:
    """Wait until the layers are connected."""
    await eventually(lambda: all(layer.health().state == "ok" for layer in layers), within=within)


async def is_away(*layers: PostgresChannelLayer, within: float = 20) -> None:
    """Wait until the layers know that they are not."""
    await eventually(lambda: all(layer.health().state != "ok" for layer in layers), within=within)


async def member(layer: PostgresChannelLayer, group: str = "members") -> str:
    """A channel in a group, which is told of gaps."""
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel
