"""Django databases with the tables of DatabaseChannelLayer: one of each engine for the whole run."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import connections

from tests.plugins.servers.mariadb import MariaDbServer
from tests.plugins.servers.postgres_server import PostgresServer

# mysqlclient is what Django recommends, and needs a compiler; where it is not installed, PyMySQL takes its place.
MYSQL = "django.db.backends.mysql" if find_spec("MySQLdb") else "tests.plugins.pymysql_backend"
WAL = "PRAGMA journal_mode = WAL"


class DjangoDatabase(NamedTuple):
    """An alias that is known in this process, and what other processes need to know it."""

    alias: str
    entry: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """For django.conf.settings.configure() in other processes."""
        memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        return {
            "SECRET_KEY": "tests only",
            "INSTALLED_APPS": ["channels_trunk"],
            "DATABASES": {"default": memory, self.alias: dict(self.entry)},
            "USE_TZ": True,
        }


def add_database(alias: str, entry: Mapping[str, Any]) -> DjangoDatabase:
    """Make an alias known in this process, beside those of the settings."""
    configured = connections.configure_settings({"default": {**entry}})
    connections.settings[alias] = configured["default"]
    return DjangoDatabase(alias, entry)


def remove_database(database: DjangoDatabase) -> None:
    """Forget an alias."""
    if hasattr(connections._connections, database.alias):
        if connections[database.alias].connection is not None:
            connections[database.alias].close()
        del connections[database.alias]
    del connections.settings[database.alias]


def migrate(database: DjangoDatabase) -> None:
    """Make the tables."""
    call_command("migrate", database=database.alias, verbosity=0)
    connections[database.alias].close()


def sqlite_entry(path: Path | str, *, init_command: str = WAL) -> dict[str, Any]:
    """As channels-lite's documentation has it."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"init_command": init_command} if init_command else {},
    }


def postgres_entry(dsn: str) -> dict[str, Any]:
    """The entry of DATABASES for an address."""
    return {"ENGINE": "django.db.backends.postgresql", **_place(dsn)}


def mariadb_entry(url: str) -> dict[str, Any]:
    """The same for MariaDB."""
    return {"ENGINE": MYSQL, **_place(url), "OPTIONS": {"charset": "utf8mb4"}}


def _place(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": str(parts.port),
    }


def _migrated(alias: str, entry: Mapping[str, Any]) -> Iterator[DjangoDatabase]:
    database = add_database(alias, entry)
    migrate(database)
    yield database
    remove_database(database)


@pytest.fixture(scope="session")
def sqlite_alias(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoDatabase]:
    """A SQLite file."""
    yield from _migrated("sqlite_file", sqlite_entry(tmp_path_factory.mktemp("orm") / "db.sqlite3"))


@pytest.fixture(scope="session")
def postgres_alias(postgres: PostgresServer) -> Iterator[DjangoDatabase]:
    """A database in the PostgreSQL of this run."""
    dsn = postgres.fresh_database()
    yield from _migrated("postgres", postgres_entry(dsn))
    postgres.drop_database(dsn)


@pytest.fixture(scope="session")
def mariadb_alias(mariadb: MariaDbServer) -> Iterator[DjangoDatabase]:
    """A database in the MariaDB of this run."""
    url = mariadb.fresh_database()
    yield from _migrated("mariadb", mariadb_entry(url))
    mariadb.drop_database(url)
