"""One node's part while the database is reached: three connections, and what is done over them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, NodeContext

from .connecting import connect, ensure_schema, find_names
from .errors import translated
from .hearing import Hearing, listen, listen_holds
from .line import Line
from .listener import EMPTIED, Listener
from .moves import Moves
from .names import LEAP, Bells, Names
from .notify_queue import REMEDY, USAGE, fullness
from .queues import Queues
from .reading import Reading
from .settings import PostgresSettings
from .upkeep import HEARTBEAT, Place, Upkeep
from .wire import Notice, ServerError, Statement, Wire
from .writer import Unanswered, Writer

__all__ = ["Kept", "Part"]

# How much is written before maintenance comes ahead of its time. Bytes.
_BUSTLE = 1024 * 1024
_TIDY_EVERY = 5.0
_FORGOTTEN = "others took this process for dead, or somebody emptied the table of processes"
_SOON = 0.1


class Kept:
    """What outlives the connections."""

    def __init__(self) -> None:
        self.place: Place | None = None  # from before the server was away; the position is in the next
        self.position = 0
        self.was_forgotten = False
        """By the others, or by who emptied the table: until that is told, whatever comes between."""
        self.moves = Moves()
        self.unanswered = Unanswered()
        self.hearing = Hearing()

    def forget(self) -> None:
        """The node leaves."""
        self.place = None
        self.was_forgotten = False
        self.hearing.forget()
        self.moves.clear()
        self.unanswered = Unanswered()

    @property
    def last(self) -> int:
        """The position; -1 if the node has been nowhere."""
        return -1 if self.place is None else self.position

    def what_was_missed(self, place: Place) -> str:
        """Why messages for this node may be lost, or nothing."""
        if self.place is None:
            return ""
        if place.epoch != self.place.epoch:
            return "the server has crashed, or its tables were emptied: what its unlogged tables held is lost"
        if place.lowest > self.position + 1 or place.head < self.position:
            return EMPTIED
        return _FORGOTTEN if self.was_forgotten else ""

    def where_to_go_on(self, place: Place) -> int:
        """The position to read from: behind a gap there is what was sent since, which nobody here has read."""
        if self.place is None:
            return place.head
        behind_gap = place.lowest - 1
        if place.epoch != self.place.epoch and behind_gap < LEAP:
            return behind_gap  # after a crash ids begin anew
        return max(self.position, behind_gap)

    def is_above(self, place: Place) -> bool:
        """Whether this node has read what the log does not hold any more, as somebody has emptied it."""
        return self.place is not None and place.epoch == self.place.epoch and place.head < self.position


class Part:
    """From find_tables() to close(); of the hub's loop, but for what says otherwise."""

    names: Names
    bells: Bells
    listener: Listener
    queues: Queues
    writer: Writer
    upkeep: Upkeep

    def __init__(
        self,
        settings: PostgresSettings,
        context: NodeContext,
        kept: Kept,
        reading: Reading,
        *,
        find_settings: Callable[[], PostgresSettings] | None = None,
    ) -> None:
        self.settings = settings
        self._find_settings = find_settings or (lambda: settings)
        self._context = context
        self._kept = kept
        self._reading = reading
        self._has_tables = False
        self.keeping = self._line("keep", self._begin_keeping)
        self.writing = self._line("write", self._begin_writing)
        self.listening = self._line("listen", self._begin_listening)
        self.must_poll = False
        self._tasks: set[asyncio.Task[None]] = set()  # one polls, others make connections again
        self._written = 0
        self._next_tidy = 0.0
        self._find_usage = Statement(USAGE)

    def _line(self, purpose: str, begin: Callable[[Wire], Awaitable[None]]) -> Line:
        return Line(partial(self._wire, purpose), begin=begin, on_away=self._context.sink.lost)

    async def _wire(self, purpose: str) -> Wire:
        return await connect(
            self._find_settings(),
            listening=purpose == "listen",
            application_name=f"channels-trunk {purpose} {self._context.node}",
            on_notices=self._on_notices,
            on_came=self._on_came,
            on_lost={"keep": self._on_keeping_lost, "listen": self._on_listening_lost}.get(purpose, _nothing),
        )

    def _on_notices(self, notices: Sequence[Notice]) -> None:
        # Not the listener's own method: the first connection is made before there is a listener.
        self.listener.heard(notices)

    def _on_came(self) -> None:
        self._context.sink.received(())  # has somebody call read_now()

    # --- begin

    async def find_tables(self) -> None:
        """Connect, and make the tables if they are missing; if this fails, nothing is left to be closed."""
        self._reading.begin()
        try:
            first = await self.keeping.wire()
            names = await find_names(first, self.settings)
            await ensure_schema(first, names, self.settings)
        except BaseException:
            self.keeping.close()
            self._reading.end()
            raise
        context, kept = self._context, self._kept
        self.names, self.bells = names, names.bells(context.prefix)
        self.listener = Listener(context, names)
        # Before anything can fail: close() notes the listener's position.
        self.listener.position = kept.position
        self.queues = Queues(self.keeping, context, names, kept.moves, self.listener.hints)
        self.writer = Writer(self.writing, context, names, wrote=self._wrote, unanswered=kept.unanswered)
        self.upkeep = Upkeep(self.keeping, context, names, self.queues)
        self._first, self._has_tables = first, True

    async def take_part(self) -> None:
        """Find out what was missed meanwhile, and begin to listen and to write."""
        upkeep, kept = self.upkeep, self._kept
        # A queue of notifications that was full stays so until somebody asks: the server looks who has read only then.
        await self.look_at_notify_queue()
        await upkeep.hold_alive_lock(self._first)
        place = await upkeep.find_place(kept.last)
        if kept.is_above(place):
            await upkeep.leap(kept.position)
            place = await upkeep.find_place(kept.last)
        # Before the log is looked at: whoever empties it from now on waits for this node. The listener's own position
        # stays in front of a gap until that is told: if this fails, the next open() has to find it.
        await self._say_here(kept.where_to_go_on(place))
        place = await upkeep.find_place(kept.last)
        gap = kept.what_was_missed(place)
        kept.position = self.listener.position = kept.where_to_go_on(place)
        if kept.place is not None and place.epoch != kept.place.epoch:
            kept.moves.clear()  # numbers of transactions may come again after a crash
            kept.unanswered.lose()
        kept.place = place
        self.writer.log_ends_at(place.head)
        if gap:
            # At once: if what follows fails, the next open() finds nothing missing.
            self._say(gap)
        await self.writing.wire()
        await self.listening.wire()
        await self.queues.settle()

    # --- what each new session begins with

    async def _begin_keeping(self, wire: Wire) -> None:
        if self._has_tables:
            await self._check_epoch(wire)
            await self.upkeep.hold_alive_lock(wire)

    async def _begin_writing(self, wire: Wire) -> None:
        await self._check_epoch(wire)
        await self.writer.begin(wire)
        self._reading.lead(wire, at_rest=False)

    async def _begin_listening(self, wire: Wire) -> None:
        await self._check_epoch(wire)
        await self.upkeep.hold_alive_lock(wire)
        listener, hearing = self.listener, self._kept.hearing
        listener.watched = hearing.watched
        listener.use(wire)
        own = (self.bells.node(self._context.node), self.bells.everybody)
        await listen(wire, [*own, *hearing.channels])
        await listener.catch_up()
        await self._find_out_whether_listen_holds(wire)
        await self.look_into_queues()
        self._reading.lead(wire, at_rest=True)

    async def _check_epoch(self, wire: Wire) -> None:
        """Raise TransportUnavailable if the tables were emptied since open(), which then has to look anew."""
        rows = await wire.simple(self.names.fill("SELECT epoch FROM {p}state"))
        place = self._kept.place
        if place is None or not rows or rows[0][0] != place.epoch:
            raise TransportUnavailable(f"{self.settings.where}: the server has crashed, or its tables were emptied")

    def _on_listening_lost(self, _error: Exception) -> None:
        if not self._has_tables:
            return
        # Whoever waits for the mark: it will not come, and says nothing about LISTEN.
        self.listener.marked.set()
        if not self.must_poll:
            # Nobody else would ask for it.
            self._spawn(self._make_again(self.listening))

    def _on_keeping_lost(self, _error: Exception) -> None:
        if self._has_tables:
            # Perhaps the server went. The other connections may be read by a loop that stands still: look at them here,
            # and find out whether the server is there.
            self._on_came()
            self._spawn(self._make_again(self.keeping))

    async def _make_again(self, line: Line) -> None:
        with suppress(ServerError, TransportError):  # the line has told the hub
            await line.wire()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- where LISTEN does not hold

    async def _find_out_whether_listen_holds(self, wire: Wire) -> None:
        bell = self.bells.node(self._context.node)
        holds = not wire.pooled and await listen_holds(self.listener, await self.writing.wire(), bell)
        if holds or self.must_poll:
            return
        self._kept.hearing.say_that_it_polls(self.settings)
        self.must_poll = True
        self._spawn(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.settings.polling_interval)
            try:
                await self.listening.wire()
                await self.listener.catch_up()
                await self.look_into_queues()
            except TransportError:
                continue  # the line makes another connection, or has told the hub
            except ServerError as error:
                failure = translated(error, self.settings.where)
                if not isinstance(failure, Busy):
                    self._context.sink.lost(failure)
                    return

    async def look_into_queues(self) -> None:
        """Tell of the normal channels that hold messages."""
        if waiting := await self.queues.waiting(self._kept.hearing.watched):
            self._context.sink.available(waiting)

    # --- any thread

    def read(self) -> list[Envelope]:
        """Read what the connections brought, and hand over what is whole."""
        self._reading.read()
        return self.listener.take()

    def hinted(self) -> Sequence[str]:
        """The normal channels that hints came for."""
        return self.listener.hinted()

    def _wrote(self, size: int) -> None:
        self._written += size
        if self._written > _BUSTLE:
            self._written = 0
            self._context.sink.maintain_soon()

    # --- maintenance

    async def maintain(self) -> float:
        """Heartbeat, and whatever is due; return in how many seconds to call again."""
        await self._say_here(self.listener.position)
        await self.queues.settle()
        await self.check_place()
        if self._kept.was_forgotten:
            self._say(_FORGOTTEN)
        await self.look_at_notify_queue()
        # A worker that died in the middle of a claim gave its rows back, and nobody was told.
        await self.look_into_queues()
        if not self.must_poll:
            await self.upkeep.mark()
            self.upkeep.check_hearing(self.listener.marked_at)
        if not self.settings.auto_trim:
            return HEARTBEAT
        return _SOON if await self.tidy() else HEARTBEAT

    async def _say_here(self, position: int) -> None:
        """The heartbeat. Others ask none that has no row to flush, or to end a membership."""
        if not await self.upkeep.heartbeat(position):
            # Noted before: if the answer to what follows is lost, the next connection finds the row.
            self._kept.was_forgotten = self._kept.place is not None
            await self.upkeep.register(position)

    def _say(self, gap: str) -> None:
        self._kept.was_forgotten = False
        self._context.sink.gap(gap)

    async def look_at_notify_queue(self) -> None:
        """Say that it fills up, before it is full."""
        [(usage,)] = await self.keeping.run(self._find_usage)
        self._context.sink.hampered((text := fullness(usage)) and f"{self.settings.where}: {text}. {REMEDY}")

    async def check_place(self) -> None:
        """Raise TransportUnavailable if somebody has emptied the tables while the connections stood."""
        # From before the question: what is heard while it is answered is behind the head that the answer tells.
        position = self.listener.position
        place, known = await self.upkeep.find_place(position), self._kept.place
        if known is None or place.epoch != known.epoch or place.head < position:
            raise TransportUnavailable(f"{self.settings.where}: somebody has emptied the layer's tables")
        self.writer.log_ends_at(place.head)

    async def tidy(self) -> bool:
        """Remove what has expired, and empty the log if it is time; whether there is more to do."""
        await self.upkeep.empty_log()
        clock = asyncio.get_running_loop().time
        if clock() < self._next_tidy:
            return False
        more = await self.upkeep.tidy()
        self._next_tidy = clock() + (0.0 if more else _TIDY_EVERY)
        return more

    # --- the end

    async def close(self, *, leave: bool) -> None:
        """Close the connections; with `leave`, sign off."""
        for task in self._tasks:
            task.cancel()
        self.listener.stop()
        self._kept.position = self.listener.position
        try:
            if leave:
                await self.queues.settle()
                await self.upkeep.leave()
        except (ServerError, TransportUnavailable):
            pass  # the others will notice
        finally:
            for line in (self.listening, self.writing, self.keeping):
                line.close()
            self._reading.end()
            if leave:
                self._kept.forget()

    def close_in_child(self) -> None:
        """After a fork: close the descriptors. libpq never speaks on a connection that another process made."""
        for line in (self.listening, self.writing, self.keeping):
            line.close_in_child()
        self._reading.close_in_child()


def _nothing(_error: Exception) -> None:
    """Whoever uses the line next makes another connection."""
