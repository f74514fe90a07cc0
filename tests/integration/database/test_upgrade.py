"""Tables of the version before: a person is told to migrate, and what is in them stays good."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from channels_trunk.exceptions import SchemaMismatch
from channels_trunk.transports.database.names import stored_name
from tests.integration.database.conftest import MakeLayer, in_thread, meet
from tests.plugins.django_databases import (
    DjangoDatabase,
    add_database,
    mariadb_entry,
    migrate,
    postgres_entry,
    remove_database,
    sqlite_entry,
)
from tests.plugins.servers import MariaDbServer
from tests.plugins.servers.postgres_server import PostgresServer

BEFORE = ("channels_trunk", "0001_initial")


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def old_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DjangoDatabase]:
    """A database of each engine with the tables of the version before."""
    if request.param == "sqlite":
        entry = sqlite_entry(tmp_path / "old.sqlite3")
    else:
        server: PostgresServer | MariaDbServer = request.getfixturevalue(request.param)
        url = server.fresh_database()
        entry = postgres_entry(url) if isinstance(server, PostgresServer) else mariadb_entry(url)
    database = add_database("old_database", entry)
    call_command("migrate", *BEFORE, database=database.alias, verbosity=0)
    connections[database.alias].close()
    yield database
    remove_database(database)
    if request.param != "sqlite":
        server.drop_database(url)


async def test_tables_of_the_version_before(old_database: DjangoDatabase, make_layer: MakeLayer) -> None:
    one, other = make_layer(old_database), make_layer(old_database)
    with pytest.raises(SchemaMismatch, match="migrate channels_trunk --database old_database"):
        await one.flush()
    prefix = stored_name(one._values["prefix"])

    def fill(connection: Any) -> None:
        apps = MigrationExecutor(connection).loader.project_state(BEFORE).apps
        head = {"epoch": 5, "position": 2, "back": 1, "front": 0, "generation": 7, "roll": 1}
        expires_at = time.time() + 600
        apps.get_model("channels_trunk", "Sequencer").objects.using(connection.alias).create(prefix=prefix, **head)
        for position in (1, 2):
            apps.get_model("channels_trunk", "LogRow").objects.using(connection.alias).create(
                prefix=prefix, position=position, origin="before", expires_at=expires_at, frame=b"read by all"
            )

    await in_thread(old_database.alias, fill)
    await in_thread(old_database.alias, lambda _: migrate(old_database))
    await meet(one, other)
    assert one.stats().gaps_total == other.stats().gaps_total == 0
    assert one.stats().skipped_frames_total == other.stats().skipped_frames_total == 0
