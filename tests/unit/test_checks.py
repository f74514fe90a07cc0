"""The system checks: each id, its text and its hint, and that a good configuration is silent."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import CheckMessage, registry
from django.test import override_settings

from channels_trunk.apps import ChannelsTrunkConfig
from channels_trunk.checks import check_channel_layers, entries, files
from channels_trunk.layers import django_databases, sqlite, test_databases

MEMORY = "channels_trunk.layers.MemoryChannelLayer"
SQLITE = "channels_trunk.layers.SQLiteChannelLayer"
POSTGRES = "channels_trunk.layers.PostgresChannelLayer"
RABBITMQ = "channels_trunk.layers.RabbitMQChannelLayer"


def _check(backend: Any, config: Any = None, *, alias: str = "default") -> list[CheckMessage]:
    entry = {"BACKEND": backend} if config is None else {"BACKEND": backend, "CONFIG": config}
    with override_settings(CHANNEL_LAYERS={alias: entry}):
        return check_channel_layers()


def _only(found: list[CheckMessage], number: str) -> CheckMessage:
    [message] = found
    assert message.id == f"channels_trunk.{number}"
    assert message.hint
    return message


class FakeConnection:
    vendor = "sqlite"

    def __init__(self, name: str, engine: str = "django.db.backends.sqlite3") -> None:
        self.vendor = engine.rpartition(".")[2].removesuffix("3")
        self.settings_dict = {"NAME": name, "ENGINE": engine, "OPTIONS": {}, "TEST": {"NAME": None}}


class FakeConnections(dict[str, FakeConnection]):
    """Django's own object reads DATABASES once per process."""

    @property
    def settings(self) -> dict[str, FakeConnection]:
        return dict(self)


@pytest.fixture
def databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeConnections:
    found = FakeConnections(
        default=FakeConnection(str(tmp_path / "db.sqlite3")),
        other=FakeConnection(str(tmp_path / "other.sqlite3")),
        big=FakeConnection("big", "django.db.backends.postgresql"),
    )
    monkeypatch.setattr(sqlite, "connections", found)
    monkeypatch.setattr(django_databases, "connections", found)
    monkeypatch.setattr(test_databases, "connections", found)
    return found


# --- silence


def test_good_layers_are_silent(tmp_path: Path, databases: FakeConnections) -> None:
    assert _check(MEMORY) == []
    assert _check(MEMORY, {"capacity": 5}) == []
    assert _check(SQLITE) == []
    assert _check(SQLITE, {"path": tmp_path / "x.sqlite3"}) == []
    assert _check(SQLITE, {"database": "other"}) == []
    assert _check(POSTGRES, {"dsn": "postgresql://app@127.0.0.1:9/app"}) == []  # nothing is opened
    assert _check(POSTGRES, {"NAME": "app", "OPTIONS": {"sslmode": "require"}}) == []


@pytest.mark.parametrize("backend", ["channels.layers.InMemoryChannelLayer", "no.such.Layer", "", None, 5, object])
def test_other_peoples_layers_are_left_alone(backend: Any) -> None:
    assert _check(backend, {"capactiy": 5}) == []


@pytest.mark.parametrize("layers", [{}, {"default": None}, {"default": "text"}, {"default": {}}, None, [], "text"])
def test_settings_of_any_shape_do_no_harm(layers: Any) -> None:
    with override_settings(CHANNEL_LAYERS=layers):
        assert check_channel_layers() == []


def test_no_file_is_made_and_none_is_opened(tmp_path: Path) -> None:
    assert _check(SQLITE, {"path": str(tmp_path / "x.sqlite3")}) == []
    assert list(tmp_path.iterdir()) == []


# --- E001: options


@pytest.mark.parametrize("backend", [MEMORY, SQLITE])
def test_e001_names_the_alias_and_the_option(backend: str) -> None:
    message = _only(_check(backend, {"capactiy": 5}, alias="jobs"), "E001")

    assert message.msg == "CHANNEL_LAYERS['jobs']['CONFIG']: unknown option 'capactiy'; did you mean 'capacity'?"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "the database 'default' is not PostgreSQL but django.db.backends.sqlite3; name another, or give 'dsn'"),
        ({"dsn": "postgresql://app:opensesame@h/x", "NAME": "app"}, "give one of 'dsn' and 'NAME', not several"),
        ({"dsn": "postgres:opensesame"}, "['dsn']: is no connection string or URL that libpq understands"),
        ({"NAME": "app", "PASSWORD": 5}, "['PASSWORD']: must be a string"),
        ({"HOST": "db", "PASSWORD": "opensesame"}, "give 'NAME', or a 'service' in 'OPTIONS'"),
    ],
)
def test_e001_for_postgres_shows_no_password(config: dict[str, Any], text: str) -> None:
    message = _only(_check(POSTGRES, config), "E001")

    assert message.msg.startswith("CHANNEL_LAYERS['default']['CONFIG']")
    assert text in message.msg
    assert "opensesame" not in message.msg


