"""Who publishes what others send meanwhile."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from channels_trunk.envelope import Envelope
from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually_blocking

X = {"type": "x"}


@pytest.fixture
def layer() -> Iterator[MemoryChannelLayer]:
    layer = MemoryChannelLayer(prefix="publisher")
    layer.sync.new_channel()
    yield layer
    layer.sync.close()


def test_a_thread_publishes_its_own_and_what_was_there_before_and_not_what_comes_meanwhile(
    layer: MemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would never come back where others go on sending."""
    hub = layer._hub
    publish_now = hub.transport.publish_now  # type: ignore[attr-defined]
    by: list[int] = []
    others: list[threading.Thread] = []

    def and_another_sends(batch: Sequence[Envelope]) -> Any:
        by.append(threading.get_ident())
        if len(others) < 5:
            others.append(threading.Thread(target=layer.sync.group_send, args=("room", X), daemon=True))
            others[-1].start()
            eventually_blocking(lambda: len(hub.publisher) > 0)
        return publish_now(batch)

    monkeypatch.setattr(hub.transport, "publish_now", and_another_sends)
    layer.sync.group_send("room", X)
    for thread in others:
        thread.join(20)
    assert by.count(threading.get_ident()) == 1
    assert len(by) == 6
    assert not len(hub.publisher)
