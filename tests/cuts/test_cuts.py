"""A connection is cut at each packet, on every layer that has a server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.cuts import CutSuite
from tests.plugins.django_databases import DjangoDatabase, add_database, remove_database
from tests.plugins.servers import PgBouncerFactory, RabbitServer
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

# Each run has a limit of its own; how many there are is said by --cuts.
pytestmark = pytest.mark.timeout(0)

LayerAt = Callable[[str, int], LayerUnderTest]
GAP_EVENT = "cuts.gap"


class Cuts(CutSuite):
    async def upkeep(self, layer: Any) -> None:
        assert isinstance(layer, TrunkChannelLayer)
        layer._hub.on_io(layer._hub.sweep)


class TestPostgres(Cuts):
    @pytest.fixture
    def server(self, postgres_database: str) -> tuple[str, int]:
        parts = psycopg.conninfo.conninfo_to_dict(postgres_database)
        return str(parts["host"]), int(str(parts["port"]))

    @pytest.fixture
    def layer_at(self, postgres_database: str) -> LayerAt:
        return lambda host, port: LayerUnderTest(
            backend="channels_trunk.layers.PostgresChannelLayer",
            config={"dsn": dsn_for(postgres_database, host=host, port=port), "gap_event": GAP_EVENT},
        )


class TestPostgresThroughPgBouncer(TestPostgres):
    """Where transactions are pooled: the layer finds out that LISTEN does not hold, and polls."""

    chosen = 2

    @pytest.fixture
    def postgres_database(self, postgres: PostgresServer, pgbouncer: PgBouncerFactory) -> Iterator[str]:
        dsn = postgres.fresh_database()
        yield pgbouncer(postgres).by_address(dsn)
        postgres.drop_database(dsn)


class TestRabbitMQ(Cuts):
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def url(self, rabbit: RabbitServer) -> str:
        return rabbit.fresh_vhost()

    @pytest.fixture
    def server(self, url: str) -> tuple[str, int]:
        parts = urlsplit(url)
        return str(parts.hostname), int(parts.port or 0)

    @pytest.fixture
    def layer_at(self, url: str) -> LayerAt:
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return lambda host, port: LayerUnderTest(
            backend="channels_trunk.layers.RabbitMQChannelLayer",
            config={
                "host": parts._replace(netloc=f"{user}@{host}:{port}").geturl(),
                "gap_event": GAP_EVENT,
                **self.options,
            },
        )


class TestRabbitMQQuorum(TestRabbitMQ):
    """Normal channels in quorum queues."""

    options = {"queue_type": "quorum"}
    chosen = 6


class OnDjango(Cuts):
    chosen = 4  # it polls, and takes its time

    @pytest.fixture
    def database(self) -> DjangoDatabase:
        raise NotImplementedError

    @pytest.fixture
    def server(self, database: DjangoDatabase) -> tuple[str, int]:
        return str(database.entry["HOST"]), int(database.entry["PORT"])

    @pytest.fixture
    def layer_at(self, database: DjangoDatabase) -> Iterator[LayerAt]:
        """An alias for each address."""
        prefix = f"cuts {uuid4().hex}"
        with ExitStack() as stack:

            def at(host: str, port: int) -> LayerUnderTest:
                entry = {**database.entry, "HOST": host, "PORT": str(port)}
                added = add_database(f"{database.alias}_at_{port}", entry)
                stack.callback(remove_database, added)
                return LayerUnderTest(
                    backend="channels_trunk.layers.DatabaseChannelLayer",
                    config={
                        "database": added.alias,
                        "prefix": prefix,
                        "polling_interval": 0.01,
                        "gap_event": GAP_EVENT,
                    },
                    django_settings=added.settings,
                )

            yield at


class TestPostgresByTheOrm(OnDjango):
    @pytest.fixture
    def database(self, postgres_alias: DjangoDatabase) -> DjangoDatabase:
        return postgres_alias


class TestMariaDbByTheOrm(OnDjango):
    @pytest.fixture
    def database(self, mariadb_alias: DjangoDatabase) -> DjangoDatabase:
        return mariadb_alias
