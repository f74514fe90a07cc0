"""An answer that was long on its way does not set the clock."""

from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.transports.database.part import Part
from channels_trunk.transports.server_time import tell_time
from tests.plugins.clock import FakeClock


@pytest.mark.parametrize(("took", "told"), [(0.0, [1000.0]), (0.5, [1000.25]), (1.0, []), (60.0, [])])
def test_the_time_that_a_server_tells(took: float, told: list[float], fake_clock: FakeClock) -> None:
    heard: list[float] = []
    context: Any = SimpleNamespace(clock=fake_clock.as_clock(), sink=SimpleNamespace(engine_time=heard.append))
    asked_at = fake_clock.monotonic()
    fake_clock.advance(took)
    tell_time(context, 1000.0, asked_at=asked_at)
    assert heard == told


@pytest.mark.parametrize(("took", "told"), [(0.5, [1000.25]), (60.0, [])])
def test_the_time_of_a_database_that_answers_late(took: float, told: list[float], fake_clock: FakeClock) -> None:
    heard: list[float] = []

    def answer() -> float:
        fake_clock.advance(took)
        return 1000.0

    part: Any = Part.__new__(Part)
    part._context = SimpleNamespace(clock=fake_clock.as_clock(), sink=SimpleNamespace(engine_time=heard.append))
    part._session = SimpleNamespace(time=answer)
    part._set_clock()
    assert heard == told
