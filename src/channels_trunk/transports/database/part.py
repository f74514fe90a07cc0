"""One node's part in the log: begins, reads, keeps up. Everything here is for the worker's thread."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import channel_owner
from channels_trunk.transports.base import Busy, NodeContext
from channels_trunk.transports.frames import envelopes_for_node
from channels_trunk.transports.server_time import tell_time

from .claiming import Claiming, Unsettled
from .log import Head, Log
from .names import stored_name
from .nodes import Nodes
from .pace import Pace
from .queues import Queues
from .session import Session
from .settings import DatabaseSettings
from .upkeep import Upkeep
from .writer import Published, Writer

__all__ = ["HEARTBEAT", "Part", "Place"]

HEARTBEAT = 5.0
_SOON = 0.1
# A worker that was killed in the middle of a claim has left rows that nobody is told of. Seconds.
_QUEUE_CHECK = 1.0
# What is written and read before maintenance comes ahead of its time. Bytes.
_BUSTLE = 2 * 1024 * 1024
_AFTER_ERROR = 1.0
# A node that rests looks only so often: others may ask it something.
_RESTING_LOOK = 1.0
# After the tables were emptied, others that rest come back as late as this. Seconds.
_DOUBTS = 2 * _RESTING_LOOK
# A backlog is read between other jobs; this much of it at once, before others are told how far this node is.
_PAGES = 20
# Who sends or finds so many messages at once is in no conversation, where each waits for the other's answer.
_MANY = 4
_NONE = -1  # of the epochs
_MODELS = ("Sequencer", "LogRow", "QueuedMessage", "Member", "Node")


class Place(NamedTuple):
    """Where a node has read to, and in which life of the tables."""

    epoch: int
    cursor: int
    was_forgotten: bool = False
    """By the others: a node by itself sends nothing to anybody. Until the gap is told, whatever comes between."""


class Part:
    """From one connection's begin to its end; it reads on from `place`, if that is still there."""

    def __init__(
        self,
        session: Session,
        settings: DatabaseSettings,
        context: NodeContext,
        *,
        place: Place | None,
        unsettled: list[Unsettled],
    ) -> None:
        self._session = session
        self._settings = settings
        self._context = context
        prefix, node = stored_name(context.prefix), stored_name(context.node)
        self._log = Log(session, prefix, node, context.clock.wall)
        self.queues = Queues(session, self._log, prefix)
        self.nodes = Nodes(session, self._log, self.queues, context)
        self.claiming = Claiming(session, context, queues=self.queues, nodes=self.nodes, unsettled=unsettled)
        self._writer = Writer(
            session, context, log=self._log, queues=self.queues, nodes=self.nodes, is_current=self._is_current
        )
        self._upkeep = Upkeep(session, context, log=self._log, queues=self.queues, nodes=self.nodes)
        now = context.clock.monotonic()
        self._pace = Pace(
            settings.polling_interval, settings.polling_idle_timeout, in_a_file=settings.is_a_file, now=now
        )
        # From here on and not from begin(), which may not come to it: what follows must know, too.
        self._place = place
        self._stamp = (0, 0)  # the ranks at the ends of the queues, when they were looked at
        self._queues_checked_at = self._looked_at = self._said_here_at = now
        self._roll = -1
        self._bustle = 0
        self.watched: frozenset[str] = frozenset()
        self._delivering = threading.Lock()
        self._is_left = False  # guarded by _delivering
        self.found = 0
        """How often a look found something; any thread reads it."""
        self.look_soon: Callable[[float], None] = lambda _seconds: None
        self.why_late: Callable[[Mapping[str, float]], str] = lambda _heartbeats: ""
        self.ring: Callable[[Iterable[str]], None] = lambda _nodes: None

    # --- begin and end

    def begin(self) -> None:
        """Take part."""
        with self._session.translated():
            self._session.ensure()
            self._set_clock()
            for name in _MODELS:
                fields = [field.attname for field in self._session.model(name).model._meta.concrete_fields]
                list(self._session.model(name).values_list(*fields)[:1])
        self.claiming.settle()
        self._take_part()

    def _set_clock(self) -> None:
        asked_at = self._context.clock.monotonic()
        if (now := self._session.time()) is not None:
            tell_time(self._context, now, asked_at=asked_at)

    def _take_part(self) -> None:
        """Write this node's row, and find out where it reads on."""
        gap = ""
        with self._session.transaction():
            head, is_new = self._log.begin()
            place = self._place
            if place is None:
                place = Place(head.epoch, head.position)
            elif not self._is_current(head):
                gap = f"the tables in {self._settings.where} were emptied, or are older ones again"
                # What was appended since lies behind the cursor. If the tables are of a backup, what is before it was
                # delivered.
                place = Place(head.epoch, min(place.cursor, head.position))
            if not self.nodes.register(place.cursor, self._context.clock.wall()) and self._place is not None:
                # Noted before the commit: if its answer is lost, the next connection finds the row.
                self._place = self._place._replace(was_forgotten=True)
            if not gap and self._place is not None and self._place.was_forgotten:
                gap = "this process was taken for dead by others"
        self.nodes.generation = -1
        self._place = place._replace(was_forgotten=False)
        self._session.was_there = True
        if gap or is_new:
            self.nodes.doubts_until = self._context.clock.monotonic() + _DOUBTS
        if gap:
            self._context.sink.gap(gap)

    def end(self) -> None:
        """Take part no more."""
        with self._session.transaction():
            if self.nodes.leave():
                self._log.clear()
        self._place = None

    def leave_off(self) -> Place | None:
        """Deliver nothing more; return where the next connection is to go on. Any thread."""
        with self._delivering:
            self._is_left = True
            if self._place is not None and self._session.is_replaced:
                # A copy of the file may be where this node is, and have nothing of what was sent since it was made.
                return self._place._replace(epoch=_NONE)
            return self._place

    # --- in

    def look(self) -> float:
        """Read what has come; return in how many seconds to look again."""
        now = self._context.clock.monotonic()
        if self._place is None:
            return _SOON
        if now - self._looked_at < _RESTING_LOOK and self._pace.rests(now, self._settings.is_awaited):
            return self._pace.resting
        try:
            with self._session.translated():
                self._session.ensure()
                more = self._read(now)
        except (Busy, TransportUnavailable):
            return max(self._pace.wait(), _SOON)
        except Exception as error:  # noqa: BLE001 - the thread must go on, and the hub begin anew
            self._context.sink.lost(error)
            return _AFTER_ERROR
        if more:
            return 0.0
        return self._pace.wait()

    def _is_current(self, head: Head) -> bool:
        return self._place is not None and head.epoch == self._place.epoch and head.position >= self._place.cursor

    def _read(self, now: float) -> bool:
        """Whether there is more to read."""
        self._looked_at = now
        head = self._log.head()
        if head is None or not self._is_current(head):
            self._take_part()
            return True
        more = self._place is not None and self._place.cursor < head.position and self._read_rows(self._place, head)
        self._check_queues(head, now)
        if head.roll != self._roll:
            self._say_here()
            self._roll = head.roll  # not before: if the database was busy, this node has not answered yet
        if now < self.nodes.doubts_until and now - self._said_here_at > _SOON:
            # Whoever empties one table after the other may take away the row that was just written.
            self._say_here()
        return more

    def _read_rows(self, place: Place, head: Head) -> bool:
        found = self._log.read(place.cursor, head.position)
        envelopes: list[Envelope] = []
        for frame in found.frames:
            self._note_bytes(len(frame))
            envelopes += envelopes_for_node(self._context, frame)
        if found.frames:
            self.found += 1
            self._pace.stir(self._context.clock.monotonic(), much=len(envelopes) >= _MANY)
        self._deliver(envelopes, place._replace(cursor=found.cursor), has_gap=found.has_gap)
        return found.more

    def _deliver(self, envelopes: list[Envelope], place: Place, *, has_gap: bool) -> None:
        with self._delivering:
            if self._is_left:
                raise Busy  # this thread was stuck for so long that another connection reads the same
            self._place = place
            if has_gap:
                self._context.sink.gap("rows of the log were removed before this process had read them")
            if envelopes:
                self._context.sink.received(envelopes)

    def _check_queues(self, head: Head, now: float) -> None:
        stamp = (head.back, head.front)
        if not self.watched or (stamp == self._stamp and now - self._queues_checked_at < _QUEUE_CHECK):
            return
        waiting = self.queues.waiting(self.watched)
        if stamp != self._stamp:
            self.found += 1
            self._stir_by_jobs(head.back - self._stamp[0], now)
        self._stamp, self._queues_checked_at = stamp, now
        if waiting:
            self.claiming.rest_no_more(waiting)
            self._context.sink.available(waiting)

    def _stir_by_jobs(self, jobs: int, now: float) -> None:
        if self._pace.quiet_for(now) <= 0:
            jobs = 0  # this look has found messages in the log, too: mailboxes hold less than channels of jobs
        self._pace.stir(now, much=True, jobs=jobs)

    def watch(self, channels: frozenset[str]) -> None:
        """Look at these queues, too, from now on."""
        if not channels <= self.watched:
            self._stamp = (0, 0)
        self.watched = channels
        self.claiming.forget_all_but(channels)

    def peers(self) -> frozenset[str]:
        """The other nodes that are alive."""
        return self.nodes.peers(self._context.clock.monotonic())

    # --- out

    def publish(self, batch: list[Envelope]) -> list[int]:
        """Append a batch; return the indexes of those whose normal channel is full."""
        published = self._writer.publish(batch)
        self._keep_up(published, much=len(batch) >= _MANY)
        if published.size:
            self.ring(self._concerned(batch, published))
        for channel in published.dropped:
            self._context.sink.dropped(channel)
        if own := published.filled & self.watched:
            self.claiming.rest_no_more(own)
            self._context.sink.available(sorted(own))
        return list(published.refused)

    def _concerned(self, batch: list[Envelope], published: Published) -> Iterable[str]:
        """The nodes that should look because of this."""
        others = self.nodes.others
        if published.filled:
            return others  # nobody knows who waits for jobs
        targets: set[str] = set()
        for envelope in batch:
            if envelope.kind == Kind.GROUP or envelope.target == EVERY_NODE:
                return others
            targets.add(envelope.target if envelope.kind == Kind.CONTROL else channel_owner(envelope.target) or "")
        return targets & others

    def is_busy(self) -> bool:
        """Whether there is so much traffic that each look finds some; any thread."""
        return self._pace.is_busy(self._context.clock.monotonic())

    def _keep_up(self, published: Published, *, much: bool) -> None:
        """Our own row is read, if it is the next; and an answer may come soon."""
        place = self._place
        if published.position is not None and place is not None and published.previous == place.cursor:
            self._place = place._replace(cursor=published.position)
        self._note_bytes(published.size)
        if published.size:
            self._pace.stir(self._context.clock.monotonic(), much=much)
            self.look_soon(self._pace.wait())

    def _note_bytes(self, size: int) -> None:
        self._bustle += size
        if self._bustle > _BUSTLE:
            self._bustle = 0
            self._context.sink.maintain_soon()

    # --- upkeep

    def maintain(self) -> float:
        """Heartbeat, and then whatever is due; soon again if that was not all."""
        self._session.renew()
        with self._session.translated():
            self._session.ensure()
            self._session.check_file()
            self._set_clock()
            self.nodes.generation = -1  # somebody may have removed rows, and not said so
            self.claiming.settle()
            for _ in range(_PAGES):
                if not self._read(self._context.clock.monotonic()):
                    break
            if (head := self._log.head()) is not None:
                self.nodes.refresh(head)
            self._say_here()
            self._upkeep.forget_the_silent()
            self._context.sink.hampered(self.why_late(self.nodes.heartbeats))
            more = self._settings.auto_trim and self._upkeep.tidy_in_turn()
        return _SOON if more else HEARTBEAT

    def _say_here(self) -> None:
        self._said_here_at = self._context.clock.monotonic()
        cursor = self._place.cursor if self._place is not None else 0
        if not self.nodes.heartbeat(cursor, self._context.clock.wall()):
            # Forgotten by the others, because this process was stopped for a while.
            self._take_part()
        self._session.goes_on()

    def trim(self) -> None:
        """Tidy up until there is nothing left to do."""
        with self._session.translated():
            self._session.ensure()
            while self._upkeep.tidy():
                pass
