"""Who watches the doorbell, when the watch changes hands at an awkward moment."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channels_trunk.hub.doorwatch import Doorwatch
from channels_trunk.hub.lifecycle import Lifecycle
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports.base import ReadableTransport


class Stage:
    """A watch over one end of a pipe, in whose loop, the hub's, the test runs."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        self.rings = 0
        self.calls: list[Callable[[], object]] = []  # what the hub's loop is still to do
        transport = SimpleNamespace(
            doorbell=lambda: self.read_end,
            answer_doorbell=lambda: os.read(self.read_end, 1),
            leave_doorbell=lambda: None,
            polling_interval=lambda: None,
        )
        hub = SimpleNamespace(on_io=self._on_io, reader=SimpleNamespace(pull=self._pull, pending=False))
        self.watch = Doorwatch(cast(Lifecycle, hub), cast(ReadableTransport, transport))
        self.meanwhile: Callable[[], object] | None = None

    def _on_io(self, function: Callable[..., object], *args: Any) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.calls.append(lambda: function(*args))

    def _pull(self) -> None:
        self.rings += 1

    def ring(self) -> None:
        os.write(self._write_end, b"!")

    def catch_up(self) -> None:
        """Have the hub's loop do what it is to do; each change of hands rings."""
        while self.calls:
            self.ring()
            self.calls.pop(0)()

    def close(self) -> None:
        self.watch.close()
        os.close(self.read_end)
        os.close(self._write_end)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    stage.ring()
    stage.watch.open()
    yield stage
    stage.close()


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@asynccontextmanager
async def rings_here(stage: Stage) -> AsyncIterator[None]:
    before = stage.rings
    yield
    stage.ring()
    await eventually(lambda: stage.rings > before)


async def test_the_watch_comes_back_before_the_hub_has_let_go_of_it(
    stage: Stage, other_loop: asyncio.AbstractEventLoop
) -> None:
    """Another thread has the hub watch again, before this one has told the hub that it need not any more."""
    stage.meanwhile = stage.watch.thread_waits
    stage.watch.receiver_waits(other_loop)
    assert stage.watch.watcher is None
    stage.catch_up()
    async with rings_here(stage):
        pass


async def test_without_a_descriptor_left_the_hub_goes_on_watching(
    stage: Stage, other_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refused)
    stage.watch.receiver_waits(other_loop)
    assert stage.watch.watcher is None
    stage.catch_up()
    async with rings_here(stage):
        pass
