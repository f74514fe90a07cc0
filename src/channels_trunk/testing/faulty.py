"""A wrapper that makes chosen calls of any transport fail, wait, or take their time."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from channels_trunk.envelope import Envelope
from channels_trunk.transports.base import (
    Capabilities,
    Claimed,
    EmbeddedTransport,
    NodeContext,
    Page,
    StartingTransport,
    Transport,
)

__all__ = ["FaultyEmbeddedTransport", "FaultyTransport", "Hold"]

T = TypeVar("T")
MakeError = Callable[[], BaseException]


class Hold:
    """A call that waits inside the transport until it is released; any thread may look and release."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        """Set as soon as the call has come."""
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._inside: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []  # guarded by _lock

    def release(self) -> None:
        """Let the call go on, and every later one that this holds."""
        with self._lock:
            self._released.set()
            inside, self._inside = self._inside, []
        for loop, event in inside:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def wait(self) -> None:
        """What the call does."""
        event = asyncio.Event()
        with self._lock:
            self.entered.set()
            if self._released.is_set():
                return
            self._inside.append((asyncio.get_running_loop(), event))
        await event.wait()


class _Faults:
    """What is to happen to the next calls of each method; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: dict[str, deque[MakeError | Hold | float]] = {}  # guarded by _lock
        self.calls: Counter[str] = Counter()  # guarded by _lock

    def plan(self, method: str, fault: MakeError | Hold | float, times: int) -> None:
        if not any(callable(getattr(kind, method, None)) for kind in (EmbeddedTransport, StartingTransport)):
            raise AttributeError(f"a transport has no method {method!r}")
        with self._lock:
            self._planned.setdefault(method, deque()).extend([fault] * times)

    def next(self, method: str) -> MakeError | Hold | float | None:
        with self._lock:
            self.calls[method] += 1
            planned = self._planned.get(method)
            return planned.popleft() if planned else None

    def waits_for(self, method: str) -> bool:
        with self._lock:
            return bool(self._planned.get(method))

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()


class FaultyTransport(Transport):
    """Hands every call to `inner`, unless a fault was planned for it. Plans are carried out in the order given.

    Its capabilities are those of `inner`; wrap an EmbeddedTransport with FaultyEmbeddedTransport, and a
    StartingTransport with `channels_trunk.testing.starting.FaultyStartingTransport`.
    """

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.context: NodeContext | None = None
        self._faults = _Faults()

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """Those of the inner transport."""
        return self.inner.capabilities

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called; a copy."""
        return Counter(self._faults.calls)

    # --- plans, any thread

    def fail(self, method: str, error: MakeError, *, times: int = 1) -> None:
        """Have the next `times` calls raise what `error` makes, instead of reaching `inner`."""
        self._faults.plan(method, error, times)

    def delay(self, method: str, seconds: float, *, times: int = 1) -> None:
        """Have the next calls wait so long before they reach `inner`; not for the `_now` methods, which never wait."""
        self._faults.plan(method, seconds, times)

    def stall(self, method: str, *, times: int = 1) -> Hold:
        """Have the next calls wait for release() before they reach `inner`; not for the `_now` methods."""
        hold = Hold()
        self._faults.plan(method, hold, times)
        return hold

    def has_plans_for(self, method: str) -> bool:
        """Whether the next call of this method has a fault."""
        return self._faults.waits_for(method)

    def heal(self) -> None:
        """Forget all plans."""
        self._faults.clear()

    async def _call(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        fault = self._faults.next(method)
        if isinstance(fault, Hold):
            await fault.wait()
        elif isinstance(fault, float):
            await asyncio.sleep(fault)
        elif fault is not None:
            raise fault()
        return await call()

    # --- the contract

    async def open(self, context: NodeContext) -> None:
        """As inner."""
        self.context = context
        await self._call("open", lambda: self.inner.open(context))

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """As inner."""
        return await self._call("publish", lambda: self.inner.publish(batch))

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """As inner."""
        return await self._call("claim", lambda: self.inner.claim(channel, limit))

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """As inner."""
        await self._call("restore", lambda: self.inner.restore(claimed))

    async def watch(self, channels: frozenset[str]) -> None:
        """As inner."""
        await self._call("watch", lambda: self.inner.watch(channels))

    async def interest(self, groups: frozenset[str]) -> None:
        """As inner."""
        await self._call("interest", lambda: self.inner.interest(groups))

    async def hear(self, groups: frozenset[str]) -> None:
        """As inner; the faults are those of `interest`."""
        await self._call("interest", lambda: self.inner.hear(groups))

    def narrow(self, groups: frozenset[str]) -> None:
        """As inner."""
        self.inner.narrow(groups)

    def hears(self, group: str) -> bool:
        """As inner."""
        return self.inner.hears(group)

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """As inner."""
        await self._call("bind", lambda: self.inner.bind(group, channel, expires_at))

    async def unbind(self, group: str, channel: str) -> None:
        """As inner."""
        await self._call("unbind", lambda: self.inner.unbind(group, channel))

    async def peers(self) -> frozenset[str]:
        """As inner."""
        return await self._call("peers", self.inner.peers)

    async def purge(self) -> None:
        """As inner."""
        await self._call("purge", self.inner.purge)

    async def drop(self) -> None:
        """As inner."""
        await self._call("drop", self.inner.drop)

    async def trim(self) -> None:
        """As inner."""
        await self._call("trim", self.inner.trim)

    async def maintain(self) -> float:
        """As inner."""
        return await self._call("maintain", self.inner.maintain)

    async def close(self, *, leave: bool) -> None:
        """As inner, always: what a fault keeps from closing would leak."""
        try:
            fault = self._faults.next("close")
            if isinstance(fault, Hold):
                await fault.wait()
        finally:
            await self.inner.close(leave=leave)

    def hold(self) -> None:
        """As inner."""
        self.inner.hold()

    def release(self) -> None:
        """As inner."""
        self.inner.release()

    def abandon(self) -> None:
        """As inner."""
        self.inner.abandon()


class FaultyEmbeddedTransport(FaultyTransport, EmbeddedTransport):
    """As FaultyTransport, for a transport that callers drive in place."""

    def __init__(self, inner: EmbeddedTransport) -> None:
        super().__init__(inner)
        self.embedded = inner

    def _call_now(self, method: str) -> None:
        fault = self._faults.next(method)
        if isinstance(fault, (Hold, float)):
            raise TypeError(f"{method}() never waits: it can only fail")
        if fault is not None:
            raise fault()

    def publish_now(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """As inner."""
        self._call_now("publish_now")
        return self.embedded.publish_now(batch)

    def claim_now(self, channel: str, limit: int) -> Sequence[Claimed]:
        """As inner."""
        self._call_now("claim_now")
        return self.embedded.claim_now(channel, limit)

    def read_now(self) -> Page:
        """As inner."""
        self._call_now("read_now")
        return self.embedded.read_now()

    def queues_now(self) -> Sequence[str]:
        """As inner."""
        self._call_now("queues_now")
        return self.embedded.queues_now()

    def changed(self) -> bool:
        """As inner."""
        return self.embedded.changed()

    def polling_interval(self) -> float | None:
        """As inner."""
        return self.embedded.polling_interval()

    def doorbell(self) -> int | None:
        """As inner."""
        return self.embedded.doorbell()

    def answer_doorbell(self) -> None:
        """As inner."""
        self.embedded.answer_doorbell()
