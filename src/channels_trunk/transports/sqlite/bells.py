"""Ringing at other nodes, and what is learned from a ring that nobody answers."""

from collections.abc import Callable, Iterable

from .doorbell import Doorbell, Rung
from .neighbours import Neighbours
from .rings import PLAIN_RING, Post

__all__ = ["Bells"]


class Bells:
    """Rings in the sender's thread; upkeep collects the nodes that could not be rung. Dict operations are atomic."""

    def __init__(self, doorbell: Doorbell, neighbours: Neighbours, maintain_soon: Callable[[], None]) -> None:
        self._doorbell = doorbell
        self._neighbours = neighbours
        self._maintain_soon = maintain_soon
        self.nobody: dict[str, None] = {}  # nodes whose sockets nobody holds any more
        self.unreachable: dict[str, None] = {}  # nodes whose sockets cannot be seen from here

    def ring(self, nodes: Iterable[str], ring: bytes = PLAIN_RING) -> None:
        """Wake nodes that are to look at the file."""
        # A list, because a node that is gone is removed from what may be iterated over.
        for node in list(nodes):
            self._send(node, ring)

    def deliver(self, node: str, letter: Post) -> bool:
        """Hand a letter to a node; False if it could not be, and the file has to carry what is in it."""
        return self._send(node, letter) is Rung.HEARD

    def _send(self, node: str, post: Post) -> Rung:
        neighbour = self._neighbours.nodes.get(node)
        if neighbour is None or not neighbour.doorbell or node in self.unreachable:
            return Rung.UNREACHABLE
        rung = self._doorbell.ring(neighbour.doorbell, post)
        if not rung.is_held:
            if rung is Rung.NOBODY:
                self._neighbours.nodes.pop(node)
                self.nobody[node] = None
            else:
                self.unreachable[node] = None
            self._maintain_soon()
        return rung

    def take_nobody(self) -> list[str]:
        """The nodes that are gone, once."""
        nobody, self.nobody = self.nobody, {}
        return list(nobody)
