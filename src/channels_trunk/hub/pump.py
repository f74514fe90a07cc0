"""The hub's own way out of the node: a task on its thread that publishes what callers do not."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from channels_trunk.exceptions import TransportError
from channels_trunk.transports.base import Busy, StartingTransport, TooLarge, Transport

from .outbox import Outgoing
from .outcomes import Outcomes, unexpected

if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .publisher import Publisher

__all__ = ["Pump"]

# A lock of SQLite is held for 20 to 100 us by a writer like us: trying again after 0.3 ms brought the highest
# throughput with three processes that send at once. After so many tries the holder is of another kind.
_QUICK_RETRY = 0.0003
_QUICK_TRIES = 10
_SLOW_RETRY = 0.005


class Pump:
    """Everything here is touched on the hub's loop alone."""

    def __init__(self, hub: "Lifecycle", publisher: "Publisher", outcomes: Outcomes, transport: Transport) -> None:
        self._hub = hub
        self._publisher = publisher
        self._outcomes = outcomes
        self._transport = transport
        self._waiting: asyncio.Event | None = None
        self.in_flight = False
        """Whether a batch is under way."""

    def now(self) -> None:
        """There is something to do."""
        if self._waiting is not None:
            self._waiting.set()

    async def run(self) -> None:
        """Publish what is in the outbox; a task, for as long as the transport is open."""
        self._waiting = waiting = asyncio.Event()
        self._publisher.pump_begins()
        waiting.set()
        try:
            while True:
                await waiting.wait()
                waiting.clear()
                await self._drain()
        finally:
            self._waiting = None
            self._publisher.pump_ends()

    async def _drain(self) -> None:
        tries = 0
        while True:
            batch, begun = self._publisher.next_batch()
            if not batch:
                return
            try:
                await self._settle(batch, begun=begun)
            except Busy:
                self._publisher.put_back(batch)
                tries += 1
                await self._pause(tries)
            else:
                tries = 0

    async def _settle(self, batch: list[Outgoing], *, begun: bool) -> None:
        """Publish, or `begun` elsewhere finish to publish, and tell the senders."""
        try:
            refused = await self._publish(batch, begun=begun)
        except TransportError as error:
            self._outcomes.failed(batch, error)
        except asyncio.CancelledError:
            self._publisher.cut_off(batch)
            raise
        except Busy:
            raise
        except TooLarge as error:
            if not self._outcomes.too_large(batch, error):
                self._publisher.take_apart(batch)
        except Exception as error:  # noqa: BLE001 - the senders must not wait for ever, nor the pump end
            self._outcomes.failed(batch, unexpected(error))
        else:
            self._outcomes.done(batch, refused)

    async def _publish(self, batch: list[Outgoing], *, begun: bool) -> Sequence[int]:
        if begun and isinstance(self._transport, StartingTransport):
            return await self._in_time(batch, self._transport.finish())
        envelopes = [entry.envelope for entry in batch]
        if not self._transport.capabilities.inline:
            return await self._in_time(batch, self._transport.publish(envelopes))
        publisher = self._publisher
        with publisher.exclusive:
            publisher.driver = threading.get_ident()
            try:
                refused = await self._transport.publish(envelopes)
            finally:
                publisher.driver = None
        publisher.follow_hints()
        return refused

    async def _in_time(self, batch: list[Outgoing], call: Awaitable[Sequence[int]]) -> Sequence[int]:
        """Await a call of the transport; an engine that hangs is lost, and raises TransportUnavailable."""
        left = self._publisher.deadline(batch) - self._hub.clock.monotonic()
        self.in_flight = True
        try:
            async with asyncio.timeout(left) as limit:
                return await call
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._outcomes.hangs("publish", left) from error
        finally:
            self.in_flight = False

    async def _pause(self, tries: int) -> None:
        if tries <= _QUICK_TRIES:
            # Not asyncio.sleep, which epoll rounds up to a whole millisecond.
            time.sleep(_QUICK_RETRY)  # noqa: ASYNC251 - the loop is the hub's own
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(_SLOW_RETRY)
