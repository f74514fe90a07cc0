"""Acknowledging what has come to the node's queue, now and then: for each message alone it is a tenth of a round trip.

What is not acknowledged when the connection breaks comes again, and is known by its id.
"""

import asyncio
import threading

from .channel import Channel

__all__ = ["Acks"]

_LATEST = 0.02
"""Seconds that a message may wait for its acknowledgement."""


class Acks:
    """Outlives connections. Any thread."""

    def __init__(self, prefetch_count: int) -> None:
        # The broker goes on sending while these are on their way.
        self._most = max(1, prefetch_count // 4)
        self._lock = threading.Lock()  # guards all below
        self._channel: Channel | None = None
        self._tag = 0
        self._count = 0
        self._is_ticking = False

    def note(self, channel: Channel, tag: int, *, count: int) -> None:
        """So many messages have come, this one last."""
        with self._lock:
            if channel is not self._channel:
                # Not its ticking either: the loop that ticked for the one before may have ended.
                self._channel, self._count, self._is_ticking = channel, 0, False
            self._tag = tag
            self._count += count
            if self._count >= self._most:
                self._send()
            begins = bool(self._count) and not self._is_ticking
            self._is_ticking |= begins
        if begins:
            channel.in_loop(self._wait)

    def _wait(self) -> None:
        asyncio.get_running_loop().call_later(_LATEST, self._tick)

    def _tick(self) -> None:
        # Goes on for as long as messages come: to begin anew costs the loop's thread a wake.
        with self._lock:
            self._is_ticking = bool(self._count)
            self._send()
        if self._is_ticking:
            self._wait()

    def _send(self) -> None:
        if self._channel is not None and self._count:
            self._channel.ack(self._tag, multiple=True)
            self._count = 0
