"""What is published on a channel, and the broker's confirms of it."""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .errors import AmqpError
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

    def __init__(self, size: int, finish: "Callable[[Batch], None]") -> None:
        self.left = size
        self.finish = finish
        """To be called, in any thread, when all are confirmed, or will not be."""
        self.error: AmqpError | TransportUnavailable | None = None
        """Why nobody knows what became of them."""
        self.refused: set[int] = set()  # indexes of what a full queue did not take
        self.returned: set[bytes] = set()  # message ids of what no queue took

    def settle(self, index: int, *, refused: bool) -> bool:
        """One of them is confirmed; return whether it was the last."""
        if refused:
            self.refused.add(index)
        self.left -= 1
        return not self.left


class Confirms:
    """The batches of one channel that are not confirmed; the broker numbers publications as they come. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._published = 0
        self._batches: dict[int, tuple[Batch, int]] = {}  # by the number of the publication
        self._is_closed = False

    def expect(self, batch: Batch, publications: Sequence[Publication]) -> bool:
        """These are sent next, in this order; False if the channel is closed."""
        with self._lock:
            if self._is_closed:
                return False
            for index in range(len(publications)):
                self._published += 1
                self._batches[self._published] = (batch, index)
            return True

    def confirm(self, number: int, *, multiple: bool, refused: bool) -> list[Batch]:
        """The broker has, or refuses, a publication, or all up to it; return the batches to finish."""
        done: list[Batch] = []
        with self._lock:
            # In the order of their numbers, as they were put in.
            numbers = list(itertools.takewhile(number.__ge__, self._batches)) if multiple else [number]
            for confirmed in numbers:
                entry = self._batches.pop(confirmed, None)
                if entry is not None and entry[0].settle(entry[1], refused=refused):
                    done.append(entry[0])
        return done

    def returned(self, message_id: bytes) -> None:
        """No queue took the message with this id."""
        with self._lock:
            for batch in self._waiting():
                batch.returned.add(message_id)

    def waiting(self) -> list[Batch]:
        """Those that are not confirmed."""
        with self._lock:
            return self._waiting()

    def give_up(self, batch: Batch) -> bool:
        """Wait for it no more; False if it is finished already."""
        with self._lock:
            numbers = [number for number, entry in self._batches.items() if entry[0] is batch]
            for number in numbers:
                del self._batches[number]
            return bool(numbers)

    def close(self) -> list[Batch]:
        """The channel is closed: return those that will not be confirmed any more, to finish them."""
        with self._lock:
            self._is_closed = True
            batches = self._waiting()
            self._batches.clear()
            return batches

    def _waiting(self) -> list[Batch]:
        return list({id(batch): batch for batch, _ in self._batches.values()}.values())
