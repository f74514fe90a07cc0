"""Normal channels of which the engine has one and not the other."""

import asyncio
from collections.abc import Sequence

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing import eventually
from channels_trunk.transports.base import Claimed
from tests.faults.conftest import MakeLayer

HELLO = {"type": "hello"}


async def test_a_channel_that_cannot_be_claimed_does_not_hold_up_the_others(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_layer(), make_layer()
    inner = here.faults.inner
    claim_inside = inner.claim
    broken = True
    attempts = 0

    async def claim(channel: str, limit: int) -> Sequence[Claimed]:
        nonlocal attempts
        if channel == "broken" and broken:
            attempts += 1
            raise TransportUnavailable("the queue of this channel is on a machine that is down")
        return await claim_inside(channel, limit)

    monkeypatch.setattr(inner, "claim", claim)
    waiting = asyncio.ensure_future(here.receive("broken"))
    await eventually(lambda: attempts >= 2)
    await there.send("jobs", HELLO)
    assert await asyncio.wait_for(here.receive("jobs"), 20) == HELLO
    await there.send("broken", HELLO)
    broken = False
    assert await asyncio.wait_for(waiting, 20) == HELLO
