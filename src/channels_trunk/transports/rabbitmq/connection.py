"""One AMQP connection: the handshake, the frames, and the heartbeats that tell a broker that hangs from one at rest.

Why not a library: see docs/explanation/rabbitmq.md. It is not used again once it is lost.
"""

import asyncio
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

from channels_trunk.exceptions import TransportUnavailable

from .address import Address
from .channel import Channel
from .errors import AmqpError, read_close
from .frames import FRAME_MAX, Frame, FrameBuffer
from .line import Line
from .loop_calls import LoopCalls
from .wire import (
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL_HEADER,
    Malformed,
    Method,
    Piece,
    method,
    read_index,
    read_short,
    read_tune,
    short,
    table,
)

__all__ = ["Connection"]

_CLOSE_WITHIN = 1.0
_HANDSHAKE = (Method.CONNECTION_START, Method.CONNECTION_TUNE, Method.CONNECTION_OPEN_OK, 0)

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


class Connection:
    """Belongs to the loop that opened it. Other threads may read() and write(), and are in a channel only for those.

    `lost` is called once, if it ends before close(); `came` when it has read by itself.
    """

    def __init__(
        self,
        address: Address,
        *,
        lost: Callable[[AmqpError], None],
        blocked: Callable[[str], None],
        came: Callable[[], None] = lambda: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.address = address
        self.frame_max = FRAME_MAX
        self.blocked = ""
        """Why the broker takes nothing from publishers at the moment."""
        self.is_closing = False
        self._lost = lost
        self._on_blocked = blocked
        self._came = came
        self._line: Line | None = None
        self._reads_here = False
        self._reads_on = False  # whether the loop reads once more, whatever the socket says
        self._reading = threading.Lock()  # held by whoever reads
        self._reader: int | None = None  # its thread
        self._frames = FrameBuffer()
        self._calls = LoopCalls(self.loop)
        self._ready: asyncio.Future[None] = self.loop.create_future()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._channels: dict[int, Channel] = {}  # changed in the loop alone
        self._error: AmqpError | None = None
        self._heartbeat = address.heartbeat
        self._greetings = 0  # how much of the handshake is over
        self._heard_at = self.loop.time()
        self._pulse: asyncio.TimerHandle | None = None

    # --- life

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connect and introduce ourselves; raises AmqpError, OSError or TransportUnavailable."""
        address = self.address
        try:
            async with asyncio.timeout(address.connection_timeout):
                self._line = await Line.connect(address, context)
                self.read_here()
                self.write(PROTOCOL_HEADER)
                await self._ready
        except TimeoutError as error:
            self.abort()
            raise TransportUnavailable(
                f"RabbitMQ at {address}: no answer within {address.connection_timeout:g} s"
            ) from error
        except BaseException:
            self.abort()
            raise

    async def channel(self, number: int, *, confirms: bool = False, anywhere: bool = False) -> Channel:
        """Open a channel; `number` must be free. With `anywhere`, its messages and confirms are taken in any thread."""
        channel = self._channels[number] = Channel(self, number, anywhere=anywhere)
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
        if self._line is not None and self._error is None:
            self.write(method(0, Method.CONNECTION_CLOSE, struct.pack(">H", 200) + short("") + b"\x00\x00\x00\x00"))
            await asyncio.wait({self._closed}, timeout=_CLOSE_WITHIN)
        self.abort()

    def abort(self) -> None:
        """Free the socket at once."""
        self.is_closing = True
        self._free()
        self._end(AmqpError("the connection was closed"))

    def _free(self) -> None:
        self.read_elsewhere()
        if self._line is not None:
            with self._reading:
                self._line.close()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._error is not None

    def file_descriptor(self) -> int:
        """The socket's, or -1."""
        return -1 if self._line is None else self._line.fileno()

    # --- out, any thread

    def write(self, *pieces: Piece, first: Callable[[], bool] | None = None) -> bool:
        """Send bytes; what the socket does not take at once waits in memory. False if the connection has ended.

        `first` is called before, and whatever others write comes before or after both. If it is False, nothing is sent.
        """
        line = self._line
        if line is None:
            return False
        with line.lock:
            if self._error is not None or (first is not None and not first()):
                return False
            line.write(*pieces)
        return True

    # --- in: one thread at a time reads

    def read_here(self) -> None:
        """Read in the connection's own loop."""
        if not self._reads_here and (descriptor := self.file_descriptor()) >= 0:
            self._reads_here = True
            self.loop.add_reader(descriptor, self._read_here)

    def read_elsewhere(self) -> None:
        """Leave it to others to call read()."""
        if self._reads_here:
            self._reads_here = False
            if (descriptor := self.file_descriptor()) >= 0:
                self.loop.remove_reader(descriptor)

    def bell(self) -> int | None:
        """A descriptor that is readable when read() would find something, for any loop; None where there is none."""
        return None if self._line is None else self._line.bell()

    @property
    def has_some(self) -> bool:
        """Whether there is something to read."""
        return self._line is not None and self._line.has_some

    def _read_here(self) -> None:
        may_be_more = self.read()
        if self._line is not None and self._line.is_at_end:
            self.read_elsewhere()
        elif may_be_more and not self._reads_on:
            # What TLS has unsealed and the buffer could not hold is in no socket that would ring for it.
            self._reads_on = True
            self.loop.call_soon(self._read_on)
        self._came()

    def _read_on(self) -> None:
        self._reads_on = False
        # Whoever has taken over reads all there is; what would be read here beside that might be handed over later.
        if self._reads_here:
            self._read_here()

    def read(self) -> bool:
        """Take what has come; whether there may be more. Any thread."""
        with self._reading:
            self._reader = threading.get_ident()
            try:
                more = self._read()
            finally:
                self._reader = None
        self._calls.go()
        return more

    def _read(self) -> bool:
        line = self._line
        if line is None or line.is_at_end:
            return False
        room = self._frames.room()
        try:
            count = line.read_into(room)
        except (EOFError, OSError) as error:
            self._calls.add(self._ended_by_other_side, AmqpError(str(error) or type(error).__name__))
            return False
        try:
            frames = self._frames.take(count) if count else ()
            self._heard_at = self.loop.time()
            self._sort(frames)
        except Malformed as error:
            self._calls.add(self._fail, AmqpError(str(error)))
            return False
        return count == len(room)

    def _sort(self, frames: Sequence[Frame]) -> None:
        touched: dict[int, Channel] = {}
        try:
            for frame in frames:
                channel = self._channels.get(frame.channel) if frame.channel else None
                if channel is not None and channel.takes_here(frame):
                    touched[frame.channel] = channel
                    channel.heard(frame)
                else:
                    self._calls.add(self._heard, frame)
        finally:
            for channel in touched.values():
                channel.flush()

    def in_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call it in the connection's loop: at once, if that is here and nobody here is reading, else soon."""
        self._calls.add(function, *args)
        if self._reader != threading.get_ident():
            self._calls.go()

    # --- what is heard in the loop

    def _heard(self, frame: Frame) -> None:
        if self._error is not None:
            return
        try:
            if not frame.channel:
                if frame.kind == METHOD:
                    self._heard_method(read_index(frame.payload), frame.payload)
            elif (channel := self._channels.get(frame.channel)) is not None:
                channel.heard(frame)
                channel.flush()
        except Malformed as error:
            self._fail(AmqpError(str(error)))

    def _heard_method(self, index: int, payload: bytes) -> None:
        if index in _HANDSHAKE:
            self._shake_hands(index, payload)
        elif index == Method.CONNECTION_CLOSE:
            self._reply(Method.CONNECTION_CLOSE_OK, b"")
            self._fail(read_close(payload))
        elif index == Method.CONNECTION_CLOSE_OK:
            self._other_side_closed()
        elif index == Method.CONNECTION_BLOCKED:
            self._set_blocked(read_short(payload, 4)[0].decode(errors="replace") or "no reason given")
        elif index == Method.CONNECTION_UNBLOCKED:
            self._set_blocked("")

    def _shake_hands(self, index: int, payload: bytes) -> None:
        # Each once: whoever asks for the password again and again would get more than the socket takes.
        if index != _HANDSHAKE[self._greetings]:
            raise Malformed
        self._greetings += 1
        if index == Method.CONNECTION_START:
            response = f"\0{self.address.user}\0{self.address.password}".encode()
            packed = struct.pack(">I", len(response)) + response
            self._reply(Method.CONNECTION_START_OK, table(_PROPERTIES) + short("PLAIN") + packed + short("en_US"))
        elif index == Method.CONNECTION_TUNE:
            self._tune(*read_tune(payload))
        else:
            self._pulse = self.loop.call_later(self._heartbeat / 2, self._beat)
            if not self._ready.done():
                self._ready.set_result(None)

    def _reply(self, index: int, arguments: bytes) -> None:
        self.write(method(0, index, arguments))

    def _tune(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self.frame_max = min(frame_max or FRAME_MAX, FRAME_MAX)
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

    def _ended_by_other_side(self, error: AmqpError) -> None:
        self._end(error)
        self._other_side_closed()

    def _other_side_closed(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _fail(self, error: AmqpError) -> None:
        self._end(error)
        self._free()

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
