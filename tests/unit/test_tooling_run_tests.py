"""tools/run_tests.py: no folder of tests is left out, and a part that fails fails the run."""

from collections.abc import Sequence

import pytest

from tools import run_tests
from tools.bootstrap import ROOT


def test_every_test_is_in_one_part() -> None:
    parts = [ROOT / part for part in (*run_tests.SIDE_BY_SIDE, *run_tests.BY_THEMSELVES)]
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "benchmarks").rglob("test_*.py")]
    assert files
    assert all(part.exists() for part in parts)
    for file in files:
        named = sum(part == file or part in file.parents for part in parts)
        assert named == (2 if file == ROOT / run_tests.CONTROLS else 1), file


def test_the_controls_are_not_run_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def answer(*arguments: str) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(run_tests, "_pytest", answer)
    assert run_tests.main([]) == 0
    assert f"--ignore={run_tests.CONTROLS}" in calls[0]
    assert run_tests.CONTROLS in calls[1]
    assert "-n" not in calls[1]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((2, 1), 2), ((5, 0), 0), ((0, 5), 0), ((5, 1), 1), ((5, 5), 5)],
)
def test_a_part_that_fails_fails_the_run(statuses: Sequence[int], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def answer(*arguments: str) -> int:
        calls.append(arguments)
        return statuses[len(calls) - 1]

    monkeypatch.setattr(run_tests, "_pytest", answer)
    assert run_tests.main(["-k", "this"]) == status
    assert len(calls) == 2
    assert all("this" in call for call in calls)
