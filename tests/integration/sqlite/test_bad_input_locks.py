"""A database that another process has locked: senders are told in time, receivers wait, and it goes on afterwards."""

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.sqlite import transport
from channels_trunk.transports.sqlite.upkeep import Upkeep
from tests.integration.sqlite.bad_input import BOUND, holding_lock, layers_closed, proves_itself, reaches
from tests.plugins.impatience import impatient

HELLO = {"type": "hello"}
TIMEOUT = 0.6


@pytest.mark.parametrize("inline", [True, False])
async def test_a_lock_held_for_longer_than_send_timeout(inline: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, send_timeout=BOUND, inline=inline), layers(path)
        await reaches(layers(path), here)  # a third process: to a single one a group's messages are letters
        bystander = layers(tmp_path / "other.sqlite3")
        await reaches(here, there)
        channel = await there.new_channel()
        waiting = [asyncio.create_task(layer.receive(name)) for layer, name in ((there, channel), (here, "jobs"))]
        with holding_lock(path) as lock:
            for call in (
                lambda: here.group_send("room", HELLO),
                lambda: here.send("others", HELLO),
                lambda: here.group_add("room", "others"),
                lambda: in_thread(lambda: here.sync.group_send("room", HELLO)),
            ):
                started = time.monotonic()
                with impatient(here, TIMEOUT), pytest.raises(TransportUnavailable, match=r"within send_timeout=0\.6 s"):
                    await asyncio.wait_for(call(), BOUND)
                assert TIMEOUT * 0.9 <= time.monotonic() - started < BOUND
            # A letter needs no file, and in the same process nothing is locked.
            letters = await there.new_channel()
            await here.send(letters, HELLO)
            assert await asyncio.wait_for(there.receive(letters), BOUND) == HELLO
            own = await here.new_channel()
            await here.send(own, HELLO)
            assert await asyncio.wait_for(here.receive(own), BOUND) == HELLO
            await proves_itself(bystander)
            assert not any(task.done() for task in waiting)
            lock.release()
        await reaches(here, there)
        await here.send(channel, HELLO)
        await there.send("jobs", HELLO)
        assert await asyncio.wait_for(asyncio.gather(*waiting), BOUND) == [HELLO, HELLO]
        # What was refused was not sent later.
        assert here.stats().failed_total == 3
        await proves_itself(there)


async def test_a_lock_held_for_less_than_send_timeout(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, send_timeout=BOUND), layers(path)
        await reaches(here, there)
        await reaches(layers(path), here)
        channel = await there.new_channel()
        await there.group_add("room", channel)
        with holding_lock(path) as lock:
            sends = [asyncio.ensure_future(here.group_send("room", {"type": "n", "n": number})) for number in range(50)]
            loop_turns = 0
            while not here.stats().outbox_current:  # the batch has met the lock and waits
                loop_turns += 1
                await asyncio.sleep(0)
                assert loop_turns < 1_000_000
            assert not any(task.done() for task in sends)
            lock.release()
        await asyncio.wait_for(asyncio.gather(*sends), BOUND)
        got = [(await asyncio.wait_for(there.receive(channel), BOUND))["n"] for _ in range(50)]
        assert got == list(range(50))


async def test_a_lock_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, send_timeout=BOUND), layers(path)
        await reaches(here, there)
        await reaches(layers(path), here)
        with holding_lock(path):
            send = asyncio.ensure_future(here.group_send("room", HELLO))
            # A loop that waits for the lock has a turn when the time of the send is over, and not before.
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert not send.done()
        await send


@pytest.mark.parametrize("existing", [False, True])
async def test_locked_at_first_use(existing: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    if existing:
        async with layers_closed() as layers:
            await proves_itself(layers(path))
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE theirs (x)")
    async with layers_closed() as layers:
        layer = layers(path)
        with holding_lock(path) as lock:
            waiting = asyncio.create_task(layer.receive("jobs"))
            with impatient(layer, TIMEOUT), pytest.raises(TransportUnavailable, match=r"within send_timeout=0\.6 s"):
                await asyncio.wait_for(layer.send("jobs", HELLO), BOUND)
            await eventually(lambda: layer.health().state is State.AWAY, within=BOUND)
            assert layer.health().detail == f"SQLite file {path}: it is locked by another process"
            assert not waiting.done()
            lock.release()
        await eventually(lambda: layer.health().state is State.OK, within=BOUND)
        await layer.send("jobs", HELLO)
        assert await asyncio.wait_for(waiting, BOUND) == HELLO
        await proves_itself(layer)


async def test_a_layer_closed_while_the_file_is_locked_leaves_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        await proves_itself(layers(path))
    async with layers_closed() as layers:
        layer = layers(path)
        with holding_lock(path):
            with impatient(layer, TIMEOUT), pytest.raises(TransportUnavailable):
                await layer.send("jobs", HELLO)
            await asyncio.wait_for(layer.close(), BOUND)
            assert layer.health().state is State.CLOSED
    assert [found.name for found in tmp_path.iterdir() if found.is_socket()] == []


async def test_a_reader_of_the_application_that_stays_in_its_transaction_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(here, there)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM trunk_log").fetchone()
            await reaches(here, there)
            await proves_itself(here)


async def test_a_node_signs_off_though_somebody_has_the_lock_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would keep a place, and a socket, for it until they miss it."""
    attempts = 0
    leave = Upkeep.leave

    def noted(upkeep: Upkeep) -> None:
        nonlocal attempts
        attempts += 1
        leave(upkeep)

    monkeypatch.setattr(Upkeep, "leave", noted)
    monkeypatch.setattr(transport, "_SIGN_OFF_TRIES", 1000)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(here, there)
        with holding_lock(path):
            closing = asyncio.create_task(here.close())
            await eventually(lambda: attempts >= 2, within=BOUND)
        await closing
        with contextlib.closing(sqlite3.connect(path)) as connection:
            nodes = connection.execute("SELECT node FROM trunk_nodes").fetchall()
        assert nodes == [(there.stats().node,)]
