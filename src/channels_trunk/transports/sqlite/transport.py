"""The SQLite transport: one node's part in the file."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from channels_trunk.aside import logger
from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.file_systems import NETWORK_FILE_SYSTEMS, file_system_of
from channels_trunk.transports.base import LAST_PAGE, Busy, Capabilities, Claimed, EmbeddedTransport, NodeContext, Page

from .bells import Bells
from .clocks import Clocks
from .connection import LONGEST_WAIT, SQLiteSettings, check_file, connect, create_schema
from .doorbell import Doorbell
from .errors import too_large, translated
from .log_reader import LogReader, Mark
from .neighbours import Neighbours
from .presence import Presence
from .queues import Queues
from .traffic import Traffic
from .upkeep import HEARTBEAT, Upkeep
from .writer import Writer

__all__ = ["SQLiteTransport"]

# Processes that make one new file at the same moment are through in less; whoever holds the lock for longer is of
# another kind, and said to. Seconds.
_OPEN_PATIENCE = 1.0
# Each time the connection waits for the lock as long as it may. A node that could not sign off is missed after a while.
_SIGN_OFF_TRIES = 4
_OPEN_RETRY = 0.02
# With a doorbell polling is a safety net alone. Seconds.
_SAFETY_POLL = 1.0
_SOON = 0.1


@dataclass(slots=True)
class _Open:
    """What there is while the file is open: three connections, for callers to write, to read, and for upkeep."""

    writer: Writer
    reader: LogReader
    upkeep: Upkeep
    traffic: Traffic
    queues: Queues
    presence: Presence
    clocks: Clocks
    confirmed: int
    """No row up to this one was appended to a file that others had left already."""


class SQLiteTransport(EmbeddedTransport):
    """Driven in place by callers; the hub's thread does what may take time: the first connection, and maintenance."""

    capabilities = Capabilities(crosses_processes=True, inline=True)

    def __init__(self, find_settings: Callable[[], SQLiteSettings]) -> None:
        # Asked at open(): in a test run Django changes the name of the database after the layer is made.
        self._find_settings = find_settings
        self._open: _Open | None = None
        self._doorbell: Doorbell | None = None
        self._place: tuple[int, Mark, object] | None = None  # position and file, kept while the file is away
        self._forsaken = (
            False  # a row may be in that file which others, who had noticed that it was replaced, do not read
        )
        self._watched: frozenset[str] = frozenset()
        self._keeping = threading.Lock()  # held while upkeep, or open and close, are inside SQLite; see hold()
        self._held = False

    # --- life

    async def open(self, context: NodeContext) -> None:
        """Open the file, make what is missing, and register."""
        settings = self._find_settings()
        self._settings = settings
        self._context = context
        check_file(settings.path)
        if (kind := file_system_of(settings.path)) in NETWORK_FILE_SYSTEMS:
            logger.warning("SQLite file %s is on a network file system (%s); use a local disk", settings.path, kind)
        give_up_at = context.clock.monotonic() + _OPEN_PATIENCE
        while context.clock.monotonic() < give_up_at:
            try:
                with self._keeping:
                    self._open = self._connected(settings, context)
            except sqlite3.Error as error:
                # A file that was open before may be so again (the process is out of descriptors, say).
                failure = translated(error, settings.path, opening=self._place is None)
                if not isinstance(failure, Busy):
                    raise failure from error
                await asyncio.sleep(_OPEN_RETRY)
            else:
                return
        raise TransportUnavailable(f"SQLite file {settings.path}: it is locked by another process")

    def _connected(self, settings: SQLiteSettings, context: NodeContext) -> _Open:
        connections: list[sqlite3.Connection] = []
        try:
            keeping = connect(settings, busy_timeout=min(settings.timeout, LONGEST_WAIT))
            connections.append(keeping)
            create_schema(keeping, settings.path)
            connections.append(writing := connect(settings, busy_timeout=0))
            connections.append(reading := connect(settings, busy_timeout=0, read_only=True))
            return self._registered(settings, context, keeping, writing, reading)
        except BaseException:
            for connection in connections:
                connection.close()
            raise

    def _registered(
        self,
        settings: SQLiteSettings,
        context: NodeContext,
        keeping: sqlite3.Connection,
        writing: sqlite3.Connection,
        reading: sqlite3.Connection,
    ) -> _Open:
        queues = Queues(context.prefix, context.capacity_of)
        doorbell = self._doorbell = self._doorbell or Doorbell(settings.path, context.node)
        clocks = Clocks(context.clock)
        upkeep = Upkeep(
            keeping, settings, doorbell, node=context.node, prefix=context.prefix, queues=queues, clocks=clocks
        )
        doorbell.open()
        resumed = self._resumed(upkeep)
        if self._forsaken and resumed is None:
            upkeep.leap(upkeep.newest(), context.clock.wall())
        self._forsaken = False
        position, known = upkeep.register(doorbell.address, self._watched, resumed, context.clock.wall())
        mark = self._place[1] if self._place is not None and resumed is not None else None
        if self._place is not None and (resumed is None or not known):
            # After the registration: whoever looks for what it has missed must not miss what is sent from now on. And
            # at once: if what follows fails, the next open() finds nothing missing.
            self._place = position, mark, upkeep.identity
            upkeep.forget_the_restored()
            why = "others took this process for dead" if resumed is not None else "it was replaced"
            context.sink.gap(f"SQLite file {settings.path}: {why}")
        upkeep.clear_up()
        clocks.compare(upkeep.clocks_of_others())
        traffic = Traffic(context.sink.maintain_soon)
        neighbours = Neighbours(context.node, context.prefix, doorbell.locate)
        bells = Bells(doorbell, neighbours, context.sink.maintain_soon)
        reader = LogReader(
            reading, context, traffic, doorbell, clocks, position=position, mark=mark, file_id=upkeep.file_id
        )
        writer = Writer(
            writing,
            context,
            reader,
            traffic,
            queues=queues,
            neighbours=neighbours,
            bells=bells,
            file_id=upkeep.file_id,
            newest=upkeep.newest(),
            begin=f"BEGIN {settings.transaction_mode}",
            clocks=clocks,
        )
        writer.watched = self._watched
        presence = Presence(context, upkeep=upkeep, reader=reader, doorbell=doorbell, bells=bells, clocks=clocks)
        return _Open(writer, reader, upkeep, traffic, queues, presence, clocks, writer.newest)

    def _resumed(self, upkeep: Upkeep) -> int | None:
        """The position from before the file was away, if that file is still there."""
        if self._place is None:
            return None
        position, _, identity = self._place
        return position if identity == upkeep.identity and position <= upkeep.newest() else None

    async def close(self, *, leave: bool) -> None:
        """Close the connections; with `leave`, sign off and take the socket away."""
        with self._keeping:
            self._close(leave=leave)

    def _close(self, *, leave: bool) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            reader = opened.reader
            self._place = None if leave else (reader.position, reader.mark, opened.upkeep.identity)
            if leave:
                _sign_off(opened.upkeep)
            for part in (opened.reader, opened.writer, opened.upkeep):
                part.close()
            self._forsaken = not leave and opened.writer.newest > opened.confirmed
        if leave and self._doorbell is not None:
            self._doorbell.close()
            self._doorbell = None
        if leave and opened is not None:
            _clear_up(self._settings.path)

    def hold(self) -> None:
        """Wait until no thread is inside SQLite: its locks would be copied as they are, held by nobody."""
        self._held = self._keeping.acquire(timeout=1.0)
        if self._open is not None:
            self._open.reader.hold()

    def release(self) -> None:
        """Let the threads go on."""
        if self._open is not None:
            self._open.reader.release()
        if self._held:
            self._held = False
            self._keeping.release()

    def abandon(self) -> None:
        """Close the connections that were inherited, in the child.

        SQLite keeps book in the process of which locks it holds on a file. If the parent's connections stayed, new ones
        would believe that the child holds those locks, and take none: then the parent, leaving, would delete the WAL
        under the child. The parent's own locks are not the child's to lose, and keep the WAL in its place meanwhile.
        """
        opened, self._open = self._open, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.reader.abandon()
                opened.writer.close()
                opened.upkeep.close()
        if self._doorbell is not None:
            self._doorbell.abandon()

    # --- out; see Writer

    def publish_now(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append the batch, and wake whom it concerns."""
        try:
            return self._opened.writer.publish(batch)
        except (sqlite3.DataError, OverflowError) as error:  # SQLITE_TOOBIG, and what no SQLite takes
            raise too_large(error) from error
        except sqlite3.Error as error:
            self._fail(error)

    def claim_now(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Delete the oldest rows of a channel, and return them."""
        try:
            return self._opened.writer.claim(channel, limit)
        except sqlite3.Error as error:
            self._fail(error)

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert rows again, with ids below all others."""
        with self._translated():
            self._opened.writer.restore(claimed)

    async def watch(self, channels: frozenset[str]) -> None:
        """Write into this node's row which channels it waits for."""
        with self._translated():
            self._opened.writer.watch(channels)
        self._watched = channels

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        with self._translated():
            self._opened.writer.bind(group, channel, expires_at)

    async def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        with self._translated():
            self._opened.writer.unbind(group, channel)

    async def peers(self) -> frozenset[str]:
        """Nodes that have been heard of lately, and whose sockets are held."""
        with self._translated():
            return self._opened.writer.peers()

    async def purge(self) -> None:
        """Delete queues and memberships; what is in the log ends at the flush that the hub sends behind it."""
        with self._translated():
            self._opened.writer.purge()

    # --- in; see LogReader

    def read_now(self) -> Page:
        """Read rows behind the cursor."""
        opened = self._open
        if opened is None:
            return LAST_PAGE
        try:
            return opened.reader.read()
        except sqlite3.Error as error:
            self._fail(error)

    def queues_now(self) -> Sequence[str]:
        """Which watched channels hold messages."""
        opened = self._open
        if opened is None or not self._watched:
            return ()
        with self._translated():
            return opened.reader.waiting(opened.queues, sorted(self._watched))

    def doorbell(self) -> int | None:
        """The node's socket."""
        return None if self._doorbell is None else self._doorbell.fileno()

    def answer_doorbell(self) -> None:
        """Take what has come off the socket."""
        if self._doorbell is not None:
            self._doorbell.answer()

    def polling_interval(self) -> float | None:
        """Often where a ring may not come, else as a safety net."""
        opened = self._open
        if opened is None or opened.presence.must_poll or self._doorbell is None or not self._doorbell.address:
            return self._settings.polling_interval
        return max(_SAFETY_POLL, self._settings.polling_interval)

    def changed(self) -> bool:
        """Whether the log or a watched queue holds something; on the hub's thread."""
        opened = self._open
        if opened is None:
            return False
        with suppress(Busy, TransportError), self._keeping, self._translated():
            if not opened.reader.is_at(*opened.upkeep.newest_row()):
                opened.reader.look()
                return True
            has_post = self._doorbell is not None and self._doorbell.has_post
            return has_post or bool(opened.upkeep.waiting(self._watched))
        return False

    # --- maintenance; see Upkeep

    async def maintain(self) -> float:
        """Heartbeat, and then whatever is due; soon again if that was not all."""
        opened = self._open
        if opened is None:
            return HEARTBEAT
        written, quiet = opened.traffic.begin_maintenance()
        with self._keeping, self._translated():
            newest = opened.writer.newest
            opened.upkeep.check_identity()
            opened.confirmed = newest
            opened.presence.greet(self._watched)
            more = self._settings.auto_trim and opened.upkeep.trim(*self._times(opened))
            opened.upkeep.checkpoint(written, quiet=quiet)
        return _SOON if more else HEARTBEAT

    async def trim(self) -> None:
        """Trim until there is nothing left to trim."""
        with self._keeping, self._translated():
            while self._open is not None and self._open.upkeep.trim(*self._times(self._open)):
                pass

    def _times(self, opened: _Open) -> tuple[float, float]:
        return opened.clocks.now(), self._context.clock.monotonic()

    # --- errors

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            raise TransportUnavailable("the SQLite file is not open")
        return self._open

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._fail(error)

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        """Raise what `error` means; anything but a lock that is held means that the file has to be opened again."""
        failure = translated(error, self._settings.path)
        if not isinstance(failure, Busy):
            self._context.sink.lost(failure)
        raise failure from error


def _sign_off(upkeep: Upkeep) -> None:
    """Leave, whoever has locked the file for a moment."""
    with suppress(sqlite3.Error):
        upkeep.clear_up()
    for _ in range(_SIGN_OFF_TRIES):
        with suppress(sqlite3.Error):
            upkeep.leave()
            return


def _clear_up(path: str) -> None:
    """Leave nothing behind that belonged to a file which was deleted."""
    if not os.path.exists(path):
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                os.unlink(path + suffix)
