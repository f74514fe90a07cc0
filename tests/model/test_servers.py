"""The model suite on the layers whose engine is a server."""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.model import Engine, ModelSuite
from channels_trunk.testing.proxy import Proxy
from tests.plugins.django_databases import DjangoDatabase
from tests.plugins.servers import RabbitServer

pytestmark = pytest.mark.timeout(900)

MakeProxy = Callable[[str, int], Proxy]


class ThroughAProxy(ModelSuite):
    """The proxy cuts the connections."""

    programmes = 10

    @pytest.fixture
    def server(self) -> tuple[str, int]:
        """Where the engine is."""
        raise NotImplementedError

    @pytest.fixture
    def cutting(self, server: tuple[str, int], proxy: MakeProxy) -> Proxy:
        return proxy(*server)

    @pytest.fixture
    def engine(self, cutting: Proxy) -> Engine:
        return Engine(cut=cutting.cut)


class TestPostgres(ThroughAProxy):
    @pytest.fixture
    def server(self, postgres_database: str) -> tuple[str, int]:
        return _place(postgres_database)

    @pytest.fixture
    def layer_config(self, postgres_database: str, cutting: Proxy) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.PostgresChannelLayer", config={"dsn": _through(postgres_database, cutting)}
        )


class TestRabbitMQ(ThroughAProxy):
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def url(self, rabbit: RabbitServer) -> str:
        return rabbit.fresh_vhost()

    @pytest.fixture
    def server(self, url: str) -> tuple[str, int]:
        return _place(url)

    @pytest.fixture
    def layer_config(self, url: str, cutting: Proxy) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_trunk.layers.RabbitMQChannelLayer",
            config={"host": _through(url, cutting), **self.options},
        )


def on(database: DjangoDatabase, **entry: Any) -> LayerUnderTest:
    """The ORM's layer on a database; `entry` changes what processes have in DATABASES."""
    settings = database.settings
    settings["DATABASES"] = {**settings["DATABASES"], database.alias: {**database.entry, **entry}}
    return LayerUnderTest(
        backend="channels_trunk.layers.DatabaseChannelLayer",
        config={"database": database.alias, "prefix": _prefix(), "polling_interval": 0.01},
        django_settings=settings,
    )


class TestSQLiteByTheOrm(ModelSuite):
    programmes = 5

    @pytest.fixture
    def layer_config(self, sqlite_alias: DjangoDatabase) -> LayerUnderTest:
        return on(sqlite_alias)


class TestPostgresByTheOrm(ModelSuite):
    programmes = 5

    @pytest.fixture
    def layer_config(self, postgres_alias: DjangoDatabase) -> LayerUnderTest:
        return on(postgres_alias)


class TestMariaDbByTheOrm(ModelSuite):
    programmes = 5

    @pytest.fixture
    def layer_config(self, mariadb_alias: DjangoDatabase) -> LayerUnderTest:
        return on(mariadb_alias)


def _prefix() -> str:
    return f"model-{uuid.uuid4().hex}"


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


def _through(url: str, proxy: Proxy) -> str:
    """The address with the proxy's place."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@{proxy.host}:{proxy.port}" if user else f"{proxy.host}:{proxy.port}").geturl()
