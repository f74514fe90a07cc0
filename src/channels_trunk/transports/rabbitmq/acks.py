"""Acknowledging what has come to the node's queue, now and then: for each message alone it is a tenth of a round trip.

What is not acknowledged when the connection breaks comes again, and is known by its id.
"""

import asyncio

from .channel import Channel

__all__ = ["Acks"]

_LATEST = 0.02
"""Seconds that a message may wait for its acknowledgement."""


class Acks:
    """Outlives connections; everything runs on the hub's loop."""

    def __init__(self, prefetch_count: int) -> None:
        # The broker goes on sending while these are on their way.
        self._most = max(1, prefetch_count // 4)
        self._channel: Channel | None = None
        self._tag = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, channel: Channel, tag: int, *, count: int) -> None:
        """So many messages have come, this one last."""
        if channel is not self._channel:
            self._channel, self._count = channel, 0
        self._tag = tag
        self._count += count
        if self._count >= self._most:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._channel is not None and self._count:
            self._channel.ack(self._tag, multiple=True)
            self._count = 0
