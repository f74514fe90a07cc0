"""A connection that is made again when it was cut: a killed session is nobody's business but its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from channels_trunk.exceptions import TransportUnavailable

from .values import Row, Value
from .wire import Run, Statement, Wire

__all__ = ["Line"]

T = TypeVar("T")

# A session that is killed again and again is made anew so often, at most. Seconds.
_NOT_BEFORE = 0.05


class Line:
    """Of the hub's loop. `make` connects; `begin` does what each new session needs.

    If the server cannot be reached at once, `on_away` is told, and the line stays as it is.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Wire]],
        *,
        begin: Callable[[Wire], Awaitable[None]],
        on_away: Callable[[Exception], None],
    ) -> None:
        self._make = make
        self._begin = begin
        self._on_away = on_away
        self._making = asyncio.Lock()
        self._wire: Wire | None = None
        self._new: Wire | None = None  # made, and not begun yet
        self._made_at = 0.0
        self._closed = False

    async def wire(self) -> Wire:
        """The session, a new one if the last was cut."""
        wire = self.current()
        if wire is not None:
            return wire
        async with self._making:
            if self._wire is None or self._wire.is_lost:
                self._wire = await self._made()
            return self._wire

    def current(self) -> Wire | None:
        """The session that stands, if one does; any thread."""
        wire = self._wire
        return None if wire is None or wire.is_lost else wire

    async def _made(self) -> Wire:
        clock = asyncio.get_running_loop().time
        if (early := self._made_at + _NOT_BEFORE - clock()) > 0:
            await asyncio.sleep(early)
        if self._closed:
            raise TransportUnavailable("the connection was closed")
        try:
            self._new = wire = await self._make()
            try:
                if not self._closed:
                    await self._begin(wire)
                if self._closed:
                    raise TransportUnavailable("the connection was closed")
            except BaseException:
                wire.close()
                raise
            finally:
                self._new = None
        except Exception as error:
            # Whatever it is, who needs the line must not wait for ever: the next open() tells what a person must mend.
            self._on_away(error)
            raise
        self._made_at = clock()
        return wire

    async def over(self, use: Callable[[Wire], Awaitable[T]]) -> T:
        """Do what may be done twice: again over another session, as often as one is cut under it.

        Where no other can be made, that is raised, and the hub has been told.
        """
        while True:
            wire = await self.wire()
            try:
                return await use(wire)
            except TransportUnavailable:
                if self._closed or not wire.is_lost:
                    raise

    async def run(self, statement: Statement, *values: Value) -> list[Row]:
        """Run a statement that may be run twice; see over()."""
        return await self.over(lambda wire: wire.run(statement, *values))

    async def simple(self, sql: str) -> list[Row]:
        """Run one statement without parameters, that may be run twice; see over()."""
        return await self.over(lambda wire: wire.simple(sql))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Run]:
        """A transaction of one session; see Wire."""
        async with (await self.wire()).transaction() as run:
            yield run

    def close(self) -> None:
        """Close the session, and make no other."""
        self._closed = True
        if self._wire is not None:
            self._wire.close()

    def close_in_child(self) -> None:
        """After a fork; see Wire."""
        self._closed = True
        for wire in (self._wire, self._new):
            if wire is not None:
                wire.close_in_child()
