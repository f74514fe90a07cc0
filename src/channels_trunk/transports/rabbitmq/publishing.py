"""What is published on a channel, and the broker's confirms of it."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from .wire import Properties

__all__ = ["Batch", "Confirms", "Publication"]


class Publication(NamedTuple):
    """A message to send."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    must_arrive: bool = False
    """Whether it is an outcome to be told of if no queue takes it."""


class Batch:
    """Publications that wait for the broker's confirms."""

    def __init__(self, size: int, done: "asyncio.Future[None]") -> None:
        self.left = size
        self.done = done
        self.refused: set[int] = set()  # indexes of what a full queue did not take
        self.returned: set[bytes] = set()  # message ids of what no queue took
        if not size:
            done.set_result(None)

    def settle(self, index: int, *, refused: bool) -> None:
        """One of them is confirmed."""
        if refused:
            self.refused.add(index)
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Nobody knows what became of them."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # whoever published may have given up


class Confirms:
    """The batches of one channel that are not confirmed; the broker numbers publications as they come."""

    def __init__(self) -> None:
        self._published = 0
        self._confirmed = 0
        self._batches: dict[int, tuple[Batch, int]] = {}  # by the number of the publication

    def expect(self, batch: Batch, publications: Sequence[Publication]) -> None:
        """These are sent now, in this order."""
        for index in range(len(publications)):
            self._published += 1
            self._batches[self._published] = (batch, index)

    def confirm(self, number: int, *, multiple: bool, refused: bool) -> None:
        """The broker has, or refuses, a publication, or all up to it."""
        first = self._confirmed + 1 if multiple else number
        for confirmed in range(first, number + 1):
            entry = self._batches.pop(confirmed, None)
            if entry is not None:
                entry[0].settle(entry[1], refused=refused)
        if first == self._confirmed + 1:
            self._confirmed = number

    def returned(self, message_id: bytes) -> None:
        """No queue took the message with this id."""
        for batch in self._waiting():
            batch.returned.add(message_id)

    def take_all(self) -> list[Batch]:
        """The channel is closed: those that will not be confirmed any more."""
        batches = self._waiting()
        self._batches.clear()
        return batches

    def _waiting(self) -> list[Batch]:
        return list({id(batch): batch for batch, _ in self._batches.values()}.values())
