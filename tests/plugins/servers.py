"""Private servers for tests: started on first use, on a free loopback port, gone when the run ends or dies.

An address in the environment (see tools/server_table.py) is used instead of starting one. A server that cannot be
had is an error, never a skip. To add a server: a row in the table, a `Recipe` and a fixture of four lines here.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.plugins import leaks
from tools.server_table import REDIS, Program

BOUND_TO_PARENT = Path(__file__).with_name("bound_to_parent.py")
START_SECONDS = 30.0
ATTEMPTS = 3  # of starting: another process may take the free port between our look and the server's bind


class ServerError(Exception):
    """A server that tests need could not be found or started."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to run one kind of server in a folder of its own."""

    program: Program
    command: Callable[[int, Path], Sequence[str]]  # arguments, for a port and a data folder
    answers: Callable[[int], bool]  # whether the server on that port is ready
    url: str  # with {port}


def _redis_answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")


REDIS_RECIPE = Recipe(
    program=REDIS,
    command=lambda port, folder: [
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "no", "--daemonize", "no"),
    ],
    answers=_redis_answers,
    url="redis://127.0.0.1:{port}",
)


def free_port() -> int:
    """A loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(recipe: Recipe, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server; return its process and address once it answers."""
    binary = recipe.program.find()
    if binary is None:
        raise ServerError(recipe.program.remedy())
    log = folder / "server.log"
    command: list[str] = []
    for _ in range(ATTEMPTS):
        port = free_port()
        command = [str(binary), *recipe.command(port, folder)]
        with log.open("ab") as output:
            launcher = [sys.executable, "-I", "-S", str(BOUND_TO_PARENT), str(os.getpid())]
            process = subprocess.Popen([*launcher, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        if _becomes_ready(recipe, process=process, port=port):
            return process, recipe.url.format(port=port)
        stop(process)
    raise ServerError(f"{recipe.program.name} did not start: {command}\n{log.read_text(errors='replace')[-2000:]}")


def _becomes_ready(recipe: Recipe, *, process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # The process is asked once more: what answers may be somebody else's server on a port ours did not get.
            if recipe.answers(port) and process.poll() is None:
                return True
        except OSError:
            pass
        time.sleep(0.01)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server; there is nothing in it to save."""
    process.kill()
    process.wait()


def provide(recipe: Recipe, factory: pytest.TempPathFactory) -> Iterator[str]:
    """The body of a session fixture: the address of the server, ours or the one the environment names."""
    if address := recipe.program.url():
        yield address
        return
    process, address = start(recipe, factory.mktemp(recipe.program.name))
    leaks.belongs_to_session(process.pid)
    yield address
    stop(process)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis that belongs to this run alone."""
    yield from provide(REDIS_RECIPE, tmp_path_factory)
