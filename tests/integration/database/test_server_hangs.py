"""A server that does not answer: nobody waits for it longer than they want to."""

import asyncio

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from tests.integration.database.conftest import HELLO, MakeLayer, ProxyFactory, meet
from tests.plugins.django_databases import DjangoDatabase, add_database, remove_database
from tests.plugins.impatience import impatient


async def test_calls_on_a_line_that_hangs(
    server_database: DjangoDatabase, make_layer: MakeLayer, proxy: ProxyFactory
) -> None:
    """Whatever it is that waits, the layer notices, says so, and goes on over a new line."""
    direct = server_database
    line = proxy(direct.entry["HOST"], int(direct.entry["PORT"]))
    database = add_database(f"hanging_{direct.alias}", {**direct.entry, "HOST": line.host, "PORT": str(line.port)})
    try:
        one, other = make_layer(database), make_layer(direct)
        await meet(one, other)
        receiving = asyncio.create_task(one.receive("late-jobs"))
        line.hang()
        with impatient(one, 0.5):
            with pytest.raises(TransportUnavailable):
                await one.group_add("workers", "late-jobs")
            await eventually(lambda: one.health().state == "away", within=20)
        assert one.health().detail
        line.cut()
        line.resume()
        await other.send("late-jobs", HELLO)
        async with asyncio.timeout(30):
            assert await receiving == HELLO
        await meet(one, other)
        await one.close()
    finally:
        line.cut()
        remove_database(database)


async def test_a_line_that_hangs(server_database: DjangoDatabase, make_layer: MakeLayer, proxy: ProxyFactory) -> None:
    direct = server_database
    line = proxy(direct.entry["HOST"], int(direct.entry["PORT"]))
    database = add_database(f"hanging_{direct.alias}", {**direct.entry, "HOST": line.host, "PORT": str(line.port)})
    try:
        one, other = make_layer(database), make_layer(direct)
        await meet(one, other)
        line.hang()
        with impatient(one, 0.5), pytest.raises(TransportUnavailable):
            await one.send("jobs", {"type": "lost"})
        # The line does not come back: the next attempt is over a new one.
        line.cut()
        line.resume()
        await eventually(lambda: one.health().state == "ok", within=20)
        await meet(one, other)
        line.hang()
        with impatient(one, 0.5):
            sending = asyncio.create_task(one.send("jobs", HELLO))
            await asyncio.sleep(0)
        async with asyncio.timeout(12):
            await one.close()
            with pytest.raises(TransportUnavailable):
                await sending
    finally:
        line.cut()
        remove_database(database)
