"""What comes up in the middle of our work, and is put aside, keeps its order wherever it comes up."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from channels_trunk import aside
from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.layers import MemoryChannelLayer


@pytest.fixture
def layer() -> Iterator[MemoryChannelLayer]:
    layer = MemoryChannelLayer(send_timeout=2)
    yield layer
    layer.sync.close()


def test_what_interrupts_the_start_of_the_thread_overtakes_nothing(
    layer: MemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = layer.sync.new_channel()
    monkeypatch.setattr(layer._hub, "on_io", lambda *_: None)  # so that the thread is started here, and not there
    mark, token = aside.enter()
    layer.sync.send(channel, {"type": "first"})
    aside.WITHIN.reset(token)
    mark.clear()

    class Interrupted(threading.Thread):
        def start(self) -> None:
            monkeypatch.undo()
            layer.sync.send(channel, {"type": "second"})  # by a signal handler, say
            super().start()

    monkeypatch.setattr(threading, "Thread", Interrupted)
    layer.sync.send(channel, {"type": "third"})
    got: list[Any] = [layer.sync.receive(channel, timeout=20)["type"] for _ in range(3)]
    assert got.index("first") < got.index("second")


def test_what_was_put_aside_goes_when_the_call_that_it_interrupted_ends(
    layer: MemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the layer has no thread of its own that could see to it: it is closed, or was never used."""
    channel = layer.sync.new_channel()
    monkeypatch.setattr(layer._hub, "on_io", lambda *_: None)
    with aside.Within():
        layer.sync.send(channel, {"type": "sent"})
    monkeypatch.undo()
    assert layer.sync.receive(channel, timeout=20) == {"type": "sent"}


def test_a_call_that_raises_holds_up_none_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.excepthook", lambda *error: said.append(error[1]))
    made: list[int] = []
    calls = aside.Aside("under-test")
    calls.put(lambda: made.append(1 // 0))
    calls.put(lambda: made.append(2))
    assert calls.drained(20)
    assert made == [2]
    assert isinstance(said[0], ZeroDivisionError)


def test_where_no_thread_can_be_had_calls_are_made_by_whoever_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    made: list[int] = []
    calls = aside.Aside("under-test")
    calls.put(lambda: made.append(threading.get_ident()))
    with aside.Within():
        calls.work()
    assert made == []  # this one was in the middle of something
    calls.work()
    assert made == [threading.get_ident()]


def test_a_signal_that_ends_the_start_of_the_thread_does_not_end_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: object) -> None:
        raise KeyboardInterrupt

    made: list[int] = []
    calls = aside.Aside("under-test")
    calls.put(lambda: made.append(1))
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            calls.work()
    assert calls.drained(20)
    assert made == [1]


async def test_a_task_made_in_the_middle_of_a_call_may_send_when_that_is_over(layer: MemoryChannelLayer) -> None:
    channel = await layer.new_channel()
    over = asyncio.Event()

    async def later() -> None:
        await over.wait()
        await layer.send(channel, {"type": "later"})

    with aside.Within():
        task = asyncio.create_task(later())
    over.set()
    await task
    assert await layer.receive(channel) == {"type": "later"}


def test_stats_are_given_in_the_middle_of_whatever_holds_the_lock(layer: MemoryChannelLayer) -> None:
    channel = layer.sync.new_channel()
    with layer._hub.lock:  # as a signal handler finds it that interrupts a call
        assert layer.stats().channels_current == 1
    layer.sync.send(channel, {"type": "after"})


def test_a_message_sent_at_the_very_end_is_not_left_waiting(
    layer: MemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer's thread ends, and no other can be started: whoever sent is told, and close() returns."""
    hub = layer._hub
    layer.sync.new_channel()

    def refuse() -> None:
        raise ChannelLayerError("no thread")

    monkeypatch.setattr(hub.publisher, "drop_unasked", lambda: True)
    monkeypatch.setattr(hub, "start", refuse)
    layer.sync.close()
    monkeypatch.undo()
    assert layer.sync.new_channel()
