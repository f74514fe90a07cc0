"""The suite on MemoryChannelLayer: several layers of one process share it by their prefix."""

import uuid
from typing import Any, ClassVar

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite


class TestMemory(Suite):
    # What never leaves the process is not packed into frames, so there is nothing to encrypt.
    features = Features(crosses_processes=False, encryption=False)
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.MemoryChannelLayer",
            config={"prefix": f"suite-{uuid.uuid4().hex}", **self.options},
        )


class TestMemoryOffTheLoop(TestMemory):
    options: ClassVar[dict[str, Any]] = {"inline": False}
