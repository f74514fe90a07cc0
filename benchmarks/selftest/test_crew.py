"""A process that fails, ends or hangs must be reported and must not stay behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from selftest.roles import answers, fails, fails_in_a_task, hangs, vanishes
from trunkbench.crew import Crew, MeasurementError, Member, Role
from trunkbench.figures import Pace
from trunkbench.peers import BARE

STARTED: list[Member] = []


def ask(role: Role, *, log: Path, times: int = 1, within: float = 30) -> int:
    """Order as often, and return the last answer. The first one has time for the start of the process."""
    answer = 0
    with Crew(BARE, {}, log=log) as crew:
        member = crew.start(role)
        STARTED.append(member)
        for turn in range(times):
            member.say("add", number=answer)
            answer = member.expect("answer", within=within if turn else 30)["number"]
    return answer


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the crew's stderr goes."""
    return tmp_path / "crew.log"


def test_orders_are_answered(log: Path) -> None:
    """The pipe works in both directions, and the process ends by itself."""
    assert ask(answers, log=log, times=3) == 3
    assert STARTED[-1].exit_status == 0


def test_an_error_in_a_process_is_reported(log: Path) -> None:
    """With its text, and that of a task with its own."""
    with pytest.raises(MeasurementError, match=r"^ValueError: out of tune"):
        ask(fails_in_a_task, log=log)
    with pytest.raises(MeasurementError, match=r"^ValueError: out of tune"):
        ask(fails, log=log)
    assert STARTED[-1].exit_status == 1


def test_a_process_that_ends_is_reported(log: Path) -> None:
    """Its end of the pipe closes."""
    with pytest.raises(MeasurementError, match="ended while 'answer'"):
        ask(vanishes, log=log)
    assert STARTED[-1].exit_status == 3


def test_a_silent_process_is_reported_and_killed(log: Path) -> None:
    """Nobody waits for ever, and nothing stays behind."""
    with pytest.raises(MeasurementError, match="no 'answer' within"):
        ask(hangs, log=log, times=2, within=0.1)
    assert STARTED[-1].exit_status == -9


@pytest.mark.parametrize("rate", [10, 1_000, 100_000, 10_000_000])
def test_pace_finds_a_count_for_every_speed(rate: int) -> None:
    """The measured batch lasts the wanted time, within the bounds of the count."""
    asked: list[int] = []

    def batch(count: int) -> float:
        asked.append(count)
        return count / rate

    count, seconds = Pace(first=10, limit=200_000, seconds=1.0).measure(batch)
    assert asked[-1] == count
    assert len(asked) <= 7
    assert seconds == pytest.approx(min(1.0, 200_000 / rate), rel=0.1)
