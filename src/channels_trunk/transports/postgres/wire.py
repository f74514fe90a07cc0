"""One connection to PostgreSQL, driven through libpq by the hub's loop, and by callers who start a statement.

psycopg makes the connection, with all that libpq can do about it. What follows is done on its `pgconn`, because a
statement through a cursor of psycopg's costs the process twice as much (see docs/explanation/postgres-log.md).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import pq

from channels_trunk.exceptions import TransportUnavailable

from .pipe import Notice, Outcome, Pipe, Receive
from .values import Row, Value, data_of, encoded, rows
from .watch import Door

__all__ = ["Notice", "Run", "ServerError", "Statement", "Wire"]

_OK = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)
_BINARY = [pq.Format.BINARY]
_PIPELINES = pq.version() >= 14_00_00

Run = Callable[..., Awaitable[list[Row]]]


class ServerError(Exception):
    """The server refused a statement; the connection goes on. `sqlstate` says why."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class Statement:
    """A statement that is prepared once for each connection."""

    _count = 0

    def __init__(self, sql: str) -> None:
        Statement._count += 1
        self.name = f"trunk_{Statement._count}".encode()
        self.sql = sql.encode()


class Wire:
    """Runs one statement at a time, in the order in which run() was called; of the loop that made it.

    Any thread may start() a statement while none is under way, and attend() to it. `on_notices` is called with what
    LISTEN brings, in order, by whoever reads, and `on_came` afterwards, if that was the loop; `on_lost` on the loop,
    once, when the connection is gone.
    """

    def __init__(
        self,
        connection: "psycopg.AsyncConnection[Any]",
        *,
        on_notices: Callable[[list[Notice]], None],
        on_lost: Callable[[Exception], None],
        on_came: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipe = Pipe(connection, on_notices=on_notices, on_came=on_came, on_lost=on_lost)
        self._pgconn = self._pipe.pgconn
        self.pooled = False
        """Whether each transaction may run in another session of a pool: nothing is prepared then."""
        self.listens: set[str] = set()
        """What this session LISTENs to, as whoever has it do so notes."""
        self._prepared: set[bytes] = set()
        self._turn = asyncio.Lock()
        self.pid: int = self._pgconn.backend_pid

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._pipe.error is not None

    @property
    def server_version(self) -> int:
        """150004 for 15.4."""
        return int(self._pgconn.server_version)

    # --- the loop

    async def run(self, statement: Statement, *values: Value) -> list[Row]:
        """Run a statement and return its rows.

        Raises ServerError if the server refused it, TransportUnavailable if the connection is gone: then nobody can
        know whether it was run. Cancelled, the connection is given up.
        """
        async with self._turn:
            await self._take()
            try:
                return await self._run(statement, *values)
            finally:
                self._pipe.let_go()

    async def _take(self) -> None:
        """Wait for the end of a statement that another thread has started; no other is started from now on."""
        while (busy := self._pipe.hold()) is not None:
            await busy

    async def _run(self, statement: Statement, *values: Value) -> list[Row]:
        if self.pooled:
            return await self._ask(lambda: self._send_whole(statement, values))
        if statement.name not in self._prepared:
            await self._prepare(statement, values)
        return await self._ask(lambda: self._send_prepared(statement, values))

    async def _prepare(self, statement: Statement, values: Sequence[Value]) -> None:
        oids = [encoded(value)[0] for value in values]
        await self._ask(lambda: self._pgconn.send_prepare(statement.name, statement.sql, oids))
        self._prepared.add(statement.name)

    def _send_whole(self, statement: Statement, values: Sequence[Value]) -> None:
        pairs = [encoded(value) for value in values]
        oids, data = [oid for oid, _ in pairs], [item for _, item in pairs]
        self._pgconn.send_query_params(statement.sql, data, oids, _BINARY * len(data), pq.Format.BINARY)

    def _send_prepared(self, statement: Statement, values: Sequence[Value]) -> None:
        data = data_of(values)
        self._pgconn.send_query_prepared(statement.name, data, _BINARY * len(data), pq.Format.BINARY)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Run]:
        """BEGIN, and COMMIT at the end; what is run with the object is in it, and nothing else is.

        If it does not come to the COMMIT, it is rolled back: by the server, as the connection is given up, unless it
        was the server that refused something.
        """
        async with self._turn:
            await self._take()
            begun = False

            async def run(statement: Statement, *values: Value) -> list[Row]:
                nonlocal begun
                if not begun:
                    begun = True
                    return await self._begin(statement, *values)
                return await self._run(statement, *values)

            try:
                yield run
                await self._simple("COMMIT")
            except ServerError:
                await self._simple("ROLLBACK")
                raise
            except BaseException:
                self._pipe.lose(TransportUnavailable("a transaction was given up"))
                raise
            finally:
                self._pipe.let_go()

    async def _begin(self, statement: Statement, *values: Value) -> list[Row]:
        """BEGIN and the first statement, in one round trip if libpq can."""
        if self.pooled or not _PIPELINES:
            await self._simple("BEGIN")
            return await self._run(statement, *values)
        if statement.name not in self._prepared:
            await self._prepare(statement, values)

        def send() -> None:
            self._pgconn.enter_pipeline_mode()
            self._pgconn.send_query_params(b"BEGIN", [], None, None, pq.Format.BINARY)
            self._send_prepared(statement, values)
            self._pgconn.pipeline_sync()

        return await self._ask(send)

    async def simple(self, sql: str) -> list[Row]:
        """Run one statement that has no parameters, without preparing it."""
        async with self._turn:
            await self._take()
            try:
                return await self._simple(sql)
            finally:
                self._pipe.let_go()

    async def _simple(self, sql: str) -> list[Row]:
        return await self._ask(lambda: self._pgconn.send_query_params(sql.encode(), [], None, None, pq.Format.BINARY))

    async def script(self, sql: str) -> None:
        """Run several statements, as one transaction."""
        async with self._turn:
            await self._take()
            try:
                await self._ask(lambda: self._pgconn.send_query(sql.encode()))
            finally:
                self._pipe.let_go()

    async def _ask(self, send: Callable[[], None]) -> list[Row]:
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def receive(outcome: Outcome) -> None:
            if not answer.done():
                if isinstance(outcome, TransportUnavailable):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)

        self._pipe.ask(send, receive)
        try:
            results = await answer
        except asyncio.CancelledError:
            # The answer would be taken for that of the next statement.
            self._pipe.lose(TransportUnavailable("a statement was given up"))
            raise
        return self.rows(results)

    def rows(self, results: list[Any]) -> list[Row]:
        """The rows of the last of these results; raises ServerError if the server refused one of the statements."""
        found: list[Row] = []
        for result in results:
            if result.status not in _OK:
                if self._pipe.error is not None:
                    # The last words of a session that was ended.
                    raise TransportUnavailable(*self._pipe.error.args)
                raise _server_error(result)
            found = rows(result) if result.status == pq.ExecStatus.TUPLES_OK else found
        return found

    def read_at(self, door: Door | None, *, at_rest: bool) -> None:
        """Who reads; see Pipe."""
        self._pipe.read_at(door, at_rest=at_rest)

    def close(self) -> None:
        """Close the connection; what is under way fails."""
        self._pipe.close()

    def close_in_child(self) -> None:
        """After a fork; see Pipe."""
        self._pipe.close_in_child()

    # --- any thread

    def can_start(self) -> bool:
        """Whether start() is likely to do something that it knows."""
        return self._pipe.is_free

    def knows(self, statement: Statement) -> bool:
        """Whether the statement is prepared."""
        return statement.name in self._prepared

    def start(self, statement: Statement, values: Sequence[Value], receive: Receive) -> bool:
        """Send a statement, if it is prepared and none is under way; do not wait. False if nothing was done.

        `receive` is called once, in any thread, with what rows() takes, or with the loss of the connection.
        """
        prepared = statement.name in self._prepared
        return prepared and self._pipe.start(lambda: self._send_prepared(statement, values), receive)

    def attend(self, seconds: float) -> None:
        """Wait in this thread for the answer to what it has started, for at most so many seconds."""
        self._pipe.attend(seconds)


def _server_error(result: Any) -> ServerError:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"").decode(
        "utf-8", "replace"
    )
    return ServerError(state, text)
