"""Waking in the running loop, in other loops and in plain threads."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from channels_trunk.exceptions import SchemaMismatch, TransportUnavailable
from channels_trunk.hub.io_thread import IOThread
from channels_trunk.hub.waiters import ThreadWaiter, another, settle
from channels_trunk.testing import eventually_blocking


@pytest.fixture
def io() -> Iterator[IOThread]:
    thread = IOThread("test-io")
    yield thread
    thread.stop()
    thread.join(5)


def failure() -> TransportUnavailable:
    return TransportUnavailable("away")


def test_thread_waiter_waits_until_it_is_settled() -> None:
    waiter = ThreadWaiter()
    assert not waiter.done()
    assert waiter.wait(0) is False
    assert waiter.wait(-1) is False
    threading.Thread(target=settle, args=([waiter],)).start()
    assert waiter.wait(5) is True
    assert waiter.wait() is True
    assert waiter.done()


def test_thread_waiter_raises_what_it_was_settled_with_first() -> None:
    waiter = ThreadWaiter()
    settle([waiter], failure)
    settle([waiter])
    for _ in range(2):
        with pytest.raises(TransportUnavailable, match="away"):
            waiter.wait(0)


def test_two_threads_may_settle_one_waiter_at_once() -> None:
    """A lock that is released twice raises, or lets a second wait through."""
    errors: list[BaseException] = []

    def settle_all(waiters: list[ThreadWaiter], start: threading.Barrier) -> None:
        start.wait(5)
        try:
            for waiter in waiters:
                waiter.set_result(None)
        except RuntimeError as error:
            errors.append(error)

    waiters = [ThreadWaiter() for _ in range(2000)]
    start = threading.Barrier(4)
    threads = [threading.Thread(target=settle_all, args=(waiters, start)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for waiter in waiters:
        assert waiter.wait(5)
    for thread in threads:
        thread.join(5)
    assert errors == []


async def test_waiters_of_the_running_loop_are_settled_at_once() -> None:
    one, two = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
    two.cancel()
    settle([one, two])
    assert one.done()
    assert one.result() is None
    assert two.cancelled()


def test_waiters_of_another_loop_are_settled_by_one_call(io: IOThread, monkeypatch: pytest.MonkeyPatch) -> None:
    futures = [io.loop.create_future() for _ in range(100)]
    calls: list[tuple[Any, ...]] = []
    original = io.loop.call_soon_threadsafe

    def counted(*args: Any) -> object:
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(io.loop, "call_soon_threadsafe", counted)
    settle(futures)
    eventually_blocking(lambda: all(future.done() for future in futures))
    assert len(calls) == 1


def test_each_gets_an_error_of_its_own(io: IOThread) -> None:
    futures = [io.loop.create_future() for _ in range(2)]
    thread_waiter = ThreadWaiter()
    settle([*futures, thread_waiter], failure)
    eventually_blocking(lambda: all(future.done() for future in futures))
    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [TransportUnavailable] * 2
    assert errors[0] is not errors[1]
    with pytest.raises(TransportUnavailable):
        thread_waiter.wait(0)


def test_closed_loop_keeps_nobody_else_from_waking() -> None:
    loop = asyncio.new_event_loop()
    dead = loop.create_future()
    loop.close()
    waiter = ThreadWaiter()
    assert settle([dead, waiter]) is False
    assert waiter.done()
    assert not dead.done()


def test_another_keeps_type_text_and_cause() -> None:
    error = SchemaMismatch("the tables are newer")
    error.__cause__ = cause = ValueError("why")
    copy = another(error)
    assert type(copy) is SchemaMismatch
    assert copy is not error
    assert str(copy) == "the tables are newer"
    assert copy.__cause__ is cause


def test_another_of_a_class_that_wants_other_arguments() -> None:
    class Odd(TransportUnavailable):
        def __init__(self, code: int, text: str) -> None:
            super().__init__(f"{text} ({code})")

    error = Odd(5, "odd")
    assert another(error) is error


# --- the thread


def test_call_reaches_the_loop_until_it_ends(io: IOThread) -> None:
    called = threading.Event()
    assert not io.is_here
    assert io.call(called.set) is True
    assert called.wait(5)
    io.stop()
    io.join(5)
    eventually_blocking(io.loop.is_closed)
    assert io.call(called.set) is False
    io.stop()


def test_stop_waits_for_finally_blocks_however_long_they_take(io: IOThread) -> None:
    steps: list[str] = []
    started = threading.Event()

    async def nested() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for number in range(5):
                await asyncio.sleep(0)
                steps.append(f"step {number}")

    async def main() -> None:
        started.set()
        await asyncio.gather(nested())

    io.call(io.spawn, main())
    assert started.wait(5)
    io.stop()
    io.join(5)
    assert steps == [f"step {number}" for number in range(5)]


@pytest.mark.parametrize("turns", range(8))
def test_outcome_of_a_task_that_ends_as_the_thread_does_is_told(turns: int) -> None:
    """Whichever turn of the loop is its last: somebody may wait for it in another thread."""
    thread = IOThread("test-io")
    waiter = ThreadWaiter()

    async def work() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    def begin_and_end() -> None:
        thread.spawn(work()).add_done_callback(lambda _: waiter.set_result(None))
        thread.stop()

    thread.call(begin_and_end)
    assert waiter.wait(5)
    thread.join(5)


def test_task_that_will_not_end_does_not_hold_the_thread(io: IOThread, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    io.call(io.spawn, stubborn())
    io.stop()
    io.join(10)
    assert io.loop.is_closed()
    release.set()
    caplog.clear()
