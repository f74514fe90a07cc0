"""Who watches the doorbell, when the watch changes hands at an awkward moment."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channels_trunk.hub import doorwatch
from channels_trunk.hub.doorwatch import Doorwatch
from channels_trunk.hub.joining import Joining, _Turn
from channels_trunk.hub.lifecycle import Lifecycle
from channels_trunk.hub.waiters import ThreadWaiter
from channels_trunk.testing.waiting import eventually
from channels_trunk.transports import throttle
from channels_trunk.transports.base import Capabilities, ReadableTransport


class Stage:
    """A watch over one end of a pipe, in whose loop, the hub's, the test runs."""

    def __init__(self, *, inline: bool = False) -> None:
        self.read_end, self._write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.rings = 0
        self.unread = False
        self.looks = 0
        self.polling_interval: float | None = None
        self.calls: list[Callable[[], object]] = []  # what the hub's loop is still to do
        transport = SimpleNamespace(
            capabilities=Capabilities(crosses_processes=True, inline=inline),
            doorbell=lambda: self.read_end,
            answer_doorbell=self._answer,
            leave_doorbell=lambda: None,
            polling_interval=lambda: self.polling_interval,
            changed=self._changed,
        )
        self.reader = SimpleNamespace(pull=self._pull, pending=False, reads=0, found=0)
        router = SimpleNamespace(counters=SimpleNamespace(delivered=0))
        options = SimpleNamespace(busy_wait=False)
        hub = SimpleNamespace(on_io=self._on_io, reader=self.reader, options=options, router=router, on_io_thread=True)
        self.watch = Doorwatch(cast(Lifecycle, hub), cast(ReadableTransport, transport))
        self.meanwhile: Callable[[], object] | None = None

    def _on_io(self, function: Callable[..., object], *args: Any) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        self.calls.append(lambda: function(*args))

    def _answer(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.read_end, 100)

    def _changed(self) -> bool:
        self.looks += 1
        return self.unread

    def _pull(self) -> None:
        self.rings += 1
        self.reader.reads += 1

    def ring(self) -> None:
        os.write(self._write_end, b"!")

    def catch_up(self) -> None:
        """Have the hub's loop do what it is to do."""
        while self.calls:
            self.calls.pop(0)()

    def close(self) -> None:
        self.watch.close()
        os.close(self.read_end)
        os.close(self._write_end)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_OFTEN", "_LOOK_SELDOM", "_GRACE"):
        monkeypatch.setattr(doorwatch, name, 0.005)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
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


async def hub_watches_on(stage: Stage, other_loop: asyncio.AbstractEventLoop) -> None:
    """A receiver waits in another loop, and that does not get the watch."""
    stage.watch.receiver_waits(other_loop)
    assert stage.watch.watcher is None
    stage.catch_up()
    async with rings_here(stage):
        pass


async def test_the_watch_comes_back_before_the_hub_has_let_go_of_it(
    stage: Stage, other_loop: asyncio.AbstractEventLoop
) -> None:
    """Another thread has the hub watch again, before this one has told the hub that it need not any more."""
    stage.meanwhile = stage.watch.thread_waits
    await hub_watches_on(stage, other_loop)


async def test_without_a_descriptor_left_the_hub_goes_on_watching(
    stage: Stage, other_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refused)
    await hub_watches_on(stage, other_loop)


async def test_a_loop_that_leaves_something_unread_is_relieved(
    stage: Stage, other_loop: asyncio.AbstractEventLoop
) -> None:
    stage.watch.receiver_waits(other_loop)
    stage.unread = True
    await eventually(lambda: stage.watch.watcher is None)
    stage.catch_up()
    async with rings_here(stage):
        pass


