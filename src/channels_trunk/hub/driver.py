"""The way into the transport for the hub's own tasks: when it is open, for as long as the connection lasts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from channels_trunk.exceptions import ChannelLayerError, TransportUnavailable
from channels_trunk.transports.base import Busy, Transport

from .outcomes import LEAST_TIME
from .waiters import another, settle

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Driver"]

T = TypeVar("T")

_BUSY_RETRY = 0.001


class Driver:
    """Awaits the transport's methods on the hub's loop; everything here but hears() is touched on that loop alone."""

    def __init__(self, hub: "Lifecycle", transport: Transport) -> None:
        self._hub = hub
        self._transport = transport
        self._inline = transport.capabilities.inline
        self.needs_interest = transport.capabilities.needs_interest
        self._opening: set[asyncio.Future[None]] = set()  # who waits until it is open
        self._calls: set[asyncio.Task[Any]] = set()  # what waits for the present connection
        self._joining: set[str] = set()  # groups that the transport is to be told of
        self._interest_lock: asyncio.Lock | None = None  # one for each connection, which it stands for

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the transport: an inline one is entered by one thread at a time."""
        if not self._inline:
            yield
            return
        with self._hub.publisher.exclusive:
            # Nothing suspends in here: methods of an inline transport do not wait, so the lock is not held across a
            # wait.
            yield

    async def watched(self, method: Callable[..., Awaitable[T]], *args: Any, within: float | None = None) -> T:
        """Await a method of the transport; an engine that does not answer it within so many seconds is lost.

        Without `within` it is `send_timeout`, as for publish(): a hung call must not stop a node whose health is "ok".
        """
        if self._inline:
            return await method(*args)
        seconds = self._hub.options.send_timeout if within is None else within
        try:
            async with asyncio.timeout(seconds) as limit:
                return await method(*args)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._hub.publisher.outcomes.hangs(method.__name__, seconds) from error

    async def drive(self, method: Callable[..., Awaitable[T]], *args: Any, within: float | None = None) -> T:
        """Enter the transport, and await a method of it, which is watched."""
        with self.entered():
            return await self.watched(method, *args, within=within)

    async def drive_patiently(
        self,
        method: Callable[..., Awaitable[T]],
        *args: Any,
        end: float | None = None,
        within: float | None = None,
    ) -> T:
        """As drive(), but wait until the transport is open, and try again while it is busy and when it was lost.

        For what may be done twice. Cancel it to give up, or give an `end`, in the loop's seconds, for a TimeoutError.
        """
        return await self._patiently(
            lambda: self.drive(method, *args, within=self._left(end) if within is None else within), end
        )

    async def _patiently(self, attempt: Callable[[], Coroutine[Any, Any, T]], end: float | None) -> T:
        while True:
            await self.until_open(end)
            self._check_thread()
            connection = self._interest_lock
            try:
                return await self._while_connected(attempt())
            except (Busy, TransportUnavailable) as error:
                is_busy = isinstance(error, Busy)
                if not is_busy and self._hub.is_open and connection is self._interest_lock:
                    raise
                if end is not None and asyncio.get_running_loop().time() >= end:
                    raise TimeoutError from error
                if is_busy:
                    await asyncio.sleep(_BUSY_RETRY)

    def _left(self, end: float | None) -> float | None:
        """For how long an engine may take to answer somebody whose time is over at `end`."""
        if end is None:
            return None
        most = self._hub.options.send_timeout
        return min(most, max(end - asyncio.get_running_loop().time(), LEAST_TIME))

    async def _while_connected(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call of the transport; the loss of the connection ends it, even if it hangs."""
        if self._inline:
            return await call
        task = asyncio.create_task(call)
        self._calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise TransportUnavailable("the connection was lost") from None
        finally:
            self._calls.discard(task)
            task.cancel()

    def _check_thread(self) -> None:
        # The hub may have been closed and begun anew in another thread, while this one works off its last tasks: the
        # transport, and every future and lock in here, belong to that one.
        if not self._hub.on_io_thread:
            raise TransportUnavailable("the layer was closed meanwhile")

    async def until_open(self, end: float | None = None) -> None:
        """Return when the transport is open; raises the error that a person must mend, or TimeoutError after `end`."""
        while not self._hub.is_open:
            opening = asyncio.get_running_loop().create_future()
            self._opening.add(opening)
            try:
                async with asyncio.timeout_at(end):
                    await opening
            finally:
                self._opening.discard(opening)

    def hears(self, group: str) -> bool:
        """Whether messages to a group reach this node as soon as it has joined; with the lock held."""
        return not self.needs_interest or self._transport.hears(group)

    async def be_heard(self, *groups: str, end: float | None = None) -> None:
        """Return when others can reach this node and these groups; with none, all groups that have members here.

        Raises TimeoutError after `end`, in the loop's seconds.
        """
        if self.needs_interest:
            await self._patiently(partial(self.tell_interest, *groups, end=end), end)
        else:
            await self.until_open(end)

    async def tell_interest(self, *groups: str, end: float | None = None) -> None:
        """Have the transport hear groups that were joined, or (none) all groups with members here, and no others.

        What it hears it knows best, and is asked each time: it may have failed half-way, or made another connection.
        """
        self._check_thread()
        lock = self._interest_lock
        if lock is None:
            raise TransportUnavailable("the connection was lost")
        self._joining.update(groups)
        async with asyncio.timeout_at(end):
            await lock.acquire()
        try:
            if lock is not self._interest_lock:
                raise TransportUnavailable("the connection was lost")
            await (self._tell_more(groups, end) if groups else self._tell_all(end))
        finally:
            lock.release()

    async def _tell_all(self, end: float | None) -> None:
        with self._hub.lock:
            groups = frozenset(self._hub.router.groups.names())
            self._transport.narrow(groups)
        await self.drive(self._transport.interest, groups, within=self._left(end))

    async def _tell_more(self, groups: Sequence[str], end: float | None) -> None:
        joined = self._joining.union(groups)
        self._joining.clear()
        with self._hub.lock:
            # Others may have been told of before, together.
            missing = frozenset(group for group in joined if not self._transport.hears(group))
        if missing:
            await self.drive(self._transport.hear, missing, within=self._left(end))

    def cut(self) -> None:
        """The connection is lost: end what waits for it."""
        for task in tuple(self._calls):
            task.cancel()

    async def before_opened(self) -> None:
        """The transport is open, and nobody knows yet: have it hear what this node must hear."""
        # Whoever waits for an answer of the connection before must not hold up this one.
        self._interest_lock = asyncio.Lock()
        self._joining.clear()
        if self.needs_interest:
            await self.tell_interest()

    def let_go(self, error: ChannelLayerError | None = None) -> None:
        """The transport is open, or (with an error) it will not be: end the waiting for it."""
        settle(list(self._opening), None if error is None else lambda: another(error))
