"""trunk_doctor on set-ups that work, and on broken ones: each is named rightly, and no secret is shown."""

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from channels_trunk.layers import PostgresChannelLayer, SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.layers.sync import SyncChannelLayer
from channels_trunk.testing.ports import free_port
from tests.integration.commands.conftest import MEMORY, POSTGRES, RABBITMQ, SQLITE, Command, Done, layers_of
from tests.plugins.servers import PgBouncerFactory, PostgresServer, RabbitServer, dsn_for

SECRET = "opensesame-is-the-password"
HELLO = {"type": "hello"}
STRONG = "9vJ1pZ-4yQmXw7Rb_TnC2kLs8HdF5gUe"
ANOTHER = "Kq3_tW8zPf-1LxN6bYcR0mVd9SjG4hAo"

# May come in, and make nothing.
MAKE_GUEST = """
rabbit_auth_backend_internal:add_user(<<"guest-of-{vhost}">>, <<"{password}">>, <<"tests">>),
rabbit_auth_backend_internal:set_permissions(
    <<"guest-of-{vhost}">>, <<"{vhost}">>, <<"^$">>, <<"^$">>, <<".*">>, <<"tests">>).
"""

Doctor = Callable[..., Done]


@pytest.fixture
def doctor(command: Command) -> Doctor:
    """Have one layer examined; its findings are known by their codes, and hold no secret."""

    def run(backend: str, **config: Any) -> Done:
        layers = layers_of(backend, **config)
        done = command(layers, "trunk_doctor", "--json")
        shown = command(layers, "trunk_doctor") if done.error else done
        for text in (done.output, done.error, shown.output):
            assert not any(word in text for word in (SECRET, STRONG, ANOTHER))
        if done.error:
            assert done.error == f"default: {done.codes[-1]}"
            assert done.data[-1]["level"] == "error"
            assert done.data[-1]["remedy"]
            assert f"[{done.codes[-1]}]" in shown.output
            assert done.data[-1]["remedy"] in shown.output
        return done

    return run


@pytest.fixture
def neighbour() -> Iterator[Callable[[TrunkChannelLayer], str]]:
    """Open a layer beside the one that is examined; the id of its node."""
    opened: list[TrunkChannelLayer] = []

    def open_it(layer: TrunkChannelLayer) -> str:
        opened.append(layer)
        layer.sync.new_channel()
        return layer.stats().node

    yield open_it
    for layer in opened:
        layer.sync.close()


# --- what works


def test_layers_that_work(tmp_path: Path, postgres_database: str, doctor: Doctor) -> None:
    assert doctor(MEMORY, prefix="works").codes == ["settings", "engine", "round-trip", "one-process"]
    crossing = ["settings", "engine", "round-trip", "child-not-asked"]
    assert doctor(SQLITE, path=str(tmp_path / "x")).codes == crossing
    assert doctor(SQLITE, path=str(tmp_path / "x"), symmetric_encryption_keys=[STRONG]).codes == crossing
    assert doctor(POSTGRES, dsn=postgres_database).codes == crossing


def test_other_processes_are_asked(
    tmp_path: Path, doctor: Doctor, neighbour: Callable[[TrunkChannelLayer], str]
) -> None:
    path = str(tmp_path / "x")
    neighbour(SQLiteChannelLayer(path=path))
    done = doctor(SQLITE, path=path)
    assert "peers" in done.codes
    assert any(finding["text"] == "other processes that take part: 1; they answer" for finding in done.data)


# --- settings


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"capactiy": 5}, "channels_trunk.E001"),
        ({"symmetric_encryption_keys": SECRET}, "channels_trunk.E001"),
        ({"path": "/no/such/folder/x"}, "channels_trunk.E003"),
    ],
)
def test_settings_that_are_wrong(config: dict[str, Any], code: str, doctor: Doctor) -> None:
    assert doctor(SQLITE, **config).codes == [code]


def test_two_layers_with_one_prefix_and_different_keys(tmp_path: Path, command: Command) -> None:
    layers = {
        alias: {"BACKEND": SQLITE, "CONFIG": {"path": str(tmp_path / "x"), "symmetric_encryption_keys": [key]}}
        for alias, key in (("default", STRONG), ("jobs", ANOTHER))
    }
    for alias in layers:
        done = command(layers, "trunk_doctor", "--json", "--layer", alias)
        assert (done.codes, done.error) == (["channels_trunk.E007"], f"{alias}: channels_trunk.E007")


def test_a_warning_is_no_failure(tmp_path: Path, doctor: Doctor) -> None:
    done = doctor(SQLITE, path=str(tmp_path / "x"), pool_size=5)
    assert (done.codes[0], done.error) == ("channels_trunk.W001", "")
    assert done.codes[1:] == ["engine", "round-trip", "child-not-asked"]


# --- SQLite


