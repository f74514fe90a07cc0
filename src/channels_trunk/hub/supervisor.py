"""Keeps the transport open: opens it, looks after it, opens it again when it was lost."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from channels_trunk.aside import logger
from channels_trunk.exceptions import ChannelLayerError, TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, ReadableTransport, Transport

from .backoff import Backoff
from .doorwatch import Doorwatch

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Supervisor"]

_SWEEP_EVERY = 5.0
_BUSY_RETRY = 0.02
_EXPIRE_EVERY = 0.05
# What a caller's thread began to publish has nobody on this loop who waits for it. Seconds.
_CHECK_STARTED_EVERY = 1.0
_SEND_AT_CLOSE = 2.0
_FINISH_WITHIN = 0.25
# An engine that hangs is as far away as one that is down. A transport that knows its engine sets shorter limits.
_OPEN_WITHIN = 30.0
_MAINTAIN_WITHIN = 30.0
_CLOSE_WITHIN = 5.0

T = TypeVar("T")


class Supervisor:
    """One run, from the first open to the last close; everything here is touched on the hub's loop alone."""

    def __init__(self, hub: "Lifecycle", transport: Transport) -> None:
        self._hub = hub
        self._transport = transport
        self._backoff = Backoff()
        self._news = asyncio.Event()  # one of the next three was set
        self._stopping = False
        self._lost = False
        self._early = False
        self._opened_before = False
        self._left = True  # whether the transport holds nothing any more
        self._doorwatch = Doorwatch(hub, transport) if isinstance(transport, ReadableTransport) else None

        self.inline_doorwatch = self._doorwatch if hub.options.inline else None
        """To be told where receivers wait; None if the hub's thread does all the reading."""

    def lose(self) -> None:
        """The engine is away: open it again."""
        self._lost = True
        # Calls of the transport that still wait for the old connection must not hold up the next one.
        self._hub.driver.cut()
        self._news.set()

    def maintain_soon(self) -> None:
        """Do not wait for the next round of maintenance."""
        self._early = True
        self._news.set()

    def stop(self) -> None:
        """Close the transport and end run()."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Open, serve, and open again, until stop() or until the engine refuses for good."""
        try:
            while not self._stopping and await self._attempt():
                pass
            if not self._left:
                # Stopped between a loss and the next attempt: what close(leave=False) kept for that is still there.
                await self._close(leave=True)
        finally:
            self._hub.ended()

    async def _attempt(self) -> bool:
        """Open and serve once; False if it is no use to try again before a person has done something."""
        # Before and not after: a loss that is reported while open() is under way is one of the new connection.
        self._lost = self._left = False
        try:
            await self._finished("open", self._open(), within=_OPEN_WITHIN)
        except (TransportUnavailable, Busy) as error:
            await self._close(leave=self._stopping)
            if not self._stopping:
                self._hub.away(error)
                await self._pass_time(self._backoff.delay())
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, callers must not wait for ever
            await self._close(leave=True)
            self._hub.refused(_as_layer_error(error))
            return False
        await self._serve()
        if not self._stopping:
            # An engine that takes connections and drops them at once must not be asked without a pause.
            await self._pass_time(self._backoff.delay())
        return True

    async def _open(self) -> None:
        await self._transport.open(self._hub.context)
        await self._hub.driver.before_opened()

    async def _serve(self) -> None:
        self._hub.opened(again=self._opened_before)
        self._opened_before = True
        pump = asyncio.create_task(self._hub.publisher.pump.run())
        self._hub.claims.opened()
        if self._doorwatch is not None:
            self._doorwatch.open()
        try:
            await self._look_after()
        finally:
            await self._take_down(pump)

    async def _look_after(self) -> None:
        clock = asyncio.get_running_loop().time
        next_sweep = clock() + _SWEEP_EVERY
        next_turn = clock()
        while not (self._stopping or self._lost):
            if clock() >= next_sweep:
                self._hub.sweep()
                next_sweep = clock() + _SWEEP_EVERY
            if self._early or clock() >= next_turn:
                self._early = False
                next_turn = clock() + await self._maintain()
            pause = min(next_sweep, next_turn) - clock()
            if self._transport.capabilities.starts:
                pause = min(pause, self._expire(), _CHECK_STARTED_EVERY, self._hub.options.send_timeout / 4)
            await self._wait(pause)

    async def _maintain(self) -> float:
        try:
            pause = await self._finished("maintain", self._transport.maintain(), within=_MAINTAIN_WITHIN)
        except Busy:
            return _BUSY_RETRY
        except Exception as error:
            if not isinstance(error, TransportError):
                logger.error("channels_trunk: the transport failed in a way it should not", exc_info=error)
            if not (self._stopping or self._lost):
                self._hub.context.sink.lost(error)
                self._lost = True
            return 0.0
        self._backoff.reset()
        return pause

    async def _take_down(self, pump: asyncio.Task[None]) -> None:
        if self._stopping and not self._lost:
            # close() promises to send what is pending; a loop that was to do so may have ended.
            self._hub.publisher.nudge()
            await _until(lambda: self._hub.publisher.idle or pump.done(), _SEND_AT_CLOSE)
        elif self._lost:
            # What is under way may come to its end, if only a part of the engine is away: then its outcome is known.
            await _until(lambda: not self._hub.publisher.in_flight or pump.done(), _FINISH_WITHIN)
        self._hub.set_closing(lost=self._lost)
        await self._hub.claims.pause(send_back=self._stopping and not self._lost)
        if self._doorwatch is not None:
            self._doorwatch.close()
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        await self._close(leave=not self._lost)
        self._hub.joining.connection_ended()

    async def _close(self, *, leave: bool) -> None:
        self._left = leave
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                with self._hub.driver.entered():
                    await self._transport.close(leave=leave)
        except Exception as error:
            logger.error("channels_trunk: the transport failed to close", exc_info=error)

    async def _finished(self, name: str, call: Coroutine[Any, Any, T], *, within: float) -> T:
        """Await a call of the transport, but no longer than until stop() or lose(), or for so many seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + within
        task = asyncio.create_task(call)
        try:
            while not (task.done() or self._stopping or self._lost) and clock() < end:
                self._expire()
                await asyncio.wait({task}, timeout=_EXPIRE_EVERY)
        finally:
            finished = task.done()
            if not finished:
                task.cancel()
                await asyncio.wait({task}, timeout=_CLOSE_WITHIN)
        if finished:
            return task.result()
        if self._stopping or self._lost:
            raise TransportUnavailable("the connection was given up")
        raise TransportUnavailable(f"the engine did not answer {name}() within {within:g} s")

    def _expire(self) -> float:
        """Fail what is past its time; return the seconds left to what callers' threads began."""
        return min(self._hub.publisher.expire(), self._hub.joining.expire())

    async def _wait(self, seconds: float) -> None:
        """Wait for news, but no longer than this."""
        if seconds > 0 and not self._news.is_set():
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return
        self._news.clear()

    async def _pass_time(self, seconds: float) -> None:
        """Wait before the next attempt, and meanwhile fail senders whose time is over."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while not self._stopping and (left := until - clock()) > 0:
            self._expire()
            await self._wait(min(left, _EXPIRE_EVERY))
        self._expire()


async def _until(condition: Callable[[], bool], within: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + within
    while not condition() and clock() < end:  # noqa: ASYNC110 - once per close
        await asyncio.sleep(0.001)


def _as_layer_error(error: Exception) -> ChannelLayerError:
    if isinstance(error, ChannelLayerError):
        return error
    logger.error("channels_trunk: the transport failed in a way it should not", exc_info=error)
    wrapped = ChannelLayerError(f"the transport cannot be opened: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
