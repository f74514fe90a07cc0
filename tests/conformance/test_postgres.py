"""The suite on PostgresChannelLayer."""

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite


class TestPostgres(Suite):
    @pytest.fixture
    def layer_config(self, postgres_database: str) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.PostgresChannelLayer",
            config={"dsn": postgres_database},
        )
