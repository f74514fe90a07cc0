"""docs/reference/errors.md stays true: each of its rows is brought about here, or by a test that is named here."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import ChannelFull, MessageTooLarge

from channels_trunk import config, exceptions
from channels_trunk.layers import SQLiteChannelLayer
from tests.integration.sqlite.bad_input import BOUND, holding_lock, layers_closed
from tests.plugins.impatience import impatient

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
A_NODE = "specific.tkaaaaaaaaaaaaaaaa!1"
X = {"type": "x"}

Row = tuple[str, str, str]
Provoke = Callable[[Path], Awaitable[Any]]


def _rows() -> Iterator[Row]:
    """The rows that name an error: what is wrong, the class, the text."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"\| (.+?) \| `([A-Z]\w+)` \| `(.+)` \|", line)
        if found is not None:
            yield found.group(1), found.group(2), found.group(3)


def _made(**config: Any) -> Provoke:
    async def provoke(tmp_path: Path) -> None:
        SQLiteChannelLayer(**config)

    return provoke


def _called(call: Callable[[SQLiteChannelLayer], Awaitable[Any]], **config: Any) -> Provoke:
    async def provoke(tmp_path: Path) -> None:
        async with layers_closed() as layers:
            await asyncio.wait_for(call(layers(tmp_path / "x.sqlite3", **config)), BOUND)

    return provoke


def _sent(message: Any, **config: Any) -> Provoke:
    return _called(lambda layer: layer.send("jobs", message), **config)


async def _fill(layer: SQLiteChannelLayer) -> None:
    for _ in range(2):
        await layer.send("jobs", X)


async def _receive_elsewhere(layer: SQLiteChannelLayer) -> None:
    await layer.receive(A_NODE)


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def _locked(tmp_path: Path) -> None:
    async with layers_closed() as layers:
        layer = layers(tmp_path / "x.sqlite3")
        await layer.new_channel()
        with holding_lock(tmp_path / "x.sqlite3"), impatient(layer, 0.2):
            await asyncio.wait_for(layer.send("jobs", X), BOUND)


async def _other_keys(tmp_path: Path) -> None:
    async with layers_closed() as layers:
        here, there = (layers(tmp_path / "x.sqlite3", symmetric_encryption_keys=[key]) for key in "ab")
        await here.new_channel()
        channel = await there.new_channel()
        with impatient(here, 0.5):
            await asyncio.wait_for(here.group_add("room", channel), BOUND)


async def _in_no_directory(tmp_path: Path) -> None:
    await _sent(X)(tmp_path / "missing")


