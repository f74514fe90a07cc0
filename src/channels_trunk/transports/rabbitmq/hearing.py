"""Which groups reach this node: the bindings of its queue."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from .errors import AmqpError
from .link import Link
from .place import Place

__all__ = ["Hearing", "Told"]

Told = Callable[[AmqpError | None], None]
"""To be told, in any thread, that groups are bound, or why nobody knows."""


class _Ask:
    """Binds that were sent together: the broker's answer to the last is that to all."""

    __slots__ = ("groups", "number", "told")

    def __init__(self, groups: list[str], number: int) -> None:
        self.groups = groups
        self.number = number
        self.told: list[Told] = []


class Hearing:
    """Outlives connections. Any thread, but hear() and interest(), which run on the hub's loop."""

    def __init__(self) -> None:
        # Guards what links and places note of bindings, too, and is held while the broker is asked: so what is noted
        # has the order in which the broker does it.
        self._lock = threading.Lock()
        self._heard: set[str] = set()  # changed with _lock held, as the next
        self._gone: set[str] = set()  # to be unbound by the next interest()
        self._numbers = itertools.count(1)

    def hears(self, group: str) -> bool:
        """Whether its binding stands; while the connection is away, the queue goes on collecting."""
        return group in self._heard

    def narrow(self, link: Link | None, place: Place, groups: frozenset[str]) -> None:
        """No others are heard from now on, unless they are asked for from now on."""
        with self._lock:
            self._gone = place.bound - groups
            self._heard &= groups
            if link is not None and self._gone:
                link.bound -= self._gone
                for group in self._gone.intersection(link.asked):
                    # Its answer may still come, and is of no account.
                    del link.asked[group]

    def forget(self) -> None:
        """The queue is another one, and has no bindings."""
        with self._lock:
            self._heard, self._gone = set(), set()

    # --- binding

    def start(self, link: Link, place: Place, groups: Collection[str], told: Told) -> bool:
        """Bind what is not bound, and have `told` called when all is; False if nothing can be sent.

        What was asked for before, by whoever it was, is waited for and not asked for again.
        """
        with self._lock:
            new = [group for group in groups if group not in link.bound and group not in link.asked]
            # Answers come in the order of the asks: the last one that concerns these groups is the one to wait for.
            last = self._send(link, place, new) if new else _latest(link, groups)
            if last is not None:
                last.told.append(told)
        if last is None:
            if new:
                return False
            told(None)
        return True

    def _send(self, link: Link, place: Place, groups: list[str]) -> _Ask | None:
        ask = _Ask(groups, next(self._numbers))
        # Whatever becomes of it, the queue may have them.
        place.bound.update(groups)
        self._gone.difference_update(groups)
        exchange = link.settings.topology.groups_exchange
        if not link.desk.bind_all(place.queue.name, exchange, groups, partial(self._answered, link, ask)):
            return None
        link.asked.update(dict.fromkeys(groups, ask))
        return ask

    def _answered(self, link: Link, ask: _Ask, _answer: Any, error: AmqpError | None) -> None:
        with self._lock:
            # What was unbound meanwhile, and perhaps asked for again, is no longer this one's.
            mine = [group for group in ask.groups if link.asked.get(group) is ask]
            for group in mine:
                del link.asked[group]
            if error is None:
                link.bound.update(mine)
                self._heard.update(mine)
        for told in ask.told:
            told(error)

    # --- the hub's loop

    async def hear(self, link: Link, place: Place, groups: Collection[str]) -> None:
        """Bind these as well."""
        await self._bound(link, place, groups)

    async def interest(self, link: Link, place: Place, groups: frozenset[str]) -> None:
        """Bind what is not bound, and unbind what narrow() found to be over."""
        bound = self._bound(link, place, groups)
        await self._unbind(link, place)
        await bound

    def _bound(self, link: Link, place: Place, groups: Collection[str]) -> "asyncio.Future[None]":
        bound: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.start(link, place, groups, partial(link.desk.in_loop, _settle, bound)):
            raise AmqpError("the connection was lost")
        return bound

    async def _unbind(self, link: Link, place: Place) -> None:
        with self._lock:
            gone, self._gone = self._gone, set()
            if not gone:
                return
            answer = link.desk.unbind_all(place.queue.name, link.settings.topology.groups_exchange, sorted(gone))
        await answer
        with self._lock:
            place.bound -= {group for group in gone if group not in link.bound and group not in link.asked}


def _latest(link: Link, groups: Collection[str]) -> _Ask | None:
    """The last of the asks for these groups that are not answered."""
    asks: list[_Ask] = [link.asked[group] for group in groups if group in link.asked]
    return max(asks, key=lambda ask: ask.number, default=None)


def _settle(bound: "asyncio.Future[None]", error: AmqpError | None) -> None:
    if bound.done():
        return
    if error is None:
        bound.set_result(None)
    else:
        bound.set_exception(error)
        bound.exception()
