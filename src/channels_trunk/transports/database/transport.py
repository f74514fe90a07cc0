"""The transport on any database that Django speaks: hands what the hub asks for to the thread that does it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import ChannelLayerError, TransportUnavailable
from channels_trunk.transports.base import Busy, Capabilities, Claimed, NodeContext, StartingTransport
from channels_trunk.transports.throttle import Throttle

from .bell import Bell
from .claiming import Unsettled
from .part import Part, Place
from .session import Session, Unsure
from .settings import DatabaseSettings
from .worker import Job, Worker

__all__ = ["DatabaseTransport"]

T = TypeVar("T")

# Processes that begin at the same moment wait for one another; whoever holds the lock for longer is of another kind.
_OPEN_PATIENCE = 2.0
_OPEN_RETRY = 0.02
# How long the thread may take to come to its end, before its connection is cut. Seconds.
_END_WITHIN = 1.0
_END_RETRY = 0.002
# How long rings wait where there is much traffic. Seconds.
_DEAF_FOR = 0.002
# Anybody on the machine can ring; without a ring a node looks as often as that by itself. Seconds: see Throttle.
_LONGEST_PAUSE = 0.025


@dataclass(slots=True)
class _Open:
    """What there is while the database is reached."""

    session: Session
    part: Part
    worker: Worker
    bell: Bell | None
    throttle: Throttle
    has_begun: bool = False


class DatabaseTransport(StartingTransport):
    """One connection, in one thread; the hub's loop never waits for the database."""

    capabilities = Capabilities(crosses_processes=True, claims_ahead=True, starts=True)

    def __init__(self, find_settings: Callable[[], DatabaseSettings]) -> None:
        # Asked at open(): in a test run Django changes the name of the database after the layer is made.
        self._find_settings = find_settings
        self._open: _Open | None = None
        self._place: Place | None = None  # from before the database was away
        self._watched: frozenset[str] = frozenset()
        self._unsettled: list[Unsettled] = []  # of the worker's thread while there is one
        self._started: Job[list[int]] | None = None
        self._accepted: list[Claimed] = []  # given up while they were being put back, and taken to be there

    # --- life

    async def open(self, context: NodeContext) -> None:
        """Connect, find the tables, register."""
        self._context = context
        settings = self._find_settings()
        session = Session(settings, away=self._lost, stalled=context.sink.stalled)
        session.was_there = self._place is not None
        part = Part(session, settings, context, place=self._place, unsettled=self._unsettled)
        worker = Worker(f"channels-trunk-db-{context.node}", look=part.look, end=session.end, clock=context.clock)
        part.look_soon = worker.look_within
        part.watch(self._watched)
        bell = Bell(context.node) if settings.is_a_file else None
        if bell is not None:
            part.ring, part.why_late = bell.ring, bell.why_late
        self._open = opened = _Open(session, part, worker, bell, Throttle(_LONGEST_PAUSE))
        try:
            await self._begin(opened)
        except ChannelLayerError as error:
            if self._place is None or isinstance(error, TransportUnavailable):
                raise
            # It was there before: a login that is refused, or tables that are not there, may be so for a while.
            raise TransportUnavailable(str(error)) from error
        opened.has_begun = True
        worker.look_within(0)
        self._listen(opened)

    async def _begin(self, opened: _Open) -> None:
        session, clock = opened.session, self._context.clock
        give_up_at = clock.monotonic() + _OPEN_PATIENCE
        while True:
            try:
                return await self._do(opened.part.begin)
            except Busy:
                if session.failure is not None:
                    raise session.failure from None
                if clock.monotonic() > give_up_at:
                    raise TransportUnavailable(session.locked) from None
                await asyncio.sleep(_OPEN_RETRY)

    def _listen(self, opened: _Open) -> None:
        if self._open is opened and opened.bell is not None and (bell := opened.bell.fileno()) is not None:
            asyncio.get_running_loop().add_reader(bell, self._rung, opened)

    def _rung(self, opened: _Open) -> None:
        if opened.bell is None:
            return
        opened.bell.answer()
        opened.worker.look_within(0)
        # Each look is to find some: rings wait for a while, and those who ring find that out.
        pause = _DEAF_FOR if opened.part.is_busy() else 0.0
        if pause := max(pause, opened.throttle.rang(opened.part.found)):
            self._stop_listening(opened)
            asyncio.get_running_loop().call_later(pause, self._listen, opened)

    def _stop_listening(self, opened: _Open) -> None:
        if opened.bell is not None and (bell := opened.bell.fileno()) is not None:
            asyncio.get_running_loop().remove_reader(bell)

    def _lost(self, error: Exception) -> None:
        opened = self._open
        # While it is being opened, the error itself goes to the hub.
        if opened is not None and opened.has_begun:
            self._context.sink.lost(error)

    async def close(self, *, leave: bool) -> None:
        """End the thread; with `leave`, sign off before."""
        opened = self._open
        if opened is None:
            return
        worker, part = opened.worker, opened.part
        if self._started is not None:
            self._started.give_up()  # its senders were told that nobody knows
        if leave and opened.has_begun:
            worker.submit(Job(lambda _job: self._in_session(opened, part.end)))
        elif not leave:
            worker.give_up_all()
        worker.stop()
        if not await _ends(worker, within=_END_WITHIN):
            opened.session.cut()
            await _ends(worker, within=_END_WITHIN)
        if opened.bell is not None:
            self._stop_listening(opened)
            opened.bell.close()
        self._open = None
        place = part.leave_off()
        self._place = None if leave else place
        if leave:
            self._watched = frozenset()
            # What became of a commit that was cut off, nobody will know; the others go back when this is opened again.
            self._unsettled = [move for move in self._unsettled if not move.receipt]
            self._accepted.clear()

    def hold(self) -> None:
        """Wait until the thread is out of the database's library: its locks would be copied as they are."""
        if self._open is not None:
            self._open.worker.hold()

    def release(self) -> None:
        """Let the thread go on."""
        if self._open is not None:
            self._open.worker.release()

    def abandon(self) -> None:
        """In the child of a fork: close what is the parent's, without a word to the server."""
        if self._open is not None:
            self._open.session.abandon()
            if self._open.bell is not None:
                self._open.bell.abandon()

    # --- what the hub asks for

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append the batch, in one transaction."""
        opened = self._opened
        return await self._done(Job(lambda job: self._append(opened, batch, job)))

    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        """Hand the batch to the thread that appends it, which says when that is done."""
        opened = self._open
        if opened is None or not opened.has_begun:
            return False
        self._started = job = Job[list[int]](lambda job: self._append(opened, batch, job))
        job.outcome.add_done_callback(lambda outcome: done(None if outcome.exception() else outcome.result()))
        opened.worker.submit(job)
        return True

    def _append(self, opened: _Open, batch: Sequence[Envelope], job: Job[list[int]]) -> list[int]:
        """In the worker's thread."""
        try:
            return self._in_session(opened, partial(opened.part.publish, list(batch)), job)
        except Unsure:
            raise
        except TransportUnavailable as error:
            raise Busy from error  # it was certainly not stored: the next connection is to do that

    async def finish(self) -> Sequence[int]:
        """Say why what was started has failed."""
        job = self._started
        if job is None:
            raise TransportUnavailable("the database is not open")
        return job.outcome.result()

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Delete the oldest rows of a channel, and return them."""
        opened = self._opened
        if opened.part.claiming.rests(channel):
            return []
        job: Job[list[Claimed]] = Job(
            lambda job: self._in_session(opened, partial(opened.part.claiming.claim, channel, limit), job)
        )
        try:
            found = await asyncio.wrap_future(opened.worker.submit(job).outcome)
        except asyncio.CancelledError:
            if not job.give_up():
                job.outcome.add_done_callback(lambda _outcome: self._give_back(opened, job))
            raise
        return found

    def _give_back(self, opened: _Open, claimed: Job[list[Claimed]]) -> None:
        """What was claimed for nobody goes back; over the next connection, if this one ends before."""
        outcome = claimed.outcome
        if outcome.cancelled() or outcome.exception() is not None or not (found := outcome.result()):
            return
        opened.part.claiming.keep(found)
        job: Job[None] = Job(lambda job: self._in_session(opened, opened.part.claiming.settle, job))
        opened.worker.submit(job)

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert rows again, with ranks before all others."""
        opened = self._opened
        wanted = [message for message in claimed if not any(message is other for other in self._accepted)]
        self._accepted = [other for other in self._accepted if not any(other is message for message in claimed)]
        if not wanted:
            return
        job: Job[None] = Job(
            lambda job: self._in_session(opened, partial(opened.part.claiming.restore, job, wanted), job)
        )
        try:
            await asyncio.wrap_future(opened.worker.submit(job).outcome)
        except asyncio.CancelledError:
            if not job.give_up():
                # It is being stored, and the hub will ask for it again.
                self._accepted += wanted
            raise

    async def watch(self, channels: frozenset[str]) -> None:
        """Look at these queues with each look at the log."""
        part = self._opened.part
        self._watched = channels
        await self._do(partial(part.watch, channels))
        self._opened.worker.look_within(0)

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        queues = self._opened.part.queues
        ends = None if expires_at == float("inf") else expires_at
        await self._do_in_transaction(partial(queues.bind, group, channel, ends))

    async def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        await self._do_in_transaction(partial(self._opened.part.queues.unbind, group, channel))

    async def peers(self) -> frozenset[str]:
        """Nodes that have not been forgotten."""
        return await self._do(self._opened.part.peers)

    async def purge(self) -> None:
        """Delete queues and memberships; what is in the log ends at the flush that the hub sends behind it."""
        await self._do_in_transaction(self._opened.part.queues.purge)

    async def drop(self) -> None:
        """Forget what was to go back."""
        await self._do(self._opened.part.claiming.drop)

    async def trim(self) -> None:
        """Tidy up."""
        await self._do(self._opened.part.trim)

    async def maintain(self) -> float:
        """Heartbeat, and whatever is due."""
        opened = self._opened
        if opened.bell is not None and opened.bell.open():
            self._listen(opened)
        return await self._do(self._opened.part.maintain)

    # --- jobs

    async def _do(self, call: Callable[[], T]) -> T:
        opened = self._opened
        return await self._done(Job(lambda job: self._in_session(opened, call, job)))

    async def _done(self, job: Job[T]) -> T:
        try:
            return await asyncio.wrap_future(self._opened.worker.submit(job).outcome)
        except asyncio.CancelledError:
            job.give_up()
            raise

    async def _do_in_transaction(self, call: Callable[[], T]) -> T:
        session = self._opened.session

        def within() -> T:
            with session.transaction():
                return call()

        return await self._do(within)

    def _in_session(self, opened: _Open, call: Callable[[], T], job: Job[T] | None = None) -> T:
        """In the worker's thread."""
        session = opened.session
        session.job = job
        try:
            with session.translated():
                session.ensure()
                return call()
        finally:
            session.job = None

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise TransportUnavailable("the database is not open")
        return self._open


async def _ends(worker: Worker, *, within: float) -> bool:
    """Wait for the end of the thread, without holding up the loop."""
    clock = asyncio.get_running_loop().time
    end = clock() + within
    while worker.is_alive and clock() < end:  # noqa: ASYNC110 - once per close
        await asyncio.sleep(_END_RETRY)
    return not worker.is_alive
