"""Django's habits: the shell, workers, forks, its test cases, layers that are asked for at import time."""

import os
import pty
import re
import signal

import pytest

from channels_trunk.testing import eventually_blocking
from tests.acceptance.processes import START_WITHIN, Program
from tests.acceptance.site import PACKAGE, Site

SOON = 20.0
LIVE_SERVER = f"{PACKAGE}.live_cases.LiveServer"


def type_into_shell(site: Site, lines: list[str]) -> Program:
    """Type the lines into `manage.py shell` at a terminal, and wait until it has ended."""
    terminal, its_end = pty.openpty()
    program = site.shell(its_end)
    try:
        os.write(terminal, "".join(f"{line}\n" for line in [*lines, "exit()"]).encode())
        eventually_blocking(program.has_ended, within=SOON * 2, what="the shell's end")
    except TimeoutError as error:
        raise AssertionError(f"{error}; it printed:\n{program.output}") from None
    finally:
        program.stop()
        os.close(terminal)
        os.close(its_end)
    return program


def test_the_tutorials_shell_snippet_works_as_written(site: Site) -> None:
    shell = type_into_shell(
        site,
        [
            "import channels.layers",
            "channel_layer = channels.layers.get_channel_layer()",
            "from asgiref.sync import async_to_sync",
            'async_to_sync(channel_layer.send)("test_channel", {"type": "hello"})',
            'async_to_sync(channel_layer.receive)("test_channel")',
        ],
    )
    assert re.search(r"^(>>> )*\{'type': 'hello'\}$", shell.output, re.MULTILINE), shell.output
    assert "Traceback" not in shell.output
    assert shell.process.returncode == 0


def test_what_one_shell_sends_another_one_receives(site: Site) -> None:
    layer = "from channels.layers import get_channel_layer as g; from asgiref.sync import async_to_sync as s; "
    site.manage("shell", "-c", layer + "s(g().send)('test_channel', {'type': 'hello', 'n': 7})")
    output = site.manage("shell", "-c", layer + "print('got', s(g().receive)('test_channel'))")
    assert "got {'type': 'hello', 'n': 7}" in output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_runworker_answers_and_stops(site: Site, how: signal.Signals) -> None:
    worker = site.management("runworker", "doubler")
    second = site.program(*worker)
    try:
        with site.running(*worker) as first:
            workers = {first.process.pid, second.process.pid}
            answered_by: set[int] = set()

            def have_all_answered() -> bool:
                output = site.script("asker")
                assert "each once: True" in output
                answered_by.update(map(int, re.findall(r"\d+", output.partition("answered by:")[2])))
                assert answered_by <= workers
                return answered_by == workers

            # One that is just starting has no better end than Python's own.
            eventually_blocking(have_all_answered, within=START_WITHIN, what="an answer of each worker")
            second.process.send_signal(how)
            eventually_blocking(second.has_ended, within=SOON, what="the second worker's end")
            assert "Traceback" not in second.output
            # The one that is left does all the work.
            assert site.script("asker") == f"each once: True\nanswered by: {first.process.pid}\n"
    finally:
        second.stop()


def test_a_prefork_pool_after_the_parent_has_used_the_layer(site: Site) -> None:
    before, meanwhile, processes, after = site.script("prefork").splitlines()
    assert (before, meanwhile, after) == ("before: [-1]", "while: True", "after: [-2]")
    assert re.fullmatch(r"processes: [2-4] ours among them: False", processes)
    # Pool processes end without the end that Python gives to others.
    assert site.files_after_a_visit() == ["messages.sqlite3", "site.channels.sqlite3"]


def test_a_bare_fork_under_a_running_loop(site: Site) -> None:
    assert site.script("forks") == "heard: child / child again\n"
    assert site.files() == ["site.channels.sqlite3"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_live_server_test_case(site: Site, method: str) -> None:
    output = site.manage("test", LIVE_SERVER, "--verbosity", "2", DEPLOYED_START_METHOD=method)
    assert re.search(r"^Ran 2 tests .*\n\nOK$", output, re.MULTILINE), output
    # The real databases and their layers are nobody's business in a test run.
    assert [name for name in site.files() if not name.startswith("test_")] == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_live_server_test_case_leaves_no_files(site: Site, method: str) -> None:
    site.manage("test", LIVE_SERVER, DEPLOYED_START_METHOD=method)
    assert site.files() == []


def test_override_settings_works_and_leaks_nothing(site: Site) -> None:
    output = site.manage("test", f"{PACKAGE}.live_cases.OverriddenSettings", "--verbosity", "2")
    assert re.search(r"^Ran 4 tests .*\n\nOK$", output, re.MULTILINE), output
    assert site.files() == []


def test_asking_for_a_layer_while_importing_does_nothing(site: Site) -> None:
    assert site.script("idle_import") == "events: []\nmore threads and files: 0 0\n"
    assert site.files() == []
