"""Who reads the node's connections: the loop in which its receivers wait, so that a message takes no hop to it."""

import threading

from .watch import HAS_EPOLL, Door
from .wire import Wire

__all__ = ["Reading"]


class Reading:
    """Of the hub's loop; but any thread may read() at the door, one at a time.

    Before doorbell() and after leave() each connection is read by the hub's loop; where there is no epoll, always.
    """

    def __init__(self) -> None:
        self._door: Door | None = None
        self._is_used = False
        self._wires: dict[bool, Wire] = {}  # by whether the door is where it is read at rest

    def begin(self) -> None:
        """Other connections are being made."""
        self._wires.clear()
        self._door = Door() if HAS_EPOLL else None

    def lead(self, wire: Wire, *, at_rest: bool) -> None:
        """A new session, which is to be read at the door; if not `at_rest`, for the answers to who reads there."""
        self._wires[at_rest] = wire
        if self._is_used:
            wire.read_at(self._door, at_rest=at_rest)

    def doorbell(self) -> int | None:
        """A descriptor for any loop that is readable when there is something to read."""
        if self._door is None:
            return None
        self._is_used = True
        self._lead_to(self._door)
        return self._door.fileno()

    def leave(self) -> None:
        """Nobody watches the door any more."""
        self._is_used = False
        self._lead_to(None)

    def end(self) -> None:
        """The connections are closed."""
        # Whoever is in read() holds the door until it has done.
        self._door = None
        self._wires.clear()

    def _lead_to(self, door: Door | None) -> None:
        for at_rest, wire in self._wires.items():
            wire.read_at(door, at_rest=at_rest)

    def answer(self) -> None:
        """This is the thread that watches the door."""
        if (door := self._door) is not None:
            door.thread = threading.get_ident()

    def read(self) -> None:
        """Take what has come."""
        if (door := self._door) is not None:
            door.read()

    def changed(self) -> bool:
        """Whether something came that nobody has read."""
        return self._door is not None and self._door.has_rung

    def close_in_child(self) -> None:
        """After a fork."""
        if self._door is not None:
            self._door.close_in_child()
