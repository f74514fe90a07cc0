"""The RabbitMQ transport: one node's part at the broker."""

import contextlib
import itertools
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import (
    LAST_PAGE,
    Busy,
    Capabilities,
    Claimed,
    NodeContext,
    Page,
    ReadableTransport,
    StartingTransport,
)

from .errors import NOT_FOUND, AmqpError, Meaning, translated
from .exchanges import make_exchanges
from .giving_back import GivingBack
from .hearing import Hearing
from .inbox import Inbox
from .ledger import Ledger
from .link import Link, connected
from .members import Members
from .place import Place
from .post import BLOCKED_SHARE, confirmed, give_up_if_blocked
from .publishing import Publication
from .sending import Done, Sending
from .settings import RabbitMQSettings
from .topology import BARRIER_TYPE, ROLL_TYPE
from .wire import Properties
from .workers import RENEWALS, Workers

__all__ = ["RabbitMQTransport"]

_TAG = "node"
_MAINTAIN_EVERY = 15.0
_SOON = 1.0
# How often each node sees to all memberships, whoever made them: at least so often in the time in which a queue expires
# that nobody uses, so that one is kept, and what was sent to it a moment ago with it, though any node may be killed.
_THOROUGHLY_EVERY = 600.0
_THOROUGH_LOOKS = 6


