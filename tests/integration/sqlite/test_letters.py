"""Group messages for the one other process go as letters, without the file; and what has to be in the file is."""

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.hub import linger
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.router import Body, Mailbox
from channels_trunk.testing.commands import in_thread
from tests.integration.sqlite.bad_input import BOUND, holding_lock, layers_closed, reaches

X = {"type": "x"}


def _rows(path: Path) -> int:
    """How many rows were ever appended to the log."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT coalesce(max(id), 0) FROM trunk_log").fetchone()[0])


async def _member(layer: SQLiteChannelLayer) -> str:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    return channel


async def _numbers(layer: SQLiteChannelLayer, channel: str, count: int) -> list[int]:
    async with asyncio.timeout(BOUND):
        return [(await layer.receive(channel))["n"] for _ in range(count)]


async def test_a_group_message_for_one_process_needs_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        channel = await _member(there)
        await here.group_send("room", X)  # the first of all finds out who is there
        before = _rows(path)
        with holding_lock(path):
            await here.group_send("room", X)
            await in_thread(lambda: here.sync.group_send("room", X))
        assert _rows(path) == before
        assert [await asyncio.wait_for(there.receive(channel), BOUND) for _ in range(3)] == [X] * 3


async def test_who_comes_later_gets_what_is_sent_later(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there, later = layers(path), layers(path), layers(path)
        first = await _member(there)
        await here.group_send("room", {"type": "n", "n": 0})
        second = await _member(later)
        await here.group_send("room", {"type": "n", "n": 1})
        assert await _numbers(there, first, 2) == [0, 1]
        assert await _numbers(later, second, 1) == [1]


async def test_a_normal_channel_that_joins_later_gets_what_is_sent_later(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        channel = await _member(there)
        await here.group_send("room", {"type": "n", "n": 0})
        await there.group_add("room", "jobs")
        await here.group_send("room", {"type": "n", "n": 1})
        assert await _numbers(there, channel, 2) == [0, 1]
        assert await _numbers(there, "jobs", 1) == [1]


async def test_what_the_socket_does_not_take_goes_through_the_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, capacity=10_000), layers(path, capacity=10_000)
        await reaches(here, there)
        channel = await _member(there)
        receiving = asyncio.create_task(_numbers(there, channel, 3_000))
        await asyncio.sleep(0)
        before = _rows(path)
        # The loop that reads is held up meanwhile, so its socket fills.
        for number in range(3_000):
            target = here.sync.group_send if number % 3 else here.sync.send
            target("room" if number % 3 else channel, {"type": "n", "n": number})
        assert 0 < _rows(path) - before <= 3_000
        assert await receiving == list(range(3_000))


async def test_a_process_that_has_gone_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await _member(there)
        await here.group_send("room", X)
        await there.close()
        await asyncio.wait_for(here.group_send("room", X), BOUND)
        channel = await _member(there)
        await here.group_send("room", X)
        assert await asyncio.wait_for(there.receive(channel), BOUND) == X


async def test_what_comes_while_many_are_woken_is_theirs_at_the_same_wake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        members = [await _member(there) for _ in range(100)]
        await here.group_send("room", {"type": "n", "n": 0})
        assert [await _numbers(there, member, 1) for member in members] == [[0]] * 100
        receiving = [asyncio.create_task(_numbers(there, member, 2)) for member in members]
        router, woken = there._hub.router, 0
        arrive, come = router.arrive, router.come
        others = iter([{"type": "n", "n": 2}])

        def arriving(*arguments: Any, **options: Any) -> None:
            arrive(*arguments, **options)
            for message in others:
                # In a thread that this one waits for, as another process would send it.
                thread = threading.Thread(target=here.sync.group_send, args=("room", message), daemon=True)
                thread.start()
                thread.join(BOUND)
                return

        def coming(box: Mailbox, now: float) -> Body | None:
            nonlocal woken
            woken += 1
            return come(box, now)

        await asyncio.sleep(0)  # all of them have begun to wait
        await there.peers()  # its thread, which watched before they did, has let go
        monkeypatch.setattr(router, "arrive", arriving)
        monkeypatch.setattr(router, "come", coming)
        await here.group_send("room", {"type": "n", "n": 1})
        assert await asyncio.gather(*receiving) == [[1, 2]] * 100
        assert woken == 100


async def test_a_loop_that_is_rung_often_stays_awake_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linger, "can_linger", lambda: True)
    async with layers_closed() as layers:
        here, there = layers(tmp_path / "x.sqlite3"), layers(tmp_path / "x.sqlite3")
        channel = await there.new_channel()
        watch = there._hub.doorwatch
        assert watch is not None
        assert watch._linger is not None
        async with asyncio.timeout(BOUND):
            while not watch._linger._heard:
                await here.send(channel, X)
                assert await there.receive(channel) == X
