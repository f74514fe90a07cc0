"""A file that is emptied or restored in place, under running layers: each counts a gap, and all goes on."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from operator import gt
from pathlib import Path

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.exceptions import TransportError
from channels_trunk.file_systems import file_identity
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, Layers, layers_closed, reaches

pytestmark = pytest.mark.timeout(240)

# A layer looks every second into the log, and every five at its own row.
SEEN_WITHIN = 60.0
Change = Callable[[Path], object]


def _execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _tables(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'trunk_%'")
        return [name for (name,) in rows]


def _back_up(path: Path) -> Path:
    copy = path.with_name("copy")
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _restore(path: Path) -> None:
    """As `.restore` of the shell does it."""
    with (
        contextlib.closing(sqlite3.connect(path.with_name("copy"))) as source,
        contextlib.closing(sqlite3.connect(path, timeout=20)) as target,
    ):
        source.backup(target)


def delete_the_log(path: Path) -> None:
    _execute(path, "DELETE FROM trunk_log")


def delete_the_nodes(path: Path) -> None:
    _execute(path, "DELETE FROM trunk_nodes")


def delete_the_numbers(path: Path) -> None:
    _execute(path, "DELETE FROM trunk_meta")


def delete_from_all_tables(path: Path) -> None:
    _execute(path, *(f"DELETE FROM {table}" for table in _tables(path)))


def drop_all_tables(path: Path) -> None:
    _execute(path, *(f"DROP TABLE {table}" for table in _tables(path)))


def drop_the_log(path: Path) -> None:
    _execute(path, "DROP TABLE trunk_log")


CHANGES = [
    delete_the_log,
    delete_the_nodes,
    delete_the_numbers,
    delete_from_all_tables,
    drop_all_tables,
    drop_the_log,
    _restore,
]


class _Talk:
    """Layers in a room."""

    def __init__(self, layers: Layers, path: Path) -> None:
        self._layers = layers
        self.path = path
        self.members: list[tuple[SQLiteChannelLayer, str]] = []

    async def join(self) -> SQLiteChannelLayer:
        layer = self._layers(self.path, gap_event="gap", capacity=10_000)
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        self.members.append((layer, channel))
        return layer

    async def say(self, count: int) -> None:
        """Everybody says so much to the room, and hears it all."""
        for layer, _ in self.members:
            for number in range(count):
                await layer.group_send("room", {"type": "n", "n": number})
        for layer, channel in self.members:
            for _ in range(count * len(self.members)):
                assert (await asyncio.wait_for(layer.receive(channel), BOUND))["type"] == "n"

    def gaps(self) -> list[int]:
        return [layer.stats().gaps_total for layer, _ in self.members]

    async def all_know(self) -> None:
        """Everybody has been told of a gap."""
        for layer, channel in self.members:
            async with asyncio.timeout(SEEN_WITHIN):
                while (await layer.receive(channel))["type"] != "gap":
                    pass
            assert layer.stats().gaps_total >= 1

    def all_are_back(self) -> bool:
        """Whether everybody has the file open that is there now, and is known in it."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                nodes = {node for (node,) in connection.execute("SELECT node FROM trunk_nodes")}
                [file_id] = connection.execute("SELECT value FROM trunk_meta WHERE name = 'file_id'").fetchone()
        except (sqlite3.Error, TypeError):
            return False
        layers = [layer for layer, _ in self.members]
        opened = [layer._hub.transport._open for layer in layers]  # type: ignore[attr-defined]
        return (
            all(found is not None for found in opened)
            and {found.upkeep.identity for found in opened} == {(file_identity(str(self.path)), file_id)}
            and nodes >= {layer.stats().node for layer in layers}
            and all(layer.health().state == "ok" for layer in layers)
        )

    async def is_whole(self) -> None:
        """Everybody reaches everybody, by messages, groups and normal channels."""
        # A gap that another one makes is told to those who have not noticed anything themselves.
        await eventually(self.all_are_back, within=SEEN_WITHIN)
        for sender, _ in self.members:
            for receiver, _ in self.members:
                await reaches(sender, receiver)
                waiting = asyncio.create_task(receiver.receive("jobs"))
                await sender.send("jobs", {"type": "job"})
                assert await asyncio.wait_for(waiting, BOUND) == {"type": "job"}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
