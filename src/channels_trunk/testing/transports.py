"""Transports for tests: a network engine inside one process, and a wrapper that makes any transport fail.

`LoopbackTransport` is the reference for engines that are reached over a network: unlike the memory transport it is
asynchronous through and through, hears only the groups that it was told of, and its connection can be lost.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing.faulty import FaultyEmbeddedTransport, FaultyTransport, Hold
from channels_trunk.testing.loopback import LoopbackServer, Stored, forget_server, loopback_server
from channels_trunk.transports.base import Busy, Capabilities, Claimed, NodeContext, Transport
from channels_trunk.transports.frames import claimed_message, envelopes_for_node

__all__ = [
    "FaultyEmbeddedTransport",
    "FaultyTransport",
    "Hold",
    "LoopbackChannelLayer",
    "LoopbackServer",
    "LoopbackTransport",
    "loopback_server",
]


class _Line:
    """One connection: made by open(), never used again once it is gone."""

    def __init__(self, server: LoopbackServer, context: NodeContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.context = context
        self._server = server
        self._news = asyncio.Event()
        self._answers = asyncio.Event()  # clear while the server hangs
        self._error: TransportUnavailable | None = None
        self.reader: asyncio.Task[None] | None = None
        self._answers.set()
        server.dialled(self)

    # --- any thread

    def wake(self) -> None:
        self._call(self._news.set)

    def cut(self, error: TransportUnavailable) -> None:
        self._call(self._cut_here, error)

    def released(self) -> None:
        self._call(self._answers.set)

    def _call(self, function: Any, *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return  # the hub's thread has ended, and the line with it

    # --- the hub's loop

    def _cut_here(self, error: TransportUnavailable) -> None:
        if self._error is None:
            self._error = error
            self._answers.set()
            self.context.sink.lost(error)

    async def travel(self, *, turns: int, delay: float) -> None:
        """Take the time that a message takes on the wire; raises TransportUnavailable if the connection goes."""
        for _ in range(turns):
            await asyncio.sleep(0)
        if delay:
            await asyncio.sleep(delay)
        if self._server.hanging:
            self._answers.clear()
        await self._answers.wait()
        if self._error is not None:
            raise TransportUnavailable(*self._error.args)

    async def read(self, *, turns: int, delay: float) -> None:
        """Hand over what comes, in order."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.travel(turns=turns, delay=delay)
            except TransportUnavailable:
                return
            # Nothing suspends between taking and handing over: a connection that is cut here loses nothing.
            frames, hints = self._server.take(self.context.node)
            for frame in frames:
                self._hand_over(frame)
            if hints:
                self.context.sink.available(hints)

    def _hand_over(self, frame: bytes) -> None:
        self.context.sink.received(envelopes_for_node(self.context, frame))


class LoopbackTransport(Transport):
    """Nodes of one process with one `name` share a LoopbackServer; see there for the faults that it can inject.

    Each way takes `turns` turns of the hub's loop and `delay` seconds.
    """

    capabilities = Capabilities(crosses_processes=False, needs_interest=True)

    def __init__(self, name: str, *, turns: int = 2, delay: float = 0.0) -> None:
        self.server: LoopbackServer = loopback_server(name)
        self._name = name
        self._turns = turns
        self._delay = delay
        self._line: _Line | None = None
        self._heard: frozenset[str] = frozenset()
        self._gap = ""

    async def open(self, context: NodeContext) -> None:
        """Connect; what waited at this node's place follows."""
        line = _Line(self.server, context)
        await line.travel(turns=self._turns, delay=self._delay)
        lost = self.server.connect(context.node, line)
        self._line = line
        if lost:
            self._heard = frozenset()
            self._gap = "the loopback server lost what it held"
        line.reader = asyncio.create_task(line.read(turns=self._turns, delay=self._delay))

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """There, and back with the confirmation: if it is lost on the way back, nobody can know."""
        try:
            line = await self._there()
        except TransportUnavailable as error:
            # It never left: the hub may try again over the next connection.
            raise Busy from error
        refused, full = self.server.accept(batch, line.context)
        await self._back(line)
        for channel in full:
            line.context.sink.dropped(channel)
        return refused

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Take messages; one that cannot be decoded is skipped, and another taken in its place."""
        line = await self._there()
        found: list[Claimed] = []
        while len(found) < limit and (taken := self.server.claim(channel, limit - len(found), line.context)):
            opened = [claimed_message(line.context, *message) for message in taken]
            found += [message for message in opened if message is not None]
        try:
            await self._back(line)
        except BaseException:
            # What was not handed over goes back, as a broker does with what was not acknowledged.
            self._put_back(found, line.context)
            raise
        return found

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Send them back."""
        line = await self._there()
        self._put_back(claimed, line.context)

    def _put_back(self, claimed: Sequence[Claimed], context: NodeContext) -> None:
        envelopes = [Envelope(Kind.QUEUE, message.channel, message.expires_at, message.body) for message in claimed]
        self.server.restore(
            [
                Stored(envelope.target, envelope.expires_at, context.codec.encode_frame(context.node, [envelope]))
                for envelope in envelopes
            ]
        )

    async def watch(self, channels: frozenset[str]) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.set_watched(line.context.node, channels)
        await self._back(line)

    async def interest(self, groups: frozenset[str]) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.set_groups(line.context.node, groups)
        await self._back(line)
        self._heard = groups
        self._tell_gap()

    def _tell_gap(self) -> None:
        gap, self._gap = self._gap, ""
        if gap and self._line is not None:
            # Not before the groups are heard: what is sent after a consumer was told must reach it.
            self._line.context.sink.gap(gap)

    async def hear(self, groups: frozenset[str]) -> None:
        """Tell the server."""
        await self.interest(self._heard | groups)

    def narrow(self, groups: frozenset[str]) -> None:
        """Each group is heard for itself."""
        self._heard &= groups

    def hears(self, group: str) -> bool:
        """As the server was told."""
        return group in self._heard

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.bind(group, channel, expires_at)
        await self._back(line)

    async def unbind(self, group: str, channel: str) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.unbind(group, channel)
        await self._back(line)

    async def peers(self) -> frozenset[str]:
        """Ask the server."""
        line = await self._there()
        await self._back(line)
        return self.server.nodes() - {line.context.node}

    async def purge(self) -> None:
        """Tell the server."""
        line = await self._there()
        self.server.purge()
        await self._back(line)

    async def maintain(self) -> float:
        """Have the server drop what has expired."""
        line = await self._there()
        self.server.tidy(line.context.clock.wall())
        return 15.0

    async def close(self, *, leave: bool) -> None:
        """Hang up."""
        line, self._line = self._line, None
        if line is None:
            return
        self.server.disconnect(line.context.node, line, leave=leave)
        if line.reader is not None:
            line.reader.cancel()
            await asyncio.gather(line.reader, return_exceptions=True)

    def abandon(self) -> None:
        """The child of a fork has a server of its own."""
        forget_server(self._name)
        self._line = None

    async def _there(self) -> _Line:
        line = self._line
        if line is None:
            raise TransportUnavailable("the loopback transport is not open")
        await line.travel(turns=self._turns, delay=self._delay)
        self.server.called(line.context.node, line)
        return line

    async def _back(self, line: _Line) -> None:
        await line.travel(turns=self._turns, delay=self._delay)


class LoopbackChannelLayer(TrunkChannelLayer):
    """The layer over a LoopbackTransport: layers of one process with the same `prefix` share a server."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.server: LoopbackServer = loopback_server(self.prefix)
        """The engine, for its faults."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return LoopbackTransport(values["prefix"])
