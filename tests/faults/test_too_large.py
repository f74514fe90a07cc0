"""An engine that takes nothing so large: who is told, and what becomes of the others in the batch."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from channels.exceptions import ChannelFull, MessageTooLarge

from channels_trunk.envelope import Envelope
from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.transports.base import TooLarge
from tests.faults.conftest import MakeLayer

WHY = "this engine takes 10 bytes: send less"


def of(number: int) -> dict[str, Any]:
    return {"type": "x", "number": number}


async def numbers(layer: Any, channel: str, count: int) -> list[int]:
    async with asyncio.timeout(20):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


async def test_who_is_too_large_alone_is_told_and_the_others_arrive(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.new_channel()
    inner = here.faults.inner

    async def publish(batch: Sequence[Envelope]) -> Sequence[int]:
        """As the engine that has each envelope for itself; the last one finds its channel full."""
        await type(inner).publish(inner, [*batch[:3], *batch[4:-1]])
        raise TooLarge(WHY, [3], full=[len(batch) - 1])

    inner.publish = publish  # type: ignore[method-assign]
    if hasattr(inner, "start"):
        inner.start = lambda _batch, _done: False
    outcomes = await asyncio.gather(*(here.send(channel, of(number)) for number in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        *[type(None)] * 3,
        MessageTooLarge,
        *[type(None)] * 3,
        ChannelFull,
    ]
    assert str(outcomes[3]).endswith(f" bytes; {WHY}")
    assert await numbers(there, channel, 6) == [0, 1, 2, 4, 5, 6]
    stats = here.stats()
    assert (stats.failed_total, stats.reconnects_total) == (1, 0)


async def test_a_batch_that_is_too_large_goes_in_parts(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.new_channel()
    inner = here.faults.inner
    most = 3

    async def publish(batch: Sequence[Envelope]) -> Sequence[int]:
        if len(batch) > most:
            raise TooLarge(WHY)
        refused: Sequence[int] = await type(inner).publish(inner, batch)
        return refused

    inner.publish = publish  # type: ignore[method-assign]
    if hasattr(inner, "start"):
        inner.start = lambda _batch, _done: False
    await asyncio.gather(*(here.send(channel, of(number)) for number in range(100)))
    assert await numbers(there, channel, 100) == list(range(100))
    assert here.stats().failed_total == 0
    most = 0
    with pytest.raises(MessageTooLarge, match=WHY):
        await here.group_send("room", of(1))
    most = 3
    await here.send(channel, of(101))
    assert await numbers(there, channel, 1) == [101]


async def test_so_it_is_where_callers_publish_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, there = (MemoryChannelLayer(prefix="too large") for _ in range(2))
    try:
        channel = await there.new_channel()
        await layer.new_channel()
        transport: Any = layer._hub.transport
        publish_now = transport.publish_now

        def small_ones(batch: Sequence[Envelope]) -> Sequence[int]:
            if len(batch) > 3:
                raise TooLarge(WHY)
            result: Sequence[int] = publish_now(batch)
            return result

        monkeypatch.setattr(transport, "publish_now", small_ones)
        await asyncio.gather(*(layer.send(channel, of(number)) for number in range(50)))
        assert await numbers(there, channel, 50) == list(range(50))
        await eventually(lambda: not len(layer._hub.publisher))

        def none(batch: Sequence[Envelope]) -> Sequence[int]:
            raise TooLarge(WHY)

        monkeypatch.setattr(transport, "publish_now", none)
        with pytest.raises(MessageTooLarge, match=WHY):
            await layer.send(channel, of(1))
        with pytest.raises(MessageTooLarge, match=WHY):
            await layer.group_send("room", of(1))
    finally:
        await layer.close()
        await there.close()
