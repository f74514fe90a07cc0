"""What goes wrong between the layer and its database, on each engine: it is tried again, or said clearly."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from channels_trunk.exceptions import OptionsError, SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.models import Node, QueuedMessage, Sequencer
from channels_trunk.testing import eventually
from channels_trunk.transports.database import part
from channels_trunk.transports.database.beginning import Beginning
from channels_trunk.transports.database.names import stored_name
from tests.integration.database.conftest import HELLO, MakeLayer, in_thread, meet, run_sql
from tests.plugins.django_databases import DjangoDatabase, add_database, migrate, remove_database, sqlite_entry
from tests.plugins.impatience import impatient

TABLES = ("sequencer", "logrow", "queuedmessage", "member", "node")
SESSIONS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}


@contextmanager
def lock_held(alias: str, prefix: str) -> Iterator[None]:
    """Another transaction holds the lock of the log."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=alias):
            # A write, so that it holds on SQLite as well.
            assert Sequencer.objects.using(alias).filter(prefix=stored_name(prefix)).update(roll=F("roll"))
            held.set()
            enough.wait(30)
            transaction.set_rollback(True, using=alias)
        connections[alias].close()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(10)
    try:
        yield
    finally:
        enough.set()
        thread.join(10)


async def test_a_lock_that_is_held_is_waited_for(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database, send_timeout=20), make_layer(database)
    await meet(one, other)
    with lock_held(database.alias, one.prefix):
        sending = asyncio.create_task(one.send("jobs", HELLO))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
    async with asyncio.timeout(20):
        await sending
        assert await other.receive("jobs") == HELLO


