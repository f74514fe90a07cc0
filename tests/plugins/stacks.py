"""A failed async test shows where its tasks stood: the stack of a test that timed out ends in the event loop."""

import asyncio
import io
from collections.abc import Generator

import pytest


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
