"""The loop that watches the doorbell is about to stand still: the hub's thread takes over."""

import asyncio
from pathlib import Path

import pytest

from channels_trunk.hub import MustWait
from channels_trunk.hub.waiters import ThreadWaiter
from channels_trunk.router import windows
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import layers_closed

X = {"type": "x"}


async def test_a_blocking_send_that_must_wait_for_the_owners_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody reads the answer, and the sender is told that the channel is full."""
    monkeypatch.setattr(windows, "ANSWER_WITHIN", 60.0)
    async with layers_closed() as layers:
        here, there = layers(tmp_path / "x.sqlite3", capacity=4), layers(tmp_path / "x.sqlite3", capacity=4)
        channel = await there.new_channel()
        waiting = asyncio.create_task(here.receive(await here.new_channel()))
        hub = here._hub
        await eventually(lambda: hub.doorwatch is not None and hub.doorwatch.watcher is waiting.get_loop())
        with there._hub.reader._busy:  # its answer does not come yet
            for _ in range(4):
                await here.send(channel, X)
            with pytest.raises(MustWait):
                hub.send(channel, b"", ThreadWaiter)
            assert hub.doorwatch is not None
            assert hub.doorwatch.watcher is None
        waiting.cancel()
