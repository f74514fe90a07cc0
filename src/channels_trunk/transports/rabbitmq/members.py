"""Normal channels as members of groups: bindings on the groups exchange, and when they end."""

from collections.abc import Sequence
from itertools import islice

from channels_trunk.aside import logger
from channels_trunk.transports.base import NodeContext

from .errors import NOT_FOUND, AmqpError
from .ledger import Ledger, Membership, Notes
from .link import Link
from .workers import Workers

__all__ = ["Members"]

# So many times as long as a queue stays that nobody uses, a channel is taken to be there because it was noted.
_LONG_AGO = 2
# At once: each look is a question to the broker.
_MOST_LOOKED_FOR = 200


class Members:
    """The memberships that this node has made; it outlives connections. Everything runs on the hub's loop."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._ends: dict[Membership, float] = {}
        self._unbound: set[Membership] = set()  # those whose queues could not be reached
        self._is_doubtful = False  # whether the bindings of other nodes' memberships may be gone

    async def bind(self, link: Link, workers: Workers, ledger: Ledger, *, membership: Membership, ends: float) -> None:
        """Make a normal channel a member."""
        await self._bind(link, workers, membership)
        await ledger.note_member(membership, ends)
        self._ends[membership] = ends
        self._unbound.discard(membership)

    async def _bind(self, link: Link, workers: Workers, membership: Membership) -> None:
        group, channel = membership
        topology = link.settings.topology
        for is_last in (False, True):
            await workers.declare([channel])
            try:
                async with link.scratch() as lane:
                    await lane.bind(topology.channel_queue_name(channel), topology.groups_exchange, group)
            except AmqpError as error:
                if error.code != NOT_FOUND or is_last:
                    raise
                workers.forget(channel)
            else:
                return

    async def unbind(self, link: Link, ledger: Ledger, membership: Membership) -> None:
        """Take a normal channel out of a group, whoever put it in."""
        await self._unbind(link, [membership])
        await ledger.note_member(membership, 0.0)

    async def _unbind(self, link: Link, memberships: Sequence[Membership]) -> None:
        topology = link.settings.topology
        async with link.scratch() as lane:
            for group, channel in memberships:
                await lane.unbind(topology.channel_queue_name(channel), topology.groups_exchange, group)
                self._ends.pop((group, channel), None)

    async def restore(self, link: Link, workers: Workers) -> None:
        """After a connection was lost: bind again, in case that the exchange or the queue is new."""
        for membership in list(self._ends):
            await self._bind_if_reached(link, workers, membership)

    async def _bind_if_reached(self, link: Link, workers: Workers, membership: Membership) -> None:
        try:
            await self._bind(link, workers, membership)
        except AmqpError as error:
            if link.connection.is_over:
                raise
            # Its queue's node of a cluster may be down, which must not keep the process from all others.
            logger.warning("group %s: RabbitMQ queue of member %s was not bound: %s", *membership, error)
            self._unbound.add(membership)
        else:
            self._unbound.discard(membership)

    def doubt(self) -> None:
        """The broker lost bindings: those that nodes made which are gone now are to be made again, too."""
        self._is_doubtful = True

    def next_end(self) -> float:
        """When the first membership ends; wall-clock seconds, or infinity."""
        return min(self._ends.values(), default=float("inf"))

    async def look_after(self, link: Link, workers: Workers, ledger: Ledger, *, thoroughly: bool) -> None:
        """End what is over, of this node or (`thoroughly`) of any; keep the queues of the others."""
        now = self._context.clock.wall()
        if self._is_doubtful:
            await self._renew(link, workers, ledger)
            self._is_doubtful = False
        if not thoroughly:
            await self._keep(link, workers, [key for key, ends in self._ends.items() if ends > now])
        if not thoroughly and self.next_end() > now:
            return
        notes = await ledger.read()
        # Another node may have renewed what this one began.
        self._ends = {key: notes.members[key][1] for key in self._ends if key in notes.members}
        if over := notes.ended(now):
            await self._unbind(link, over)
        if thoroughly:
            await self._look_for_channels(link, ledger, notes)

    async def _look_for_channels(self, link: Link, ledger: Ledger, notes: Notes) -> None:
        """Of channels that were noted long ago, note those again whose queues are there, and forget the others.

        Not more often: a queue that was looked at expires later. Not of members, whose queues are kept.
        """
        topology = link.settings.topology
        long_ago = self._context.clock.wall() - _LONG_AGO * topology.queue_expires
        members = {channel for _, channel in notes.members}
        old = (name for name, at in notes.channels.items() if at < long_ago and name not in members)
        there: list[str] = []
        gone: dict[str, float] = {}
        for channel in islice(old, _MOST_LOOKED_FOR):
            try:
                is_there = await link.has_queue(topology.channel_queue_name(channel))
            except AmqpError:
                if link.connection.is_over:
                    raise
                continue  # somebody has it to himself: it is there, or is not, another time
            if is_there:
                there.append(channel)
            else:
                gone[channel] = notes.channels[channel]
        if there:
            await ledger.note_channels(there)
        if gone:
            await ledger.forget_channels(gone)

    async def _keep(self, link: Link, workers: Workers, memberships: Sequence[Membership]) -> None:
        for membership in memberships:
            if membership in self._unbound:
                await self._bind_if_reached(link, workers, membership)
                continue
            # Not bound again: another node may have ended it.
            try:
                await workers.keep(membership[1])
            except AmqpError:
                if link.connection.is_over:
                    raise

    async def _renew(self, link: Link, workers: Workers, ledger: Ledger) -> None:
        if not await link.has_queue(link.settings.topology.ledger().name):
            return
        notes, now = await ledger.read(), self._context.clock.wall()
        for membership, (_, ends) in notes.members.items():
            if ends > now and await link.has_queue(link.settings.topology.channel_queue_name(membership[1])):
                await self._bind_if_reached(link, workers, membership)

    async def purge(self, link: Link, ledger: Ledger) -> None:
        """Empty every normal channel, and end every membership."""
        notes = await ledger.read(forget_members=True)
        self._ends.clear()
        await self._unbind(link, list(notes.members))
        for channel in notes.channels:
            try:
                async with link.scratch() as lane:
                    await lane.purge(link.settings.topology.channel_queue_name(channel))
            except AmqpError as error:
                if error.code != NOT_FOUND:
                    raise

    def forget(self) -> None:
        """The node is gone; what it has made stays."""
        self._ends.clear()
