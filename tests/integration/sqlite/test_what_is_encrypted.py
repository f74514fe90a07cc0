"""What SECURITY.md says of symmetric_encryption_keys: what the file shows with keys, and what it does not."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed

KEYS = {"symmetric_encryption_keys": ["opensesame"]}


def _columns(path: Path) -> dict[str, bytes]:
    """What each column holds, frames among them, as one piece of bytes."""
    found: dict[str, bytes] = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [description[0] for description in cursor.description]
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    held = value if isinstance(value, bytes) else str(value).encode()
                    found[f"{table}.{name}"] = found.get(f"{table}.{name}", b"") + b" " + held
    return found


@pytest.mark.parametrize("config", [KEYS, {}], ids=["with keys", "without"])
async def test_what_the_tables_show(config: dict[str, list[str]], tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, auto_trim=False, **config), layers(path, auto_trim=False, **config)
        node = here.stats().node
        channel = await there.new_channel("swordfish-channel")
        await here.new_channel()
        await here.group_add("swordfish-joined", channel)  # asks `there`
        await here.group_add("shown-group", "shown-member")
        await here.group_send("swordfish-group", {"type": "x", "text": "swordfish"})
        await here.send(channel, {"type": "x", "text": "swordfish"})
        await here.send("shown-channel", {"type": "x", "text": "swordfish"})
        worker = asyncio.create_task(there.receive("shown-wanted"))
        await eventually(lambda: b"shown-wanted" in _columns(path).get("trunk_nodes.watching", b""), within=BOUND)
        columns = _columns(path)
        worker.cancel()

    showing = {name for name, held in columns.items() if b"swordfish" in held}
    assert showing == (set() if config else {"trunk_log.frame", "trunk_queue.frame"})
    assert not [name for name, held in columns.items() if b"opensesame" in held]

    plain = {name for name, held in columns.items() if b"shown-" in held and not name.endswith(".frame")}
    assert plain == {
        "trunk_queue.channel",
        "trunk_depth.channel",
        "trunk_members.channel",
        "trunk_members.group_name",
        "trunk_nodes.watching",
    }
    assert {name for name, held in columns.items() if node.encode() in held and not name.endswith(".frame")} == {
        "trunk_log.origin",
        "trunk_nodes.node",
        "trunk_nodes.doorbell",
    }
    assert {name for name in columns if name.endswith(".prefix")} == {
        "trunk_log.prefix",
        "trunk_queue.prefix",
        "trunk_depth.prefix",
        "trunk_members.prefix",
        "trunk_nodes.prefix",
    }
