"""The pipe between the conductor and one process of the crew: both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Order:
    """One message over the pipe."""

    kind: str
    data: dict[str, Any]


class Unmeasurable(Exception):
    """What a role raises when it cannot measure, with words for the report; it needs no trace."""


class Link:
    """The end that a process of the crew holds. It has no thread, so it does not disturb the measurement."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def tell(self, kind: str, **data: Any) -> None:
        """Report to the conductor."""
        self._connection.send(Order(kind, data))

    async def orders(self) -> AsyncIterator[Order]:
        """What the conductor says, until it says "stop" or is gone."""
        while True:
            if not self._connection.poll():
                await readable(self._connection)
            order = self._take()
            if order is None:
                return
            yield order

    def blocking_orders(self) -> Iterator[Order]:
        """The same for a process without an event loop."""
        while order := self._take():
            yield order

    def _take(self) -> Order | None:
        try:
            order: Order = self._connection.recv()
        except EOFError:
            return None
        return None if order.kind == "stop" else order


async def readable(connection: Connection[Any, Any]) -> None:
    """Wait until the connection has something to read."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())
