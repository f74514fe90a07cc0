"""A bell for the processes that share a SQLite file: they are on one machine, and need not wait for each other's looks.

It is a hint and no more. Who does not hear it (its container has a network of its own, its system has no such sockets)
looks when it would anyway. There is no file that a killed process could leave behind: Linux keeps these names itself.
Anybody on the machine can ring; what comes of that is a look.
"""

import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["Bell"]

_NAME = "\0channels-trunk-{}"
_RING = b"!"
# Linux keeps ten as a rule; who rings without end must not keep this process busy.
_RINGS_AT_ONCE = 16


class Bell:
    """Of one node; nothing here ever waits."""

    def __init__(self, node: str) -> None:
        self._socket: socket.socket | None = None
        if sys.platform != "linux":
            return
        with suppress(OSError):  # out of descriptors, say: then this node looks by itself
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                sock.bind(_NAME.format(node))
                self._socket = sock
            finally:
                if self._socket is None:
                    sock.close()

    def fileno(self) -> int | None:
        """What becomes readable when somebody rings; None if that cannot be heard."""
        return None if self._socket is None else self._socket.fileno()

    def answer(self) -> None:
        """Take the rings off."""
        if self._socket is None:
            return
        with suppress(OSError):  # no more there
            for _ in range(_RINGS_AT_ONCE):
                self._socket.recv(len(_RING))

    def ring(self, nodes: Iterable[str]) -> None:
        """Have other nodes look now; in the thread that has committed."""
        sock = self._socket
        if sock is None:
            return
        for node in nodes:
            # It has rings that it has not answered yet, or cannot be reached from here, or is gone; or this one is.
            with suppress(OSError):
                sock.sendto(_RING, _NAME.format(node))

    def close(self) -> None:
        """Take it away."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def abandon(self) -> None:
        """In the child of a fork: it is the parent's."""
        sock, self._socket = self._socket, None
        if sock is not None:
            os.close(sock.detach())
