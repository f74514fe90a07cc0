"""What other programs do with the file while layers use it: copies, tidying, reading."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from channels_trunk.testing.commands import in_thread
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches

ROUNDS, ENOUGH = 10, 50


def _statements(*statements: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()

    return run


def _backup(path: Path) -> None:
    """As Litestream's, or the shell's .backup, which begin anew whenever somebody has written."""
    copy = path.with_name("copy")
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        assert target.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _vacuum_into(path: Path) -> None:
    copy = path.with_name("copy")
    copy.unlink(missing_ok=True)
    _statements(f"VACUUM INTO '{copy}'")(path)


def _copy_of_all_files(path: Path) -> None:
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", path.with_name(f"copy{suffix}"))


def _another_journal(path: Path) -> None:
    """SQLite refuses, as others have the file open."""
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _tables_of_the_application(path: Path) -> None:
    _statements("CREATE TABLE IF NOT EXISTS theirs (x)", "INSERT INTO theirs VALUES (1)", "DROP TABLE theirs")(path)


BESIDE = {
    "VACUUM": _statements("VACUUM"),
    "VACUUM INTO": _vacuum_into,
    "checkpoints": _statements("PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)"),
    "REINDEX and ANALYZE": _statements("REINDEX", "ANALYZE", "PRAGMA optimize"),
    "integrity_check": _statements("PRAGMA integrity_check", "SELECT count(*) FROM trunk_log"),
    "backup": _backup,
    "copies of the files": _copy_of_all_files,
    "another journal mode": _another_journal,
    "tables of the application": _tables_of_the_application,
}


@pytest.mark.parametrize("name", BESIDE)
async def test_beside_the_layer(name: str, tmp_path: Path) -> None:
    """Messages go on, in order, and none is lost or said to be."""
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = (layers(path, capacity=100_000, send_timeout=BOUND) for _ in range(2))
        await reaches(here, there)
        channel = await there.new_channel()
        is_over, sent = False, 0

        async def send() -> None:
            nonlocal sent
            while not is_over or sent < ENOUGH:
                await here.send(channel, {"type": "n", "n": sent})
                await here.send("jobs", {"type": "n", "n": sent})
                assert (await there.receive("jobs"))["n"] == sent
                sent += 1

        sending = asyncio.ensure_future(send())
        for _ in range(ROUNDS):
            await in_thread(partial(BESIDE[name], path))
        is_over = True
        async with asyncio.timeout(BOUND):
            await sending
            assert [(await there.receive(channel))["n"] for _ in range(sent)] == list(range(sent))
        assert here.stats().gaps_total == there.stats().gaps_total == 0
        await proves_itself(here)
