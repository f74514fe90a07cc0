"""trunk_trim, trunk_flush and trunk_status on real engines; and what every command says of a wrong alias."""

import builtins
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils.module_loading import import_string

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import MemoryChannelLayer, PostgresChannelLayer, SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.management.sizes import shown_size
from tests.integration.commands.conftest import MEMORY, NAMES, POSTGRES, RABBITMQ, SQLITE, Command, layers_of
from tests.plugins.django_databases import DjangoDatabase
from tests.plugins.servers import RabbitServer

HELLO = {"type": "hello"}
ORM = "channels_trunk.layers.DatabaseChannelLayer"


@pytest.fixture(params=[MEMORY, SQLITE, POSTGRES, RABBITMQ])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """A backend, and options for a place of its own."""
    if request.param == SQLITE:
        return SQLITE, {"path": str(tmp_path / "x.sqlite3")}
    if request.param == POSTGRES:
        return POSTGRES, {"dsn": request.getfixturevalue("postgres_database")}
    if request.param == RABBITMQ:
        rabbit: RabbitServer = request.getfixturevalue("rabbit")
        return RABBITMQ, {"host": rabbit.fresh_vhost()}
    return MEMORY, {"prefix": tmp_path.name}


@pytest.fixture
def layer(engine: tuple[str, dict[str, Any]]) -> Iterator[TrunkChannelLayer]:
    """Another process's layer, so to speak."""
    made: TrunkChannelLayer = import_string(engine[0])(**engine[1])
    yield made
    made.sync.close()


def test_flush_empties_other_layers(
    engine: tuple[str, dict[str, Any]], layer: TrunkChannelLayer, command: Command
) -> None:
    backend, config = engine
    channel = layer.sync.new_channel()
    layer.sync.group_add("room", channel)
    layer.sync.send(channel, HELLO)
    layer.sync.send("jobs", HELLO)
    assert command(layers_of(backend, **config), "trunk_flush", "--no-input") == ("default: flushed\n", "")
    layer.sync.group_send("room", HELLO)
    for name in (channel, "jobs"):
        with pytest.raises(TimeoutError):
            layer.sync.receive(name, timeout=0.05)


@pytest.mark.parametrize(("answer", "said"), [("yes", "default: flushed"), ("y", "Nothing was done.")])
def test_flush_asks(answer: str, said: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return answer

    monkeypatch.setattr(builtins, "input", ask)
    done = command(layers_of(MEMORY, prefix="asked"), "trunk_flush")
    assert asked == ["Type 'yes' to go on: "]
    assert "This drops all messages and groups of CHANNEL_LAYERS['default'] (prefix 'asked') in every" in done.output
    assert done.output.splitlines()[-1] == said


def test_status_tells_who_is_there_and_what_waits(
    engine: tuple[str, dict[str, Any]], layer: TrunkChannelLayer, command: Command
) -> None:
    backend, config = engine
    layer.sync.new_channel()
    for _ in range(3):
        layer.sync.send("jobs", HELLO)
    done = command(layers_of(backend, **config), "trunk_status", "--json")
    assert not done.error
    [status] = done.data
    assert status["layer"] == "default"
    assert status["backend"] == backend.rpartition(".")[2]
    assert (status["state"], status["detail"]) == ("ok", "")
    assert status["peers"] == [layer.stats().node]
    assert status["survey"]["waiting"] == {"jobs": 3}
    knows_its_log = backend in (SQLITE, POSTGRES)
    if knows_its_log:
        assert status["survey"]["size_bytes"] > 4096
    else:
        assert (status["survey"]["log_rows"], status["survey"]["size_bytes"]) == (None, None)
    shown = command(layers_of(backend, **config), "trunk_status", "--layer", "default").output
    assert f"default: {backend.rpartition('.')[2]}, prefix " in shown
    assert "  state      ok\n  others     1 processes\n" in shown
    assert "  waiting    3 in 1 normal channels\n          3  jobs\n" in shown
    assert ("  log        " in shown) == knows_its_log


def test_status_of_every_layer_of_ours(tmp_path: Path, command: Command) -> None:
    layers = {
        "a": {"BACKEND": MEMORY, "CONFIG": {"prefix": "status"}},
        "b": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        "c": {"BACKEND": SQLITE, "CONFIG": {"path": str(tmp_path / "missing" / "x")}},
        "d": {"BACKEND": POSTGRES, "CONFIG": {"dsn": "postgresql://me:opensesame@127.0.0.1:9/x", "send_timeout": 1}},
    }
    done = command(layers, "trunk_status", "--json")
    found = {status["layer"]: (status["state"], status["detail"]) for status in done.data}
    assert done.error == "not reached: c, d"
    assert found["a"] == ("ok", "")
    assert found["c"][0] == "failed"
    assert "does not exist; create it" in found["c"][1]
    assert found["d"][0] == "away"
    assert "PostgreSQL at 127.0.0.1:9, database x: " in found["d"][1]
    assert "opensesame" not in done.output


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ({}, "CHANNEL_LAYERS is empty"),
        ({"b": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "CHANNEL_LAYERS['b'] is a channels.layers.InMem"),
    ],
)
def test_status_without_a_layer_of_ours(layers: dict[str, Any], text: str, command: Command) -> None:
    assert text in command(layers, "trunk_status").error


