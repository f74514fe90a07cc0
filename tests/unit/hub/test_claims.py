"""Claiming in the receiver's own thread, at an awkward moment."""

import asyncio
import threading
from typing import cast

from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing.waiting import eventually

JOB = {"type": "job"}


class ClosedJustBefore:
    """A lock that is taken just after the layer was closed, once."""

    def __init__(self, layer: MemoryChannelLayer) -> None:
        self._layer: MemoryChannelLayer | None = layer
        self._lock = threading.Lock()

    def acquire(self, *, blocking: bool = True) -> bool:
        layer, self._layer = self._layer, None
        if layer is not None:
            layer._hub.close_blocking()
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


async def test_a_receiver_of_a_normal_channel_waits_though_the_layer_is_closed_under_its_claim() -> None:
    layer, other = MemoryChannelLayer(prefix="claims"), MemoryChannelLayer(prefix="claims")
    try:
        waiting = asyncio.create_task(layer.receive("jobs"))
        await eventually(lambda: "jobs" in layer._hub.claims._watched)
        waiting.cancel()
        await asyncio.wait({waiting})
        await other.send("jobs", JOB)
        layer._hub.publisher.exclusive = cast(threading.Lock, ClosedJustBefore(layer))
        waiting = asyncio.create_task(layer.receive("jobs"))
        await eventually(lambda: layer.health().state == "closed")
        await layer.new_channel()
        assert await asyncio.wait_for(waiting, 5) == JOB
    finally:
        await layer.close()
        await other.close()
