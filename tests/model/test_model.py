"""The model suite on every layer."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.loopback import loopback_server
from channels_trunk.testing.model import Engine, Loss, ModelSuite
from tests.model import stores

# What is lost with each table.
TABLES: stores.Tables = {
    "trunk_log": stores.MAIL,
    "trunk_queue": stores.JOBS,
    "trunk_depth": stores.NOTHING,
    "trunk_members": stores.LATE,
    "trunk_nodes": stores.MAIL,
    "trunk_meta": stores.MAIL,
}

pytestmark = pytest.mark.timeout(900)


class TestMemory(ModelSuite):
    features = Features(crosses_processes=False, encryption=False)
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.MemoryChannelLayer", config={"prefix": _prefix(), **self.options}
        )

    @pytest.fixture
    def engine(self, layer_config: LayerUnderTest) -> Iterator[Engine]:
        """What is in memory goes with the last layer that is open: so one is open all the time."""
        keeper = MemoryChannelLayer(**layer_config.config)
        keeper.sync.new_channel()
        yield Engine()
        keeper.sync.close()


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
        return Engine(cut=server.drop_connections, ways_to_lose={"it is emptied": Loss(server.lose_all)})


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
        ways = stores.ways_to_lose(stores.on_sqlite(path), TABLES)
        return Engine(ways_to_lose=ways, copy=lambda: stores.back_up(path))


def _prefix() -> str:
    return f"model-{uuid.uuid4().hex}"
