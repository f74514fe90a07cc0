"""Flush, and messages of normal channels that are in nobody's mailbox at that moment."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from channels_trunk.envelope import Control, ControlOp
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.router import Effects
from channels_trunk.testing import eventually
from channels_trunk.testing.transports import Hold
from channels_trunk.transports.base import Busy, Claimed
from tests.faults.conftest import FaultyLayer, MakeLayer
from tests.integration.claimed_ahead import claims_rest
from tests.plugins.impatience import impatient

OLD, NEW = {"type": "old"}, {"type": "new"}


async def cancelled(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def claim_slowly(layer: FaultyLayer, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """What a claim of this layer has found reaches the hub when the hold is released."""
    inner, hold = layer.faults.inner, Hold()
    claim_inside = inner.claim

    async def claim(channel: str, limit: int) -> Sequence[Claimed]:
        found = await claim_inside(channel, limit)
        if found:
            await hold.wait()
        return found

    monkeypatch.setattr(inner, "claim", claim)
    return hold


@pytest.mark.parametrize("by", ["here", "there"])
async def test_what_is_being_claimed_is_flushed(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    here, there = make_layer(), make_layer()
    await there.new_channel()
    hold = claim_slowly(here, monkeypatch)
    await there.send("jobs", OLD)
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    flushing = asyncio.ensure_future({"here": here, "there": there}[by].flush())
    await eventually(lambda: here._hub.claims._flushing)
    hold.release()
    await flushing
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 20) == NEW


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
    assert await asyncio.wait_for(here.receive("jobs"), 20) == NEW


async def test_what_goes_back_when_the_engine_is_empty_is_flushed(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_layer(), make_layer()
    hold = claim_slowly(here, monkeypatch)
    purged = asyncio.Event()
    inner = there.faults.inner
    purge_inside = inner.purge

    async def purge() -> None:
        await purge_inside()
        purged.set()
        await eventually(lambda: claims_rest(here))

    monkeypatch.setattr(inner, "purge", purge)
    await there.send("jobs", OLD)
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    flushing = asyncio.ensure_future(there.flush())
    await eventually(lambda: purged.is_set() or here._hub.claims._flushing)
    await cancelled(receiving)
    hold.release()
    await flushing
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(here.receive("jobs"), 20) == NEW


async def test_nothing_is_claimed_while_the_engine_is_being_emptied(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await here.new_channel()
    await there.send("jobs", OLD)
    hold = there.faults.stall("purge")
    flushing = asyncio.ensure_future(there.flush())
    await eventually(hold.entered.is_set)
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: "jobs" in here._hub.claims._pending and claims_stand(here))
    hold.release()
    await flushing
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 20) == NEW


def claims_stand(layer: FaultyLayer) -> bool:
    task = layer._hub.claims._work_task
    return task is None or task.done()


async def test_after_a_flush_that_failed_all_go_on(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer(send_timeout=0.5)
    await here.new_channel()
    await there.send("jobs", OLD)
    there.faults.fail("purge", Busy, times=10_000)
    with pytest.raises(TransportUnavailable, match="the engine could not be emptied within send_timeout"):
        await there.flush()
    await eventually(lambda: not (here._hub.claims._flushing or there._hub.claims._flushing))
    assert await asyncio.wait_for(here.receive("jobs"), 20) == OLD


async def test_a_flush_whose_process_was_killed_holds_nobody_for_long(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await here.new_channel()
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: claims_rest(here) and "jobs" in here._hub.claims._watched)
    with here._hub.lock:
        here._hub.claims.suspend("killed", 0.2)
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 20) == NEW


async def test_a_flush_whose_caller_was_cancelled_empties_nothing_after_the_next(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await here.new_channel()
    hold = there.faults.stall("purge")
    flushing = asyncio.ensure_future(there.flush())
    await eventually(hold.entered.is_set)
    await cancelled(flushing)
    flushing = asyncio.ensure_future(there.flush())
    asyncio.get_running_loop().call_later(0.1, hold.release)
    await flushing
    assert there.faults.calls["purge"] == 2
    await here.group_add("group", channel)
    await there.send("jobs", NEW)
    assert not here._hub.claims._flushing
    assert not there._hub.claims._flushing
    await there.group_send("group", NEW)
    for name in (channel, "jobs"):
        assert await asyncio.wait_for(here.receive(name), 10) == NEW


async def test_a_layer_that_is_closed_during_its_flush_stays_closed(make_layer: MakeLayer) -> None:
    there = make_layer()
    await there.new_channel()
    hold = there.faults.stall("purge")
    flushing = asyncio.ensure_future(there.flush())
    await eventually(hold.entered.is_set)
    await there.close()
    with pytest.raises(TransportUnavailable, match="closed"):
        await flushing
    assert there._hub.is_idle


async def opened(layer: FaultyLayer) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    await layer._hub.run(layer._hub.desk.membership_ready(), done)


@pytest.mark.parametrize("over", [0, -1])
async def test_a_flush_and_its_end_that_come_together(make_layer: MakeLayer, over: int) -> None:
    """The process stood still, and the flush did not wait for it."""
    here, there = make_layer(), make_layer()
    channel = await here.new_channel()
    await opened(here)
    hub, effects = here._hub, Effects()
    with hub.lock:
        for room in (15, over):
            hub.desk._on_flush(Control(ControlOp.FLUSH, "other", 7, room=room), effects)
    await here.group_add("group", channel)
    await there.send(channel, NEW)
    await there.send("jobs", NEW)
    for name in ("jobs", channel):
        assert await asyncio.wait_for(here.receive(name), 10) == NEW
    assert "group" in hub.router.groups


@pytest.mark.parametrize("ends", ["failed", "without-it"])
async def test_what_comes_after_a_flush_is_not_flushed_late(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A process could not let go in time, and the flush has failed, or has taken it for gone."""
    here, there = make_layer(), make_layer(send_timeout=20.0)
    channel = await here.new_channel()
    await there.new_channel()
    hold = here.faults.stall("claim")
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(hold.entered.is_set)
    if ends == "failed":
        with impatient(there, 0.3), pytest.raises(TransportUnavailable):
            await there.flush()
    else:
        inner = there.faults.inner
        found = iter([await inner.peers()])

        async def peers() -> frozenset[str]:
            return next(found, frozenset())

        monkeypatch.setattr(inner, "peers", peers)
        await there.flush()
    await eventually(lambda: not here._hub.claims._flushing)
    await here.group_add("group", channel)
    await there.send(channel, NEW)
    await eventually(lambda: here._hub.router.boxes[channel].messages)
    hold.release()
    await eventually(lambda: claims_rest(here))
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 10) == NEW
    assert "group" in here._hub.router.groups
    assert await asyncio.wait_for(here.receive(channel), 10) == NEW


async def test_a_layer_that_is_closed_and_opened_while_another_flushes(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await there.send("jobs", OLD)
    assert await here.receive("jobs") == OLD
    with here._hub.lock:
        here._hub.claims.suspend("killed", 0.5)
    await here.close()
    receiving = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: here._hub.is_open)
    await there.send("jobs", NEW)
    assert await asyncio.wait_for(receiving, 10) == NEW
