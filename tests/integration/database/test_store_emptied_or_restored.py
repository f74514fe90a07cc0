"""The tables are emptied, or set back to what they were: a gap is told, and all go on hearing one another."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import transaction

from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.models import LogRow, Member, Node, QueuedMessage, Sequencer
from channels_trunk.testing import eventually
from channels_trunk.transports.database import DatabaseTransport
from channels_trunk.transports.database.names import stored_name
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, run_sql
from tests.plugins.django_databases import (
    DjangoDatabase,
    add_database,
    mariadb_entry,
    migrate,
    postgres_entry,
    remove_database,
    sqlite_entry,
)
from tests.plugins.servers import MariaDbServer
from tests.plugins.servers.postgres_server import PostgresServer

TABLES = ("sequencer", "logrow", "queuedmessage", "member", "node")
MODELS = (Sequencer, LogRow, QueuedMessage, Member, Node)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def own_database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A database of each engine that the test may treat as it likes."""
    if request.param == "sqlite":
        entry = sqlite_entry(tmp_path / "own.sqlite3")
    else:
        server: PostgresServer | MariaDbServer = request.getfixturevalue(request.param)
        url = server.fresh_database()
        entry = postgres_entry(url) if isinstance(server, PostgresServer) else mariadb_entry(url)
    database = add_database("own_database", entry)
    migrate(database)
    yield database
    remove_database(database)
    if request.param != "sqlite":
        server.drop_database(url)


class Three:
    """Three nodes; the last is the one that hears."""

    def __init__(self, make_layer: MakeLayer, database: DjangoDatabase) -> None:
        self.layers = [make_layer(database) for _ in range(3)]
        self.number = 0

    async def meet(self) -> None:
        """Each has a member in a group, and hears."""
        self.channels = [await layer.new_channel() for layer in self.layers]
        for layer, channel in zip(self.layers, self.channels, strict=True):
            await layer.group_add("party", channel)
        await self.hear()

    async def hear(self) -> None:
        """What each sends reaches the others, in order; older messages may come before."""
        first = self.number
        for layer in self.layers:
            self.number += 1
            async with asyncio.timeout(20):
                await layer.group_send("party", {"type": "n", "number": self.number})
        for layer, channel in zip(self.layers, self.channels, strict=True):
            heard: list[int] = []
            async with asyncio.timeout(20):
                while set(range(first + 1, self.number + 1)) - set(heard):
                    heard.append((await layer.receive(channel))["number"])
            assert len(set(heard)) == len(heard)

    async def told(self, before: list[int]) -> None:
        """Each knows that it may have missed something."""
        await eventually(lambda: all(now > then for now, then in zip(self.gaps, before, strict=True)), within=20)

    @property
    def gaps(self) -> list[int]:
        return [layer.stats().gaps_total for layer in self.layers]


def snapshot(_connection: Any) -> dict[Any, list[Any]]:
    return {model: list(model.objects.using("own_database").all()) for model in MODELS}


def restored(copy: dict[Any, list[Any]], connection: Any) -> None:
    with transaction.atomic(using=connection.alias):
        for model, rows in copy.items():
            model.objects.using(connection.alias).all().delete()
            model.objects.using(connection.alias).bulk_create(rows)


