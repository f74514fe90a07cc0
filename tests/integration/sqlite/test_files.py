"""Files that cannot be used: the error comes soon, says what to do, harms nobody, and goes away with its cause."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.exceptions import OptionsError, SchemaMismatch, TransportError
from channels_trunk.health import State
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself
from tests.plugins.impatience import impatient

pytestmark = pytest.mark.timeout(240)


# --- what is made wrong, each returning the path for the layer, and how to mend it

Mend = Callable[[], object]


def _missing_directory(tmp_path: Path) -> tuple[Path, Mend]:
    return tmp_path / "missing" / "x.sqlite3", (tmp_path / "missing").mkdir


def _directory(tmp_path: Path) -> tuple[Path, Mend]:
    path = tmp_path / "x.sqlite3"
    path.mkdir()
    return path, path.rmdir


def _file_as_directory(tmp_path: Path) -> tuple[Path, Mend]:
    obstacle = tmp_path / "obstacle"
    obstacle.touch()

    def mend() -> None:
        obstacle.unlink()
        obstacle.mkdir()

    return obstacle / "x.sqlite3", mend


def _no_database(tmp_path: Path) -> tuple[Path, Mend]:
    path = tmp_path / "x.sqlite3"
    path.write_text("These are notes, and no database. " * 200)
    return path, path.unlink


def _made(path: Path) -> Path:
    """A database with the layer's tables and some rows, closed."""

    async def use() -> None:
        async with layers_closed() as layers:
            layer = layers(path, capacity=1000)
            for number in range(200):
                await layer.send("jobs", {"type": "x", "n": number, "text": "y" * 200})

    asyncio.run(use())
    return path


def _damaged(tmp_path: Path) -> tuple[Path, Mend]:
    path = _made(tmp_path / "x.sqlite3")
    with path.open("r+b") as file:
        file.seek(100)  # behind the header that says "SQLite"
        file.write(b"\xa5" * 8000)
    return path, path.unlink


def _truncated(tmp_path: Path) -> tuple[Path, Mend]:
    path = _made(tmp_path / "x.sqlite3")
    os.truncate(path, 1500)
    return path, path.unlink


def _newer(tmp_path: Path) -> tuple[Path, Mend]:
    path = _made(tmp_path / "x.sqlite3")

    def set_version(version: int) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE trunk_meta SET value = ? WHERE name = 'schema_version'", (version,))

    set_version(999)
    return path, lambda: set_version(1)


CASES: list[tuple[Callable[[Path], tuple[Path, Mend]], type[Exception], str]] = [
    (_missing_directory, OptionsError, "the directory {parent} does not exist; create it"),
    (_directory, OptionsError, "SQLite file {path}: that is a directory; name a file in it"),
    (_file_as_directory, OptionsError, "the directory {parent} does not exist; create it"),
    (_no_database, TransportError, "SQLite file {path}: the file is not a SQLite database (or is encrypted)"),
    (_damaged, TransportError, "SQLite file {path}: the file is damaged; stop every process that uses it and delete"),
    (_truncated, TransportError, "SQLite file {path}: the file is damaged; stop every process that uses it and delete"),
    (
        _newer,
        SchemaMismatch,
        "SQLite file {path}: its tables are of version 999, and this channels-trunk knows 1: upgrade channels-trunk in",
    ),
]

CALLS: dict[str, Callable[[SQLiteChannelLayer], Awaitable[Any]]] = {
    "send": lambda layer: layer.send("jobs", {"type": "x"}),
    "group_send": lambda layer: layer.group_send("room", {"type": "x"}),
    "group_add": lambda layer: layer.group_add("room", "jobs"),
    "group_discard": lambda layer: layer.group_discard("room", "jobs"),
    "new_channel": lambda layer: layer.new_channel(),
    "receive": lambda layer: layer.receive("jobs"),
    "flush": lambda layer: layer.flush(),
    "sync.send": lambda layer: in_thread(lambda: layer.sync.send("jobs", {"type": "x"})),
    "sync.receive": lambda layer: in_thread(lambda: layer.sync.receive("jobs", BOUND)),
    "sync.flush": lambda layer: in_thread(layer.sync.flush),
}


