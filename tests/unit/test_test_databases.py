"""What layers do when Django makes and drops test databases, and which of them do it."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.layers import MemoryChannelLayer, SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.layers.test_databases import database_name
from channels_trunk.testing.waiting import eventually_blocking
from tests.plugins.django_databases import add_database, remove_database, sqlite_entry

HELLO = {"type": "hello"}


@pytest.fixture
def creation(tmp_path: Path) -> Iterator[Any]:
    """Of a database in the state in which tests run."""
    entry = {**sqlite_entry(tmp_path / "test.sqlite3"), "TEST": {"NAME": str(tmp_path / "test.sqlite3")}}
    database = add_database("tested", entry)
    yield connections["tested"].creation
    remove_database(database)


def drop(creation: Any, real: Path) -> None:
    """All that Django does at the end of a run with --keepdb."""
    creation.destroy_test_db(str(real), verbosity=0, keepdb=True)


def use(layer: TrunkChannelLayer) -> None:
    layer.sync.send("note", HELLO)
    assert layer.sync.receive("note", timeout=20) == HELLO


def test_a_layer_in_it_is_closed_and_not_opened_again(creation: Any, tmp_path: Path) -> None:
    layer = SQLiteChannelLayer(database="tested")
    use(layer)
    drop(creation, tmp_path / "real.sqlite3")
    assert database_name("tested") == str(tmp_path / "real.sqlite3")
    for call in (lambda: use(layer), layer.stats, layer.health):
        with pytest.raises(ChannelLayerError, match="Django has dropped the test database"):
            call()
    assert not (tmp_path / "real.sqlite3").exists()


def test_it_is_opened_where_django_makes_the_next(creation: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("django.core.management.call_command", lambda *_, **__: None)
    layer = SQLiteChannelLayer(database="tested")
    drop(creation, tmp_path / "real.sqlite3")
    creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    use(layer)
    assert layer.database_name() == str(tmp_path / "test.sqlite3")
    layer.sync.close()
    creation.connection.close()


def test_layers_elsewhere_go_on(creation: Any, tmp_path: Path) -> None:
    layers = [MemoryChannelLayer(), SQLiteChannelLayer(path=tmp_path / "other.sqlite3")]
    channels = [layer.sync.new_channel() for layer in layers]
    for layer, channel in zip(layers, channels, strict=True):
        layer.sync.send(channel, HELLO)
    drop(creation, tmp_path / "real.sqlite3")
    for layer, channel in zip(layers, channels, strict=True):
        assert layer.sync.receive(channel, timeout=20) == HELLO
        layer.sync.close()


def test_receivers_are_told(creation: Any, tmp_path: Path) -> None:
    layer = SQLiteChannelLayer(database="tested")
    channel = layer.sync.new_channel()
    told: list[str] = []

    def receive() -> None:
        try:
            layer.sync.receive(channel)
        except ChannelLayerError as error:
            told.append(str(error))

    thread = threading.Thread(target=receive)
    thread.start()
    boxes = layer._hub.router.boxes
    eventually_blocking(lambda: boxes[channel].waiting())
    drop(creation, tmp_path / "real.sqlite3")
    thread.join()
    assert told == ["the layer was closed: Django has made, copied or dropped a test database"]


def test_a_layer_whose_alias_is_gone_is_left_alone(creation: Any, tmp_path: Path) -> None:
    database = add_database("gone", sqlite_entry(tmp_path / "gone.sqlite3"))
    layer = SQLiteChannelLayer(database="gone")
    remove_database(database)
    drop(creation, tmp_path / "real.sqlite3")
    with pytest.raises(Exception, match="gone"):
        layer.sync.send("note", HELLO)


@pytest.fixture
def in_a_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", "test_default")


@pytest.mark.parametrize(
    ("name", "test", "found"),
    [
        ("plain.sqlite3", {}, ":memory:"),
        ("plain.sqlite3", {"NAME": "tests.sqlite3"}, "tests.sqlite3"),
        ("tests_2.sqlite3", {"NAME": "tests.sqlite3"}, "tests_2.sqlite3"),
        ("file:memorydb_other?mode=memory&cache=shared", {}, "file:memorydb_other?mode=memory&cache=shared"),
        ("plain.sqlite3", {"MIRROR": "default"}, "test_default"),
    ],
)
def test_the_name_of_another_alias(name: str, test: dict[str, str], found: str, in_a_test_run: None) -> None:
    database = add_database("other", {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": test})
    assert database_name("other") == found
    remove_database(database)
