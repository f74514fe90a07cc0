"""With keys, frames that somebody moved within a file are refused and counted."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.transports.sqlite.rings import Letter, pack_letter
from tests.integration.sqlite.bad_input import BOUND, Layers, layers_closed, proves_itself

KEYS = {"symmetric_encryption_keys": ["opensesame"], "auto_trim": False}
SECRET = {"type": "swordfish"}

QUEUE = "INSERT INTO trunk_queue (prefix, channel, expires_at, frame) SELECT 'asgi', '{to}', 9e9, frame FROM {source}"
LOG = "INSERT INTO trunk_log (prefix, origin, expires_at, frame) SELECT 'asgi', '{origin}', 9e9, frame FROM {source}"
DEPTH = "INSERT OR REPLACE INTO trunk_depth SELECT prefix, channel, count(*) FROM trunk_queue GROUP BY prefix, channel"


def _execute(path: Path, *statements: str) -> int:
    """Return how many rows the first wrote."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        first, *_ = [connection.execute(statement).rowcount for statement in statements]
        return first


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        return connection.execute(query).fetchall()


async def _three(layers: Layers, path: Path) -> list[SQLiteChannelLayer]:
    """Three that know of each other, so that what they send is in the log, and in no letter."""
    made = [layers(path, **KEYS) for _ in range(3)]
    for layer in made:
        await layer.new_channel()
    await proves_itself(made[0])
    _execute(path, "DELETE FROM trunk_log WHERE id < (SELECT max(id) FROM trunk_log)")
    return made


async def _send(layers: list[SQLiteChannelLayer], kind: str, path: Path) -> str:
    """Send a message by the first; return the table that has its frame alone."""
    [(newest,)] = _rows(path, "SELECT max(id) FROM trunk_log")
    if kind == "group":
        await layers[0].group_send("first", SECRET)
    elif kind == "mailbox":
        # It goes as a letter, which is in no table.
        return f"(SELECT X'{(await _letter(layers)).hex()}' AS frame)"
    elif kind == "channel":
        await layers[0].send("first", SECRET)
        return "trunk_queue WHERE channel = 'first'"
    else:
        await layers[0].group_add("room", await layers[1].new_channel())
    return f"trunk_log WHERE id > {newest} AND origin = '{layers[0].stats().node}'"


async def _letter(layers: list[SQLiteChannelLayer]) -> bytes:
    """What the first writes to a channel of the second."""
    envelope = Envelope(Kind.MAILBOX, await layers[1].new_channel("first"), 9e9, layers[0]._codec.pack(SECRET))
    return layers[0]._codec.encode_frame(layers[0].stats().node, [envelope])


@pytest.mark.parametrize(
    ("kind", "to"),
    [("channel", "second"), *((kind, to) for kind in ("group", "mailbox", "control") for to in ("first", "second"))],
)
async def test_moved_to_a_normal_channel(kind: str, to: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        made = await _three(layers, path)
        source = await _send(made, kind, path)
        moved = _execute(path, QUEUE.format(to=to, source=source), DEPTH)
        assert moved > 0
        worker = layers(path, **KEYS)
        await made[0].send(to, {"type": "own"})
        assert await asyncio.wait_for(worker.receive(to), BOUND) == {"type": "own"}
        assert worker.stats().skipped_frames_total == moved


async def test_a_message_of_a_normal_channel_is_none_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        made = await _three(layers, path)
        source = await _send(made, "channel", path)
        assert _execute(path, LOG.format(origin="x", source=source)) == 1
        for layer in made:
            await eventually(lambda layer=layer: layer.stats().skipped_frames_total == 1, within=BOUND)  # type: ignore[misc]
        await proves_itself(made[1])


async def test_what_a_process_wrote_itself_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        made = await _three(layers, path)
        channel = await made[0].new_channel()
        await made[0].group_add("first", channel)
        source = await _send(made, "group", path)
        assert await made[0].receive(channel) == SECRET
        assert _execute(path, LOG.format(origin=made[1].stats().node, source=source)) == 1
        await eventually(lambda: made[0].stats().skipped_frames_total == 1, within=BOUND)
        await made[1].group_send("first", {"type": "own"})
        assert await asyncio.wait_for(made[0].receive(channel), BOUND) == {"type": "own"}


async def test_a_letter_is_for_one_process(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        made = await _three(layers, path)
        transport: Any = made[0]._hub.transport
        writer = transport._open.writer
        letter = pack_letter(writer._file_id, Letter(0, await _letter(made)))
        assert writer._bells.deliver(made[2].stats().node, letter)
        await eventually(lambda: made[2].stats().skipped_frames_total == 1, within=BOUND)
        await proves_itself(made[2])


async def test_a_request_is_not_answered_after_its_time(tmp_path: Path) -> None:
    """It can be repeated until then, and no longer."""
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        config = {**KEYS, "expiry": 0.5, "send_timeout": 0.5}
        one, other = layers(path, **config), layers(path, **config)
        channel = await other.new_channel()
        await one.new_channel()
        await one.group_add("first", channel)
        await other.group_discard("first", channel)
        [node] = {one.stats().node}
        clock = one._hub.clock
        ends = clock.wall() + 0.5
        await eventually(lambda: clock.wall() > ends, within=BOUND)
        again = LOG.format(origin="x", source=f"trunk_log WHERE origin = '{node}' ORDER BY id")
        assert _execute(path, again) > 0
        await eventually(lambda: other.stats().skipped_frames_total > 0, within=BOUND)
        await one.group_send("first", SECRET)
        await one.send(channel, {"type": "own"})
        assert await asyncio.wait_for(other.receive(channel), BOUND) == {"type": "own"}
