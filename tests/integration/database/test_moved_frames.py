"""With keys, frames that somebody moved within the tables are refused and counted."""

import asyncio
from functools import partial
from typing import Any

import pytest

from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.models import LogRow, QueuedMessage
from channels_trunk.testing import eventually
from channels_trunk.transports.database.names import stored_name
from tests.integration.database.conftest import MakeLayer, in_thread, meet
from tests.plugins.django_databases import DjangoDatabase

KEYS = {"symmetric_encryption_keys": ["opensesame"]}
OWN, SECRET = {"type": "own"}, {"type": "swordfish"}


def held(layer: DatabaseChannelLayer) -> bool:
    transport: Any = layer._hub.transport
    transport.hold()
    return bool(transport._open.worker._held)


def newest_in_log(layer: DatabaseChannelLayer, _connection: Any) -> Any:
    rows = LogRow.objects.using(layer.database).filter(prefix=stored_name(layer.prefix))
    return rows.order_by("-position")[0]


def put_in_place(row: Any, frame: bytes, _connection: Any) -> None:
    row.frame = frame
    row.save()


def only_job(layer: DatabaseChannelLayer, channel: str, _connection: Any) -> Any:
    return QueuedMessage.objects.using(layer.database).get(
        prefix=stored_name(layer.prefix), channel=stored_name(channel)
    )


@pytest.mark.parametrize("kind", ["group", "mailbox", "channel"])
async def test_moved_to_a_normal_channel(database: DjangoDatabase, make_layer: MakeLayer, kind: str) -> None:
    one, other = make_layer(database, **KEYS), make_layer(database, **KEYS)
    await meet(one, other)
    await one.send("second", OWN)
    job = await in_thread(database.alias, partial(only_job, one, "second"))
    if kind == "channel":
        await one.send("first", SECRET)
        source: Any = await in_thread(database.alias, partial(only_job, one, "first"))
    else:
        if kind == "group":
            await one.group_send("second", SECRET)
        else:
            await one.send(await other.new_channel(), SECRET)
        source = await in_thread(database.alias, partial(newest_in_log, one))
    await in_thread(database.alias, partial(put_in_place, job, source.frame))
    await one.send("second", {"type": "last"})
    async with asyncio.timeout(20):
        assert await other.receive("second") == {"type": "last"}
    assert other.stats().skipped_frames_total == 1
    await meet(one, other)


@pytest.mark.parametrize("is_own", [False, True], ids=["of a normal channel", "of the process itself"])
async def test_what_is_none_of_the_log(database: DjangoDatabase, make_layer: MakeLayer, is_own: bool) -> None:
    one, other = make_layer(database, **KEYS), make_layer(database, **KEYS)
    await meet(one, other)
    channel = await other.new_channel()
    await other.group_send("first", SECRET)
    await one.send("first", SECRET)
    if is_own:
        source: Any = await in_thread(database.alias, partial(newest_in_log, other))
    else:
        source = await in_thread(database.alias, partial(only_job, one, "first"))
    await eventually(lambda: held(other))
    await one.send(channel, OWN)
    row = await in_thread(database.alias, partial(newest_in_log, one))
    await in_thread(database.alias, partial(put_in_place, row, source.frame))
    transport: Any = other._hub.transport
    transport.release()
    await eventually(lambda: other.stats().skipped_frames_total == 1, within=20)
    await meet(one, other)
