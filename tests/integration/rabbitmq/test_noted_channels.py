"""Which normal channels there are, as the notes on the broker say: those that are gone do not stay in them for ever."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import aiormq
import pytest

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.transports.rabbitmq import RabbitMQTransport, members, workers
from channels_trunk.transports.rabbitmq.ledger import Notes
from channels_trunk.transports.rabbitmq.link import Link
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer

T = TypeVar("T")


class Broker:
    """What a layer's transport says of the broker, in the loop of its connection."""

    def __init__(self, layer: RabbitMQChannelLayer) -> None:
        self.transport = cast(RabbitMQTransport, layer._hub.transport)
        assert self.transport._link is not None
        self._link: Link = self.transport._link

    async def _in_its_loop(self, asked: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._link.connection.loop))

    async def noted(self) -> Notes:
        return await self._in_its_loop(self.transport._ledger.read())

    async def note(self, channel: str) -> None:
        await self._in_its_loop(self.transport._ledger.note_channels([channel]))

    async def look(self) -> None:
        """What one process or another does every ten minutes."""
        transport = self.transport
        looking = transport._members.look_after(self._link, transport._workers, transport._ledger, thoroughly=True)
        await self._in_its_loop(looking)

    async def delete(self, channel: str) -> None:
        """As the broker does with a queue that nobody uses."""

        async def delete() -> None:
            await self._link.desk.delete(self._link.settings.topology.channel_queue_name(channel))

        await self._in_its_loop(delete())

    async def waiting(self, channel: str) -> int:
        async def look() -> int:
            spec = self._link.settings.topology.channel_queue(channel, 1)
            return (await self._link.desk.declare_queue(spec, passive=True))[0]

        return await self._in_its_loop(look())


@pytest.fixture
def everything_was_noted_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_LONG_AGO", -1)


@pytest.mark.usefixtures("everything_was_noted_long_ago")
async def test_a_channel_that_is_gone_is_forgotten_until_it_is_used_again(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    for channel in ("jobs", "gone"):
        await here.send(channel, HELLO)
    broker = Broker(here)
    before = (await broker.noted()).channels
    assert before.keys() == {"jobs", "gone"}
    await broker.delete("gone")
    await broker.look()
    after = (await broker.noted()).channels
    assert after.keys() == {"jobs"}
    assert after["jobs"] > before["jobs"]
    await here.send("gone", HELLO)
    assert (await broker.noted()).channels.keys() == {"jobs", "gone"}
    assert await broker.waiting("gone") == 1
    await there.flush()
    assert await broker.waiting("gone") == 0


async def test_what_was_noted_lately_is_not_looked_for(make_layer: MakeLayer) -> None:
    layer = make_layer()
    await layer.send("jobs", HELLO)
    broker = Broker(layer)
    before = (await broker.noted()).channels
    await broker.delete("jobs")
    await broker.look()
    assert (await broker.noted()).channels == before


@pytest.mark.usefixtures("everything_was_noted_long_ago")
async def test_a_member_is_not_looked_for_as_its_queue_is_kept(make_layer: MakeLayer) -> None:
    layer = make_layer()
    await layer.group_add("workers", "jobs")
    broker = Broker(layer)
    await broker.delete("jobs")
    await broker.look()
    assert (await broker.noted()).channels.keys() == {"jobs"}


@pytest.mark.usefixtures("everything_was_noted_long_ago")
async def test_so_many_are_looked_for_at_once(make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_MOST_LOOKED_FOR", 2)
    layer = make_layer()
    await layer.send("jobs", HELLO)
    broker = Broker(layer)
    for number in range(3):
        await layer.send(f"gone-{number}", HELLO)
        await broker.delete(f"gone-{number}")
    left = []
    for _ in range(3):
        await broker.look()
        left.append(len((await broker.noted()).channels))
    assert left[-1] == 1
    assert left == sorted(left, reverse=True)
    assert left[0] >= 2


async def test_as_many_names_are_remembered_as_are_in_use(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_MOST_REMEMBERED", 3)
    layer = make_layer()
    names = [f"jobs-{number}" for number in range(10)]
    for name in names * 2:
        await layer.send(name, {"type": name})
    broker = Broker(layer)
    assert len(broker.transport._workers._until) <= 3
    for name in names * 2:
        assert await asyncio.wait_for(layer.receive(name), 60) == {"type": name}
    assert (await broker.noted()).channels.keys() == set(names)


@pytest.mark.usefixtures("everything_was_noted_long_ago")
async def test_a_queue_that_cannot_be_looked_at_keeps_its_note_and_the_connection(
    make_layer: MakeLayer, url: str
) -> None:
    layer = make_layer()
    await layer.send("gone", HELLO)
    broker = Broker(layer)
    await broker.note("locked")
    await broker.delete("gone")
    async with await aiormq.connect(url) as connection:
        holder = await connection.channel()
        await holder.queue_declare("asgi.channel.locked", exclusive=True)
        await broker.look()
        await holder.queue_delete("asgi.channel.locked")
    assert (await broker.noted()).channels.keys() == {"locked"}
    assert layer.stats().reconnects_total == 0


async def test_many_notes_are_read_to_the_end(make_layer: MakeLayer) -> None:
    """The broker delivers them in pieces, and in between says how many there are."""
    layer = make_layer()
    await layer.send("job", {"type": "go"})
    broker = Broker(layer)
    names = [f"job-{number}" for number in range(3000)]
    await asyncio.gather(*map(broker.note, names))
    for _ in range(3):
        assert (await asyncio.wait_for(broker.noted(), 20)).channels.keys() == {"job", *names}
