"""Publishing, and what became of it."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .link import Link
from .publishing import Batch, Publication

__all__ = ["BLOCKED_SHARE", "Confirmed", "confirmed", "give_up_if_blocked", "what_arrived"]

# A batch that the broker blocks is given up a little before the hub takes the broker for one that hangs.
BLOCKED_SHARE = 0.9


class Confirmed(NamedTuple):
    """The indexes of publications that did not arrive."""

    refused: list[int]
    """A queue was full."""
    lost: list[int]
    """No queue was there, though one had to be."""


async def confirmed(link: Link, publications: Sequence[Publication]) -> Confirmed:
    """Publish, and wait for the broker's word; raises AmqpError, and TransportUnavailable if it takes nothing now."""
    done = link.publisher.publish(publications)
    # A timer of its own, and no asyncio.timeout() with a shield in it: this is the way of every message.
    patience = link.settings.send_timeout * BLOCKED_SHARE
    timer = asyncio.get_running_loop().call_later(patience, _stop_waiting_if_blocked, link, done)
    try:
        batch = await done
    finally:
        timer.cancel()
    return what_arrived(batch, publications)


def what_arrived(batch: Batch, publications: Sequence[Publication]) -> Confirmed:
    """Of publications that the broker has confirmed."""
    if not batch.refused and not batch.returned:
        return Confirmed([], [])
    lost = [
        index
        for index, publication in enumerate(publications)
        if publication.must_arrive and publication.properties.message_id in batch.returned
    ]
    return Confirmed(sorted(batch.refused.difference(lost)), lost)


def _stop_waiting_if_blocked(link: Link, done: "asyncio.Future[Batch]") -> None:
    if (reason := link.connection.blocked) and not done.done():
        done.set_exception(_takes_nothing(link, reason))


def give_up_if_blocked(link: Link) -> None:
    """Wait no more for any confirm, if the broker still takes nothing."""
    if reason := link.connection.blocked:
        # Asked for now: a caller's thread may have been about to send when the broker said so.
        link.publisher.give_up(link.publisher.unconfirmed(), _takes_nothing(link, reason))


def _takes_nothing(link: Link, reason: str) -> TransportUnavailable:
    return TransportUnavailable(f"RabbitMQ at {link.address} takes no messages now: {reason}")
