"""Who is told that a connection's socket can be read: the loop that it belongs to, or whoever reads for the node."""

import asyncio
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Door", "Watch"]

# kqueue, macOS's, would do as well, but is nothing that a server runs on.
HAS_EPOLL = sys.platform == "linux"


class Door:
    """The sockets that are read by whoever watches it, in any loop. Any thread.

    It is never closed while somebody may be in read(), but when nobody holds it any more.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[
            int, Callable[[], None]
        ] = {}  # by socket; each change is one that the interpreter does at once
        self.thread: int | None = None
        """Who watches, as far as is known."""

    def fileno(self) -> int:
        """Readable when one of the sockets is."""
        return self._epoll.fileno()

    def add(self, socket: int, events: int, read: Callable[[], None]) -> None:
        """From now on call `read` when there is something to read."""
        self._readers[socket] = read
        self._epoll.register(socket, events)

    def modify(self, socket: int, events: int) -> None:
        """Wait for these events."""
        self._epoll.modify(socket, events)

    def remove(self, socket: int) -> None:
        """Undo add()."""
        self._readers.pop(socket, None)
        self._epoll.unregister(socket)

    @property
    def has_rung(self) -> bool:
        """Whether there is something to read."""
        return bool(self._epoll.poll(0))

    def read(self) -> None:
        """Call who has something to read."""
        for socket, _events in self._epoll.poll(0):
            if (read := self._readers.get(socket)) is not None:
                read()

    def close_in_child(self) -> None:
        """After a fork."""
        self._epoll.close()


class Watch:
    """Calls `on_ready` on the loop when the socket can be read, or, while it is asked for, written.

    The loop watches an epoll of the socket's own, and not the socket: any thread may change that without the loop, and
    so may take the socket over for a while, or have it read by whoever watches a door. Where there is no epoll, that is
    for the loop's thread alone. What changes it is called by one thread at a time. libpq closes the socket of a session
    that has ended, and epoll forgets it: nothing is left to watch, which is no error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: int, on_ready: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = socket
        self._on_ready = on_ready
        self._door: Door | None = None
        self._read = on_ready  # at the door
        self._at_door = False
        self._is_paused = False
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
        if self._epoll is None:
            if on:
                self._loop.add_writer(self._socket, self._on_ready)
            else:
                self._loop.remove_writer(self._socket)
        elif not self._is_paused:
            with suppress(OSError):
                (self._epoll if not self._at_door or self._door is None else self._door).modify(
                    self._socket, self._events
                )

    def use_door(self, door: Door | None, read: Callable[[], None]) -> None:
        """From now on move() leads to this door, where `read` is called; or to none."""
        self.move(to_door=False)
        self._door, self._read = door, read

    @property
    def reads_at_door(self) -> bool:
        """Whether this thread is the one that watches the door."""
        return self._door is not None and self._door.thread == threading.get_ident()

    def move(self, *, to_door: bool) -> None:
        """Have the socket watched at the door, or by the loop."""
        to_door = to_door and self._door is not None
        if to_door != self._at_door:
            is_paused = self._is_paused
            self.pause()
            self._at_door = to_door
            if not is_paused:
                self.resume()

    def pause(self) -> None:
        """Call no more: another thread looks after the socket; only where `any_thread` is true."""
        if self._epoll is None or self._is_paused:
            return
        self._is_paused = True
        with suppress(OSError):
            if self._at_door and self._door is not None:
                self._door.remove(self._socket)
            else:
                self._epoll.unregister(self._socket)

    def resume(self) -> None:
        """Call again."""
        if self._epoll is None or not self._is_paused:
            return
        self._is_paused = False
        with suppress(OSError):
            if self._at_door and self._door is not None:
                self._door.add(self._socket, self._events, self._read)
            else:
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
            self.use_door(None, self._on_ready)
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def close_in_child(self) -> None:
        """After a fork: close the descriptors, which changes nothing in the parent."""
        if self._epoll is not None:
            self._epoll.close()
        with suppress(OSError):
            os.close(self._socket)
