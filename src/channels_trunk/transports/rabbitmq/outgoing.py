"""From envelopes to publications. Pure: `now` and the numbering are arguments."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from channels_trunk.codec import Codec
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.names import channel_owner

from .publishing import Publication
from .topology import EVERY_NODE_KEY, FRAME_TYPE, Topology
from .wire import Properties

__all__ = ["Parcel", "expiration", "parcels", "published", "waves"]

_BESIDE = 24  # bytes of an envelope beside its target and body


class Parcel(NamedTuple):
    """Envelopes that travel as one message."""

    kind: int
    target: str  # a node, EVERY_NODE, a group or a normal channel
    indexes: list[int]  # in the batch


def parcels(batch: Sequence[Envelope], *, most: int) -> list[Parcel]:
    """Put together what goes to one node, without one envelope overtaking another on its way to a node.

    A parcel of several has `most` bytes at most.
    Groups' messages travel one by one: a normal channel that is a member gets each for itself, as one reader takes it.
    """
    found: list[Parcel] = []
    open_parcels: dict[str, Parcel] = {}
    sizes: dict[str, int] = {}
    for index, envelope in enumerate(batch):
        kind, target = envelope.kind, envelope.target
        if kind == Kind.MAILBOX:
            target = channel_owner(target) or target
        if kind in (Kind.MAILBOX, Kind.CONTROL) and target != EVERY_NODE:
            size = len(envelope.body) + len(envelope.target) + _BESIDE
            if (parcel := open_parcels.get(target)) is not None and sizes[target] + size <= most:
                sizes[target] += size
                parcel.indexes.append(index)
                continue
            open_parcels[target] = parcel = Parcel(Kind.MAILBOX, target, [index])
            sizes[target] = size
        else:
            if kind != Kind.QUEUE:
                # What comes behind this one, for a node that may hear it, must not be put before it.
                open_parcels.clear()
            parcel = Parcel(kind, target, [index])
        found.append(parcel)
    return found


def waves(batch: Sequence[Envelope], capacity_of: Callable[[str], int]) -> Iterator[list[int]]:
    """The indexes of a batch in parts, in order: none holds more for a normal channel than its capacity."""
    wave: list[int] = []
    counts = Counter[str]()
    for index, envelope in enumerate(batch):
        if envelope.kind == Kind.QUEUE:
            if counts[envelope.target] >= capacity_of(envelope.target):
                yield wave
                wave, counts = [], Counter()
            counts[envelope.target] += 1
        wave.append(index)
    if wave:
        yield wave


def published(
    parcel: Parcel, batch: Sequence[Envelope], *, codec: Codec, node: str, topology: Topology, now: float, number: int
) -> Publication:
    """The message that carries a parcel."""
    envelopes = [batch[index] for index in parcel.indexes]
    is_queue = parcel.kind == Kind.QUEUE
    properties = Properties(
        FRAME_TYPE,
        b"%s.%x" % (node.encode(), number),
        expiration(max(envelope.expires_at for envelope in envelopes), now),
        is_persistent=is_queue and topology.durable,
    )
    frame = codec.encode_frame(node, envelopes)
    if is_queue:
        return Publication("", topology.channel_queue_name(parcel.target), properties, frame, must_arrive=True)
    if parcel.kind == Kind.GROUP:
        key = parcel.target
    else:
        key = EVERY_NODE_KEY if parcel.target == EVERY_NODE else topology.node_key(parcel.target)
    return Publication(topology.groups_exchange, key, properties, frame)


def expiration(expires_at: float, now: float) -> int:
    """Milliseconds from now, at least one."""
    return max(1, math.ceil((expires_at - now) * 1000))
