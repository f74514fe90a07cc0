"""A server that goes away and comes back, in order or not."""

import asyncio

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet
from tests.plugins.django_databases import add_database, mariadb_entry, migrate, postgres_entry, remove_database
from tests.plugins.impatience import impatient
from tests.plugins.servers import OwnMariaDb, OwnPostgres, OwnPostgresFactory

SERVERS = ("own_postgres", "own_mariadb")


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest) -> OwnPostgres | OwnMariaDb:
    """A server of each kind, running."""
    if request.param == "own_mariadb":
        own: OwnMariaDb = request.getfixturevalue("own_mariadb")
        return own
    make: OwnPostgresFactory = request.getfixturevalue("own_postgres")
    return make()


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_server_that_is_restarted(
    own_server: OwnPostgres | OwnMariaDb, in_order: bool, make_layer: MakeLayer
) -> None:
    """What is stored comes after the restart; senders meanwhile wait, and are told when their time is over."""
    url = own_server.fresh_database()
    entry = postgres_entry(url) if isinstance(own_server, OwnPostgres) else mariadb_entry(url)
    database = add_database("own", entry)
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        one, other = make_layer(database), make_layer(database, send_timeout=30)
        await meet(one, other)
        channel = await other.new_channel()
        await other.group_add("party", channel)
        await one.send("jobs", HELLO)
        end = own_server.stop if in_order else own_server.kill
        await in_thread(database.alias, lambda _: end())
        await eventually(lambda: one.health().state != "ok", within=20)
        with impatient(one, 0.5):
            with pytest.raises(TransportUnavailable, match="send_timeout"):
                await one.send("jobs", {"type": "lost"})
            with pytest.raises(TransportUnavailable, match="send_timeout"):
                await one.group_send("party", {"type": "lost"})
        sending = asyncio.create_task(other.send("jobs", {"type": "late"}))
        receiving = asyncio.create_task(one.receive("jobs"))
        await in_thread(database.alias, lambda _: own_server.start())
        async with asyncio.timeout(30):
            await sending
            assert await receiving == HELLO
            assert await one.receive("jobs") == {"type": "late"}
            # Members are in their own process, and have not noticed.
            await eventually(lambda: one.health().state == "ok", within=20)
            await one.group_send("party", HELLO)
            assert await other.receive(channel) == HELLO
        await meet(one, other)
        await one.close()
        await other.close()
    finally:
        remove_database(database)
