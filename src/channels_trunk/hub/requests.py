"""What one node asks of others and waits to hear done: joins, leaves, flushes."""

import itertools
from collections.abc import Iterable

from .waiters import Waiter

__all__ = ["Requests"]


class _Request:
    __slots__ = ("waiter", "waiting_for")

    def __init__(self, waiter: Waiter, waiting_for: set[str]) -> None:
        self.waiter = waiter
        self.waiting_for = waiting_for


class Requests:
    """Open requests by number. Every method is called with the hub's lock held."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, _Request] = {}

    def open(self, waiter: Waiter, nodes: Iterable[str]) -> int:
        """Begin a request that each of `nodes` has to answer; `waiter` is settled when all have."""
        number = next(self._numbers)
        self._open[number] = _Request(waiter, set(nodes))
        return number

    def close(self, number: int) -> None:
        """Forget a request."""
        self._open.pop(number, None)

    def done(self, number: int, node: str) -> list[Waiter]:
        """A node answered; return the waiter if it was the last."""
        return self._narrow(number, self.waiting_for(number) - {node})

    def still_alive(self, number: int, nodes: Iterable[str]) -> list[Waiter]:
        """Only these nodes are alive: the others need not answer; return the waiter if nobody is left."""
        return self._narrow(number, self.waiting_for(number) & set(nodes))

    def waiting_for(self, number: int) -> set[str]:
        """The nodes that have not answered."""
        request = self._open.get(number)
        return request.waiting_for if request else set()

    def _narrow(self, number: int, waiting_for: set[str]) -> list[Waiter]:
        request = self._open.get(number)
        if request is None:
            return []
        request.waiting_for = waiting_for
        if waiting_for:
            return []
        del self._open[number]
        return [request.waiter]