def test_a_file_that_is_no_database(tmp_path: Path, doctor: Doctor) -> None:
    (tmp_path / "x").write_bytes(b"no database at all" * 100)
    assert doctor(SQLITE, path=str(tmp_path / "x")).codes == ["settings", "file-no-database"]


def test_a_damaged_file(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "x"
    layer = SQLiteChannelLayer(path=path)
    for _ in range(50):
        layer.sync.send("jobs", {"type": "work", "data": "x" * 3000})
    layer.sync.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_960)
    assert doctor(SQLITE, path=str(path)).codes == ["settings", "file-damaged"]


def test_a_locked_file(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "x"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        assert doctor(SQLITE, path=str(path)).codes == ["settings", "file-locked"]


def test_a_full_disk(tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=10, f_frsize=4096))
    assert doctor(SQLITE, path=str(tmp_path / "x")).codes == ["settings", "disk-full"]


def test_a_file_of_a_later_version(tmp_path: Path, doctor: Doctor) -> None:
    path = tmp_path / "x"
    layer = SQLiteChannelLayer(path=path)
    layer.sync.new_channel()
    layer.sync.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE trunk_meta SET value = 999 WHERE name = 'schema_version'")
    done = doctor(SQLITE, path=str(path))
    assert done.codes == ["settings", "engine-refused"]
    assert "its tables are of version 999" in done.data[-1]["text"]


def test_another_process_with_other_keys(
    tmp_path: Path, doctor: Doctor, neighbour: Callable[[TrunkChannelLayer], str]
) -> None:
    config = {"path": str(tmp_path / "x"), "send_timeout": 1.5}
    node = neighbour(SQLiteChannelLayer(**config, symmetric_encryption_keys=[ANOTHER]))
    done = doctor(SQLITE, **config, symmetric_encryption_keys=[STRONG])
    assert done.codes == ["settings", "engine", "round-trip", "peer-silent"]
    assert f"the process with the node {node} takes part with the prefix 'asgi'" in done.data[-1]["text"]


def test_frames_that_cannot_be_opened(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "x")
    stranger = SQLiteChannelLayer(path=path, symmetric_encryption_keys=[ANOTHER])
    stranger.sync.new_channel()
    receive = SyncChannelLayer.receive

    def speak_first(self: SyncChannelLayer, name: str, timeout: float | None = None) -> dict[str, Any]:
        stranger.sync.group_send("room", HELLO)
        return receive(self, name, timeout)

    # It speaks while the doctor has its layers open.
    monkeypatch.setattr(SyncChannelLayer, "receive", speak_first)
    config = {"path": path, "send_timeout": 1.5, "symmetric_encryption_keys": [STRONG]}
    done = command(layers_of(SQLITE, **config), "trunk_doctor", "--json")
    stranger.sync.close()
    assert (done.codes[-1], done.error) == ("keys-differ", "default: keys-differ")


# --- PostgreSQL


