"""The suite on an asynchronous transport: what PostgreSQL and RabbitMQ will be to the core."""

import uuid
from typing import ClassVar

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite


class TestLoopback(Suite):
    features = Features(crosses_processes=False)
    backend: ClassVar[str] = "channels_trunk.testing.transports.LoopbackChannelLayer"

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(backend=self.backend, config={"prefix": f"suite-{uuid.uuid4().hex}"})


class TestStartingLoopback(TestLoopback):
    """Callers' threads start what is published."""

    backend = "channels_trunk.testing.starting.StartingLoopbackChannelLayer"
