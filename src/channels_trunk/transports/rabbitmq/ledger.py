"""Notes on the broker of what it cannot be asked: which normal channels there are, and their groups until when.

A queue of notes. To add one needs no lock; to read them all, one node at a time is the queue's exclusive consumer, and
writes them back in short. It stays that while it does what they say: who adds a note and then sees no consumer knows
that whoever does something by the notes from now on has read his.

Of two notes about one membership, the one that the broker has had later holds, whatever time it was where they were
written. What was written back holds less than either: it is what older notes said.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from channels_trunk.names import check_channel, check_group

from .channel import Channel, Delivery
from .errors import ACCESS_REFUSED, NOT_FOUND, AmqpError
from .link import Link
from .post import BLOCKED_SHARE, what_arrived
from .publishing import Publication
from .topology import LEDGER_TYPE
from .wire import Properties

__all__ = ["Ledger", "Membership", "Notes"]

Membership = tuple[str, str]
"""Group and normal channel."""
_LOCKED_RETRY = 0.05
_TAKEN_RETRY = 0.01
_REFUSED_RETRY = 0.02
_BACK_SHARE = 0.5  # of `send_timeout`, as BLOCKED_SHARE
_GONE = -1.0
_TAG = "ledger"


class _Note(msgspec.Struct, frozen=True, array_like=True):
    at: float  # wall-clock seconds, as the next
    channel: str
    group: str = ""  # none: there is such a channel
    ends: float = 0.0  # 0: it is no member; of a channel _GONE: what was noted of it until `at` holds no more
    is_copy: bool = False  # written back by who read it


_FIRST = _Note(0.0, "", ends=-2.0)
"""Written when the queue is made, and only ever taken and given back: whoever has it has all that was taken with it. So
who does not find it knows that there is more to come, from a reader whose connection has ended."""

_NOTHING = _Note(0.0, "")


@dataclass(slots=True)
class Notes:
    """What all notes together say."""

    channels: dict[str, float] = field(default_factory=dict)  # when noted
    gone: dict[str, float] = field(default_factory=dict)  # until when what is noted holds no more
    of_members: dict[Membership, _Note] = field(default_factory=dict)

    def add(self, note: _Note) -> None:
        """Another one, which the broker has had after those before."""
        if not note.group:
            latest = self.gone if note.ends == _GONE else self.channels
            latest[note.channel] = max(note.at, latest.get(note.channel, 0.0))
            return
        key = (note.group, note.channel)
        if key not in self.of_members or self.of_members[key].is_copy or not note.is_copy:
            self.of_members[key] = note

    def settle(self, now: float, *, remember: float, end_members: bool = False) -> None:
        """All have been added: leave the channels that there are, and the memberships that there are or lately were.

        For so many seconds a membership that is over is remembered: whoever was to undo its binding may have been
        killed, or somebody may have bound it again who had not read of its end.
        """
        self.channels = {name: at for name, at in self.channels.items() if name and at > self.gone.get(name, 0.0)}
        for key, note in list(self.of_members.items()):
            if note.ends and (end_members or note.ends <= now):
                self.of_members[key] = _Note(now, note.channel, note.group)
            elif not note.ends and note.at <= now - remember:
                del self.of_members[key]

    @property
    def members(self) -> dict[Membership, float]:
        """The memberships that there are, and until when."""
        return {key: note.ends for key, note in self.of_members.items() if note.ends}

    def bindings(self) -> dict[Membership, bool]:
        """Of each membership that is noted, whether its binding is to be there."""
        return {key: bool(note.ends) for key, note in self.of_members.items()}


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

    async def is_there(self) -> bool:
        """Whether anything was noted, and its broker is up."""
        return await self._link.has_queue(self._spec.name)

    async def keep(self) -> None:
        """See to it that the notes do not expire while somebody is there.

        Of a quorum queue, which is not kept so, reading them is enough: see `Link.renew`.
        """
        if self._is_declared:
            self._is_declared = False
            with contextlib.suppress(AmqpError):  # its broker of a cluster is down: another time
                await self._declare()

    async def _declare(self) -> None:
        if not self._is_declared:
            is_new = not await self._link.has_queue(self._spec.name)
            await self._link.declare(self._spec)
            if is_new:
                await self._arrive([self._publication(_FIRST)])
            self._is_declared = True

    def _publication(self, note: _Note) -> Publication:
        properties = Properties(LEDGER_TYPE, b"", is_persistent=True)
        return Publication("", self._spec.name, properties, msgspec.msgpack.encode(note), must_arrive=True)

    async def _write(self, notes: Sequence[_Note]) -> None:
        publications = [self._publication(note) for note in notes]
        for _ in range(2):
            await self._declare()
            if await self._arrive(publications):
                return
            self._is_declared = False  # somebody has deleted it
        raise AmqpError(f"there is no queue {self._spec.name}")

    async def _arrive(self, publications: Sequence[Publication]) -> bool:
        """Publish them all; False if there is no queue.

        It has no limit; but a quorum queue refuses while it has no leader: when a broker of a cluster has died, and in
        the moment in which another node makes it.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._link.settings.send_timeout * BLOCKED_SHARE
        while True:
            outcome = what_arrived(await self._link.publisher.publish(publications), publications)
            if outcome.lost or not outcome.refused:
                return not outcome.lost
            if loop.time() > end:
                raise AmqpError(f"queue {self._spec.name} takes nothing now")
            publications = [publications[index] for index in outcome.refused]
            await asyncio.sleep(_REFUSED_RETRY)

    async def read(self) -> Notes:
        """Read everything and write it back in short."""
        async with self.taken() as (_, notes):
            return notes

    @asynccontextmanager
    async def taken(self, *, end_members: bool = False) -> AsyncIterator[tuple[Channel, Notes]]:
        """Read everything and write it back in short; with `end_members`, that every membership is over.

        Nobody else can until the end, or until the AMQP channel is closed, which is to be used for what the notes say:
        what it was asked for is done before another can take them, though this process may be killed.
        """
        is_mine = False
        while not is_mine:
            await self._declare()
            try:
                async with self._link.scratch() as channel:
                    notes = await self._read(channel, end_members=end_members)
                    is_mine = True
                    yield channel, notes
            except AmqpError as error:
                if is_mine:
                    raise
                if error.code == NOT_FOUND and self._is_declared and not self._link.connection.is_over:
                    self._is_declared = False  # somebody has deleted it
                elif error.code != ACCESS_REFUSED:
                    raise
                else:
                    await asyncio.sleep(_LOCKED_RETRY)  # another node has them now

    @asynccontextmanager
    async def untaken(self) -> AsyncIterator[Channel]:
        """When nobody has taken the notes: whoever does from now on finds what was noted before. An AMQP channel."""
        loop, patience = asyncio.get_running_loop(), self._link.settings.send_timeout * BLOCKED_SHARE
        end = loop.time() + patience
        while True:
            async with self._link.scratch() as channel:
                _, consumers = await channel.declare_queue(self._spec, passive=True)
                if not consumers:
                    yield channel
                    return
            if loop.time() > end:
                raise AmqpError(
                    f"another process sees to the members of groups, and has not ended in {patience:.3g} s; if it "
                    "stands still, RabbitMQ ends its connection when heartbeats are missing"
                )
            await asyncio.sleep(_TAKEN_RETRY)

    async def _read(self, channel: Channel, *, end_members: bool) -> Notes:
        reading = _Reading()
        # Once this is answered, nobody else takes any.
        await channel.consume(self._spec.name, _TAG, reading.receive, exclusive=True)
        await self._read_on(reading)
        if reading.first is None:
            # Who had them was cut off, and nobody else has them; but a quorum queue gets them back a moment later.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._link.settings.send_timeout * _BACK_SHARE):
                    await reading.until_first()
            await self._read_on(reading)
            reading.found.sort(key=lambda delivery: not delivery.is_redelivered)  # they are older
        # What is written back comes to this consumer, too, and is not to be acknowledged.
        old, first = tuple(reading.found), reading.first
        notes = Notes()
        for delivery in old:
            notes.add(_decoded(delivery.body))
        remember = self._link.settings.topology.queue_expires / 2
        notes.settle(self._link.context.clock.wall(), remember=remember, end_members=end_members)
        await self._write([*([] if first else [_FIRST]), *_shortened(notes)])
        if first is not None:
            channel.give_back(first.tag)  # it comes again at once
        # All at once: of many acknowledgements a quorum queue may not have seen the last when the channel is closed.
        channel.ack(max(delivery.tag for delivery in old), multiple=True)
        return notes

    async def _read_on(self, reading: "_Reading") -> None:
        """Until all is there that is in the queue.

        How much that is cannot be asked for: the answer overtakes some that is being delivered. So a last one says so.
        """
        last = Properties(LEDGER_TYPE, uuid4().hex.encode())
        body = msgspec.msgpack.encode(_Note(0.0, ""))
        if not await self._arrive([Publication("", self._spec.name, last, body, must_arrive=True)]):
            raise AmqpError(f"there is no queue {self._spec.name}")
        await reading.until_id(last.message_id)


