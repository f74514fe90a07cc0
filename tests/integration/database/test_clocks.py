"""Processes whose clocks differ: what expires does so by the clock of the database."""

import asyncio

import pytest

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.layers import DatabaseChannelLayer
from channels_trunk.testing import eventually
from tests.integration.database.conftest import MakeLayer, meet
from tests.plugins.django_databases import DjangoDatabase

HOUR = 3600.0


def off_by(layer: DatabaseChannelLayer, seconds: float) -> DatabaseChannelLayer:
    """The layer, in a process whose clock is wrong."""
    layer._hub.wall_clock._own = lambda: SYSTEM_CLOCK.wall() + seconds
    return layer


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_clock_that_is_an_hour_wrong(
    database: DjangoDatabase, seconds: float, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its messages live as long as those of others, and it removes nobody's."""
    right, wrong = make_layer(database), off_by(make_layer(database), seconds)
    await right.send("jobs", {"type": "of the right one"})
    await wrong.send("jobs", {"type": "of the wrong one"})  # made before it has asked for the time
    await wrong.clean_expired()
    async with asyncio.timeout(20):
        assert await wrong.receive("jobs") == {"type": "of the right one"}
        assert await right.receive("jobs") == {"type": "of the wrong one"}
    await meet(right, wrong)
    assert [message for message in caplog.messages if "clock is 3600" in message]


async def test_a_clock_that_is_set(database: DjangoDatabase, make_layer: MakeLayer) -> None:
    """As when a machine wakes up: it is noticed with the next heartbeat, in both directions."""
    one, other = make_layer(database), make_layer(database)
    await meet(one, other)
    for seconds in (HOUR, 0.0):
        off_by(other, seconds)
        other._hub.on_io(other._hub.maintain_here)
        await eventually(lambda: abs(other._hub.clock.wall() - SYSTEM_CLOCK.wall()) < 5, within=20)
        await meet(one, other)
