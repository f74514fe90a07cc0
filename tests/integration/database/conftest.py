"""Layers by the ORM on each engine, and what tests do behind their backs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections

from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.testing.proxy import Proxy
from tests.plugins.django_databases import DjangoDatabase

MakeLayer = Callable[..., DatabaseChannelLayer]
ProxyFactory = Callable[[str, int], Proxy]
HELLO = {"type": "hello"}
ENGINES = ("sqlite_alias", "postgres_alias", "mariadb_alias")
SERVERS = ENGINES[1:]


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> DjangoDatabase:
    """A database of each engine, one after the other."""
    found: DjangoDatabase = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=SERVERS)
def server_database(request: pytest.FixtureRequest) -> DjangoDatabase:
    """A database of each engine that is a server."""
    found: DjangoDatabase = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def make_layer() -> AsyncIterator[MakeLayer]:
    """Layers that are closed after the test; those of one test have a prefix of their own."""
    layers: list[DatabaseChannelLayer] = []
    prefix = f"test {uuid4().hex}"

    def make(database: DjangoDatabase, **config: Any) -> DatabaseChannelLayer:
        given = {"prefix": prefix, "polling_interval": 0.01, **config}
        layers.append(DatabaseChannelLayer(database=database.alias, **given))
        return layers[-1]

    yield make
    for layer in layers:
        async with asyncio.timeout(15):
            await layer.close()


async def meet(one: DatabaseChannelLayer, other: DatabaseChannelLayer) -> None:
    """Both reach each other, directly and by groups, and have a queue in common."""
    for sender, reader in ((one, other), (other, one)):
        channel = await reader.new_channel()
        async with asyncio.timeout(20):
            await reader.group_add("party", channel)
            await sender.send(channel, HELLO)
            await sender.group_send("party", HELLO)
            assert [await reader.receive(channel) for _ in range(2)] == [HELLO, HELLO]
            await reader.group_discard("party", channel)
            await sender.send("jobs", HELLO)
            assert await reader.receive("jobs") == HELLO


async def in_thread(alias: str, work: Callable[[Any], Any]) -> Any:
    """Call `work` with Django's connection of another thread, and close it."""

    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(connections[alias]))
        except BaseException as error:  # noqa: BLE001 - it belongs to the test
            outcome.set_exception(error)
        finally:
            connections[alias].close()

    # Not a thread of the loop's pool, which lives on.
    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def run_sql(*statements: str) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Work for in_thread(): statements; the rows of the last."""

    def work(connection: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    return work