async def test_a_gap_is_counted_and_it_goes_on(change: Change, tmp_path: Path) -> None:
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(3):
            await talk.join()
        await talk.say(5)
        _back_up(talk.path)
        await talk.say(5)
        change(talk.path)
        await talk.all_know()
        await talk.is_whole()


async def test_what_is_sent_at_once_by_who_knows_comes(tmp_path: Path) -> None:
    """Nobody has noticed anything yet, and each sender finds out as it appends."""
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(3):
            await talk.join()
        await talk.say(5)
        delete_the_log(talk.path)
        sender, _ = talk.members[0]
        for number in range(5):
            await sender.group_send("room", {"type": "new", "n": number})
        for layer, channel in talk.members[1:]:
            got = [await asyncio.wait_for(layer.receive(channel), BOUND) for _ in range(6)]
            assert got == [{"type": "gap"}] + [{"type": "new", "n": number} for number in range(5)]
            assert layer.stats().gaps_total == 1


async def test_who_is_told_by_another_looks_at_once_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with its next heartbeat: others ask it nothing while it is not in the file."""
    monkeypatch.setattr("channels_trunk.transports.sqlite.transport.HEARTBEAT", 3600.0)
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(3):
            await talk.join()
        await talk.say(5)
        delete_from_all_tables(talk.path)
        sender, _ = talk.members[0]
        await sender.group_send("room", {"type": "new"})
        await talk.all_know()
        await talk.is_whole()


async def test_nobody_waits_for_processes_that_a_restored_file_brings_back(tmp_path: Path) -> None:
    """They have closed their layers since the copy was made, and are in its table."""
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(4):
            await talk.join()
        _back_up(talk.path)
        gone, _ = talk.members.pop()
        await gone.close()
        await talk.say(5)
        _restore(talk.path)
        await talk.all_know()
        for layer, _ in talk.members:
            await layer.flush()


@pytest.mark.parametrize("count", [1, 200])
async def test_a_newcomer_does_not_hide_that_the_file_was_restored(count: int, tmp_path: Path) -> None:
    """It goes on where the copy ends, so that the others find the ids that they expect next, or wait for ever."""
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(3):
            await talk.join()
        await talk.say(5)
        _back_up(talk.path)
        await talk.say(20)
        _restore(talk.path)
        newcomer = layers(talk.path)
        for _ in range(count):
            # In this thread, so that nobody reads meanwhile.
            newcomer.sync.group_send("other", {"type": "x"})
        await talk.all_know()
        await talk.is_whole()


def written_over(path: Path, content: Path) -> None:
    shutil.copyfile(content, path)


def cut_short(path: Path, _content: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("is_in_wal", [False, True])
@pytest.mark.parametrize("harm", [written_over, cut_short], ids=lambda harm: harm.__name__)
async def test_a_file_that_is_written_over_is_never_passed_over_in_silence(
    harm: Callable[[Path, Path], None], is_in_wal: bool, tmp_path: Path
) -> None:
    """SQLite forbids that. Either its log still holds all that there was, or a gap is told, or that it is damaged."""
    async with layers_closed() as layers:
        talk = _Talk(layers, tmp_path / "x.sqlite3")
        for _ in range(3):
            await talk.join()
        await talk.say(5)
        copy = tmp_path / "copy"
        _execute(talk.path, f"VACUUM INTO '{copy}'")
        await talk.say(20)
        if not is_in_wal:
            with contextlib.closing(sqlite3.connect(talk.path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        harm(talk.path, copy)
        await eventually(lambda: _is_heard_or_told(talk), within=SEEN_WITHIN)
        before = talk.gaps()
        # The file last: who finds none makes one, and its WAL.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{talk.path}{suffix}")
        await eventually(lambda: all(map(gt, talk.gaps(), before)), within=SEEN_WITHIN)
        await talk.is_whole()


async def _is_heard_or_told(talk: _Talk) -> bool:
    """Whether all others hear what one says, or else know that something is wrong."""
    sender, _ = talk.members[0]
    with contextlib.suppress(TransportError):
        await sender.group_send("room", {"type": "heard"})
    told = True
    for layer, channel in talk.members[1:]:
        with contextlib.suppress(TimeoutError, TransportError):
            async with asyncio.timeout(0.1):
                while (await layer.receive(channel))["type"] != "heard":
                    pass
                continue
        told = told and (layer.stats().gaps_total > 0 or layer.health().state != "ok")
    return told


@pytest.mark.parametrize(("condition", "left"), [("1", 0), ("id % 2", 5)])
async def test_a_channel_is_not_full_of_jobs_that_somebody_deleted(condition: str, left: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, capacity=10), layers(path, capacity=10)
        for number in range(10):
            await here.send("jobs", {"type": "n", "n": number})
        _execute(path, f"DELETE FROM trunk_queue WHERE {condition}")
        for _ in range(left):
            assert (await asyncio.wait_for(there.receive("jobs"), BOUND))["type"] == "n"
        waiting = asyncio.create_task(there.receive("jobs"))
        await asyncio.sleep(0)
        for number in range(10):
            await here.send("jobs", {"type": "n", "n": number})
        assert await asyncio.wait_for(waiting, BOUND) == {"type": "n", "n": 0}
        for number in range(1, 10):
            assert await asyncio.wait_for(there.receive("jobs"), BOUND) == {"type": "n", "n": number}


async def test_a_channel_that_nobody_reads_is_not_full_of_jobs_that_somebody_deleted(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here = layers(path, capacity=10)
        for number in range(10):
            await here.send("jobs", {"type": "n", "n": number})
        _execute(path, "DELETE FROM trunk_queue WHERE id % 2")
        for number in range(5):
            await here.send("jobs", {"type": "n", "n": number})
        with pytest.raises(ChannelFull):
            await here.send("jobs", {"type": "n", "n": 5})


async def test_jobs_come_though_somebody_deleted_their_counters(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await there.new_channel()
        for number in range(10):
            await here.send("jobs", {"type": "n", "n": number})
        _execute(path, "DELETE FROM trunk_depth")
        async with asyncio.timeout(SEEN_WITHIN):
            assert [(await there.receive("jobs"))["n"] for _ in range(10)] == list(range(10))


@pytest.mark.parametrize("taken", [0, 2])
async def test_a_channel_is_full_though_somebody_deleted_its_counter(taken: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, capacity=5), layers(path, capacity=5)
        for number in range(5):
            await here.send("jobs", {"type": "n", "n": number})
        _execute(path, "DELETE FROM trunk_depth")
        for number in range(taken):
            assert await asyncio.wait_for(there.receive("jobs"), BOUND) == {"type": "n", "n": number}
        for number in range(taken):
            await here.send("jobs", {"type": "n", "n": 5 + number})
        with pytest.raises(ChannelFull):
            await here.send("jobs", {"type": "n", "n": 9})


async def test_memberships_that_somebody_deleted_end(tmp_path: Path) -> None:
    """A process that has sent to the group before looks at them again with its heartbeat."""
    path = tmp_path / "x.sqlite3"

    def waiting() -> int:
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
            return int(connection.execute("SELECT count(*) FROM trunk_queue").fetchone()[0])

    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await there.new_channel()
        await here.group_add("room", "jobs")
        await here.group_send("room", {"type": "n"})
        assert waiting() == 1

        async def is_ended() -> bool:
            before = waiting()
            await here.group_send("room", {"type": "n"})
            return waiting() == before

        _execute(path, "DELETE FROM trunk_members")
        await eventually(is_ended, within=SEEN_WITHIN)
