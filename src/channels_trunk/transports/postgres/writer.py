"""Out: a batch of envelopes is one call of the server, one row of the log, and one notification of whom it concerns.

The server decides in that call which normal channels are members of the batch's groups. What the writer knows of them
only saves asking: see {p}publish in schema.sql.
"""

import binascii
import secrets
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, NodeContext, TooLarge

from .errors import EMPTIED, STALE
from .line import Line
from .names import LOWEST, Names
from .values import Value, bytes_array, float_array, int_array, text, text_array
from .wire import ServerError, Statement, Wire

__all__ = ["Unanswered", "Writer"]

# A notification holds less than 8,000 bytes; beside the frame there are a row's number and a node's id.
_LARGEST_FRAME = 5_800
# PostgreSQL allocates no more than a gibibyte for what a client sends at once, nor for a row.
_LARGEST = 2**30 - 2**16
_NOBODY, _NOTHING = text_array([]), text(b"")
_MANY_TARGETS = 1_000
_MANY_MEMBERS = 10_000


class QueueRow(NamedTuple):
    """A message for a normal channel, and its place in the batch (None: as a group's member)."""

    channel: str
    place: int | None
    envelope: Envelope


class _Call(NamedTuple):
    """What the server is called with to append a batch."""

    batch: Sequence[Envelope]
    queued: Sequence[QueueRow]
    statement: Statement
    values: tuple[Value, ...]
    size: int


class _Whom(NamedTuple):
    """Whom what is in the log concerns: notification channels, and groups (None if there are none)."""

    bells: Value
    groups: Value


class _Sent(NamedTuple):
    """A batch that was sent: its number, and up to which row there was no batch that nobody had answered for."""

    call: _Call
    number: int
    known: int


class Unanswered:
    """The batch that the server was sent last and has not answered; it outlives connections."""

    def __init__(self) -> None:
        self.sent: _Sent | None = None
        self.is_lost = False
        """Whether the server has crashed since: what it has stored is gone, and may have been read before."""

    def lose(self) -> None:
        """What became of it cannot be found out any more."""
        self.is_lost = self.sent is not None


