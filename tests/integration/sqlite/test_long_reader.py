"""Somebody who reads in one transaction for long keeps SQLite from using its WAL again: it grows, and that is said."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.sqlite import presence, transport, upkeep
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches

MIB = 1024 * 1024


async def test_a_long_reader_is_said_and_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_WAL_TOO_LARGE", 2 * MIB)
    monkeypatch.setattr(upkeep, "_RESTART_AFTER", MIB)
    monkeypatch.setattr(upkeep, "_FEW", MIB)
    monkeypatch.setattr(presence, "HEARTBEAT", 0.05)
    monkeypatch.setattr(transport, "HEARTBEAT", 0.2)
    path = tmp_path / "x.sqlite3"
    wal = tmp_path / "x.sqlite3-wal"
    said = (
        f"SQLite file {path}: its -wal grows beyond 2 MiB, as a connection of this or another program has been reading"
    )

    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(here, there)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM trunk_log").fetchone()

            async def write_until_said() -> bool:
                await here.send("jobs", {"type": "x", "text": 500_000 * "x"})
                await here.receive("jobs")
                return said in here.health().detail

            await eventually(write_until_said, within=2 * BOUND)
            assert here.health().state == "ok"
            await eventually(lambda: said in caplog.text, within=BOUND)
            assert "end that transaction" in caplog.text
            grown = wal.stat().st_size
            assert grown > 2 * MIB
            # No checkpoint holds writers back meanwhile: it could not come to its end.
            statements: list[str] = []
            here._hub.transport._open.upkeep._db.set_trace_callback(statements.append)  # type: ignore[attr-defined]
            await eventually(lambda: statements.count("PRAGMA wal_checkpoint(PASSIVE)") > 2, within=2 * BOUND)
            assert "PRAGMA wal_checkpoint(RESTART)" not in statements
        # Without any more traffic.
        await eventually(lambda: here.health().detail == "", within=2 * BOUND)
        assert caplog.text.count(said) == 1
        await proves_itself(there)
        # It is used again from its front.
        for _ in range(4):
            await write_until_said()
        assert wal.stat().st_size <= grown + MIB
