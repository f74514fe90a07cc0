"""Messages of any size for one process: its memory takes them, and the file what its memory does not."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.processes import ProcessPeer, Switchboard
from channels_trunk.transports.sqlite.rings import LARGEST_LETTER
from tests.integration.sqlite.bad_input import BOUND, layers_closed

MEGABYTE = 1_000_000


def _message(number: int, size: int) -> dict[str, object]:
    return {"type": "x", "number": number, "payload": "x" * size}


def _rows_written(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT coalesce(max(id), 0) FROM trunk_log").fetchone()[0])


@asynccontextmanager
async def _process(path: Path) -> AsyncIterator[ProcessPeer]:
    with tempfile.TemporaryDirectory() as directory:  # short, as a socket's path must be
        board = Switchboard(Path(directory))
        await board.open()
        try:
            under_test = LayerUnderTest(backend="channels_trunk.layers.SQLiteChannelLayer")
            yield await board.spawn(under_test, {"path": str(path)})
        finally:
            assert await board.close() == []


async def _goes(here: SQLiteChannelLayer, there: SQLiteChannelLayer, channel: str, size: int) -> None:
    sent = _message(size, size)
    await here.send(channel, sent)
    async with asyncio.timeout(BOUND):
        assert await there.receive(channel) == sent


async def test_a_large_message_for_one_process_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, auto_trim=False), layers(path, auto_trim=False)
        channel = await there.new_channel()
        await _goes(here, there, channel, 1)
        before = _rows_written(path)
        for size in (1, 10_000, 100_000, MEGABYTE):
            await _goes(here, there, channel, size)
        assert _rows_written(path) == before


async def test_what_is_too_large_for_memory_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = (layers(path, auto_trim=False, max_message_size=2 * LARGEST_LETTER) for _ in range(2))
        channel = await there.new_channel()
        await _goes(here, there, channel, 1)
        before = _rows_written(path)
        await _goes(here, there, channel, LARGEST_LETTER)
        assert _rows_written(path) == before + 1


async def test_a_process_that_stands_still_gets_all_sizes_in_order(tmp_path: Path) -> None:
    sizes = [10, MEGABYTE, MEGABYTE, 100_000, 10, 10_000, MEGABYTE] * 3
    async with layers_closed() as layers, _process(tmp_path / "x.sqlite3") as frozen:
        here = layers(tmp_path / "x.sqlite3")
        channel = await frozen.new_channel()
        await here.send(channel, _message(-1, 1))
        await frozen.receive(channel)
        await frozen.freeze_unlocked(lambda: here.send("probe", {"type": "probe"}), within=2)
        try:
            for number, size in enumerate(sizes):
                await here.send(channel, _message(number, size))
        finally:
            frozen.thaw()
        got = await frozen.collect(channel, count=len(sizes))
    assert [(message["number"], len(message["payload"])) for message in got] == list(enumerate(sizes))


async def test_a_large_message_outlives_its_sender(tmp_path: Path) -> None:
    """What was accepted before kill -9 comes."""
    async with layers_closed() as layers, _process(tmp_path / "x.sqlite3") as sender:
        here = layers(tmp_path / "x.sqlite3")
        channel = await here.new_channel()
        await sender.send(channel, _message(1, MEGABYTE))
        sender.kill()
        await sender.gone()
        async with asyncio.timeout(BOUND):
            assert await here.receive(channel) == _message(1, MEGABYTE)
