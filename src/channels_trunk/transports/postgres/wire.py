"""One connection to PostgreSQL, driven by the hub's loop through libpq.

psycopg makes the connection, with all that libpq can do about it. What follows is done on its `pgconn`, because a
statement through a cursor of psycopg's costs the process twice as much (see docs/explanation/postgres-log.md).
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from channels_trunk.exceptions import TransportUnavailable

__all__ = [
    "Notice",
    "Row",
    "Run",
    "ServerError",
    "Statement",
    "Value",
    "Wire",
    "bytes_array",
    "float_array",
    "int_array",
    "text_array",
]

_OK = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)
_BYTEA, _TEXT, _BIGINT, _FLOAT8 = 17, 25, 20, 701
_TEXT_ARRAY, _BYTEA_ARRAY, _BIGINT_ARRAY, _FLOAT8_ARRAY = 1009, 1001, 1016, 1022
_PIPELINES = pq.version() >= 14_00_00
_ARRAY_HEAD = struct.Struct("!iiiii")
_LENGTH = struct.Struct("!i")

Row = tuple[Any, ...]
Run = Callable[..., Awaitable[list[Row]]]


class ServerError(Exception):
    """The server refused a statement; the connection goes on. `sqlstate` says why."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class Notice(NamedTuple):
    """A notification: its channel, and what it says."""

    channel: str
    payload: str


class Statement:
    """A statement that is prepared once for each connection."""

    _count = 0

    def __init__(self, sql: str) -> None:
        Statement._count += 1
        self.name = f"trunk_{Statement._count}".encode()
        self.sql = sql.encode()


class Array(NamedTuple):
    """An array of one dimension, in PostgreSQL's binary format."""

    oid: int
    data: bytes


