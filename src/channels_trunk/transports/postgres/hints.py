"""Hints: when a node is told that a normal channel got messages, and when it looks by itself.

A hint for each batch wakes every session that listens, and this process, which then claims what little has come since.
So a node whose receivers take many messages a second is told no more, and looks every few milliseconds, as a network
card is polled under load; when it finds few for a while, it is told again.

It holds an advisory lock for each shard whose hints it needs, shared, in the session that LISTENs. Whoever publishes
tries that lock, alone, until the end of its transaction: in vain if somebody needs hints. So whoever got the lock
anew sees all that was published without a hint, and looks once more.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import NodeContext

from .names import HINT_CLASS, Bells
from .wire import ServerError, Statement, Wire

__all__ = ["Hints"]

# A node looks by itself when so many messages were taken within the window. Fewer are better taken one by one, at once.
_MANY = 32
_WINDOW = 0.01
# It looks so often, and less often where it finds few: a look costs as much as twenty messages. Much less often would
# hold up those who wait for an answer before they send the next. Seconds.
_SOONEST = 0.001
_LATEST = 0.002
_FEW, _ENOUGH = 8, 24
# Where it finds fewer than these in this time, it asks for hints again.
_TOO_FEW = 60
_PERIOD = 0.04

_ASK = Statement("SELECT pg_advisory_lock_shared($1::bigint::integer, hashtext($2))")
_ASK_NO_MORE = Statement("SELECT pg_advisory_unlock_shared($1::bigint::integer, hashtext($2))")


class _Look:
    """A channel at which the node looks by itself."""

    def __init__(self, channel: str, since: float) -> None:
        self.channel = channel
        self.begin_period(since)
        self.pause = _SOONEST
        self.resting = False  # until the next look there is nothing to claim, as far as is known
        self.asking = False  # for hints
        self.timer: asyncio.TimerHandle | None = None

    def begin_period(self, now: float) -> None:
        """Count what is found from now on."""
        self.since = now
        self.found = 0

    def adapt(self, count: int) -> None:
        """So many were found, and no more are there."""
        if count < _FEW:
            self.pause = min(_LATEST, 2 * self.pause)
        elif count > _ENOUGH:
            self.pause = max(_SOONEST, self.pause / 2)


class Hints:
    """Of the hub's loop. A session that listens begins with hints for all its shards."""

    def __init__(self, context: NodeContext, bells: Bells) -> None:
        self._sink = context.sink
        self._bells = bells
        self._wire: Wire | None = None
        self._watched: frozenset[str] = frozenset()
        self._paces: dict[str, tuple[float, int]] = {}  # since when how many were taken
        self._looks: dict[str, _Look] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, wire: Wire) -> None:
        """A new session that LISTENs."""
        self.stop()
        self._wire = wire

    def stop(self) -> None:
        """The session is gone."""
        self._wire = None
        for channel in list(self._looks):
            self._forget(channel)

    def watch(self, channels: frozenset[str]) -> None:
        """The channels that hints are for, from now on."""
        self._watched = channels
        for channel in list(self._looks):
            if channel not in channels:
                self._forget(channel)
            elif len(self._named(channel)) > 1:
                self._spawn_ask(self._looks[channel])
        for channel in self._paces.keys() - channels:
            del self._paces[channel]

    def _forget(self, channel: str) -> None:
        look = self._looks.pop(channel)
        if look.timer is not None:
            look.timer.cancel()

    def _named(self, channel: str) -> Sequence[str]:
        """Which channels a hint for this one names."""
        bell = self._bells.queue(channel)
        return sorted(name for name in self._watched if self._bells.queue(name) == bell)

    # --- claims

    def resting(self, channel: str) -> bool:
        """Whether a claim has to wait for the next look, which the sink is told of."""
        look = self._looks.get(channel)
        return look is not None and look.resting

    def claimed(self, channel: str, count: int, *, limit: int) -> None:
        """A claim brought so many messages."""
        now = asyncio.get_running_loop().time()
        look = self._looks.get(channel)
        if look is not None:
            look.found += count
            look.resting = count < limit
            if look.resting:
                look.adapt(count)
        elif count and self._is_much(channel, count, now):
            self._begin(channel, now)

    def _is_much(self, channel: str, count: int, now: float) -> bool:
        since, taken = self._paces.get(channel, (now, 0))
        if now - since > _WINDOW:
            since, taken = now, 0
        self._paces[channel] = (since, taken + count)
        return taken + count >= _MANY

    # --- looking by itself

    def _begin(self, channel: str, now: float) -> None:
        wire = self._wire
        # Where two channels have one bell, the other needs the hints.
        if wire is None or wire.pooled or self._named(channel) != [channel]:
            return
        self._looks[channel] = look = _Look(channel, now)
        self._look_later(look)
        self._spawn(self._ask_no_more(look, wire))

    def _look_later(self, look: _Look) -> None:
        look.timer = asyncio.get_running_loop().call_later(look.pause, self._look, look)

    def _look(self, look: _Look) -> None:
        now = asyncio.get_running_loop().time()
        if now - look.since >= _PERIOD:
            if look.found < _TOO_FEW:
                self._spawn_ask(look)
                return
            look.begin_period(now)
        look.resting = False
        self._look_later(look)
        self._sink.available([look.channel])

    def _spawn_ask(self, look: _Look) -> None:
        if self._wire is None or look.asking:
            return
        if look.timer is not None:
            look.timer.cancel()
        look.resting, look.asking = False, True
        self._spawn(self._ask(look, self._wire))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_no_more(self, look: _Look, wire: Wire) -> None:
        # The channel may have been given up and watched again, with hints; nothing suspends between here and the wire.
        if self._looks.get(look.channel) is look:
            with suppress(ServerError, TransportUnavailable):  # hints go on; a new session begins with them
                await wire.run(_ASK_NO_MORE, HINT_CLASS, self._bells.queue(look.channel))

    async def _ask(self, look: _Look, wire: Wire) -> None:
        if self._looks.get(look.channel) is not look:
            return
        try:
            await wire.run(_ASK, HINT_CLASS, self._bells.queue(look.channel))
        except TransportUnavailable:
            return
        except ServerError:
            # Somebody who publishes stands still, and the lock has a time limit.
            look.asking = False
            look.begin_period(asyncio.get_running_loop().time())
            if self._looks.get(look.channel) is look:
                self._look_later(look)
            return
        if self._looks.get(look.channel) is look:
            self._forget(look.channel)
        self._sink.available(self._named(look.channel))
