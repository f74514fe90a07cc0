"""Messages that are larger than the database takes at once."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from channels.exceptions import MessageTooLarge

from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.transports.database import sizes
from tests.integration.database.conftest import MakeLayer
from tests.plugins.django_databases import DjangoDatabase
from tests.plugins.servers.mariadb import MariaDbServer

MIB = 1 << 20
# Whatever the driver makes of it, it is twice as long.
QUOTED = b"'"


def of(data: bytes, **more: Any) -> dict[str, Any]:
    return {"type": "x", "data": data, **more}


async def received(layer: DatabaseChannelLayer, channel: str, count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


@pytest.fixture
def one_mebibyte(mariadb: MariaDbServer, mariadb_alias: DjangoDatabase) -> Iterator[DjangoDatabase]:
    """A MariaDB that takes a mebibyte at once."""
    [(before,)] = mariadb.execute("SELECT @@GLOBAL.max_allowed_packet")
    mariadb.execute(f"SET GLOBAL max_allowed_packet = {MIB}")
    yield mariadb_alias
    mariadb.execute(f"SET GLOBAL max_allowed_packet = {before}")


async def test_max_allowed_packet(make_layer: MakeLayer, one_mebibyte: DjangoDatabase) -> None:
    here, there = make_layer(one_mebibyte), make_layer(one_mebibyte)
    channel = await there.new_channel()
    for target in (channel, "jobs"):
        for data in (bytes(2_000_000), QUOTED * 600_000):
            with pytest.raises(MessageTooLarge, match=rf"takes {MIB} bytes at once: .* raise its max_allowed_packet"):
                await here.send(target, of(data))
        await here.send(target, of(QUOTED * 500_000, number=1))
        assert await received(there, target, 1) == [1]
    assert here.stats().reconnects_total == there.stats().reconnects_total == 0


async def test_what_is_not_too_large_is_not_so_together(make_layer: MakeLayer, one_mebibyte: DjangoDatabase) -> None:
    here, there = make_layer(one_mebibyte, capacity=1_000), make_layer(one_mebibyte, capacity=1_000)
    channel = await there.new_channel()
    for target in (channel, "jobs"):
        messages = [of(QUOTED * 20_000, number=number) for number in range(100)]
        await asyncio.gather(*(here.send(target, message) for message in messages))
        assert await received(there, target, 100) == list(range(100))
    workers = [f"worker{number}" for number in range(5)]
    for worker in workers:
        await there.group_add("workers", worker)
    await here.group_send("workers", of(QUOTED * 200_000, number=1))
    for worker in workers:
        assert await received(there, worker, 1) == [1]
    assert here.stats().failed_total == here.stats().reconnects_total == 0


async def test_other_engines(
    make_layer: MakeLayer, postgres_alias: DjangoDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gibibyte is too much for a test."""
    monkeypatch.setattr(sizes, "_POSTGRES", MIB)
    here, there = make_layer(postgres_alias), make_layer(postgres_alias)
    channel = await there.new_channel()
    with pytest.raises(MessageTooLarge, match=rf"takes {MIB} bytes at once: send less"):
        await here.send(channel, of(bytes(600_000)))
    await here.send(channel, of(bytes(500_000), number=1))
    assert await received(there, channel, 1) == [1]


async def test_sqlite(make_layer: MakeLayer, sqlite_alias: DjangoDatabase) -> None:
    here = make_layer(sqlite_alias)
    await here.new_channel()
    transport: Any = here._hub.transport
    transport._opened.session.statements.sizes.largest = 100_000
    with pytest.raises(MessageTooLarge, match="takes 100000 bytes at once: send less"):
        await here.send("jobs", of(bytes(100_000)))
    await here.send("jobs", of(b"", number=1))
    assert await received(here, "jobs", 1) == [1]