async def test_older_rows_come_back_while_all_send(own_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """What is sent at once afterwards gets no positions that the others have passed."""
    three = Three(make_layer, own_database)
    await three.meet()
    copy = await in_thread(own_database.alias, snapshot)
    for _ in range(5):
        await three.hear()
    before = three.gaps
    writer, *readers = three.layers
    # The readers look when the writer has overtaken where they were.
    for layer in readers:
        await hold(layer)
    await in_thread(own_database.alias, partial(restored, copy))
    for number in range(40):
        await writer.group_send("party", {"type": "n", "number": -number})
    for layer in readers:
        layer._hub.transport.release()
    await three.told(before)
    await three.hear()


async def hold(layer: DatabaseChannelLayer) -> None:
    """Its thread does nothing until release()."""
    transport = layer._hub.transport
    assert isinstance(transport, DatabaseTransport)

    def held() -> bool:
        transport.hold()
        return transport._opened.worker._held

    await eventually(held)


@pytest.mark.parametrize("table", TABLES)
async def test_one_table_is_emptied(own_database: DjangoDatabase, table: str, make_layer: MakeLayer) -> None:
    three = Three(make_layer, own_database)
    await three.meet()
    await in_thread(own_database.alias, run_sql(f"DELETE FROM channels_trunk_{table}"))
    before = three.gaps
    if table in ("sequencer", "node"):
        await three.told(before)
    await three.hear()


def truncate(connection: Any) -> None:
    if connection.vendor == "sqlite":
        run_sql(*(f"DELETE FROM channels_trunk_{table}" for table in TABLES))(connection)
    else:
        run_sql(*(f"TRUNCATE TABLE channels_trunk_{table}" for table in TABLES))(connection)


def flushed(connection: Any) -> None:
    call_command("flush", database=connection.alias, interactive=False, verbosity=0)


def migrated_anew(connection: Any) -> None:
    call_command("migrate", "channels_trunk", "zero", database=connection.alias, verbosity=0)
    call_command("migrate", "channels_trunk", database=connection.alias, verbosity=0)


@pytest.mark.parametrize("empty", [truncate, flushed, migrated_anew])
async def test_all_is_emptied(
    own_database: DjangoDatabase, empty: Callable[[Any], None], make_layer: MakeLayer
) -> None:
    three = Three(make_layer, own_database)
    await three.meet()
    before = three.gaps
    await in_thread(own_database.alias, empty)
    await three.told(before)
    await three.hear()


async def test_tables_that_are_away_for_a_while(own_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """Who took part before waits for them, and says what is to be done."""
    three = Three(make_layer, own_database)
    await three.meet()
    before = three.gaps
    one, *_, other = three.layers
    waiting = asyncio.create_task(other.receive(three.channels[-1]))
    name = own_database.alias
    await in_thread(name, lambda _: call_command("migrate", "channels_trunk", "zero", database=name, verbosity=0))
    await eventually(lambda: "migrate channels_trunk" in one.health().detail, within=20)
    assert one.health().state == "away"
    await in_thread(name, lambda _: call_command("migrate", "channels_trunk", database=name, verbosity=0))
    await three.told(before)
    await one.group_send("party", HELLO)
    async with asyncio.timeout(20):
        assert await waiting == HELLO


async def test_the_sequencer_alone_is_set_back(own_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """Positions are given once, and jobs keep their order."""
    three = Three(make_layer, own_database)
    await three.meet()
    one = three.layers[0]
    await one.send("jobs", {"type": "job", "number": 0})
    [old] = await in_thread(own_database.alias, lambda _: list(Sequencer.objects.using(own_database.alias).all()))
    await three.hear()
    await one.send("jobs", {"type": "job", "number": 1})
    await in_thread(own_database.alias, lambda connection: old.save(using=connection.alias))
    for layer in three.layers:
        layer._hub.on_io(layer._hub.maintain_here)
    for number in (2, 3):
        await one.send("jobs", {"type": "job", "number": number})
        await three.hear()
    async with asyncio.timeout(20):
        assert [(await one.receive("jobs"))["number"] for _ in range(4)] == [0, 1, 2, 3]


async def test_memberships_of_a_backup(own_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """What a node remembers of another life of the tables, it does not go by."""
    three = Three(make_layer, own_database)
    await three.meet()
    one, other, _ = three.layers
    copy = await in_thread(own_database.alias, snapshot)
    await other.group_add("workers", "old-jobs")
    await one.group_send("workers", HELLO)
    async with asyncio.timeout(20):
        assert await other.receive("old-jobs") == HELLO
    await hold(one)
    await in_thread(own_database.alias, partial(restored, copy))
    await other.group_add("workers", "new-jobs")
    one._hub.transport.release()
    await one.group_send("workers", {"type": "new"})
    async with asyncio.timeout(20):
        assert await other.receive("new-jobs") == {"type": "new"}
    waiting = QueuedMessage.objects.using(own_database.alias).filter(prefix=stored_name(one.prefix))
    assert await in_thread(own_database.alias, lambda _: waiting.count()) == 0


async def test_rows_that_are_removed_from_the_middle(own_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    three = Three(make_layer, own_database)
    await three.meet()
    one, _, last = three.layers
    await hold(last)
    for number in range(3):
        await one.group_send("party", {"type": "n", "number": number - 10})
    rows = LogRow.objects.using(own_database.alias).order_by("-position")

    def remove_second(_connection: Any) -> None:
        rows.filter(position=rows[1].position).delete()

    await in_thread(own_database.alias, remove_second)
    before = last.stats().gaps_total
    last._hub.transport.release()
    await eventually(lambda: last.stats().gaps_total > before, within=20)
    await three.hear()


@pytest.mark.parametrize("by", ["backup", "rename"])
async def test_an_older_file_is_put_in_place(by: str, tmp_path: Path, make_layer: MakeLayer) -> None:
    """Though it says of itself that nothing has happened since."""
    database = add_database("older", sqlite_entry(tmp_path / "older.sqlite3"))
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        three = Three(make_layer, database)
        await three.meet()
        copy = tmp_path / "copy.sqlite3"

        def copy_to(source: Path, target: Path) -> None:
            with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
                old.backup(new)

        copy_to(tmp_path / "older.sqlite3", copy)
        if by == "backup":
            await three.hear()
        before = three.gaps
        if by == "backup":
            await in_thread(database.alias, lambda _: copy_to(copy, tmp_path / "older.sqlite3"))
        else:
            for beside in ("-wal", "-shm"):
                (tmp_path / f"older.sqlite3{beside}").unlink(missing_ok=True)
            copy.rename(tmp_path / "older.sqlite3")
        for layer in three.layers:
            layer._hub.on_io(layer._hub.maintain_here)
        await three.told(before)
        await three.hear()
        for layer in three.layers:
            await layer.close()
    finally:
        remove_database(database)


def test_these_are_all_tables() -> None:
    models = apps.get_app_config("channels_trunk").get_models()
    assert {model._meta.db_table for model in models} == {f"channels_trunk_{table}" for table in TABLES}
