"""The suite on DatabaseChannelLayer, by the ORM on three engines."""

import uuid

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.conformance import Suite
from tests.plugins.django_databases import DjangoDatabase


def on(database: DjangoDatabase) -> LayerUnderTest:
    """The layer on a database that all tests share: each has a prefix of its own."""
    return LayerUnderTest(
        backend="channels_trunk.layers.DatabaseChannelLayer",
        config={"database": database.alias, "prefix": f"suite {uuid.uuid4().hex}", "polling_interval": 0.01},
        django_settings=database.settings,
        threads=2,  # one for the hub's loop, one for Django's blocking calls
    )


class TestSQLiteByTheOrm(Suite):
    @pytest.fixture
    def layer_config(self, sqlite_alias: DjangoDatabase) -> LayerUnderTest:
        return on(sqlite_alias)


class TestPostgresByTheOrm(Suite):
    @pytest.fixture
    def layer_config(self, postgres_alias: DjangoDatabase) -> LayerUnderTest:
        return on(postgres_alias)


class TestMariaDbByTheOrm(Suite):
    @pytest.fixture
    def layer_config(self, mariadb_alias: DjangoDatabase) -> LayerUnderTest:
        return on(mariadb_alias)
