"""trunk_doctor on DatabaseChannelLayer, on each engine: broken set-ups are named rightly, and no password is shown."""

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.test import override_settings

from channels_trunk.checks import check_channel_layer_databases
from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.testing.ports import free_port
from channels_trunk.transports.database import examination
from tests.integration.commands.conftest import Command, Done, layers_of
from tests.plugins.django_databases import (
    DjangoDatabase,
    add_database,
    mariadb_entry,
    migrate,
    postgres_entry,
    remove_database,
    sqlite_entry,
)
from tests.plugins.servers import MariaDbServer, PgBouncerFactory, PostgresServer

ORM = "channels_trunk.layers.DatabaseChannelLayer"
SECRET = "opensesame-is-the-password"
STRONG = "9vJ1pZ-4yQmXw7Rb_TnC2kLs8HdF5gUe"
ANOTHER = "Kq3_tW8zPf-1LxN6bYcR0mVd9SjG4hAo"
SERVERS = ("postgres_alias", "mariadb_alias")
LINES_SILENT = 0.3

Examined = Callable[..., Done]


@pytest.fixture
def examined(command: Command) -> Examined:
    """Have the layer on a database examined; the database is known only meanwhile."""

    def run(entry: Mapping[str, Any], *, migrated: bool = False, **config: Any) -> Done:
        database = add_database("examined", entry)
        try:
            if migrated:
                migrate(database)
            done = command(layers_of(ORM, database="examined", **config), "trunk_doctor", "--json")
        finally:
            remove_database(database)
        assert SECRET not in done.output + done.error
        if done.error:
            assert done.error == f"default: {done.codes[-1]}"
            assert done.data[-1]["remedy"]
        return done

    return run


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> DjangoDatabase:
    """A migrated database of each engine that is a server."""
    found: DjangoDatabase = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """A file with the tables."""
    path = tmp_path / "db.sqlite3"
    database = add_database("made", sqlite_entry(path))
    migrate(database)
    remove_database(database)
    return path


# --- what works


@pytest.mark.parametrize("engine", ["sqlite_alias", *SERVERS])
def test_layers_that_work(engine: str, request: pytest.FixtureRequest, examined: Examined) -> None:
    database: DjangoDatabase = request.getfixturevalue(engine)
    done = examined(database.entry, prefix="doctor")
    assert (done.codes, done.error) == (["settings", "engine", "round-trip", "child-not-asked"], "")


# --- servers


def test_a_server_that_is_down(server: DjangoDatabase, examined: Examined) -> None:
    done = examined({**server.entry, "PORT": str(free_port()), "PASSWORD": SECRET})
    assert done.codes == ["settings", "server-down"]


@pytest.mark.parametrize("wrong", [{"PASSWORD": SECRET}, {"NAME": "no_such_database"}, {"USER": "nobody_at_all"}])
def test_a_login_that_is_refused(wrong: dict[str, str], server: DjangoDatabase, examined: Examined) -> None:
    assert examined({**server.entry, **wrong}).codes == ["settings", "login-refused"]


def test_a_server_that_says_nothing(
    server: DjangoDatabase, examined: Examined, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "_ANSWERS_WITHIN", LINES_SILENT)
    # The check of migrations has its own connection, and would wait as long as the driver does.
    monkeypatch.setattr("channels_trunk.doctor.examination.check_migrations", lambda alias: [])
    line = proxy(server.entry["HOST"], int(server.entry["PORT"]))
    line.hang()
    try:
        done = examined({**server.entry, "HOST": line.host, "PORT": str(line.port)})
    finally:
        line.cut()
    assert done.codes == ["settings", "server-silent"]


def test_a_user_without_rights(
    postgres: PostgresServer, postgres_database: str, mariadb: MariaDbServer, examined: Examined
) -> None:
    for entry, guest in (
        (postgres_entry(postgres_database), postgres_entry(postgres.create_role(postgres_database))),
        _maria_with_a_guest(mariadb),
    ):
        assert examined(entry, migrated=True).error == ""
        # It may look at what Django notes of migrations, and at nothing else.
        if "postgresql" in entry["ENGINE"]:
            with psycopg.connect(postgres_database, autocommit=True) as connection:
                connection.execute("GRANT SELECT ON django_migrations TO PUBLIC")
        assert examined(guest).codes == ["settings", "no-rights"]


def _maria_with_a_guest(mariadb: MariaDbServer) -> tuple[dict[str, Any], dict[str, Any]]:
    url = mariadb.fresh_database()
    entry = mariadb_entry(url)
    name = entry["NAME"]
    mariadb.execute(
        f"CREATE USER guest_{name}@'%' IDENTIFIED BY 'guest-{name}'", f"GRANT SELECT ON {name}.* TO guest_{name}@'%'"
    )
    return entry, {**entry, "USER": f"guest_{name}", "PASSWORD": f"guest-{name}"}


def test_a_server_that_only_reads(postgres_database: str, examined: Examined) -> None:
    entry = postgres_entry(postgres_database)
    assert examined(entry, migrated=True).error == ""
    reading = {**entry, "OPTIONS": {"options": "-c default_transaction_read_only=on"}}
    assert examined(reading).codes == ["settings", "server-read-only"]


