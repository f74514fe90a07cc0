"""Processes that reach one file by different ways wake each other, or it is said that they poll, and why."""

import asyncio
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.sqlite import doorbell
from tests.integration.sqlite.bad_input import BOUND, layers_closed, reaches, run_child
from tests.integration.sqlite.test_neighbours import NEVER, rings


def _link_to_the_file(path: Path) -> Path:
    link = path.parent / "link.sqlite3"
    link.symlink_to(path)
    return link


def _link_in_another_directory(path: Path) -> Path:
    other = path.parent / "other"
    other.mkdir()
    link = other / "link.sqlite3"
    link.symlink_to(os.path.relpath(path, other))
    return link


def _link_to_the_directory(path: Path) -> Path:
    link = path.parent.parent / "data-link"
    link.symlink_to(path.parent)
    return link / path.name


def _way_round(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


WAYS = [_link_to_the_file, _link_in_another_directory, _link_to_the_directory, _way_round]


@pytest.mark.parametrize("name", ["x.sqlite3", "x" * 200 + ".sqlite3"], ids=["short", "long"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_links_lead_to_the_same_sockets(way: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.touch()
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=NEVER), layers(way(path), polling_interval=NEVER)
        await rings(here, there)
        await rings(there, here)
        assert here.health().detail == there.health().detail == ""
    assert [found for found in tmp_path.rglob("*") if found.is_socket()] == []


async def test_a_link_that_is_set_to_another_file_takes_the_sockets_along(tmp_path: Path) -> None:
    one, two, link = (tmp_path / name / "x.sqlite3" for name in ("one", "two", "link"))
    for path in (one, two, link):
        path.parent.mkdir()
    link.symlink_to(one)
    async with layers_closed() as layers:
        here = layers(link, polling_interval=NEVER)
        await reaches(here, here)
        there = layers(two, polling_interval=NEVER)
        await reaches(there, there)
        link.unlink()
        link.symlink_to(two)
        await eventually(lambda: here.stats().gaps_total == 1, within=BOUND)
        await rings(here, there)
        await rings(there, here)
        assert [found for found in one.parent.iterdir() if found.is_socket()] == []


@pytest.mark.parametrize(("mode", "admitted"), [(0o600, 0o600), (0o660, 0o660), (0o666, 0o666), (0o644, 0o600)])
async def test_who_may_write_the_file_may_ring(mode: int, admitted: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    path.touch()
    path.chmod(mode)
    async with layers_closed() as layers:
        await layers(path).new_channel()
        await eventually(lambda: any(found.is_socket() for found in tmp_path.iterdir()), within=BOUND)
        [found] = [found for found in tmp_path.iterdir() if found.is_socket()]
        assert stat.S_IMODE(found.stat().st_mode) == admitted
        assert found.stat().st_gid == path.stat().st_gid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_a_process_of_another_user_is_rung() -> None:
    """Both may write the file, as members of its group."""
    # Not tmp_path, which is in a directory for this user alone.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.sqlite3"
        path.touch()
        for found, mode in ((path, 0o660), (path.parent, 0o770)):
            os.chown(found, 0, 12_345)
            found.chmod(mode)
        await _is_rung_by_another_user(path)


async def _is_rung_by_another_user(path: Path) -> None:
    async with layers_closed() as layers:
        here = layers(path, polling_interval=NEVER)
        await here.new_channel()
        answers: asyncio.Future[list[str]] = asyncio.ensure_future(in_thread(lambda: run_child(_OTHER_USER, path)))
        channel = "from-the-other"
        asked = await asyncio.wait_for(here.receive(channel), BOUND)
        await here.send(asked["channel"], {"type": "to the other"})
        assert await asyncio.wait_for(here.receive(channel), BOUND) == {"type": "came"}
        assert await answers == ["", "", ""]
        assert here.health().detail == ""


_OTHER_USER = f"""
os.setgroups([12345])
os.setgid(23456)
os.setuid(23456)

async def main():
    layer = SQLiteChannelLayer(path=path, polling_interval={NEVER})
    channel = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive(channel))
    await layer.send("from-the-other", {{"type": "x", "channel": channel}})
    await asyncio.wait_for(waiting, 60)
    await layer.send("from-the-other", {{"type": "came"}})
    detail = layer.health().detail
    await layer.close()
    return [detail, "", ""]
"""


async def test_that_a_socket_cannot_be_reached_is_said_by_both_and_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, polling_interval=0.02), layers(path, polling_interval=0.02)
        await reaches(here, there)
        of_there = there._hub.transport._doorbell.address  # type: ignore[attr-defined]
        connected = doorbell.Doorbell._connected

        def refuse(self: doorbell.Doorbell, line: object, address: str) -> doorbell.Rung:
            if address != of_there:
                return connected(self, line, address)  # type: ignore[arg-type]
            self.failure = 13
            return doorbell.Rung.UNREACHABLE

        monkeypatch.setattr(doorbell.Doorbell, "_connected", refuse)
        monkeypatch.setattr(doorbell.Doorbell, "probe", lambda self, address: doorbell.Rung.UNREACHABLE)
        for layer in (here, there):
            layer._hub.transport._doorbell.hang_up(())  # type: ignore[attr-defined]
        await reaches(here, there)
        cannot = "the sockets of 1 other processes cannot be reached from this one (Permission denied)"
        await eventually(lambda: cannot in here.health().detail, within=BOUND)
        polls = "this process polls for messages, as another one cannot reach its socket (Permission denied)"
        await eventually(lambda: polls in there.health().detail, within=BOUND)
        assert here.health().state == there.health().state == "ok"
        assert caplog.text.count(cannot) == caplog.text.count(polls) == 1
        await reaches(here, there)
        monkeypatch.undo()
        await eventually(lambda: here.health().detail == there.health().detail == "", within=3 * BOUND)
        assert here.stats().gaps_total == there.stats().gaps_total == 0


async def test_that_there_is_no_socket_is_said_and_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "no sockets here")

    monkeypatch.setattr(os, "fchmod", refuse)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = (layers(path, polling_interval=0.02) for _ in range(2))
        await reaches(here, there)
        text = "this process polls for messages: no socket can be made for it (no sockets here)"
        await eventually(lambda: here.health().detail == there.health().detail == text, within=BOUND)
        assert text in caplog.text
        monkeypatch.undo()
        await eventually(lambda: here.health().detail == there.health().detail == "", within=BOUND)
        await eventually(lambda: len([found for found in tmp_path.iterdir() if found.is_socket()]) == 2, within=BOUND)
        await reaches(here, there)


async def test_that_a_file_has_several_names_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer = layers(path)
        await reaches(layer, layer)
        os.link(path, tmp_path / "y.sqlite3")
        await eventually(lambda: "has 2 names (hard links)" in layer.health().detail, within=BOUND)
        assert "use symbolic links" in caplog.text
