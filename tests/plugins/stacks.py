"""Where things stood: the tasks of a failed async test, and the threads of a run that does not come to its end."""

import asyncio
import faulthandler
import io
from collections.abc import Generator

import pytest

END_WITHIN_SECONDS = 60.0


def stacks_of(loop: asyncio.AbstractEventLoop) -> str:
    """The stacks of all unfinished tasks of a loop that does not run at the moment."""
    output = io.StringIO()
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        task.print_stack(file=output)
    return output.getvalue()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # At the end of the teardown the loop is closed.
    if report.failed and report.when != "teardown" and isinstance(item, pytest.Function):
        # pytest-asyncio's runner is one of the test's fixtures.
        for runner in item.funcargs.values():
            if isinstance(runner, asyncio.Runner) and (stacks := stacks_of(runner.get_loop())):
                report.sections.append(("asyncio tasks", stacks))
    return report


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """A thread that a failed test left behind must not hold the interpreter: the run fails, with all stacks."""
    faulthandler.dump_traceback_later(END_WITHIN_SECONDS, exit=True)
