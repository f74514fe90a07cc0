"""The loopback transport as one that callers' threads may start to publish with; and how to make it fail."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing.faulty import FaultyTransport
from channels_trunk.testing.transports import LoopbackChannelLayer, LoopbackTransport
from channels_trunk.transports.base import StartingTransport, Transport

__all__ = ["FaultyStartingTransport", "StartingLoopbackChannelLayer", "StartingLoopbackTransport"]

Done = Callable[[Sequence[int] | None], None]


class StartingLoopbackTransport(LoopbackTransport, StartingTransport):
    """What is started is with the server at once; the confirmation takes its way through the hub's loop.

    Of three publishes that were started the hub has to finish one, so that all ways are gone.
    """

    capabilities = replace(LoopbackTransport.capabilities, starts=True)

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.started_total = 0
        self._answering: set[asyncio.Task[None]] = set()  # touched on the hub's loop alone
        self._outcome: Sequence[int] | TransportUnavailable = ()  # of what is to be finished

    def start(self, batch: Sequence[Envelope], done: Done) -> bool:
        """Put the batch into the server, if the connection stands."""
        line = self._line
        if line is None or self.server.hanging:
            return False
        try:
            self.server.called(line.context.node, line)
        except TransportUnavailable:
            return False
        refused, full = self.server.accept(batch, line.context)
        for channel in full:
            line.context.sink.dropped(channel)
        self.started_total += 1
        with suppress(RuntimeError):  # the hub's thread has ended, and has told the senders
            line.loop.call_soon_threadsafe(self._answer, line, refused, done)
        return True

    def _answer(self, line: Any, refused: Sequence[int], done: Done) -> None:
        task = asyncio.create_task(self._confirm(line, refused, done))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _confirm(self, line: Any, refused: Sequence[int], done: Done) -> None:
        try:
            await self._back(line)
        except TransportUnavailable as error:
            self._outcome = error
            done(None)
        else:
            self._outcome = refused
            done(None if self.started_total % 3 == 0 else refused)

    async def finish(self) -> Sequence[int]:
        """Say what came of it."""
        await asyncio.sleep(0)
        if isinstance(self._outcome, TransportUnavailable):
            raise self._outcome
        return self._outcome

    async def close(self, *, leave: bool) -> None:
        """Hang up."""
        for task in self._answering:
            task.cancel()
        await super().close(leave=leave)


class StartingLoopbackChannelLayer(LoopbackChannelLayer):
    """The layer over a StartingLoopbackTransport."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return StartingLoopbackTransport(values["prefix"])


class FaultyStartingTransport(FaultyTransport, StartingTransport):
    """As FaultyTransport; what was planned for `publish` happens to what would be started, too."""

    inner: StartingTransport

    def start(self, batch: Sequence[Envelope], done: Done) -> bool:
        """As inner, unless a fault waits for publish(): then the hub is to call that."""
        return not self.has_plans_for("publish") and self.inner.start(batch, done)

    async def finish(self) -> Sequence[int]:
        """As inner."""
        return await self._call("finish", self.inner.finish)

    def attend(self, seconds: float) -> None:
        """As inner."""
        self.inner.attend(seconds)