def _array(oid: int, item_oid: int, items: Sequence[bytes | None]) -> Array:
    parts = [_ARRAY_HEAD.pack(1, int(None in items), item_oid, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(_LENGTH.pack(-1))
        else:
            parts += (_LENGTH.pack(len(item)), item)
    return Array(oid, b"".join(parts))


def text_array(items: Sequence[str]) -> Array:
    """A text[]."""
    return _array(_TEXT_ARRAY, _TEXT, [item.encode() for item in items])


def bytes_array(items: Sequence[bytes]) -> Array:
    """A bytea[]."""
    return _array(_BYTEA_ARRAY, _BYTEA, items)


def float_array(items: Sequence[float]) -> Array:
    """A float8[]."""
    return _array(_FLOAT8_ARRAY, _FLOAT8, [struct.pack("!d", item) for item in items])


def int_array(items: Sequence[int | None]) -> Array:
    """A bigint[]."""
    return _array(_BIGINT_ARRAY, _BIGINT, [None if item is None else struct.pack("!q", item) for item in items])


Bytes = bytes | bytearray | memoryview
Value = str | int | float | Bytes | Array | None


def _encoded(value: Value) -> tuple[int, bytes | None]:
    match value:
        case None:
            return 0, None  # of the type that the statement casts it to
        case Array():
            return value
        case str():
            return _TEXT, value.encode()
        case bool() | int():
            return _BIGINT, struct.pack("!q", value)
        case float():
            return _FLOAT8, struct.pack("!d", value)
        case _:
            return _BYTEA, bytes(value)


def _int_items(data: bytes) -> list[int]:
    """A bigint[] of one dimension or none, without NULLs."""
    if len(data) < _ARRAY_HEAD.size:
        return []
    count = _ARRAY_HEAD.unpack_from(data)[3]
    return [struct.unpack_from("!q", data, _ARRAY_HEAD.size + _LENGTH.size + index * 12)[0] for index in range(count)]


_DECODERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda data: data == b"\x01",
    17: lambda data: data,
    20: lambda data: struct.unpack("!q", data)[0],
    21: lambda data: struct.unpack("!h", data)[0],
    23: lambda data: struct.unpack("!i", data)[0],
    26: lambda data: struct.unpack("!I", data)[0],
    701: lambda data: struct.unpack("!d", data)[0],
    _BIGINT_ARRAY: _int_items,
}


def _rows(result: Any) -> list[Row]:
    decoders = [_DECODERS.get(result.ftype(column), _text) for column in range(result.nfields)]
    return [
        tuple(
            None if (data := result.get_value(row, column)) is None else decode(data)
            for column, decode in enumerate(decoders)
        )
        for row in range(result.ntuples)
    ]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class Wire:
    """Runs one statement at a time, in the order in which run() was called; of the loop that made it, as all in here.

    `on_notices` is called with what LISTEN brings, in order; `on_lost` once, when the connection is gone.
    """

    def __init__(
        self,
        connection: "psycopg.AsyncConnection[Any]",
        *,
        on_notices: Callable[[list[Notice]], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        # Kept, because it closes the connection when it is collected.
        self._connection = connection
        self._pgconn: Any = connection.pgconn
        self._pgconn.nonblocking = 1
        self._loop = asyncio.get_running_loop()
        self._on_notices = on_notices
        self._on_lost = on_lost
        self.pooled = False
        """Whether each transaction may run in another session of a pool: nothing is prepared then."""
        self._prepared: set[bytes] = set()
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[list[Any]] | None = None
        self._results: list[Any] = []
        self._error: TransportUnavailable | None = None
        self.pid: int = self._pgconn.backend_pid
        self._socket: int = self._pgconn.socket
        self._loop.add_reader(self._socket, self._on_readable)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._error is not None

    @property
    def server_version(self) -> int:
        """150004 for 15.4."""
        return int(self._pgconn.server_version)

    async def run(self, statement: Statement, *values: Value) -> list[Row]:
        """Run a statement and return its rows.

        Raises ServerError if the server refused it, TransportUnavailable if the connection is gone: then nobody can
        know whether it was run. Cancelled, the connection is given up.
        """
        async with self._turn:
            return await self._run(statement, *values)

    async def _run(self, statement: Statement, *values: Value) -> list[Row]:
        if self.pooled:
            return await self._ask(lambda: self._send_whole(statement, values))
        if statement.name not in self._prepared:
            await self._prepare(statement, values)
        return await self._ask(lambda: self._send_prepared(statement, values))

    async def _prepare(self, statement: Statement, values: Sequence[Value]) -> None:
        oids = [_encoded(value)[0] for value in values]
        await self._ask(lambda: self._pgconn.send_prepare(statement.name, statement.sql, oids))
        self._prepared.add(statement.name)

    def _send_whole(self, statement: Statement, values: Sequence[Value]) -> None:
        encoded = [_encoded(value) for value in values]
        oids, data = [oid for oid, _ in encoded], [item for _, item in encoded]
        self._pgconn.send_query_params(statement.sql, data, oids, [pq.Format.BINARY] * len(data), pq.Format.BINARY)

    def _send_prepared(self, statement: Statement, values: Sequence[Value]) -> None:
        data = [_encoded(value)[1] for value in values]
        self._pgconn.send_query_prepared(statement.name, data, [pq.Format.BINARY] * len(data), pq.Format.BINARY)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Run]:
        """BEGIN, and COMMIT at the end; what is run with the object is in it, and nothing else is.

        If it does not come to the COMMIT, it is rolled back: by the server, as the connection is given up, unless it
        was the server that refused something.
        """
        async with self._turn:
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
                self._lose(TransportUnavailable("a transaction was given up"))
                raise

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
            return await self._simple(sql)

    async def _simple(self, sql: str) -> list[Row]:
        return await self._ask(lambda: self._pgconn.send_query_params(sql.encode(), [], None, None, pq.Format.BINARY))

    async def script(self, sql: str) -> None:
        """Run several statements, as one transaction."""
        async with self._turn:
            await self._ask(lambda: self._pgconn.send_query(sql.encode()))

    async def _ask(self, send: Callable[[], None]) -> list[Row]:
        if self._error is not None:
            raise TransportUnavailable(*self._error.args)
        answer = self._answer = self._loop.create_future()
        try:
            send()
            self._flush()
        except (psycopg.Error, OSError) as error:
            self._lose(error)
        try:
            results = await answer
        except asyncio.CancelledError:
            # The answer would be taken for that of the next statement.
            self._lose(TransportUnavailable("a statement was given up"))
            raise
        finally:
            self._answer = None
        rows: list[Row] = []
        for result in results:
            if result.status not in _OK:
                if self._error is not None:
                    # The last words of a session that was ended.
                    raise TransportUnavailable(*self._error.args)
                raise _server_error(result)
            rows = _rows(result) if result.status == pq.ExecStatus.TUPLES_OK else rows
        return rows

    def _flush(self) -> None:
        # What does not fit into the socket's buffer now goes when the server has taken some.
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._on_writable)

    def _on_writable(self) -> None:
        try:
            # While this side only sends, the server may wait for what it has said to be taken.
            self._pgconn.consume_input()
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except (psycopg.Error, OSError) as error:
            self._lose(error)

    def _on_readable(self) -> None:
        try:
            self._pgconn.consume_input()
            self._take_notices()
            self._take_results()
        except (psycopg.Error, OSError) as error:
            self._lose(error)

    def _take_notices(self) -> None:
        notices = []
        while (found := self._pgconn.notifies()) is not None:
            notices.append(Notice(found.relname.decode(), found.extra.decode("utf-8", "replace")))
        if notices:
            self._on_notices(notices)

    def _take_results(self) -> None:
        while self._answer is not None and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._pgconn.exit_pipeline_mode()
            elif result is not None:
                self._results.append(result)
                continue
            elif self._pgconn.pipeline_status and self._pgconn.status == pq.ConnStatus.OK:
                continue  # the end of one statement's results, and not of all
            results, self._results = self._results, []
            if self._pgconn.status == pq.ConnStatus.BAD:
                self._lose(_server_error(results[-1]) if results else OSError("the server closed the connection"))
                return
            # Notifications that came with the answer are older than what its receiver does next.
            self._take_notices()
            if not self._answer.done():
                self._answer.set_result(results)
            return

    def _lose(self, error: Exception) -> None:
        if self._error is not None:
            return
        self._error = TransportUnavailable(f"the connection to PostgreSQL is gone: {_first_line(error)}")
        self._error.__cause__ = error
        self._stop_watching()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TransportUnavailable(*self._error.args))
        # At once, and not when the collector comes: whoever takes over makes another.
        self._pgconn.finish()
        self._on_lost(self._error)

    def _stop_watching(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)

    def close(self) -> None:
        """Close the connection; what is under way fails."""
        if self._error is None:
            self._error = TransportUnavailable("the connection to PostgreSQL was closed")
            self._stop_watching()
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(TransportUnavailable(*self._error.args))
            self._pgconn.finish()

    def close_in_child(self) -> None:
        """After a fork: close the descriptor. psycopg and libpq never speak on what another process has connected."""
        if self._error is None:
            with suppress(OSError):
                os.close(self._socket)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _server_error(result: Any) -> ServerError:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"").decode(
        "utf-8", "replace"
    )
    return ServerError(state, text)
