"""Disks that are full and files that may only be read: senders are told why, receivers wait, and it goes on afterwards.

What needs limits or rights of its own runs in a child process. A full disk is a limit on the size of files, or on the
pages of the database, so that no rights are needed to bring it about; where a file system can be mounted in a private
namespace, a real one is filled as well.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, run_child

pytestmark = pytest.mark.timeout(240)

CAN_UNSHARE = (
    sys.platform == "linux"
    and subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False).returncode
    == 0
)


# --- full


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Path]:
    """A Django database that may have 60 pages and no more."""
    path = tmp_path / "limited.sqlite3"
    settings = connections.configure_settings(
        {
            "default": connections.settings["default"],
            "limited": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(path),
                "OPTIONS": {"init_command": "PRAGMA max_page_count=60"},
            },
        }
    )
    before = dict(connections.settings)
    connections.settings.update(settings)
    yield path
    connections.settings.clear()
    connections.settings.update(before)
    if "limited" in connections:
        del connections["limited"]


async def _fill(layer: SQLiteChannelLayer, sent: list[int]) -> None:
    for number in range(1_000):
        await asyncio.wait_for(layer.send("jobs", {"type": "x", "text": "swordfish" * 400}), BOUND)
        sent.append(number)


async def test_a_database_that_has_reached_its_limit(limited: Path, tmp_path: Path) -> None:
    async with layers_closed() as layers:
        layer = layers(database="limited", capacity=10_000)
        bystander = layers(tmp_path / "other.sqlite3")
        waiting = asyncio.create_task(layer.receive("other-jobs"))
        sent: list[int] = []
        with pytest.raises(TransportUnavailable, match="the disk is full") as caught:
            await _fill(layer, sent)
        assert str(limited) in str(caught.value)
        assert "swordfish" not in str(caught.value)
        assert len(sent) > 10
        assert not waiting.done()
        await proves_itself(bystander)
        # What was accepted is there, and taking it makes room.
        for _ in sent:
            assert (await asyncio.wait_for(layer.receive("jobs"), BOUND))["type"] == "x"
        await layer.send("other-jobs", {"type": "y"})
        assert await asyncio.wait_for(waiting, BOUND) == {"type": "y"}
        await eventually(lambda: layer.health().state is State.OK, within=BOUND)


FULL_BY_LIMIT = """
import resource, signal

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    layer = SQLiteChannelLayer(path=path, capacity=10**6)
    bystander = SQLiteChannelLayer(path=path + ".other")
    await proves_itself(layer)
    size = os.path.getsize(path + "-wal") + 200_000
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    waiting = asyncio.create_task(layer.receive("other-jobs"))
    sent, failure = 0, ["", "", 0]
    while not failure[0] and sent < 5000:
        failure = await attempt(layer.send("jobs", {"type": "x", "text": "y" * 2000}))
        sent += not failure[0]
    still_waiting = not waiting.done()
    await proves_itself(bystander)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    got = 0
    while got < sent:
        assert (await asyncio.wait_for(layer.receive("jobs"), 20))["type"] == "x"
        got += 1
    await layer.send("other-jobs", {"type": "z"})
    assert await asyncio.wait_for(waiting, 20) == {"type": "z"}
    await proves_itself(layer)
    await layer.close()
    await bystander.close()
    return {"sent": sent, "failure": failure, "still_waiting": still_waiting}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are a matter of Unix")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    found = run_child(FULL_BY_LIMIT, tmp_path / "x.sqlite3")

    assert found["sent"] > 2
    assert found["still_waiting"]
    kind, text, seconds = found["failure"]
    assert kind == "TransportUnavailable"
    assert f"SQLite file {tmp_path}/x.sqlite3: " in text
    assert "the file system failed" in text or "the disk is full" in text
    assert seconds < 20


