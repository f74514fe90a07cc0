"""What a process remembers of a neighbour is renewed when that one is gone, or back."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing import LayerUnderTest
from channels_trunk.testing.processes import ProcessPeer, Switchboard
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.sqlite import SQLiteTransport
from channels_trunk.transports.sqlite.upkeep import Upkeep
from tests.integration.sqlite.bad_input import BOUND, layers_closed, reaches

X = {"type": "x"}
# So long that a message which comes before has come by a ring.
NEVER = 600.0


async def rings(sender: SQLiteChannelLayer, receiver: SQLiteChannelLayer) -> None:
    """A receiver that waits is woken, of a channel of its own, of one in a group, and of a normal one."""
    own, member = await receiver.new_channel(), await receiver.new_channel()
    await receiver.group_add("room", member)
    for channel in (own, "jobs", member):
        waiting = asyncio.create_task(receiver.receive(channel))
        await receiver.group_discard("nothing", "nobody")  # behind it the receiver is known to wait
        await (sender.group_send("room", X) if channel is member else sender.send(channel, X))
        assert await asyncio.wait_for(waiting, BOUND) == X
    await receiver.group_discard("room", member)


@asynccontextmanager
async def _processes(path: Path, count: int) -> AsyncIterator[list[ProcessPeer]]:
    with tempfile.TemporaryDirectory() as directory:  # short, as a socket's path must be
        board = Switchboard(Path(directory))
        await board.open()
        try:
            under_test = LayerUnderTest(backend="channels_trunk.layers.SQLiteChannelLayer")
            yield [await board.spawn(under_test, {"path": str(path)}) for _ in range(count)]
        finally:
            assert await board.close() == []


@pytest.mark.parametrize("others", [0, 1], ids=["two", "three"])
async def test_a_neighbour_that_closed_and_came_back_is_rung(others: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=NEVER), layers(path, polling_interval=NEVER)
        for _ in range(others):
            await layers(path, polling_interval=NEVER).new_channel()
        for _ in range(3):
            channel = await there.new_channel()
            await rings(here, there)
            await there.close()
            await here.send(channel, X)
            await here.group_send("room", X)
            await rings(here, there)
            await rings(there, here)
        assert here.health().detail == there.health().detail == ""
        assert here.stats().gaps_total == 0


async def test_a_neighbour_that_came_back_to_a_deep_directory_that_was_made_again(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / "x.sqlite3"
    path.parent.mkdir()
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=NEVER), layers(path, polling_interval=NEVER)
        await rings(here, there)
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        await eventually(lambda: min(x.stats().gaps_total for x in (here, there)) > 0, within=BOUND)
        await rings(here, there)
        await rings(there, here)


async def test_a_socket_that_another_file_has_taken_the_place_of_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await rings(here, there)
        sockets = [found for found in tmp_path.iterdir() if found.is_socket()]
        for found in sockets:
            found.unlink()
            found.touch()
        await eventually(lambda: min(x.stats().reconnects_total for x in (here, there)) > 0, within=BOUND)
        for found in sockets:
            found.unlink(missing_ok=True)
        await eventually(lambda: here.health().detail == there.health().detail == "", within=BOUND)
        await reaches(here, there)
        assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_a_killed_process_is_known_to_be_gone_at_once(tmp_path: Path) -> None:
    """Nobody has sent it anything; and nobody waits for it."""
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers, _processes(path, 2) as (killed, stays):
        here = layers(path, send_timeout=NEVER)
        theirs = await killed.new_channel()
        staying = (await stays.new_channel()).partition(".")[2].partition("!")[0]
        dead = theirs.partition(".")[2].partition("!")[0]
        assert await here.peers() == {dead, staying}
        killed.kill()
        await killed.gone()
        assert await here.peers() == {staying}
        async with asyncio.timeout(BOUND):
            await here.group_add("room", theirs)
            await here.flush()
        await eventually(lambda: not os.path.exists(f"{path}.{dead}"), within=BOUND)


@pytest.mark.parametrize("fails_once", [False, True], ids=["", "fails behind the registration"])
async def test_a_node_that_is_forgotten_while_it_is_away_has_missed_something(
    fails_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was by itself meanwhile has sent it nothing, and nothing is missing in the log."""
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(here, there)
        transport: Any = there._hub.transport
        connected, clear_up = SQLiteTransport._connected, Upkeep.clear_up
        forgotten: list[str] = []
        failures = [sqlite3.OperationalError("disk I/O error")] if fails_once else []

        def connected_forgotten(self: SQLiteTransport, settings: Any, context: Any) -> Any:
            if self is transport and not forgotten:
                with closing(sqlite3.connect(path, timeout=BOUND, isolation_level=None)) as db:
                    db.execute("DELETE FROM trunk_nodes WHERE node = ?", (context.node,))
                forgotten.append(context.node)
            return connected(self, settings, context)

        def clear_up_or_fail(self: Upkeep) -> None:
            if forgotten and self._node == forgotten[0] and failures:
                raise failures.pop()
            clear_up(self)

        monkeypatch.setattr(SQLiteTransport, "_connected", connected_forgotten)
        monkeypatch.setattr(Upkeep, "clear_up", clear_up_or_fail)
        transport._context.sink.lost(TransportUnavailable("the file went"))
        await eventually(lambda: forgotten and not failures and there.health().state == "ok", within=BOUND)
        await reaches(here, there)
        assert (here.stats().gaps_total, there.stats().gaps_total) == (0, 1)