@pytest.mark.parametrize("config", [["opensesame"], "opensesame", 5, {1: "opensesame"}, [("path", "opensesame")]])
def test_e001_for_a_config_that_is_no_dict_of_names(config: Any) -> None:
    message = _only(_check(MEMORY, config), "E001")

    assert message.msg.startswith("CHANNEL_LAYERS['default']['CONFIG'] must be a dict of option names to values, not ")
    assert "opensesame" not in message.msg


def test_e001_shows_no_key() -> None:
    message = _only(_check(MEMORY, {"symmetric_encryption_keys": "opensesame"}), "E001")

    assert "must be a list of keys" in message.msg
    assert "opensesame" not in f"{message.msg}{message.hint}"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"database": "nope"}, "'nope' is not in DATABASES; known: big, default, other"),
        ({"database": "big"}, "'big' is not SQLite but django.db.backends.postgresql; name another, or give 'path'"),
        ({"database": "default", "path": "/x"}, "give 'database' or 'path', not both"),
    ],
)
def test_e001_for_databases_that_do_not_do(config: dict[str, Any], text: str, databases: FakeConnections) -> None:
    message = _only(_check(SQLITE, config), "E001")

    assert message.msg.startswith("CHANNEL_LAYERS['default']['CONFIG']")
    assert text in message.msg


def test_e001_for_a_default_database_that_is_not_sqlite(databases: FakeConnections) -> None:
    databases["default"] = databases["big"]

    message = _only(_check(SQLITE), "E001")

    assert "the default database is not SQLite but django.db.backends.postgresql; give 'path'" in message.msg


@pytest.mark.parametrize("config", [{}, {"database": "default"}])
def test_e001_for_a_database_without_a_name(config: dict[str, Any], databases: FakeConnections) -> None:
    databases["default"] = FakeConnection("")

    message = _only(_check(SQLITE, config), "E001")

    assert "the database 'default' has no NAME; give 'path', the file to use" in message.msg


@pytest.mark.parametrize("scheme", ["libsql", "https", "wss"])
@pytest.mark.parametrize("config", [{}, {"database": "default"}])
def test_e001_for_a_database_that_is_a_url(config: dict[str, Any], scheme: str, databases: FakeConnections) -> None:
    databases["default"] = FakeConnection(f"{scheme}://rooms.example?authToken=hunter2")

    message = _only(_check(SQLITE, config), "E001")

    assert "the NAME of the database 'default' is the URL of a server and no file; give 'path'" in message.msg
    assert "hunter2" not in message.msg


# --- E002: BACKEND


@pytest.mark.parametrize(
    ("backend", "meant"),
    [
        ("channels_trunk.layers.DatabaseLayer", "DatabaseChannelLayer"),
        ("channels_trunk.layers.PostgreSQLChannelLayer", "PostgresChannelLayer"),
        ("channels_trunk.Nothing", "SQLiteChannelLayer"),
    ],
)
def test_e002_names_what_may_be_meant(backend: str, meant: str) -> None:
    assert _only(_check(backend), "E002").hint == f"Correct BACKEND; it may be 'channels_trunk.layers.{meant}'."


@pytest.mark.parametrize(
    "backend",
    [
        "channels_trunk.layers.SqliteChannelLayer",
        "channels_trunk.sqlite.SQLiteChannelLayer",
        "channels_trunk.layers",
        "channels_trunk.options.read_options",
        "channels_trunk.layers.base.new_future",
        "channels_trunk.",
    ],
)
def test_e002_for_a_backend_that_is_none(backend: str) -> None:
    message = _only(_check(backend), "E002")

    assert message.msg.startswith("CHANNEL_LAYERS['default']: ")
    assert backend.rpartition(".")[0] in message.msg or backend in message.msg
    assert message.hint is not None
    assert "channels_trunk.layers.SQLiteChannelLayer" in message.hint


# --- E003: the directory


def test_e003_for_a_directory_that_is_missing(tmp_path: Path) -> None:
    message = _only(_check(SQLITE, {"path": str(tmp_path / "missing" / "x.sqlite3")}), "E003")

    assert str(tmp_path / "missing") in message.msg


def test_e003_for_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever is root may write anywhere, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    message = _only(_check(SQLITE, {"path": str(tmp_path / "x.sqlite3")}), "E003")

    assert f"the directory {tmp_path} of the SQLite file is missing or cannot be written" in message.msg


