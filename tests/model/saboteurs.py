"""Layers that are right until something changes: each keeps what was true before. The model suite has to find them."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

from channels.exceptions import ChannelFull

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.layers.memory import MemoryChannelLayer
from channels_trunk.testing.transports import LoopbackChannelLayer, LoopbackTransport
from channels_trunk.transports.base import NodeContext, Transport

Message = dict[str, Any]


class Knowing(MemoryChannelLayer):
    """What a saboteur needs to know: all memberships, of all layers with its prefix."""

    everyone: ClassVar[dict[str, dict[str, set[str]]]] = defaultdict(lambda: defaultdict(set))

    @property
    def members(self) -> dict[str, set[str]]:
        return self.everyone[self.prefix]

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        self.members[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await super().group_discard(group, channel)
        self.members[group].discard(channel)

    async def flush(self) -> None:
        await super().flush()
        self.members.clear()

    def is_own(self, channel: str) -> bool:
        return "!" in channel and self._hub.context.node in channel


class StaleMembers(Knowing):
    """Caches a group's normal channels at the first group_send, and does not notice that one has left."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.cached: dict[str, set[str]] = {}

    async def group_send(self, group: str, message: Message) -> None:
        await super().group_send(group, message)
        normal = {channel for channel in self.members[group] if "!" not in channel}
        for channel in self.cached.setdefault(group, normal) - normal:
            with contextlib.suppress(ChannelFull):
                await super().send(channel, message)


class ReturningMember(Knowing):
    """Makes the memberships again that it made, when it is used again after close(): also those that others ended."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.made: set[tuple[str, str]] = set()
        self.was_closed = False

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        if "!" not in channel:
            self.made.add((group, channel))

    async def group_discard(self, group: str, channel: str) -> None:
        await super().group_discard(group, channel)
        self.made.discard((group, channel))

    async def close(self) -> None:
        await super().close()
        self.was_closed = True

    async def new_channel(self, prefix: str = "specific") -> str:
        if self.was_closed:
            self.was_closed = False
            for membership in self.made:
                await super().group_add(*membership)
        return await super().new_channel(prefix)


class SecondLeaveForgotten(Knowing):
    """A channel that has left a group, and has joined it again, stays in it."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.left: set[tuple[str, str]] = set()

    async def group_discard(self, group: str, channel: str) -> None:
        if (group, channel) in self.left:
            return
        if channel in self.members[group]:
            self.left.add((group, channel))
        await super().group_discard(group, channel)


class RejoinForgotten(Knowing):
    """A channel that has left a group does not get into it again."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.left: set[tuple[str, str]] = set()

    async def group_add(self, group: str, channel: str) -> None:
        if (group, channel) not in self.left:
            await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        if channel in self.members[group]:
            self.left.add((group, channel))
        await super().group_discard(group, channel)


class FlushOfItsOwn(Knowing):
    """flush() leaves the memberships of other nodes' channels."""

    async def flush(self) -> None:
        others = [(g, c) for g, channels in self.members.items() for c in channels if "!" in c and not self.is_own(c)]
        await super().flush()
        for membership in others:
            await super().group_add(*membership)


