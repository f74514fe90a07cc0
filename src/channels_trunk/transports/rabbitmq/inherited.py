"""What the child of a fork has of its parent's sockets: their numbers, and not the sockets.

A copy of a socket keeps the connection open when the parent has ended, so that the broker goes on taking it for alive.
"""

import os
import socket
import weakref

__all__ = ["keep_from_children"]

_sockets: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


def keep_from_children(connection: socket.socket) -> None:
    """To be called before it is connected: a fork may come at any moment."""
    _sockets.add(connection)


def _let_go() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_sockets):
        if (descriptor := connection.fileno()) >= 0:
            # Not closed: the parent's objects in this process would take the number for theirs when it is another's.
            os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)
    _sockets.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
