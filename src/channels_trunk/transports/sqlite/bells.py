"""Ringing at other nodes, and what is learned from a ring that nobody answers.

Nothing that is learned outlives its cause: a node that is gone is looked for by upkeep, which forgets it for all, and
one that cannot be rung is tried again by upkeep, and when the table of nodes has changed.
"""

from collections.abc import Callable, Iterable

from .doorbell import Doorbell, Rung
from .neighbours import Neighbours
from .rings import PLAIN_RING, Post

__all__ = ["Bells"]


class Bells:
    """Rings in the sender's thread."""

    def __init__(self, doorbell: Doorbell, neighbours: Neighbours, maintain_soon: Callable[[], None]) -> None:
        self._doorbell = doorbell
        self._neighbours = neighbours
        self._maintain_soon = maintain_soon
        self.found_nobody = False
        """Whether a node turned out to be gone; upkeep forgets it for all."""

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
        if neighbour is None or not neighbour.doorbell or node in self._neighbours.unreachable:
            return Rung.UNREACHABLE
        rung = self._doorbell.ring(neighbour.doorbell, post)
        if not rung.is_held:
            if rung is Rung.NOBODY:
                self._neighbours.nodes.pop(node)
                self.found_nobody = True
            else:
                self._neighbours.unreachable[node] = self._doorbell.failure
            self._maintain_soon()
        return rung

    def is_gone(self, node: str, told: str) -> bool:
        """Whether a node's process has ended, by what the table tells of its socket."""
        return self._doorbell.reach(self._doorbell.locate(node, told)) is Rung.NOBODY

    def try_again(self) -> dict[str, int]:
        """Try the nodes that could not be rung; return those that still cannot, and the errno that says why."""
        unreachable = self._neighbours.unreachable
        for node in list(unreachable):
            neighbour = self._neighbours.nodes.get(node)
            if neighbour is None or self._doorbell.reach(neighbour.doorbell) is not Rung.UNREACHABLE:
                unreachable.pop(node, None)
        return dict(unreachable)
