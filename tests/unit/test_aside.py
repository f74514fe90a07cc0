"""What comes up in the middle of our work, and is put aside, keeps its order wherever it comes up."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from channels_trunk import aside
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
    with aside.Within():
        layer.sync.send(channel, {"type": "first"})

    class Interrupted(threading.Thread):
        def start(self) -> None:
            monkeypatch.undo()
            layer.sync.send(channel, {"type": "second"})  # by a signal handler, say
            super().start()

    monkeypatch.setattr(threading, "Thread", Interrupted)
    layer.sync.send(channel, {"type": "third"})
    got: list[Any] = [layer.sync.receive(channel, timeout=20)["type"] for _ in range(3)]
    assert got.index("first") < got.index("second")
