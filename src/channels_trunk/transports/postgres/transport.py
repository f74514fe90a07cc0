"""The PostgreSQL transport: one node's three connections."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import (
    LAST_PAGE,
    Busy,
    Capabilities,
    Claimed,
    NodeContext,
    Page,
    ReadableTransport,
    StartingTransport,
)

from .connecting import connect, ensure_schema, find_names
from .errors import is_lost, refusal, translated
from .hearing import Hearing, listen, listen_holds
from .line import Line
from .listener import Listener
from .moves import Moves
from .names import Bells, Names
from .queues import Queues
from .reading import Reading
from .settings import PostgresSettings
from .upkeep import HEARTBEAT, Place, Upkeep
from .wire import Notice, ServerError, Wire
from .writer import Writer

__all__ = ["PostgresTransport"]

T = TypeVar("T")

# How much is written before maintenance comes ahead of its time. Bytes.
_BUSTLE = 1024 * 1024
_TIDY_EVERY = 5.0
_SOON = 0.1


@dataclass(slots=True)
class _Open:
    """What there is while the database is reached: connections to listen, to write, and for everything else."""

    names: Names
    bells: Bells
    listening: Line
    writing: Line
    keeping: Line
    writer: Writer
    queues: Queues
    upkeep: Upkeep
    listener: Listener
    must_poll: bool = False
    task: "asyncio.Task[None] | None" = None  # polls, or makes the listening connection again
    written: int = 0
    next_tidy: float = 0.0

    @property
    def lines(self) -> tuple[Line, Line, Line]:
        """All of them."""
        return self.listening, self.writing, self.keeping


class PostgresTransport(ReadableTransport, StartingTransport):
    """Runs on the hub's loop, but for what callers' threads start, and what receivers' loops read.

    At most three connections, whatever the number of loops, threads and channels.
    """

    capabilities = Capabilities(crosses_processes=True, needs_interest=True, claims_ahead=True, starts=True)

    def __init__(self, find_settings: Callable[[], PostgresSettings]) -> None:
        # Asked at open(): in a test run Django changes the name of the database after the layer is made.
        self._find_settings = find_settings
        self._open: _Open | None = None
        self._place: Place | None = None  # from before the server was away; its position is in the next
        self._position = 0
        self._moves = Moves()
        self._hearing = Hearing()
        self._reading = Reading()

    # --- life

    async def open(self, context: NodeContext) -> None:
        """Connect, make what is missing, find out what was missed meanwhile."""
        self._settings = self._find_settings()
        self._context = context
        try:
            await self._connect(context)
        except ServerError as error:
            raise refusal(error, self._settings.where) from error

    async def _connect(self, context: NodeContext) -> None:
        keeping = Line(partial(self._wire, "keep"), begin=self._begin_keeping, on_away=context.sink.lost)
        first = await keeping.wire()
        try:
            names = await find_names(first, self._settings)
            await ensure_schema(first, names, self._settings)
        except BaseException:
            keeping.close()
            raise
        listener = Listener(context, names)
        self._reading.begin()
        queues = Queues(keeping, context, names, self._moves, listener.hints)
        writing = Line(partial(self._wire, "write"), begin=self._begin_writing, on_away=context.sink.lost)
        self._open = opened = _Open(
            names,
            names.bells(context.prefix),
            Line(partial(self._wire, "listen"), begin=self._begin_listening, on_away=context.sink.lost),
            writing,
            keeping,
            Writer(writing, context, names, self._wrote),
            queues,
            Upkeep(keeping, context, names, queues),
            listener,
        )
        # Before anything can fail: close() notes the listener's position.
        opened.listener.position = self._position
        await self._take_part(opened, first)

    async def _take_part(self, opened: _Open, first: Wire) -> None:
        upkeep, listener = opened.upkeep, opened.listener
        await upkeep.hold_alive_lock(first)
        place = await upkeep.find_place()
        listener.position = self._where_to_go_on(place)
        # Before the log is looked at: whoever empties it from now on waits for this node.
        await upkeep.register(listener.position)
        place = await upkeep.find_place()
        gap = self._what_was_missed(place)
        self._position = listener.position = self._where_to_go_on(place)
        if self._place is not None and place.epoch != self._place.epoch:
            self._moves.clear()  # numbers of transactions may come again after a crash
        self._place = place
        if gap:
            # At once: if what follows fails, the next open() finds nothing missing.
            self._context.sink.gap(gap)
        await opened.writing.wire()
        await opened.listening.wire()
        await opened.queues.settle()

    def _what_was_missed(self, place: Place) -> str:
        """Why messages for this node may be lost, or nothing."""
        if self._place is None:
            return ""
        if place.epoch != self._place.epoch:
            return "the server has crashed, or its tables were emptied: what its unlogged tables held is lost"
        if place.lowest > self._position + 1 or place.head < self._position:
            return "the log was emptied before this process had read it"
        return ""

    def _where_to_go_on(self, place: Place) -> int:
        """The position to read from: behind a gap there is what was sent since, which nobody here has read."""
        if self._place is None:
            return place.head
        return place.lowest - 1 if self._what_was_missed(place) else self._position

    async def _wire(self, purpose: str) -> Wire:
        return await connect(
            self._settings,
            listening=purpose == "listen",
            application_name=f"channels-trunk {purpose} {self._context.node}",
            on_notices=self._on_notices,
            on_came=self._on_came,
            on_lost=self._on_listening_lost if purpose == "listen" else _nothing,
        )

    # --- what each new session begins with

    async def _begin_keeping(self, wire: Wire) -> None:
        if self._open is not None:
            await self._check_epoch(wire)
            await self._open.upkeep.hold_alive_lock(wire)

    async def _begin_writing(self, wire: Wire) -> None:
        await self._check_epoch(wire)
        await self._opened.writer.begin(wire)
        self._reading.lead(wire, at_rest=False)

    async def _begin_listening(self, wire: Wire) -> None:
        opened = self._opened
        await self._check_epoch(wire)
        await opened.upkeep.hold_alive_lock(wire)
        listener = opened.listener
        listener.watched = self._hearing.watched
        listener.use(wire)
        own = (opened.bells.node(self._context.node), opened.bells.everybody)
        await listen(wire, [*own, *self._hearing.channels])
        await listener.catch_up()
        await self._find_out_whether_listen_holds(opened, wire)
        await self._look_into_queues(opened)
        self._reading.lead(wire, at_rest=True)

    async def _check_epoch(self, wire: Wire) -> None:
        """Raise TransportUnavailable if the tables were emptied since open(), which then has to look anew."""
        rows = await wire.simple(self._opened.names.fill("SELECT epoch FROM {p}state"))
        if self._place is None or not rows or rows[0][0] != self._place.epoch:
            raise TransportUnavailable(f"{self._settings.where}: the server has crashed, or its tables were emptied")

    def _on_notices(self, notices: list[Notice]) -> None:
        if self._open is not None:
            self._open.listener.heard(notices)

    def _on_came(self) -> None:
        self._context.sink.received(())  # has somebody call read_now()

    def _on_listening_lost(self, error: Exception) -> None:
        opened = self._open
        if opened is None:
            return
        # Whoever waits for the mark: it will not come, and says nothing about LISTEN.
        opened.listener.marked.set()
        if opened.must_poll:
            return
        # Nobody else would ask for it.
        opened.task = asyncio.create_task(self._listen_again(opened))

    async def _listen_again(self, opened: _Open) -> None:
        with suppress(ServerError, TransportUnavailable):  # the line has told the hub
            await opened.listening.wire()

    async def close(self, *, leave: bool) -> None:
        """Close the connections; with `leave`, sign off."""
        opened, self._open = self._open, None
        if opened is None:
            return
        if opened.task is not None:
            opened.task.cancel()
        opened.listener.stop()
        self._position = opened.listener.position
        try:
            if leave:
                await opened.queues.settle()
                await opened.upkeep.leave()
        except (ServerError, TransportUnavailable):
            pass  # the others will notice
        finally:
            for line in opened.lines:
                line.close()
            self._reading.end()
            if leave:
                self._place = None
                self._hearing.forget()
                self._moves.clear()

    def abandon(self) -> None:
        """In a forked child: close the descriptors. libpq never speaks on a connection that another process made."""
        opened, self._open = self._open, None
        if opened is not None:
            for line in opened.lines:
                line.close_in_child()
        self._reading.close_in_child()

    # --- LISTEN

    async def interest(self, groups: frozenset[str]) -> None:
        """LISTEN for the shards of these groups, and for no others."""
        opened = self._opened
        await self._translated(self._hearing.hear_groups(groups, opened.bells, opened.listening))

    async def hear(self, groups: frozenset[str]) -> None:
        """LISTEN for the shards of these groups as well."""
        opened = self._opened
        await self._translated(self._hearing.hear_more(groups, opened.bells, opened.listening))

    def narrow(self, groups: frozenset[str]) -> None:
        """Shards of these groups alone count as heard."""
        if self._open is not None:
            self._hearing.narrow(groups, self._open.bells)

    def hears(self, group: str) -> bool:
        """Whether the group's shard is listened to."""
        return self._open is not None and self._hearing.hears(group, self._open.bells)

    async def watch(self, channels: frozenset[str]) -> None:
        """LISTEN for the shards of these normal channels."""
        opened = self._opened
        opened.listener.watched = channels
        await self._translated(self._hearing.watch(channels, opened.bells, opened.listening))

    async def _find_out_whether_listen_holds(self, opened: _Open, wire: Wire) -> None:
        bell = opened.bells.node(self._context.node)
        holds = not wire.pooled and await listen_holds(opened.listener, await opened.writing.wire(), bell)
        if holds or opened.must_poll:
            return
        self._hearing.say_that_it_polls(self._settings)
        opened.must_poll = True
        opened.task = asyncio.create_task(self._poll(opened))

    async def _poll(self, opened: _Open) -> None:
        while True:
            await asyncio.sleep(self._settings.polling_interval)
            try:
                await opened.listening.wire()
                await opened.listener.catch_up()
                await self._look_into_queues(opened)
            except TransportUnavailable:
                continue  # the line makes another connection, or has told the hub
            except ServerError as error:
                self._context.sink.lost(translated(error, self._settings.where))
                return

    async def _look_into_queues(self, opened: _Open) -> None:
        if waiting := await opened.queues.waiting(self._hearing.watched):
            self._context.sink.available(waiting)

    # --- in

    def read_now(self) -> Page:
        """Read what the connections brought, and hand over what is whole."""
        opened = self._open
        if opened is None:
            return LAST_PAGE
        self._reading.read()
        return Page(opened.listener.take(), more=False)

    def queues_now(self) -> Sequence[str]:
        """The channels that hints came for."""
        opened = self._open
        return () if opened is None else opened.listener.hinted()

    def changed(self) -> bool:
        """Whether something came, and nobody has read since this was last asked."""
        return self._reading.changed()

    def polling_interval(self) -> float | None:
        """Shorter while messages come."""
        return self._reading.polling_interval()

    def doorbell(self) -> int | None:
        """Readable when something has come."""
        return self._reading.doorbell()

    def leave_doorbell(self) -> None:
        """Read in the hub's loop again."""
        self._reading.leave()

    def answer_doorbell(self) -> None:
        """Reading does."""
        self._reading.answer()

    # --- out

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append the batch, in one statement."""
        return await self._translated(self._opened.writer.publish(batch))

    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        """Send the statement, if the session stands and runs none."""
        opened = self._open
        return opened is not None and opened.writer.start(batch, done)

    async def finish(self) -> Sequence[int]:
        """Do what takes more than one statement."""
        return await self._translated(self._opened.writer.finish())

    def attend(self, seconds: float) -> None:
        """Wait for the server's answer."""
        opened = self._open
        wire = None if opened is None else opened.writing.current()
        if wire is not None:
            wire.attend(seconds)

    def _wrote(self, size: int) -> None:
        opened = self._open
        if opened is not None and (written := opened.written + size) <= _BUSTLE:
            opened.written = written
        elif opened is not None:
            opened.written = 0
            self._context.sink.maintain_soon()

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Delete the oldest rows of a channel, and return them."""
        return await self._translated(self._opened.queues.claim(channel, limit))

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert rows again, with ids below all others."""
        await self._translated(self._opened.queues.restore(claimed))

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        await self._translated(self._opened.queues.bind(group, channel, expires_at))

    async def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        await self._translated(self._opened.queues.unbind(group, channel))

    async def peers(self) -> frozenset[str]:
        """Nodes whose sessions hold their locks."""
        return await self._translated(self._opened.upkeep.peers())

    async def purge(self) -> None:
        """Delete queues and memberships; what is in the log ends at the flush that the hub sends behind it."""
        await self._translated(self._opened.queues.purge())

    # --- maintenance

    async def trim(self) -> None:
        """Remove what has expired."""
        await self._translated(self._tidy(self._opened))

    async def maintain(self) -> float:
        """Heartbeat, and whatever is due."""
        opened = self._opened
        await self._translated(opened.upkeep.register(opened.listener.position))
        await self._translated(opened.queues.settle())
        await self._translated(self._check_place(opened))
        # A worker that died in the middle of a claim gave its rows back, and nobody was told.
        await self._translated(self._look_into_queues(opened))
        if not opened.must_poll:
            await self._translated(opened.upkeep.mark())
            opened.upkeep.check_hearing(opened.listener.marked_at)
        if not self._settings.auto_trim:
            return HEARTBEAT
        return _SOON if await self._translated(self._tidy(opened)) else HEARTBEAT

    async def _check_place(self, opened: _Open) -> None:
        """Raise TransportUnavailable if somebody has emptied the tables while the connections stood."""
        # From before the question: what is heard while it is answered is behind the head that the answer tells.
        position = opened.listener.position
        place = await opened.upkeep.find_place()
        if self._place is None or place.epoch != self._place.epoch or place.head < position:
            raise TransportUnavailable(f"{self._settings.where}: somebody has emptied the layer's tables")

    async def _tidy(self, opened: _Open) -> bool:
        await opened.upkeep.empty_log()
        clock = asyncio.get_running_loop().time
        if clock() < opened.next_tidy:
            return False
        more = await opened.upkeep.tidy()
        opened.next_tidy = clock() + (0.0 if more else _TIDY_EVERY)
        return more

    # --- errors

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise TransportUnavailable("the database is not reached")
        return self._open

    async def _translated(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except ServerError as error:
            failure = translated(error, self._settings.where)
            if is_lost(error) and not isinstance(failure, Busy):
                self._context.sink.lost(failure)
            raise failure from error


def _nothing(_error: Exception) -> None:
    """Whoever uses the line next makes another connection."""
