"""Joins that wait until their groups are heard: all that wait when the transport is asked share its answer.

Whoever joins asks in place, where the transport can do that (`StartingTransport.start_hearing`): the answer comes to
the loop that reads, without a hop to the hub's thread. A task on that thread does the rest: it waits until the engine
is there, and asks again. There is one turn, in which the next joins pile up.
"""

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import StartingTransport, Transport

from .control import why_late
from .waiters import Waiter, another, settle

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Joining"]

# More are asked for by the hub's thread: to write so many names takes a millisecond.
_MOST_BY_CALLERS = 500


class _Join(NamedTuple):
    group: str
    waiter: Waiter
    deadline: float  # monotonic seconds


class Joining:
    """One task for all of them: a task, a timer and a wake for each took longer than RabbitMQ takes to bind."""

    def __init__(self, hub: "Hub", transport: Transport, *, starts: bool) -> None:
        self._hub = hub
        self._starter = transport if starts and isinstance(transport, StartingTransport) else None
        self._waiting: list[_Join] = []  # guarded by the hub's lock, as the next three
        self._asked: list[_Join] = []  # the transport is at these
        self._started = False  # whether a caller's thread asked for them
        self._turn: _Turn | None = None  # whose it is to ask

    # --- any thread

    def add(self, group: str, waiter: Waiter) -> None:
        """Settle `waiter` when messages to the group reach this node, or with an error after send_timeout."""
        hub = self._hub
        join = _Join(group, waiter, hub.clock.monotonic() + hub.options.send_timeout)
        if self._starter is not None and hub.doorwatch is not None:
            hub.doorwatch.joiner_waits(waiter)
        with hub.lock:
            self._waiting.append(join)
            if self._turn is not None:
                return
            turn = self._turn = _Turn(self)
        self._go_on(turn)

    def _go_on(self, turn: "_Turn") -> None:
        """Ask for what waits."""
        if not self._start(turn):
            self._hub.run(self._work(turn), turn)

    def _start(self, turn: "_Turn") -> bool:
        """Ask in this thread; False if that is for the hub's."""
        hub, starter = self._hub, self._starter
        with hub.lock:
            if self._turn is not turn:
                return True  # the layer was closed meanwhile, and they know
            if starter is None or not hub.is_open or len(self._waiting) > _MOST_BY_CALLERS:
                return False
            joins, self._waiting = self._waiting, []
            self._asked, self._started = joins, True
        try:
            is_begun = starter.start_hearing({join.group for join in joins}, partial(self._started_ended, joins))
        except BaseException:
            # A fault, or a signal's handler that raises in there. What may have been asked for may be asked for again.
            self._leave_to_task(joins)
            raise
        return is_begun or self._take_back(joins) is None

    def _take_back(self, joins: list[_Join]) -> "_Turn | None":
        with self._hub.lock:
            if self._asked is not joins:
                return None  # they were told meanwhile
            self._asked, self._started = [], False
            self._waiting = joins + self._waiting
            return self._turn

    def _leave_to_task(self, joins: list[_Join]) -> None:
        if (turn := self._take_back(joins)) is not None:
            self._hub.run(self._work(turn), turn)

    def _started_ended(self, joins: list[_Join], is_heard: bool) -> None:  # noqa: FBT001 - the transport calls it
        """What this or another thread asked for is heard, or is for the hub's thread."""
        if not is_heard:
            self._leave_to_task(joins)
            return
        with self._hub.lock:
            if self._asked is not joins:
                return
            self._asked, self._started = [], False
            turn = self._turn = self._turn if self._waiting else None
            self._hub.driver.told_elsewhere = True
        settle([join.waiter for join in joins])
        if turn is not None:
            self._go_on(turn)

    # --- the hub's loop

    def expire(self) -> float:
        """Fail what a caller's thread asked for and is past its deadline; return the seconds left to the others."""
        now = self._hub.clock.monotonic()
        with self._hub.lock:
            if not self._started:
                return math.inf
            joins = self._asked + self._waiting
            late = [join.waiter for join in joins if join.deadline <= now]
            # In place: the list stands for the answer that may still come.
            self._asked[:] = [join for join in self._asked if join.deadline > now]
            self._waiting = [join for join in self._waiting if join.deadline > now]
        settle(late, self._late)
        return min((join.deadline for join in joins if join.deadline > now), default=math.inf) - now

    def connection_ended(self) -> None:
        """The transport is closed: what a caller's thread asked for waits for the next connection."""
        with self._hub.lock:
            joins = self._asked if self._started else None
        if joins is not None:
            self._leave_to_task(joins)

    def end(self, error: BaseException, turn: "_Turn | None" = None) -> None:
        """Tell everybody; with `turn`, only if that has not ended by itself.

        At the end of the hub's thread, not of its task: whoever joins again would wait for that.
        """
        with self._hub.lock:
            if turn is not None and self._turn is not turn:
                return
            joins = self._asked + self._waiting
            self._asked, self._waiting, self._turn, self._started = [], [], None, False
        settle([join.waiter for join in joins], lambda: another(error))

    def _late(self) -> TransportUnavailable:
        return why_late(self._hub, "the engine was not reached")

    async def _work(self, turn: "_Turn") -> None:
        left: list[_Join] = []
        while joins := self._next(left, turn):
            left = await self._heard(joins)

    def _next(self, left: list[_Join], turn: "_Turn") -> list[_Join]:
        with self._hub.lock:
            if self._turn is not turn:
                return []  # the layer was closed meanwhile; what waits now came after that
            self._asked, self._waiting = left + self._waiting, []
            self._turn = turn if self._asked else None
            return self._asked

    async def _heard(self, joins: list[_Join]) -> list[_Join]:
        """Wait for these; return those that have to go on waiting."""
        hub = self._hub
        left = max(0.0, joins[0].deadline - hub.clock.monotonic())
        error: Exception | None = None
        try:
            async with asyncio.timeout(left) as limit:
                await hub.driver.be_heard(*{join.group for join in joins})
        except TimeoutError:
            if not limit.expired():
                raise
            now = hub.clock.monotonic()
            over = [join.waiter for join in joins if join.deadline <= now] or [joins[0].waiter]
            settle(over, self._late)
            return joins[len(over) :]
        except Exception as caught:  # noqa: BLE001 - the joiners are told, whatever it is
            error = caught
        settle([join.waiter for join in joins], None if error is None else lambda: another(error))
        return []


class _Turn:
    """Whoever asks has it, until nothing waits; for the task it is a waiter: how that ends is how it ends for all."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining

    def get_loop(self) -> None:
        """Any thread may settle it."""

    def done(self) -> bool:
        """Whether it is settled; once is enough for the hub."""
        return False

    def set_result(self, result: None, /) -> None:
        """All were told."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Nobody was."""
        self._joining.end(exception, self)
