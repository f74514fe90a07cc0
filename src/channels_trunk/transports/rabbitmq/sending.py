"""Publishing a batch of envelopes, and what it means that some of it did not arrive."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import Busy, NodeContext, TooLarge

from .errors import AmqpError
from .link import Link
from .outgoing import Parcel, parcels, published, waves
from .post import Confirmed, confirmed, what_arrived
from .publishing import Batch, Publication
from .topology import Topology
from .workers import Workers

__all__ = ["Done", "Sending"]

# So many seconds the answer holds whether a queue that took nothing is there: to ask takes three round trips.
_BELIEVED = 1.0
_MOST_BELIEVED = 1_000
# What is larger is packed by the hub's thread: a megabyte takes a millisecond, for which no loop is to be held. Bytes.
_MOST_BY_CALLERS = 262_144

Done = Callable[[Sequence[int] | None], None]
"""To be told that a batch is with the broker, or (None) that finish() has to see to it."""


class _Sent(NamedTuple):
    """What was published."""

    link: Link
    workers: Workers
    batch: Sequence[Envelope]
    parcels: Sequence[Parcel]
    publications: Sequence[Publication]


class Sending:
    """Outlives connections. start() in any thread, the rest on the hub's loop; one batch at a time."""

    def __init__(self, context: NodeContext, topology: Topology) -> None:
        self._context = context
        self._topology = topology
        self._numbers = itertools.count(1)
        self._begun: tuple[_Sent, Batch] | None = None  # what did not go as smoothly as the rest
        self._there: dict[str, float] = {}  # channels whose queue is there, until when that is believed

    async def send(self, link: Link, workers: Workers, batch: Sequence[Envelope]) -> list[int]:
        """Publish, and wait for the broker's confirms; return the indexes of what found its channel full."""
        await self._declare(link, workers, sorted({e.target for e in batch if e.kind == Kind.QUEUE}))
        if not self._may_overfill(batch):
            refused, too_large = await self._publish(self._packed(link, workers, batch))
        else:
            refused, too_large = await self._send_in_waves(link, workers, batch)
        if too_large:
            raise TooLarge(link.limit.remedy(link.address), too_large, full=refused)
        return refused

    async def _publish(self, sent: _Sent) -> tuple[list[int], list[int]]:
        """Return the indexes of what found its channel full, and of what is too large."""
        outcome = await confirmed(sent.link, sent.publications)
        too_large = [index for number in outcome.too_large for index in sent.parcels[number].indexes]
        return await self._refused(sent, outcome), too_large

    async def _declare(self, link: Link, workers: Workers, channels: Sequence[str]) -> None:
        try:
            await workers.declare(channels)
        except AmqpError as error:
            if link.connection.is_over:
                raise Busy from error  # nothing was published: the hub sends it over the next connection
            raise

    def _may_overfill(self, batch: Sequence[Envelope]) -> bool:
        """Whether a quorum queue is sent more at once than it may hold: it finds out that it is full too late."""
        if self._topology.queue_type != "quorum":
            return False
        counts = Counter(envelope.target for envelope in batch if envelope.kind == Kind.QUEUE)
        return any(count > self._context.capacity_of(channel) for channel, count in counts.items())

    async def _send_in_waves(
        self, link: Link, workers: Workers, batch: Sequence[Envelope]
    ) -> tuple[list[int], list[int]]:
        refused: list[int] = []
        too_large: list[int] = []
        full: set[str] = set()
        for wave in waves(batch, self._context.capacity_of):
            # What finds its channel full has come at the same moment as this.
            refused += [index for index in wave if batch[index].kind == Kind.QUEUE and batch[index].target in full]
            indexes = sorted(set(wave).difference(refused))
            sent = self._packed(link, workers, [batch[index] for index in indexes])
            again, larger = await self._publish(sent)
            full.update(batch[indexes[index]].target for index in again if batch[indexes[index]].kind == Kind.QUEUE)
            refused += [indexes[index] for index in again]
            too_large += [indexes[index] for index in larger]
        return refused, too_large

    def start(self, link: Link, workers: Workers, batch: Sequence[Envelope], done: Done) -> bool:
        """Publish, and have the confirms call `done`, in any thread; False if there is more to do than that."""
        if any(envelope.kind == Kind.QUEUE and not workers.has_declared(envelope.target) for envelope in batch):
            return False
        if sum(len(envelope.body) for envelope in batch) > _MOST_BY_CALLERS or self._may_overfill(batch):
            return False
        sent = self._packed(link, workers, batch)
        if any(len(publication.body) > link.limit.taken for publication in sent.publications):
            return False

        def finish(outcome: Batch) -> None:
            if outcome.error is None and not outcome.refused and not outcome.returned:
                done(())
            else:
                self._begun = sent, outcome
                done(None)

        return link.publisher.start(sent.publications, finish)

    async def finish(self) -> list[int]:
        """As send(), for what start() began and `done` was called for with None; raises AmqpError."""
        if self._begun is None:
            raise TransportUnavailable("the connection was lost")
        (sent, outcome), self._begun = self._begun, None
        if outcome.error is not None:
            raise outcome.error
        return await self._refused(sent, what_arrived(outcome, sent.publications))

    def _packed(self, link: Link, workers: Workers, batch: Sequence[Envelope]) -> _Sent:
        found = parcels(batch, most=link.limit.together)
        return _Sent(link, workers, batch, found, [self._publication(parcel, batch) for parcel in found])

    def _publication(self, parcel: Parcel, batch: Sequence[Envelope]) -> Publication:
        context = self._context
        return published(
            parcel,
            batch,
            codec=context.codec,
            node=context.node,
            topology=self._topology,
            now=context.clock.wall(),
            number=next(self._numbers),
        )

    async def _refused(self, sent: _Sent, outcome: Confirmed) -> list[int]:
        refused = await self._full(sent, [sent.parcels[number] for number in outcome.refused])
        if outcome.lost:
            refused += await self._again(sent, [sent.parcels[number] for number in outcome.lost])
        return refused

    async def _full(self, sent: _Sent, full: Sequence[Parcel]) -> list[int]:
        """What a queue that took nothing means: for a group a drop, for the others that the channel is full.

        In the moment in which a broker of a cluster dies, it refuses for its queues, too.
        """
        refused: list[int] = []
        for parcel in full:
            if parcel.kind == Kind.GROUP:
                self._context.sink.dropped(f"of a process or a worker in group {parcel.target}")
            else:
                refused += [index for index in parcel.indexes if sent.batch[index].kind != Kind.CONTROL]
        channels = sorted({parcel.target for parcel in full if parcel.kind == Kind.QUEUE})
        for channel in channels:
            await self._be_there(sent.link, channel)
        return refused

    async def _be_there(self, link: Link, channel: str) -> None:
        now = self._context.clock.monotonic()
        if now < self._there.get(channel, 0.0):
            return
        if not await link.has_queue(self._topology.channel_queue_name(channel)):
            raise TransportUnavailable(f"RabbitMQ at {link.address} lost the queue of channel {channel}")
        if len(self._there) >= _MOST_BELIEVED:
            self._there.clear()
        self._there[channel] = now + _BELIEVED

    async def _again(self, sent: _Sent, gone: Sequence[Parcel]) -> list[int]:
        """The queues of these normal channels were deleted, or have expired: make them anew."""
        link, workers = sent.link, sent.workers
        channels = sorted({parcel.target for parcel in gone})
        for channel in channels:
            workers.forget(channel)
        await workers.declare(channels)
        outcome = await confirmed(link, [self._publication(parcel, sent.batch) for parcel in gone])
        if missing := outcome.lost + outcome.too_large:
            names = ", ".join(sorted({gone[number].target for number in missing}))
            raise TransportUnavailable(f"RabbitMQ at {link.address} has no queue for normal channel {names}")
        return await self._full(sent, [gone[number] for number in outcome.refused])