FULL_DISK = """
import subprocess

async def main():
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", path], check=True)
    layer = SQLiteChannelLayer(path=path + "/x.sqlite3", capacity=10**6)
    bystander = SQLiteChannelLayer(path=path + ".other")
    await proves_itself(layer)
    sent, failure = 0, ["", "", 0]
    with open(path + "/ballast", "wb") as ballast:
        ballast.write(bytes(22_000_000))
    while not failure[0] and sent < 5000:
        failure = await attempt(layer.send("jobs", {"type": "x", "text": "y" * 2000}))
        sent += not failure[0]
    jobs = await attempt(layer.send("jobs", {"type": "x", "text": "y" * 2000}))
    await proves_itself(bystander)
    os.unlink(path + "/ballast")
    for _ in range(sent):
        assert (await asyncio.wait_for(layer.receive("jobs"), 20))["type"] == "x"
    await proves_itself(layer)
    await layer.close()
    await bystander.close()
    return {"sent": sent, "failure": failure, "jobs": jobs}
"""


@pytest.mark.skipif(not CAN_UNSHARE, reason="needs a mount namespace of its own")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    directory = tmp_path / "disk"
    directory.mkdir()

    found = run_child(FULL_DISK, directory, wrapper=("unshare", "--mount", "--map-root-user"))

    assert found["sent"] > 2
    for kind, text, seconds in (found["failure"], found["jobs"]):
        assert kind == "TransportUnavailable"
        assert f"SQLite file {directory}/x.sqlite3: the disk is full" in text
        assert seconds < 20


# --- read-only

READ_ONLY_DISK = """
import subprocess

async def main():
    writable = SQLiteChannelLayer(path=path + "/x.sqlite3")
    await proves_itself(writable)
    await writable.close()
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
    layer = SQLiteChannelLayer(path=path + "/x.sqlite3")
    outcomes = [await attempt(layer.send("jobs", {"type": "x"})), await attempt(layer.receive("jobs"))]
    bystander = SQLiteChannelLayer(path=path + ".other")
    await proves_itself(bystander)
    subprocess.run(["umount", path], check=True)
    await asyncio.sleep(0)
    for _ in range(100):
        outcome = await attempt(layer.send("jobs", {"type": "x"}))
        if not outcome[0]:
            break
    await proves_itself(layer)
    await layer.close()
    await bystander.close()
    return outcomes
"""


@pytest.mark.skipif(not CAN_UNSHARE, reason="needs a mount namespace of its own")
def test_a_file_system_that_may_only_be_read(tmp_path: Path) -> None:
    directory = tmp_path / "disk"
    directory.mkdir()

    outcomes = run_child(READ_ONLY_DISK, directory, wrapper=("unshare", "--mount", "--map-root-user"))

    for kind, text, seconds in outcomes:
        assert kind == "OptionsError"
        assert text == (
            f"SQLite file {directory}/x.sqlite3: the directory {directory} cannot be written by this process; SQLite "
            f"makes files beside the database there"
        )
        assert seconds < 20


AS_ANOTHER_USER = """
async def main():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    layer = SQLiteChannelLayer(path=path)
    outcomes = [await attempt(layer.send("jobs", {"type": "x"})), await attempt(layer.receive("jobs"))]
    await layer.close()
    return outcomes
"""


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that another user may enter; pytest closes its own whenever another run of it begins."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _only_readable(folder: Path) -> Path:
    path = folder / "public" / "x.sqlite3"
    path.parent.mkdir(mode=0o777)
    path.parent.chmod(0o777)
    path.touch()
    path.chmod(0o444)
    return path


def _unreadable(folder: Path) -> Path:
    path = _only_readable(folder)
    path.chmod(0)
    return path


def _in_a_closed_directory(folder: Path) -> Path:
    path = _only_readable(folder)
    path.chmod(0o666)
    path.parent.chmod(0o555)
    return path


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (_only_readable, "SQLite file {path}: this process may not read and write it"),
        (_unreadable, "SQLite file {path}: this process may not read and write it"),
        (_in_a_closed_directory, "SQLite file {path}: the directory {parent} cannot be written by this process"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="rights of files are a matter of Unix")
def test_files_of_other_users(prepare: Any, text: str, passable: Path) -> None:
    path: Path = prepare(passable)
    try:
        outcomes = run_child(AS_ANOTHER_USER, path)
    finally:
        path.parent.chmod(0o755)

    for kind, said, seconds in outcomes:
        assert kind == "OptionsError"
        assert said.startswith(text.format(path=path, parent=path.parent))
        assert seconds < 20
