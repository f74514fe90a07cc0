"""A call of the transport that hangs: it is cancelled, the connection is lost, and everybody can see which call it was.

It was invisible: the node's normal channels stood still for good, and health() said "ok".
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.health import State
from channels_trunk.hub import control, supervisor
from channels_trunk.testing import eventually
from channels_trunk.testing.starting import StartingLoopbackTransport
from channels_trunk.testing.transports import FaultyTransport, LoopbackServer, LoopbackTransport
from channels_trunk.transports.base import Transport
from tests.faults.conftest import FaultyLayer, MakeLayer
from tests.faults.slow import SlowLayer
from tests.plugins.impatience import impatient

JOB = {"type": "job"}
Trigger = Callable[[FaultyLayer, FaultyLayer], Coroutine[Any, Any, Any]]


class AheadLayer(FaultyLayer):
    """Its hub claims ahead, and so calls drop()."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        inner = LoopbackTransport(values["prefix"])
        inner.capabilities = replace(inner.capabilities, claims_ahead=True)
        return FaultyTransport(inner)


async def _receive(here: FaultyLayer, _there: FaultyLayer) -> Any:
    return await here.receive("jobs")


async def _give_back(here: FaultyLayer, there: FaultyLayer) -> Any:
    """A job is claimed for a receiver that is gone when it comes."""
    claiming = here.faults.stall("claim")
    receiving = asyncio.ensure_future(here.receive("left"))
    await eventually(claiming.entered.is_set)
    await there.send("left", JOB)
    receiving.cancel()
    await asyncio.wait({receiving})
    claiming.release()
    await eventually(lambda: here.faults.calls["restore"] > 0)
    return await there.receive("left")


async def _join(here: FaultyLayer, _there: FaultyLayer) -> Any:
    await here.group_add("group", await here.new_channel())


# The call, what calls it, and whether the caller is told of it rather than served by the next connection.
CALLS: list[tuple[str, Trigger, bool]] = [
    ("claim", _receive, False),
    ("watch", _receive, False),
    ("restore", _give_back, False),
    ("bind", lambda here, _: here.group_add("group", "worker"), True),
    ("unbind", lambda here, _: here.group_discard("group", "worker"), True),
    ("peers", lambda here, _: here.peers(), True),
    ("interest", _join, True),
    ("purge", lambda here, _: here.flush(), True),
    ("trim", lambda here, _: here.clean_expired(), True),
    ("maintain", lambda here, _: here.new_channel(), False),
]
NAMES = {"interest": r"(interest|hear)\(\)"}


async def _told(call: Awaitable[Any]) -> bool:
    try:
        await call
    except TransportUnavailable:
        return True
    return False


@pytest.mark.parametrize(("method", "trigger", "is_told"), CALLS, ids=[name for name, *_ in CALLS])
async def test_a_call_that_hangs_is_ended_and_named(
    make_layer: MakeLayer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    trigger: Trigger,
    is_told: bool,
) -> None:
    monkeypatch.setattr(supervisor, "_MAINTAIN_WITHIN", 0.5)
    monkeypatch.setattr(control, "_TRIM_WITHIN", 0.5)
    here, there = make_layer(), make_layer()
    await there.new_channel()
    await here.new_channel()
    reconnects = here.stats().reconnects_total
    with caplog.at_level(logging.WARNING, logger="channels_trunk"), impatient(here, 0.5):
        opening = here.faults.stall("open")
        here.faults.stall(method)
        if method == "maintain":
            here._hub.context.sink.maintain_soon()
        calling = asyncio.ensure_future(_told(trigger(here, there)))
        await eventually(opening.entered.is_set)
        assert here.health().state is State.AWAY
        named = NAMES.get(method, rf"{method}\(\)")
        assert re.search(rf"the engine did not answer {named} within 0\.5 s", here.health().detail)
        assert re.search(rf"was lost: the engine did not answer {named} within 0\.5 s", caplog.text)
    opening.release()
    await eventually(lambda: here.stats().reconnects_total > reconnects)
    if method in ("claim", "watch"):
        await there.send("jobs", JOB)
    async with asyncio.timeout(20):
        assert await calling is is_told
        # The node's normal channels go on.
        receiving = asyncio.ensure_future(here.receive("others"))
        await there.send("others", JOB)
        assert await receiving == JOB


async def test_a_drop_that_hangs_is_ended_and_named(prefix: str, server: LoopbackServer) -> None:
    here = AheadLayer(prefix=prefix)
    try:
        await here.new_channel()
        with impatient(here, 0.5):
            opening = here.faults.stall("open")
            here.faults.stall("drop")
            with pytest.raises(
                TransportUnavailable, match=r"could not be emptied within .* answer drop\(\) within 0\.5 s"
            ):
                await here.flush()
            assert opening.entered.is_set() or here.health().state is State.AWAY
        opening.release()
        await here.flush()
    finally:
        here.faults.heal()
        await here.close()


async def test_an_open_that_hangs_is_named(make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_OPEN_WITHIN", 0.5)
    here = make_layer()
    here.faults.stall("open", times=2)
    joining = asyncio.ensure_future(here.new_channel())
    await eventually(lambda: here.health().detail == "the engine did not answer open() within 0.5 s")
    await joining


async def test_a_call_that_hangs_while_the_engine_says_why_does_not_end_the_connection(make_layer: MakeLayer) -> None:
    """Another connection would get no other answer."""
    here = make_layer()
    await here.new_channel()
    with impatient(here, 0.5):
        here._hub.context.sink.stalled("its memory is full")
        here.faults.stall("bind")
        with pytest.raises(TransportUnavailable, match="its memory is full"):
            await here.group_add("group", "worker")
    here._hub.context.sink.stalled("")
    await here.group_add("group", "worker")
    assert here.stats().reconnects_total == 0


async def test_a_join_that_a_callers_thread_asked_for_and_that_hangs(prefix: str, server: LoopbackServer) -> None:
    here = SlowLayer(prefix=prefix)
    try:
        channel = await here.new_channel()
        transport = cast(StartingLoopbackTransport, here.transport)
        with impatient(here, 0.5):
            here.transport.hold_answers()
            joining = asyncio.ensure_future(here.group_add("group", channel))
            await eventually(lambda: transport.asked_total == 1)
            with pytest.raises(TransportUnavailable, match=r"did not answer start_hearing\(\) within 0\.5 s"):
                await joining
        here.transport.release_answers()
        await eventually(lambda: here.stats().reconnects_total == 1)
        await here.group_add("group", channel)
    finally:
        here.transport.release_answers()
        await here.close()
