"""What a connection leaves behind when it ends: a thread that is stuck, a file that is gone, an answer not given."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.transports.base import Busy
from channels_trunk.transports.database import part
from channels_trunk.transports.database import transport as module
from channels_trunk.transports.database.log import Found, Log
from channels_trunk.transports.database.nodes import Nodes
from channels_trunk.transports.database.session import Session
from tests.integration.database.conftest import MakeLayer, in_thread, meet
from tests.plugins.django_databases import DjangoDatabase, add_database, migrate, remove_database, sqlite_entry


@pytest.fixture
def own_file(tmp_path: Path) -> Iterator[DjangoDatabase]:
    """A SQLite file that the test may take away."""
    database = add_database("own_file", sqlite_entry(tmp_path / "own.sqlite3"))
    migrate(database)
    yield database
    remove_database(database)


def remove(database: DjangoDatabase) -> None:
    """Delete the file, and what SQLite has beside it."""
    path = Path(database.entry["NAME"])
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def look_after(layer: Any) -> None:
    """Have a layer do now what it does every five seconds."""
    layer._hub.on_io(layer._hub.maintain_here)


async def test_a_file_that_is_replaced(own_file: DjangoDatabase, make_layer: MakeLayer) -> None:
    """SQLite itself goes on with the one that is gone; who came later would hear nothing, for ever."""
    one, other = make_layer(own_file), make_layer(own_file)
    await meet(one, other)
    await in_thread(own_file.alias, lambda _: remove(own_file))
    await in_thread(own_file.alias, lambda _: migrate(own_file))
    for layer in (one, other):
        look_after(layer)
    await eventually(lambda: one.stats().gaps_total and other.stats().gaps_total, within=10)
    await meet(one, other)
    await meet(one, make_layer(own_file))


async def test_a_file_that_is_removed(own_file: DjangoDatabase, make_layer: MakeLayer) -> None:
    """The layer waits for another one, and makes none."""
    one, other = make_layer(own_file, send_timeout=30), make_layer(own_file)
    await meet(one, other)
    await in_thread(own_file.alias, lambda _: remove(own_file))
    for layer in (one, other):
        look_after(layer)
    await eventually(lambda: "not there any more" in one.health().detail, within=10)
    assert not Path(own_file.entry["NAME"]).exists()
    # At once there, with its tables: as a backup would come back.
    spare = add_database("spare", sqlite_entry(f"{own_file.entry['NAME']}.spare", init_command=""))
    await in_thread(spare.alias, lambda _: migrate(spare))
    Path(spare.entry["NAME"]).rename(own_file.entry["NAME"])
    remove_database(spare)
    await eventually(lambda: all(layer.health().state == "ok" for layer in (one, other)), within=20)
    await meet(one, other)


async def test_a_thread_that_was_stuck_delivers_nothing_when_it_goes_on(
    sqlite_alias: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that hangs; another connection has read the same meanwhile."""
    monkeypatch.setattr(module, "_END_WITHIN", 0.05)
    one, other = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(one, other)
    channel = await other.new_channel()
    stuck, enough, on = threading.Event(), threading.Event(), threading.Event()
    real, node = Log.read, other._hub.context.node

    def read(self: Log, cursor: int, head: int) -> Found:
        found = real(self, cursor, head)
        if self._node == node and not stuck.is_set():
            stuck.set()
            enough.wait(30)
            on.set()
        return found

    monkeypatch.setattr(Log, "read", read)
    await one.send(channel, {"type": "first"})
    await eventually(stuck.is_set, within=10)
    before = other.stats().reconnects_total
    other._hub.context.sink.lost(RuntimeError("the engine did not answer"))
    await eventually(lambda: other.stats().reconnects_total > before, within=10)
    async with asyncio.timeout(10):
        assert await other.receive(channel) == {"type": "first"}
    threads = set(threading.enumerate())
    enough.set()
    await eventually(lambda: on.is_set() and len(threads & set(threading.enumerate())) < len(threads), within=10)
    await one.send(channel, {"type": "last"})
    async with asyncio.timeout(10):
        assert await other.receive(channel) == {"type": "last"}


async def test_openings_that_fail_forget_no_position(
    database: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent meanwhile comes when one succeeds."""
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    channel = await other.new_channel()
    real, node = Session._connect, other._hub.context.node
    refused, back = [], threading.Event()

    def connect(self: Session) -> None:
        if threading.current_thread().name.endswith(node) and not back.is_set():
            refused.append(self.was_there)
            raise TransportUnavailable("no connection")
        real(self)

    monkeypatch.setattr(Session, "_connect", connect)
    other._hub.context.sink.lost(RuntimeError("cut"))
    await eventually(lambda: len(refused) > 2, within=20)
    for number in range(5):
        await one.send(channel, {"type": "n", "number": number})
    back.set()
    async with asyncio.timeout(20):
        assert [(await other.receive(channel))["number"] for _ in range(5)] == list(range(5))
    assert all(refused)
    assert other.stats().gaps_total == 0


async def test_an_answer_to_the_roll_that_was_not_written_is_written_later(
    sqlite_alias: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the caller takes this node for gone."""
    monkeypatch.setattr(part, "HEARTBEAT", 600)  # that would write it, too
    one, other = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(one, other)
    node, real = other._hub.context.node, Nodes.heartbeat
    answers: list[int] = []

    def heartbeat(self: Nodes, position: int, now: float) -> bool:
        if self._node == node:
            answers.append(position)
            if len(answers) == 1:
                raise Busy
        return real(self, position, now)

    monkeypatch.setattr(Nodes, "heartbeat", heartbeat)
    assert await one.peers()
    await eventually(lambda: len(answers) > 1, within=20)


@pytest.mark.parametrize("is_answered", [True, False], ids=["", "commit without an answer"])
async def test_a_node_that_is_forgotten_while_its_connection_is_away_has_missed_something(
    is_answered: bool, database: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was by itself meanwhile has sent it nothing, and nothing is missing in the log."""
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    transport: Any = other._hub.transport
    begin, transaction = part.Part.begin, Session.transaction
    forgotten: list[part.Part] = []
    unanswered: list[part.Part] = []

    def begin_forgotten(self: part.Part) -> None:
        if not forgotten and self._context is transport._context:
            self._session.ensure()
            self.nodes._own().delete()
            forgotten.append(self)
            if not is_answered:
                unanswered.append(self)
        begin(self)

    @contextmanager
    def lose_answer(self: Session, **options: Any) -> Iterator[None]:
        with transaction(self, **options):
            yield
        if unanswered and unanswered[0]._session is self:
            unanswered.clear()
            raise TransportUnavailable("the server went")

    monkeypatch.setattr(part.Part, "begin", begin_forgotten)
    monkeypatch.setattr(Session, "transaction", lose_answer)
    transport._context.sink.lost(TransportUnavailable("the server went"))
    await eventually(lambda: forgotten and other.health().state == "ok", within=20)
    assert not unanswered
    await meet(one, other)
    assert (one.stats().gaps_total, other.stats().gaps_total) == (0, 1)