class Writer:
    """Appends one batch at a time.

    A batch is stored or it is not, and the server knows: where a session ends before it has answered, the next one is
    asked. If there is none to be had, the hub is told to try again (Busy), and hands the same envelopes over then.
    """

    def __init__(
        self, line: Line, context: NodeContext, names: Names, *, wrote: Callable[[int], None], unanswered: Unanswered
    ) -> None:
        self._line = line
        self._context = context
        self._names = names
        self._bells = names.bells(context.prefix)
        self._wrote = wrote
        self._prefix, self._node = text(context.prefix.encode()), text(context.node.encode())
        self._alone: dict[tuple[int, str], _Whom] = {}  # of targets alone in a batch
        self._session = 0  # of the connection that may append for this node
        # Not from 0: batches from before the connection was made again are in the log, and must not answer for these.
        self._batch = secrets.randbits(62)
        self._unanswered = unanswered
        # Up to here there is no row of a batch that nobody has answered for.
        self._known = 0
        self._head = 0  # where the log ended when somebody looked
        self._rest: tuple[_Call, Exception | None]  # of what was started, for finish()
        self._members: dict[str, set[str]] = {}  # group to the normal channels for which a message is sent along
        publish = "SELECT {p}publish($1::text, $2::text, $3::bigint, $4::bigint, $5::float8, $6::bytea, $7::text[], "
        publish += "$8::text, $9::text[]"
        self._publish = Statement(names.fill(f"{publish})"))
        self._publish_queued = Statement(
            names.fill(f"{publish}, $10::text[], $11::float8[], $12::bytea[], $13::bigint[], $14::text[], $15::text[])")
        )
        # One statement: a process that stood still in the middle of two would hold up everybody's appends.
        self._fence = Statement(
            names.fill(
                "WITH l AS MATERIALIZED (SELECT pg_advisory_xact_lock({lock_class}, {lock_key})) "
                "UPDATE {p}nodes SET session = $2 FROM l WHERE node = $1 RETURNING 1"
            )
        )
        rows = "SELECT id, refused FROM {p}log_%d WHERE id > $1 AND origin = $2 AND batch = $3"
        self._find_batch = Statement(names.fill(f"{rows % 0} UNION ALL {rows % 1}"))
        self._find_lowest = Statement(names.fill(f"SELECT {LOWEST} FROM {{p}}state"))
        self._find_members = Statement(
            names.fill("SELECT group_name, channel FROM {p}members WHERE prefix = $1 AND group_name = ANY ($2)")
        )

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append a batch; return the indexes of those whose normal channel is full."""
        if self._unanswered.sent is not None and (refused := await self._refused_before(batch)) is not None:
            return refused
        self._batch += 1
        return await self._append(self._prepared(batch))

    async def _refused_before(self, batch: Sequence[Envelope]) -> list[int] | None:
        """What was refused of a batch that was sent before, if it was stored then; None if it is to be stored now."""
        sent, is_lost = self._unanswered.sent, self._unanswered.is_lost
        places = {id(envelope): place for place, envelope in enumerate(sent.call.batch)} if sent is not None else {}
        # Or its senders have been told already, as their time was over.
        is_same = any(id(envelope) in places for envelope in batch)
        if sent is not None and is_same and not is_lost:
            stored = await self._find(sent.number, sent.known)
        self._unanswered.sent, self._unanswered.is_lost = None, False
        if sent is None or not is_same:
            return None
        if is_lost:
            raise TransportUnavailable("the connection was cut, and the server has crashed before it had answered")
        if not stored:
            return None
        refused = self._stored(sent.call, *stored)
        return [index for index, envelope in enumerate(batch) if places.get(id(envelope)) in refused]

    # --- started by a caller's thread, while nothing else is published

    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        """Send what publish() would send, and do not wait; see StartingTransport."""
        wire = self._line.current()
        if wire is None or self._unanswered.sent is not None or not wire.can_start():
            return False
        try:
            call = self._prepared(batch)
        except TooLarge:
            return False
        if not wire.knows(call.statement):
            return False
        self._batch += 1
        self._unanswered.sent = _Sent(call, self._batch, self._known)
        if wire.start(call.statement, self._values(call), partial(self._answered, wire, call, done)):
            return True
        self._unanswered.sent = None
        return False

    def _answered(self, wire: Wire, call: "_Call", done: Callable[[Sequence[int] | None], None], outcome: Any) -> None:
        try:
            if isinstance(outcome, TransportUnavailable):
                raise outcome
            [(stored,)] = wire.rows(outcome)
            self._unanswered.sent = None
        except (ServerError, TransportUnavailable) as error:
            # Without the frames of whoever happened to read, as it is kept.
            self._rest = call, error.with_traceback(None)
            done(None)
            return
        if stored is None:
            self._rest = call, None
            done(None)
        else:
            done(self._stored(call, *stored))

    async def finish(self) -> Sequence[int]:
        """Do the rest of what start() began."""
        call, error = self._rest
        return await self._append(await self._with_members(call) if error is None else call, error)

    # ---

    def _stored(self, call: "_Call", row: int, *left_out: int) -> list[int]:
        """The batch is row `row` of the log; return the indexes of what was refused."""
        self._known = row
        self._wrote(call.size)
        refused = []
        for index in left_out:
            if index < 0:
                gone = call.queued[-1 - index]
                self._members.get(gone.envelope.target, set()).discard(gone.channel)
                continue
            place = call.queued[index].place
            if place is None:
                self._context.sink.dropped(call.queued[index].channel)
            else:
                refused.append(place)
        return refused

    async def _with_members(self, call: "_Call") -> "_Call":
        """The server lacks messages for members that this node did not know."""
        groups = text_array(sorted({envelope.target for envelope in call.batch if envelope.kind == Kind.GROUP}))
        if sum(map(len, self._members.values())) > _MANY_MEMBERS:
            self._members.clear()
        try:
            found = await self._line.run(self._find_members, self._context.prefix, groups)
        except (ServerError, TransportUnavailable) as error:
            raise Busy from error  # nothing was stored
        for group, channel in found:
            self._members.setdefault(group, set()).add(channel)
        return self._prepared(call.batch)

    def log_ends_at(self, head: int) -> None:
        """So far went the log a moment ago: what is published from now on is behind it."""
        self._head = head

    def _prepared(self, batch: Sequence[Envelope]) -> "_Call":
        self._known = max(self._known, self._head)
        # In the order of the batch, as a channel may get what is sent to it and what is sent to its group.
        queued: list[QueueRow] = []
        for index, envelope in enumerate(batch):
            if envelope.kind == Kind.QUEUE:
                queued.append(QueueRow(envelope.target, index, envelope))
            elif self._members and envelope.kind == Kind.GROUP:
                queued += [QueueRow(name, None, envelope) for name in self._members.get(envelope.target, ())]
        return self._call(batch, [e for e in batch if e.kind != Kind.QUEUE], queued)

    def _call(self, batch: Sequence[Envelope], log: Sequence[Envelope], queued: Sequence[QueueRow]) -> "_Call":
        frame, expires_at, payload = b"", 0.0, _NOTHING
        whom = _Whom(_NOBODY, None)
        if log:
            frame = self._context.codec.encode_frame(self._context.node, log)
            expires_at = max(envelope.expires_at for envelope in log)
            whom = self._whom(log)
            if len(frame) <= _LARGEST_FRAME:
                payload = text(binascii.b2a_base64(frame, newline=False))
        values = (expires_at, frame, whom.bells, payload, whom.groups)
        if not queued:
            _check_size(len(frame))
            return _Call(batch, queued, self._publish, values, len(frame))
        packed = [self.queue_frame(self._context, row.channel, row.envelope) for row in queued]
        size = len(frame) + sum(map(len, packed))
        _check_size(size)
        return _Call(batch, queued, self._publish_queued, (*values, *self._queue_values(queued, packed)), size)

    def _whom(self, log: Sequence[Envelope]) -> _Whom:
        targets = {(envelope.kind, envelope.target): envelope for envelope in log}
        if len(targets) > 1:
            return self._whom_of(targets.values())
        # Most batches have one, and what was worked out for it serves the next.
        [(target, envelope)] = targets.items()
        whom = self._alone.get(target)
        if whom is None:
            if len(self._alone) >= _MANY_TARGETS:
                self._alone.clear()
            whom = self._alone[target] = self._whom_of([envelope])
        return whom

    def _whom_of(self, envelopes: Collection[Envelope]) -> _Whom:
        groups = sorted({envelope.target for envelope in envelopes if envelope.kind == Kind.GROUP})
        return _Whom(text_array(sorted(set(map(self._bells.of, envelopes)))), text_array(groups) if groups else None)

    def _queue_values(self, queued: Sequence[QueueRow], packed: Sequence[bytes]) -> tuple[Value, ...]:
        context = self._context
        # Once for each channel: nearly all messages of a batch are for the same.
        room = {channel: _limited(context.capacity_of(channel)) for channel in {row.channel for row in queued}}
        return (
            text_array([row.channel for row in queued]),
            float_array([row.envelope.expires_at for row in queued]),
            bytes_array(packed),
            int_array([room[row.channel] for row in queued]),
            self._groups_of(queued),
            text_array(sorted({self._bells.queue(channel) for channel in room})),
        )

    @staticmethod
    def _groups_of(queued: Sequence[QueueRow]) -> Value:
        """The group of each, or "" where it was sent to the channel itself; None if all were."""
        groups = [row.envelope.target if row.place is None else "" for row in queued]
        return text_array(groups) if any(groups) else None

    def _values(self, call: "_Call") -> tuple[Value, ...]:
        return (self._prefix, self._node, self._session, self._batch, *call.values)

    async def begin(self, wire: Wire) -> None:
        """A new session: from now on it alone appends for this node.

        Whatever the one before had begun is stored by then, or never will be: both lock.
        """
        session = secrets.randbits(62)
        if not await wire.run(self._fence, self._context.node, session):
            raise TransportUnavailable("this node was forgotten")
        self._session = session

    async def _begin_again(self, wire: Wire) -> None:
        """The node was forgotten: it stood still for long, or an operator emptied the table. Nothing was stored."""
        try:
            await self.begin(wire)
        except TransportUnavailable as error:
            # It has not registered again meanwhile: open() does that, and finds out what was missed.
            self._context.sink.lost(error)
            raise Busy from error

    async def _append(self, call: "_Call", outcome: Exception | None = None) -> list[int]:
        """Append; over another session if this one is cut, and never twice. Return the indexes of what was refused.

        `outcome` is what came of the first attempt, if there was one.
        """
        while (stored := await self._attempts(call, outcome)) is None:
            call, outcome = await self._with_members(call), None
        return self._stored(call, *stored)

    async def _attempts(self, call: "_Call", outcome: Exception | None) -> list[int] | None:
        while True:
            wire = await self._wire()
            try:
                if outcome is not None:
                    error, outcome = outcome, None
                    raise error
                self._unanswered.sent = _Sent(call, self._batch, self._known)
                [(stored,)] = await wire.run(call.statement, *self._values(call))
            except ServerError as error:
                self._unanswered.sent = None
                if error.sqlstate == EMPTIED:
                    # open() makes another beginning, and the batch is stored behind it.
                    self._context.sink.lost(TransportUnavailable(f"the server has lost what it held: {error}"))
                    raise Busy from error
                if error.sqlstate != STALE:
                    raise
                await self._begin_again(wire)
            except TransportUnavailable:
                found = await self._find(self._batch, self._known)
                self._unanswered.sent = None
                if found:
                    return found
            else:
                self._unanswered.sent = None
                return None if stored is None else list(stored)

    async def _wire(self) -> Wire:
        """The session; if none can be made the hub has been told, and makes another attempt."""
        try:
            return await self._line.wire()
        except (ServerError, TransportError) as error:
            raise Busy from error

    async def _find(self, number: int, known: int) -> list[int]:
        """Return the row of a batch behind row `known`, and what was left out; nothing if it was not stored."""
        # By now the line has another session, and the fence is behind it; or this raises.
        await self._wire()
        try:
            found = await self._line.run(self._find_batch, known, self._context.node, number)
            [(lowest,)] = [(0,)] if found else await self._line.run(self._find_lowest)
        except (ServerError, TransportUnavailable) as error:
            raise Busy from error
        if found:
            [(row, left_out)] = found
            return [row, *(left_out or ())]
        if lowest > known + 1:
            self._unanswered.sent = None
            raise TransportUnavailable("the connection was cut, and the log was emptied before its end was known")
        return []

    @staticmethod
    def queue_frame(context: NodeContext, channel: str, envelope: Envelope) -> bytes:
        """The frame of one message of a normal channel, which says for which channel it is."""
        queued = Envelope(Kind.QUEUE, channel, envelope.expires_at, envelope.body)
        return context.codec.encode_frame(context.node, [queued])


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise TooLarge(
            f"with a copy for each normal channel in its group, PostgreSQL takes {_LARGEST} bytes: send less"
        )


def _limited(capacity: int) -> int | None:
    # Where the capacity is not enforced, nothing need be counted.
    return capacity if capacity < 1 << 40 else None
