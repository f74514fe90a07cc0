"""Jobs by the ORM on a SQLite file: what makes them quick, and what a full disk does to them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, transaction

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.layers.database import find_settings
from channels_trunk.models import QueuedMessage
from channels_trunk.names import new_node_id
from channels_trunk.testing import eventually
from channels_trunk.transports.base import Claimed, NodeContext
from channels_trunk.transports.database import DatabaseTransport, claiming, pace
from channels_trunk.transports.database import transport as module
from channels_trunk.transports.database.names import stored_name
from channels_trunk.transports.database.session import Session
from channels_trunk.transports.database.worker import GivenUp
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet
from tests.integration.database.test_troubles import lock_held
from tests.plugins.django_databases import DjangoDatabase, add_database, migrate, remove_database, sqlite_entry
from tests.plugins.impatience import impatient

# A row of 2,500 bytes takes a page, and the tables and indexes take some fifty.
PAGES = 150


async def stored(layer: DatabaseChannelLayer, channel: str) -> int:
    """How many messages of a normal channel are in the table."""

    def count(connection: Any) -> Any:
        rows = QueuedMessage.objects.using(connection.alias)
        return rows.filter(prefix=stored_name(layer.prefix), channel=channel).count()

    found: int = await in_thread(layer.database, count)
    return found


async def test_a_send_does_not_take_its_way_through_the_hubs_thread(
    sqlite_alias: DjangoDatabase, make_layer: MakeLayer
) -> None:
    layer = make_layer(sqlite_alias)
    await layer.send("jobs", HELLO)
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        enough.wait(30)

    hub: Any = layer._made
    hub.on_io(hold)
    await eventually(held.is_set, within=10)
    try:
        async with asyncio.timeout(10):
            await layer.send("jobs", HELLO)
        assert await stored(layer, "jobs") == 2
    finally:
        enough.set()


class Told:
    """What a transport tells its hub, as far as it matters here."""

    def __init__(self) -> None:
        self.hints: list[Sequence[str]] = []

    def available(self, channels: Sequence[str]) -> None:
        self.hints.append(channels)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
async def make_transport(sqlite_alias: DjangoDatabase) -> AsyncIterator[Callable[[], Awaitable[DatabaseTransport]]]:
    """Transports of one prefix that look when they are told to, and hardly by themselves."""
    prefix = f"test {uuid4().hex}"
    made: list[DatabaseTransport] = []

    async def make() -> DatabaseTransport:
        layer = DatabaseChannelLayer(database=sqlite_alias.alias, prefix=prefix, polling_interval=60)
        transport = DatabaseTransport(lambda: find_settings(layer._values, lambda: True))
        codec = Codec(serializer_format="msgpack", cipher=None, prefix=prefix)
        sink: Any = Told()
        await transport.open(NodeContext(new_node_id(), prefix, codec, sink, SYSTEM_CLOCK, lambda _: 100))
        made.append(transport)
        await transport.watch(frozenset({"jobs"}))
        await transport.maintain()
        return transport

    yield make
    for transport in made:
        await transport.close(leave=True)


def job() -> Envelope:
    return Envelope(Kind.QUEUE, "jobs", SYSTEM_CLOCK.wall() + 60, b"body")


async def test_a_channel_that_was_emptied_is_not_claimed_from_until_the_next_look(
    make_transport: Callable[[], Awaitable[DatabaseTransport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim keeps others from writing; receivers that come back at once find nothing as a rule."""
    monkeypatch.setattr(claiming, "_REST", 60)
    one, other = await make_transport(), await make_transport()
    other._opened.part.ring = lambda _nodes: None
    assert await one.claim("jobs", 5) == []
    await other.publish([job()])
    assert await one.claim("jobs", 5) == []
    await one.maintain()
    [found] = await one.claim("jobs", 5)
    # What this process puts there itself, it need not look for.
    assert await one.claim("jobs", 5) == []
    await one.restore([found])
    assert await one.claim("jobs", 5) == [found]
    await one.publish([job()])
    assert len(await one.claim("jobs", 5)) == 1


async def test_a_channel_that_was_emptied_rests_no_longer_than_that(
    make_transport: Callable[[], Awaitable[DatabaseTransport]],
) -> None:
    one, other = await make_transport(), await make_transport()
    other._opened.part.ring = lambda _nodes: None
    assert await one.claim("jobs", 5) == []
    await other.publish([job()])
    async with asyncio.timeout(10):
        while not await one.claim("jobs", 5):
            await asyncio.sleep(0)


def hints(transport: DatabaseTransport) -> int:
    sink: Any = transport._context.sink
    return len(sink.hints)


async def test_processes_wake_each_other(make_transport: Callable[[], Awaitable[DatabaseTransport]]) -> None:
    """By itself each of them would look after a minute."""
    one, other = await make_transport(), await make_transport()
    before = hints(one)
    await other.publish([job()])
    await eventually(lambda: hints(one) > before, within=10)
    assert len(await one.claim("jobs", 5)) == 1


