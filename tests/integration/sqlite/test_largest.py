"""Messages that are larger than SQLite takes: a gigabyte by default, and less where it was built so."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import MessageTooLarge

from tests.integration.sqlite.bad_input import BOUND, layers_closed


@pytest.mark.parametrize("target", ["jobs", "group"])
async def test_they_are_refused_and_others_go_on(tmp_path: Path, target: str) -> None:
    async with layers_closed() as layers:
        here, there = (layers(tmp_path / "x.sqlite3", max_message_size=2**31) for _ in range(2))
        await there.group_add("group", "jobs")
        await here.new_channel()
        transport: Any = here._hub.transport
        transport._opened.writer._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        send = here.send if target == "jobs" else here.group_send
        with pytest.raises(MessageTooLarge, match=r"SQLite takes no row so large.*: send less"):
            await send(target, {"type": "x", "data": bytes(200_000)})
        await send(target, {"type": "x", "data": bytes(50_000)})
        async with asyncio.timeout(BOUND):
            assert len((await there.receive("jobs"))["data"]) == 50_000
        assert here.health().state == "ok"
        assert here.stats().reconnects_total == 0
