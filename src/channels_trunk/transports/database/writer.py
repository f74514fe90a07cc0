"""Out: a batch of envelopes is one row of the log, and each message of a normal channel a row of its own."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.base import Busy, NodeContext

from .log import Head, Log
from .nodes import Nodes
from .queues import QueueRow, Queues
from .session import Session

__all__ = ["Published", "Writer", "queue_row"]


class Wanted(NamedTuple):
    """A message for a normal channel, and its place in the batch (None: as a group's member)."""

    channel: str
    row: QueueRow
    place: int | None


class Published(NamedTuple):
    """What became of a batch."""

    refused: Sequence[int] = ()
    dropped: Sequence[str] = ()
    """Normal channels in groups that were full."""
    filled: frozenset[str] = frozenset()
    """Normal channels that got messages."""
    position: int | None = None
    previous: int | None = None
    size: int = 0


class Writer:
    """For the worker's thread."""

    def __init__(
        self,
        session: Session,
        context: NodeContext,
        *,
        log: Log,
        queues: Queues,
        nodes: Nodes,
        is_current: Callable[[Head], bool],
    ) -> None:
        self._session = session
        self._context = context
        self._log = log
        self._queues = queues
        self._nodes = nodes
        self._is_current = is_current

    def publish(self, batch: Sequence[Envelope]) -> Published:
        """Append a batch. Raises Busy where nothing was stored."""
        for_log = [envelope for envelope in batch if envelope.kind != Kind.QUEUE]
        wanted = self._wanted(batch)
        if not self._nodes.has_others and not wanted:
            if not self._anybody_else():
                return Published()
            wanted = self._wanted(batch)  # by the members that are known now
        # Packed and encrypted before the transaction, for which others wait.
        frame = self._context.codec.encode_frame(self._context.node, for_log) if for_log else b""
        with self._session.transaction():
            return self._store(batch, for_log, wanted=wanted, frame=frame)

    def _anybody_else(self) -> bool:
        """Whether a batch concerns anybody: a process by itself writes nothing that nobody else can hear."""
        with self._session.translated():
            head = self._log.head()
            self._follow(head)
        return bool(self._nodes.has_others or self._nodes.members)

    def _follow(self, head: Head | None) -> None:
        if head is None or not self._is_current(head):
            raise Busy  # the tables were emptied; the next look begins anew
        self._nodes.refresh(head)

    def _store(
        self, batch: Sequence[Envelope], for_log: Sequence[Envelope], *, wanted: Sequence[Wanted], frame: bytes
    ) -> Published:
        before = self._log.lock()
        generation = self._nodes.generation
        self._follow(before)
        if self._nodes.generation != generation:
            wanted = self._wanted(batch)
        row = bool(for_log) and self._nodes.has_others
        if not (row or wanted):
            return Published()
        head = self._log.count_on(before, row=row, back=len(wanted))
        if row:
            expires_at = max(envelope.expires_at for envelope in for_log)
            self._log.append(head.position, before.position, expires_at, frame)
        published = self._enqueue(wanted, head) if wanted else Published()
        if not row:
            return published
        return published._replace(position=head.position, previous=before.position, size=published.size + len(frame))

    def _wanted(self, batch: Sequence[Envelope]) -> list[Wanted]:
        now = self._context.clock.wall()
        wanted: list[Wanted] = []
        for index, envelope in enumerate(batch):
            if envelope.kind == Kind.QUEUE:
                row = queue_row(self._context, envelope.target, envelope)
                wanted.append(Wanted(envelope.target, row, index))
            elif envelope.kind == Kind.GROUP and self._nodes.members:
                members = self._nodes.members_of(envelope.target, now)
                wanted += [Wanted(channel, queue_row(self._context, channel, envelope), None) for channel in members]
        return wanted

    def _enqueue(self, wanted: Sequence[Wanted], head: Head) -> Published:
        """Add rows as far as there is room."""
        now = self._context.clock.wall()
        counts = Counter([entry.channel for entry in wanted])
        room = {
            channel: self._queues.room(channel, self._context.capacity_of(channel), count, head=head, now=now)
            for channel, count in counts.items()
        }
        taken, left_out = (wanted, []) if room == counts else _shared_out(wanted, room)
        rows = [entry.row for entry in taken]
        if rows:
            self._queues.append(rows, head.back)
        return Published(
            [entry.place for entry in left_out if entry.place is not None],
            [entry.channel for entry in left_out if entry.place is None],
            frozenset(channel for channel in counts if room[channel]),
            size=sum([len(row.frame) for row in rows]),
        )


def _shared_out(wanted: Sequence[Wanted], room: Mapping[str, int]) -> tuple[Sequence[Wanted], Sequence[Wanted]]:
    """What there is room for, and the others."""
    left = dict(room)
    taken: list[Wanted] = []
    left_out: list[Wanted] = []
    for entry in wanted:
        (taken if left[entry.channel] > 0 else left_out).append(entry)
        left[entry.channel] -= 1
    return taken, left_out


def queue_row(context: NodeContext, channel: str, envelope: Envelope) -> QueueRow:
    """A row for a normal channel; its frame says for which, so that no row can pass for another channel's."""
    own = Envelope(Kind.QUEUE, channel, envelope.expires_at, envelope.body)
    return QueueRow(channel, envelope.expires_at, context.codec.encode_frame(context.node, [own]))
