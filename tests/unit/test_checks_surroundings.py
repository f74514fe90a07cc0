"""The system checks of what surrounds the options: packages, files, keys, sockets' lives, and other processes."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, registry
from django.test import override_settings

from channels_trunk.apps import ChannelsTrunkConfig
from channels_trunk.checks import (
    check_channel_layer_databases,
    check_channel_layer_processes,
    check_channel_layers,
    check_for_deployment,
    check_layer,
)
from channels_trunk.checks.settings import _SOCKETS_LIVE_FOR

MEMORY = "channels_trunk.layers.MemoryChannelLayer"
SQLITE = "channels_trunk.layers.SQLiteChannelLayer"
POSTGRES = "channels_trunk.layers.PostgresChannelLayer"
RABBITMQ = "channels_trunk.layers.RabbitMQChannelLayer"
DATABASE = "channels_trunk.layers.DatabaseChannelLayer"
CHANNELS_OWN = "channels.layers.InMemoryChannelLayer"
STRONG = "9vJ1pZ-4yQmXw7Rb_TnC2kLs8HdF5gUe"
ANOTHER = "Kq3_tW8zPf-1LxN6bYcR0mVd9SjG4hAo"


def found_in(layers: Mapping[str, Any]) -> list[CheckMessage]:
    """What the check says of these layers."""
    with override_settings(CHANNEL_LAYERS=layers):
        return check_channel_layers()


def only(found: list[CheckMessage], number: str) -> CheckMessage:
    """The one message that there has to be."""
    [message] = found
    assert message.id == f"channels_trunk.{number}"
    assert message.hint
    return message


def one(backend: str, **config: Any) -> dict[str, Any]:
    """One layer."""
    return {"default": {"BACKEND": backend, "CONFIG": config}}


# --- E004: packages


def test_e004_for_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "channels_trunk.layers.postgres", raising=False)
    message = only(found_in(one(POSTGRES)), "E004")
    assert message.msg == (
        "CHANNEL_LAYERS['default']: PostgresChannelLayer needs psycopg 3: pip install 'channels-trunk[postgres]'"
    )


def test_e004_for_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    message = only(found_in(one(MEMORY, symmetric_encryption_keys=[STRONG])), "E004")
    assert "needs the package cryptography: pip install 'channels-trunk[cryptography]'" in message.msg
    assert STRONG not in message.msg


# --- E005, E006: the file


def test_e005_for_a_directory_in_the_files_place(tmp_path: Path) -> None:
    message = only(found_in(one(SQLITE, path=tmp_path)), "E005")
    assert message.msg.startswith(f"CHANNEL_LAYERS['default']: {tmp_path} is a directory, or ")


def test_e005_for_a_file_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.sqlite3"
    path.touch()
    # Whoever is root may write anywhere, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked) == tmp_path)
    only(found_in(one(SQLITE, path=path)), "E005")


def test_e006_for_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    message = only(found_in(one(SQLITE, path=tmp_path / "x")), "E006")
    assert message.msg == "CHANNEL_LAYERS['default']: SQLite 3.34.1 is too old."


# --- E007: one engine, different keys


def places(tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """For each engine, what names one place."""
    return [
        (SQLITE, {"path": str(tmp_path / "x.sqlite3")}),
        (POSTGRES, {"dsn": "postgresql://app:opensesame@127.0.0.1:9/app"}),
        (RABBITMQ, {"host": "amqp://app:opensesame@127.0.0.1:9/app"}),
        (DATABASE, {"database": "default"}),
    ]


@pytest.mark.parametrize("number", range(4))
def test_e007_for_layers_that_cannot_open_each_others_messages(number: int, tmp_path: Path) -> None:
    backend, config = places(tmp_path)[number]

    def pair(first: list[str], second: list[str], **more: Any) -> list[CheckMessage]:
        return found_in(
            {
                "default": {"BACKEND": backend, "CONFIG": {**config, "symmetric_encryption_keys": first}},
                "jobs": {"BACKEND": backend, "CONFIG": {**config, "symmetric_encryption_keys": second, **more}},
            }
        )

    for keys in ([STRONG], [ANOTHER, STRONG]):
        message = only(pair(keys, [ANOTHER] if keys == [STRONG] else []), "E007")
        assert message.msg.startswith("CHANNEL_LAYERS['jobs'] and CHANNEL_LAYERS['default'] share their engine and ")
        assert "the prefix 'asgi'" in message.msg
        assert not any(word in f"{message.msg}{message.hint}" for word in (STRONG, ANOTHER, "opensesame"))
    assert pair([STRONG], [STRONG]) == []
    assert pair([STRONG, ANOTHER], [ANOTHER, STRONG]) == []
    assert pair([STRONG], [ANOTHER], prefix="jobs") == []


def test_e007_is_said_of_either_layer(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite3")
    layers = {
        "a": {"BACKEND": SQLITE, "CONFIG": {"path": path}},
        "b": {"BACKEND": SQLITE, "CONFIG": {"path": path, "symmetric_encryption_keys": [STRONG]}},
        "c": {"BACKEND": MEMORY},
    }
    with override_settings(CHANNEL_LAYERS=layers):
        assert [[message.id for message in check_layer(alias)] for alias in layers] == [
            ["channels_trunk.E007"],
            ["channels_trunk.E007"],
            [],
        ]


# --- W004: one process


@pytest.mark.parametrize("backend", [MEMORY, CHANNELS_OWN])
def test_w004_where_several_processes_are_said_to_be(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend}}):
        monkeypatch.setenv("WEB_CONCURRENCY", "4")
        message = only(check_channel_layer_processes(), "W004")
        assert "stay in one process, and WEB_CONCURRENCY is 4." in message.msg
        assert check_for_deployment() == [], "it is said once"
        for count in ("1", "", "many"):
            monkeypatch.setenv("WEB_CONCURRENCY", count)
            assert check_channel_layer_processes() == []
            assert "a deployment usually has several processes" in only(check_for_deployment(), "W004").msg


def test_w004_is_about_layers_in_memory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with override_settings(CHANNEL_LAYERS=one(SQLITE, path=tmp_path / "x")):
        assert check_channel_layer_processes() == []
        assert check_for_deployment() == []


# --- W005: keys


@pytest.mark.parametrize(
    "key", ["opensesame", b"opensesame", "a" * 64, "abcabcabcabcabcabcabcabcabcabcabcabc", "django-insecure-" + STRONG]
)
def test_w005_for_keys_that_can_be_guessed(key: str | bytes) -> None:
    message = only(found_in(one(MEMORY, symmetric_encryption_keys=[STRONG, key])), "W005")
    assert message.msg == (
        "CHANNEL_LAYERS['default']['CONFIG']['symmetric_encryption_keys']: a key can be guessed (number 2 of the list)."
    )


def test_strong_keys_are_silent() -> None:
    assert found_in(one(MEMORY, symmetric_encryption_keys=[STRONG, ANOTHER.encode()])) == []


# --- W006: memberships


@pytest.mark.parametrize(("seconds", "ids"), [(3600, ["channels_trunk.W006"]), (0, []), (86400, []), (10**6, [])])
def test_w006_for_memberships_that_end_before_sockets_do(seconds: int, ids: list[str]) -> None:
    assert [message.id for message in found_in(one(MEMORY, group_expiry=seconds))] == ids


def test_w006_has_the_default_of_daphne() -> None:
    # In a process of its own: daphne's command line starts Twisted.
    script = "from daphne.cli import CommandLineInterface as C; print(C().parser.parse_args(['x']).websocket_timeout)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(_SOCKETS_LIVE_FOR)


# --- W009: beside CONFIG


def test_w009_for_options_that_stand_beside_config() -> None:
    message = only(found_in({"default": {"BACKEND": MEMORY, "OPTIONS": {"capacity": 5}}}), "W009")
    assert message.msg == "CHANNEL_LAYERS['default']['OPTIONS'] is read by nobody."
    assert message.hint == "Options of a layer stand in 'CONFIG'."
    assert found_in({"default": {"BACKEND": MEMORY, "CONFIG": {}, "TEST_CONFIG": {}}}) == []


# --- registration


def test_the_app_registers_all_of_them() -> None:
    import channels_trunk

    before = set(registry.registry.registered_checks)
    deployment = set(registry.registry.deployment_checks)
    try:
        ChannelsTrunkConfig("channels_trunk", channels_trunk).ready()
        assert check_channel_layer_processes in registry.registry.registered_checks
        assert check_channel_layer_databases in registry.registry.registered_checks
        assert check_channel_layer_databases.tags == ("database",)  # type: ignore[attr-defined]
        assert check_for_deployment in registry.registry.deployment_checks
    finally:
        for kept, checks in (
            (before, registry.registry.registered_checks),
            (deployment, registry.registry.deployment_checks),
        ):
            checks.clear()
            checks.update(kept)


def test_without_database_nothing_is_asked() -> None:
    with override_settings(CHANNEL_LAYERS=one(POSTGRES, dsn="postgresql://127.0.0.1:9/app")):
        assert check_channel_layer_databases(databases=None) == []
        assert check_channel_layer_databases(databases=["default"]) == [], "nobody answers: Django says so itself"
