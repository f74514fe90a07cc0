"""Normal channels as members of groups: bindings on the groups exchange, which follow the notes in the ledger.

What is noted is the truth, and is noted before it is done. What this process remembers of what it has noted only says
when to look at the notes: no binding is ever made from memory, as others may have ended the membership meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from channels_trunk.aside import logger
from channels_trunk.transports.base import NodeContext

from .channel import Channel
from .errors import NOT_FOUND, AmqpError
from .ledger import Ledger, Membership, Notes
from .link import Link
from .workers import Workers

__all__ = ["Members"]

# So many times as long as a queue stays that nobody uses, a channel is taken to be there because it was noted.
_LONG_AGO = 2
# At once: each look is a question to the broker.
_MOST_LOOKED_FOR = 200
_MOST_ASKED_AT_ONCE = 100
# Seconds that it may hold a node up to have all bindings there before it takes part; it goes on afterwards.
_RESTORE_WITHIN = 2.0
# As many processes as there are may want to read the notes, one after the other; who does not get to it comes later.
_LOOK_WITHIN = 10.0
# The part of the time in which a queue expires for which it need not be seen to again, if not all could be seen to.
_SEEN_FOR = 1 / 12


class Members:
    """This node's part in keeping memberships; it outlives connections. Everything runs on the hub's loop."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._ends: dict[Membership, float] = {}  # when to look whether a membership that this node noted is over
        self._is_doubtful = False  # whether bindings may be others than the notes say
        self._seen: dict[str, float] = {}  # channels whose queues were seen to, and when, until all were
        self._lost: list[str] = []  # what was found lost, until that is said

    # --- what callers ask for

    async def bind(self, link: Link, workers: Workers, ledger: Ledger, *, membership: Membership, ends: float) -> None:
        """Make a normal channel a member."""
        _, channel = membership
        await workers.declare([channel])
        with self._doing_what_is_noted():
            await ledger.note_member(membership, ends)
            self._ends[membership] = ends
            for is_last in (False, True):
                try:
                    async with ledger.untaken() as lane:
                        await self._bind_one(lane, link, membership)
                except AmqpError as error:
                    if error.code != NOT_FOUND or is_last:
                        raise
                    workers.forget(channel)
                    await workers.declare([channel])
                else:
                    break

    async def unbind(self, link: Link, ledger: Ledger, membership: Membership) -> None:
        """Take a normal channel out of a group, whoever put it in."""
        self._ends.pop(membership, None)
        with self._doing_what_is_noted():
            await ledger.note_member(membership, 0.0)
            async with ledger.untaken() as lane:
                await self._unbind_one(lane, link, membership)

    async def purge(self, link: Link, workers: Workers, ledger: Ledger) -> None:
        """Empty every normal channel, and end every membership."""
        with self._doing_what_is_noted():
            notes = await self._until_settled(link, workers, ledger, everything=False, end_members=True)
        for channel in notes.channels:
            try:
                async with link.scratch() as lane:
                    await lane.purge(link.settings.topology.channel_queue_name(channel))
            except AmqpError as error:
                if error.code != NOT_FOUND:
                    raise

    @contextmanager
    def _doing_what_is_noted(self) -> Iterator[None]:
        """Whoever asked may give up, or be told of an error: what was noted holds, and is to be done soon."""
        try:
            yield
        except BaseException:
            self._is_doubtful = True
            self._context.sink.maintain_soon()
            raise

    # --- the bindings follow the notes

    def doubt(self) -> None:
        """The broker may have lost bindings, or the queues that were bound."""
        self._is_doubtful = True
        self._seen.clear()

    async def restore(self, link: Link, workers: Workers, ledger: Ledger) -> None:
        """Before this node takes part: the broker has lost bindings, or nobody was there to look after them."""
        self.doubt()
        await self._follow(link, workers, ledger, everything=True, within=_RESTORE_WITHIN)
        for reason in self._to_be_said():
            logger.warning("%s", reason)

    def next_end(self) -> float:
        """When the first membership ends; wall-clock seconds, or infinity."""
        return min(self._ends.values(), default=float("inf"))

    async def look_after(self, link: Link, workers: Workers, ledger: Ledger, *, thoroughly: bool) -> None:
        """End what is over; if there is doubt, or `thoroughly`, see to all bindings, and keep the members' queues."""
        if not thoroughly:
            await self._look_for_queues(link)
        everything = thoroughly or self._is_doubtful
        if not everything and self.next_end() > self._context.clock.wall():
            return
        notes = await self._follow(link, workers, ledger, everything=everything, within=_LOOK_WITHIN)
        for reason in self._to_be_said():
            self._context.sink.gap(reason)
        if thoroughly and notes is not None:
            await self._look_for_channels(link, ledger, notes)

    def _to_be_said(self) -> list[str]:
        lost, self._lost = self._lost, []
        return lost

    async def _look_for_queues(self, link: Link) -> None:
        """With the queue of a member, its bindings are gone."""
        for channel in {channel for _, channel in self._ends}:
            try:
                is_there = await link.has_queue(link.settings.topology.channel_queue_name(channel))
            except AmqpError as error:
                self._put_off(link, f"normal channel {channel}", error)
            else:
                if not is_there:
                    self.doubt()

    async def _follow(
        self, link: Link, workers: Workers, ledger: Ledger, *, everything: bool, within: float
    ) -> Notes | None:
        """Have the bindings be what the notes say; return these, if it came to an end."""
        was_doubtful, self._is_doubtful = self._is_doubtful, self._is_doubtful and not everything
        try:
            async with asyncio.timeout(within):
                return await self._until_settled(link, workers, ledger, everything=everything)
        except TimeoutError:
            self._is_doubtful = True
            return None
        except AmqpError as error:
            self._put_off(link, "its notes", error)
            return None
        except BaseException:
            self._is_doubtful |= was_doubtful
            raise

    async def _until_settled(
        self,
        link: Link,
        workers: Workers,
        ledger: Ledger,
        *,
        everything: bool,
        end_members: bool = False,
    ) -> Notes:
        """Bind and unbind what the notes say, and have them to oneself meanwhile.

        Whoever notes something meanwhile waits, and then does it himself. If what was read before were done later, a
        membership could be back that had been ended.
        """
        mine = set(self._ends)  # noted before the notes are read
        if not mine and not await ledger.is_there():
            return Notes()
        unreached: set[str] = set()  # channels whose queues could not be seen to
        refused: set[Membership] = set()
        while True:
            ready: dict[Membership, bool] = {}
            try:
                async with ledger.taken(end_members=end_members) as (lane, notes):
                    end_members = False
                    due = self._due(notes, everything=everything, mine=mine)
                    seen = self._seen_lately(link)
                    new = {channel for (_, channel), is_member in due.items() if is_member} - seen - unreached
                    ready = {
                        key: is_member
                        for key, is_member in due.items()
                        if key not in refused and (not is_member or key[1] in seen)
                    }
                    await self._apply(lane, link, ready)
                    if not new:
                        break
            except AmqpError as error:
                if not ready:
                    raise
                # The others at another try: the AMQP channel is closed, and others may have the notes.
                membership = next(iter(ready))
                self._put_off(link, "normal channel {1} in group {0}".format(*membership), error)
                refused.add(membership)
            else:
                # Without the notes, as it takes its time.
                await self._see_to_queues(link, workers, new, unreached)
        if everything:
            self._seen.clear()
        members = notes.members
        self._ends = {
            key: members.get(key, ends) for key, ends in self._ends.items() if key in members or key not in mine
        }
        return notes

    def _due(self, notes: Notes, *, everything: bool, mine: set[Membership]) -> dict[Membership, bool]:
        bindings = notes.bindings()
        for group, channel in sorted(mine - bindings.keys()):
            bindings[group, channel] = False
            reason = f"RabbitMQ lost the note that normal channel {channel} is in group {group}"
            if reason not in self._lost:
                self._lost.append(reason)
        return {key: is_member for key, is_member in bindings.items() if everything or not is_member}

    def _seen_lately(self, link: Link) -> set[str]:
        long_ago = self._context.clock.monotonic() - _SEEN_FOR * link.settings.topology.queue_expires
        return {channel for channel, at in self._seen.items() if at > long_ago}

    async def _see_to_queues(self, link: Link, workers: Workers, channels: Iterable[str], unreached: set[str]) -> None:
        topology = link.settings.topology
        for channel in sorted(channels):
            try:
                if not await link.has_queue(topology.channel_queue_name(channel)):
                    self._lost.append(
                        f"RabbitMQ no longer had the queue of normal channel {channel}, a member of groups"
                    )
                await workers.renew(channel)
            except AmqpError as error:
                self._put_off(link, f"normal channel {channel}", error)
                unreached.add(channel)
            else:
                self._seen[channel] = self._context.clock.monotonic()

    async def _apply(self, lane: Channel, link: Link, due: dict[Membership, bool]) -> None:
        """Leave in `due` what is not done; the first of it is what was refused."""
        while due:
            some = list(islice(due.items(), _MOST_ASKED_AT_ONCE))
            answers = [(self._bind_one if is_member else self._unbind_one)(lane, link, key) for key, is_member in some]
            for (key, _), answer in zip(some, answers, strict=True):
                await answer
                del due[key]

    def _put_off(self, link: Link, what: str, error: AmqpError) -> None:
        """Its queue's node of a cluster may be down, which must not keep the process from all others."""
        if link.connection.is_over:
            raise error
        logger.warning("RabbitMQ cannot be asked for %s now, and will be again: %s", what, error)
        self._is_doubtful = True

    def _bind_one(self, lane: Channel, link: Link, membership: Membership) -> Awaitable[None]:
        topology = link.settings.topology
        return lane.bind(topology.channel_queue_name(membership[1]), topology.groups_exchange, membership[0])

    def _unbind_one(self, lane: Channel, link: Link, membership: Membership) -> Awaitable[None]:
        topology = link.settings.topology
        return lane.unbind(topology.channel_queue_name(membership[1]), topology.groups_exchange, membership[0])

    # --- notes of channels that are gone

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

    def forget(self) -> None:
        """The node is gone; what it has noted stays."""
        self._ends.clear()
        self._seen.clear()
        self._lost.clear()
