"""The suite on RabbitMQChannelLayer."""

from typing import Any, ClassVar

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite
from tests.plugins.servers import RabbitServer


class TestRabbitMQ(Suite):
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def layer_config(self, rabbit: RabbitServer) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.RabbitMQChannelLayer",
            config={"host": rabbit.fresh_vhost(), **self.options},
        )
