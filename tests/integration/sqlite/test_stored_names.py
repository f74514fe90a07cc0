"""Names in a file that somebody else has written: no log and no command shows what does something to a terminal."""

import asyncio
import contextlib
import io
import sqlite3
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from channels_trunk.management.commands import trunk_doctor, trunk_status
from channels_trunk.testing import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed

EVIL = "jobs\x1b[2J\r\nERROR all is lost \u202e\x9b31m\x00"


def _write(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        connection.execute(statement, values)


async def test_a_full_channel_with_such_a_name_is_logged_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer = layers(path, capacity=1)
        await layer.group_add("room", "jobs")
        _write(path, "UPDATE trunk_members SET channel = ?", EVIL)
        _write(path, "UPDATE trunk_meta SET value = random() & 0x7fffffffffffffff WHERE name = 'generation'")
        other = layers(path, capacity=1)
        for _ in range(3):
            await other.group_send("room", {"type": "x"})
        await eventually(lambda: other.stats().dropped_overflow_total > 0, within=BOUND)
    [said] = [record.getMessage() for record in caplog.records if "is full" in record.getMessage()]
    assert said.startswith(r"channel jobs\x1b[2J\r\nERROR all is lost \u202e\x9b31m\x00 is full")
    assert said.isprintable()


async def _with_such_names(path: Path) -> None:
    async with layers_closed() as layers:
        layer = layers(path)
        await layer.new_channel()
        await layer.send("good", {"type": "x"})
        for number, channel in enumerate((EVIL, b"\x1b\xff")):
            _write(path, "INSERT INTO trunk_queue SELECT NULL, prefix, ?, expires_at, frame FROM trunk_queue", channel)
            _write(path, "INSERT INTO trunk_depth VALUES ('asgi', ?, ?)", channel, number + 1)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            cursor = connection.execute("SELECT * FROM trunk_nodes LIMIT 1")
            row = dict(zip([each[0] for each in cursor.description], cursor.fetchone(), strict=True))
        row["node"] = EVIL
        marks = ", ".join("?" * len(row))
        _write(path, f"INSERT INTO trunk_nodes ({', '.join(row)}) VALUES ({marks})", *row.values())


def test_commands_show_such_names_escaped(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    asyncio.run(_with_such_names(path))
    entry = {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer", "CONFIG": {"path": str(path)}}
    output = io.StringIO()
    with override_settings(CHANNEL_LAYERS={"default": entry}):
        call_command(trunk_status.Command(), stdout=output)
        # It asks the other processes, and waits for none under such a name.
        with contextlib.suppress(CommandError):
            call_command(trunk_doctor.Command(), stdout=output)
    shown = output.getvalue()
    assert r"jobs\x1b[2J\r\nERROR all is lost \u202e\x9b31m\x00" in shown
    assert "[round-trip]" in shown
    assert [line for line in shown.splitlines() if line.startswith("ERROR all")] == []
    assert shown.replace("\n", "").isprintable()
