"""What a loop watches of a connection's socket."""

import asyncio
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Watch"]

# kqueue, macOS's, would do as well, but is nothing that a server runs on.
HAS_EPOLL = sys.platform == "linux"


class Watch:
    """Calls `on_ready` on the loop when the socket can be read, or, while it is asked for, written.

    The loop watches an epoll of the socket's own, and not the socket: any thread may change that without the loop, and
    so may take the socket over for a while. Where there is no epoll, that is for the loop's thread alone. libpq closes
    the socket of a session that has ended, and epoll forgets it: nothing is left to watch, which is no error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: int, on_ready: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = socket
        self._on_ready = on_ready
        self.is_writing = False
        """Whether writing is asked for."""
        self._epoll: select.epoll | None = None
        if HAS_EPOLL:
            self._epoll = select.epoll()
            self._epoll.register(socket, select.EPOLLIN)
            loop.add_reader(self._epoll.fileno(), on_ready)
        else:
            loop.add_reader(socket, on_ready)

    @property
    def any_thread(self) -> bool:
        """Whether the methods below may be called in any thread."""
        return self._epoll is not None

    def writing(self, on: bool) -> None:  # noqa: FBT001 - a state, and not a flag
        """Whether to call when the socket can be written, too."""
        if on == self.is_writing:
            return
        self.is_writing = on
        if self._epoll is not None:
            with suppress(OSError):
                self._epoll.modify(self._socket, self._events)
        elif on:
            self._loop.add_writer(self._socket, self._on_ready)
        else:
            self._loop.remove_writer(self._socket)

    def pause(self) -> None:
        """Call no more: another thread looks after the socket; only where `any_thread` is true."""
        if self._epoll is not None:
            with suppress(OSError):
                self._epoll.unregister(self._socket)

    def resume(self) -> None:
        """Call again."""
        if self._epoll is not None:
            with suppress(OSError):
                self._epoll.register(self._socket, self._events)

    @property
    def _events(self) -> int:
        return select.EPOLLIN | (select.EPOLLOUT if self.is_writing else 0)

    def close(self) -> None:
        """Call no more; on the loop."""
        if self._epoll is None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        elif not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def close_in_child(self) -> None:
        """After a fork: close the descriptors, which changes nothing in the parent."""
        if self._epoll is not None:
            self._epoll.close()
        with suppress(OSError):
            os.close(self._socket)
