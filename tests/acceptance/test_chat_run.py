"""The chat's `run.py`: what it starts ends with it, what dies is started again, what cannot start is given up."""

import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from channels_trunk.testing import eventually, eventually_blocking
from tests.acceptance.guest import entered
from tests.acceptance.processes import CHAT, Chat, Program, chat, is_alive

ROLES = ("server-a", "server-b", "worker")
SOON = 15.0


def run_py(folder: Path, *options: str) -> list[str]:
    """The command as people type it, but for the data's place."""
    return [sys.executable, str(CHAT / "run.py"), "--data-dir", str(folder / "var"), *options]


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_run_py_stops_all_it_started(tmp_path: Path, *, server: str, how: signal.Signals) -> None:
    program = Program(run_py(tmp_path, "--server", server), log=tmp_path / "chat.log", cwd=tmp_path)
    try:
        demo = Chat(program, tmp_path / "var")
        pids = [demo.pid(role) for role in ROLES]
        async with entered(demo.addresses["A"], room="lobby", name="Ada") as ada:
            program.process.send_signal(how)
            with pytest.raises(ConnectionClosed):
                await ada.hear("nothing more")
        await eventually(program.has_ended, within=SOON)
        assert program.process.returncode == 0
        assert not any(map(is_alive, pids))
        assert program.output.splitlines()[-1] == "chat: stopped"
        # All have left in good order.
        assert sorted(path.name for path in demo.data.iterdir()) == ["chat.channels.sqlite3", "secret_key"]
    finally:
        program.stop()


def test_a_worker_may_be_killed_again_and_again(tmp_path: Path) -> None:
    with chat(tmp_path) as demo:
        for _ in range(7):  # more often than a program may fail to start
            killed = demo.kill("worker")
            eventually_blocking(partial(demo.has_successor, "worker", of=killed), within=SOON)


def test_what_cannot_start_is_given_up_with_a_word(tmp_path: Path) -> None:
    (tmp_path / "var" / "secret_key").mkdir(parents=True)  # every child stumbles over it
    program = Program(run_py(tmp_path), log=tmp_path / "chat.log", cwd=tmp_path)
    try:
        eventually_blocking(program.has_ended, within=40, what="its end")
    finally:
        program.stop()
    assert program.process.returncode == 1
    assert re.search(r"^chat: \S+ ended 5 times in a row; see its messages above$", program.output, re.MULTILINE)
    assert "IsADirectoryError" in program.output
    assert "READY" not in program.output


def test_children_end_with_a_killed_run_py(tmp_path: Path) -> None:
    program = Program(run_py(tmp_path), log=tmp_path / "chat.log", cwd=tmp_path)
    try:
        demo = Chat(program, tmp_path / "var")
        pids = [demo.pid(role) for role in ROLES]
        assert all(map(is_alive, pids))
    finally:
        program.process.kill()
        program.process.wait()
    eventually_blocking(lambda: not any(map(is_alive, pids)), within=SOON, what="the children's end")
