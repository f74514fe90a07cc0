"""Which groups reach this node: the bindings of its queue."""

import asyncio
from typing import Any

from .link import Link
from .place import Place

__all__ = ["Hearing"]


class Hearing:
    """Outlives connections; everything but hears() runs on the hub's loop."""

    def __init__(self) -> None:
        self._heard: set[str] = set()

    def hears(self, group: str) -> bool:
        """Whether its binding stands; while the connection is away, the queue goes on collecting."""
        return group in self._heard

    def narrow(self, groups: frozenset[str]) -> None:
        """No others are heard from now on."""
        self._heard = self._heard & groups

    def forget(self) -> None:
        """The queue is another one, and has no bindings."""
        self._heard = set()

    async def interest(self, link: Link, place: Place, groups: frozenset[str]) -> None:
        """Bind what is not bound, and unbind what nobody here is in.

        The broker is asked for all of it at once, and does it in order: the answer to the last is that to all. A caller
        whose time is over leaves behind what was asked for, and the next one waits for the rest of it.
        """
        await self._bound(link, self._ask(link, place, groups))
        if len(place.bound) > len(groups):
            place.bound &= groups
            link.bound &= groups
        self._heard = set(groups)

    async def hear(self, link: Link, place: Place, groups: frozenset[str]) -> None:
        """Bind these as well."""
        await self._bound(link, self._ask_for(link, place, groups - link.bound))
        self._heard |= groups

    async def _bound(self, link: Link, answer: "asyncio.Future[Any] | None") -> None:
        if answer is not None:
            await answer
        link.bound |= link.asked
        link.asked.clear()

    def _ask(self, link: Link, place: Place, groups: frozenset[str]) -> "asyncio.Future[Any] | None":
        queue, exchange = place.queue.name, link.settings.topology.groups_exchange
        answer = self._ask_for(link, place, groups - link.bound)
        # What is bound holds all of `groups` by now.
        if len(place.bound) > len(groups):
            gone = place.bound - groups
            link.asked -= gone
            answer = link.desk.unbind_all(queue, exchange, sorted(gone))
        return answer

    def _ask_for(self, link: Link, place: Place, new: frozenset[str]) -> "asyncio.Future[Any] | None":
        queue, exchange = place.queue.name, link.settings.topology.groups_exchange
        if asked := new - link.asked:
            link.asked |= asked
            place.bound |= asked
            return link.desk.bind_all(queue, exchange, sorted(asked))
        if link.asked:
            # Bound a second time, for its answer.
            return link.desk.bind(queue, exchange, next(iter(link.asked)))
        return None
