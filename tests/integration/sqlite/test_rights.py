"""Who may use a file that the layer has made: its user alone, or whom `file_mode` admits, who are rung as well."""

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.exceptions import OptionsError
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.commands import in_thread
from tests.integration.sqlite.bad_input import BOUND, Layers, layers_closed, proves_itself, run_child
from tests.integration.sqlite.test_neighbours import NEVER, rings

by_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become others")

GROUP, ONE, OTHER = 12_345, 23_456, 34_567


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that every user may enter and write; pytest's own are for this user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda umask: f"umask-{umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def _modes(directory: Path) -> dict[str, int]:
    """The rights of what is in a directory, by what follows the file's name."""
    names = {path: path.name.partition(".sqlite3")[2] for path in directory.iterdir() if not path.is_dir()}
    return {
        ".tk" if name.startswith(".tk") else name: stat.S_IMODE(path.lstat().st_mode) for path, name in names.items()
    }


async def _used(layers: Layers, path: Path, **config: Any) -> dict[str, int]:
    here, there = layers(path, polling_interval=NEVER, **config), layers(path, polling_interval=NEVER, **config)
    await rings(here, there)
    await proves_itself(there)
    return _modes(path.parent)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({}, 0o600),
        ({"file_mode": 0o600}, 0o600),
        ({"file_mode": 0o660}, 0o660),
        ({"file_mode": "0660"}, 0o660),
        ({"file_mode": "0o666"}, 0o666),
    ],
)
async def test_a_new_file_and_all_that_is_beside_it(config: dict[str, Any], mode: int, tmp_path: Path) -> None:
    async with layers_closed() as layers:
        modes = await _used(layers, tmp_path / "x.sqlite3", **config)
    assert modes == {"": mode, "-wal": mode, "-shm": mode, ".tk": mode}


@pytest.mark.usefixtures("umask")
async def test_a_new_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "x.sqlite3").symlink_to(tmp_path / "there" / "y.sqlite3")
    async with layers_closed() as layers:
        await layers(tmp_path / "x.sqlite3").new_channel()
        await _used(layers, tmp_path / "x.sqlite3")
        assert set(_modes(tmp_path / "there").values()) == {0o600}


async def test_the_folder_of_sockets_that_find_no_place_beside_the_file(tmp_path: Path) -> None:
    async with layers_closed() as layers:
        layer = layers(tmp_path / ("x" * 230 + ".sqlite3"), file_mode=0o666)
        await layer.new_channel()
        await proves_itself(layer)
        socket = Path(layer._hub.transport._doorbell.address)  # type: ignore[attr-defined]
        assert socket.is_socket()
        assert socket.parent != tmp_path
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666])
@pytest.mark.parametrize("config", [{}, {"file_mode": 0o600}, {"file_mode": 0o666}], ids=str)
async def test_a_file_that_is_there_keeps_its_rights(config: dict[str, Any], mode: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    path.touch()
    path.chmod(mode)
    async with layers_closed() as layers:
        modes = await _used(layers, path, **config)
        assert modes[""] == mode
        # Who may not write to the file may not ring either.
        assert modes[".tk"] == {0o640: 0o600, 0o644: 0o600}.get(mode, mode)


def test_the_mode_of_an_applications_file_is_the_applications() -> None:
    with pytest.raises(OptionsError, match=r"with 'database' the file is the application's; set its mode yourself"):
        SQLiteChannelLayer(database="default", file_mode=0o660)


_AS = """
from importlib import resources
resources.files("channels_trunk")  # the other user may not be able to read what is Python's
os.setgroups([{group}])
os.setgid({user})
os.setuid({user})
os.umask(0o022)
"""


@by_root
async def test_another_user_is_refused(passable: Path) -> None:
    path = passable / "x.sqlite3"
    code = (
        _AS.format(user=OTHER, group=GROUP)
        + """
async def main():
    import glob, socket
    [address] = glob.glob(path + ".tk*")
    refused = []
    for file in (path, path + "-wal", path + "-shm"):
        try:
            open(file, "rb")
        except PermissionError:
            refused.append(os.path.basename(file))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        try:
            line.sendto(b"!", address)
        except PermissionError:
            refused.append("socket")
    layer = SQLiteChannelLayer(path=path)
    outcome = await attempt(layer.send("jobs", {"type": "x"}))
    await layer.close()
    return [refused, outcome[:2]]
"""
    )
    async with layers_closed() as layers:
        await proves_itself(layers(path))
        refused, outcome = await in_thread(lambda: run_child(code, path))
    assert refused == ["x.sqlite3", "x.sqlite3-wal", "x.sqlite3-shm", "socket"]
    assert outcome == ["OptionsError", f"SQLite file {path}: this process may not read and write it"]


# They say to each other what each of them hears by a ring alone: of a normal channel, and of one of its own.
_ONE = """
async def main():
    layer = SQLiteChannelLayer(path=path, file_mode="0660", polling_interval=NEVER)
    await layer.send("to-other", {"type": "x"})
    asked = await layer.receive("to-one")
    await layer.send(asked["channel"], {"type": "came"})
    assert await layer.receive("to-one") == {"type": "came, too"}
    await layer.send(asked["channel"], {"type": "end"})
    detail = layer.health().detail
    await layer.close()
    return detail
"""
_OTHER = """
async def main():
    layer = SQLiteChannelLayer(path=path, file_mode="0660", polling_interval=NEVER)
    await layer.receive("to-other")
    channel = await layer.new_channel()
    waiting = asyncio.create_task(layer.receive(channel))
    await layer.send("to-one", {"type": "x", "channel": channel})
    assert await waiting == {"type": "came"}
    waiting = asyncio.create_task(layer.receive(channel))
    await layer.send("to-one", {"type": "came, too"})
    assert await waiting == {"type": "end"}
    detail = layer.health().detail
    await layer.close()
    return detail
"""

BOTH = ((_ONE, ONE), (_OTHER, OTHER))


async def _ends(code: str, path: Path) -> Any:
    return await in_thread(lambda: run_child(code, path))


@by_root
async def test_users_of_one_group_share_a_file_and_ring(passable: Path) -> None:
    """As the manual says: the folder's group is theirs, and so is that of all that is made in it."""
    os.chown(passable, 0, GROUP)
    passable.chmod(0o2770)
    path = passable / "x.sqlite3"
    # So long that nothing comes by a look.
    never = f"NEVER = {100 * BOUND}\n"
    outcomes = asyncio.gather(*(_ends(never + _AS.format(user=user, group=GROUP) + code, path) for code, user in BOTH))
    assert list(await asyncio.wait_for(outcomes, 4 * BOUND)) == ["", ""]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
