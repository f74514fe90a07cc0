"""Waiting until a moment."""

import sys

import pytest
from trunkbench.figures import clock
from trunkbench.pacing import Metronome


async def test_returns_at_its_time_and_never_before() -> None:
    with Metronome() as metronome:
        assert metronome.is_exact is (sys.platform == "linux")
        started = clock()
        for number in range(20):
            due = started + number * 0.0013
            await metronome.until(due)
            assert clock() >= due
        await metronome.until(started)  # long over
    assert not metronome.is_exact


async def test_where_there_is_no_such_descriptor_the_loops_timers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "elsewhere")
    with Metronome() as metronome:
        assert not metronome.is_exact
        due = clock() + 0.003
        await metronome.until(due)
        assert clock() >= due
