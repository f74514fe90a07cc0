"""What other processes ask or answer may be anything: it is done, or skipped and counted, and nobody stands still."""

import asyncio
import logging
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels_trunk.envelope import EVERY_NODE, Control, ControlOp, Envelope, Kind
from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.names import new_node_id

STRANGER = new_node_id()
OWN, SPECIFIC = "own channel", f"specific.{STRANGER}!1"
NAMES = st.sampled_from([OWN, SPECIFIC, "jobs", "room", "", "a b", "x" * 300, "ä", "!", "\0"]) | st.text(max_size=5)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**64 - 1]) | st.integers(-9, 99)
CONTROLS = st.builds(
    Control,
    st.sampled_from([int(op) for op in ControlOp]) | NUMBERS,
    st.sampled_from([STRANGER, "", "tk", EVERY_NODE]) | st.text(max_size=5),
    NUMBERS,
    NAMES,
    NAMES,
    NUMBERS,
)


async def told(controls: list[Control], *, lasts: float) -> None:
    """A layer works as before, whatever it was told."""
    layer = MemoryChannelLayer(prefix=uuid.uuid4().hex, send_timeout=20)
    trouble: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: trouble.append(context))
    try:
        own = await layer.new_channel()
        hub = layer._hub
        sink, wall = hub.context.sink, hub.clock.wall
        for control in controls:
            named = msgspec.structs.replace(control, channel=own if control.channel == OWN else control.channel)
            sink.received([Envelope(Kind.CONTROL, hub.node, wall() + lasts, msgspec.msgpack.encode(named))])
        async with asyncio.timeout(30):
            await layer.group_add("works", own)
            await layer.group_send("works", {"type": "x"})
            await layer.send("jobs", {"type": "job"})
            while (await layer.receive(own))["type"] != "x":
                pass
    finally:
        await layer.close()
    assert trouble == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CONTROLS, max_size=8), st.sampled_from([60.0, -1.0, float("inf")]))
def test_whatever_is_asked(caplog: pytest.LogCaptureFixture, controls: list[Control], lasts: float) -> None:
    caplog.clear()
    asyncio.run(told(controls, lasts=lasts))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
