"""The suite on DatabaseChannelLayer, by the ORM on three engines."""

import uuid

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite
from channels_trunk.testing.conformance.suite import rule_names
from tests.plugins.django_databases import DjangoDatabase

# What depends on the engine: what processes say to each other, and who gets which job.
BETWEEN_PROCESSES = (
    *("between_nodes", "order_of", "each_job", "job_waits", "worker", "remote", "flush", "kill", "fork", "child"),
    *("normal_channel", "capacity", "encrypted", "expire", "frees"),
)


pytestmark = pytest.mark.timeout(300)


def on(database: DjangoDatabase, *, scale: float = 0.25) -> LayerUnderTest:
    """The layer on a database that all tests share: each has a prefix of its own.

    On a server a batch takes five ways there and back, and each of them as long as a busy machine lets it wait.
    """
    return LayerUnderTest(
        backend="channels_trunk.layers.DatabaseChannelLayer",
        config={
            "database": database.alias,
            "prefix": f"suite {uuid.uuid4().hex}",
            "polling_interval": 0.01,
            "send_timeout": 20,
        },
        django_settings=database.settings,
        shortest_expiry=1,
        scale=scale,
        patience=4,
        threads=2,  # one for the hub's loop, one for Django's blocking calls
    )


class TestSQLiteByTheOrm(Suite):
    @pytest.fixture
    def layer_config(self, sqlite_alias: DjangoDatabase) -> LayerUnderTest:
        return on(sqlite_alias)


class OnAServer(Suite):
    left_out = {
        name: "the same on every engine; it is run on SQLite"
        for name in rule_names()
        if not any(word in name for word in BETWEEN_PROCESSES)
    }


class TestPostgresByTheOrm(OnAServer):
    @pytest.fixture
    def layer_config(self, postgres_alias: DjangoDatabase) -> LayerUnderTest:
        return on(postgres_alias, scale=0.1)


class TestMariaDbByTheOrm(OnAServer):
    @pytest.fixture
    def layer_config(self, mariadb_alias: DjangoDatabase) -> LayerUnderTest:
        return on(mariadb_alias, scale=0.1)
