"""What the tests of who reads a connection share, whichever the engine."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from channels_trunk.hub import linger
from channels_trunk.layers import PostgresChannelLayer, RabbitMQChannelLayer
from channels_trunk.testing import eventually

__all__ = [
    "in_plain_thread",
    "reader_of",
    "reads_if_it_goes_on_sending",
    "sleeps_however_close_rings_are",
    "stays_awake_between_rings_that_are_close",
]

Layer = PostgresChannelLayer | RabbitMQChannelLayer


def reader_of(layer: Layer) -> asyncio.AbstractEventLoop | None:
    """The loop that reads; None: the layer's own."""
    watch = layer._hub.doorwatch
    return None if watch is None else watch.watcher


async def reads_if_it_goes_on_sending(layer: Layer) -> None:
    """Send from this loop until it reads.

    How often, depends on how soon the layer's thread has had the processor again and given up its turn to send.
    """

    async def reads() -> bool:
        await layer.group_send("nobody", {"type": "hello"})
        return reader_of(layer) is asyncio.get_running_loop()

    await eventually(reads)


def in_plain_thread(function: Callable[[], Any]) -> None:
    """Run it while this thread, and so its loop, stands still."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(function()), daemon=True)
    thread.start()
    thread.join(40)
    assert done


async def stays_awake_between_rings_that_are_close(here: Layer, there: Layer) -> None:
    """The loop that receives from `there`, by the manners of those who are rung through a server."""
    channel = await there.new_channel()
    await _is_rung(here, there, channel)
    watch = there._hub.doorwatch
    assert watch is not None
    async with asyncio.timeout(20):
        while watch._linger is None or not watch._linger._heard:
            await _is_rung(here, there, channel)
    assert watch._linger._manners.brief == linger.BEHIND_A_SERVER.brief


async def sleeps_however_close_rings_are(here: Layer, there: Layer) -> None:
    """The loop that receives from `there`."""
    channel = await there.new_channel()
    async with asyncio.timeout(20):
        while reader_of(there) is not asyncio.get_running_loop():
            await _is_rung(here, there, channel)
    watch = there._hub.doorwatch
    assert watch is not None
    assert watch._linger is None
    for _ in range(20):
        await _is_rung(here, there, channel)


async def _is_rung(here: Layer, there: Layer, channel: str) -> None:
    """A receiver waits in this loop, and gets a message."""
    waiting = asyncio.ensure_future(there.receive(channel))
    await asyncio.sleep(0)
    await here.send(channel, {"type": "hello"})
    assert await waiting == {"type": "hello"}
