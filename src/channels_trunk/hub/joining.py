"""Joins that wait until their groups are heard: all that wait when the transport is asked share its answer."""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from channels_trunk.exceptions import TransportUnavailable

from .control import why_late
from .waiters import Waiter, another, settle

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Joining"]


class _Join(NamedTuple):
    group: str
    waiter: Waiter
    deadline: float  # monotonic seconds


class Joining:
    """One task for all of them: a task, a timer and a wake for each took longer than RabbitMQ takes to bind."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._waiting: list[_Join] = []  # guarded by the hub's lock, as the next two
        self._asked: list[_Join] = []  # the transport is at these
        self._at_work = False

    def add(self, group: str, waiter: Waiter) -> None:
        """Settle `waiter` when messages to the group reach this node, or with an error after send_timeout."""
        hub = self._hub
        join = _Join(group, waiter, hub.clock.monotonic() + hub.options.send_timeout)
        with hub.lock:
            self._waiting.append(join)
            at_work, self._at_work = self._at_work, True
        if not at_work:
            hub.run(self._work(), _Outcome(self))

    def end(self, error: BaseException) -> None:
        """The task has ended before its time: tell everybody."""
        with self._hub.lock:
            joins = self._asked + self._waiting
            self._asked, self._waiting, self._at_work = [], [], False
        settle([join.waiter for join in joins], lambda: another(error))

    async def _work(self) -> None:
        left: list[_Join] = []
        while joins := self._next(left):
            left = await self._heard(joins)

    def _next(self, left: list[_Join]) -> list[_Join]:
        with self._hub.lock:
            self._asked, self._waiting = left + self._waiting, []
            self._at_work = bool(self._asked)
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
            settle(over, lambda: TransportUnavailable(why_late(hub, "the engine was not reached")))
            return joins[len(over) :]
        except Exception as caught:  # noqa: BLE001 - the joiners are told, whatever it is
            error = caught
        settle([join.waiter for join in joins], None if error is None else lambda: another(error))
        return []


class _Outcome:
    """A waiter for the task: how it ends is how it ends for all."""

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
        self._joining.end(exception)
