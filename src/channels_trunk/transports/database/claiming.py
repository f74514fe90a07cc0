"""Takes messages out of normal channels, and puts them back; each goes to one reader, whatever the connection does.

A claim whose commit was cut off may have been done or not. Each transaction that moves messages therefore leaves a
receipt in this node's row, by which the next connection sees what became of it.
"""

import secrets
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import Busy, Claimed, NodeContext
from channels_trunk.transports.frames import claimed_message

from .beginning import SQLITE_PATIENCE
from .nodes import Nodes
from .queues import QueueRow, Queues
from .session import Session, Unsure
from .worker import Job
from .writer import queue_row

__all__ = ["Claiming", "Unsettled"]

# How long a worker waits for SQLite's lock before it looks whether there is still something to claim. Seconds.
_GLANCE = 0.001
# After a claim that has left nothing, receivers that come back quickly do not claim again for this time. Seconds.
_REST = 0.005


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Rows that were being moved when the connection ended; without a receipt: rows that are to be put in."""

    rows: Sequence[QueueRow]
    receipt: str = ""
    out: bool = True


class Claiming:
    """For the worker's thread. `unsettled` is kept from one connection to the next."""

    def __init__(
        self,
        session: Session,
        context: NodeContext,
        *,
        queues: Queues,
        nodes: Nodes,
        unsettled: list[Unsettled],
    ) -> None:
        self._session = session
        self._context = context
        self._queues = queues
        self._nodes = nodes
        self._unsettled = unsettled
        self._emptied: dict[str, float] = {}  # channels of which a claim has left nothing, and when

    def rests(self, channel: str) -> bool:
        """Whether there is no use in another claim before the next look: it would keep others from writing; any thread.

        What comes meanwhile is noticed by that look, as it would be if nobody claimed at all.
        """
        emptied_at = self._emptied.get(channel)
        return emptied_at is not None and self._context.clock.monotonic() - emptied_at < _REST

    def rest_no_more(self, channels: Iterable[str]) -> None:
        """There may be something in these channels."""
        for channel in channels:
            self._emptied.pop(channel, None)

    def forget_all_but(self, channels: Container[str]) -> None:
        """Nobody receives from others any more."""
        self._emptied = {channel: at for channel, at in self._emptied.items() if channel in channels}

    def claim(self, channel: str, limit: int) -> list[Claimed]:
        """Delete the oldest rows of a channel, and return the messages that are fresh and can be opened."""
        while rows := self._take_out(channel, limit):
            now = self._context.clock.wall()
            found = [claimed_message(self._context, *row) for row in rows if row.expires_at > now]
            if len(rows) < limit:
                self._emptied[channel] = self._context.clock.monotonic()
            # Where none was good, nobody would be told of what is behind them.
            if claimed := [message for message in found if message is not None]:
                return claimed
        self._emptied[channel] = self._context.clock.monotonic()
        return []

    def _take_out(self, channel: str, limit: int) -> list[QueueRow]:
        if not self._session.locks_all:
            return self._move_out(channel, limit)
        # Here a transaction takes the one write lock, for which all wait that were woken for one message. Most come too
        # late, and are to notice while they wait.
        give_up_at = self._context.clock.monotonic() + SQLITE_PATIENCE
        while self._holds(channel):
            try:
                return self._move_out(channel, limit, patience=_GLANCE)
            except Busy:
                if self._context.clock.monotonic() > give_up_at:
                    raise
        return []

    def _holds(self, channel: str) -> bool:
        with self._session.translated():
            return self._queues.holds(channel)

    def _move_out(self, channel: str, limit: int, *, patience: float = SQLITE_PATIENCE) -> list[QueueRow]:
        rows: list[QueueRow] = []
        receipt = secrets.token_hex(8)
        try:
            with self._session.transaction(patience=patience):
                rows = [QueueRow(channel, *row) for row in self._queues.claim(channel, limit)]
                if rows:
                    self._nodes.sign(receipt)
        except Unsure:
            if rows:
                self._unsettled.append(Unsettled(rows, receipt))
            raise
        return rows

    def keep(self, claimed: Sequence[Claimed]) -> None:
        """What was claimed for nobody: settle() puts it back, over this connection or the next; any thread."""
        self._unsettled.append(Unsettled(self._rows(claimed)))

    def _rows(self, claimed: Sequence[Claimed]) -> list[QueueRow]:
        return [
            queue_row(self._context, channel, Envelope(Kind.QUEUE, channel, expires_at, body))
            for channel, expires_at, body in claimed
        ]

    def restore(self, job: Job[None], claimed: Sequence[Claimed]) -> None:
        """Insert messages again, in front of all others."""
        rows = self._rows(claimed)
        try:
            self._put_in(rows)
        except Busy:
            if not job.is_relied_on:
                raise
            self._unsettled.append(Unsettled(rows))

    def _put_in(self, rows: Sequence[QueueRow]) -> None:
        receipt = secrets.token_hex(8)
        try:
            with self._session.transaction():
                self.rest_no_more({row.channel for row in rows})
                self._queues.put_back(rows)
                self._nodes.sign(receipt)
        except Unsure:
            # Not raised: the caller would try again, and so may this.
            self._unsettled.append(Unsettled(rows, receipt, out=False))

    def drop(self) -> None:
        """A flush: nothing is to go back."""
        self._unsettled.clear()

    def settle(self) -> None:
        """Find out what became of moves that nobody has answered for; what is in nobody's hands goes back."""
        # First the one with a receipt: what is put in after it leaves another.
        for move in sorted(self._unsettled, key=lambda move: not move.receipt):
            with self._session.translated():
                receipt = self._nodes.receipt()
            # A node that was forgotten has no receipt, and what nobody can know is not done again.
            done = receipt == move.receipt if receipt is not None else not move.out
            if not move.receipt or done == move.out:
                self._put_in(move.rows)
            self._unsettled.remove(move)
