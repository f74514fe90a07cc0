"""Who reads the broker's socket: the loop that receives, or else the layer's own thread."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, works


def reader_of(layer: RabbitMQChannelLayer) -> asyncio.AbstractEventLoop | None:
    """The loop that reads; None: the layer's own."""
    doorwatch = layer._hub.doorwatch
    return None if doorwatch is None else doorwatch.watcher


def in_plain_thread(function: Callable[[], Any]) -> None:
    """Run it while this thread, and so its loop, stands still."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    assert done


async def test_the_loop_that_receives_reads(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())
    await here.send(channel, HELLO)
    assert await waiting == HELLO
    await works(here, there)


async def test_a_loop_that_stands_still_holds_up_its_own_receivers_alone(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel, other = await there.new_channel(), await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await eventually(lambda: reader_of(there) is asyncio.get_running_loop())

    def talk() -> Any:
        there.sync.send("jobs", HELLO)
        there.sync.group_add("group", other)
        here.sync.group_send("group", HELLO)
        here.sync.send(channel, HELLO)
        return there.sync.receive(other, timeout=5)

    in_plain_thread(talk)
    assert await waiting == HELLO
    assert await there.receive("jobs") == HELLO


async def test_a_loop_that_has_ended_is_not_waited_for(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer()
    channel = await there.new_channel()
    await here.send(channel, HELLO)

    def live_and_end() -> bool:
        async def receive() -> None:
            assert await there.receive(channel) == HELLO
            here.sync.send(channel, HELLO)
            assert await there.receive(channel) == HELLO

        asyncio.run(receive())
        return True

    in_plain_thread(live_and_end)
    assert reader_of(there) is not asyncio.get_running_loop()
    for _ in range(20):
        await there.send("jobs", HELLO)
        await there.group_add("group", channel)
    await here.group_send("group", HELLO)
    assert await there.receive(channel) == HELLO


async def test_with_inline_off_the_layers_own_thread_reads(make_layer: MakeLayer) -> None:
    here, there = make_layer(), make_layer(inline=False)
    channel = await there.new_channel()
    waiting = asyncio.ensure_future(there.receive(channel))
    await here.send(channel, HELLO)
    assert await waiting == HELLO
    assert reader_of(there) is None
    await works(here, there)
