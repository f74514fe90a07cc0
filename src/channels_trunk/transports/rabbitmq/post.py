"""Publishing, and what became of it.

A broker takes no message above its `max_message_size` (16 MiB by default since 4.0, 128 MiB before), and tells nobody.
It closes the channel over which one came, and does not say what became of the others on it. So a message that is larger
than any which this broker took goes alone, over a channel of its own.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .channel import Channel
from .errors import AmqpError, Meaning
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
    too_large: list[int]
    """The broker takes nothing so large: Limit.reason says what it said."""


async def confirmed(link: Link, publications: Sequence[Publication]) -> Confirmed:
    """Publish, and wait for the broker's word; raises AmqpError, and TransportUnavailable if it takes nothing now."""
    outcome = Confirmed([], [], [])
    for part in _parts(publications, link.limit.taken):
        some = publications[part.start : part.stop]
        if len(some[0].body) > link.limit.taken:
            found = await _confirmed_alone(link, some)
        else:
            found = await _confirmed(link, link.publisher, some)
        for all_indexes, indexes in zip(outcome, found, strict=True):
            all_indexes += [part[index] for index in indexes]
    return outcome


def _parts(publications: Sequence[Publication], taken: int) -> Iterator[range]:
    """The indexes of what goes together, in order."""
    start = 0
    for index, publication in enumerate(publications):
        if len(publication.body) > taken:
            if start < index:
                yield range(start, index)
            yield range(index, index + 1)
            start = index + 1
    if start < len(publications):
        yield range(start, len(publications))


async def _confirmed_alone(link: Link, publications: Sequence[Publication]) -> Confirmed:
    size = len(publications[0].body)
    if size >= link.limit.refused:
        return Confirmed([], [], [0])
    try:
        async with link.scratch(confirms=True) as channel:
            outcome = await _confirmed(link, channel, publications)
    except AmqpError as error:
        if error.meaning is Meaning.MESSAGE:
            link.limit.refuse(size, str(error))
            return Confirmed([], [], [0])
        if link.publisher.on_closed is not None and not link.connection.is_over:
            link.publisher.on_closed(error)
        raise
    link.limit.taken = max(link.limit.taken, size)
    return outcome


async def _confirmed(link: Link, channel: Channel, publications: Sequence[Publication]) -> Confirmed:
    done = channel.publish(publications)
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
        return Confirmed([], [], [])
    lost = [
        index
        for index, publication in enumerate(publications)
        if publication.must_arrive and publication.properties.message_id in batch.returned
    ]
    return Confirmed(sorted(batch.refused.difference(lost)), lost, [])


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
