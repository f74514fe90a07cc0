"""The model suite on every layer."""

import contextlib
import sqlite3
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.loopback import loopback_server
from channels_trunk.testing.model import Engine, ModelSuite

pytestmark = pytest.mark.timeout(900)


class TestMemory(ModelSuite):
    features = Features(crosses_processes=False, encryption=False)
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.MemoryChannelLayer", config={"prefix": _prefix(), **self.options}
        )


class TestMemoryOffTheLoop(TestMemory):
    options = {"inline": False}


class TestLoopback(ModelSuite):
    features = Features(crosses_processes=False)
    backend: ClassVar[str] = "channels_trunk.testing.transports.LoopbackChannelLayer"

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(backend=self.backend, config={"prefix": _prefix()})

    @pytest.fixture
    def engine(self, layer_config: LayerUnderTest) -> Engine:
        server = loopback_server(layer_config.config["prefix"])
        return Engine(cut=server.drop_connections, ways_to_lose={"it is emptied": server.lose_all})


class TestStartingLoopback(TestLoopback):
    backend = "channels_trunk.testing.starting.StartingLoopbackChannelLayer"


class TestSQLite(ModelSuite):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "channels.sqlite3"

    @pytest.fixture
    def layer_config(self, path: Path) -> LayerUnderTest:
        return LayerUnderTest(backend="channels_trunk.layers.SQLiteChannelLayer", config={"path": str(path)})

    @pytest.fixture
    def engine(self, path: Path) -> Engine:
        return Engine(ways_to_lose={"its tables are emptied": lambda: empty(path)})


def empty(path: Path) -> None:
    """Do what people do with a database that has become too large."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for name in {name for (name,) in tables} & {"trunk_log", "trunk_queue", "trunk_depth", "trunk_members"}:
            connection.execute(f"DELETE FROM {name}")


def _prefix() -> str:
    return f"model-{uuid.uuid4().hex}"