@pytest.mark.parametrize("backend", [SQLITE, POSTGRES])
def test_nothing_stored_yet(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    layer: SQLiteChannelLayer | PostgresChannelLayer
    if backend == SQLITE:
        layer = SQLiteChannelLayer(path=str(tmp_path / "x"))
        assert layer.vacuum() is None
    else:
        layer = PostgresChannelLayer(dsn=request.getfixturevalue("postgres_database"))
    assert layer.survey() is None


def test_trim_removes_what_has_expired(tmp_path: Path, command: Command) -> None:
    config = {"path": str(tmp_path / "x"), "expiry": 0.001, "auto_trim": False, "capacity": 1000}
    layer = SQLiteChannelLayer(**config)
    for _ in range(20):
        layer.sync.send("jobs", {"type": "work", "data": "x" * 50_000})
    layer.sync.close()
    before = SQLiteChannelLayer(**config).survey()
    assert before
    assert before.waiting == {"jobs": 20}
    done = command(layers_of(SQLITE, **config), "trunk_trim")
    assert done == ("default: what had expired is removed\n", "")
    trimmed = SQLiteChannelLayer(**config).survey()
    assert trimmed
    assert trimmed.waiting == {}
    done = command(layers_of(SQLITE, **config), "trunk_trim", "--vacuum")
    assert "default: vacuumed; " in done.output
    vacuumed = SQLiteChannelLayer(**config).survey()
    assert vacuumed
    assert trimmed.size_bytes
    assert vacuumed.size_bytes
    assert vacuumed.size_bytes < trimmed.size_bytes / 2
    assert f"{shown_size(vacuumed.size_bytes)} now" in done.output


def test_trim_on_the_other_engines(postgres_database: str, command: Command) -> None:
    for layers in (layers_of(MEMORY, prefix="trim"), layers_of(POSTGRES, dsn=postgres_database)):
        assert command(layers, "trunk_trim") == ("default: what had expired is removed\n", "")
    done = command(layers_of(MEMORY), "trunk_trim", "--vacuum")
    assert done.error == (
        "CHANNEL_LAYERS['default'] is a MemoryChannelLayer, and not on a SQLite file: --vacuum is for those alone"
    )


def test_vacuum_of_a_database_of_the_orm(sqlite_alias: DjangoDatabase, command: Command) -> None:
    done = command(layers_of(ORM, database=sqlite_alias.alias), "trunk_trim", "--vacuum")
    assert not done.error
    assert "default: vacuumed; " in done.output
    connections[sqlite_alias.alias].close()


def test_vacuum_of_a_file_that_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    path = str(tmp_path / "x")
    layer = SQLiteChannelLayer(path=path)
    layer.sync.send("jobs", HELLO)
    layer.sync.close()
    settings = SQLiteChannelLayer(path=path).find_settings()._replace(timeout=0.01)
    monkeypatch.setattr("channels_trunk.layers.sqlite.find_settings", lambda values: settings)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        layer = SQLiteChannelLayer(path=path)
        layer.sync.new_channel()  # its own opening is over before the lock is taken
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransportUnavailable, match="it is locked by another program for longer than"):
            layer.vacuum()
        other.execute("ROLLBACK")
        layer.sync.close()


def test_an_engine_that_is_away_is_said_in_time(command: Command) -> None:
    layers = layers_of(POSTGRES, dsn="postgresql://me:opensesame@127.0.0.1:9/x", send_timeout=0.2)
    for words in (("trunk_trim",), ("trunk_flush", "--no-input")):
        error = command(layers, *words).error
        assert "within send_timeout=0.2 s" in error
        assert "opensesame" not in error


@pytest.mark.parametrize("name", NAMES)
def test_wrong_aliases(name: str, command: Command) -> None:
    words = [name, "--layer"]
    layers = {
        "default": {"BACKEND": MEMORY},
        "theirs": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        "wrong": {"BACKEND": MEMORY, "CONFIG": {"capactiy": 5}},
        "gone": {"BACKEND": "channels_trunk.layers.Nothing"},
    }
    assert command(layers, *words, "news").error == "CHANNEL_LAYERS has no 'news'; known: default, gone, theirs, wrong"
    assert command({}, *words, "news").error == "CHANNEL_LAYERS has no 'news'; known: none"
    assert command(layers, *words, "theirs").error == (
        "CHANNEL_LAYERS['theirs'] is a channels.layers.InMemoryChannelLayer, which is no layer of channels-trunk; name "
        "another alias by --layer"
    )
    if name != "trunk_doctor":  # for which these are findings
        assert command(layers, *words, "wrong").error == (
            "CHANNEL_LAYERS['wrong']['CONFIG']: unknown option 'capactiy'; did you mean 'capacity'?"
        )
        assert "CHANNEL_LAYERS['gone']: Cannot import BACKEND" in command(layers, *words, "gone").error


def test_a_process_keeps_its_own_layer(command: Command) -> None:
    """A command that is called in a server must not close the layer that the server uses."""
    layer = MemoryChannelLayer(prefix="kept")
    channel = layer.sync.new_channel()
    layer.sync.group_add("room", channel)
    command(layers_of(MEMORY, prefix="kept"), "trunk_status")
    layer.sync.group_send("room", HELLO)
    assert layer.sync.receive(channel, timeout=5) == HELLO
    layer.sync.close()


def test_sizes() -> None:
    assert [shown_size(size) for size in (0, 1023, 1024, 1536 * 1024, 3 * 1024**3, 5000 * 1024**3)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.5 MiB",
        "3.0 GiB",
        "5000.0 GiB",
    ]
