"""What lies in the tables, and what is taken away."""

import asyncio
from functools import partial
from typing import Any

import pytest

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.models import LogRow, Member, Node, QueuedMessage
from channels_trunk.testing import eventually
from channels_trunk.transports.database import DatabaseTransport
from channels_trunk.transports.database import nodes as nodes_module
from channels_trunk.transports.database.names import stored_name
from channels_trunk.transports.database.worker import Job
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet
from tests.plugins.django_databases import DjangoDatabase


async def count(layer: DatabaseChannelLayer, model: Any) -> int:
    """The rows of a layer's prefix."""
    rows = model.objects.using(layer.database).filter(prefix=stored_name(layer.prefix))
    return int(await in_thread(layer.database, lambda _: rows.count()))


def save(row: Any, connection: Any) -> None:
    """Insert a row."""
    row.save(using=connection.alias)


async def test_what_all_have_read_is_trimmed(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    channel = await other.new_channel()
    for _ in range(20):
        await one.send(channel, HELLO)
        await other.receive(channel)
    assert await count(one, LogRow)

    async def trimmed() -> bool:
        # Both, as the elder one does it; each says with its heartbeat how far it has read.
        for layer in (one, other):
            layer._hub.on_io(layer._hub.maintain_here)
        return await count(one, LogRow) == 0

    await eventually(trimmed, within=10)
    await meet(one, other)


async def test_the_last_one_leaves_nothing_in_the_log(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    await one.close()
    await other.close()
    assert [await count(one, model) for model in (Node, LogRow)] == [0, 0]


async def test_clean_expired(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    layer = make_layer(database, auto_trim=False, expiry=0.05, group_expiry=0.05)
    await layer.group_add("group", "jobs")
    await layer.send("jobs", HELLO)
    assert [await count(layer, model) for model in (QueuedMessage, Member)] == [1, 1]

    async def cleaned() -> bool:
        await layer.clean_expired()
        return [await count(layer, model) for model in (QueuedMessage, Member)] == [0, 0]

    await eventually(cleaned, within=10)


async def test_a_node_that_is_silent_is_forgotten(
    database: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes_module, "FORGOTTEN_AFTER", 0.0)
    layer = make_layer(database)
    await layer.group_send("group", HELLO)
    dead = Node(node="dead", prefix=stored_name(layer.prefix), position=0, seen_at=0.0)
    await in_thread(database.alias, partial(save, dead))

    async def forgotten() -> bool:
        layer._hub.on_io(layer._hub.maintain_here)
        return await count(layer, Node) == 1

    await eventually(forgotten, within=10)


async def test_who_was_held_up_takes_nobody_for_dead(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """What held this process up, a lock say, has held up the others as well."""
    layer = make_layer(database)
    await layer.group_send("group", HELLO)
    row = Node(node="dead", prefix=stored_name(layer.prefix), position=0, seen_at=0.0)
    await in_thread(database.alias, partial(save, row))
    transport = layer._hub.transport
    assert isinstance(transport, DatabaseTransport)
    worker, part = transport._opened.worker, transport._opened.part
    nodes = nodes_module.Nodes(part._session, part._log, part.queues, part._context)
    start = SYSTEM_CLOCK.monotonic()

    async def silent(after: float) -> list[str]:
        call: Job[list[str]] = Job(lambda _job: nodes.silent(start + after))
        return await asyncio.wrap_future(worker.submit(call).outcome)

    assert [await silent(after) for after in (0, 600, 610, 620)] == [[], [], [], []]
    assert await silent(630) == ["dead"]


async def test_who_is_eldest_and_does_not_tidy_up_keeps_nobody_else_from_it(
    database: DjangoDatabase, make_layer: MakeLayer
) -> None:
    """It may be one with `auto_trim` off, or one that stands still."""
    layer = make_layer(database)
    await layer.group_send("group", HELLO)
    far = 2**60
    eldest = Node(node="0", prefix=stored_name(layer.prefix), position=far, seen_at=0.0)
    row = LogRow(prefix=stored_name(layer.prefix), position=0, origin="0", expires_at=1.0, frame=b"")
    for model in (eldest, row):
        await in_thread(database.alias, partial(save, model))

    async def trimmed() -> bool:
        layer._hub.on_io(layer._hub.maintain_here)
        return await count(layer, LogRow) == 0

    await eventually(trimmed, within=10)
    assert await count(layer, Node) == 2


async def test_names_that_differ_in_case(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """MySQL takes them for equal."""
    one, other = make_layer(database), make_layer(database)
    await one.send("Jobs", {"type": "upper"})
    await one.send("jobs", {"type": "lower"})
    async with asyncio.timeout(10):
        assert await other.receive("jobs") == {"type": "lower"}
        assert await other.receive("Jobs") == {"type": "upper"}


async def test_a_node_that_rests_is_woken_by_a_receiver(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database, polling_idle_timeout=0.05), make_layer(database)
    await meet(one, other)
    channel = await one.new_channel()
    transport = one._hub.transport
    assert isinstance(transport, DatabaseTransport)
    part = transport._opened.part
    await eventually(lambda: part._pace.rests(SYSTEM_CLOCK.monotonic(), lambda: False), within=10)
    assert not part._settings.is_awaited()
    receiving = asyncio.create_task(one.receive(channel))
    await eventually(part._settings.is_awaited, within=10)
    await other.send(channel, HELLO)
    async with asyncio.timeout(10):
        assert await receiving == HELLO
