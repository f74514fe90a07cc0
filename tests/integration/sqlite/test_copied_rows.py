"""Rows that somebody copied by hand from one prefix of a file to another: skipped and counted."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches

PLAIN: dict[str, Any] = {}
SEALED: dict[str, Any] = {"symmetric_encryption_keys": ["opensesame"]}
both = pytest.mark.parametrize("keys", [PLAIN, SEALED], ids=["plain", "sealed"])

COPY_LOG = """INSERT INTO trunk_log (prefix, origin, expires_at, frame)
    SELECT 'green', 'x', expires_at, frame FROM trunk_log WHERE prefix = 'blue'"""
COPY_QUEUE = """INSERT INTO trunk_queue (prefix, channel, expires_at, frame)
    SELECT 'green', channel, expires_at, frame FROM trunk_queue WHERE prefix = 'blue'"""
COPY_DEPTH = "INSERT INTO trunk_depth SELECT 'green', channel, depth FROM trunk_depth WHERE prefix = 'blue'"


def _execute(path: Path, *statements: str) -> int:
    """Return how many rows all of them wrote."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        return sum(connection.execute(statement).rowcount for statement in statements)


@both
async def test_copied_messages_of_groups_do_not_arrive(keys: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        # Without auto_trim the rows are still there when they are copied; two more blue processes make it write them.
        config = {"auto_trim": False, **keys}
        blue, *other_blues = (layers(path, prefix="blue", **config) for _ in range(3))
        green = layers(path, prefix="green", **config)
        channel = await green.new_channel()
        await green.group_add("room", channel)
        for other_blue in other_blues:
            await other_blue.new_channel()
        await blue.group_send("room", {"type": "for blue"})
        copied = _execute(path, COPY_LOG)
        assert copied > 0
        await eventually(lambda: green.stats().skipped_frames_total == copied, within=BOUND)
        await green.group_send("room", {"type": "for green"})
        assert await asyncio.wait_for(green.receive(channel), BOUND) == {"type": "for green"}
        await reaches(green, green)
        assert green.health().state == "ok"


@both
async def test_copied_jobs_are_not_done(keys: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        blue, green = layers(path, prefix="blue", **keys), layers(path, prefix="green", **keys)
        await blue.send("jobs", {"type": "swordfish"})
        assert _execute(path, COPY_QUEUE, COPY_DEPTH) == 2
        await green.send("jobs", {"type": "for green"})
        assert await asyncio.wait_for(green.receive("jobs"), BOUND) == {"type": "for green"}
        assert green.stats().skipped_frames_total == 1
        await proves_itself(green)
        assert await asyncio.wait_for(blue.receive("jobs"), BOUND) == {"type": "swordfish"}
    assert "a frame was skipped: the frame is not of this layer's prefix, 'green'" in caplog.text
    assert "swordfish" not in caplog.text
