"""A server that goes away and comes back, in order or not."""

import asyncio
from typing import Any

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


def entry_of(own_server: OwnPostgres | OwnMariaDb) -> tuple[dict[str, Any], str]:
    """A new database's entry, and the name of its user."""
    url = own_server.fresh_database()
    entry = postgres_entry(url) if isinstance(own_server, OwnPostgres) else mariadb_entry(url)
    return entry, str(entry["USER"])


async def test_a_send_into_a_server_that_has_just_stopped(
    own_server: OwnPostgres | OwnMariaDb, make_layer: MakeLayer
) -> None:
    """What was certainly not stored is stored when the server is back; nobody is told before their time is over."""
    entry, _ = entry_of(own_server)
    database = add_database("own", entry)
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        one, other = (make_layer(database, send_timeout=60) for _ in range(2))
        # It looks so seldom that the message finds out.
        alone = make_layer(database, send_timeout=60, polling_interval=30.0, prefix="by itself")
        await alone.group_send("nobody", HELLO)
        await meet(one, other)
        await in_thread(database.alias, lambda _: own_server.stop())
        sending = [
            asyncio.create_task(call)
            for call in (
                one.send("jobs", HELLO),
                other.group_send("party", HELLO),
                one.group_add("workers", "jobs"),
                other.group_discard("workers", "others"),
                alone.group_send("nobody", HELLO),
            )
        ]
        await eventually(lambda: all(layer.health().state == "away" for layer in (one, other)), within=20)
        assert not any(task.done() for task in sending)
        await in_thread(database.alias, lambda _: own_server.start())
        async with asyncio.timeout(60):
            await asyncio.gather(*sending)
            assert await other.receive("jobs") == HELLO
        await meet(one, other)
        for layer in (alone, one, other):
            await layer.close()
    finally:
        remove_database(database)


async def test_a_login_that_is_refused_for_a_while(own_server: OwnPostgres | OwnMariaDb, make_layer: MakeLayer) -> None:
    """As with a password that is changed, or a token that is over: who was there before waits."""
    entry, user = entry_of(own_server)
    database = add_database("own", entry)
    run: Any = own_server.execute
    other_password, password = f"'not {entry['PASSWORD']}'", f"'{entry['PASSWORD']}'"
    if isinstance(own_server, OwnPostgres):
        refuse, allow = f'ALTER ROLE "{user}" NOLOGIN', f'ALTER ROLE "{user}" LOGIN'
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
    else:
        refuse = f"SET PASSWORD FOR {user}@'%' = PASSWORD({other_password})"
        allow = f"SET PASSWORD FOR {user}@'%' = PASSWORD({password})"
        cut = f"KILL CONNECTION USER {user}@'%'"
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        one, other = make_layer(database, send_timeout=60), make_layer(database, send_timeout=60)
        await meet(one, other)
        waiting = asyncio.create_task(other.receive("jobs"))
        await in_thread(database.alias, lambda _: run(refuse))
        await in_thread(database.alias, lambda _: run(cut))
        sending = [asyncio.create_task(one.send("jobs", HELLO)), asyncio.create_task(other.send("jobs", HELLO))]
        await eventually(lambda: one.health().detail and one.health().state == "away", within=20)
        assert str(entry["PASSWORD"]) not in one.health().detail
        assert not any(task.done() for task in (*sending, waiting))
        await in_thread(database.alias, lambda _: run(allow))
        async with asyncio.timeout(60):
            await asyncio.gather(*sending)
            assert await waiting == HELLO
            assert await one.receive("jobs") == HELLO
        await meet(one, other)
        await one.close()
        await other.close()
    finally:
        remove_database(database)