class FullForGood(Knowing):
    """A channel that was full once is full for good."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.full: set[str] = set()

    async def send(self, channel: str, message: Message) -> None:
        if channel in self.full:
            raise ChannelFull(channel)
        try:
            await super().send(channel, message)
        except ChannelFull:
            self.full.add(channel)
            raise


class NeighboursMessage(Knowing):
    """A cancelled receive() takes the next message of another channel along."""

    async def receive(self, channel: str) -> Message:
        try:
            return await super().receive(channel)
        except asyncio.CancelledError:
            boxes = self._hub.router.boxes.values()
            full = [box for box in boxes if box.messages and box.channel != channel and box.waiter is None]
            for box in full[:1]:
                box.pop()
            raise


class ExpiryForgotten(Knowing):
    """What it sends once it was closed does not expire."""

    twin: MemoryChannelLayer | None = None

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.config = config

    async def send(self, channel: str, message: Message) -> None:
        await (
            MemoryChannelLayer.send(self, channel, message) if self.twin is None else self.twin.send(channel, message)
        )

    async def close(self) -> None:
        await super().close()
        if self.twin is not None:
            await self.twin.close()
        self.twin = MemoryChannelLayer(**self.config | {"expiry": 3600})


class LatestForJoiners(Knowing):
    """Hands a group's latest message to who joins, however old it is."""

    latest: ClassVar[dict[str, Message]] = {}

    async def group_send(self, group: str, message: Message) -> None:
        self.latest[group] = message
        await super().group_send(group, message)

    async def group_add(self, group: str, channel: str) -> None:
        is_new = channel not in self.members[group]
        await super().group_add(group, channel)
        if is_new and group in self.latest and self.is_own(channel):
            with contextlib.suppress(ChannelFull):
                await super().send(channel, self.latest[group])


class DeafAfterClose(Knowing):
    """Its channels get nothing any more from others' groups once it was closed, until they join twice."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.forgotten: set[str] = set()
        self.was_closed = False

    async def close(self) -> None:
        self.was_closed = True
        await super().close()

    async def group_add(self, group: str, channel: str) -> None:
        if self.was_closed and group not in self.forgotten:
            self.forgotten.add(group)
            return
        await super().group_add(group, channel)


class _Sabotaged(LoopbackChannelLayer):
    transport: ClassVar[type[LoopbackTransport]]

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return self.transport(values["prefix"])


class _GroupsLast(LoopbackTransport):
    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        order = sorted(range(len(batch)), key=lambda index: batch[index].kind == Kind.GROUP)
        refused = await super().publish([batch[index] for index in order])
        return [order[index] for index in refused]


class GroupsLast(_Sabotaged):
    """Of a batch, it publishes what is for groups behind the rest."""

    transport = _GroupsLast


class _Repeating(LoopbackTransport):
    latest: Sequence[Envelope] = ()

    async def open(self, context: NodeContext) -> None:
        sink = context.sink
        received = sink.received

        def remember(envelopes: Sequence[Envelope]) -> None:
            self.latest = [envelope for envelope in envelopes if envelope.kind != Kind.CONTROL] or self.latest
            received(envelopes)

        class Remembering:
            def __getattr__(self, name: str) -> Any:
                return remember if name == "received" else getattr(sink, name)

        await super().open(context._replace(sink=Remembering()))
        if self.latest:
            received(self.latest)


class RepeatedAfterReconnect(_Sabotaged):
    """Delivers once more, when it is connected again, what came last."""

    transport = _Repeating


class _Deaf(LoopbackTransport):
    opened = False

    async def open(self, context: NodeContext) -> None:
        heard = self._heard
        await super().open(context)
        # The server has lost its interest; it believes that it has not.
        self._heard = heard

    def narrow(self, groups: frozenset[str]) -> None:
        pass

    async def interest(self, groups: frozenset[str]) -> None:
        if not groups <= self._heard or not self.opened:
            self.opened = True
            await super().interest(groups | self._heard)
        self._tell_gap()


class DeafAfterLoss(_Sabotaged):
    """Does not say again what it hears to an engine that was emptied."""

    transport = _Deaf


class _Silent(LoopbackTransport):
    def _tell_gap(self) -> None:
        self._gap = ""


class UntoldLoss(_Sabotaged):
    """Does not tell that its engine was emptied."""

    transport = _Silent


def names(base: type[TrunkChannelLayer]) -> list[str]:
    """The saboteurs on this layer."""
    return [
        name
        for name, found in globals().items()
        if isinstance(found, type)
        and issubclass(found, base)
        and found.__module__ == __name__
        and not name.startswith("_")
        and name != "Knowing"
    ]
