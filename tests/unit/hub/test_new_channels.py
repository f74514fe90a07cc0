"""Names that new_channel() gives out: their mailboxes are made with them, and go if nobody uses them."""

import asyncio
import time

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.layers import MemoryChannelLayer

HELLO = {"type": "hello"}


async def test_a_channel_that_nobody_uses_is_forgotten_and_works_all_the_same() -> None:
    layer = MemoryChannelLayer(prefix="new channels")
    try:
        used, unused = await layer.new_channel(), await layer.new_channel()
        await layer.group_add("room", used)
        assert layer.stats().channels_current == 2
        layer._hub.router.sweep(time.monotonic())
        assert layer.stats().channels_current == 1
        await layer.send(unused, HELLO)
        assert await layer.receive(unused) == HELLO
        await layer.group_add("room", unused)
        await layer.group_send("room", HELLO)
        assert [await layer.receive(channel) for channel in (used, unused)] == [HELLO, HELLO]
    finally:
        await layer.close()


async def test_a_mailbox_that_is_forgotten_and_made_anew_under_its_receiver() -> None:
    """The receiver, which let others run for a moment, finds what came meanwhile, and knows whose channel it is."""
    layer = MemoryChannelLayer(prefix="new channels")
    try:
        channel = await layer.new_channel()
        router = layer._hub.router
        router.boxes[channel].streak = 1000
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        router.sweep(time.monotonic())
        assert channel not in router.boxes
        message = Envelope(Kind.MAILBOX, channel, time.time() + 60, layer._pack(HELLO))
        layer._hub.reader.push([message])
        assert await asyncio.wait_for(receiving, 5) == HELLO
        waiting = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        assert channel not in layer._hub.claims.taken()
        waiting.cancel()
    finally:
        await layer.close()
