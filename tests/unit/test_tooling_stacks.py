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


def test_a_thread_that_is_left_behind_ends_the_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeconftest(
        """
        from tests.plugins import stacks

        pytest_plugins = ["tests.plugins.stacks"]
        stacks.END_WITHIN_SECONDS = 0.5
        """
    )
    pytester.makepyfile(
        """
        import threading

        def a_wait_without_end():
            threading.Event().wait()

        def test_leaves_a_thread():
            threading.Thread(target=a_wait_without_end).start()
        """
    )
    result = pytester.runpytest_subprocess(timeout=30)
    assert result.ret == 1
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(["Timeout*", "*in a_wait_without_end*"])
