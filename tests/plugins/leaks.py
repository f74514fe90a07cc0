"""After each test: no thread, open file or socket, child process or asyncio task may be left of it.

Works on its own for every test. A test that cannot help it says so, with the reason:
``@pytest.mark.leaks_allowed("why")``. Files and processes are seen on Linux only.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import NamedTuple

import pytest
from asgiref.sync import SyncToAsync

GRACE_SECONDS = 10.0  # what is being closed while the test returns may take this long
TASK_CHECK = "no_tasks_left"
_PASSED = pytest.StashKey[bool]()
_session_children: set[int] = set()


def belongs_to_session(pid: int) -> None:
    """Say that a child process outlives the test that started it, because a session fixture owns it."""
    _session_children.add(pid)


class OpenFile(NamedTuple):
    """One descriptor and what it refers to: a number that was closed and used again is another file."""

    descriptor: int
    device: int
    inode: int


class Holdings(NamedTuple):
    """What the process holds at one moment."""

    threads: frozenset[threading.Thread]
    files: frozenset[OpenFile]
    children: frozenset[int]


def holdings() -> Holdings:
    """Look at the process now. What Python and asgiref keep for the life of a process is left out."""
    pools = (SyncToAsync.single_thread_executor,)
    kept = {thread for pool in pools for thread in pool._threads}
    return Holdings(frozenset(threading.enumerate()) - kept, frozenset(_open_files()), frozenset(_children()))


def _open_files() -> Iterator[OpenFile]:
    if not Path("/proc/self/fd").is_dir():
        return
    kept = _standard_library_descriptors()
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of the listing itself
            continue
        if int(name) not in kept:
            yield OpenFile(int(name), status.st_dev, status.st_ino)


def _children() -> Iterator[int]:
    helpers = {
        getattr(resource_tracker._resource_tracker, "_pid", None),
        getattr(forkserver._forkserver, "_forkserver_pid", None),
    }
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids = listing.read_text().split()
        except OSError:  # the thread has ended
            continue
        yield from (int(pid) for pid in pids if int(pid) not in helpers | _session_children)


def _standard_library_descriptors() -> set[int | None]:
    """multiprocessing starts its helper processes once, and keeps a pipe to each."""
    return {
        getattr(resource_tracker._resource_tracker, "_fd", None),
        getattr(forkserver._forkserver, "_forkserver_alive_fd", None),
    }


def _name_of(file: OpenFile) -> str:
    try:
        return str(Path(f"/proc/self/fd/{file.descriptor}").readlink())
    except OSError:
        return "closed meanwhile"


def _name_of_child(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ended meanwhile"
    return command or "ended, and nobody waited for it"


def left_over(before: Holdings) -> list[str]:
    """What is there now and was not there before, one line each."""
    now = holdings()
    threads = [f"thread {thread.name!r} (daemon: {thread.daemon})" for thread in now.threads - before.threads]
    files = [f"descriptor {file.descriptor}: {_name_of(file)}" for file in now.files - before.files]
    children = [f"child process {pid}: {_name_of_child(pid)}" for pid in now.children - before.children]
    return sorted(threads) + sorted(files) + sorted(children)


def after_grace(look: Callable[[], list[str]]) -> list[str]:
    """What `look` still finds after the garbage is collected and things under way have had time to end."""
    if not look():
        return []
    gc.collect()
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def _is_checked(node: pytest.Item) -> bool:
    """Only a test that passed is checked: the traceback of one that failed keeps alive what its frames hold.

    One that was interrupted has no report at all, and its teardown runs after pytest has taken its own files away.
    """
    return node.get_closest_marker("leaks_allowed") is None and node.stash.get(_PASSED, False)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = holdings()
    yield
    if _is_checked(request.node) and (found := after_grace(lambda: left_over(before))):
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(name=TASK_CHECK)
async def _no_tasks_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Runs in the test's own loop, before the runner would cancel what is left in it."""
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    # Nothing tells when the last task is done, so this looks again and again.
    while (tasks := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    if tasks and _is_checked(request.node):
        pytest.fail("the test left asyncio tasks behind:\n  " + "\n  ".join(sorted(map(repr, tasks))), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio") is not None:
            # First of all: fixtures end in the opposite order, and the tasks of other fixtures are theirs to end.
            # The list is shared between the parameters of one test, so an earlier item may have put the check there.
            item.fixturenames[:] = [TASK_CHECK, *(name for name in item.fixturenames if name != TASK_CHECK)]
        marker = item.get_closest_marker("leaks_allowed")
        if marker is not None and not (marker.args and isinstance(marker.args[0], str)):
            raise pytest.UsageError(f"{item.nodeid}: leaks_allowed needs its reason")