async def _a_directory(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").mkdir()
    await _sent(X)(tmp_path)


async def _no_database(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_text("notes " * 1_000)
    await _sent(X)(tmp_path)


def _configured(url: Any) -> Provoke:
    async def provoke(tmp_path: Path) -> None:
        config(url)

    return provoke


_BEHIND_MEMORY = "more than options behind `memory://`"
_OF_REDIS = "an option of channels_redis alone (`hosts`, `random_prefix_length`, `on_disconnect`, `on_reconnect`)"
PROVOKED: dict[str, Provoke] = {
    "unknown option": _made(capactiy=5),
    "an option that is like none": _made(colour=5),
    _OF_REDIS: _made(hosts=["redis://localhost"]),
    "a URL that is no string": _configured(None),
    "an empty URL": _configured(" "),
    "what is no URL": _configured("channels.sqlite3"),
    "a URL with another scheme": _configured("redis://cache/1"),
    "a slip in the scheme": _configured("postgress://db/app"),
    "a sign in the URL that has to be written otherwise": _configured("postgres://me:a#b@db/app"),
    "an unknown option in the URL": _configured("sqlite:///x?capactiy=5"),
    "an option in the URL that neither the layer nor libpq knows": _configured("postgres://db/app?colour=5"),
    "a wrong value in the URL": _configured("memory://?capacity=0"),
    "a SQLite path behind two slashes": _configured("sqlite://x"),
    "a URL of SQLite in memory": _configured("sqlite:///:memory:"),
    "more than an alias behind `database://`": _configured("database://news/x"),
    _BEHIND_MEMORY: _configured("memory://host"),
    "wrong value": _made(capacity=0),
    "wrong chance": _made(resilience={"drop": 1.5}),
    "unknown serializer": _made(serializer_format="pickle"),
    "one key and no list": _made(symmetric_encryption_keys="key"),
    "both `database` and `path`": _made(database="default", path="x"),
    "unknown database": _made(database="nope"),
    "a database in memory as `path`": _made(path=":memory:"),
    "no such directory": _in_no_directory,
    "the path is a directory": _a_directory,
    "not a database": _no_database,
    "the file is locked for longer than `send_timeout`": _locked,
    "another process does not answer, or has other keys": _other_keys,
    "a bad name": _called(lambda layer: layer.send("a b", X)),
    "a message that is no dict": _sent([X]),
    "a value that cannot be packed": _sent({"user": object()}),
    "a key that is no string": _sent({"rooms": {7: "x"}}),
    "lists or dicts in each other, more than 100 deep": _sent({"tree": _nested(100)}),
    "a number that is too large": _sent({"n": 10**30}),
    "bytes with `serializer_format` `json`": _sent({"data": b"x"}, serializer_format="json"),
    "a message that is too large": _sent({"text": "x" * 100}, max_message_size=50),
    "a full channel": _called(_fill, capacity=1),
    "receiving from another process's channel": _called(_receive_elsewhere),
}
ELSEWHERE = {
    "the directory, or its file system, is read-only": "test_files_disk.py",
    "the file belongs to somebody else": "test_files_disk.py",
    "damaged or truncated": "test_files.py",
    "written by a later version": "test_files.py",
    "SQLite is too old": "test_files.py",
    "the disk is full": "test_files_disk.py",
}
# Those that do not concern SQLite, with the tests that provoke them.
_POSTGRES = "../postgres/test_bad_settings.py"
_DATABASE = "../database/test_troubles.py"
OF_OTHERS = {
    "`send_on_commit` in an event loop": "../on_commit/test_failures.py",
    "`dsn` and others": _POSTGRES,
    "an unusable `dsn`": _POSTGRES,
    "no name": _POSTGRES,
    "a `search_path` that leads to a schema with quotes, braces, `%` or `$` in its name": _POSTGRES,
    "another engine": _POSTGRES,
    "an unknown key in `OPTIONS`": _POSTGRES,
    "no tables, and `auto_create` is `False`": _POSTGRES,
    "a role without rights": _POSTGRES,
    "no schema": _POSTGRES,
    "a `schema` that is not there": _POSTGRES,
    "tables of a later version": _POSTGRES,
    "a server before 12": "../../../src/channels_trunk/transports/postgres/connecting.py",  # there is none to test with
    "a pool of transactions, and another isolation level": "../postgres/test_pgbouncer.py",
    "the same for `DatabaseChannelLayer`, perhaps by the sender's own transaction": _DATABASE,
    "an alias that is not there": _DATABASE,
    "the database's driver is not installed, or its `ENGINE` is wrong": _DATABASE,
    "the app is not installed": _DATABASE,
    "no tables, or old ones": _DATABASE,
    "a message that is larger than the engine takes": "../../faults/test_too_large.py",
    "the engine takes connections and does not answer": "../../faults/test_hanging_calls.py",
    "a URL of PostgreSQL without psycopg": "../../unit/test_config.py",
    "a test that may not use the database": "../test_runs/runs.py",
    "the layer is used after the tests": "../../unit/test_test_databases.py",
    "somebody waits in `receive()` when it is dropped": "../../unit/test_test_databases.py",
}


def test_every_row_is_provoked_here_or_elsewhere() -> None:
    assert {row[0] for row in _rows()} == PROVOKED.keys() | ELSEWHERE.keys() | OF_OTHERS.keys()


@pytest.mark.parametrize("row", [row for row in _rows() if row[0] in OF_OTHERS], ids=lambda row: row[0])
def test_the_classes_of_the_others_are_those_in_the_test_that_provokes_them(row: Row) -> None:
    what, kind, _text = row
    assert kind in (Path(__file__).parent / OF_OTHERS[what]).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", [row for row in _rows() if row[0] in PROVOKED], ids=lambda row: row[0])
async def test_the_error_is_the_one_that_the_page_shows(row: Row, tmp_path: Path) -> None:
    what, kind, text = row
    with pytest.raises((exceptions.ChannelLayerError, TypeError, ChannelFull, MessageTooLarge)) as caught:
        await PROVOKED[what](tmp_path)
    assert type(caught.value).__name__ == kind
    pattern = ".*".join(re.escape(part) for part in text.split("..."))
    assert re.fullmatch(pattern if text.endswith("...") else f"{pattern}.*", str(caught.value))


@pytest.mark.parametrize("row", [row for row in _rows() if row[0] in ELSEWHERE], ids=lambda row: row[0])
def test_the_texts_of_the_others_begin_as_in_the_test_that_provokes_them(row: Row) -> None:
    what, kind, text = row
    test = re.sub(r"\\|\"\s*\n?\s*f?r?\"", "", (Path(__file__).parent / ELSEWHERE[what]).read_text(encoding="utf-8"))
    assert kind in test
    beginning = text.removeprefix("SQLite file ...: ").partition("...")[0]
    assert beginning[:40].strip() in test


def test_the_tree_of_classes_is_the_one_in_the_code() -> None:
    shown = re.search(r"```text\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    parents: dict[int, str] = {}
    for line in shown.group(1).splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 4
        parents[depth] = name
        if depth:
            assert getattr(exceptions, name).__mro__[1] is getattr(exceptions, parents[depth - 1])
        for other in re.findall(r"also an? (\w+)", line):
            assert other in [base.__name__ for base in getattr(exceptions, name).__mro__]
    assert set(re.findall(r"\w+(?=[\s(])", shown.group(1))) >= set(exceptions.__all__)
