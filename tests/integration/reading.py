"""What the tests of who reads a connection share, whichever the engine."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from channels_trunk.layers import PostgresChannelLayer, RabbitMQChannelLayer
from channels_trunk.testing import eventually

__all__ = ["in_plain_thread", "reader_of", "reads_if_it_goes_on_sending"]


def reader_of(layer: PostgresChannelLayer | RabbitMQChannelLayer) -> asyncio.AbstractEventLoop | None:
    """The loop that reads; None: the layer's own."""
    watch = layer._hub.doorwatch
    return None if watch is None else watch.watcher


async def reads_if_it_goes_on_sending(layer: PostgresChannelLayer | RabbitMQChannelLayer) -> None:
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
