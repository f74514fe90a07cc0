"""Anybody on the machine can ring: who does so without end costs a bounded number of looks."""

import asyncio

import pytest

from channels_trunk.testing import eventually
from channels_trunk.transports.database import transport
from channels_trunk.transports.throttle import Throttle
from tests.integration.flood import flooding
from tests.plugins.django_databases import DjangoDatabase

from .conftest import MakeLayer, meet

BOUND = 40.0
ENOUGH, FREE = 200, 100


async def test_a_flood_of_rings(
    sqlite_alias: DjangoDatabase, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    rang = Throttle.rang

    def note(throttle: Throttle, found: int) -> float:
        pauses.append(rang(throttle, found))
        return pauses[-1]

    here, there = make_layer(sqlite_alias), make_layer(sqlite_alias)
    await meet(here, there)
    channel = await here.new_channel()
    monkeypatch.setattr(Throttle, "rang", note)
    with flooding(f"@channels-trunk-{here._hub.context.node}"):
        await eventually(lambda: len(pauses) > ENOUGH, within=BOUND)
        assert pauses[ENOUGH - 1] == transport._LONGEST_PAUSE
        assert pauses[:ENOUGH].count(0.0) < FREE
        for number in range(20):
            await there.send(channel, {"type": "n", "n": number})
            assert await asyncio.wait_for(here.receive(channel), BOUND) == {"type": "n", "n": number}
