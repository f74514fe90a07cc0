"""Publishing, and what became of it."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .link import Link
from .publishing import Batch, Publication

__all__ = ["Confirmed", "confirmed"]

# A batch that the broker blocks is given up a little before the hub takes the broker for one that hangs.
_BLOCKED_SHARE = 0.9


class Confirmed(NamedTuple):
    """The indexes of publications that did not arrive."""

    refused: list[int]
    """A queue was full."""
    lost: list[int]
    """No queue was there, though one had to be."""


async def confirmed(link: Link, publications: Sequence[Publication]) -> Confirmed:
    """Publish, and wait for the broker's word; raises AmqpError, and TransportUnavailable if it takes nothing now."""
    batch = link.publisher.publish(publications)
    # A timer of its own, and no asyncio.timeout() with a shield in it: this is the way of every message.
    patience = link.settings.send_timeout * _BLOCKED_SHARE
    timer = asyncio.get_running_loop().call_later(patience, _give_up_if_blocked, link, batch)
    try:
        await batch.done
    finally:
        timer.cancel()
    if not batch.refused and not batch.returned:
        return Confirmed([], [])
    lost = [
        index
        for index, publication in enumerate(publications)
        if publication.must_arrive and publication.properties.message_id in batch.returned
    ]
    return Confirmed(sorted(batch.refused.difference(lost)), lost)


def _give_up_if_blocked(link: Link, batch: Batch) -> None:
    if reason := link.connection.blocked:
        batch.fail(TransportUnavailable(f"RabbitMQ at {link.address} takes no messages now: {reason}"))
