"""A layer that is closed while others send to it, and then used again: nothing that they remember of it stays wrong."""

import asyncio

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually
from tests.faults.conftest import FaultyLayer, MakeLayer

HELLO = {"type": "hello"}


async def accepts(layer: FaultyLayer, channel: str) -> bool:
    try:
        await layer.send(channel, HELLO)
    except ChannelFull:
        return False
    return True


async def fill(layer: FaultyLayer, channel: str) -> None:
    while await accepts(layer, channel):
        pass


@pytest.mark.parametrize("how", ["close", "flush", "close and flush"])
async def test_a_channel_that_was_full_takes_messages_again(make_layer: MakeLayer, how: str) -> None:
    here, there = make_layer(capacity=4), make_layer(capacity=4)
    channel = await there.new_channel()
    await here.new_channel()
    for _ in range(2):
        await fill(here, channel)
        if "close" in how:
            await there.close()
            await there.new_channel()
        if "flush" in how:
            await here.flush()
        await eventually(lambda: accepts(here, channel))
        async with asyncio.timeout(20):
            assert await there.receive(channel) == HELLO


async def test_a_group_is_heard_by_a_member_that_joined_it_again(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    await here.new_channel()
    for _ in range(3):
        channel = await there.new_channel()
        await there.group_add("group", channel)
        await here.group_send("group", HELLO)
        async with asyncio.timeout(20):
            assert await there.receive(channel) == HELLO
        sending = asyncio.ensure_future(here.group_send("group", HELLO))
        await there.close()
        await sending
        # Another node asks a node that was there before, and is there again.
        other = await there.new_channel()
        await here.group_add("others", other)
        await here.group_send("others", HELLO)
        async with asyncio.timeout(20):
            assert await there.receive(other) == HELLO


async def test_what_is_in_memory_goes_with_the_last_layer_that_is_open() -> None:
    here, there = MemoryChannelLayer(prefix="last"), MemoryChannelLayer(prefix="last")
    for last in (False, True):
        await there.new_channel()
        await here.send("jobs", HELLO)
        if last:
            await there.close()
        await here.close()
        waiting = asyncio.ensure_future(here.receive("jobs"))
        if last:
            await here.send("jobs", {"type": "later"})
        assert await asyncio.wait_for(waiting, 20) == ({"type": "later"} if last else HELLO)
    await here.close()
