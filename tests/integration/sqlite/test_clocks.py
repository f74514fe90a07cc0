"""A process whose wall clock is wrong removes nothing that others take for young, takes part, and says so."""

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import pytest

from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, run_child

HOUR = 3600
# A difference is told when it was seen twice, five seconds apart.
SAID_WITHIN = 60.0

_CLOCK = """
from channels_trunk import clock
right = clock.SYSTEM_CLOCK
clock.SYSTEM_CLOCK = right._replace(wall=lambda: right.wall() + {seconds})
"""

_WRONG = """
from channels_trunk.testing.waiting import eventually

async def main():
    layer = SQLiteChannelLayer(path=path, capacity=10)
    mine = await layer.new_channel()
    await layer.group_add("room", mine)
    await layer.clean_expired()
    [taken] = [(await asyncio.wait_for(layer.receive("taken"), 60))["n"]]
    full = [await attempt(layer.send("full", {"type": "x"}))]
    await layer.send("of-the-wrong", {"type": "job", "channel": mine})
    got = [await asyncio.wait_for(layer.receive(mine), 120) for _ in range(2)]
    await eventually(lambda: "clock" in layer.health().detail, within=60)
    detail = layer.health().detail
    await layer.send("ready", {"type": "x"})
    await asyncio.wait_for(layer.receive(mine), 120)
    await layer.close()
    return [taken, full[0][0], [message["type"] for message in got], detail]
"""


@pytest.mark.timeout(360)
@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_clock_that_is_an_hour_wrong(seconds: int, others: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(_CLOCK.format(seconds=seconds)))
    places = os.pathsep.join([str(site), *filter(None, sys.path)])
    async with layers_closed() as layers:
        here = layers(path, capacity=10)
        for _ in range(others - 1):
            await layers(path).new_channel()
        await here.new_channel()
        for number in range(10):
            await here.send("full", {"type": "x"})
            await here.send("kept", {"type": "n", "n": number})
        await here.send("taken", {"type": "n", "n": 7})
        wrong = asyncio.ensure_future(in_thread(lambda: run_child(_WRONG, path, PYTHONPATH=places)))
        job = await asyncio.wait_for(here.receive("of-the-wrong"), BOUND)
        await here.send(job["channel"], {"type": "to it"})
        await here.group_send("room", {"type": "to all"})
        await asyncio.wait_for(here.receive("ready"), SAID_WITHIN + BOUND)
        if others == 1:
            await eventually(lambda: "3600 s" in here.health().detail)
        await here.send(job["channel"], {"type": "end"})
        taken, full, got, detail = await wrong
        assert (taken, full, got) == (7, "ChannelFull", ["to it", "to all"])
        assert "3600 s" in detail
        for number in range(10):
            assert await asyncio.wait_for(here.receive("kept"), BOUND) == {"type": "n", "n": number}
        assert here.stats().gaps_total == here.stats().dropped_expired_total == 0
        await eventually(lambda: here.health().detail == "", within=SAID_WITHIN)