class RabbitMQTransport(ReadableTransport, StartingTransport):
    """Runs on the hub's loop, over one connection, which callers' threads write to and receivers' loops read."""

    capabilities = Capabilities(crosses_processes=True, needs_interest=True, claims_ahead=True, starts=True)

    def __init__(self, settings: RabbitMQSettings) -> None:
        self._settings = settings
        self._first_address = random.randrange(max(1, len(settings.addresses)))
        self._numbers = itertools.count(1)
        self._link: Link | None = None
        self._opened_before = False
        self._hearing = Hearing()
        self._complained: set[str] = set()
        self._thorough_at = 0.0
        self._takes_little = False  # whether a broker did not take a message of a size that is taken as a rule

    # --- life

    async def open(self, context: NodeContext) -> None:
        """Connect, come back to the node's queue or make one, and consume it."""
        if not self._opened_before:
            self._begin(context)
        link = await connected(
            self._settings,
            context,
            first=self._first_address,
            is_first_time=not self._opened_before,
            lost=self._connection_lost,
            blocked=self._blocked,
            came=self._hand_over,
        )
        self._link = link
        if self._takes_little:
            link.limit.taken = 0
        self._ledger = Ledger(link)
        self._workers = Workers(link, self._ledger, complained=self._complained, gone=self._queues_gone)
        with self._translating(link, opening=not self._opened_before):
            await self._take_part(link)
        self._opened_before = link.is_open = True

    def _begin(self, context: NodeContext) -> None:
        self._context = context
        self._place = Place(context, self._settings.topology)
        self._inbox = Inbox(context, self._settings)
        self._members = Members(context)
        self._sending = Sending(context, self._settings.topology)
        self._giving_back = GivingBack(context, self._settings)

    async def _take_part(self, link: Link) -> None:
        comes_back = self._place.is_taken
        if comes_back and not await link.has_exchange(self._settings.topology.groups_exchange):
            self._place.doubt = "the exchange for groups was deleted while this process was not connected"
        await make_exchanges(link, self._complained)
        link.gap = reason = await self._place.take(link)
        if reason:
            self._hearing.forget()
        inbox = link.inbox
        inbox.on_messages = lambda deliveries: self._inbox.read(inbox, deliveries)
        inbox.on_cancelled = lambda _tag: self._lose(link, AmqpError("this process's queue was deleted"))
        for channel in (link.inbox, link.publisher, *link.binders):
            channel.on_closed = lambda error: self._channel_closed(link, error)
        await inbox.limit(self._settings.prefetch_count)
        await inbox.consume(self._place.queue.name, _TAG)
        if reason or not (comes_back or await self.peers()):
            # Who comes first when nobody was there finds members whose queues have expired.
            await self._members.restore(link, self._workers, self._ledger)
        elif comes_back:
            self._members.doubt()

    def _queues_gone(self) -> None:
        self._members.doubt()
        self._context.sink.maintain_soon()

    def _connection_lost(self, error: AmqpError) -> None:
        if self._link is not None:
            self._lose(self._link, error)

    def _channel_closed(self, link: Link, error: AmqpError) -> None:
        if link is not self._link:
            return  # it is being closed: what was asked of it a moment ago may fail in any way
        if error.code == NOT_FOUND:
            self._place.doubt = "an exchange of RabbitMQ was deleted"
        self._takes_little = self._takes_little or error.meaning is Meaning.MESSAGE
        self._lose(link, error)

    def _lose(self, link: Link, error: AmqpError) -> None:
        if link is self._link and not link.connection.is_closing:
            self._context.sink.lost(translated(error, link.address))

    def _blocked(self, reason: str) -> None:
        self._context.sink.stalled(reason and f"RabbitMQ takes no messages now: {reason}")
        if reason and (link := self._link) is not None:
            patience = self._settings.send_timeout * BLOCKED_SHARE
            link.connection.loop.call_later(patience, give_up_if_blocked, link)

    async def close(self, *, leave: bool) -> None:
        """Hang up; with `leave`, remove the node's queues."""
        link, self._link = self._link, None
        if link is None:
            if leave and self._opened_before:
                self._forget()
            return
        if leave:
            with contextlib.suppress(AmqpError, TransportUnavailable):
                await self._giving_back.give_again(link, self._workers)
                await self._place.leave(link)
            self._forget()
            await link.connection.close()
        else:
            # It may hang. What the broker has sent meanwhile is not acknowledged: it comes again.
            link.connection.abort()

    def _forget(self) -> None:
        self._hearing.forget()
        self._place.forget()
        self._members.forget()

    @contextmanager
    def _translating(self, link: Link, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except (AmqpError, OSError) as error:
            raise translated(error, link.address, opening=opening) from error

    def _there(self) -> Link:
        if self._link is None:
            raise TransportUnavailable("RabbitMQ is not connected")
        return self._link

    # --- sending

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Send, and wait for the broker's confirms."""
        link = self._link
        if link is None or link.connection.is_over or link.connection.blocked:
            # It never left: the hub may try again.
            raise Busy
        with self._translating(link):
            return await self._sending.send(link, self._workers, batch)

    def start(self, batch: Sequence[Envelope], done: Done) -> bool:
        """Send in the caller's thread; whoever reads the confirms calls `done`."""
        link = self._link
        if link is None or link.connection.blocked:
            return False
        return self._sending.start(link, self._workers, batch, done)

    async def finish(self) -> Sequence[int]:
        """Find out what became of what did not arrive."""
        with self._translating(self._there()):
            return await self._sending.finish()

    # --- reading

    def _hand_over(self) -> None:
        if arrived := self._inbox.take():
            self._context.sink.received(arrived)

    def read_now(self) -> Page:
        """Read from the socket."""
        link = self._link
        if link is None:
            return LAST_PAGE
        more = link.connection.read()
        return Page(self._inbox.take(), more=more)

    def changed(self) -> bool:
        """Whether something came that nobody has read."""
        return self._link is not None and self._link.connection.has_some

    def doorbell(self) -> int | None:
        """Readable when something has come."""
        link = self._link
        if link is None or (bell := link.connection.bell()) is None:
            return None
        link.connection.read_elsewhere()
        return bell

    def leave_doorbell(self) -> None:
        """Read here again."""
        if self._link is not None:
            self._link.connection.read_here()

    def answer_doorbell(self) -> None:
        """Reading does."""

    # --- groups

    async def interest(self, groups: frozenset[str]) -> None:
        """Bind what is not bound, and unbind what nobody here is in."""
        link = self._there()
        with self._translating(link):
            await self._hearing.interest(link, self._place, groups)
        # Not before: what is sent after a consumer was told must reach it.
        reason, link.gap = link.gap, ""
        self._say(reason)

    def _say(self, reason: str) -> None:
        if reason:
            self._context.sink.gap(reason)
            self._place.said(reason)

    async def hear(self, groups: frozenset[str]) -> None:
        """Bind these as well."""
        link = self._there()
        with self._translating(link):
            await self._hearing.hear(link, self._place, groups)

    def start_hearing(self, groups: Collection[str], done: Callable[[bool], None]) -> bool:
        """Ask the broker in the caller's thread; whoever reads its answer calls `done`."""
        link = self._link
        if link is None or not link.is_open:
            return False
        return self._hearing.start(link, self._place, groups, lambda error: done(error is None))

    def narrow(self, groups: frozenset[str]) -> None:
        """Each group is heard for itself."""
        self._hearing.narrow(self._link, self._place, groups)

    def hears(self, group: str) -> bool:
        """Whether its binding stands; while the connection is away, the queue goes on collecting."""
        return self._hearing.hears(group)

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Bind the normal channel's queue, and note until when."""
        link = self._there()
        with self._translating(link):
            await self._members.bind(link, self._workers, self._ledger, membership=(group, channel), ends=expires_at)
        # maintain() is to name the end of this membership as its next time.
        self._context.sink.maintain_soon()

    async def unbind(self, group: str, channel: str) -> None:
        """Undo bind()."""
        link = self._there()
        with self._translating(link):
            await self._members.unbind(link, self._ledger, (group, channel))

    # --- normal channels

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Take messages; what waits here to go back comes first."""
        link = self._there()
        found = self._giving_back.take(channel, limit)
        if found:
            return found
        with self._translating(link):
            return await self._workers.claim(channel, limit)

    def brings(self, channel: str) -> bool:
        """Whether a consumer is to bring its next message, and has not."""
        return self._link is not None and not self._giving_back and self._workers.brings(channel)

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Send them back, to the front."""
        link = self._there()
        with self._translating(link):
            await self._giving_back.give(link, self._workers, claimed)
        if self._giving_back:
            self._context.sink.maintain_soon()

    async def watch(self, channels: frozenset[str]) -> None:
        """Consume, from the next claim on that finds too little, until a message has come."""
        link = self._there()
        with self._translating(link):
            await self._workers.watch(channels)

    # --- the others

    async def peers(self) -> frozenset[str]:
        """Call the roll: the leases of all nodes that are connected answer, and after them a barrier of our own."""
        link = self._there()
        context, topology = self._context, self._settings.topology
        number = b"%s.%x" % (context.node.encode(), next(self._numbers))
        key = topology.node_key(context.node)
        answer = self._inbox.begin_roll(number)
        try:
            with self._translating(link):
                # Twice: a lease may confirm a call before it passes it on, but not before it has passed on the one
                # before. The broker confirms the second when all leases have done so: the barrier is the last.
                call = Publication(topology.roll_exchange, key, Properties(ROLL_TYPE, number), b"")
                await confirmed(link, [call, call])
                barrier = Properties(BARRIER_TYPE, number)
                await confirmed(link, [Publication(topology.groups_exchange, key, barrier, b"")])
                return await answer - {context.node}
        finally:
            self._inbox.end_roll(number)

    async def purge(self) -> None:
        """Empty the normal channels, and end their memberships."""
        link = self._there()
        with self._translating(link):
            await self._members.purge(link, self._workers, self._ledger)

    async def drop(self) -> None:
        """Have what consumers brought, and nobody claimed, and forget it."""
        link = self._there()
        with self._translating(link):
            async with link.dropping:
                await self._giving_back.drop(link)
                await self._workers.drop()

    async def maintain(self) -> float:
        """Keep what would expire while it is needed, and end what is over."""
        link = self._there()
        now = self._context.clock.monotonic()
        is_thorough = 0 < self._thorough_at <= now
        if is_thorough or not self._thorough_at:
            # Not every node at the same time.
            every = min(_THOROUGHLY_EVERY, self._settings.topology.queue_expires / _THOROUGH_LOOKS)
            self._thorough_at = now + every * random.uniform(0.5, 1.5)
        self._workers.look_after()
        with self._translating(link):
            self._say(await self._place.look_after(link))
            await self._ledger.keep()
            await self._members.look_after(link, self._workers, self._ledger, thoroughly=is_thorough)
            await self._giving_back.give_again(link, self._workers)
        if self._giving_back:
            return _SOON
        until_end = self._members.next_end() - self._context.clock.wall()
        until_thorough = self._thorough_at - self._context.clock.monotonic()
        # Often enough for a queue's renewal to be no later than half of the time between two.
        until_renewals = self._settings.topology.queue_expires / RENEWALS / 2
        return max(0.0, min(_MAINTAIN_EVERY, until_end, until_thorough, until_renewals))
