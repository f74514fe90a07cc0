"""Runs commands on layers of the test's choice, in this process."""

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.test import override_settings

MEMORY = "channels_trunk.layers.MemoryChannelLayer"
SQLITE = "channels_trunk.layers.SQLiteChannelLayer"
POSTGRES = "channels_trunk.layers.PostgresChannelLayer"
RABBITMQ = "channels_trunk.layers.RabbitMQChannelLayer"
NAMES = ("trunk_doctor", "trunk_flush", "trunk_schema", "trunk_status", "trunk_trim")


class Done(NamedTuple):
    """What a command printed, and the error that it ended with."""

    output: str
    error: str

    @property
    def data(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.output)

    @property
    def codes(self) -> list[str]:
        """What the doctor found, if it printed JSON."""
        return [finding["code"] for finding in self.data]


Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def apps_with_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are found as in a project that has the app."""
    known = {**get_commands(), **dict.fromkeys(NAMES, "channels_trunk")}
    monkeypatch.setattr("django.core.management.get_commands", lambda: known)


def layers_of(backend: str, **config: Any) -> dict[str, Any]:
    """One layer for CHANNEL_LAYERS."""
    return {"default": {"BACKEND": backend, "CONFIG": config}}


@pytest.fixture
def command() -> Command:
    """Call it with CHANNEL_LAYERS and what stands behind manage.py."""

    def run(layers: Mapping[str, Any], *words: str) -> Done:
        output, error = io.StringIO(), ""
        with override_settings(CHANNEL_LAYERS=layers):
            try:
                call_command(*words, stdout=output, stderr=output)
            except CommandError as raised:
                error = str(raised)
        return Done(output.getvalue(), error)

    return run
