"""The suite on SQLiteChannelLayer."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite

pytestmark = pytest.mark.timeout(300)


class TestSQLite(Suite):
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self, tmp_path: Path) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.SQLiteChannelLayer",
            config={"path": str(tmp_path / "channels.sqlite3"), **self.options},
            patience=4,
        )


class TestSQLiteOffTheLoop(TestSQLite):
    options: ClassVar[dict[str, Any]] = {"inline": False}
