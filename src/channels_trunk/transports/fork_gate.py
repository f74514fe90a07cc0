"""Keeps a fork from happening while this process makes a connection.

Connecting goes through libraries with locks of their own: the resolver's, OpenSSL's, libpq's. A child that is forked in
the middle inherits them locked, with nobody left to unlock them, and would wait for ever in its own first connection.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["ForkGate", "connecting"]

# A fork waits no longer than this for connections that are being made. Seconds.
_PATIENCE = 2.0
_LOOK_AGAIN = 0.001


class ForkGate:
    """Any number of tasks may be inside; a fork waits until none is, and keeps others out meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0  # guarded by _changed, as the next
        self._forking = 0  # how many threads fork

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Be inside; waits while somebody forks."""
        while not self._enter():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN)  # an Event would be one more lock that a fork copies
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _enter(self) -> bool:
        with self._changed:
            if self._forking:
                return False
            self._inside += 1
            return True

    def close(self) -> None:
        """Before a fork."""
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: self._inside == 0, _PATIENCE)

    def open(self) -> None:
        """After it, in the parent."""
        with self._changed:
            self._forking -= 1

    def reset(self) -> None:
        """After it, in the child, where nobody is inside any more."""
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = 0


connecting = ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=connecting.close, after_in_parent=connecting.open, after_in_child=connecting.reset)