def test_a_server_that_is_down(doctor: Doctor) -> None:
    done = doctor(POSTGRES, dsn=f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/x")
    assert done.codes == ["settings", "server-down"]
    assert doctor(POSTGRES, dsn=f"postgresql:///x?host=/no/such/folder&password={SECRET}").codes[-1] == "server-down"
    assert doctor(RABBITMQ, host=f"amqp://me:{SECRET}@127.0.0.1:{free_port()}/").codes == ["settings", "server-down"]


def test_a_server_that_is_down_where_libpq_alone_knows_its_place(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    done = doctor(POSTGRES, dsn=f"postgresql:///x?port={free_port()}&password={SECRET}")
    assert done.codes == ["settings", "not-connected"]


def test_a_server_that_says_nothing(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dsn = f"postgresql://me:{SECRET}@127.0.0.1:{port}/x?connect_timeout=2"
        done = command(layers_of(POSTGRES, dsn=dsn), "trunk_doctor", "--json")
    assert done.codes == ["settings", "server-silent"]


def test_a_host_that_is_not_known(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # No name server is asked by a test.
    monkeypatch.setattr(socket, "create_connection", unknown)
    for backend, config in (
        (POSTGRES, {"dsn": f"postgresql://me:{SECRET}@nowhere.invalid/x"}),
        (RABBITMQ, {"host": f"amqp://me:{SECRET}@nowhere.invalid/"}),
    ):
        done = doctor(backend, **config)
        assert done.codes == ["settings", "host-unknown"]
        assert "nowhere.invalid" in done.data[-1]["text"]


def test_a_login_that_is_refused(postgres_database: str, doctor: Doctor) -> None:
    for wrong, said in (
        (dsn_for(postgres_database, password=SECRET), "password authentication failed"),
        (dsn_for(postgres_database, database="no_such_database"), 'database "no_such_database" does not exist'),
    ):
        done = doctor(POSTGRES, dsn=wrong)
        assert done.codes == ["settings", "login-refused"]
        assert said in done.data[-1]["text"]


def test_a_role_without_rights(postgres: PostgresServer, postgres_database: str, doctor: Doctor) -> None:
    guest = postgres.create_role(postgres_database)
    done = doctor(POSTGRES, dsn=guest)
    assert done.codes == ["settings", "no-rights"]
    assert "may not make tables in schema 'public'" in done.data[-1]["text"]
    layer = PostgresChannelLayer(dsn=postgres_database)
    layer.sync.new_channel()
    layer.sync.close()
    done = doctor(POSTGRES, dsn=guest)
    assert done.codes == ["settings", "no-rights"]
    assert 'the role may not use "public".trunk_meta' in done.data[-1]["text"]
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA closed")
    assert "may not use the schema 'closed'" in doctor(POSTGRES, dsn=guest, schema="closed").data[-1]["text"]


def test_tables_and_schemas_that_are_missing_or_too_new(postgres_database: str, doctor: Doctor) -> None:
    assert doctor(POSTGRES, dsn=postgres_database, auto_create=False).codes == ["settings", "tables-missing"]
    assert doctor(POSTGRES, dsn=postgres_database, schema="nowhere").codes == ["settings", "schema-missing"]
    layer = PostgresChannelLayer(dsn=postgres_database)
    layer.sync.new_channel()
    layer.sync.close()
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("UPDATE trunk_meta SET value = 999 WHERE name = 'schema_version'")
    assert doctor(POSTGRES, dsn=postgres_database).codes == ["settings", "tables-too-new"]
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("DROP TABLE trunk_queue")
    done = doctor(POSTGRES, dsn=postgres_database)
    assert done.codes == ["settings", "no-rights"]
    assert '"public".trunk_queue is missing' in done.data[-1]["text"]


def test_a_pooler(
    postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory, doctor: Doctor
) -> None:
    pooled = pgbouncer(postgres).by_address(postgres_database)
    done = doctor(POSTGRES, dsn=pooled)
    assert done.codes == ["settings", "pooler", "engine", "round-trip", "child-not-asked"]
    assert (done.error, done.data[1]["level"]) == ("", "warning")
    assert "'listen_dsn'" in done.data[1]["remedy"]
    assert "pooler" not in doctor(POSTGRES, dsn=pooled, listen_dsn=postgres_database).codes


def test_the_role_to_assume_is_the_one_that_is_examined(postgres_database: str, doctor: Doctor) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_database)
    config = {
        "NAME": parts["dbname"],
        "USER": parts["user"],
        "PASSWORD": parts["password"],
        "HOST": parts["host"],
        "PORT": parts["port"],
        "OPTIONS": {"assume_role": "nobody_of_this_name"},
    }
    done = doctor(POSTGRES, **config)
    assert done.codes == ["settings", "server-failed"]
    assert 'role "nobody_of_this_name" does not exist' in done.data[-1]["text"]


# --- RabbitMQ


def test_a_broker_that_works_and_one_that_refuses(rabbit: RabbitServer, doctor: Doctor) -> None:
    url = rabbit.fresh_vhost()
    assert doctor(RABBITMQ, host=url).codes == ["settings", "engine", "round-trip", "child-not-asked"]
    parts = urlsplit(url)
    wrong = url.replace(f":{parts.password}@", f":{SECRET}@")
    done = doctor(RABBITMQ, host=wrong, send_timeout=20.0)
    assert done.codes == ["settings", "engine-refused"]
    assert "the user, the password or the user's permissions are wrong" in done.data[-1]["text"]
    done = doctor(RABBITMQ, host=f"{url}-of-another-name", send_timeout=5.0)
    assert done.codes == ["settings", "engine-away"]  # a broker says the same where there are too many connections
    assert "the vhost does not exist, or the user may not use it" in done.data[-1]["text"]


def test_a_user_without_rights_at_the_broker(rabbit: RabbitServer, doctor: Doctor) -> None:
    url = rabbit.fresh_vhost()
    parts = urlsplit(url)
    vhost = parts.path[1:]
    rabbit.ctl("eval", MAKE_GUEST.format(vhost=vhost, password=SECRET))
    done = doctor(RABBITMQ, host=url.replace(f"{parts.username}:{parts.password}@", f"guest-of-{vhost}:{SECRET}@"))
    assert done.codes == ["settings", "engine-refused"]
    assert "the user's permissions are wrong" in done.data[-1]["text"]


# --- an engine that goes away meanwhile


def test_a_message_that_does_not_come_back(tmp_path: Path, command: Command) -> None:
    layers = layers_of(SQLITE, path=str(tmp_path / "x"), expiry=0.000001)
    done = command(layers, "trunk_doctor", "--json", "--timeout", "0.2")
    assert (done.codes[-1], done.error) == ("no-round-trip", "default: no-round-trip")