def test_tables_that_are_missing(server: DjangoDatabase, request: pytest.FixtureRequest, examined: Examined) -> None:
    if server.alias == "postgres":
        entry = postgres_entry(request.getfixturevalue("postgres_database"))
    else:
        entry = mariadb_entry(request.getfixturevalue("mariadb").fresh_database())
    done = examined(entry)
    assert done.codes == ["settings", "channels_trunk.W008"]
    assert done.data[-1]["remedy"] == "Run `manage.py migrate channels_trunk --database examined`."
    assert examined(entry, migrated=True).error == ""
    database = add_database("dropped", entry)
    try:
        with connections["dropped"].cursor() as cursor:
            cursor.execute("DROP TABLE channels_trunk_member")
    finally:
        remove_database(database)
    assert examined(entry).codes == ["settings", "tables-missing"]


def test_tables_that_somebody_has_locked(postgres_database: str, examined: Examined) -> None:
    entry = postgres_entry(postgres_database)
    assert examined(entry, migrated=True).error == ""
    with psycopg.connect(postgres_database) as other:
        other.execute("LOCK TABLE channels_trunk_logrow IN ACCESS EXCLUSIVE MODE")
        assert examined(entry).codes == ["settings", "tables-locked"]


def test_a_pooler(
    postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory, examined: Examined
) -> None:
    direct = postgres_entry(postgres_database)
    assert examined(direct, migrated=True).error == ""
    pooled = postgres_entry(pgbouncer(postgres).by_address(postgres_database))
    done = examined(pooled)
    assert done.codes == ["settings", "pooler", "engine", "round-trip", "child-not-asked"]
    assert "DISABLE_SERVER_SIDE_CURSORS" in done.data[1]["remedy"]
    assert "pooler" not in examined({**pooled, "DISABLE_SERVER_SIDE_CURSORS": True}).codes


def test_w007_for_a_pooler(postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory) -> None:
    pooled = postgres_entry(pgbouncer(postgres).by_address(postgres_database))
    for known, found in ((False, ["W007", "W008"]), (True, ["W008"])):
        more = {"DISABLE_SERVER_SIDE_CURSORS": True} if known else {}
        ids = [f"channels_trunk.{number}" for number in found]
        database = add_database("pooled", {**pooled, **more})
        try:
            with override_settings(CHANNEL_LAYERS=layers_of(ORM, database="pooled")):
                assert [message.id for message in check_channel_layer_databases(databases=["pooled"])] == ids
                assert check_channel_layer_databases(databases=["default"]) == []
        finally:
            remove_database(database)


# --- SQLite


def test_a_directory_that_is_missing(tmp_path: Path, examined: Examined) -> None:
    assert examined(sqlite_entry(tmp_path / "nowhere" / "x")).codes == ["channels_trunk.E003"]


def test_a_file_that_is_no_database(tmp_path: Path, examined: Examined) -> None:
    (tmp_path / "x").write_bytes(b"no database at all" * 100)
    assert examined(sqlite_entry(tmp_path / "x")).codes == ["settings", "file-no-database"]


def test_a_damaged_file(sqlite_file: Path, examined: Examined) -> None:
    with sqlite_file.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_960)
    assert examined(sqlite_entry(sqlite_file)).codes == ["settings", "file-damaged"]


def test_a_locked_file(sqlite_file: Path, examined: Examined) -> None:
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert examined(sqlite_entry(sqlite_file)).codes == ["settings", "file-locked"]


def test_a_full_disk(sqlite_file: Path, examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(f_bavail=10, f_frsize=4096, f_blocks=1000, f_bfree=10)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert examined(sqlite_entry(sqlite_file)).codes == ["settings", "disk-full"]


def test_a_disk_that_is_full_for_sqlite(sqlite_file: Path, examined: Examined) -> None:
    """The file may not grow."""
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("VACUUM")  # what is free in it would do
    grown = sqlite_entry(sqlite_file, init_command="PRAGMA max_page_count = 1")
    assert examined(grown).codes == ["settings", "disk-full"]


def test_another_process_with_other_keys(sqlite_alias: DjangoDatabase, examined: Examined) -> None:
    common = {"prefix": "keys", "send_timeout": 1.5}
    layer = DatabaseChannelLayer(database=sqlite_alias.alias, **common, symmetric_encryption_keys=[ANOTHER])
    layer.sync.new_channel()
    try:
        done = examined(sqlite_alias.entry, **common, symmetric_encryption_keys=[STRONG])
    finally:
        layer.sync.close()
    assert done.error
    assert done.codes[-1] == "peer-silent"


def test_a_process_that_was_killed(sqlite_file: Path, examined: Examined) -> None:
    """Its row is still there, and it does not answer."""
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("INSERT INTO channels_trunk_node VALUES ('tkaaaaaaaaaaaaaaaa', 'asgi', 0, 0.0, '')")
    assert examined(sqlite_entry(sqlite_file)).codes == ["settings", "engine", "round-trip", "child-not-asked"]


def test_no_thread_is_left(sqlite_file: Path, examined: Examined) -> None:
    examined(sqlite_entry(sqlite_file))
    assert "channels-trunk-examination" not in [thread.name for thread in threading.enumerate()]
