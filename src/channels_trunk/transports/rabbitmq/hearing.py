"""Which groups reach this node: the bindings of its queue."""

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from .channel import Channel
from .errors import AmqpError
from .link import Link
from .place import Place

__all__ = ["Hearing", "Told"]

Told = Callable[[AmqpError | None], None]
"""To be told, in any thread, that groups are bound, or why nobody knows."""


class _Ask:
    """Binds that were sent together, over each channel some: the broker's last answer is that to all."""

    __slots__ = ("error", "groups", "left", "told")

    def __init__(self, groups: list[str]) -> None:
        self.groups = groups
        self.left = 0  # answers that are to come
        self.error: AmqpError | None = None
        self.told: list[Told] = []


class Hearing:
    """Outlives connections. Any thread, but hear() and interest(), which run on the hub's loop."""

    def __init__(self) -> None:
        # Guards what links and places note of bindings, too, and is held while the broker is asked: so what is noted
        # has the order in which the broker does it.
        self._lock = threading.Lock()
        self._heard: set[str] = set()  # changed with _lock held, as the next
        self._gone: set[str] = set()  # to be unbound by the next interest()

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
            asks = {ask for group in groups if (ask := link.asked.get(group)) is not None}
            new = [group for group in groups if group not in link.bound and group not in link.asked]
            if new:
                ask = self._send(link, place, new)
                if ask is None:
                    return False
                asks.add(ask)
            one = _once(told, len(asks))
            for ask in asks:
                ask.told.append(one)
        if not asks:
            told(None)
        return True

    def _send(self, link: Link, place: Place, groups: list[str]) -> _Ask | None:
        ask = _Ask(groups)
        # Whatever becomes of it, the queue may have them.
        place.bound.update(groups)
        self._gone.difference_update(groups)
        exchange = link.settings.topology.groups_exchange
        for channel, some in _shared_out(link, groups):
            if channel.bind_all(place.queue.name, exchange, some, partial(self._answered, link, ask)):
                ask.left += 1
            else:
                ask.error = AmqpError("the connection was lost")
        if not ask.left:
            return None
        link.asked.update(dict.fromkeys(groups, ask))
        return ask

    def _answered(self, link: Link, ask: _Ask, _answer: Any, error: AmqpError | None) -> None:
        with self._lock:
            ask.left -= 1
            ask.error = ask.error or error
            if ask.left:
                return
            # What was unbound meanwhile, and perhaps asked for again, is no longer this one's.
            mine = [group for group in ask.groups if link.asked.get(group) is ask]
            for group in mine:
                del link.asked[group]
            if ask.error is None:
                link.bound.update(mine)
                self._heard.update(mine)
        for told in ask.told:
            told(ask.error)

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
            exchange = link.settings.topology.groups_exchange
            answers = [
                channel.unbind_all(place.queue.name, exchange, some)
                for channel, some in _shared_out(link, sorted(gone))
            ]
        for answer in answers:
            await answer
        with self._lock:
            place.bound -= {group for group in gone if group not in link.bound and group not in link.asked}


def _shared_out(link: Link, groups: Sequence[str]) -> list[tuple[Channel, list[str]]]:
    """What to say of which groups over which channel: of one group always over the same, as the order matters."""
    channels = link.binders
    if len(groups) == 1:
        return [(channels[hash(groups[0]) % len(channels)], [groups[0]])]
    shares: list[list[str]] = [[] for _ in channels]
    for group in groups:
        shares[hash(group) % len(shares)].append(group)
    return [(channel, share) for channel, share in zip(channels, shares, strict=True) if share]


def _once(told: Told, count: int) -> Told:
    """To be told so many times, in any threads; the last time `told` is, of an error if there was one."""
    if count == 1:
        return told
    left: list[None] = [None] * (count - 1)
    errors: list[AmqpError] = []

    def one(error: AmqpError | None) -> None:
        if error is not None:
            errors.append(error)
        try:
            left.pop()
        except IndexError:
            told(errors[0] if errors else None)

    return one


def _settle(bound: "asyncio.Future[None]", error: AmqpError | None) -> None:
    if bound.done():
        return
    if error is None:
        bound.set_result(None)
    else:
        bound.set_exception(error)
        bound.exception()
