"""In: what LISTEN brings, in order; the log behind it where it brought a number alone, or was away.

PostgreSQL hands on notifications in the order of their commits, and for as long as a connection lives none is lost. So
a node hears only what concerns it, and reads the log itself where a frame is too large for a notification, after it was
away, and where LISTEN does not hold.
"""

import asyncio
import binascii
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import DecodeError, TransportUnavailable
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.frames import envelopes_for_node

from .hints import Hints
from .names import Names
from .values import int_array
from .wire import Notice, ServerError, Statement, Wire

__all__ = ["Listener"]

_ROWS_AT_ONCE = 100
_FETCHED_AT_ONCE = 16
_MARK = "mark"
_HINT = "queue"


class Heard(NamedTuple):
    """A row that concerns this node; without its frame it has to be fetched. A mark has an origin of its own."""

    row: int
    origin: str
    frame: bytes | None


class Listener:
    """The node's place in the log, and what is on its way there. Of the hub's loop."""

    def __init__(self, context: NodeContext, names: Names) -> None:
        self._context = context
        self._bells = names.bells(context.prefix)
        self._wire: Wire | None = None
        self.position = 0
        """Everything up to this row that concerns this node has been handed over."""
        self.hints = Hints(context, self._bells)
        self._watched: frozenset[str] = frozenset()
        self.marked_at = 0.0
        """When a mark came back last, by the loop's clock."""
        self.marked = asyncio.Event()
        """Set whenever a mark comes back."""
        self._pending: deque[Heard] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._holding = True  # until catch_up() is through, as what it finds is older
        rows = "SELECT id, origin, frame FROM {p}log_%d WHERE prefix = $1 AND id > $2"
        self._read_after = Statement(
            names.fill(f"SELECT * FROM ({rows % 0} UNION ALL {rows % 1}) l ORDER BY id LIMIT {_ROWS_AT_ONCE}")
        )
        ids = "SELECT id, frame FROM {p}log_%d WHERE id = ANY ($1)"
        self._fetch_rows = Statement(names.fill(f"{ids % 0} UNION ALL {ids % 1}"))

    def use(self, wire: Wire) -> None:
        """Read by this connection, which LISTENs."""
        self.stop()
        self._wire = wire
        self.hints.use(wire)
        self._holding = True
        self._pending.clear()
        self.marked_at = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._wire = None
        self.hints.stop()

    @property
    def watched(self) -> frozenset[str]:
        """The normal channels that somebody here waits at."""
        return self._watched

    @watched.setter
    def watched(self, channels: frozenset[str]) -> None:
        self._watched = channels
        self.hints.watch(channels)

    # --- notifications

    def heard(self, notices: Sequence[Notice]) -> None:
        """Take what LISTEN brought."""
        hinted: set[str] = set()
        for channel, payload in notices:
            if payload == _HINT:
                hinted.update(name for name in self.watched if self._bells.queue(name) == channel)
                continue
            heard = _parsed(payload)
            if heard is None:
                self._context.sink.skipped(DecodeError("a malformed notification"))
            else:
                self._pending.append(heard)
        self._go_on()
        if hinted:
            self._context.sink.available(sorted(hinted))

    def _go_on(self) -> None:
        if self._holding or self._reading is not None:
            return
        self._hand_over_at_hand()
        if self._pending:
            self._reading = asyncio.create_task(self._read_on())

    def _hand_over_at_hand(self) -> None:
        """Hand over everything in front of the first row that has to be fetched."""
        envelopes: list[Envelope] = []
        pending = self._pending
        while pending and (pending[0].frame is not None or self._is_over(pending[0])):
            heard = pending.popleft()
            if heard.origin == _MARK:
                self.marked_at = asyncio.get_running_loop().time()
                self.marked.set()
            elif heard.row > self.position and heard.frame is not None and heard.origin != self._context.node:
                envelopes += self._decoded(heard.frame)
            # One batch may be told on several channels that this node listens on.
            self.position = max(self.position, heard.row)
        if envelopes:
            self._context.sink.received(envelopes)

    def _is_over(self, heard: Heard) -> bool:
        return heard.origin in (_MARK, self._context.node) or heard.row <= self.position

    async def _read_on(self) -> None:
        try:
            while self._pending:
                await self._fetch()
                self._hand_over_at_hand()
        except TransportUnavailable:
            return  # the next connection reads the log from here on
        except ServerError as error:
            self._context.sink.lost(TransportUnavailable(f"the log cannot be read: {error}"))
        finally:
            if self._reading is asyncio.current_task():
                self._reading = None

    async def _fetch(self) -> None:
        """Get the frames of the next rows that have none."""
        wanted: list[int] = []
        for heard in self._pending:
            if heard.frame is not None or len(wanted) == _FETCHED_AT_ONCE:
                break
            if not self._is_over(heard) and heard.row not in wanted:
                wanted.append(heard.row)
        if not wanted or self._wire is None:
            return
        frames: dict[int, bytes] = dict(await self._wire.run(self._fetch_rows, int_array(wanted)))
        if any(row not in frames for row in wanted):
            self._context.sink.gap("the log was emptied before this process had read it")
        for index, heard in enumerate(self._pending):
            if heard.row in wanted and heard.frame is None:
                self._pending[index] = heard._replace(frame=frames.get(heard.row, b""))

    # --- the log itself

    async def catch_up(self) -> None:
        """Read the log to its end, and then go on with what was heard meanwhile."""
        self._holding = True
        while await self._read_page():
            pass
        self._holding = False
        self._go_on()

    async def _read_page(self) -> bool:
        wire = self._wire
        if wire is None:
            raise TransportUnavailable("the connection was closed")
        rows = await wire.run(self._read_after, self._context.prefix, self.position)
        envelopes: list[Envelope] = []
        for row, origin, frame in rows:
            if row > self.position and origin != self._context.node:
                envelopes += self._decoded(frame)
        if rows:
            self.position = max(self.position, rows[-1][0])
        if envelopes:
            self._context.sink.received(envelopes)
        return len(rows) == _ROWS_AT_ONCE

    def _decoded(self, frame: bytes) -> Sequence[Envelope]:
        # A batch that was for normal channels alone left an empty frame in the log.
        return envelopes_for_node(self._context, frame) if frame else ()


def _parsed(payload: str) -> Heard | None:
    parts = payload.split(" ")
    try:
        if parts[0] == _MARK:
            return Heard(int(parts[1]), _MARK, b"")
        row, origin, packed = parts
        return Heard(int(row), origin, binascii.a2b_base64(packed, strict_mode=True) if packed else None)
    except (ValueError, IndexError):
        return None
