"""A server that goes away and comes back."""

import asyncio

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet
from tests.plugins.django_databases import add_database, migrate, postgres_entry, remove_database
from tests.plugins.servers import OwnPostgresFactory


async def test_a_server_that_is_stopped_and_started(own_postgres: OwnPostgresFactory, make_layer: MakeLayer) -> None:
    """What is stored comes after the restart; senders meanwhile wait, and are told when their time is over."""
    server = own_postgres()
    database = add_database("own_postgres", postgres_entry(server.fresh_database()))
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        one, other = make_layer(database, send_timeout=0.5), make_layer(database, send_timeout=30)
        await meet(one, other)
        await one.send("jobs", HELLO)
        await in_thread(database.alias, lambda _: server.stop())
        await eventually(lambda: one.health().state != "ok", within=20)
        with pytest.raises(TransportUnavailable, match="send_timeout"):
            await one.send("jobs", {"type": "lost"})
        sending = asyncio.create_task(other.send("jobs", {"type": "late"}))
        receiving = asyncio.create_task(one.receive("jobs"))
        await in_thread(database.alias, lambda _: server.start())
        async with asyncio.timeout(30):
            await sending
            assert await receiving == HELLO
            assert await one.receive("jobs") == {"type": "late"}
        await meet(one, other)
        await one.close()
        await other.close()
    finally:
        remove_database(database)
