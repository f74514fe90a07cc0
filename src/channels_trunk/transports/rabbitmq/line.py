"""The socket under a connection: any thread may write to it, and one at a time reads.

Not an asyncio transport, which belongs to one loop: see docs/explanation/rabbitmq.md.
"""

import asyncio
import contextlib
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

from channels_trunk.transports.fork_gate import connecting

from .address import Address
from .inherited import keep_from_children
from .tls import Tls
from .wire import Piece

__all__ = ["Line"]

# Fewer bytes than these are copied together: the system takes its time for each piece.
_WORTH_A_COPY = 65_536
_MAX_PIECES = 1_000  # of 1,024 that the system takes


class Line:
    """Made by connect(), in the loop that also writes what the socket did not take at once."""

    def __init__(self, connection: socket.socket, tls: Tls | None) -> None:
        self.lock = threading.Lock()
        """Held by whoever writes; what must be sent in the order in which it is noted, is noted with it held."""
        self.is_at_end = False
        """Whether nothing more is to be read."""
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._tls = tls  # guarded by lock
        self._unsent: deque[memoryview] = deque()  # guarded by lock
        # A descriptor that other loops may watch. Not the socket's own: a copy of that, in another loop or in the child
        # of a fork, would keep the connection open; and a socket that is at its end would ring for ever.
        self._bell = select.epoll() if hasattr(select, "epoll") else None
        if self._bell is not None:
            self._bell.register(connection.fileno(), select.EPOLLIN)

    @classmethod
    async def connect(cls, address: Address, context: ssl.SSLContext | None) -> Self:
        """Connect to the first of the host's addresses that answers; raises OSError, of which ssl.SSLError is one."""
        async with connecting.passing():
            connection = await _connected(address)
            try:
                tls = None
                if address.is_tls:
                    tls = Tls(context or ssl.create_default_context(), address.host)
                    await tls.shake_hands(connection)
                return cls(connection, tls)
            except BaseException:
                connection.close()
                raise

    # --- out

    def write(self, *pieces: Piece) -> None:
        """Send bytes; what the socket does not take at once waits in memory. With `lock` held."""
        if self._tls is not None:
            try:
                pieces = tuple(self._tls.sealed(piece) for piece in pieces)
            except ssl.SSLError:
                self._break()
                return
        self._send(pieces)

    def _send(self, pieces: Sequence[Piece]) -> None:
        size = sum(map(len, pieces))
        if len(pieces) > 1 and (size < _WORTH_A_COPY or len(pieces) > _MAX_PIECES):
            pieces = (b"".join(pieces),)
        sent = 0
        if not self._unsent:
            try:
                sent = self._socket.send(pieces[0]) if len(pieces) == 1 else self._socket.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._break()
                return
            if sent == size:
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._watch_for_room)
        self._unsent.append(memoryview(b"".join(pieces))[sent:])

    def _break(self) -> None:
        """Nothing may be sent behind what could not be sent; whoever reads finds out."""
        self._unsent.clear()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _watch_for_room(self) -> None:
        if self.fileno() >= 0:
            self._loop.add_writer(self.fileno(), self._send_more)

    def _send_more(self) -> None:
        with self.lock:
            while self._unsent:
                piece = self._unsent[0]
                try:
                    sent = self._socket.send(piece)
                except (BlockingIOError, InterruptedError):
                    return
                except OSError:
                    self._break()
                    break
                if sent < len(piece):
                    self._unsent[0] = piece[sent:]
                    return
                self._unsent.popleft()
            self._loop.remove_writer(self.fileno())

    # --- in

    def read_into(self, buffer: memoryview) -> int:
        """Read what has come; 0 if there is nothing now. Raises EOFError or OSError at the end."""
        try:
            count = self._socket.recv_into(buffer) if self._tls is None else self._read_sealed(self._tls, buffer)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return 0
        except OSError:
            self._reached_end()
            raise
        if not count:
            self._reached_end()
            raise EOFError("the connection was closed by the other side")
        return count

    def _read_sealed(self, tls: Tls, buffer: memoryview) -> int:
        """As recv_into()."""
        with self.lock:
            # There was more than the buffer could hold the last time.
            if count := tls.open_into(buffer):
                return count
        data = self._socket.recv(len(buffer))
        with self.lock:
            count = tls.open_into(buffer, data)
            if owed := tls.owed():
                self._send((owed,))
        if not count and data and not tls.is_over:
            raise BlockingIOError
        return count

    def _reached_end(self) -> None:
        self.is_at_end = True
        if self._bell is not None and self.fileno() >= 0:
            self._bell.unregister(self.fileno())

    @property
    def has_some(self) -> bool:
        """Whether there is something to read."""
        return self._bell is not None and not self._bell.closed and bool(self._bell.poll(0))

    def bell(self) -> int | None:
        """A descriptor that is readable when there is something to read, for any loop; None where there is none."""
        return None if self._bell is None or self._bell.closed else self._bell.fileno()

    # --- the end

    def fileno(self) -> int:
        """The socket's descriptor, or -1."""
        return self._socket.fileno()

    def close(self) -> None:
        """Free the socket, in the line's own loop, and while nobody reads; what waits to be sent is not."""
        with self.lock:
            self._unsent.clear()
            if self.fileno() >= 0:
                self._loop.remove_writer(self.fileno())
                self._socket.close()
        self.is_at_end = True
        if self._bell is not None:
            self._bell.close()


async def _addresses(address: Address) -> Sequence[tuple[Any, ...]]:
    host, port, flags = address.host, address.port, socket.AI_NUMERICHOST
    try:
        # A number needs no thread to be looked up in.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, place in await _addresses(address):
        connection = socket.socket(family, kind, protocol)
        keep_from_children(connection)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connection, place)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError(f"{address.host} has no address")