async def test_a_lock_that_is_held_for_too_long_is_said(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    with (
        lock_held(database.alias, one.prefix),
        impatient(one, 0.3),
        # By how far the attempt had come: it waits, it hangs, or it is about to begin anew.
        pytest.raises(TransportUnavailable, match=r"send_timeout|did not answer|locked"),
    ):
        await one.send("jobs", HELLO)
    # A call that hangs longer than that is taken for a connection that is lost.
    await eventually(lambda: one.health().state == "ok", within=20)
    await meet(one, other)
    # What was said not to be sent was not sent.
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await other.receive("jobs")


def send_within_a_transaction(layer: DatabaseChannelLayer, connection: Any) -> None:
    """As a view does with ATOMIC_REQUESTS, where the layer is in the application's own file."""
    with transaction.atomic(using=connection.alias):
        Node.objects.using(connection.alias).create(node="a row", prefix="another", position=0, seen_at=0.0)
        layer.sync.send_on_commit("jobs", HELLO, using=connection.alias)
        layer.sync.send("jobs", HELLO)


async def test_who_holds_the_lock_and_sends_is_told_what_to_do(
    sqlite_alias: DjangoDatabase, make_layer: MakeLayer
) -> None:
    one, other = make_layer(sqlite_alias, send_timeout=2), make_layer(sqlite_alias)
    await meet(one, other)
    with pytest.raises(TransportUnavailable, match=r"send_timeout=2 s: .*'sqlite_file'.* layer\.sync\.send_on_commit"):
        await in_thread(sqlite_alias.alias, partial(send_within_a_transaction, one))
    assert one.health().state == "ok"
    assert one.stats().reconnects_total == 0
    await meet(one, other)
    await eventually(lambda: not one.health().detail, within=10)


async def test_killed_sessions(server_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    database = server_database
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    waiting = asyncio.create_task(other.receive("late-jobs"))
    reconnects = [layer.stats().reconnects_total for layer in (one, other)]

    def kill(connection: Any) -> None:
        for (session,) in run_sql(SESSIONS[connection.vendor])(connection):
            if connection.vendor == "mysql":
                run_sql(f"KILL {int(session)}")(connection)

    await in_thread(database.alias, kill)
    await eventually(
        lambda: (
            [layer.stats().reconnects_total for layer in (one, other)] > reconnects
            and all(layer.health().state == "ok" for layer in (one, other))
        ),
        within=20,
    )
    await meet(one, other)
    await one.send("late-jobs", HELLO)
    async with asyncio.timeout(20):
        assert await waiting == HELLO


def empty(connection: Any) -> None:
    """As TransactionTestCase does it between two tests."""
    with transaction.atomic(using=connection.alias):
        run_sql(*(f"DELETE FROM channels_trunk_{table}" for table in TABLES))(connection)


async def test_tables_that_are_emptied(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    await in_thread(database.alias, empty)
    await eventually(lambda: all(layer.stats().gaps_total for layer in (one, other)), within=10)
    await meet(one, other)


async def test_a_message_to_a_node_that_has_not_noticed(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """Nothing tells its sender that there is such a node, and it is delivered."""
    one, other = make_layer(database), make_layer(database, polling_interval=1.0)
    channel = await other.new_channel()
    await other.group_add("party", channel)
    await meet(one, other)
    await in_thread(database.alias, empty)
    await eventually(lambda: one.stats().gaps_total, within=10)
    await one.send(channel, HELLO)
    await one.group_send("party", HELLO)
    async with asyncio.timeout(10):
        assert [await other.receive(channel) for _ in range(2)] == [HELLO, HELLO]


async def test_tables_that_are_emptied_one_after_the_other(
    database: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on MySQL: the row by which others know a node may go when the node has just written it."""
    monkeypatch.setattr(part, "HEARTBEAT", 600)  # that would write it, too
    monkeypatch.setattr(part, "_DOUBTS", 60)
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    await in_thread(database.alias, run_sql("DELETE FROM channels_trunk_sequencer"))
    await eventually(lambda: all(layer.stats().gaps_total for layer in (one, other)), within=10)
    await in_thread(database.alias, run_sql("DELETE FROM channels_trunk_node"))

    async def known() -> bool:
        rows = Node.objects.using(database.alias).filter(prefix=stored_name(one.prefix))
        return bool(await in_thread(database.alias, lambda _: rows.count()) == 2)

    await eventually(known, within=20)
    await meet(one, other)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_claim_whose_commit_is_cut_off(
    database: DjangoDatabase, committed: bool, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was done or not, each job is done once."""
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    for number in range(3):
        await one.send("jobs", {"type": "job", "number": number})
    # On SQLite the layer's transactions are its own.
    is_sqlite = connections[database.alias].vendor == "sqlite"
    owner: Any = Beginning if is_sqlite else BaseDatabaseWrapper
    real = owner._commit
    cut: list[int] = []

    def commit(self: Any) -> None:
        rows = QueuedMessage.objects.using(database.alias).filter(channel="jobs")
        if not cut and (is_sqlite or self.alias == database.alias) and rows.count() == 2:
            cut.append(1)
            if committed:
                real(self)
            else:
                (owner._roll_back if is_sqlite else owner._rollback)(self)
            raise OperationalError("the connection was cut")
        real(self)

    monkeypatch.setattr(owner, "_commit", commit)
    async with asyncio.timeout(20):
        done = [(await other.receive("jobs"))["number"] for _ in range(3)]
    assert cut
    assert sorted(done) == [0, 1, 2]
    assert not await in_thread(database.alias, lambda _: QueuedMessage.objects.using(database.alias).count())


async def test_missing_tables(tmp_path: Path, make_layer: MakeLayer) -> None:
    database = add_database("bare", sqlite_entry(tmp_path / "bare.sqlite3"))
    try:
        layer = make_layer(database)
        with pytest.raises(SchemaMismatch, match="migrate channels_trunk --database bare"):
            await layer.send("jobs", HELLO)
        await in_thread(database.alias, lambda _: migrate(database))
        await layer.send("jobs", HELLO)
        assert await layer.receive("jobs") == HELLO
        await layer.close()
    finally:
        remove_database(database)


def test_unknown_alias() -> None:
    with pytest.raises(OptionsError, match="'nowhere' is not in DATABASES"):
        DatabaseChannelLayer(database="nowhere")


@pytest.mark.parametrize("engine", ["django.db.backends.oracle", "no.such.engine"])
def test_an_engine_that_cannot_be_loaded(engine: str) -> None:
    """There is no driver for it here."""
    add_database("driverless", {"ENGINE": engine, "NAME": "x"})
    try:
        with pytest.raises(OptionsError, match="Django cannot use the database 'driverless': "):
            DatabaseChannelLayer(database="driverless")
    finally:
        del connections.settings["driverless"]


def test_the_app_is_not_installed(sqlite_alias: DjangoDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: False)
    layer = DatabaseChannelLayer(database=sqlite_alias.alias)
    with pytest.raises(OptionsError, match="add 'channels_trunk' to INSTALLED_APPS"):
        layer.sync.send("jobs", HELLO)


async def test_a_wrong_password(mariadb_alias: DjangoDatabase, make_layer: MakeLayer) -> None:
    database = add_database("wrong", {**mariadb_alias.entry, "PASSWORD": "no such password"})
    try:
        with pytest.raises(TransportError, match="Access denied") as caught:
            await make_layer(database).send("jobs", HELLO)
        assert "no such password" not in str(caught.value)
    finally:
        remove_database(database)


def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", "channels_trunk", check=True, dry_run=True, verbosity=0)


async def test_a_file_without_wal(tmp_path: Path, make_layer: MakeLayer) -> None:
    """Django's own default: readers and the writer are in each other's way."""
    database = add_database("rollback", sqlite_entry(tmp_path / "rollback.sqlite3", init_command=""))
    try:
        await in_thread(database.alias, lambda _: migrate(database))
        one, other = make_layer(database), make_layer(database)
        await meet(one, other)
        await asyncio.gather(*(one.send("many", HELLO) for _ in range(50)))
        async with asyncio.timeout(20):
            assert [await other.receive("many") for _ in range(50)] == [HELLO] * 50
        await one.close()
        await other.close()
    finally:
        remove_database(database)
