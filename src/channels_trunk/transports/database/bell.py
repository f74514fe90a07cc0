"""A bell for the processes that share a SQLite file: they are on one machine, and need not wait for each other's looks.

It is a hint and no more. Who does not hear it (its container has a network of its own, its system has no such sockets)
looks when it would anyway, and why_late() says so. There is no file that a killed process could leave behind: Linux
keeps these names itself. Anybody on the machine can ring; what comes of that is a look.
"""

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress

__all__ = ["Bell"]

_NAME = "\0channels-trunk-{}"
_RING = b"!"
# Linux keeps ten as a rule; who rings without end must not keep this process busy.
_RINGS_AT_ONCE = 16


class Bell:
    """Of one node; nothing here ever waits."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._socket: socket.socket | None = None
        self._why_none = "this system has no Unix sockets without a file"
        self._refused: dict[str, float] = {}  # nodes that could not be reached, and their heartbeat at that time
        self.open()

    def open(self) -> bool:
        """Make the socket if there is none; whether it was made."""
        if self._socket is not None or sys.platform != "linux":
            return False
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.bind(_NAME.format(self._node))
        except OSError as error:  # out of descriptors, say: then this node looks by itself
            self._why_none = f"no socket can be made for it ({error.strerror or error})"
            if sock is not None:
                sock.close()
            return False
        self._socket = sock
        return True

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

    def why_late(self, heartbeats: Mapping[str, float]) -> str:
        """Why messages wait for a look, or nothing; asked now and then, with the others and their last heartbeats."""
        if self._socket is None:
            return f"this process polls for messages, and cannot wake others: {self._why_none}"
        why = {node: refusal for node in heartbeats if (refusal := _refusal(node))}
        self._refused = {node: self._refused.get(node, heartbeats[node]) for node in why}
        # Who has said since that it lives is no process that has just ended.
        alive = [node for node, heartbeat in self._refused.items() if heartbeats[node] != heartbeat]
        if not alive:
            return ""
        return (
            f"the sockets of {len(alive)} other processes cannot be reached from this one ({why[alive[0]]}): they poll "
            f"for what it sends"
        )

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


def _refusal(node: str) -> str:
    """Why a node's socket cannot be reached, or nothing; nothing is sent there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.connect(_NAME.format(node))
    except OSError as error:
        return error.strerror or str(error)
    return ""
