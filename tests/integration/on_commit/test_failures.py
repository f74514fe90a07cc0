"""What cannot be sent after a commit: counted and not raised, as nothing can be rolled back any more."""

import asyncio
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.exceptions import ChannelFull
from django.db import connections, transaction

from channels_trunk.exceptions import OptionsError
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.transports import LoopbackChannelLayer, loopback_server
from tests.integration.on_commit.conftest import Database, Listener, MakeLayer
from tests.plugins.impatience import impatient


def n(number: int) -> dict[str, object]:
    return {"type": "x", "n": number}


@pytest.fixture
def loopback() -> Iterator[LoopbackChannelLayer]:
    """A layer whose engine can be stopped."""
    layer = LoopbackChannelLayer(prefix=uuid.uuid4().hex, capacity=2)
    layer.sync.new_channel()
    yield layer
    layer.server.hanging = False
    layer.sync.close()


def test_a_full_channel_goes_without_and_its_neighbours_do_not(
    db: Database, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make_layer(capacity=2)
    own = layer.sync.new_channel()
    with transaction.atomic(using=db.alias):
        db.write("kept")
        for number in range(4):
            layer.sync.send_on_commit("jobs", n(number), using=db.alias)
            layer.sync.send_on_commit(own, n(number), using=db.alias)
        layer.sync.send_on_commit("other-jobs", n(5), using=db.alias)
    assert db.notes() == ["kept"]
    assert [layer.sync.receive(name, 10)["n"] for name in ("jobs", "jobs", own, own, "other-jobs")] == [0, 1, 0, 1, 5]
    assert layer.stats().dropped_overflow_total == 4
    assert layer.stats().failed_total == 0
    said = [text for text in caplog.messages if "is full" in text]
    assert said == [f"channel {own} is full: a message of a transaction was dropped"]


def test_a_full_channel_of_another_process_too(db: Database, make_layer: MakeLayer) -> None:
    """The sender has to ask its owner in between: what came before stays before, and what has room arrives."""
    layer, owner = make_layer(capacity=4), make_layer(capacity=4)
    channel, free = owner.sync.new_channel(), owner.sync.new_channel()
    layer.sync.new_channel()
    with transaction.atomic(using=db.alias):
        for number in range(10):
            layer.sync.send_on_commit(channel, n(number), using=db.alias)
        layer.sync.send_on_commit(free, n(10), using=db.alias)
    assert owner.sync.receive(free, 10) == n(10)
    assert [owner.sync.receive(channel, 10)["n"] for _ in range(4)] == [0, 1, 2, 3]
    assert layer.stats().dropped_overflow_total == 6
    # It has drained, and says so.
    eventually_blocking(lambda: takes(layer, channel), within=10)
    with transaction.atomic(using=db.alias):
        layer.sync.send_on_commit(channel, n(12), using=db.alias)
    assert [owner.sync.receive(channel, 10)["n"] for _ in range(2)] == [11, 12]


def takes(layer: TrunkChannelLayer, channel: str) -> bool:
    try:
        layer.sync.send(channel, n(11))
    except ChannelFull:
        return False
    return True


@pytest.mark.parametrize("how", ["stopped", "hangs"])
def test_an_engine_that_is_away_is_waited_for_and_then_counted_and_logged(
    how: str, db: Database, loopback: LoopbackChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    with impatient(loopback, 0.3), transaction.atomic(using=db.alias):
        db.write("kept")
        for number in range(3):
            loopback.sync.group_send_on_commit("room", {"type": "swordfish", "n": number}, using=db.alias)
        if how == "stopped":
            loopback.server.stop()
        else:
            loopback.server.hanging = True
    assert db.notes() == ["kept"]
    assert loopback.stats().failed_total == 3
    assert loopback.stats().outbox_current == 0
    [said] = [text for text in caplog.messages if "committed" in text]
    assert said.startswith("a message of a transaction that is committed was not sent: ")
    assert said.endswith("(and 2 times more since it was last said)")
    assert "swordfish" not in caplog.text
    # They are not sent later, and the next transaction's are.
    loopback.server.hanging = False
    if how == "stopped":
        loopback.server.start()
    eventually_blocking(lambda: loopback.health().state == "ok", within=10)
    with transaction.atomic(using=db.alias):
        loopback.sync.send_on_commit("jobs", n(4), using=db.alias)
    assert loopback.sync.receive("jobs", 10) == n(4)
    assert loopback.stats().failed_total == 3


def test_an_engine_that_comes_back_in_time_gets_them(db: Database) -> None:
    layer = LoopbackChannelLayer(prefix=uuid.uuid4().hex, send_timeout=30)
    try:
        layer.sync.new_channel()
        layer.server.stop()
        eventually_blocking(lambda: layer.health().state == "away", within=10)
        with transaction.atomic(using=db.alias):
            layer.sync.send_on_commit("jobs", n(1), using=db.alias)
            layer.server.start()
        assert layer.sync.receive("jobs", 10) == n(1)
    finally:
        layer.sync.close()


def test_a_closed_layer_opens_again_for_them(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        layer.sync.close()
    assert listener.hears(1)


def test_a_layer_that_nobody_holds_sends_them_all_the_same(
    db: Database, make_layer: MakeLayer, listener: Listener
) -> None:
    prefix = listener.layer.prefix
    config: dict[str, Any] = {"prefix": prefix}
    if isinstance(listener.layer, SQLiteChannelLayer):
        config["path"] = listener.layer._values["path"]
    with transaction.atomic(using=db.alias):
        type(listener.layer)(**config).sync.group_send_on_commit("room", n(1), using=db.alias)
    assert listener.hears(1)


def test_what_cannot_be_foreseen_is_logged_and_does_not_reach_the_caller(
    db: Database, layer: TrunkChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_args: object, **_keywords: object) -> None:
        raise MemoryError("no memory left")

    with transaction.atomic(using=db.alias):
        db.write("kept")
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        monkeypatch.setattr(layer._hub, "publish", no_memory)
    monkeypatch.undo()
    assert db.notes() == ["kept"]
    assert "no memory left" in caplog.text


def test_a_file_that_cannot_be_is_logged_after_the_commit(
    db: Database, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer = SQLiteChannelLayer(path=tmp_path / "nowhere" / "x.sqlite3")
    with transaction.atomic(using=db.alias):
        db.write("kept")
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
    assert db.notes() == ["kept"]
    assert "was not sent: SQLite file" in caplog.text
    layer.sync.close()


class Unusable(LoopbackChannelLayer):
    def _make_transport(self, values: dict[str, Any]) -> Any:
        raise OptionsError("there is no such engine")


def test_a_layer_that_cannot_be_made_says_so_while_the_transaction_is_open(db: Database) -> None:
    layer = Unusable(prefix=uuid.uuid4().hex)
    loopback_server(layer.prefix)

    def save() -> None:
        with transaction.atomic(using=db.alias):
            db.write("lost")
            layer.sync.group_send_on_commit("room", n(1), using=db.alias)

    with pytest.raises(OptionsError, match="no such engine"):
        save()
    assert db.notes() == []


def test_the_resilience_mode_drops_them_as_others(db: Database, make_layer: MakeLayer) -> None:
    layer = make_layer(resilience={"drop": 1.0})
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        assert layer.stats().dropped_resilience_total == 0
    assert layer.stats().dropped_resilience_total == 1
    assert layer.stats().sent_total == 0


# --- event loops


async def test_async_code_sends_in_the_function_that_has_the_transaction(
    layer: TrunkChannelLayer, listener: Listener
) -> None:
    def save() -> None:
        with transaction.atomic():
            layer.sync.group_send_on_commit("room", n(1))
            layer.sync.group_send_on_commit("room", n(2))

    await sync_to_async(save)()
    assert await sync_to_async(listener.hears)(1, 2)


async def test_in_an_event_loop_it_is_refused_since_no_transaction_can_be_meant(layer: TrunkChannelLayer) -> None:
    for send in (layer.sync.send_on_commit, layer.sync.group_send_on_commit):
        with pytest.raises(RuntimeError, match=r"^layer\.sync\.send_on_commit\(\) and group_send_on_commit\(\) follow"):
            send("room", n(1))
    await asyncio.sleep(0)
    assert layer.stats().sent_total == 0


async def test_a_transaction_in_the_thread_of_a_loop_is_one_all_the_same(
    db: Database, layer: TrunkChannelLayer, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, where DJANGO_ALLOW_ASYNC_UNSAFE is set."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        assert layer.stats().sent_total == 0
    connections[db.alias].close()  # the loop's own
    assert layer.stats().sent_total == 1
    assert await sync_to_async(listener.hears)(1)


# --- without databases

WITHOUT = """
from django.conf import settings
if {configured}: settings.configure(CHANNEL_LAYERS={{}})
from channels_trunk.layers import MemoryChannelLayer
layer = MemoryChannelLayer()
for send in (layer.sync.send_on_commit, layer.sync.group_send_on_commit):
    try:
        send("room", {{"type": "x"}})
    except Exception as error:
        print(type(error).__name__, error)
layer.sync.group_send("room", {{"type": "x"}})
print(layer.stats().sent_total)
"""
SAID = (
    "ImproperlyConfigured layer.sync.send_on_commit() and group_send_on_commit() follow a transaction of the database "
    "'default', and DATABASES in the settings has none of that name; without a transaction use layer.sync.send()"
)


@pytest.mark.parametrize("configured", [True, False])
def test_without_databases_there_is_a_clear_error(configured: bool) -> None:
    code = WITHOUT.format(configured=configured)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines() == [SAID, SAID, "1"]
    assert logging.getLogger("channels_trunk").name not in done.stderr
