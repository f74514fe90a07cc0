"""The suite on an asynchronous transport: what PostgreSQL and RabbitMQ will be to the core."""

import uuid

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite


class TestLoopback(Suite):
    features = Features(crosses_processes=False)

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.testing.transports.LoopbackChannelLayer",
            config={"prefix": f"suite-{uuid.uuid4().hex}"},
        )


class TestStartingLoopback(Suite):
    """Callers' threads start what is published."""

    features = Features(crosses_processes=False)

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.testing.starting.StartingLoopbackChannelLayer",
            config={"prefix": f"suite-{uuid.uuid4().hex}"},
        )
