"""Processes that share a SQLite file wake each other; where they cannot, health() and the log say that they poll."""

import pytest

from channels_trunk.testing import eventually
from channels_trunk.transports.database import bell
from tests.plugins.django_databases import DjangoDatabase

from .conftest import MakeLayer, meet

# A node looks after the others every five seconds, on a machine that may be busy.
BOUND = 40.0


async def test_without_a_socket(
    sqlite_alias: DjangoDatabase,
    make_layer: MakeLayer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bell, "_NAME", "\0" + 200 * "x" + "{}")
    here, there = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(here, there)
    said = (
        "this process polls for messages, and cannot wake others: no socket can be made for it (AF_UNIX path too long)"
    )
    await eventually(lambda: here.health().detail == there.health().detail == said, within=BOUND)
    assert here.health().state == there.health().state == "ok"
    assert not here._hub.stall
    assert said in caplog.text
    monkeypatch.undo()
    await eventually(lambda: here.health().detail == there.health().detail == "", within=BOUND)
    await meet(here, there)


async def test_a_socket_that_others_cannot_reach(
    sqlite_alias: DjangoDatabase,
    make_layer: MakeLayer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, there = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await here.new_channel()
    await here.flush()
    with monkeypatch.context() as elsewhere:
        # As in a container with a network of its own, only that rings are heard in one direction.
        elsewhere.setattr(bell, "_NAME", "\0in-another-network-{}")
        await there.flush()
    await meet(here, there)
    said = (
        "the sockets of 1 other processes cannot be reached from this one (Connection refused): they poll for what it"
    )
    await eventually(lambda: said in here.health().detail, within=2 * BOUND)
    assert here.health().state == "ok"
    assert not here._hub.stall
    assert caplog.text.count(said) == 1
    await there.close()
    await eventually(lambda: here.health().detail == "", within=BOUND)
