"""A file that is removed or replaced under running layers: a gap is counted, and it goes on with what is there."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from channels_trunk.exceptions import TransportError
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches

pytestmark = pytest.mark.timeout(240)

# A layer looks every five seconds whether the file is still the one it has open.
SEEN_WITHIN = 60.0


def _remove(path: Path) -> None:
    path.unlink()


def _remove_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def _replace_by_an_empty_file(path: Path) -> None:
    _remove_all(path)
    path.touch()


def _replace_by_another_database(path: Path) -> None:
    other = path.with_name("other")
    with contextlib.closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    _remove_all(path)
    other.rename(path)


def _restore_an_old_copy(path: Path) -> None:
    copy = path.with_name("copy")
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    _remove_all(path)
    copy.rename(path)


def _remove_the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


CHANGES = [
    _remove,
    _remove_all,
    _replace_by_an_empty_file,
    _replace_by_another_database,
    _restore_an_old_copy,
    _remove_the_directory,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
async def test_a_gap_is_counted_and_it_goes_on(change: object, tmp_path: Path) -> None:
    assert callable(change)
    path = tmp_path / "data" / "x.sqlite3"
    path.parent.mkdir()
    async with layers_closed() as layers:
        bystander = layers(tmp_path / "other.sqlite3")
        here, there = layers(path, gap_event="gap"), layers(path)
        await reaches(here, there)
        await reaches(there, here)
        channel = await here.new_channel()
        await here.group_add("room", channel)
        waiting = asyncio.create_task(here.receive("jobs"))
        change(path)
        assert await asyncio.wait_for(here.receive(channel), SEEN_WITHIN) == {"type": "gap"}
        await eventually(lambda: there.stats().gaps_total >= 1, within=SEEN_WITHIN)
        await reaches(here, there)
        await reaches(there, here)
        await there.send("jobs", {"type": "job"})
        assert await asyncio.wait_for(waiting, BOUND) == {"type": "job"}
        await there.group_send("room", {"type": "hello"})
        assert await asyncio.wait_for(here.receive(channel), BOUND) == {"type": "hello"}
        await proves_itself(bystander)
        assert bystander.stats().gaps_total == 0
    assert [found.name for found in path.parent.iterdir() if found.is_socket()] == []


def _has_gaps(layer: SQLiteChannelLayer, count: int) -> bool:
    return layer.stats().gaps_total == count


def _has_more_gaps(layer: SQLiteChannelLayer, than: int) -> bool:
    return layer.stats().gaps_total > than


async def test_what_was_sent_into_a_file_that_others_had_left_is_a_gap_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        late, *others = layers(path), layers(path), layers(path)
        for layer in (late, *others):
            await layer.group_add("room", await layer.new_channel())
        await reaches(others[0], late)
        gaps = [layer.stats().gaps_total for layer in others]

        async def notice_nothing() -> float:
            return 0.01

        transport = late._hub.transport
        with monkeypatch.context() as patched:
            patched.setattr(transport, "maintain", notice_nothing)
            _restore_an_old_copy(path)
            for layer in others:
                await eventually(partial(_has_more_gaps, layer, 0), within=SEEN_WITHIN)
            assert late.stats().gaps_total == 0
            told = [layer.stats().gaps_total for layer in others]
            # More than a ring carries; the others will not find it.
            await late.group_send("room", {"type": "x", "text": "x" * 5_000})
        assert gaps == [0, 0]
        for layer, before in zip(others, told, strict=True):
            await eventually(partial(_has_more_gaps, layer, before), within=SEEN_WITHIN)
        await eventually(partial(_has_more_gaps, late, 0), within=SEEN_WITHIN)
        await reaches(late, others[0])
        await reaches(others[1], late)


async def test_who_sent_nothing_meanwhile_makes_no_second_gap(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        three = [layers(path) for _ in range(3)]
        for layer in three:
            await layer.group_add("room", await layer.new_channel())
        await three[0].group_send("room", {"type": "x", "text": "x" * 5_000})
        opened = three[0]._hub.transport._open  # type: ignore[attr-defined]
        await eventually(lambda: opened.confirmed == opened.writer.newest, within=SEEN_WITHIN)
        _restore_an_old_copy(path)
        for layer in three:
            await eventually(partial(_has_gaps, layer, 1), within=SEEN_WITHIN)
        await reaches(three[0], three[1])
        assert [layer.stats().gaps_total for layer in three] == [1, 1, 1]


async def test_a_directory_that_is_gone_is_said_and_a_file_that_comes_back_is_used(tmp_path: Path) -> None:
    path = tmp_path / "data" / "x.sqlite3"
    path.parent.mkdir()
    async with layers_closed() as layers:
        layer = layers(path)
        await proves_itself(layer)
        shutil.rmtree(path.parent)
        await eventually(lambda: "does not exist; create it" in layer.health().detail, within=SEEN_WITHIN)
        path.parent.mkdir()
        await proves_itself(layer)


async def test_a_database_damaged_under_running_layers(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = (layers(path, capacity=10**6) for _ in range(2))
        bystander = layers(tmp_path / "other.sqlite3")
        await reaches(here, there)
        waiting = asyncio.create_task(here.receive("jobs"))
        # The WAL holds what was written last, so both are spoilt.
        for suffix in ("", "-wal"):
            with open(f"{path}{suffix}", "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
                file.write(b"\xa5" * size)
        # What SQLite has in memory is still good: it notices when the layers have to read what the other wrote.
        with pytest.raises(TransportError, match=r"SQLite file .*/x\.sqlite3: "):
            await _talk(here, there)
        for layer in (here, there):
            await eventually(partial(_knows_of_the_damage, layer), within=SEEN_WITHIN)
        assert not waiting.done()
        await proves_itself(bystander)
        _remove_all(path)
        await eventually(lambda: _reach_each_other(here, there), within=SEEN_WITHIN)
        await there.send("jobs", {"type": "job"})
        assert await asyncio.wait_for(waiting, BOUND) == {"type": "job"}
        assert here.stats().gaps_total >= 1


async def _talk(here: SQLiteChannelLayer, there: SQLiteChannelLayer) -> None:
    for _ in range(5_000):
        await asyncio.wait_for(here.send("others", {"type": "x"}), BOUND)
        await asyncio.wait_for(there.send("others", {"type": "x"}), BOUND)


def _knows_of_the_damage(layer: SQLiteChannelLayer) -> bool:
    return "is not a SQLite database" in layer.health().detail


async def _reach_each_other(here: SQLiteChannelLayer, there: SQLiteChannelLayer) -> bool:
    """Whether both have come back; until then a call may be told what the last attempt found."""
    try:
        # What is sent while one of them comes back may be among what it has missed: it is not to be waited for.
        await reaches(here, there, within=SEEN_WITHIN / 6)
    except (TransportError, TimeoutError):
        return False
    return True
