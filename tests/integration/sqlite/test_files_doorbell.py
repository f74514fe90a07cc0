"""Sockets that are removed, too deep, impossible or unreachable: messages come all the same."""

import asyncio
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.sqlite import doorbell
from tests.integration.sqlite.bad_input import BOUND, layers_closed, reaches

X = {"type": "x"}
# So long that a message which comes before has come by a ring.
NEVER = 30.0
AT_ONCE = 20.0


def _sockets(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_socket()]


async def _rings(sender: SQLiteChannelLayer, receiver: SQLiteChannelLayer) -> None:
    """A receiver that waits is woken, of a channel of its own and of a normal one."""
    own = await receiver.new_channel()
    for channel in (own, "jobs"):
        waiting = asyncio.create_task(receiver.receive(channel))
        await receiver.group_discard("nothing", "nobody")  # behind it the receiver is known to wait
        started = time.monotonic()
        await sender.send(channel, X)
        assert await asyncio.wait_for(waiting, AT_ONCE) == X
        assert time.monotonic() - started < AT_ONCE


def _deep(tmp_path: Path) -> Path:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    return directory / "x.sqlite3"


def _long_name(tmp_path: Path) -> Path:
    return tmp_path / ("x" * 150 + ".sqlite3")


def _longest_name(tmp_path: Path) -> Path:
    return tmp_path / ("x" * 230 + ".sqlite3")


def _odd_name(tmp_path: Path) -> Path:
    return tmp_path / "a [b]*?#%20ä 'x'.sqlite3"


@pytest.mark.parametrize("place", [_deep, _long_name, _longest_name, _odd_name], ids=lambda place: place.__name__)
async def test_a_path_that_no_socket_address_holds_is_rung_all_the_same(place: object, tmp_path: Path) -> None:
    assert callable(place)
    path: Path = place(tmp_path)
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=NEVER), layers(path, polling_interval=NEVER)
        await _rings(here, there)
        await _rings(there, here)
    assert _sockets(path.parent) == []


async def test_without_unix_sockets_polling_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on Windows. asyncio needs the real module, so only the doorbell's is replaced.
    monkeypatch.setattr(doorbell, "socket", SimpleNamespace(socket=socket.socket))
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=0.02), layers(path, polling_interval=0.02)
        await reaches(here, there)
        await reaches(there, here)
        assert _sockets(tmp_path) == []


async def test_where_no_socket_can_be_made_polling_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "no sockets here")

    monkeypatch.setattr(os, "fchmod", refuse)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=0.02), layers(path, polling_interval=0.02)
        await reaches(here, there)
        assert _sockets(tmp_path) == []


async def test_a_socket_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=NEVER), layers(path, polling_interval=NEVER)
        await _rings(here, there)
        before = set(_sockets(tmp_path))
        assert len(before) == 2
        for found in before:
            found.unlink()
        await eventually(lambda: len(_sockets(tmp_path)) == 2, within=BOUND)
        await eventually(lambda: here.stats().reconnects_total + there.stats().reconnects_total == 2, within=BOUND)
        await _rings(here, there)
        await _rings(there, here)
        assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_what_is_sent_while_the_socket_is_missing_comes(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(here, there)
        channel = await there.new_channel()
        for found in _sockets(tmp_path):
            found.unlink()
        for number in range(20):
            await here.send(channel, {"type": "n", "n": number})
        got = [(await asyncio.wait_for(there.receive(channel), BOUND))["n"] for _ in range(20)]
        assert got == list(range(20))


async def test_a_node_that_cannot_be_rung_is_told_to_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell.Doorbell, "ring", lambda self, address, ring=b"": doorbell.Rung.UNREACHABLE)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=0.02), layers(path, polling_interval=0.02)
        await reaches(here, there)
        await reaches(there, here)
        assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_a_foreign_file_where_a_socket_was_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        await reaches(layers(path), layers(path))
        precious = _sockets(tmp_path)[0]
        precious.unlink()
        precious.write_text("precious")
    assert precious.read_text() == "precious"


async def test_a_layer_closed_before_it_made_its_socket_again_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer = layers(path)
        await layer.new_channel()
        layer._hub.context.sink.lost(TransportUnavailable("made up"))
        await eventually(lambda: layer.health().state is State.AWAY, within=BOUND)
        await layer.close()
        assert _sockets(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_child_does_not_keep_the_parents_socket(tmp_path: Path) -> None:
    """Else a process that was killed would count as alive for as long as a child of it lives."""
    async with layers_closed() as layers:
        layer = layers(tmp_path / "x.sqlite3")
        waiting = asyncio.create_task(layer.receive(await layer.new_channel()))
        hub = layer._hub
        await eventually(lambda: hub.doorwatch is not None and hub.doorwatch.watcher is waiting.get_loop())
        of_parent = os.fstat(hub.transport.doorbell()).st_ino  # type: ignore[attr-defined]
        child = os.fork()
        if child == 0:
            os._exit(of_parent in _open_inodes())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222
        assert of_parent in _open_inodes()
        waiting.cancel()


def _open_inodes() -> set[int]:
    inodes: set[int] = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor of the listing itself
            inodes.add(os.fstat(int(name)).st_ino)
    return inodes