async def test_a_loop_that_goes_on_reading_is_left_alone(
    stage: Stage, other_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always something unread where much comes."""
    looks: list[bool] = []
    is_unread = stage.watch._is_unread

    def noted() -> bool:
        stage.reader.reads += 1
        looks.append(is_unread())
        return looks[-1]

    monkeypatch.setattr(stage.watch, "_is_unread", noted)
    stage.watch.receiver_waits(other_loop)
    stage.unread = True
    await eventually(lambda: len(looks) >= 5)
    assert stage.watch.watcher is other_loop
    assert not any(looks)


async def test_a_loop_that_reads_is_left_alone_where_rings_may_be_lost_too(stage: Stage) -> None:
    stage.polling_interval = 0.005
    stage.watch.receiver_waits(asyncio.get_running_loop())
    stage.unread = True
    before = stage.looks
    await eventually(lambda: stage.looks >= before + 10)
    assert stage.watch.watcher is asyncio.get_running_loop()


async def test_a_loop_that_leaves_something_undelivered_is_relieved(
    stage: Stage, other_loop: asyncio.AbstractEventLoop
) -> None:
    """It has read all there was, and stopped before its next turn."""
    stage.watch.receiver_waits(other_loop)
    stage.reader.pending = True
    await eventually(lambda: stage.watch.watcher is None)


@pytest.mark.parametrize("waits", ["receiver_waits", "caller_waits"])
async def test_who_begins_to_receive_while_a_loop_gets_the_watch_does_not_depend_on_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    here, watch_in = asyncio.get_running_loop(), stage.watch._watch_in

    def later(loop: asyncio.AbstractEventLoop, *, receives: bool) -> bool:
        stage.watch.thread_waits()
        return watch_in(loop, receives=receives)

    monkeypatch.setattr(stage.watch, "_watch_in", later)
    for _ in range(2):
        getattr(stage.watch, waits)(here)
    assert stage.watch.watcher is None


def test_a_loop_that_is_closed_before_it_could_let_go_leaves_no_descriptor() -> None:
    hubs, watching = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def open_and_close() -> None:
        scene.watch.open()
        scene.watch.receiver_waits(watching)
        assert watching in scene.watch._doors
        scene.close()

    scene = Stage()
    before = set(os.listdir("/proc/self/fd"))
    hubs.run_until_complete(open_and_close())
    watching.close()
    hubs.close()
    assert set(os.listdir("/proc/self/fd")) < before


async def test_a_join_leaves_the_watch_to_the_loop_that_has_it(
    stage: Stage, other_loop: asyncio.AbstractEventLoop
) -> None:
    """It waits in a future, or for what the hub does, and blocks nobody; a thread in that loop's place does."""
    here = asyncio.get_running_loop()
    stage.watch.receiver_waits(here)
    joining = Joining.__new__(Joining)
    for waiter in (here.create_future(), _Turn(joining)):
        assert not stage.watch.look_after(waiter)
        assert stage.watch.watcher is here
    stage.watch.look_after(ThreadWaiter())
    assert stage.watch.watcher is None


@pytest.fixture
async def embedded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A stage whose rings come from whoever may write a file; those in vain are left for an hour."""
    monkeypatch.setattr(throttle, "_SHORTEST", 3600.0)
    monkeypatch.setattr(doorwatch, "_LONGEST_PAUSE", 3600.0)
    embedded = Stage(inline=True)
    embedded.watch.open()
    yield embedded
    embedded.close()


async def rung_often(stage: Stage, *, finds: bool) -> int:
    """How many of many rings are answered."""
    before = stage.rings
    for _ in range(200):
        stage.ring()
        stage.reader.found += finds
        for _ in range(3):
            await asyncio.sleep(0)
    return stage.rings - before


async def test_rings_that_bring_something_are_all_answered(embedded: Stage) -> None:
    assert await rung_often(embedded, finds=True) == 200


async def test_rings_that_bring_nothing_are_left_alone(embedded: Stage) -> None:
    assert await rung_often(embedded, finds=False) < 100
    assert await rung_often(embedded, finds=True) == 0


@pytest.mark.parametrize("how", ["receiver_waits", "thread_waits"])
async def test_whoever_gets_the_watch_meanwhile_answers(embedded: Stage, how: str) -> None:
    await rung_often(embedded, finds=False)
    embedded.reader.found += 1
    if how == "receiver_waits":
        embedded.watch.receiver_waits(asyncio.get_running_loop())
    else:
        embedded.watch.thread_waits()
        embedded.catch_up()
    assert await rung_often(embedded, finds=True) >= 199


async def test_after_the_pause_it_is_watched_again(embedded: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    here = asyncio.get_running_loop()
    paused: list[Callable[[], object]] = []
    monkeypatch.setattr(here, "call_later", lambda seconds, call, *args: paused.append(lambda: call(*args)))
    await rung_often(embedded, finds=False)
    monkeypatch.undo()
    for call in paused:
        call()
    assert await rung_often(embedded, finds=True) >= 199


async def test_a_pause_that_ends_after_the_door_was_closed_watches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_SHORTEST", 3600.0)
    stage = Stage(inline=True)
    stage.watch.open()
    await rung_often(stage, finds=False)
    stage.watch.close()
    stage.watch._watch_again(asyncio.get_running_loop())
    assert not asyncio.get_running_loop().remove_reader(stage.read_end)
    stage.close()
