"""What a scenario plays on: a node behind the proxy, a witness beside it, and the ledger of what they do."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.testing.cuts.ledger import Ledger
from channels_trunk.testing.layer import Layer
from channels_trunk.testing.waiting import eventually

__all__ = ["Actor", "Stage"]

# The same thing may be refused more than once, where several connections are cut.
_ATTEMPTS = 10
_ARRIVES_WITHIN = 30.0  # seconds; only what is lost takes so long


class Actor:
    """A layer, and its name in the ledger."""

    def __init__(self, name: str, layer: Layer, *, counts_gaps: bool) -> None:
        self.name = name
        self.layer = layer
        self._counts_gaps = counts_gaps
        self._gaps_before = self._count()

    def gaps(self) -> int:
        """How many gaps it has told of in this run."""
        return self._count() - self._gaps_before

    def _count(self) -> int:
        return int(self.layer.stats().gaps_total) if self._counts_gaps else 0


class Stage:
    """Does what a scenario says, and writes it down.

    A join, a leave or a flush that raises TransportUnavailable is done again until it holds. A send that raises it may
    have been taken, or not.
    """

    def __init__(
        self,
        victim: Actor,
        witness: Actor,
        *,
        tag: str,
        patience: float,
        gap_event: str | None,
        can_flush: bool,
        upkeep: Callable[[Layer], Awaitable[None]],
    ) -> None:
        self.victim = victim
        self.witness = witness
        self.can_flush = can_flush
        self.ledger = Ledger()
        self.doing = "nothing yet"
        self._tag = tag
        self._patience = patience
        self._gap_event = gap_event
        self._upkeep = upkeep
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._owners: dict[str, Actor] = {}  # of channels that are a process's own
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()  # channels that got a gap_event

    def name(self, base: str) -> str:
        """Return a group or normal channel of this run's own."""
        return f"{base}-{self._tag}"

    def groups(self) -> list[str]:
        """Return all groups that were joined, also those that were left."""
        return sorted(self._members)

    # What an actor does

    async def channel(self, owner: Actor, *, read: bool = True) -> str:
        """Return a new channel of this actor, which reads it from now on."""
        self.doing = f"new_channel() of the {owner.name}"
        channel = await owner.layer.new_channel()
        self._owners[channel] = owner
        if read:
            self.read(owner, channel)
        return channel

    def read(self, reader: Actor, channel: str) -> None:
        """Have this actor receive from the channel until stop_reading()."""
        self._readers[channel] = asyncio.create_task(self._receive(reader, channel))

    async def stop_reading(self, *channels: str) -> None:
        """Cancel the receivers of these channels, or (none) all."""
        readers = [self._readers.pop(channel) for channel in channels or tuple(self._readers)]
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def send(self, sender: Actor, channel: str) -> dict[str, Any] | None:
        """Send a message; return it, or None if nobody can know whether it was taken."""
        message = self.ledger.send(sender.name, f"send to {channel}", {channel})
        return await self._told_or_taken(message, lambda: sender.layer.send(channel, message))

    async def group_send(self, sender: Actor, group: str) -> None:
        """Send to a group; those that are members now must get it, and nobody else."""
        message = self.ledger.send(sender.name, f"group_send to {group}", self._members[group])
        await self._told_or_taken(message, lambda: sender.layer.group_send(group, message))

    async def join(self, actor: Actor, group: str, channel: str) -> None:
        """Add a channel, of whomever, to a group."""
        words = f"group_add of {channel} to {group} by the {actor.name}"
        await self._until_it_holds(words, lambda: actor.layer.group_add(group, channel))
        self._members[group].add(channel)

    async def leave(self, actor: Actor, group: str, channel: str) -> None:
        """Take a channel, of whomever, out of a group."""
        words = f"group_discard of {channel} from {group} by the {actor.name}"
        await self._until_it_holds(words, lambda: actor.layer.group_discard(group, channel))
        self._members[group].discard(channel)

    async def flush(self, actor: Actor) -> None:
        """Forget all messages and groups; what was sent before must not arrive any more."""
        await self._until_it_holds(f"flush() by the {actor.name}", actor.layer.flush)
        for members in self._members.values():
            members.clear()
        self.ledger.forget()

    async def close(self, actor: Actor) -> None:
        """Close the actor's layer: its own channels are in no group any more."""
        self.doing = f"close() of the {actor.name}"
        await actor.layer.close()
        for members in self._members.values():
            members.difference_update([channel for channel in members if self._owners.get(channel) is actor])

    async def upkeep(self, actor: Actor) -> None:
        """Have the actor's layer do what it does now and then, such as to stop listening to groups that were left."""
        self.doing = f"upkeep of the {actor.name}"
        await self._upkeep(actor.layer)

    # What is found

    async def settle(self, *channels: str) -> None:
        """Return when these channels, or all that are read, have what was sent to them so far.

        Both actors send a last message to each of them. What comes from one sender comes in order; but what a worker
        gave back may come behind it.
        """
        for channel in channels or tuple(self._readers):
            last = [await self._surely_send(actor, channel) for actor in (self.witness, self.victim)]
            self.doing = f"waiting for what was sent to {channel}"
            await self._arrived(channel, last)

    def verdict(self) -> list[str]:
        """What is wrong with the run; call it when everything has settled."""
        lost = [
            f"lost, and nobody was told: {words}, to {channel}"
            for channel in self._readers
            if not self._is_told(channel)
            for words in self.ledger.missing(channel)
        ]
        ended = [
            f"receive() of {channel}: {reader.exception()!r}"
            for channel, reader in self._readers.items()
            if reader.done()
        ]
        return self.ledger.faults + lost + ended

    async def _arrived(self, channel: str, last: list[dict[str, Any]]) -> None:
        def everything() -> bool:
            is_own = channel in self._owners
            if not is_own and self._is_told(channel):
                return True  # what was lost may be the last message itself
            if not all(self.ledger.has(channel, message) for message in last):
                return self._readers[channel].done()
            return is_own or not self.ledger.missing(channel)

        await eventually(everything, within=_ARRIVES_WITHIN * self._patience, what="everything has come")

    def _is_told(self, channel: str) -> bool:
        """Whether a loss to this channel has been told."""
        owner = self._owners.get(channel)
        if owner is None:
            return bool(self.victim.gaps() or self.witness.gaps())
        in_a_group = any(channel in members for members in self._members.values())
        return owner.gaps() > 0 and (channel in self._told or not in_a_group)

    # How

    async def _receive(self, reader: Actor, channel: str) -> None:
        while True:
            message = await reader.layer.receive(channel)
            if message["type"] == self._gap_event:
                self._told.add(channel)
            else:
                self.ledger.receive(channel, message, ordered=channel in self._owners)

    async def _told_or_taken(
        self, message: dict[str, Any], call: Callable[[], Awaitable[None]]
    ) -> dict[str, Any] | None:
        self.doing = self.ledger.words(message)
        try:
            await call()
        except TransportUnavailable:
            self.ledger.unsure(message)
            return None
        return message

    async def _surely_send(self, sender: Actor, channel: str) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            if (message := await self.send(sender, channel)) is not None:
                return message
        raise AssertionError(f"{_ATTEMPTS} times in turn: a {self.doing} raised TransportUnavailable")

    async def _until_it_holds(self, words: str, call: Callable[[], Awaitable[None]]) -> None:
        self.doing = words
        for _ in range(_ATTEMPTS):
            try:
                return await call()
            except TransportUnavailable:
                continue
        raise AssertionError(f"{_ATTEMPTS} times in turn: {words} raised TransportUnavailable")
