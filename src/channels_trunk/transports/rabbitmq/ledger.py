"""Notes on the broker of what it cannot be asked: which normal channels there are, and their groups until when.

A queue of notes. To add one needs no lock; to read them all, one node at a time is the queue's exclusive consumer, and
writes them back in short. Of two notes about one thing, the later one holds.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from .channel import Channel, Delivery
from .errors import ACCESS_REFUSED, AmqpError
from .link import Link
from .publishing import Publication
from .topology import LEDGER_TYPE
from .wire import Properties

__all__ = ["Ledger", "Membership", "Notes"]

Membership = tuple[str, str]
"""Group and normal channel."""
_LOCKED_RETRY = 0.05
_GONE = -1.0
_TAG = "ledger"


class _Note(msgspec.Struct, frozen=True, array_like=True):
    at: float  # wall-clock seconds, as the next
    channel: str
    group: str = ""  # none: there is such a channel
    ends: float = 0.0  # 0: it is no member; of a channel _GONE: what was noted of it until `at` holds no more


@dataclass(slots=True)
class Notes:
    """What all notes together say."""

    channels: dict[str, float] = field(default_factory=dict)  # when noted
    gone: dict[str, float] = field(default_factory=dict)  # until when what is noted holds no more
    members: dict[Membership, tuple[float, float]] = field(default_factory=dict)  # when noted, and until when

    def add(self, note: _Note) -> None:
        """Another one."""
        if not note.group:
            latest = self.gone if note.ends == _GONE else self.channels
            latest[note.channel] = max(note.at, latest.get(note.channel, 0.0))
            return
        key = (note.group, note.channel)
        if key not in self.members or note.at >= self.members[key][0]:
            self.members[key] = (note.at, note.ends)

    def settle(self) -> None:
        """All have been added: leave the channels that there are."""
        self.channels = {name: at for name, at in self.channels.items() if name and at > self.gone.get(name, 0.0)}

    def ended(self, now: float) -> list[Membership]:
        """The memberships whose time is over."""
        return [key for key, (_, ends) in self.members.items() if 0 < ends <= now]


class Ledger:
    """This node's access; everything runs on the hub's loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._spec = link.settings.topology.ledger()
        self._is_declared = False

    async def note_channels(self, channels: Iterable[str]) -> None:
        """There are such normal channels."""
        now = self._link.context.clock.wall()
        await self._write([_Note(now, channel) for channel in channels])

    async def forget_channels(self, channels: Mapping[str, float]) -> None:
        """There were such normal channels when they were noted, and are no more.

        With that time, and not by this node's clock: whoever notes one again is right, whatever time it is there.
        """
        await self._write([_Note(at, channel, ends=_GONE) for channel, at in channels.items()])

    async def note_member(self, membership: Membership, ends: float) -> None:
        """It is a member until then; 0: it is none."""
        await self._write([_Note(self._link.context.clock.wall(), membership[1], membership[0], ends)])

    async def keep(self) -> None:
        """See to it that the notes do not expire while somebody is there."""
        if self._is_declared:
            await self._link.declare(self._spec)

    async def _declare(self) -> None:
        if not self._is_declared:
            await self._link.declare(self._spec)
            self._is_declared = True

    async def _write(self, notes: Iterable[_Note]) -> None:
        await self._declare()
        properties = Properties(LEDGER_TYPE, b"", is_persistent=True)
        publications = [
            Publication("", self._spec.name, properties, msgspec.msgpack.encode(note), must_arrive=True)
            for note in notes
        ]
        await self._link.publisher.publish(publications)

    async def read(self, *, forget_members: bool = False) -> Notes:
        """Read everything and write it back in short; with `forget_members`, only which channels there are."""
        await self._declare()
        while True:
            try:
                async with self._link.scratch() as channel:
                    return await self._read(channel, forget_members=forget_members)
            except AmqpError as error:
                if error.code != ACCESS_REFUSED:
                    raise
                await asyncio.sleep(_LOCKED_RETRY)  # another node reads them now

    async def _read(self, channel: Channel, *, forget_members: bool) -> Notes:
        found: list[Delivery] = []
        enough = asyncio.Event()
        expected = 0

        def receive(delivery: Delivery) -> None:
            found.append(delivery)
            if len(found) >= expected > 0:
                enough.set()

        # Once this is answered, nobody else takes any; before, messages that another had are back.
        await channel.consume(self._spec.name, _TAG, receive, exclusive=True)
        messages, _ = await channel.declare_queue(self._spec, passive=True)
        expected = len(found) + messages
        if len(found) < expected:
            await enough.wait()
        # What is written back comes to this consumer, too, and is not to be acknowledged.
        old = tuple(found)
        notes = Notes()
        for delivery in old:
            notes.add(_decoded(delivery.body))
        notes.settle()
        if old:
            await self._write(_shortened(notes, self._link.context.clock.wall(), forget_members=forget_members))
            channel.ack(old[-1].tag, multiple=True)
        await channel.cancel(_TAG)
        return notes


def _decoded(body: bytes) -> _Note:
    try:
        return msgspec.msgpack.decode(body, type=_Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Note(0.0, "")


def _shortened(notes: Notes, now: float, *, forget_members: bool) -> list[_Note]:
    kept = [_Note(at, channel) for channel, at in notes.channels.items()]
    if not forget_members:
        kept += [
            _Note(at, channel, group, ends) for (group, channel), (at, ends) in notes.members.items() if ends > now
        ]
    return kept