async def _at_rest(layer: SQLiteChannelLayer) -> None:
    """Until the hub's thread has ended a call may still be answered with what the last attempt found."""
    node = layer.stats().node
    await eventually(lambda: not any(thread.name.endswith(node) for thread in threading.enumerate()), within=BOUND)


@pytest.mark.parametrize(("prepare", "kind", "text"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_call_says_what_is_wrong_and_works_once_it_is_mended(
    prepare: Callable[[Path], tuple[Path, Mend]], kind: type[Exception], text: str, tmp_path: Path
) -> None:
    path, mend = prepare(tmp_path)

    async def use() -> None:
        async with layers_closed() as layers:
            bystander, layer = layers(tmp_path / "good.sqlite3"), layers(path)
            for name, call in CALLS.items():
                with pytest.raises(kind) as caught:
                    await asyncio.wait_for(call(layer), BOUND)
                assert text.format(path=path, parent=path.parent) in str(caught.value), name
                assert type(caught.value) is kind, name
                await _at_rest(layer)
                assert layer.health().state is State.FAILED
                assert text.format(path=path, parent=path.parent) in layer.health().detail
            await proves_itself(bystander)
            mend()
            await proves_itself(layer)
            assert layer.health().state is State.OK

    asyncio.run(use())


def test_a_receiver_that_waits_is_told(tmp_path: Path) -> None:
    async def use() -> None:
        async with layers_closed() as layers:
            layer = layers(tmp_path / "missing" / "x.sqlite3")
            receivers = [asyncio.create_task(layer.receive(f"jobs-{n}")) for n in range(3)]
            outcomes = await asyncio.wait_for(asyncio.gather(*receivers, return_exceptions=True), BOUND)
            assert [type(outcome) for outcome in outcomes] == [OptionsError] * 3

    asyncio.run(use())


@pytest.mark.parametrize("config", [{"database": "nope"}, {"database": "default", "path": "x"}])
def test_databases_that_do_not_do_are_refused_when_the_layer_is_made(config: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=r"is not in DATABASES; known: default|give 'database' or 'path', not both"):
        SQLiteChannelLayer(**config)


async def test_a_sqlite_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    async with layers_closed() as layers:
        layer = layers(tmp_path / "x.sqlite3")
        with pytest.raises(
            TransportError, match=r"^SQLite 3\.34\.1 is too old: channels-trunk needs 3\.35\.0 or newer"
        ):
            await asyncio.wait_for(layer.send("jobs", {"type": "x"}), BOUND)
        assert list(tmp_path.iterdir()) == []
        await _at_rest(layer)
        monkeypatch.undo()
        await proves_itself(layer)


async def test_a_table_of_somebody_elses_of_our_name_is_an_error_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE trunk_meta (their_own TEXT)")
    async with layers_closed() as layers:
        layer = layers(path)
        waiting = asyncio.create_task(layer.receive("jobs"))
        await eventually(lambda: "no such column" in layer.health().detail, within=BOUND)
        with impatient(layer, 0.5), pytest.raises(TransportError, match="no such column"):
            await asyncio.wait_for(layer.send("jobs", {"type": "x"}), BOUND)
        waiting.cancel()


async def test_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from channels_trunk.transports.sqlite import transport

    monkeypatch.setattr(transport, "file_system_of", lambda path: "nfs4")
    async with layers_closed() as layers:
        await proves_itself(layers(tmp_path / "x.sqlite3"))

    [record] = [record for record in caplog.records if "network file system" in record.message]
    assert record.message == f"SQLite file {tmp_path}/x.sqlite3 is on a network file system (nfs4); use a local disk"


def test_a_failed_open_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path, _ = _no_database(tmp_path)
    before = path.read_bytes()

    async def use() -> None:
        async with layers_closed() as layers:
            with pytest.raises(TransportError):
                await layers(path).send("jobs", {"type": "x"})

    asyncio.run(use())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before
