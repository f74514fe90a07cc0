"""TLS apart from the socket: bytes in, bytes out, so that it does not matter which thread reads or writes."""

import asyncio
import socket
import ssl
from typing import cast

from .wire import Piece

__all__ = ["Tls"]

_READ_MAX = 65_536


class Tls:
    """One session. After the handshake, one thread at a time is in here."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.is_over = False
        """Whether the other side has said that nothing more comes."""

    async def shake_hands(self, connection: socket.socket) -> None:
        """Raises OSError, of which ssl.SSLError is one."""
        try:
            while not await self._shake(connection):
                pass
        except ConnectionError as error:
            raise ConnectionResetError("the other side closed the connection in the TLS handshake") from error

    async def _shake(self, connection: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(connection, self.owed())
        except ssl.SSLError:
            # The other side is told why.
            await loop.sock_sendall(connection, self.owed())
            raise
        else:
            await loop.sock_sendall(connection, self.owed())
            return True
        data = await loop.sock_recv(connection, _READ_MAX)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)
        return False

    def owed(self) -> bytes:
        """What the session itself has to send: its handshake, new keys, an alert."""
        return self._outgoing.read()

    def sealed(self, data: Piece) -> bytes:
        """What to send for these bytes; raises ssl.SSLError."""
        view = memoryview(data)
        while view:
            view = view[self._session.write(view) :]
        return self._outgoing.read()

    def open_into(self, buffer: memoryview, data: bytes = b"") -> int:
        """Unseal what came before, and `data`, for as long as there is room; 0 if no record is complete.

        Raises ssl.SSLError.
        """
        self._incoming.write(data)
        total = 0
        while total < len(buffer) and not self.is_over:
            try:
                count = cast(int, self._session.read(len(buffer) - total, buffer[total:]))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                count = 0
            self.is_over = not count
            total += count
        return total
