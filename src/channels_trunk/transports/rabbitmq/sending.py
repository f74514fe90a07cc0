"""Publishing a batch of envelopes, and what it means that some of it did not arrive."""

import itertools
from collections.abc import Sequence

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import NodeContext

from .link import Link
from .outgoing import Parcel, parcels, published
from .post import confirmed
from .publishing import Publication
from .topology import Topology
from .workers import Workers

__all__ = ["Sending"]


class Sending:
    """Outlives connections; everything runs on the hub's loop."""

    def __init__(self, context: NodeContext, topology: Topology) -> None:
        self._context = context
        self._topology = topology
        self._numbers = itertools.count(1)

    async def send(self, link: Link, workers: Workers, batch: Sequence[Envelope]) -> list[int]:
        """Publish, and wait for the broker's confirms; return the indexes of what found its channel full."""
        await workers.declare(sorted({e.target for e in batch if e.kind == Kind.QUEUE}))
        sent = parcels(batch)
        outcome = await confirmed(link, [self._publication(parcel, batch) for parcel in sent])
        refused = await self._refused(link, batch, [sent[number] for number in outcome.refused])
        if outcome.lost:
            refused += await self._again(link, workers, batch, gone=[sent[number] for number in outcome.lost])
        return refused

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

    async def _refused(self, link: Link, batch: Sequence[Envelope], full: Sequence[Parcel]) -> list[int]:
        """What a queue that took nothing means: for a group a drop, for the others that the channel is full.

        In the moment in which a broker of a cluster dies, it refuses for its queues, too.
        """
        refused: list[int] = []
        for parcel in full:
            if parcel.kind == Kind.GROUP:
                self._context.sink.dropped(f"of a process or a worker in group {parcel.target}")
            elif parcel.kind == Kind.QUEUE and not await link.has_queue(
                self._topology.channel_queue_name(parcel.target)
            ):
                raise TransportUnavailable(f"RabbitMQ at {link.address} lost the queue of channel {parcel.target}")
            else:
                refused += [index for index in parcel.indexes if batch[index].kind != Kind.CONTROL]
        return refused

    async def _again(
        self, link: Link, workers: Workers, batch: Sequence[Envelope], *, gone: Sequence[Parcel]
    ) -> list[int]:
        """The queues of these normal channels were deleted, or have expired: make them anew."""
        channels = sorted({parcel.target for parcel in gone})
        for channel in channels:
            workers.forget(channel)
        await workers.declare(channels)
        outcome = await confirmed(link, [self._publication(parcel, batch) for parcel in gone])
        if outcome.lost:
            names = ", ".join(sorted({gone[number].target for number in outcome.lost}))
            raise TransportUnavailable(f"RabbitMQ at {link.address} has no queue for normal channel {names}")
        return await self._refused(link, batch, [gone[number] for number in outcome.refused])
