"""Flush, and messages of normal channels that are in nobody's mailbox at that moment."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from channels_trunk.testing import eventually
from channels_trunk.testing.transports import Hold
from channels_trunk.transports.base import Busy, Claimed
from tests.faults.conftest import MakeLayer

OLD, NEW = {"type": "old"}, {"type": "new"}


async def cancelled(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("by", ["here", "there"])
async def test_what_is_being_claimed_is_flushed(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    here, there = make_layer(), make_layer()
    await there.new_channel()
    inner, hold = here.faults.inner, Hold()
    claim_inside = inner.claim

    async def claim(channel: str, limit: int) -> Sequence[Claimed]:
        found = await claim_inside(channel, limit)
        if found:
            await hold.wait()
        return found

    monkeypatch.setattr(inner, "claim", claim)
    await there.send("jobs", OLD)
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    await {"here": here, "there": there}[by].flush()
    hold.release()
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 10) == NEW


@pytest.mark.parametrize("by", ["here", "there"])
async def test_what_is_to_go_back_is_flushed(make_layer: MakeLayer, by: str) -> None:
    here, there = make_layer(), make_layer()
    await there.new_channel()
    here.faults.fail("restore", Busy, times=10_000)
    hold = here.faults.stall("claim")
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    await there.send("jobs", OLD)
    await cancelled(receiving)
    hold.release()
    await eventually(lambda: here.faults.calls["restore"] >= 1)
    await {"here": here, "there": there}[by].flush()
    here.faults.heal()
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(here.receive("jobs"), 10) == NEW
