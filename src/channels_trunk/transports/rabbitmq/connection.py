"""One AMQP connection: the handshake, the frames, and the heartbeats that tell a broker that hangs from one at rest.

Why not a library: see docs/explanation/rabbitmq.md. It runs on one event loop, and is not used again once it is lost.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.fork_gate import connecting

from .address import Address
from .channel import Channel
from .errors import AmqpError
from .wire import (
    BODY,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    Method,
    method,
    read_short,
    short,
    table,
)

__all__ = ["Connection"]

_read_frame_head = struct.Struct(">BHI").unpack_from
_FRAME_END = 0xCE
_KINDS = (METHOD, HEADER, BODY, HEARTBEAT)
# Larger pieces of memory are asked of the system one by one and given back at once: with the usual frames of 128 KiB,
# and what asyncio reads at once, a message of 1 MB took 2.3 ms to be read, and takes 0.2 ms so.
_FRAME_MAX = 61_440
_READ_MAX = 65_536
_CLOSE_WITHIN = 1.0

_PROPERTIES = {
    "product": "channels-trunk",
    "capabilities": {
        "publisher_confirms": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
    },
}


class Connection(asyncio.BufferedProtocol):
    """Everything runs on the loop that opened it. `lost` is called once, if it ends before close()."""

    def __init__(self, address: Address, *, lost: Callable[[AmqpError], None], blocked: Callable[[str], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.address = address
        self.frame_max = _FRAME_MAX
        self.blocked = ""
        """Why the broker takes nothing from publishers at the moment."""
        self._lost = lost
        self._on_blocked = blocked
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = self.loop.create_future()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._channels: dict[int, Channel] = {}
        self._touched: set[Channel] = set()
        self._buffer = bytearray(_READ_MAX)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._error: AmqpError | None = None
        self.is_closing = False
        self._heartbeat = address.heartbeat
        self._heard_at = self.loop.time()
        self._pulse: asyncio.TimerHandle | None = None

    # --- life

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connect and introduce ourselves; raises AmqpError, OSError or TransportUnavailable."""
        address = self.address
        secure = (context or ssl.create_default_context()) if address.is_tls else None
        try:
            async with asyncio.timeout(address.connection_timeout):
                async with connecting.passing():
                    await self.loop.create_connection(lambda: self, address.host, address.port, ssl=secure)
                await self._ready
        except TimeoutError as error:
            self.abort()
            raise TransportUnavailable(
                f"RabbitMQ at {address}: no answer within {address.connection_timeout:g} s"
            ) from error
        except BaseException:
            self.abort()
            raise

    async def channel(self, number: int, *, confirms: bool = False) -> Channel:
        """Open a channel; `number` must be free."""
        channel = self._channels[number] = Channel(self, number)
        if self._error is not None:
            channel.ended(self._error)
        await channel.request(Method.CHANNEL_OPEN, b"\x00")
        if confirms:
            await channel.request(Method.CONFIRM_SELECT, b"\x00")
        return channel

    def forget(self, channel: Channel) -> None:
        """The channel is closed."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    async def close(self) -> None:
        """Say goodbye, and free the socket; never raises."""
        self.is_closing = True
        if self._transport is not None and not self._transport.is_closing() and self._error is None:
            self.write(method(0, Method.CONNECTION_CLOSE, struct.pack(">H", 200) + short("") + b"\x00\x00\x00\x00"))
            await asyncio.wait({self._closed}, timeout=_CLOSE_WITHIN)
        self.abort()

    def abort(self) -> None:
        """Free the socket at once."""
        self.is_closing = True
        if self._transport is not None:
            self._transport.abort()
        self._end(AmqpError("the connection was closed"))

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._error is not None

    def file_descriptor(self) -> int:
        """The socket's, or -1."""
        found = self._transport.get_extra_info("socket") if self._transport is not None else None
        return -1 if found is None else found.fileno()

    def write(self, data: bytes) -> None:
        """Send bytes; what the socket does not take at once waits in memory."""
        if self._transport is not None and self._error is None:
            self._transport.write(data)

    # --- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.is_closing:
            transport.abort()
            return
        transport.write(PROTOCOL_HEADER)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._end(AmqpError(str(exc) if exc else "the connection was closed by the other side"))
        if not self._closed.done():
            self._closed.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put what comes; there is always room, as no frame is as long."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what is complete."""
        self._heard_at = self.loop.time()
        end = self._filled + nbytes
        data = bytes(self._view[:end])
        position = 0
        while end - position > 7:
            kind, number, size = _read_frame_head(data, position)
            stop = position + 7 + size
            if kind not in _KINDS or size > self.frame_max or (stop < end and data[stop] != _FRAME_END):
                self._fail(AmqpError("what came is not AMQP 0-9-1"))
                return
            if stop >= end:
                break
            self._heard(kind, number, data[position + 7 : stop])
            position = stop + 1
        self._filled = end - position
        if position and self._filled:
            self._buffer[: self._filled] = data[position:]
        touched, self._touched = self._touched, set()
        for channel in touched:
            channel.flush()

    def _heard(self, kind: int, number: int, payload: bytes) -> None:
        if number:
            channel = self._channels.get(number)
            if channel is None:
                return
            if kind == METHOD:
                channel.heard(payload)
            elif kind == HEADER:
                self._touched.add(channel)
                channel.heard_header(payload)
            elif kind == BODY:
                self._touched.add(channel)
                channel.heard_body(payload)
        elif kind == METHOD:
            self._heard_connection(int.from_bytes(payload[:4], "big"), payload)

    def _heard_connection(self, index: int, payload: bytes) -> None:
        if index == Method.CONNECTION_START:
            response = f"\0{self.address.user}\0{self.address.password}".encode()
            packed = struct.pack(">I", len(response)) + response
            self._reply(Method.CONNECTION_START_OK, table(_PROPERTIES) + short("PLAIN") + packed + short("en_US"))
        elif index == Method.CONNECTION_TUNE:
            self._tune(*struct.unpack_from(">HIH", payload, 4))
        elif index == Method.CONNECTION_OPEN_OK:
            self._pulse = self.loop.call_later(self._heartbeat / 2, self._beat)
            if not self._ready.done():
                self._ready.set_result(None)
        elif index == Method.CONNECTION_CLOSE:
            code = int.from_bytes(payload[4:6], "big")
            self._reply(Method.CONNECTION_CLOSE_OK, b"")
            self._fail(AmqpError(read_short(payload, 6)[0].decode(errors="replace"), code))
        elif index == Method.CONNECTION_CLOSE_OK and not self._closed.done():
            self._closed.set_result(None)
        elif index == Method.CONNECTION_BLOCKED:
            self._set_blocked(read_short(payload, 4)[0].decode(errors="replace") or "no reason given")
        elif index == Method.CONNECTION_UNBLOCKED:
            self._set_blocked("")

    def _reply(self, index: int, arguments: bytes) -> None:
        self.write(method(0, index, arguments))

    def _tune(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self.frame_max = min(frame_max or _FRAME_MAX, _FRAME_MAX)
        # The smaller of both wishes; one who wishes none leaves it to the other.
        self._heartbeat = min(self._heartbeat, heartbeat or self._heartbeat)
        tuned = struct.pack(">HIH", channel_max, self.frame_max, max(1, round(self._heartbeat)))
        self._reply(Method.CONNECTION_TUNE_OK, tuned)
        self._reply(Method.CONNECTION_OPEN, short(self.address.vhost) + b"\x00\x00")

    def _set_blocked(self, reason: str) -> None:
        self.blocked = reason
        self._on_blocked(reason)

    def _beat(self) -> None:
        silence = self.loop.time() - self._heard_at
        if silence > 2 * self._heartbeat:
            self._fail(AmqpError(f"no word from the broker for {silence:.1f} s"))
            return
        self.write(HEARTBEAT_FRAME)
        self._pulse = self.loop.call_later(self._heartbeat / 2, self._beat)

    # --- the end

    def _fail(self, error: AmqpError) -> None:
        self._end(error)
        if self._transport is not None:
            # After what has been written, the answer to a close among it.
            self._transport.close()

    def _end(self, error: AmqpError) -> None:
        if self._error is not None:
            return
        self._error = error
        if self._pulse is not None:
            self._pulse.cancel()
        was_open = self._ready.done()
        if not was_open:
            self._ready.set_exception(error.another())
            self._ready.exception()
        for channel in list(self._channels.values()):
            channel.ended(error)
        if was_open and not self.is_closing:
            self._lost(error)
