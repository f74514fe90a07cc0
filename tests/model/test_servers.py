"""The model suite on the layers whose engine is a server."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.model import Engine, ModelSuite
from channels_trunk.testing.proxy import Proxy
from tests.model import stores
from tests.plugins.django_databases import DjangoDatabase
from tests.plugins.servers import MariaDbServer, RabbitServer

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

    @pytest.fixture
    def engine(self, postgres_database: str, cutting: Proxy) -> Engine:
        run = stores.on_postgres(postgres_database)
        logs = {"trunk_log_0, trunk_log_1": stores.MAIL}
        others = {
            "trunk_state": stores.MAIL,
            "trunk_queue": stores.JOBS,
            "trunk_members": stores.MEMBERS,
            "trunk_nodes": stores.MAIL,
        }
        tables = ["trunk_log_0", "trunk_log_1", *others]
        return Engine(
            cut=cutting.cut,
            ways_to_lose=stores.ways_to_lose(run, logs | others, empty="TRUNCATE"),
            copy=lambda: stores.copy_aside(run, tables, like="(LIKE {})", empty="TRUNCATE"),
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

    @pytest.fixture
    def engine(self, rabbit: RabbitServer, url: str, cutting: Proxy) -> Engine:
        return Engine(cut=cutting.cut, ways_to_lose=stores.ways_to_lose_on_rabbitmq(rabbit, url))


def on(database: DjangoDatabase, **entry: Any) -> LayerUnderTest:
    """The ORM's layer on a database; `entry` changes what processes have in DATABASES."""
    settings = database.settings
    settings["DATABASES"] = {**settings["DATABASES"], database.alias: {**database.entry, **entry}}
    return LayerUnderTest(
        backend="channels_trunk.layers.DatabaseChannelLayer",
        config={"database": database.alias, "prefix": _prefix(), "polling_interval": 0.01},
        django_settings=settings,
    )


class ByTheOrm(ModelSuite):
    """The tables are those of all tests of the run."""

    programmes = 5
    tables: ClassVar[stores.Tables] = {
        "channels_trunk_sequencer": stores.MAIL,
        "channels_trunk_logrow": stores.MAIL | {"told": False},
        "channels_trunk_queuedmessage": stores.JOBS,
        "channels_trunk_member": stores.LATE,
        "channels_trunk_node": stores.MAIL,
    }

    def befalling(self, run: stores.Run, *, like: str, empty: str) -> Iterator[Engine]:
        """What befalls the tables."""

        def copy() -> Callable[[], object]:
            return stores.copy_aside(run, list(self.tables), like=like, empty=empty)

        yield Engine(ways_to_lose=stores.ways_to_lose(run, self.tables, empty=empty), copy=copy)
        run([f"DROP TABLE IF EXISTS aside_{table}" for table in self.tables])


class TestSQLiteByTheOrm(ByTheOrm):
    @pytest.fixture
    def layer_config(self, sqlite_alias: DjangoDatabase) -> LayerUnderTest:
        return on(sqlite_alias)

    @pytest.fixture
    def engine(self, sqlite_alias: DjangoDatabase) -> Engine:
        path = Path(sqlite_alias.entry["NAME"])
        ways = stores.ways_to_lose(stores.on_sqlite(path), self.tables)
        return Engine(ways_to_lose=ways, copy=lambda: stores.back_up(path))


class TestPostgresByTheOrm(ThroughAProxy, ByTheOrm):
    programmes = 5

    @pytest.fixture
    def server(self, postgres_alias: DjangoDatabase) -> tuple[str, int]:
        return postgres_alias.entry["HOST"], int(postgres_alias.entry["PORT"])

    @pytest.fixture
    def layer_config(self, postgres_alias: DjangoDatabase, cutting: Proxy) -> LayerUnderTest:
        return on(postgres_alias, HOST=cutting.host, PORT=str(cutting.port))

    @pytest.fixture
    def engine(self, postgres_alias: DjangoDatabase, cutting: Proxy) -> Iterator[Engine]:
        entry = postgres_alias.entry
        address = f"{entry['HOST']}:{entry['PORT']}/{entry['NAME']}"
        run = stores.on_postgres(f"postgresql://{entry['USER']}:{entry['PASSWORD']}@{address}")
        for engine in self.befalling(run, like="(LIKE {})", empty="TRUNCATE"):
            yield dataclasses.replace(engine, cut=cutting.cut)


class TestMariaDbByTheOrm(ByTheOrm):
    @pytest.fixture
    def layer_config(self, mariadb_alias: DjangoDatabase) -> LayerUnderTest:
        return on(mariadb_alias)

    @pytest.fixture
    def engine(self, mariadb: MariaDbServer, mariadb_alias: DjangoDatabase) -> Iterator[Engine]:
        entry = mariadb_alias.entry
        url = f"mysql://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/{entry['NAME']}"
        yield from self.befalling(stores.on_mariadb(mariadb, url), like="LIKE {}", empty="DELETE FROM")


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
