"""What the tests of bad input share: layers that are closed, children that do harm, and the proof that all is well."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from channels_trunk.layers import SQLiteChannelLayer

__all__ = ["Layers", "holding_lock", "layers_closed", "proves_itself", "reaches", "run_child"]

CHILD_TIMEOUT = 240
# A layer's answer to bad input must come soon; the machine may be busy.
BOUND = 60.0
_numbers = itertools.count()


class Layers:
    """Makes layers, and closes them at the end of the test."""

    def __init__(self) -> None:
        self._made: list[SQLiteChannelLayer] = []

    def __call__(self, path: Path | None = None, **config: Any) -> SQLiteChannelLayer:
        if path is not None:
            config["path"] = str(path)
        layer = SQLiteChannelLayer(**config)
        self._made.append(layer)
        return layer

    async def close(self) -> None:
        """Close all; a layer in whatever state must let itself be closed."""
        for layer in self._made:
            await asyncio.wait_for(layer.close(), BOUND)


@asynccontextmanager
async def layers_closed() -> AsyncIterator[Layers]:
    """Layers that end with the block."""
    layers = Layers()
    try:
        yield layers
    finally:
        await layers.close()


async def reaches(sender: SQLiteChannelLayer, receiver: SQLiteChannelLayer, *, within: float = BOUND) -> None:
    """Messages and group messages go from one layer to the other, in order."""
    async with asyncio.timeout(within):
        channel = await receiver.new_channel()
        # A group of its own: one that was used before may have messages under way, and who joins gets them.
        group = f"proof-{next(_numbers)}"
        await receiver.group_add(group, channel)
        for number in range(3):
            await sender.send(channel, {"type": "proof", "number": number})
        await sender.group_send(group, {"type": "proof", "number": 3})
        got: list[int] = []
        while len(got) < 4:
            message = await receiver.receive(channel)
            if message["type"] == "proof":
                got.append(message["number"])
        assert got == [0, 1, 2, 3]
        await receiver.group_discard(group, channel)


async def proves_itself(layer: SQLiteChannelLayer, *, within: float = BOUND) -> None:
    """The layer takes and gives messages of every kind."""
    await reaches(layer, layer, within=within)
    async with asyncio.timeout(within):
        await layer.send("a-normal-channel", {"type": "proof"})
        assert await layer.receive("a-normal-channel") == {"type": "proof"}


# --- children

_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
connection.close()
"""


class Lock:
    """A lock that another process holds."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def release(self) -> None:
        """Have the process commit and end; done when this returns."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        assert self._process.wait(CHILD_TIMEOUT) == 0


@contextmanager
def holding_lock(path: Path) -> Iterator[Lock]:
    """Another process holds the file's lock until release(), or until the block ends."""
    command = [sys.executable, "-c", _LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            lock = Lock(process)
            yield lock
            lock.release()
        finally:
            process.kill()


_PROLOGUE = """
import asyncio, json, os, sys, time
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
from channels_trunk.layers import SQLiteChannelLayer
from tests.integration.sqlite.bad_input import proves_itself, reaches
path = sys.argv[1]

async def attempt(awaitable):
    started = time.monotonic()
    try:
        await asyncio.wait_for(awaitable, 30)
    except Exception as error:
        return [type(error).__name__, str(error), time.monotonic() - started]
    return ["", "", time.monotonic() - started]

"""


def run_child(code: str, path: Path, *, wrapper: tuple[str, ...] = (), **environment: str) -> Any:
    """Run `code`, whose main() is a coroutine function, in a process of its own; return what that returns."""
    ending = "\nprint(json.dumps(asyncio.run(main())))\n"
    child = subprocess.run(
        [*wrapper, sys.executable, "-c", _PROLOGUE + textwrap.dedent(code) + ending, str(path)],
        capture_output=True,
        check=False,
        timeout=CHILD_TIMEOUT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
    )
    assert child.returncode == 0, child.stderr.decode()
    return json.loads(child.stdout)