async def test_who_has_much_to_do_is_not_woken_for_each_batch(
    make_transport: Callable[[], Awaitable[DatabaseTransport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DEAF_FOR", 60)
    monkeypatch.setattr(pace, "_QUICKEST", 60)
    one, other = await make_transport(), await make_transport()
    before = hints(one)
    await other.publish([job()])
    await eventually(lambda: hints(one) > before, within=10)
    assert one._opened.part.is_busy()
    await other.publish([job()])
    await eventually(lambda: not is_heard(one), within=10)
    monkeypatch.setattr(module, "_DEAF_FOR", 0)
    one._listen(one._opened)
    await other.publish([job()])
    await eventually(lambda: is_heard(one), within=10)


def is_heard(transport: DatabaseTransport) -> bool:
    """Whether this loop waits for rings at a transport."""
    bell = transport._opened.bell
    loop: Any = asyncio.get_running_loop()
    return bell is not None and bell.fileno() in loop._selector.get_map()


async def test_what_was_not_stored_when_the_connection_ends_is_not_stored_later(
    make_transport: Callable[[], Awaitable[DatabaseTransport]],
) -> None:
    one, other = await make_transport(), await make_transport()
    outcomes: list[Any] = []
    with lock_held(one._opened.session._alias, one._context.prefix):
        assert one.start([job()], outcomes.append)
        closing = asyncio.create_task(one.close(leave=True))
        await asyncio.sleep(0)
    await closing
    assert outcomes == [None]
    with pytest.raises(GivenUp):
        await one.finish()
    await other.maintain()
    assert await other.claim("jobs", 5) == []
    assert not one.start([job()], outcomes.append)


async def test_what_was_claimed_for_nobody_goes_back_over_the_next_connection(
    make_transport: Callable[[], Awaitable[DatabaseTransport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its receiver has gone, it is deleted, and the connection ends before it is stored again."""
    one, other = await make_transport(), await make_transport()
    await other.publish([job()])
    claims = one._opened.part.claiming
    deleted, go_on, real = threading.Event(), threading.Event(), claims._take_out

    def take_out(channel: str, limit: int) -> Any:
        rows = real(channel, limit)
        deleted.set()
        go_on.wait(30)
        return rows

    def fail() -> None:
        raise OperationalError("the connection was cut")

    monkeypatch.setattr(claims, "_take_out", take_out)
    claiming = asyncio.create_task(one.claim("jobs", 1))
    await eventually(deleted.is_set, within=10)
    claiming.cancel()
    await asyncio.wait({claiming})
    failing = asyncio.create_task(one._do(fail))
    await asyncio.sleep(0)  # now it is behind the claim
    go_on.set()
    with pytest.raises(TransportUnavailable, match="was cut"):
        await failing
    await one.close(leave=False)
    assert await other.claim("jobs", 1) == []
    await one.open(one._context)
    assert [message.body for message in await one.claim("jobs", 1)] == [b"body"]


async def test_what_was_to_go_back_is_flushed(make_transport: Callable[[], Awaitable[DatabaseTransport]]) -> None:
    one, other = await make_transport(), await make_transport()
    claims = one._opened.part.claiming
    claims.keep([Claimed("jobs", SYSTEM_CLOCK.wall() + 60, b"body")])
    await one.drop()
    await other.purge()
    await one._do(claims.settle)
    assert await other.claim("jobs", 1) == []


async def test_channels_that_nobody_receives_from_any_more_are_forgotten(
    make_transport: Callable[[], Awaitable[DatabaseTransport]],
) -> None:
    one = await make_transport()
    for number in range(3):
        await one.watch(frozenset({f"answer-{number}"}))
        assert await one.claim(f"answer-{number}", 1) == []
    assert list(one._opened.part.claiming._emptied) == ["answer-2"]


async def test_what_fails_in_a_transaction_leaves_nothing(sqlite_alias: DjangoDatabase) -> None:
    """On SQLite the layer begins and ends transactions itself; Django's own fit into them."""

    def work(_: Any) -> None:
        layer = DatabaseChannelLayer(database=sqlite_alias.alias)
        session = Session(find_settings(layer._values, lambda: True), away=print, stalled=print)
        session.ensure()
        rows, prefix = session.model("Member"), uuid4().hex
        for attempt in range(2):
            with suppress(KeyError), session.transaction():
                rows.create(prefix=prefix, group_name="a", channel="b")
                with transaction.atomic(using=sqlite_alias.alias):
                    rows.get_or_create(prefix=prefix, group_name="c", channel="d")
                with suppress(ValueError), transaction.atomic(using=sqlite_alias.alias):
                    rows.create(prefix=prefix, group_name="e", channel="f")
                    raise ValueError
                if not attempt:
                    raise KeyError
            assert rows.filter(prefix=prefix).count() == 2 * attempt
        rows.filter(prefix=prefix).delete()
        session.end()

    await in_thread(sqlite_alias.alias, work)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[DjangoDatabase]:
    """A SQLite file that may have so many pages, and no more: no rights are needed to fill it."""
    path = tmp_path / "limited.sqlite3"
    # What the real disk takes to sync is not to pass for a reason why a message is late.
    commands = f"PRAGMA max_page_count = {PAGES}; PRAGMA synchronous = OFF"
    database = add_database("limited", sqlite_entry(path, init_command=commands))
    migrate(database)
    yield database
    remove_database(database)


async def test_a_full_disk(limited: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(limited, capacity=10_000), make_layer(limited, capacity=10_000)
    await meet(one, other)
    waiting = asyncio.create_task(other.receive("other-jobs"))
    accepted: list[int] = []

    async def fill() -> None:
        for number in range(10_000):
            await one.send("jobs", {"type": "job", "number": number, "text": "swordfish" * 280})
            accepted.append(number)

    with impatient(one, 1.5), pytest.raises(TransportUnavailable, match="full") as caught:
        await fill()
    assert "swordfish" not in str(caught.value)
    assert len(accepted) > 10
    assert not waiting.done()
    # What was accepted is there, once and in order, and taking it makes room.
    async with asyncio.timeout(30):
        assert [(await other.receive("jobs"))["number"] for _ in accepted] == accepted
        await one.send("other-jobs", HELLO)
        assert await waiting == HELLO
    await eventually(lambda: one.health().state == "ok", within=20)
    await meet(one, other)
    await one.close()
    await other.close()
