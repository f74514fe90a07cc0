"""Whoever may ring, and does so without end, costs a bounded number of looks, and keeps no message away."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels_trunk.hub import doorwatch
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.throttle import Throttle
from tests.integration.flood import flooding
from tests.integration.sqlite.bad_input import BOUND, layers_closed
from tests.integration.sqlite.test_neighbours import NEVER

# So many rings in vain that the pauses have become as long as they get; the first ones are followed by none.
ENOUGH, FREE = 200, 100


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What followed each ring that was answered, in seconds."""
    noted: list[float] = []
    rang = Throttle.rang

    def note(throttle: Throttle, found: int) -> float:
        noted.append(rang(throttle, found))
        return noted[-1]

    monkeypatch.setattr(Throttle, "rang", note)
    return noted


@pytest.fixture
def passable() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("is_received", [True, False], ids=["in the receiver's loop", "in the layer's thread"])
async def test_a_flood_of_rings(is_received: bool, passable: Path, pauses: list[float]) -> None:
    async with layers_closed() as layers:
        path = passable / "x.sqlite3"
        here, there = (layers(path, polling_interval=NEVER, file_mode=0o666) for _ in range(2))
        channel = await here.new_channel()
        await there.new_channel()
        waiting = asyncio.create_task(here.receive(channel)) if is_received else None
        with flooding(here._hub.transport._doorbell.address):  # type: ignore[attr-defined]
            await eventually(lambda: len(pauses) > ENOUGH, within=BOUND)
            assert pauses[ENOUGH - 1] == doorwatch._LONGEST_PAUSE
            assert pauses[:ENOUGH].count(0.0) < FREE
            looks, answered = here._hub.reader.reads, len(pauses)
            await eventually(lambda: len(pauses) > answered + 50, within=BOUND)
            # Each ring that is answered is one look, however many datagrams have come.
            assert here._hub.reader.reads - looks <= len(pauses) - answered + 5
            for number in range(20):
                await there.send(channel, {"type": "n", "n": number})
                message = await asyncio.wait_for(waiting or here.receive(channel), BOUND)
                assert message == {"type": "n", "n": number}
                waiting = None