def test_a_database_in_memory_needs_no_directory() -> None:
    assert _check(SQLITE) == []  # the tests' own default database


# --- W001, W002, W003


@pytest.mark.parametrize(
    ("option", "reason"), [("pool_size", "there is no pool"), ("polling_idle_timeout", "processes wake each other")]
)
def test_w001_for_options_that_do_nothing(option: str, reason: str, tmp_path: Path) -> None:
    message = _only(_check(SQLITE, {"path": str(tmp_path / "x"), option: 5}), "W001")

    assert message.msg.startswith(f"CHANNEL_LAYERS['default']['CONFIG']['{option}'] does nothing: {reason}")
    assert message.hint == "Remove the option."


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("PSYCOPG_OPTIONS", "there is no pool: a process has three connections"),
        *(
            (name, "it is about Django's own connections")
            for name in (
                *("ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS"),
                *("DISABLE_SERVER_SIDE_CURSORS", "TEST", "TIME_ZONE"),
            )
        ),
    ],
)
def test_w001_for_options_that_come_along_from_channels_postgres(option: str, reason: str) -> None:
    message = _only(_check(POSTGRES, {"NAME": "app", "PASSWORD": "opensesame", option: {"min_size": 10}}), "W001")

    assert message.msg == f"CHANNEL_LAYERS['default']['CONFIG']['{option}'] does nothing: {reason}."
    assert message.hint == "Remove the option."


def test_w001_for_the_option_that_comes_along_from_channels_rabbitmq() -> None:
    message = _only(_check(RABBITMQ, {"host": "amqp://app:opensesame@h/", "local_expiry": 60}), "W001")

    assert message.msg == (
        "CHANNEL_LAYERS['default']['CONFIG']['local_expiry'] does nothing: one 'expiry' holds from send() to receive()."
    )
    assert message.hint == "Remove the option."


def test_w002_for_a_file_shared_with_the_applications_tables(databases: FakeConnections) -> None:
    message = _only(_check(SQLITE, {"database": "default"}), "W002")

    assert "shares its SQLite file with the application's own tables" in message.msg
    assert _check(SQLITE, {"database": "other"}) == []


def test_w002_for_another_database_only_if_routers_send_models_there(
    databases: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict.fromkeys(databases)
    layers = {"default": {"BACKEND": SQLITE, "CONFIG": {"database": "other"}}}
    for routers, warnings in [([], 0), (["project.Router"], 1)]:
        # Not override_settings, which would have Django import the router.
        settings = SimpleNamespace(CHANNEL_LAYERS=layers, DATABASES=known, DATABASE_ROUTERS=routers)
        monkeypatch.setattr(entries, "settings", settings)
        monkeypatch.setattr(django_databases, "settings", settings)

        assert [message.id for message in check_channel_layers()] == ["channels_trunk.W002"] * warnings


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p"])
def test_w003_for_a_network_file_system(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "file_system_of", lambda path: kind)

    message = _only(_check(SQLITE, {"path": str(tmp_path / "x.sqlite3")}), "W003")

    assert message.msg == f"CHANNEL_LAYERS['default']: {tmp_path}/x.sqlite3 is on a network file system ({kind})."


def test_every_layer_is_checked_and_everything_is_said(tmp_path: Path) -> None:
    layers = {
        "a": {"BACKEND": MEMORY, "CONFIG": {"capacity": 0}},
        "b": {"BACKEND": SQLITE, "CONFIG": {"path": str(tmp_path / "no" / "x"), "pool_size": 1}},
        "c": {"BACKEND": "channels_trunk.Nothing"},
        "d": {"BACKEND": MEMORY},
    }
    with override_settings(CHANNEL_LAYERS=layers):
        found = [(message.id, str(message.msg)[:19]) for message in check_channel_layers()]

    assert found == [
        ("channels_trunk.E001", "CHANNEL_LAYERS['a']"),
        ("channels_trunk.W001", "CHANNEL_LAYERS['b']"),
        ("channels_trunk.E003", "CHANNEL_LAYERS['b']"),
        ("channels_trunk.E002", "CHANNEL_LAYERS['c']"),
    ]


def test_the_app_registers_the_checks() -> None:
    import channels_trunk

    before = set(registry.registry.registered_checks)
    deployment = set(registry.registry.deployment_checks)
    try:
        ChannelsTrunkConfig("channels_trunk", channels_trunk).ready()
        assert check_channel_layers in registry.registry.get_checks()
    finally:
        registry.registry.registered_checks.clear()
        registry.registry.registered_checks.update(before)
        registry.registry.deployment_checks.clear()
        registry.registry.deployment_checks.update(deployment)
