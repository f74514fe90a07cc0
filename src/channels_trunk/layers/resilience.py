"""The option `resilience`: messages are dropped and delayed, and connections cut, on purpose."""

import asyncio
import random
import time

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.hub import Hub
from channels_trunk.options import ResilienceOptions

__all__ = ["Resilience"]


class Resilience:
    """The specification's resilience mode: be a bad network, so that developers see what their code makes of it."""

    def __init__(self, options: ResilienceOptions) -> None:
        self._options = options
        self._random = random.Random()
        self.dropped = 0

    def decide(self, hub: Hub) -> tuple[bool, float]:
        """Whether to drop the message, and how long to hold it; it may disconnect the transport, too."""
        if self._random.random() < self._options.disconnect:
            hub.context.sink.lost(TransportUnavailable("disconnected on purpose, by the option resilience"))
        drop = self._random.random() < self._options.drop
        self.dropped += drop
        return drop, self._random.uniform(0, self._options.delay)

    async def strikes(self, hub: Hub) -> bool:
        """Hold the sender, and say whether to drop the message."""
        drop, delay = self.decide(hub)
        if delay:
            await asyncio.sleep(delay)
        return drop

    def strikes_here(self, hub: Hub) -> bool:
        """As strikes(), for a sender that blocks."""
        drop, delay = self.decide(hub)
        time.sleep(delay)
        return drop
