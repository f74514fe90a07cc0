"""Joins that wait until their groups are heard: those that the transport is asked for together share its answer.

Whoever joins asks in place, where the transport can do that (`StartingTransport.start_hearing`): the answer comes to
the loop that reads, without a hop to the hub's thread. Several such questions are under way where many join, so that
the engine is at work while those who were answered join again. A task on the hub's thread does the rest: it waits until
the engine is there, and asks again.
"""

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import StartingTransport, Transport

from .control import why_late
from .outcomes import LEAST_TIME
from .waiters import Waiter, another, settle

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Joining"]

# To write so many names takes a millisecond, for which a loop is held.
_MOST_AT_ONCE = 500
# While others are under way, so many joins are worth a question; and how many questions are under way at most.
_WORTH_ASKING, _MOST_ASKS = 16, 2


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
        self._under_way: list[_Batch] = []  # callers' threads asked for these
        self._asked: list[_Join] = []  # the task is at these
        self._turn: _Turn | None = None  # there is one while the task is at work, or about to be

    # --- any thread

    def add(self, group: str, waiter: Waiter) -> None:
        """Settle `waiter` when messages to the group reach this node, or with an error after send_timeout."""
        hub = self._hub
        join = _Join(group, waiter, hub.clock.monotonic() + hub.options.send_timeout)
        if self._starter is not None and hub.doorwatch is not None:
            hub.doorwatch.joiner_waits(waiter)
        with hub.lock:
            self._waiting.append(join)
        self._go_on()

    def _go_on(self) -> None:
        """Ask for what waits, if that is worth it by now, until it is not."""
        batch: _Batch | None = None
        while True:
            with self._hub.lock:
                if batch is not None:
                    batch.is_being_asked_for = False
                if not self._is_time():
                    return
                if self._starter is None or not self._hub.is_open:
                    turn = self._turn = _Turn(self)
                    break
                batch = self._next_batch()
            self._ask(self._starter, batch)
        self._hub.run(self._work(turn), turn)

    def _is_time(self) -> bool:
        if self._turn is not None or not self._waiting:
            return False
        return not self._under_way or (len(self._waiting) >= _WORTH_ASKING and len(self._under_way) < _MOST_ASKS)

    def _next_batch(self) -> "_Batch":
        count = min(_MOST_AT_ONCE, max(_WORTH_ASKING, len(self._waiting) // _MOST_ASKS))
        options, now = self._hub.options, self._hub.clock.monotonic()
        # As long as publish() has: an engine that does not answer is lost then.
        least = now + min(LEAST_TIME, options.send_timeout)
        batch = _Batch(self._waiting[:count], max(least, self._waiting[0].deadline))
        del self._waiting[:count]
        self._under_way.append(batch)
        return batch

    def _ask(self, starter: StartingTransport, batch: "_Batch") -> None:
        """Ask in this thread."""
        try:
            is_begun = starter.start_hearing({join.group for join in batch.joins}, partial(self._ended, batch))
        except BaseException:
            # A fault, or a signal's handler that raises in there. What may have been asked for may be asked for again.
            self._leave_to_task(batch)
            raise
        if not is_begun:
            self._leave_to_task(batch)

    def _leave_to_task(self, batch: "_Batch") -> None:
        with self._hub.lock:
            if batch in self._under_way:  # else they were told meanwhile
                self._under_way.remove(batch)
                self._waiting = batch.joins + self._waiting
            if self._turn is not None or not self._waiting:
                return
            turn = self._turn = _Turn(self)
        self._hub.run(self._work(turn), turn)

    def _ended(self, batch: "_Batch", is_heard: bool) -> None:  # noqa: FBT001 - the transport calls it
        """What this or another thread asked for is heard, or is for the hub's thread."""
        if not is_heard:
            self._leave_to_task(batch)
            return
        with self._hub.lock:
            if batch not in self._under_way:
                return
            self._under_way.remove(batch)
            is_seen_to = batch.is_being_asked_for  # by a _go_on() that goes on when it has asked, here or elsewhere
        try:
            if not is_seen_to:
                # First, so that the engine has something to do while those who are told go on.
                self._go_on()
        finally:
            settle([join.waiter for join in batch.joins])

    # --- the hub's loop

    def expire(self) -> float:
        """Fail what a caller's thread asked for and is past its deadline; return the seconds left to the others."""
        now = self._hub.clock.monotonic()
        with self._hub.lock:
            alone = self._turn is None
            joins = [join for batch in self._under_way for join in batch.joins] + (self._waiting if alone else [])
            late = [join.waiter for join in joins if join.deadline <= now]
            for batch in self._under_way:
                batch.joins = [join for join in batch.joins if join.deadline > now]
            if alone:
                self._waiting = [join for join in self._waiting if join.deadline > now]
            hangs = self._hub.is_open and any(batch.deadline <= now for batch in self._under_way)
            ends = [batch.deadline for batch in self._under_way]
        if hangs:
            self._hub.publisher.outcomes.hangs("start_hearing", self._hub.options.send_timeout)
        settle(late, self._late)
        ends += [join.deadline for join in joins]
        return min((end for end in ends if end > now), default=math.inf) - now

    def connection_ended(self) -> None:
        """The transport is closed: what a caller's thread asked for waits for the next connection."""
        with self._hub.lock:
            batches = self._under_way[::-1]
        for batch in batches:
            self._leave_to_task(batch)

    def end(self, error: BaseException, turn: "_Turn | None" = None) -> None:
        """Tell everybody; with `turn`, only if that has not ended by itself.

        At the end of the hub's thread, not of its task: whoever joins again would wait for that.
        """
        with self._hub.lock:
            if turn is not None and self._turn is not turn:
                return
            joins = self._asked + self._waiting
            if turn is None:
                joins += [join for batch in self._under_way for join in batch.joins]
                self._under_way = []
            self._asked, self._waiting, self._turn = [], [], None
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
        # Not the first of the list: what was asked for together, and was not answered, comes in any order.
        earliest = min(join.deadline for join in joins)
        left = max(0.0, earliest - hub.clock.monotonic())
        error: Exception | None = None
        try:
            limit = asyncio.get_running_loop().time() + left
            await hub.driver.be_heard(*{join.group for join in joins}, end=limit)
        except TimeoutError:
            end = max(earliest, hub.clock.monotonic())
            settle([join.waiter for join in joins if join.deadline <= end], self._late)
            return [join for join in joins if join.deadline > end]
        except Exception as caught:  # noqa: BLE001 - the joiners are told, whatever it is
            error = caught
        settle([join.waiter for join in joins], None if error is None else lambda: another(error))
        return []


class _Batch:
    """What a caller's thread asked for together."""

    __slots__ = ("deadline", "is_being_asked_for", "joins")

    def __init__(self, joins: list[_Join], deadline: float) -> None:
        self.joins = joins
        self.deadline = deadline  # monotonic seconds: an engine that has not answered by then hangs
        self.is_being_asked_for = True


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
