"""Real databases with real transactions, and layers that send after them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connections

from channels_trunk.layers import MemoryChannelLayer, SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer

MakeLayer = Callable[..., TrunkChannelLayer]


@pytest.fixture(autouse=True, scope="session")
def _apps_are_ready() -> None:
    """Django warns of queries before that."""
    apps.populate([])


class Database:
    """A SQLite file that Django knows under `alias`, with one table."""

    def __init__(self, alias: str, path: Path) -> None:
        self.alias = alias
        connections.settings[alias] = {**connections.settings["default"], "NAME": str(path)}
        self._execute("CREATE TABLE notes (text TEXT)")

    def write(self, text: str) -> None:
        """Write a row with the thread's own connection."""
        self._execute("INSERT INTO notes VALUES (%s)", text)

    def _execute(self, statement: str, *values: str) -> None:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(statement, values)

    def notes(self) -> list[str]:
        """What is committed, or written in the transaction that is open."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SELECT text FROM notes ORDER BY rowid")
            return [text for (text,) in cursor.fetchall()]

    def forget(self) -> None:
        """Close it, and take it out of the settings."""
        connections[self.alias].close()
        del connections[self.alias]
        del connections.settings[self.alias]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database("notes", tmp_path / "notes.sqlite3")
    yield database
    database.forget()


@pytest.fixture
def other_db(tmp_path: Path) -> Iterator[Database]:
    database = Database("others", tmp_path / "others.sqlite3")
    yield database
    database.forget()


@pytest.fixture(params=["memory", "sqlite"])
def make_layer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeLayer]:
    """Layers of one kind that hear each other; they are closed after the test."""
    made: list[TrunkChannelLayer] = []

    def make(**config: Any) -> TrunkChannelLayer:
        layer: TrunkChannelLayer
        if request.param == "memory":
            layer = MemoryChannelLayer(**{"prefix": str(tmp_path)[-90:], **config})
        else:
            layer = SQLiteChannelLayer(path=tmp_path / "layer.sqlite3", **config)
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.sync.close()


class Listener:
    """A node with a channel in the group `room`; it tells which numbers have come."""

    def __init__(self, layer: TrunkChannelLayer, closer: TrunkChannelLayer) -> None:
        self.layer = layer
        # Not the listener itself: what a node sends to its own channels does not queue behind what comes from others.
        self._closer = closer
        self.channel = layer.sync.new_channel()
        layer.sync.group_add("room", self.channel)

    def hears(self, *numbers: int) -> bool:
        """Whether these come next, in this order, and nothing behind them: a last message says that it is the last."""
        self._closer.sync.group_send("room", {"type": "end"})
        heard: list[int] = []
        while (message := self.layer.sync.receive(self.channel, timeout=10)) != {"type": "end"}:
            heard.append(message["n"])
        assert heard == list(numbers)
        return True


@pytest.fixture
def listener(make_layer: MakeLayer) -> Listener:
    return Listener(make_layer(), make_layer())


@pytest.fixture
def layer(make_layer: MakeLayer) -> TrunkChannelLayer:
    """A sender that is open already."""
    layer = make_layer()
    layer.sync.new_channel()
    return layer
