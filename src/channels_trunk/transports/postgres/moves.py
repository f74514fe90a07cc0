"""Messages that leave a normal channel, or go back to it, while connections are cut.

A COMMIT that nobody answered may have been done or not, and a message must neither be lost nor come twice. The server
knows: txid_status() tells of each transaction whether it was committed. So whoever moves rows notes the transaction
before its COMMIT, and what is left in the notes afterwards is looked up.
"""

from collections.abc import Sequence
from typing import NamedTuple

from channels_trunk.transports.base import Claimed

__all__ = ["Move", "Moves", "Taken"]


class Taken(NamedTuple):
    """A row of the table of normal channels."""

    id: int
    channel: str
    expires_at: float
    frame: bytes


class Move(NamedTuple):
    """What a transaction took out of the table, or put into it."""

    transaction: int
    rows: Sequence[Taken]
    out: bool


class Moves:
    """The notes of one node, which outlive its connections. Of the hub's loop."""

    def __init__(self) -> None:
        self.unsure: list[Move] = []
        """Of what nobody knows whether it was done; what was taken out and reached nobody is here, too."""
        self._accepted: list[Claimed] = []

    def replace(self, old: Move | None, new: Move) -> None:
        """From now on what becomes of the rows of `old` is up to `new`."""
        if old in self.unsure:
            self.unsure.remove(old)
        self.unsure.append(new)

    def accept(self, messages: Sequence[Claimed]) -> None:
        """The caller that gives these back was cancelled, and will do so again; but they are in the notes."""
        self._accepted += messages

    def without_accepted(self, messages: Sequence[Claimed]) -> list[Claimed]:
        """Leave out what was accepted before: the same objects, not equal ones."""
        known = {id(message) for message in self._accepted}
        return [message for message in messages if id(message) not in known]

    def all_are_back(self) -> None:
        """The caller has heard that what it gave back was taken, and will not do so again."""
        self._accepted.clear()

    def clear(self) -> None:
        """The tables are empty, or the node leaves."""
        self.unsure.clear()
        self._accepted.clear()
