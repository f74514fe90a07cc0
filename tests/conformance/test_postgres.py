"""The suite on PostgresChannelLayer."""

from collections.abc import Iterator

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite
from channels_trunk.testing.conformance.suite import rule_names
from tests.plugins.servers.postgres_server import PostgresServer

# What depends on the server's version, if anything does: what processes say to each other, and who gets which job.
BETWEEN_PROCESSES = (
    *("between_nodes", "order_of", "each_job", "job_waits", "worker", "remote", "flush", "kill", "fork", "child"),
    *("normal_channel", "capacity", "encrypted"),
)


class TestPostgres(Suite):
    @pytest.fixture
    def layer_config(self, postgres_database: str) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.PostgresChannelLayer",
            config={"dsn": postgres_database},
        )


class TestPostgresNewest(Suite):
    """On the newest server that can be had."""

    left_out = {
        name: "the same on every server; it is run on the system's"
        for name in rule_names()
        if not any(word in name for word in BETWEEN_PROCESSES)
    }

    @pytest.fixture
    def layer_config(self, newest_postgres: PostgresServer) -> Iterator[LayerUnderTest]:
        dsn = newest_postgres.fresh_database()
        yield LayerUnderTest(backend="channels_trunk.layers.PostgresChannelLayer", config={"dsn": dsn})
        newest_postgres.drop_database(dsn)
