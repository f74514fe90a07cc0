"""A test that hangs fails with the stacks of its threads and tasks."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def test_a_hanging_test_shows_where_its_tasks_stand(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeini("[pytest]\nasyncio_mode = auto\ntimeout = 1\n")
    pytester.makeconftest("pytest_plugins = ['tests.plugins.leaks', 'tests.plugins.stacks']")
    pytester.makepyfile(
        """
        import asyncio, os

        async def a_wait_without_end():
            await asyncio.Event().wait()

        async def test_hangs():
            await asyncio.gather(a_wait_without_end())

        async def test_leaks():
            os.open("/dev/null", os.O_RDONLY)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s)*", "*asyncio tasks*", "*in a_wait_without_end*"])
