"""Rows that somebody has put there, or changed: only they are skipped, and counted."""

import asyncio
from functools import partial
from typing import Any

import pytest

from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.models import LogRow, Member, Node, QueuedMessage, Sequencer
from channels_trunk.testing import eventually
from channels_trunk.transports.database.names import stored_name
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet, run_sql
from tests.plugins.django_databases import DjangoDatabase

JOBS = [{"type": "job", "number": number} for number in range(4)]


def spoil(layer: DatabaseChannelLayer, model: Any, change: str, _connection: Any) -> None:
    """Change the second row of a layer's prefix."""
    rows = model.objects.using(layer.database).filter(prefix=stored_name(layer.prefix)).order_by("pk")
    row = rows.values_list("pk", flat=True)[1]
    run_sql(f"UPDATE {model._meta.db_table} SET {change} WHERE {model._meta.pk.column} = '{row}'")(_connection)


ANY_ENGINE = ("frame = ''", "frame = 'xyz'")
SQLITE_ALONE = ("frame = CAST('text' AS TEXT)", "frame = 7", "frame = 1.5")


async def one_bad_job(database: DjangoDatabase, make_layer: MakeLayer, change: str) -> None:
    one, other = make_layer(database), make_layer(database)
    for job in JOBS:
        await one.send("jobs", job)
    await in_thread(database.alias, partial(spoil, one, QueuedMessage, change))
    async with asyncio.timeout(20):
        got = await asyncio.gather(*(other.receive("jobs") for _ in range(3)))
    assert sorted(job["number"] for job in got) == [0, 2, 3]
    assert other.stats().skipped_frames_total == 1
    assert other.stats().reconnects_total == 0
    await meet(one, other)


async def one_bad_batch(database: DjangoDatabase, make_layer: MakeLayer, change: str) -> None:
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    channel = await other.new_channel()
    transport: Any = other._hub.transport

    def held() -> bool:
        transport.hold()
        return bool(transport._open.worker._held)

    await eventually(held)
    rows = LogRow.objects.using(database.alias).filter(prefix=stored_name(one.prefix))
    await in_thread(database.alias, lambda _: rows.delete())
    for job in JOBS:
        await one.send(channel, job)
    await in_thread(database.alias, partial(spoil, one, LogRow, change))
    transport.release()
    async with asyncio.timeout(20):
        got = [await other.receive(channel) for _ in range(3)]
    assert [job["number"] for job in got] == [0, 2, 3]
    assert other.stats().skipped_frames_total == 1
    assert other.stats().reconnects_total == 0
    await meet(one, other)


@pytest.mark.parametrize("change", ANY_ENGINE)
async def test_one_bad_job(database: DjangoDatabase, change: str, make_layer: MakeLayer) -> None:
    await one_bad_job(database, make_layer, change)


@pytest.mark.parametrize("change", SQLITE_ALONE)
async def test_one_bad_job_of_another_type(sqlite_alias: DjangoDatabase, change: str, make_layer: MakeLayer) -> None:
    await one_bad_job(sqlite_alias, make_layer, change)


@pytest.mark.parametrize("change", ANY_ENGINE)
async def test_one_bad_batch(database: DjangoDatabase, change: str, make_layer: MakeLayer) -> None:
    await one_bad_batch(database, make_layer, change)


@pytest.mark.parametrize("change", SQLITE_ALONE)
async def test_one_bad_batch_of_another_type(sqlite_alias: DjangoDatabase, change: str, make_layer: MakeLayer) -> None:
    await one_bad_batch(sqlite_alias, make_layer, change)


async def test_a_time_that_is_none(sqlite_alias: DjangoDatabase, make_layer: MakeLayer) -> None:
    """The frame has it as well; and who tidies up is not stopped by it."""
    one, other = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(one, other)
    for job in JOBS:
        await one.send("jobs", job)
    await in_thread(sqlite_alias.alias, partial(spoil, one, QueuedMessage, "expires_at = 'never'"))
    for layer in (one, other):
        await layer.clean_expired()
    async with asyncio.timeout(20):
        got = await asyncio.gather(*(other.receive("jobs") for _ in range(4)))
    assert sorted(job["number"] for job in got) == [0, 1, 2, 3]
    assert [layer.stats().reconnects_total for layer in (one, other)] == [0, 0]


@pytest.mark.parametrize(
    ("model", "column"),
    [(LogRow, "position"), (QueuedMessage, "rank"), (Member, "expires_at"), (Node, "position"), (Node, "seen_at")],
)
async def test_a_number_that_is_none(
    sqlite_alias: DjangoDatabase, model: Any, column: str, make_layer: MakeLayer
) -> None:
    """It is beyond all numbers for SQLite, and is in nobody's way."""
    one, other = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(one, other)
    await one.group_add("workers", "first")
    await one.group_add("workers", "second")
    for job in JOBS:
        await one.send("waiting", job)
        await one.group_send("nobody", HELLO)
    await in_thread(sqlite_alias.alias, partial(spoil, one, model, f"{column} = 'text'"))
    for layer in (one, other):
        await layer.clean_expired()
        layer._hub.context.sink.lost(RuntimeError("cut"))
    await eventually(lambda: all(layer.stats().reconnects_total for layer in (one, other)), within=20)
    await meet(one, other)
    await one.group_send("workers", HELLO)
    async with asyncio.timeout(20):
        assert [await other.receive(channel) for channel in ("first", "second")] == [HELLO, HELLO]
        got = [(await other.receive("waiting"))["number"] for _ in JOBS]
    assert sorted(got) == [0, 1, 2, 3]
    await one.send("waiting", HELLO)
    assert await in_thread(sqlite_alias.alias, lambda _: Sequencer.objects.using(sqlite_alias.alias).count())
    assert [layer.stats().reconnects_total for layer in (one, other)] == [1, 1]