class _Reading:
    """What has come from the queue so far."""

    def __init__(self) -> None:
        self.found: list[Delivery] = []
        self.first: Delivery | None = None
        """The note that is there as long as the queue."""
        self._ids: set[bytes] = set()
        self._came = asyncio.Event()

    def receive(self, delivery: Delivery) -> None:
        """Another one."""
        self.found.append(delivery)
        self._ids.add(delivery.properties.message_id)
        if self.first is None and _decoded(delivery.body) == _FIRST:
            self.first = delivery
        self._came.set()

    async def until_first(self) -> None:
        """Wait for the first note."""
        while self.first is None:
            await self._more()

    async def until_id(self, message_id: bytes) -> None:
        """Wait for the message with this id."""
        while message_id not in self._ids:
            await self._more()

    async def _more(self) -> None:
        self._came.clear()
        await self._came.wait()


def _decoded(body: bytes) -> _Note:
    """A note; one that says nothing, if it is none of ours, or names what cannot be named."""
    try:
        note = msgspec.msgpack.decode(body, type=_Note)
        if note.channel:
            check_channel(note.channel)
        if note.group:
            check_group(note.group)
    except Exception:  # noqa: BLE001 - see codec.unreadable
        return _NOTHING
    return _NOTHING if math.isnan(note.at) or math.isnan(note.ends) else note


def _shortened(notes: Notes) -> list[_Note]:
    kept = [_Note(at, channel) for channel, at in notes.channels.items()]
    return kept + [
        _Note(note.at, note.channel, note.group, note.ends, is_copy=True) for note in notes.of_members.values()
    ]
