"""The barest way through each server: what any layer on it has to stand on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

# As long as the message of the workloads is when packed.
ROW = "x" * 250
Hear = Callable[[int], None]


async def _count(reader: asyncio.StreamReader, hear: Hear, *, length: int) -> None:
    """Call `hear` for bodies that all take so many bytes, until the connection ends."""
    held = 0
    while data := await reader.read(1 << 16):
        held += len(data)
        whole, held = divmod(held, length)
        if whole:
            hear(whole)


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
        await _count(self._reader, hear, length=len(_command("message", self.own, ROW)))

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
    """Publish and consume by a bare socket, without confirms and acks. All deliveries are of one length, too."""

    async def open(self, hear: Hear) -> None:
        """Make a queue and consume it."""
        from pamqp import commands

        place = urlsplit(self.address)
        self._reader, self._writer = await asyncio.open_connection(place.hostname, place.port)
        self._writer.write(b"AMQP\x00\x00\x09\x01")
        await self._read_frame()
        plain = f"\0{place.username}\0{place.password}"
        self._write(0, commands.Connection.StartOk(client_properties={}, mechanism="PLAIN", response=plain))
        await self._read_frame()
        self._write(0, commands.Connection.TuneOk(channel_max=1, frame_max=131_072, heartbeat=0))
        await self._ask(0, commands.Connection.Open(virtual_host=unquote(place.path[1:])))
        await self._ask(1, commands.Channel.Open())
        await self._ask(1, commands.Queue.Declare(queue=self.own, auto_delete=True))
        await self._ask(1, commands.Basic.Consume(queue=self.own, consumer_tag="bench", no_ack=True))
        self._listening = asyncio.create_task(self._listen(hear))

    def _write(self, channel: int, method: Any) -> None:
        from pamqp import frame

        self._writer.write(frame.marshal(method, channel))

    async def _ask(self, channel: int, method: Any) -> None:
        self._write(channel, method)
        await self._read_frame()

    async def _read_frame(self) -> int:
        """Its length; what is in it nobody needs."""
        head = await self._reader.readexactly(7)
        size = int.from_bytes(head[3:], "big")
        await self._reader.readexactly(size + 1)
        return size + 8

    async def _listen(self, hear: Hear) -> None:
        length = sum([await self._read_frame() for _ in range(3)])  # method, header, body
        hear(1)
        await _count(self._reader, hear, length=length)

    async def send(self, to: str, count: int) -> None:
        """All at once."""
        self._writer.write(_publication(to) * count)
        await self._writer.drain()

    async def close(self) -> None:
        """Close the socket."""
        await _end(self._listening)
        self._writer.close()
        await self._writer.wait_closed()


@cache
def _publication(to: str) -> bytes:
    from pamqp import body, commands, frame, header

    publish = commands.Basic.Publish(exchange="", routing_key=to)
    properties = header.ContentHeader(body_size=len(ROW), properties=commands.Basic.Properties())
    return b"".join(frame.marshal(each, 1) for each in (publish, properties, body.ContentBody(ROW.encode())))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


LINES: dict[str, type[Line]] = {"redis": RedisLine, "postgres": PostgresLine, "rabbitmq": RabbitLine}
