"""The barest way through each server: what any layer on it has to stand on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# As long as the message of the workloads is when packed.
ROW = "x" * 250
Hear = Callable[[int], None]


class Line(ABC):
    """A connection that sends bodies to a name, and one that hears those sent to its own."""

    # How many bodies are sent together at most.
    BATCH = 50

    def __init__(self, address: str, own: str) -> None:
        self.address = address
        self.own = own

    @abstractmethod
    async def open(self, hear: Hear) -> None:
        """Connect; from now on `hear(count)` is called for bodies that come."""

    @abstractmethod
    async def send(self, to: str, count: int) -> None:
        """Send this many bodies."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connections."""


class RedisLine(Line):
    """PUBLISH by bare sockets. All messages that come are of one length, so counting bytes counts them."""

    async def open(self, hear: Hear) -> None:
        """Subscribe."""
        host, _, port = self.address.rpartition(":")
        self._reader, self._hearing = await asyncio.open_connection(host, int(port))
        self._answers, self._sending = await asyncio.open_connection(host, int(port))
        self._hearing.write(_command("SUBSCRIBE", self.own))
        for _ in range(6):  # The array's lines: its length, "subscribe", the name with their lengths, the count.
            await self._reader.readline()
        self._listening = asyncio.create_task(self._listen(hear))

    async def _listen(self, hear: Hear) -> None:
        length, held = len(_command("message", self.own, ROW)), 0
        while data := await self._reader.read(1 << 16):
            held += len(data)
            whole, held = divmod(held, length)
            if whole:
                hear(whole)

    async def send(self, to: str, count: int) -> None:
        """Pipelined."""
        self._sending.write(_command("PUBLISH", to, ROW) * count)
        for _ in range(count):
            await self._answers.readline()

    async def close(self) -> None:
        """Close both sockets."""
        await _end(self._listening)
        for writer in (self._hearing, self._sending):
            writer.close()
            await writer.wait_closed()


def _command(*words: str) -> bytes:
    """An array of strings in the protocol of Redis; its pushed messages have the same form."""
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)])


class PostgresLine(Line):
    """pg_notify by psycopg."""

    async def open(self, hear: Hear) -> None:
        """LISTEN."""
        import psycopg

        connect = psycopg.AsyncConnection.connect
        self._hearing = await connect(self.address, autocommit=True)
        self._sending = await connect(self.address, autocommit=True)
        await self._hearing.execute(f'LISTEN "{self.own}"')
        self._listening = asyncio.create_task(self._listen(hear))

    async def _listen(self, hear: Hear) -> None:
        async for _ in self._hearing.notifies():
            hear(1)

    async def send(self, to: str, count: int) -> None:
        """In one statement. PostgreSQL drops what says the same twice in one transaction, so each has its number."""
        many = "SELECT pg_notify(%s, %s || number) FROM generate_series(1, %s) AS number"
        await self._sending.execute(many, (to, ROW, count), prepare=True)

    async def close(self) -> None:
        """Close both connections."""
        await _end(self._listening)
        await self._hearing.close()
        await self._sending.close()


class RabbitLine(Line):
    """Publish and consume by aiormq, without confirms and acks."""

    async def open(self, hear: Hear) -> None:
        """Make a queue and consume it."""
        import aiormq

        async def on_message(_message: Any) -> None:
            hear(1)

        self._connection = await aiormq.connect(self.address)
        # Any: the type that is declared for it lacks `wait`.
        self._channel: Any = await self._connection.channel(publisher_confirms=False)
        await self._channel.queue_declare(self.own, auto_delete=True)
        await self._channel.basic_consume(self.own, on_message, no_ack=True)

    async def send(self, to: str, count: int) -> None:
        """One after the other."""
        for _ in range(count):
            await self._channel.basic_publish(ROW.encode(), routing_key=to, wait=False)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


LINES: dict[str, type[Line]] = {"redis": RedisLine, "postgres": PostgresLine, "rabbitmq": RabbitLine}
