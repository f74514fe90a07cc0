"""The loopback transport as one that callers' threads may start to use; and how to make it fail."""

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
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

    Of three publishes that were started the hub has to finish one, and of three joins it has to ask for one again, so
    that all ways are gone.
    """

    capabilities = replace(LoopbackTransport.capabilities, starts=True)

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.started_total = 0
        self.asked_total = 0
        self._asking = threading.Lock()  # guards the next, and what is told to the server of groups
        self._asked: set[str] = set()  # groups that callers' threads asked for since narrow()
        self._answering: set[asyncio.Task[None]] = set()  # touched on the hub's loop alone
        self._outcome: Sequence[int] | TransportUnavailable = ()  # of what is to be finished

    def start(self, batch: Sequence[Envelope], done: Done) -> bool:
        """Put the batch into the server, if the connection stands."""
        line = self._reached()
        if line is None:
            return False
        refused, full = self.server.accept(batch, line.context)
        for channel in full:
            line.context.sink.dropped(channel)
        self.started_total += 1
        self._answer(line, partial(self._confirm, line, refused, done))
        return True

    def _reached(self) -> Any:
        """The line, if the server can be reached without waiting; else None."""
        line = self._line
        if line is None or self.server.hanging:
            return None
        try:
            self.server.called(line.context.node, line)
        except TransportUnavailable:
            return None
        return line

    def _answer(self, line: Any, way_back: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def begin() -> None:
            task = asyncio.create_task(way_back())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

        with suppress(RuntimeError):  # the hub's thread has ended, and has told whoever waits
            line.loop.call_soon_threadsafe(begin)

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

    # --- groups

    def start_hearing(self, groups: Collection[str], done: Callable[[bool], None]) -> bool:
        """Tell the server, if the connection stands."""
        line = self._reached()
        if line is None:
            return False
        with self._asking:
            self._asked.update(groups)
            self.server.add_groups(line.context.node, groups)
        self.asked_total += 1
        self._answer(line, partial(self._confirm_groups, line, frozenset(groups), done))
        return True

    async def _confirm_groups(self, line: Any, groups: frozenset[str], done: Callable[[bool], None]) -> None:
        try:
            await self._back(line)
        except TransportUnavailable:
            done(False)
            return
        with self._asking:
            self._heard |= groups & self._asked
        done(self.asked_total % 3 != 0)

    def narrow(self, groups: frozenset[str]) -> None:
        """What was asked for before this may go."""
        with self._asking:
            self._asked = set()
            super().narrow(groups)

    async def interest(self, groups: frozenset[str]) -> None:
        """Tell the server, but leave it what was asked for meanwhile."""
        line = await self._there()
        with self._asking:
            self.server.set_groups(line.context.node, groups | self._asked)
        await self._back(line)
        with self._asking:
            self._heard |= groups
        self._tell_gap()

    async def hear(self, groups: frozenset[str]) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.add_groups(line.context.node, groups)
        await self._back(line)
        with self._asking:
            self._heard |= groups

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
    """As FaultyTransport; what was planned for `publish` and `interest` happens to what would be started, too."""

    inner: StartingTransport

    def start(self, batch: Sequence[Envelope], done: Done) -> bool:
        """As inner, unless a fault waits for publish(): then the hub is to call that."""
        return not self.has_plans_for("publish") and self.inner.start(batch, done)

    def start_hearing(self, groups: Collection[str], done: Callable[[bool], None]) -> bool:
        """As inner, unless a fault waits for interest(): then the hub is to call that."""
        return not self.has_plans_for("interest") and self.inner.start_hearing(groups, done)

    async def finish(self) -> Sequence[int]:
        """As inner."""
        return await self._call("finish", self.inner.finish)

    def attend(self, seconds: float) -> None:
        """As inner."""
        self.inner.attend(seconds)
