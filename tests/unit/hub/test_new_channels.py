"""Names that new_channel() gives out: their mailboxes are made with them, and go if nobody uses them."""

import time

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
