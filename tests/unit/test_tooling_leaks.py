"""The leak checks find what they look for, and nothing else. Each case is a small run of pytest of its own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFIGURATION = """
[pytest]
asyncio_mode = auto
markers = leaks_allowed(reason): as in the project
"""


LEAKS = {
    "thread": """
        import threading
        def test_it():
            threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
        """,
    "file": """
        import os
        def test_it():
            os.open("/dev/null", os.O_RDONLY)
        """,
    "socket": """
        import socket
        kept = []
        def test_it():
            kept.append(socket.socket())
        """,
    "child": """
        import subprocess
        kept = []
        def test_it():
            kept.append(subprocess.Popen(["sleep", "30"]))
        """,
    "zombie": """
        import os
        def test_it():
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        """,
    "task": """
        import asyncio
        kept = []
        async def test_it():
            kept.append(asyncio.create_task(asyncio.Event().wait(), name="left"))
        """,
}
REPORTS = {
    "thread": "*thread 'left' (daemon: True)*",
    "file": "*descriptor *: /dev/null*",
    "socket": "*descriptor *: socket:*",
    "child": "*child process *: sleep 30*",
    "zombie": "*child process *: ended, and nobody waited for it*",
    "task": "*Task pending name='left'*",
}


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    pytester.makeini(CONFIGURATION)
    pytester.makeconftest("pytest_plugins = ['tests.plugins.leaks']")
    return pytester


def test_finds_each_kind_of_leak(run: pytest.Pytester) -> None:
    run.makeconftest(
        """
        from tests.plugins import leaks
        leaks.GRACE_SECONDS = 0.2
        pytest_plugins = ["tests.plugins.leaks"]
        """
    )
    run.makepyfile(**{f"test_{kind}": program for kind, program in LEAKS.items()})
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=len(LEAKS), errors=len(LEAKS))
    for kind, report in REPORTS.items():
        result.stdout.fnmatch_lines_random(
            ["*ERROR at teardown of test_it*", report, f"ERROR test_{kind}.py::test_it*"]
        )


def test_what_ends_by_itself_is_no_leak(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import asyncio, socket, subprocess, threading, pytest

        @pytest.fixture
        async def ticking():
            task = asyncio.create_task(asyncio.Event().wait())
            yield
            task.cancel()

        @pytest.fixture(scope="session")
        def server():
            pair = socket.socketpair()
            yield
            [end.close() for end in pair]

        async def test_task_of_a_fixture(ticking, server): pass
        def test_thread_about_to_end(): threading.Timer(0.05, print).start()
        def test_process(): subprocess.run(["true"], check=True)
        def test_executor(): asyncio.run(asyncio.to_thread(print))
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=4)


def test_a_marker_allows_a_leak_and_a_failing_test_reports_its_failure_alone(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import os, pytest

        @pytest.mark.leaks_allowed("the library keeps it open")
        def test_allowed(): os.open("/dev/null", os.O_RDONLY)

        def test_failing():
            os.open("/dev/null", os.O_RDONLY)
            assert False
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=1, failed=1)


def test_the_marker_needs_a_reason(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.mark.leaks_allowed()\ndef test_it(): pass\n")
    run.runpytest_subprocess().stderr.fnmatch_lines(["*leaks_allowed needs its reason*"])


def test_an_interrupted_run_ends_in_its_summary(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import os
        def test_failing(): assert False
        def test_interrupted():
            os.open("/dev/null", os.O_RDONLY)
            raise KeyboardInterrupt
        """
    )
    result = run.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "left behind" not in result.stdout.str() + result.stderr.str()
