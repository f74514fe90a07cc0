"""In: what LISTEN brings, in order; the log behind it where it brought a number alone, or was away.

PostgreSQL hands on notifications in the order of their commits, and for as long as a connection lives none is lost. So
a node hears only what concerns it, and reads the log itself where a frame is too large for a notification, after it was
away, and where LISTEN does not hold.
"""

import asyncio
import binascii
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import DecodeError, TransportUnavailable
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.frames import envelopes_for_node

from .hints import Hints
from .names import HEAD, LEAP, LOWEST, Names
from .values import int_array
from .wire import Notice, ServerError, Statement, Wire

__all__ = ["EMPTIED", "Listener"]

EMPTIED = "the log was emptied before this process had read it"
"""Why messages may be lost."""

_ROWS_AT_ONCE = 100
_FETCHED_AT_ONCE = 16
# Any role may send notifications. One of a row so far ahead is none of ours: it would take the position out of reach.
_FARTHEST = 1 << 42
_MARK = "mark"
_HINT = "queue"


class Heard(NamedTuple):
    """A row that concerns this node; without its frame it has to be fetched. A mark has an origin of its own."""

    row: int
    origin: str
    frame: bytes | None


class Listener:
    """The node's place in the log, and what is on its way there.

    Of the hub's loop; but whoever reads the connection calls heard(), and whoever reads for the node, one thread at a
    time, take() and hinted().
    """

    def __init__(self, context: NodeContext, names: Names) -> None:
        self._context = context
        self._bells = names.bells(context.prefix)
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self.position = 0
        """Everything up to this row that concerns this node has been handed over."""
        self.hints = Hints(context, self._bells)
        self._watched: frozenset[str] = frozenset()
        self.marked_at = 0.0
        """When a mark came back last, by the loop's clock."""
        self.marked = asyncio.Event()
        """Set whenever a mark comes back."""
        self._lock = threading.Lock()  # guards all below but the task and the statements
        self._caught_up: deque[Heard] = deque()  # from the log, and older than what is pending
        self._pending: deque[Heard] = deque()
        self._hinted: set[str] = set()
        self._malformed = 0
        self._leaps = 0
        self._holding = True  # until catch_up() is through, as what it finds is older
        self._read_to = 0  # catch_up()'s place in the log
        self._must_fetch = False  # somebody was told that frames are missing
        self._reading: asyncio.Task[None] | None = None
        rows = "SELECT id, origin, frame FROM {p}log_%d WHERE prefix = $1 AND id > $2"
        # With where the log begins and ends, by the same snapshot: what is missing in front of the rows is lost.
        self._read_after = Statement(
            names.fill(
                f"WITH r AS (SELECT * FROM ({rows % 0} UNION ALL {rows % 1}) l ORDER BY id LIMIT {_ROWS_AT_ONCE}) "
                f"SELECT {LOWEST}, {HEAD}, r.* FROM {{p}}state LEFT JOIN r ON true ORDER BY r.id"
            )
        )
        ids = "SELECT id, frame FROM {p}log_%d WHERE id = ANY ($1)"
        self._fetch_rows = Statement(names.fill(f"{ids % 0} UNION ALL {ids % 1}"))

    def use(self, wire: Wire) -> None:
        """Read by this connection, which LISTENs."""
        self.stop()
        self._wire = wire
        self.hints.use(wire)
        self.marked_at = self._loop.time()

    def stop(self) -> None:
        """Read no more; take() finds nothing, until catch_up()."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._wire = None
        with self._lock:
            self._caught_up.clear()
            self._pending.clear()
            self._holding = True
            self._must_fetch = False
        self.hints.stop()

    @property
    def watched(self) -> frozenset[str]:
        """The normal channels that somebody here waits at."""
        return self._watched

    @watched.setter
    def watched(self, channels: frozenset[str]) -> None:
        self._watched = channels
        self.hints.watch(channels)

    # --- any thread

    def heard(self, notices: Sequence[Notice]) -> None:
        """Note what LISTEN brought, for take() and hinted()."""
        with self._lock:
            for channel, payload in notices:
                if payload == _HINT:
                    self._hinted.add(channel)
                elif (heard := _parsed(payload)) is None or heard.row - self.position > _FARTHEST:
                    self._malformed += 1
                else:
                    self._pending.append(heard)

    def hinted(self) -> Sequence[str]:
        """The normal channels that hints came for since this was last asked."""
        if not self._hinted:
            return ()
        with self._lock:
            hinted, self._hinted = self._hinted, set()
        return sorted(name for name in self.watched if self._bells.queue(name) in hinted)

    def take(self) -> list[Envelope]:
        """Hand over everything in front of the first row that has to be fetched."""
        with self._lock:
            frames = [*self._at_hand(self._caught_up), *(() if self._holding else self._at_hand(self._pending))]
            malformed, self._malformed = self._malformed, 0
            leaps, self._leaps = self._leaps, 0
            must_fetch = bool(self._pending) and not (self._holding or self._must_fetch)
            self._must_fetch = self._must_fetch or must_fetch
        if must_fetch:
            self._in_loop(self._begin_to_fetch)
        for _ in range(malformed):
            self._context.sink.skipped(DecodeError("a malformed notification"))
        for _ in range(leaps):
            self._context.sink.gap(EMPTIED)
        envelopes: list[Envelope] = []
        for frame in frames:
            envelopes += self._decoded(frame)
        return envelopes

    def _at_hand(self, rows: deque[Heard]) -> list[bytes]:
        frames = []
        while rows and (rows[0].frame is not None or self._is_over(rows[0])):
            heard = rows.popleft()
            if heard.origin == _MARK:
                self.marked_at = self._loop.time()
                self._in_loop(self.marked.set)
            elif heard.row > self.position and heard.frame and heard.origin != self._context.node:
                frames.append(heard.frame)
            if heard.row - self.position > LEAP // 2:
                self._leaps += 1
            # One batch may be told on several channels that this node listens on.
            self.position = max(self.position, heard.row)
        return frames

    def _is_over(self, heard: Heard) -> bool:
        return heard.origin in (_MARK, self._context.node) or heard.row <= self.position

    def _in_loop(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)

    # --- frames that are not in their notification

    def _begin_to_fetch(self) -> None:
        if self._wire is not None and self._reading is None:
            self._reading = asyncio.create_task(self._fetch_all())

    async def _fetch_all(self) -> None:
        try:
            while wanted := self._wanted():
                await self._fetch(wanted)
                self._context.sink.received(())  # to have somebody read
        except TransportUnavailable:
            return  # the next connection reads the log from here on
        except ServerError as error:
            self._context.sink.lost(TransportUnavailable(f"the log cannot be read: {error}"))
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    def _wanted(self) -> list[int]:
        """The next rows without a frame; nothing if there are none at the front."""
        wanted: list[int] = []
        with self._lock:
            for heard in self._pending:
                if heard.frame is not None or len(wanted) == _FETCHED_AT_ONCE:
                    break
                if not self._is_over(heard) and heard.row not in wanted:
                    wanted.append(heard.row)
            if not wanted or self._wire is None:
                self._must_fetch = False
                return []
        return wanted

    async def _fetch(self, wanted: Sequence[int]) -> None:
        if self._wire is None:
            return
        frames: dict[int, bytes] = dict(await self._wire.run(self._fetch_rows, int_array(wanted)))
        if any(row not in frames for row in wanted):
            self._context.sink.gap(EMPTIED)
        with self._lock:
            for index, heard in enumerate(self._pending):
                if heard.row in wanted and heard.frame is None:
                    self._pending[index] = heard._replace(frame=frames.get(heard.row, b""))

    # --- the log itself

    async def catch_up(self) -> None:
        """Read the log to its end, and then go on with what was heard meanwhile."""
        with self._lock:
            self._holding = True
            self._caught_up.clear()
            self._read_to = self.position
        while await self._read_page():
            self._context.sink.received(())
        with self._lock:
            self._holding = False
        self._context.sink.received(())

    async def _read_page(self) -> bool:
        wire = self._wire
        if wire is None:
            raise TransportUnavailable("the connection was closed")
        found = await wire.run(self._read_after, self._context.prefix, self._read_to)
        if not found:
            return False  # the tables were emptied, which maintenance finds out
        lowest, head = found[0][:2]
        if 1 < lowest - self._read_to < LEAP // 2:  # take() finds leaps
            self._context.sink.gap(EMPTIED)
        heard = [Heard(*row) for _lowest, _head, *row in found if row[0] is not None]
        is_full = len(heard) == _ROWS_AT_ONCE
        if not is_full:
            # What is not for this prefix has been passed, too: nobody is to wait for it, nor to miss it.
            heard.append(Heard(head, self._context.node, b""))
        with self._lock:
            self._caught_up += heard
        self._read_to = heard[-1].row
        return is_full

    def _decoded(self, frame: bytes) -> Sequence[Envelope]:
        return envelopes_for_node(self._context, frame)


def _parsed(payload: str) -> Heard | None:
    parts = payload.split(" ")
    try:
        if parts[0] == _MARK:
            return Heard(int(parts[1]), _MARK, b"")
        row, origin, packed = parts
        return Heard(int(row), origin, binascii.a2b_base64(packed, strict_mode=True) if packed else None)
    except (ValueError, IndexError):
        return None
